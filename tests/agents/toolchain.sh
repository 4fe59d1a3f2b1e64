#!/bin/sh
# Puts what `cargo test` needs of the Rust toolchain in use into DIR (bin/cargo, bin/rustc, bin/rustdoc and
# the libraries of the host's target), readable by everyone: a toolchain in the home of a root whose home is
# 0700 is out of reach for the ordinary user that a test runs as. Hard links where DIR is on the toolchain's
# file system, else copies (about 550 MB).
#
#   sh tests/agents/toolchain.sh DIR
set -eu
umask 022

dir=${1:?"usage: toolchain.sh DIR"}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
cd "$(dirname "$0")" # so that the toolchain is the one this repository asks for
sysroot=$(rustc --print sysroot)
host=$(rustc --version --verbose | sed -n 's/^host: //p')
version=$(rustc --version)
[ -f "$dir/version" ] && [ "$(cat "$dir/version")" = "$version" ] && exit 0

rm -rf "${dir:?}/bin" "$dir/lib" "$dir/version"
mkdir -p "$dir/bin" "$dir/lib/rustlib"
take() {
    cp -RpLl "$1" "$2" 2>/dev/null || cp -RpL "$1" "$2"
}
for program in cargo rustc rustdoc; do
    take "$sysroot/bin/$program" "$dir/bin/"
done
for library in "$sysroot"/lib/lib*; do
    take "$library" "$dir/lib/"
done
take "$sysroot/lib/rustlib/$host" "$dir/lib/rustlib/"
echo "$version" >"$dir/version"
