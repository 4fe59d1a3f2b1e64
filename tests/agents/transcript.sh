#!/bin/sh
# Runs the whole job with a real agent, step by step, and prints the transcript as Markdown: docs/transcripts
# holds what it printed. Every command is shown as it is run, with all that it prints (JSON lines cut where said).
#
#   sh tests/agents/transcript.sh codex|pi >docs/transcripts/AGENT-mends-shlex.md
#
# Works in /srv, so that no path of this machine is in it; `proctor` must be in PATH. The directories below /srv
# that it makes must not be there, but /srv/agents and /srv/rust may.
set -eu

agent=${1:?"usage: transcript.sh codex|pi"}
cd "$(dirname "$0")/../.."
. fixtures/repos/shlex/project.env

step() {
    printf '\n## %s\n\n' "$1"
    [ $# -lt 2 ] || printf '%s\n\n' "$2"
}
# Longer than any fence in what is printed.
block() {
    printf '~~~~~%s\n' "$1"
    cat
    printf '~~~~~\n'
}
run() {
    { printf '$ %s\n' "$1"; sh -c "$1" 2>&1 </dev/null || echo "(exit code $?)"; } | block console
}
show() {
    printf '`%s`:\n\n' "$1"
    block "${2:-text}" <"$1"
}

options='--ro /srv/agents --ro /srv/rust --env PATH=/srv/rust/bin:/usr/bin:/bin \
    --test-ro /srv/rust --test-env PATH=/srv/rust/bin:/usr/bin:/bin \
    --test '"'cargo test --offline'"

case $agent in
codex)
    name="Codex $(sed -n 's/.*codex": *"\([^"]*\)".*/\1/p' tests/agents/codex/package.json)"
    filter=cat
    left_out=
    ;;
pi)
    name="Pi $(sed -n 's/.*pi-coding-agent": *"\([^"]*\)".*/\1/p' tests/agents/pi/package.json)"
    filter="grep -E '^.\"type\":\"(session|agent_|tool_execution_(start|end)|turn_end)'"
    left_out='Pi says everything several times: only some types of its lines are shown. '
    ;;
*) echo "transcript.sh: no agent named $agent, only codex and pi" >&2; exit 64 ;;
esac
if [ "$(id -u)" = 0 ]; then user=root; else user='an ordinary user'; fi

cat <<END
# $name mends a real defect of shlex

Printed by \`tests/agents/transcript.sh $agent\`, run by $user. The agent, the project ($crate $version as published, with tests for the defect) and the
defect ([RUSTSEC-2024-0006](https://rustsec.org/advisories/RUSTSEC-2024-0006.html): \`quote\` leaves braces and bytes outside ASCII unquoted) are real. The model is not: a scripted
provider on the sandbox's own loopback asks for the agent's own tools ([the script](../../tests/agents/scenarios/mend.json)), and the agent runs them. The same run is a test: \`tests/suite/agents.rs\`.
END

step 'Set up' "Agents from npm by lock file, the project's archive by cargo, a toolchain, and a repository whose last commit is known beforehand."
run 'sh tests/agents/install.sh /srv/agents && sh tests/agents/toolchain.sh /srv/rust'
run 'sh tests/agents/make-repo.sh /srv/agents /srv/shlex'

step 'The tests fail on the base commit' 'The same judge, with a backend that does nothing.'
run "proctor run --repo /srv/shlex $options --mutation discard --evidence /srv/base -- true"
run "grep -E '^test |^---- |left:|right:|^test result|^# end' /srv/base/test.log"

step 'The run'
run "proctor run --repo /srv/shlex $options \\
    --task 'The tests of this project fail. Find the defect, mend it and run the tests.' \\
    --evidence /srv/evidence -- sh /srv/agents/drive.sh $agent"

step 'The report'
show /srv/evidence/report.md markdown

step 'The patch'
show /srv/evidence/patch.diff diff

step 'What the agent said' "Kept byte for byte, and believed in nothing. ${left_out}Lines are cut at 240 characters here."
show /srv/evidence/backend.stderr.log
run "$filter /srv/evidence/backend.stdout.log | cut -c 1-240"

step 'The tests, as the supervisor ran them'
run "grep -E '^test |^ +(Running|Doc-tests)|^test result|^# ' /srv/evidence/test.log"

step 'The events' 'Type, source, trust and the beginning of the data; what the backend printed is left out.'
run "jq -r 'select(.type != \"backend.output\") | [.seq, .type, .source, .trust, (.data | tostring)[:110]] | @tsv' /srv/evidence/events.normalized.jsonl"

step 'Anyone can check'
run 'cd /srv/evidence && sha256sum -c report.json.sha256'
run 'proctor verify /srv/evidence --repo /srv/shlex'
run 'git -C /srv/shlex status --short --branch'
run 'git clone -q --no-local /srv/shlex /srv/clone && git -C /srv/clone apply --index --binary /srv/evidence/patch.diff && git -C /srv/clone write-tree'
run "jq -r .result_tree /srv/evidence/report.json"
run "cd /srv/clone && PATH=/srv/rust/bin:/usr/bin:/bin cargo test --offline 2>&1 | grep '^test result'"
