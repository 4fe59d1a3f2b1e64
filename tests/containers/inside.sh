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
as "$proctor" run --repo "$repo" --test 'grep -qx mended value' -- \
    sh -c 'echo said; echo mended >value' >"$home/out" 2>"$home/err"
run=$?
level=$(sed -n 's/^level: \([a-z]*\).*/\1/p' "$home/doctor")
evidence=$(tail -n 1 "$home/out")
as "$proctor" verify "$evidence" --repo "$repo" >"$home/verified" 2>&1
verified=$?
printf 'RESULT level=%s doctor=%s run=%s verify=%s said=%s\n' "$level" $doctor $run $verified "$(cat "$evidence/backend.stdout.log" | head -n 1)"
cat "$home/doctor"
sed 's/^/run: /' "$home/err"
[ $run = 3 ] || [ $run = 0 ] || cat "$home/verified"
