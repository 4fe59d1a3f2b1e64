#!/bin/bash
# Boots kernels under QEMU (software emulation, no KVM) and runs the checks in each: run.sh PROCTOR DEB...
# PROCTOR is a built binary, each DEB a Debian linux-image package. Needs qemu-system-x86, cpio, busybox-static, git,
# e2fsprogs and dpkg-deb. Ends with `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
proctor=$1
shift
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

make_disk() {
    local disk=$work/disk who
    rm -rf "$disk"
    mkdir -p "$disk"
    for who in root user; do
        local repo=$disk/$who-repo
        git init -q "$repo"
        mkdir -p "$repo/old"
        echo broken >"$repo/value"; echo keep >"$repo/keep"; echo old >"$repo/old/file"
        git -C "$repo" add -A
        git -C "$repo" -c user.name=t -c user.email=t@example.invalid commit -qm base
        mkdir "$disk/$who-home"
    done
    chown -R 0:0 "$disk/root-repo" "$disk/root-home"
    chown -R 1000:1000 "$disk/user-repo" "$disk/user-home"
    rm -f "$work/disk.img"
    mke2fs -q -q -t ext4 -d "$disk" "$work/disk.img" 256M
}

make_initramfs() { # make_initramfs KERNEL_TREE
    local root=$work/initramfs modules lib
    rm -rf "$root"
    mkdir -p "$root"/{bin,lib,lib64,usr,etc,mods,home,proc,sys,dev}
    cp /bin/busybox "$root/bin/busybox"
    cp "$proctor" "$root/bin/proctor"
    for lib in $(ldd "$proctor" | grep -o '/[^ ]*'); do
        mkdir -p "$root$(dirname "$lib")"
        cp -L "$lib" "$root$lib"
    done
    printf 'root:x:0:0::/root:/bin/sh\nuser:x:1000:1000::/home:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nuser:x:1000:\n' >"$root/etc/group"
    # The base view shows /usr, /bin and the libraries: busybox is all there is in them.
    for name in sh true grep mkdir mv rm echo dd ls cat; do ln -s busybox "$root/bin/$name"; done
    modules=$(echo "$1"/lib/modules/*/kernel)
    : >"$root/mods/order"
    local name file
    for name in virtio virtio_ring virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk crc16 crc32c_generic libcrc32c mbcache jbd2 ext4 overlay; do
        file=$(find "$modules" -name "$name.ko*" | head -n 1)
        [ -n "$file" ] || continue
        case $file in
        *.xz) xz -dc "$file" >"$root/mods/$name.ko" ;;
        *) cp "$file" "$root/mods/$name.ko" ;;
        esac
        echo "$name.ko" >>"$root/mods/order"
    done
    cp "$here/guest-init.sh" "$root/init"
    cp "$here/checks.sh" "$here/limited.sh" "$root/etc/"
    chmod 755 "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
}

passed=0 failed=0
for deb in "$@"; do
    rm -rf "$work/kernel"
    dpkg-deb -x "$deb" "$work/kernel"
    make_disk
    make_initramfs "$work/kernel"
    echo "== $(basename "$deb")"
    timeout 300 qemu-system-x86_64 -M pc -accel tcg -cpu max -m 768 -smp 1 -nodefaults -no-user-config -display none -no-reboot \
        -serial stdio -kernel "$work"/kernel/boot/vmlinuz-* -initrd "$work/initrd.gz" \
        -drive "file=$work/disk.img,if=virtio,format=raw" \
        -append "console=ttyS0 quiet loglevel=3 panic=-1 mitigations=off" </dev/null >"$work/out" 2>&1 || true
    tr -d '\r' <"$work/out" | sed -n '/^GUEST /,$p'
    if ! grep -q GUEST-END "$work/out"; then
        echo "CHECK guest FAIL did not end"
        tail -n 20 "$work/out"
        failed=$((failed + 1))
    fi
    passed=$((passed + $(tr -d '\r' <"$work/out" | grep -c '^CHECK [^ ]* ok' || true)))
    failed=$((failed + $(tr -d '\r' <"$work/out" | grep -c '^CHECK [^ ]* FAIL' || true)))
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
