# Becomes a run with a memory limit that its backend exceeds, as root or as the user.
if [ "$1" = user ]; then
    exec su -s /bin/sh -- user -c 'HOME=/disk/user-home PATH=/bin exec proctor run --repo /disk/user-repo --mutation discard --no-test --memory 40M -- sh -c "dd if=/dev/zero of=/tmp/big bs=1M count=80"'
fi
HOME=/disk/root-home exec proctor run --repo /disk/root-repo --mutation discard --no-test --memory 40M -- sh -c "dd if=/dev/zero of=/tmp/big bs=1M count=80"
