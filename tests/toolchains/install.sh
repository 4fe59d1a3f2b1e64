#!/bin/sh
# Fills DIR with what the tests of the toolchain views need, readable by everyone, as the tools' own clients fill
# it: DIR/home is a home directory with the caches of cargo, npm, go and Maven, DIR/rustup a RUSTUP_HOME, DIR/wheels
# what pip needs. The projects beside this script say what is fetched, at pinned versions. What is already there
# is left alone. Needs cargo, npm, pip, go with Debian's golang-github-pkg-errors-dev, mvn with Debian's Maven plugins
# (see .ci/run for the packages) and, when something is missing, a network.
#
#   sh tests/toolchains/install.sh DIR
set -eu
umask 022

dir=${1:?"usage: install.sh DIR"}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$dir/home"
dir=$(cd "$dir" && pwd)
home=$dir/home
work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT

need() {
    command -v "$1" >/dev/null || { echo "toolchains/install.sh: no $1 here; install Debian's $2" >&2; exit 1; }
}

# filled NAME FILE...: true where NAME was filled from just these files, by this script.
filled() {
    name=$1
    shift
    cat "$@" "$here/install.sh" >"$work/stamp"
    cmp -s "$work/stamp" "$dir/$name.stamp" && return 0
    rm -f "$dir/$name.stamp"
    return 1
}
finish() {
    cp "$work/stamp" "$dir/$1.stamp"
}

host=$(cd "$here" && rustc --version --verbose | sed -n 's/^host: //p')
sh "$here/../agents/toolchain.sh" "$dir/rustup/toolchains/stable-$host"
if ! filled rust "$here/rust/Cargo.lock" "$dir/rustup/toolchains/stable-$host/version"; then
    rm -rf "$home/.cargo"
    mkdir -p "$home/.cargo/bin"
    cp -R "$here/rust" "$work/rust"
    # From here, so that the toolchain is the one this repository asks for.
    (cd "$here" && CARGO_HOME=$home/.cargo cargo fetch --quiet --locked --manifest-path "$work/rust/Cargo.toml")
    printf 'version = "12"\nprofile = "minimal"\ndefault_toolchain = "stable-%s"\n' "$host" >"$dir/rustup/settings.toml"
    if command -v rustup >/dev/null; then
        cp -L "$(command -v rustup)" "$home/.cargo/bin/rustup"
        real=rustup
    else
        # A distribution's: no proxies, so the programs themselves.
        real=$dir/rustup/toolchains/stable-$host/bin
    fi
    for program in cargo rustc rustdoc; do
        ln -s "$([ "$real" = rustup ] && echo rustup || echo "$real/$program")" "$home/.cargo/bin/$program"
    done
    finish rust
fi

if ! filled node "$here/node/package-lock.json"; then
    need npm nodejs
    rm -rf "$home/.npm"
    cp -R "$here/node" "$work/node"
    npm ci --prefix "$work/node" --cache "$home/.npm" --ignore-scripts --no-fund --no-audit --no-update-notifier --loglevel=error >&2
    finish node
fi

if ! filled python "$here/python/requirements.txt"; then
    need python3 "python3, python3-pip and python3-venv"
    rm -rf "$dir/wheels"
    python3 -m pip download --quiet --disable-pip-version-check --only-binary :all: --require-hashes --no-deps \
        --dest "$dir/wheels" --requirement "$here/python/requirements.txt" >&2
    finish python
fi

if ! filled go "$here/go/go.mod"; then
    need go golang-go
    module=github.com/pkg/errors
    version=$(sed -n "s|^require $module ||p" "$here/go/go.mod")
    source=/usr/share/gocode/src/$module
    [ -d "$source" ] || { echo "toolchains/install.sh: no $source; install Debian's golang-github-pkg-errors-dev" >&2; exit 1; }
    # Debian's sources as a module proxy (https://go.dev/ref/mod#goproxy-protocol), since they are within reach everywhere.
    proxy=$work/proxy/$module/@v
    mkdir -p "$proxy" "$work/zip/$module@$version"
    cp -RL "$source/." "$work/zip/$module@$version/"
    printf 'module %s\n' "$module" >"$proxy/$version.mod"
    cp "$proxy/$version.mod" "$work/zip/$module@$version/go.mod"
    printf '{"Version":"%s"}\n' "$version" >"$proxy/$version.info"
    # Go refuses archives with entries for directories.
    (cd "$work/zip" && find github.com -type f | python3 -c '
import sys, zipfile
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    for name in sys.stdin.read().splitlines():
        archive.write(name)' "$proxy/$version.zip")
    chmod -R u+w "$home/go" 2>/dev/null || true
    rm -rf "$home/go" "$home/.cache/go-build"
    cp -R "$here/go" "$work/go"
    (
        cd "$work/go"
        export GOPATH="$home/go" GOCACHE="$home/.cache/go-build" GOFLAGS=-mod=mod GONOSUMDB='*' GONOSUMCHECK=1 GOENV=off
        export GOPROXY="file://$work/proxy" GOSUMDB=off
        go mod download all
        go mod tidy
        go vet ./... && go test -count=1 -run NONE ./... >/dev/null && go build -o /dev/null .
        cp go.sum "$dir/go.sum"
    )
    finish go
fi

if ! filled java "$here/java/pom.xml"; then
    need javac default-jdk-headless
    need mvn maven
    rm -rf "$home/.m2"
    cp -R "$here/java" "$work/java"
    # Debian's repository in the place of the central one; only what the project needs is copied from it.
    cat >"$work/settings.xml" <<-END
	<settings><localRepository>$home/.m2/repository</localRepository>
	<profiles><profile><id>p</id>
	<repositories><repository><id>central</id><url>file:///usr/share/maven-repo</url></repository></repositories>
	<pluginRepositories><pluginRepository><id>central</id><url>file:///usr/share/maven-repo</url></pluginRepository></pluginRepositories>
	</profile></profiles><activeProfiles><activeProfile>p</activeProfile></activeProfiles></settings>
	END
    # The project's tests fail on purpose, after everything was needed once.
    mvn -q -B -s "$work/settings.xml" -f "$work/java/pom.xml" -Dmaven.test.failure.ignore=true test >"$work/mvn.log" 2>&1 || {
        cat "$work/mvn.log" >&2
        echo "toolchains/install.sh: Maven could not be filled; install Debian's junit4, libmaven-compiler-plugin-java, libmaven-resources-plugin-java and libsurefire-java" >&2
        exit 1
    }
    finish java
fi
chmod -R a+rX "$dir"
