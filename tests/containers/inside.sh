# Runs in the container: inside.sh PROCTOR UID WORKTREE-PLACE [MIN-LEVEL]. Prints `LEVEL doctor-exit run-exit`, then what doctor and the run say.
proctor=$1 uid=$2 place=$3 min=${4:-full}
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
ATTACKS-OF-THE-LEVEL
[ $all = yes ] && echo said
echo mended >value
END
if [ $min = landlock ]; then
    # Other processes are seen at this level, and out of reach; an ordinary user keeps the bounding set.
    sed -i -e '/ls -d .proc/d' -e 's/\^Cap /^Cap[^B] /' "$home/attacks"
    cat >"$home/more" <<'END'
attack cat "$SECRET"
attack sh -c 'cat /proc/[0-9]*/environ | tr "\0" "\n" | grep -q CONTAINER_SECRET'
attack ls /tmp
attack sh -c 'echo x >/tmp/planted'
attack sh -c 'echo x >/dev/shm/planted'
attack kill -0 "$OUTSIDE"
attack chmod 600 "$SECRET"
attack touch "$SECRET"
END
    sed -i -e "/^ATTACKS-OF-THE-LEVEL/r $home/more" "$home/attacks"
fi
sed -i '/^ATTACKS-OF-THE-LEVEL/d' "$home/attacks"
echo secret >"$home/secret"
chmod 644 "$home/secret" "$home/attacks"
# Outside the sandbox they do not all fail: that they do inside is the sandbox's doing.
as env CONTAINER_SECRET=x sleep 1000 >/dev/null 2>&1 &
sleeper=$!
as touch "$home/own"
chown "$uid:$uid" "$home/secret" 2>/dev/null
outside=$(SECRET=$home/secret OUTSIDE=$sleeper as sh -c "$(sed '/>value/d; /planted/d; /core_pattern/d' "$home/attacks")" | tail -n 1)
as "$proctor" run --min-level $min --repo "$repo" --env "SECRET=$home/secret" --env "OUTSIDE=$sleeper" --test 'grep -qx mended value' -- \
    sh -c "$(cat "$home/attacks")" >"$home/out" 2>"$home/err"
run=$?
kill $sleeper
level=$(sed -n 's/^level: \([a-z]*\).*/\1/p' "$home/doctor")
evidence=$(tail -n 1 "$home/out")
got=$(sed -n 's/^ *"level": "\([a-z]*\)".*/\1/p' "$evidence/report.json" | head -n 1)
as "$proctor" verify "$evidence" --repo "$repo" >"$home/verified" 2>&1
verified=$?
said=$(head -n 1 "$evidence/backend.stdout.log")
[ "$outside" = said ] && said='also outside'
printf 'RESULT level=%s doctor=%s run=%s verify=%s said=%s got=%s\n' "$level" $doctor $run $verified "$said" "$got"
cat "$home/doctor"
sed 's/^/run: /' "$home/err"
[ $run = 3 ] || [ $run = 0 ] || cat "$home/verified"
