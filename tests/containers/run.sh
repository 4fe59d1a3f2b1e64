#!/bin/bash
# Runs Proctor in real containers (podman with runc): run.sh PROCTOR [CASE...]. PROCTOR is a built binary.
# Needs root, podman, runc and debootstrap. The image is made once, below PROCTOR_TEST_CONTAINERS.
# In each case the outcome must be level full and a pass, or a refusal (exit 3) with the mends named, in doctor and run
# alike, with nothing of the backend started. Ends with `N passed, N failed`.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
proctor=$(realpath "$1")
shift
only=("$@")
cache=${PROCTOR_TEST_CONTAINERS:-${XDG_CACHE_HOME:-$HOME/.cache}/proctor-test-containers}
image=$cache/bookworm
mirror=${PROCTOR_TEST_MIRROR:-http://deb.debian.org/debian}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work"
mkdir "$work/bin" "$work/vol"
install -m 755 "$proctor" "$work/bin/proctor"

make_image() {
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    flock 9
    if [ ! -e "$image.done" ]; then
        rm -rf "$image"
        debootstrap --variant=minbase --include=git bookworm "$image" "$mirror" >"$cache/debootstrap.log" 2>&1 ||
            { tail "$cache/debootstrap.log"; exit 1; }
        # What a container whose root owns nothing of this cannot make itself.
        mkdir -p "$image"/{opt/proctor,vol,tmp-vol,run/proctor,dev/pts,dev/shm,dev/mqueue}
        touch "$image"/{opt/inside.sh,run/.containerenv,etc/hosts,etc/hostname,etc/resolv.conf}
        touch "$image.done"
    fi
    exec 9>&-
}

passed=0 failed=0

# check NAME UID PLACE full|landlock|refused|refused-lower TEXTS OPTIONS... : TEXTS are separated by `|`.
check() {
    local name=$1 uid=$2 place=$3 wanted=$4 texts=$5 text out min=full why=()
    case $wanted in landlock | refused-lower) min=landlock ;; esac
    shift 5
    if [ ${#only[@]} -gt 0 ] && [[ " ${only[*]} " != *" $name "* ]]; then return; fi
    rm -rf "$work/vol"
    mkdir "$work/vol"
    # The image is never written: podman puts an overlay over it, so that the container's root is one, as in use.
    out=$(timeout 120 podman --runtime runc --cgroup-manager=cgroupfs run --rm --network=none \
        --ulimit nofile=1024:1024 --ulimit nproc=4096:4096 \
        -v "$work/bin:/opt/proctor:ro" -v "$here/inside.sh:/opt/inside.sh:ro" -v "$work/vol:/vol" "$@" \
        --rootfs "$image:O" sh /opt/inside.sh /opt/proctor/proctor "$uid" "$place" $min 2>&1) || true
    case $wanted in
    full) grep -q '^RESULT level=full doctor=0 run=0 verify=0 said=said got=full$' <<<"$out" || why+=("not full and passed") ;;
    # `doctor` speaks of what a run is refused without the word for the lower level.
    landlock) grep -q '^RESULT level=landlock doctor=3 run=0 verify=0 said=said got=landlock$' <<<"$out" || why+=("not landlock and passed") ;;
    refused) grep -q '^RESULT level=[a-z]* doctor=3 run=3 verify=0 said= got=' <<<"$out" || why+=("not refused") ;;
    refused-lower) grep -q '^RESULT level=none doctor=3 run=3 verify=0 said= got=' <<<"$out" || why+=("not refused") ;;
    esac
    local IFS='|'
    for text in $texts; do grep -qF -e "$text" <<<"$out" || why+=("no \"$text\""); done
    if [[ $wanted = refused* ]]; then
        # The run itself names a mend too.
        grep -q '^run: .*what to do: .*`proctor doctor`' <<<"$out" || why+=("the run names no mend")
    fi
    if [ ${#why[@]} = 0 ]; then
        passed=$((passed + 1))
        echo "ok    $name (uid $uid, $place): $wanted"
    else
        failed=$((failed + 1))
        echo "FAIL  $name (uid $uid, $place): ${why[*]}"
        sed 's/^/      /' <<<"$out"
    fi
}

make_image
open=(--security-opt seccomp=unconfined --security-opt unmask=ALL)
docker="seccomp=$here/docker-default.json"

# As podman starts it: /proc is covered. (Its filter refuses sethostname, which a run goes without.)
check default 1000 /srv refused 'unmask=/proc/*|lacks: fresh /proc'
check default 0 /vol refused 'root lacks CAP_SYS_ADMIN|unmask=/proc/*'
# One mend without the other.
check masked-proc 1000 /vol refused 'are covered|unmask=/proc/*|lacks: fresh /proc' --security-opt seccomp=unconfined
check default-filter 1000 /vol full '' --security-opt unmask=ALL
# Both: an ordinary user reaches level full, also on a root that is an overlay.
check mended 1000 /srv full '' "${open[@]}"
check mended 1000 /vol full '' "${open[@]}"
# Root needs more, or less.
check mended 0 /vol refused 'root lacks CAP_SYS_ADMIN|lacks: idmapped mounts' "${open[@]}"
check sys-admin 0 /vol full '' --security-opt unmask=ALL --cap-add SYS_ADMIN
check sys-admin 0 /srv refused 'put it on a volume' --security-opt unmask=ALL --cap-add SYS_ADMIN
check no-setuid 0 /vol refused '--cap-add SETUID' "${open[@]}" --cap-add SYS_ADMIN --cap-drop SETUID
# Docker's filter.
check docker-filter 1000 /vol refused 'refuses new namespaces|seccomp=unconfined|lacks: user namespace' \
    --security-opt "$docker" --security-opt unmask=ALL
check docker-filter 0 /vol refused 'root lacks CAP_SYS_ADMIN|refuses new namespaces' \
    --security-opt "$docker" --security-opt unmask=ALL
check docker-filter-sys-admin 0 /vol full '' --security-opt "$docker" --security-opt unmask=ALL --cap-add SYS_ADMIN
# Privileged: nothing is masked or filtered.
check privileged 0 /vol full '' --privileged
check privileged 0 /srv refused 'put it on a volume' --privileged
check privileged 1000 /srv full '' --privileged

# A user namespace of the container's own (Kubernetes: hostUsers: false).
mapped=(--uidmap 0:200000:65536 --gidmap 0:200000:65536 --tmpfs /run/proctor --tmpfs /tmp-vol:exec,mode=755)
check user-namespace 1000 /tmp-vol full '' "${open[@]}" "${mapped[@]}"
check user-namespace 0 /tmp-vol full '' "${open[@]}" "${mapped[@]}" --cap-add SYS_ADMIN
check user-namespace-masked 1000 /tmp-vol refused 'are covered' --security-opt seccomp=unconfined "${mapped[@]}"

# The lower level, where the operator allows it: as podman and Docker start a container, with nothing added.
for place in /vol /srv; do
    check lower-default 1000 $place landlock 'sandbox level landlock, with|mounting a fresh /proc'
    check lower-default 0 $place landlock 'sandbox level landlock, with'
    check lower-docker 1000 $place landlock '' --security-opt "$docker"
    check lower-docker 0 $place landlock '' --security-opt "$docker"
done
# Not chosen where more is to be had, and refused where less is.
check lower-mended 1000 /vol full '' "${open[@]}"
check lower-no-setuid 0 /vol refused-lower '--cap-add SETUID' --cap-drop SETUID
check lower-user-namespace 1000 /tmp-vol landlock '' "${mapped[@]}"

echo "$passed passed, $failed failed"
[ $failed = 0 ]
