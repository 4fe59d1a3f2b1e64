# What is checked in the guest, as root and as uid 1000. Every line `CHECK name ok|FAIL …` is read by run.sh.
say() { echo "CHECK $1 $2"; }

as() { # as USER COMMAND…
    who=$1
    shift
    if [ "$who" = root ]; then
        HOME=/disk/root-home "$@"
    else
        su -s /bin/sh -- user -c 'HOME=/disk/user-home PATH=/bin exec "$@"' sh "$@"
    fi
}

for who in root user; do
    repo=/disk/$who-repo
    as $who proctor doctor >/tmp/doctor-$who 2>&1
    code=$?
    level=$(sed -n 's/^level: \([a-z]*\).*/\1/p' /tmp/doctor-$who)
    say "$who-doctor" "ok level=$level exit=$code"
    if [ "$level" != full ]; then
        sed 's/^/    /' /tmp/doctor-$who
        as $who proctor run --repo $repo --no-test -- true >/tmp/out 2>&1
        code=$?
        [ $code = 3 ] && say "$who-refused" ok || say "$who-refused" "FAIL exit=$code"
        continue
    fi
    as $who proctor run --repo $repo --test 'grep -qx mended value' -- sh -c 'echo mended >value; mkdir d; mv keep d/; rm -r old' >/tmp/out 2>/tmp/err
    code=$?
    if [ $code = 0 ]; then say "$who-run" ok; else say "$who-run" "FAIL exit=$code"; cat /tmp/err; fi
    evidence=$(tail -n 1 /tmp/out)
    as $who proctor verify "$evidence" --repo $repo >/tmp/out 2>&1 && say "$who-verify" ok || { say "$who-verify" FAIL; cat /tmp/out; }
    as $who proctor run --repo $repo --mutation discard --no-test -- sh -c 'echo x >/proc/sys/kernel/core_pattern' >/tmp/out 2>&1
    grep -q '^core$' /proc/sys/kernel/core_pattern && say "$who-core-pattern" ok || say "$who-core-pattern" FAIL
done

# cgroup version 2: limits that the kernel enforces, in a cgroup that was delegated to root or to the user.
for who in root user; do
    delegated=/sys/fs/cgroup/$who
    [ -e $delegated/cgroup.procs ] && grep -q 'level: full' /tmp/doctor-$who || continue
    # The shell joins and becomes Proctor, as systemd-run --scope -p Delegate=yes does it.
    sh -c "echo 0 >$delegated/cgroup.procs; exec sh /etc/limited.sh $who" >/tmp/out 2>/tmp/err
    code=$?
    grep -q resource_limit /tmp/err && say $who-cgroup2-memory "ok exit=$code" || { say $who-cgroup2-memory "FAIL exit=$code"; cat /tmp/err; }
    evidence=$(tail -n 1 /tmp/out)
    grep -q '"mechanism": "cgroup2"' "$evidence/report.json" && say $who-cgroup2-reported ok || say $who-cgroup2-reported FAIL
done
