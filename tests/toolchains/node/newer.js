import chalk from 'chalk';
import semver from 'semver';

export const newer = (a, b) => chalk.reset(semver.lt(a, b) ? a : b);
