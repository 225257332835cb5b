#!/bin/sh
# Builds three versions of the example, and takes a running server from one to the next: an upgrade, a
# downgrade, and a version whose children fail, after which the old one is back. Clients are served all
# the time.
set -eu

cd "$(dirname "$0")/../.."
port=${PORT:-7777}
work=$(mktemp -d)
server=
trap 'test -z "$server" || kill "$server" 2>/dev/null || :; rm -rf "$work"' EXIT

build() { # version, and the name of another variable
    env UPGRADE_VERSION="$1" ${2:+"$2=1"} cargo build --quiet --release --example upgrade
    cp "${CARGO_TARGET_DIR:-target}/release/examples/upgrade" "$work/v$1"
}

place() { # version: into the place of the server's file, in one step
    cp "$work/v$1" "$work/next"
    mv "$work/next" "$work/server"
}

ask() {
    "$work/v1" --ask "127.0.0.1:$port"
}

expect() { # version
    tries=0
    until test "$(ask)" = "version $1"; do
        tries=$((tries + 1))
        test "$tries" -lt 100 || { echo "it is not version $1" >&2; exit 1; }
        sleep 0.1
    done
    echo "a client is answered: version $1"
}

said() { # what the server must have said
    tries=0
    until grep -q "$1" "$work/log"; do
        tries=$((tries + 1))
        test "$tries" -lt 100 || { cat "$work/log" >&2; echo "it has not said: $1" >&2; exit 1; }
        sleep 0.1
    done
}

build 1
build 2
build 3 UPGRADE_BROKEN

place 1
"$work/server" --port "$port" --max-requests 0 >"$work/log" 2>&1 &
server=$!
expect 1

echo "upgrade"
place 2
kill -USR2 "$server"
expect 2

echo "downgrade"
place 1
kill -USR2 "$server"
expect 1

echo "a version that is broken"
place 3
kill -USR2 "$server"
said "version 3 in process $server"
said "version 1 serves on"
expect 1

kill "$server"
wait "$server"
server=
echo "stopped"
