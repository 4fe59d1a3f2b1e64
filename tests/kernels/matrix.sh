#!/bin/bash
# The kernel matrix: fetches the kernels of README.md's table from Debian, boots each under QEMU and checks what the
# table says of it. `matrix.sh` is all of it; `matrix.sh --short` boots the rows whose last column says `short`, with
# the proofs that it names. Installs what it needs where it is root on Debian. KERNEL_CACHE keeps the packages.
set -euo pipefail
cd "$(dirname "$0")/../.."
here=tests/kernels
short=
[ "${1:-}" != --short ] || short=yes

declare -A package=([qemu-system-x86_64]=qemu-system-x86 [cpio]=cpio [busybox]=busybox-static [mke2fs]=e2fsprogs
    [setpriv]=util-linux [perl]=perl-base [git]=git [xz]=xz-utils [zstd]=zstd [strip]=binutils)
missing=()
PATH=$PATH:/usr/sbin:/sbin
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if ((${#missing[@]})); then
    if ((EUID)) || ! command -v apt-get >/dev/null; then
        echo "matrix.sh: install these first: ${missing[*]}" >&2
        exit 1
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
fi

# The suite with the whole workspace, so that a later `cargo test --workspace` builds nothing again.
suite=$(cargo test --workspace --test suite --no-run 2>&1 | sed -n 's/.*Executable .*(\(.*\))$/\1/p')
[ -x "$suite" ] || { cargo test --workspace --test suite --no-run; exit 1; }
proctor=$(dirname "$(dirname "$suite")")/proctor-under-test

cache=${KERNEL_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/proctor-kernels}
mkdir -p "$cache"
results=() bad=0
while IFS='|' read -r _ suite_name _ boot level layers proofs _; do
    read -r suite_name <<<"$suite_name"
    boot=$(tr -d '`' <<<"$boot" | xargs) level=$(xargs <<<"$level") layers=$(xargs <<<"$layers") proofs=$(tr -d '` ' <<<"$proofs")
    if [ -n "$short" ]; then
        [[ $proofs == *short:* ]] || continue
        proofs=${proofs#*short:}
    else
        proofs=${proofs%%,short:*}
    fi
    if debs=$(bash "$here/fetch.sh" "$suite_name" "$cache"); then
        # shellcheck disable=SC2086 # one word a package
        if bash "$here/run.sh" "$proctor" "$suite" "$proofs" "$level" "$layers" "$boot" $debs | tee "$cache/last"; then said=ok; else said=FAILED; fi
        kernel=$(sed -n 's/^GUEST \([^,]*\),.*/\1/p' "$cache/last" | head -n 1)
        said="$said, $(tail -n 1 "$cache/last")"
    else
        kernel= said="FAILED, no kernel"
    fi
    [[ $said == ok* ]] || bad=1
    results+=("$(printf '%-12s %-28s %-18s %-8s %-7s %s (%d s)' "$suite_name" "${kernel:-did not start}" "${boot:--}" "$level" "$layers" "$said" $SECONDS)")
done < <(sed -n '/^<!-- matrix -->/,/^<!-- \/matrix -->/p' "$here/README.md" | grep '^| ' | tail -n +3)
echo "== matrix"
[ ${#results[@]} -gt 0 ] || { echo "nothing was booted"; exit 1; }
printf '%s\n' "${results[@]}"
exit $bad
