#!/bin/busybox sh
# First process of the guest. In the initramfs it moves to a tmpfs root (pivot_root needs one) and starts itself
# again; there it mounts what a host has and runs the checks as root and as uid 1000.
export PATH=/bin:/usr/bin
if [ ! -e /is-root ]; then
    busybox mkdir -p /new
    busybox mount -t tmpfs -o size=380m,mode=755 none /new
    for dir in bin lib lib64 usr etc mods home init; do busybox cp -a "/$dir" /new/; done
    : >/new/is-root
    busybox mkdir -p /new/proc /new/sys /new/dev /new/tmp /new/run /new/root /new/disk
    exec busybox switch_root /new /init
fi
busybox mount -t proc none /proc
busybox --install -s /bin 2>/dev/null
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mkdir -p /dev/pts /dev/shm
chmod 1777 /tmp
mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null
# Twice: which module needs which changes from kernel to kernel.
for module in $(cat /mods/order) $(cat /mods/order); do insmod "/mods/$module" 2>>/tmp/insmod; done
sleep 0.2
mount -t ext4 /dev/vda /disk 2>/dev/null || { echo "GUEST no disk"; cat /tmp/insmod /proc/partitions; }
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    echo "+memory +pids +cpu" >/sys/fs/cgroup/cgroup.subtree_control
    mkdir /sys/fs/cgroup/root /sys/fs/cgroup/user
    chown user:user /sys/fs/cgroup/user /sys/fs/cgroup/user/cgroup.procs /sys/fs/cgroup/user/cgroup.subtree_control
fi
echo "GUEST $(uname -r)"
sh /etc/checks.sh
echo "GUEST-END"
poweroff -f
