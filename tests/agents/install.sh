#!/bin/sh
# Installs what the test with a real coding agent needs into DIR, each thing at one pinned version:
# the agents from npm (package-lock.json holds their digests), the archive of the project under test by
# cargo, and this directory's own scripts. What is already there is left alone. Needs npm, cargo and, when
# something is missing, a network.
#
#   sh tests/agents/install.sh DIR [codex] [pi]        (both when none is named)
set -eu
umask 022

dir=${1:?"usage: install.sh DIR [codex] [pi]"}
shift
[ $# -gt 0 ] || set -- codex pi
here=$(cd "$(dirname "$0")" && pwd)
fixture=$here/../../fixtures/repos/shlex
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)

for agent in "$@"; do
    lock=$here/$agent/package-lock.json
    [ -f "$lock" ] || { echo "install.sh: no agent named $agent, only codex and pi" >&2; exit 64; }
    # npm writes its own hidden lock last, so ours, copied after it, marks a finished installation.
    if ! cmp -s "$lock" "$dir/$agent/installed.json"; then
        rm -rf "${dir:?}/$agent"
        mkdir "$dir/$agent"
        cp "$here/$agent/package.json" "$lock" "$dir/$agent/"
        npm ci --prefix "$dir/$agent" --ignore-scripts --omit=dev --no-fund --no-audit --no-update-notifier --loglevel=error >&2
        chmod -R a+rX "$dir/$agent"
        cp "$lock" "$dir/$agent/installed.json"
    fi
    find "$here/$agent" -type f ! -name 'package*.json' -exec cp {} "$dir/$agent/" \;
done

. "$fixture/project.env"
archive=$dir/$crate-$version.crate
if [ ! -f "$archive" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    mkdir "$work/src"
    : >"$work/src/lib.rs"
    printf '[package]\nname = "fetch"\nversion = "0.0.0"\nedition = "2021"\n[dependencies]\n%s = "=%s"\n[workspace]\n' \
        "$crate" "$version" >"$work/Cargo.toml"
    # From here, so that the toolchain is the one this repository asks for.
    (cd "$here" && cargo fetch --quiet --manifest-path "$work/Cargo.toml")
    for found in "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/"$crate-$version.crate"; do
        [ -f "$found" ] && cp "$found" "$work/archive"
    done
    [ -f "$work/archive" ] || { echo "install.sh: cargo fetched $crate $version but left no archive in its cache" >&2; exit 1; }
    echo "$sha256  $work/archive" | sha256sum --check --quiet - >&2
    mv "$work/archive" "$archive"
fi
cp "$here/drive.sh" "$here/provider.py" "$dir/"
rm -rf "$dir/scenarios"
cp -R "$here/scenarios" "$dir/scenarios"
chmod -R a+rX "$dir/scenarios" "$dir/drive.sh" "$dir/provider.py" "$archive"
