#!/bin/sh
# Installs what drives the browser in the tests of report.html into DIR: playwright-core from npm at one pinned version
# (package-lock.json holds its digest; it brings no browser of its own and downloads none) and this directory's scripts.
# The browser is the chromium of PATH. Needs npm and, when something is missing, a network.
#
#   sh tests/browser/install.sh DIR
set -eu
umask 022

dir=${1:?"usage: install.sh DIR"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

# npm writes its own hidden lock last, so ours, copied after it, marks a finished installation.
if ! cmp -s "$here/package-lock.json" "$dir/installed.json"; then
    rm -rf "$dir/node_modules" "$dir/installed.json"
    cp "$here/package.json" "$here/package-lock.json" "$dir/"
    npm ci --prefix "$dir" --ignore-scripts --omit=dev --no-fund --no-audit --no-update-notifier --loglevel=error >&2
    cp "$here/package-lock.json" "$dir/installed.json"
fi
cp "$here"/*.mjs "$dir/"
chmod -R a+rX "$dir"
