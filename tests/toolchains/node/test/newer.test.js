import assert from 'node:assert';
import test from 'node:test';
import { newer } from '../newer.js';

test('versions are no text', () => {
  assert.match(newer('1.9.0', '1.10.0'), /1\.10\.0/);
});
