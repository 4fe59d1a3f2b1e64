#!/bin/busybox sh
# First process of the guest: loads the modules for its disk and becomes checks.sh there.
bb=/bin/busybox
$bb mount -t proc none /proc
$bb mount -t devtmpfs none /dev
# Twice: which module needs which changes from kernel to kernel.
for module in $($bb cat /mods/order) $($bb cat /mods/order); do $bb insmod "/mods/$module" 2>>/insmod; done
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && break; $bb sleep 0.2; done
$bb mount -t ext4 /dev/vda /new || { echo "GUEST no disk"; $bb cat /insmod /proc/partitions; }
$bb umount /proc
$bb mount --move /dev /new/dev
exec $bb switch_root /new /bin/bash /etc/checks.sh
