# First process on the guest's disk: mounts what a host has, and checks what the kernel's command line expects, as root
# and as uid 1000. Every line `CHECK name ok|FAIL …` is read by run.sh; the last one is GUEST-END.
export PATH=/usr/bin:/usr/sbin
mount -t proc none /proc
mount -t sysfs none /sys
mkdir -p /dev/pts /dev/shm
mount -t devpts none /dev/pts
mount -t tmpfs -o mode=1777 none /dev/shm
mount -t tmpfs -o mode=755 none /run
mount -t cgroup2 none /sys/fs/cgroup
ln -s /proc/self/fd /dev/fd

expect() { tr ' ' '\n' </proc/cmdline | sed -n "s/^proctor\.$1=//p"; }
level=$(expect level) layers=$(expect layers) proofs=$(expect proofs)

echo "GUEST $(uname -r), expecting $level"
# The loopback is what proofs of the network listen on.
perl -e 'my ($s, $lo) = (undef, pack("Z16 s x22", "lo", 0x41)); socket($s, 2, 2, 0) and ioctl($s, 0x8914, $lo) or die "$!\n"' || echo "CHECK loopback FAIL"

# ok NAME COMMAND...: the command succeeds. What it and the commands before it said is shown where it does not.
ok() {
    local name=$1
    shift
    if "$@" >/tmp/ok 2>&1; then
        echo "CHECK $name ok"
    else
        echo "CHECK $name FAIL $*"
        sed 's/^/    /' /tmp/ok /tmp/out /tmp/err 2>/dev/null | head -n 30
    fi
}
says() { grep -q -- "$2" "$1"; }
is() { [ "$1" = "$2" ] || { echo "it is $1"; false; }; }

# as USER COMMAND...
as() {
    local who=$1
    shift
    if [ "$who" = root ]; then
        HOME=/root "$@"
    else
        HOME=/home/user setpriv --reuid 1000 --regid 1000 --clear-groups "$@"
    fi
}

# run USER OPTION...: a run on the user's repository; sets code, evidence.
run() {
    local who=$1
    shift
    as "$who" proctor run --repo "/repos/$who" "$@" >/tmp/out 2>/tmp/err
    code=$?
    evidence=$(tail -n 1 /tmp/out)
}
# The mechanism of one limit, from the report.
mechanism() { perl -e '
    local $/; my $text = <STDIN>; my ($key) = @ARGV;
    print $text =~ /"limits": \{.*?"\Q$key\E": \{[^}]*"mechanism": "([^"]*)"/s ? $1 : ""' "$1" <"$evidence/report.json"; }

refusal() { # refusal USER NAME MEND
    as "$1" proctor doctor >/tmp/out 2>/tmp/err
    ok "$1-$2-doctor" is $? 3
    ok "$1-$2-mend" says /tmp/err "to mend: .*$3"
    run "$1" --no-test -- true
    ok "$1-$2-run" is $code 3
    ok "$1-$2-blocker" says "$evidence/report.json" sandbox_unavailable
}

reaches_full() {
    local who=$1
    as $who proctor doctor >/tmp/out 2>/tmp/err
    ok $who-doctor is $? 0
    ok $who-level says /tmp/err '^level: full'
    case $layers in
    memory) ok $who-layers says /tmp/err 'private layers *in memory' ;;
    disk) ok $who-layers says /tmp/err 'private layers *on disk' ;;
    *) ok $who-layers false ;;
    esac
    run $who --test 'grep -qx mended value && test ! -e old' -- sh -c 'echo mended >value; mkdir d; mv keep d/; rm -r old'
    ok $who-run is $code 0
    ok $who-verify as $who proctor verify "$evidence" --repo /repos/$who
    if [ "$layers" = memory ]; then
        ok $who-disk-mechanism is "$(mechanism disk)" "tmpfs size"
        run $who --mutation discard --no-test --disk 8M --max-patch 1M -- sh -c 'dd if=/dev/zero of=big bs=1M count=20; true'
    else
        ok $who-disk-mechanism is "$(mechanism disk)" watcher
        ok $who-disk-missing says "$evidence/report.json" '"disk limit: '
        run $who --mutation discard --no-test --disk 8M -- true
        ok $who-disk-refused is $code 3
        ok $who-disk-refused-remedy says "$evidence/report.json" '--layer disk'
        run $who --mutation discard --no-test --layer disk --disk 8M --max-patch 1M -- sh -c 'dd if=/dev/zero of=big bs=1M count=20; true'
    fi
    ok $who-disk-limit says "$evidence/report.json" '"resource_limit"'
    # On either kernel, and with overlay mounts beside the work tree.
    run $who --layer disk --overlay /srv --test 'test ! -e /srv/x' -- sh -c 'echo mended >value; rm -r old; mkdir old; echo x >/srv/x'
    ok $who-layer-disk is $code 0
    ok $who-layer-disk-enforced says "$evidence/report.json" '"disk_layer"'
    ok $who-layer-disk-left is "$(find "$(as $who sh -c 'echo $HOME')/.local/state/proctor/layers" | wc -l)" 1
    run $who --mutation discard --no-test -- sh -c 'echo x >/proc/sys/kernel/core_pattern'
    ok $who-core-pattern says /proc/sys/kernel/core_pattern '^core$'
    # A mechanism that is taken away is missed, not done without.
    sysctl=/proc/sys/user/max_user_namespaces
    kept=$(cat $sysctl)
    echo 0 >$sysctl
    refusal $who taken-away 'user.max_user_namespaces'
    echo "$kept" >$sysctl
}

# A state directory on a disk that is too small for what a backend writes.
small_disk() {
    mkdir -p /small && mount -t ext4 /dev/vdb /small && mkdir -p /small/state && chown user:user /small/state
    for who in root user; do
        as $who env XDG_STATE_HOME=/small/state proctor run --repo /repos/$who --mutation discard --no-test --layer disk --max-patch 1M \
            --evidence /tmp/evidence-$who -- sh -c 'while dd if=/dev/zero of=big bs=1M count=10 oflag=append conv=notrunc; do sleep 0.2; done; sleep 100' \
            >/tmp/out 2>/tmp/err
        ok $who-small-disk says /tmp/evidence-$who/report.json '"free disk space"'
        rm -rf /small/state/proctor
    done
}

# cgroup version 2: limits that the kernel enforces, in a cgroup that was delegated to root or to the user. A shell joins
# it and becomes Proctor, as systemd-run --scope -p Delegate=yes does it: only Proctor and its children may be in it when
# it hands controllers down. delegated USER OPTION...: a run in a fresh one.
scopes=0
delegated() {
    local who=$1 scope
    shift
    scopes=$((scopes + 1))
    scope=/sys/fs/cgroup/scope-$scopes
    mkdir $scope
    [ "$who" = root ] || chown user:user $scope $scope/{cgroup.procs,cgroup.subtree_control}
    bash -c 'echo $$ >"$0/cgroup.procs" || exit 99
        if [ "$1" = root ]; then shift; HOME=/root exec "$@"; fi
        shift; HOME=/home/user exec setpriv --reuid 1000 --regid 1000 --clear-groups "$@"' \
        $scope "$who" proctor run --repo "/repos/$who" --mutation discard --no-test "$@" >/tmp/out 2>/tmp/err
    code=$?
    evidence=$(tail -n 1 /tmp/out)
}
busy='i=0; while [ $i -lt 60000 ]; do i=$((i+1)); done'
share() { perl -e 'local $/; $_ = <STDIN>; my ($user) = /"user_us": (\d+)/; my ($system) = /"system_us": (\d+)/;
    printf "%d\n", ($user + $system) / 10 / $ARGV[0]' "$1" <"$evidence/report.json"; }
took() { sed -n 's/.*"duration_ms":\([0-9]*\).*"type":"backend.exited".*/\1/p; s/.*"type":"backend.exited".*"duration_ms":\([0-9]*\).*/\1/p' \
    "$evidence/events.normalized.jsonl" | head -n 1; }

cgroups() {
    local who=$1
    delegated $who --memory 40M -- sh -c 'dd if=/dev/zero of=/tmp/big bs=1M count=80'
    ok $who-cgroup2-memory says "$evidence/report.json" '"resource_limit"'
    ok $who-cgroup2-memory-mechanism is "$(mechanism memory)" "cgroup_v2 memory"
    delegated $who --pids-limit 12 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do sleep 1 & done; wait; true'
    ok $who-cgroup2-tasks says "$evidence/events.normalized.jsonl" '"what":"pids"'
    ok $who-cgroup2-tasks-mechanism is "$(mechanism pids)" "cgroup_v2 pids"
    delegated $who -- sh -c "$busy"
    local free=$(share "$(took)")
    delegated $who --cpus 0.2 -- sh -c "$busy"
    local held=$(share "$(took)")
    ok $who-cgroup2-cpu-mechanism is "$(mechanism cpus)" "cgroup_v2 cpu"
    echo "    percent of one CPU: $free without a limit, $held with --cpus 0.2"
    ok $who-cgroup2-cpu test "$free" -gt 50 -a "$held" -lt 35
    ok $who-cgroup2-gone is "$(find /sys/fs/cgroup -name 'proctor-r-*' | wc -l)" 0
}

# The suite's own proofs: each attack outside and as the backend of a real run, as root and as uid 1000.
proofs() {
    local suite=/proctor-suite/run filters wanted
    # What the operator's machine has to do with the document is checked elsewhere.
    filters="--skip proofs::document"
    [ "$proofs" = all ] && proofs=proofs::
    wanted=$($suite --list ${proofs//,/ } $filters 2>/dev/null | grep -c ': test$')
    $suite ${proofs//,/ } $filters --test-threads=2 >/tmp/proofs 2>&1
    passed=$(sed -n 's/^test result: ok. \([0-9]*\) passed; 0 failed; 0 ignored;.*/\1/p' /tmp/proofs)
    if [ "$wanted" -gt 0 ] && [ "$passed" = "$wanted" ]; then
        echo "CHECK proofs ok $passed as root and uid 1000, $(sed -n 's/.*finished in //p' /tmp/proofs)"
    else
        echo "CHECK proofs FAIL of $wanted"
        grep -v '^ *\(at \|[0-9]*: \)' /tmp/proofs | tail -n 150 | cut -c 1-2000
    fi
}

if [ "$level" = refused ]; then
    for who in root user; do
        refusal $who landlock '\(Linux 5.19 or later with CONFIG_SECURITY_LANDLOCK\|lsm=landlock\)'
        # The lower level is nothing without Landlock.
        run $who --no-test --min-level landlock -- true
        ok $who-landlock-min-level is $code 3
    done
else
    echo "+memory +pids +cpu" >/sys/fs/cgroup/cgroup.subtree_control
    for who in root user; do reaches_full $who; cgroups $who; done
    small_disk
    [ -z "$proofs" ] || proofs
fi
echo GUEST-END
sync
echo o >/proc/sysrq-trigger
sleep 60
