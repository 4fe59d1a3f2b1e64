# Runs in the container: inside.sh PROCTOR UID WORKTREE-PLACE. Prints `LEVEL doctor-exit run-exit`, then what doctor and the run say.
proctor=$1 uid=$2 place=$3
home=$place/home-$uid repo=$place/repo-$uid
mkdir -p "$home"
export HOME=$home
git init -q -b main "$repo"
echo broken >"$repo/value"
git -C "$repo" add -A
git -C "$repo" -c user.name=t -c user.email=t@example.invalid commit -qm base
chown -R "$uid:$uid" "$home" "$repo" 2>/dev/null
as() {
    if [ "$uid" = "$(id -u)" ]; then
        HOME=$home "$@"
    else
        HOME=$home setpriv --reuid "$uid" --regid "$uid" --clear-groups -- "$@"
    fi
}
cd "$place" || exit 9
as "$proctor" doctor >"$home/doctor" 2>&1
doctor=$?
# `said` is said where every attack failed: none of them may succeed anywhere but outside.
cat >"$home/attacks" <<'END'
attack() { if "$@" >/dev/null 2>&1; then echo "succeeded: $*"; all=no; fi; }
all=yes
attack cat "$SECRET"
attack sh -c 'echo x >/proc/sys/kernel/core_pattern'
attack sh -c 'echo x >/usr/bin/planted'
attack sh -c 'echo x >/etc/planted'
attack mount -t tmpfs none /mnt
attack unshare -U true
attack sh -c 'ls -d /proc/[0-9]* | grep -q -v -x -e /proc/1 -e "/proc/[0-9]" -e "/proc/[0-9][0-9]"'
attack sh -c 'grep ^Cap /proc/self/status | grep -q -v 0000000000000000'
attack sh -c 'grep -v "lo:" /proc/net/dev | grep -q :'
[ $all = yes ] && echo said
echo mended >value
END
echo secret >"$home/secret"
chmod 644 "$home/secret" "$home/attacks"
# Outside the sandbox they do not all fail: that they do inside is the sandbox's doing.
outside=$(SECRET=$home/secret as sh -c "$(sed '/>value/d; /planted/d; /core_pattern/d' "$home/attacks")" | tail -n 1)
as "$proctor" run --repo "$repo" --env "SECRET=$home/secret" --test 'grep -qx mended value' -- \
    sh -c "$(cat "$home/attacks")" >"$home/out" 2>"$home/err"
run=$?
level=$(sed -n 's/^level: \([a-z]*\).*/\1/p' "$home/doctor")
evidence=$(tail -n 1 "$home/out")
as "$proctor" verify "$evidence" --repo "$repo" >"$home/verified" 2>&1
verified=$?
said=$(head -n 1 "$evidence/backend.stdout.log")
[ "$outside" = said ] && said='also outside'
printf 'RESULT level=%s doctor=%s run=%s verify=%s said=%s\n' "$level" $doctor $run $verified "$said"
cat "$home/doctor"
sed 's/^/run: /' "$home/err"
[ $run = 3 ] || [ $run = 0 ] || cat "$home/verified"
