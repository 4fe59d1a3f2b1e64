#!/bin/sh
# Makes the repository of the project under test in REPO from the archive that install.sh put into DIR:
# one commit with the release as published, one with the tests that show its defect. Author, dates and
# configuration are fixed, so the last commit's id is known beforehand; it is checked and printed.
#
#   sh tests/agents/make-repo.sh DIR REPO
set -eu
umask 022

dir=${1:?"usage: make-repo.sh DIR REPO"}
repo=${2:?"usage: make-repo.sh DIR REPO"}
here=$(cd "$(dirname "$0")" && pwd)
fixture=$(cd "$here/../../fixtures/repos/shlex" && pwd)
. "$fixture/project.env"

archive=$(cd "$dir" && pwd)/$crate-$version.crate
echo "$sha256  $archive" | sha256sum --check --quiet - >&2
mkdir "$repo"
cd "$repo"

unset GIT_DIR GIT_WORK_TREE GIT_INDEX_FILE GIT_OBJECT_DIRECTORY GIT_ALTERNATE_OBJECT_DIRECTORIES
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
# Ignore and attributes files of the user count even where the user's configuration does not.
export GIT_CONFIG_COUNT=2
export GIT_CONFIG_KEY_0=core.excludesFile GIT_CONFIG_VALUE_0=/dev/null
export GIT_CONFIG_KEY_1=core.attributesFile GIT_CONFIG_VALUE_1=/dev/null
export GIT_AUTHOR_NAME=fixture GIT_AUTHOR_EMAIL=fixture@example.invalid GIT_AUTHOR_DATE='2024-01-22T00:00:00Z'
export GIT_COMMITTER_NAME=fixture GIT_COMMITTER_EMAIL=fixture@example.invalid GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
git init --quiet --template= --object-format=sha1 --initial-branch=main

# cargo's archives hold one directory, NAME-VERSION. Times are now: cargo distrusts sources from 1970.
tar -xzf "$archive" --strip-components=1 --no-same-owner --no-same-permissions --touch
git add --all
git commit --quiet -m "$crate $version as published"

git apply --index "$fixture/unit-tests.patch"
mkdir tests
cp "$fixture/quoting.rs" tests/quoting.rs
chmod 644 tests/quoting.rs
git add --all
git commit --quiet -m 'Tests for RUSTSEC-2024-0006: braces and bytes outside ASCII must be quoted'

commit=$(git rev-parse HEAD)
if [ "$commit" != "$base_commit" ]; then
    echo "make-repo.sh: the commit is $commit, not $base_commit as $fixture/project.env says" >&2
    exit 1
fi
echo "$commit"
