#!/bin/bash
# Fetches Debian's newest cloud kernel of a suite with apt, by lists of its own beside the system's: fetch.sh SUITE DIR
# prints the packages' paths, the kernel's first. SUITE `newest` is the highest version of the suites after stable.
# KERNEL_MIRROR names another mirror than the system's own. Needs apt, and Debian's keyring.
set -euo pipefail
suite=$1 dir=$2
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

mirror() {
    if [ -n "${KERNEL_MIRROR:-}" ]; then echo "$KERNEL_MIRROR"; return; fi
    apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' 'Created-By: Packages' 2>/dev/null |
        sed -n 's/^Debian \(.*[^/]\)\/*$/\1/p' | grep -v security | head -n 1 | grep . || echo http://deb.debian.org/debian
}

# own SUITE TOOL ARGUMENT...: apt with nothing of this system's but its network settings.
own() {
    local at=$dir/apt/$1 tool=$2
    shift 2
    "$tool" -qq -o Dir::Etc::sourcelist="$at/sources.list" -o Dir::Etc::sourceparts=- -o Dir::State="$at" \
        -o Dir::State::status=/dev/null -o Dir::Cache="$at" -o APT::Architecture=amd64 -o APT::Architectures=amd64 \
        -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none -o Acquire::Retries=3 "$@"
}

# A suite that left the mirrors is in the archive, whose lists are no longer renewed.
update() {
    local at=$dir/apt/$1 url
    mkdir -p "$at/lists/partial" "$at/archives/partial"
    for url in "$(mirror)" http://archive.debian.org/debian; do
        echo "deb [signed-by=$keyring] $url $1 main" >"$at/sources.list"
        own "$1" apt-get -o Acquire::Check-Valid-Until=false -o APT::Update::Error-Mode=any update >&2 && return
    done
    echo "fetch.sh: no list of packages of Debian's suite $1 within reach" >&2
    return 1
}

kernel() { own "$1" apt-cache depends linux-image-cloud-amd64 | sed -n 's/.*Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1; }

if [ "$suite" = newest ]; then
    # Whichever of them are there: a new stable has no backports yet.
    for one in trixie-backports forky sid; do
        if update "$one"; then echo "$(kernel "$one") $one"; fi
    done | sort -V | tail -n 1 >"$dir/newest"
    suite=$(cut -d ' ' -f 2 "$dir/newest")
else
    update "$suite"
fi
image=$(kernel "$suite")
[ -n "$image" ] || { echo "fetch.sh: no cloud kernel in Debian's suite $suite" >&2; exit 1; }
# Since 7.x the kernel itself and its modules are packages of their own.
mapfile -t packages < <(own "$suite" apt-cache depends "$image" | sed -n 's/.*Depends: \(linux-\(modules\|binary\)-[0-9].*\)/\1/p' | sort -u)
cd "$dir"
own "$suite" apt-get download "$image" "${packages[@]}" >&2
for package in "$image" "${packages[@]}"; do
    # The name of a version is escaped where it has a colon: the newest file is the one just fetched or kept.
    ls -t "$dir/$package"_*.deb | head -n 1
done
