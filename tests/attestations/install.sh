#!/bin/sh
# Installs into DIR, readable by everyone, what reads evidence without anything of Proctor's: in-toto's and OpenTelemetry's
# own Python packages, at pinned versions and in pure Python. What is already there is left alone. Needs python3 with pip
# and, when something is missing, a network.
#
#   sh tests/attestations/install.sh DIR
set -eu
umask 022

dir=${1:?"usage: install.sh DIR"}
here=$(cd "$(dirname "$0")" && pwd)
cat "$here/requirements.txt" "$here/install.sh" | cmp -s - "$dir/stamp" && exit 0

rm -rf "$dir"
mkdir -p "$dir"
# `platform` any: one wheel of each for every machine and every Python.
python3 -m pip install --quiet --disable-pip-version-check --no-input --root-user-action ignore --no-compile \
    --only-binary :all: --require-hashes --no-deps --platform any --implementation py --abi none \
    --target "$dir/site" --requirement "$here/requirements.txt" >&2
chmod -R a+rX "$dir"
cat "$here/requirements.txt" "$here/install.sh" >"$dir/stamp"
