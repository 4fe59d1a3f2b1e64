#!/bin/bash
# Boots kernels under QEMU (software emulation, no KVM) and runs checks.sh in each:
#   run.sh PROCTOR SUITE PROOFS LEVEL LAYERS BOOT DEB...
# PROCTOR is the built binary, SUITE the built test program, PROOFS which of its tests run (`all`, names with commas between, or `none`), LEVEL `full`
# or `refused`, LAYERS `memory` or `disk`, BOOT further kernel parameters, each DEB a package with a kernel or its
# modules. A guest that does not come to its end is a failure. The last line is `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
proctor=$1 suite=$2 proofs=$3 level=$4 layers=$5 boot=$6
shift 6
[ "$proofs" != none ] || proofs=
work=$(mktemp -d "${TMPDIR:-/tmp}/proctor-kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT

# put ROOT FILE TARGET: a program of this machine at another path, and the libraries that it needs under their own.
put() {
    local lib
    # Debugging information is most of what cargo builds.
    strip -g -o "$1$3" "$2" 2>/dev/null || cp -L "$2" "$1$3"
    for lib in $(ldd "$2" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [ -e "$1$lib" ] || { mkdir -p "$1$(dirname "$lib")" && cp -L "$lib" "$1$lib"; }
    done
}

# A system of this machine's own programs, two repositories, the suite, and what it needs at the paths it was built with.
make_disk() {
    local root=$work/root name who target file
    mkdir -p "$root"/{usr/bin,usr/sbin,usr/lib,usr/lib64,etc,proc,sys,dev,run,tmp,root,home/user,repos,srv,opt,mnt,boot,var/tmp,var/lib}
    for name in bin sbin lib lib64; do ln -s usr/$name "$root/$name"; done
    for name in bash sh basename cat chmod chown cp cut date dd dirname echo env false find git grep head id kill ln ls mkdir mkfifo mknod mount mv \
        nproc perl prlimit pwd readlink rm rmdir sed seq setpriv setsid sleep sort stat sync tail tee test timeout touch tr true tty umount uname uniq unshare wc xargs; do
        file=$(type -P "$name") || { echo "run.sh: this machine has no $name" >&2; return 1; }
        put "$root" "$file" "/usr/bin/$name"
    done
    put "$root" "$proctor" /usr/bin/proctor
    for name in $(perl -e 'print join " ", grep { -d } @INC'); do
        for file in strict.pm warnings.pm Socket.pm POSIX.pm Fcntl.pm XSLoader.pm; do
            [ ! -e "$name/$file" ] || { mkdir -p "$root$name" && cp -L "$name/$file" "$root$name/"; }
        done
        case $name in *perl-base) mkdir -p "$root$name" && cp -a "$name/." "$root$name/" ;; esac
    done
    printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nuser:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
    printf 'root:*:19000:0:99999:7:::\n' >"$root/etc/shadow"
    printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
    printf 'guest\n' >"$root/etc/hostname"
    printf 'passwd: files\ngroup: files\nhosts: files\n' >"$root/etc/nsswitch.conf"
    cp /etc/ld.so.cache "$root/etc/"
    cp "$here/checks.sh" "$root/etc/"
    if [ -n "$proofs" ]; then
        mkdir -p "$root/proctor-suite"
        put "$root" "$suite" /proctor-suite/run
        target=$(dirname "$(dirname "$(readlink -f "$suite")")")
        mkdir -p "$root$target"
        for name in proctor-under-test probe; do
            put "$root" "$target/$name" "$target/$name"
        done
        chmod -R go+rX "$root/proctor-suite" "$root/${target#/}"
    fi
    for who in root user; do
        local repo=$root/repos/$who
        git init -q "$repo"
        mkdir -p "$repo/old"
        echo broken >"$repo/value"; echo keep >"$repo/keep"; echo old >"$repo/old/file"
        git -C "$repo" add -A
        git -C "$repo" -c user.name=t -c user.email=t@example.invalid commit -qm base
    done
    chmod 1777 "$root/tmp" "$root/var/tmp" "$root/srv"
    chmod 700 "$root/root" "$root/home/user"
    chmod 640 "$root/etc/shadow"
    # mke2fs takes owners from the files; who is not root here cannot give them away.
    chown -R 0:0 "$root"
    chown -R 1000:1000 "$root/repos/user" "$root/home/user"
    mke2fs -q -t ext4 -d "$root" "$work/disk.img" 1500M >/dev/null
    mke2fs -q -t ext4 "$work/small.img" 64M >/dev/null
    rm -rf "$root"
}

make_initramfs() { # make_initramfs KERNEL_TREE
    local root=$work/initramfs modules name file
    mkdir -p "$root"/{bin,mods,new,proc,dev}
    cp "$(type -P busybox)" "$root/bin/busybox"
    : >"$root/mods/order"
    for name in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk crc16 crc32c_generic crc32c-cryptoapi libcrc32c mbcache jbd2 ext4 overlay; do
        file=$(find "$1"/{lib,usr/lib}/modules -name "$name.ko*" 2>/dev/null | head -n 1) || true
        # What a kernel has built in is no file.
        [ -n "$file" ] || continue
        case $file in
        *.xz) xz -dc "$file" >"$root/mods/$name.ko" ;;
        *.zst) zstd -qdc "$file" >"$root/mods/$name.ko" ;;
        *) cp "$file" "$root/mods/$name.ko" ;;
        esac
        echo "$name.ko" >>"$root/mods/order"
    done
    cp "$here/guest-init.sh" "$root/init"
    chmod 755 "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
}

for deb in "$@"; do dpkg-deb -x "$deb" "$work/kernel"; done
image=$(find "$work"/kernel/boot "$work"/kernel/{,usr/}lib/modules -name 'vmlinuz*' 2>/dev/null | head -n 1) || true
[ -n "$image" ] || { echo "CHECK guest FAIL no kernel in $*"; echo "0 passed, 1 failed"; exit 1; }
make_disk
make_initramfs "$work/kernel"
echo "== $(basename "$1") $boot"
timeout "${KERNEL_TIMEOUT:-1500}" qemu-system-x86_64 -M pc -accel tcg,thread=multi -cpu max -m 2048 -smp 2 -nodefaults -no-user-config \
    -display none -no-reboot -serial stdio -kernel "$image" -initrd "$work/initrd.gz" \
    -drive "file=$work/disk.img,if=virtio,format=raw,cache=unsafe" -drive "file=$work/small.img,if=virtio,format=raw,cache=unsafe" \
    -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off proctor.level=$level proctor.layers=$layers proctor.proofs=$proofs $boot" \
    </dev/null 2>&1 | stdbuf -o0 tr -d '\r' | tee "$work/out" | sed -un '/^GUEST/,$p' || true
passed=$(grep -c '^CHECK [^ ]* ok' "$work/out" || true)
failed=$(grep -c '^CHECK .* FAIL' "$work/out" || true)
if ! grep -q '^GUEST-END' "$work/out"; then
    echo "CHECK guest FAIL it did not come to its end"
    tail -n 20 "$work/out"
    failed=$((failed + 1))
elif [ "$passed" = 0 ]; then
    echo "CHECK guest FAIL nothing was checked"
    failed=$((failed + 1))
fi
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
