#!/bin/sh
# A child of ExecServer in shell: runs a command for each connection, as its input and output, and says
# when it is busy.
#
#     prefork.sh [--max-requests N] [COMMAND [ARGUMENT]...]
#
# It says ACK between connections only: a `timeout` must be longer than any connection, unless the
# command says `printf '\n\006\n' >&4` now and then. Without a command it is a line echo server, which
# the line `spin` hangs. A shell cannot accept by itself: a line of Perl does.

ack='\006' busy='\023' not_busy='\021'

# Descriptor 4 leads to the parent; in a command, 1 is the client. Without a parent there is nobody to
# serve for.
say() {
    printf '\n%b\n' "$@" >&4 || exit
}

echo_lines() {
    while IFS= read -r line; do
        while [ "$line" = spin ]; do :; done # What the parent is there for.
        printf '%s\n' "$line"
    done
}

# Waits for a connection for a second at the most, and becomes a program that has it. What it was
# interrupted by is noticed afterwards. An alarm that is still set would end it while it exits.
accept_and_exec='
    $SIG{ALRM} = sub { };
    alarm 1;
    my $accepted = open(LISTENER, "+<&=3") && accept(CLIENT, LISTENER);
    alarm 0;
    $accepted or exit;
    open STDIN, "<&CLIENT" and open STDOUT, ">&CLIENT" or exit 1;
    close LISTENER;
    exec @ARGV;
'

# The program that has a connection. It is finished even when the order to stop comes.
if [ "${1-}" = --connection ]; then
    shift
    say "$busy"
    kill -USR1 "$PPID"
    if [ $# -gt 0 ]; then
        exec "$@"
    fi
    echo_lines
    exit
fi

max_requests=25
if [ "${1-}" = --max-requests ]; then
    max_requests=$2
    shift 2
fi
if [ "${LISTEN_PID-}" != "$$" ] || [ "${LISTEN_FDS:-0}" -lt 1 ]; then
    echo 'no socket from the parent: run this under ExecServer' >&2
    exit 1
fi
exec 4>&1
stopping='' took='' served=0
trap 'stopping=1' INT TERM
trap 'took=1' USR1
say "$ack" "$not_busy"
while [ -z "$stopping" ]; do
    (
        trap '' INT TERM
        exec perl -e "$accept_and_exec" sh "$0" --connection "$@"
    )
    if [ -n "$took" ]; then
        took=''
        served=$((served + 1))
        if [ -n "$stopping" ] || [ "$served" -eq "$max_requests" ]; then
            exit
        fi
        say "$not_busy"
    fi
    say "$ack"
done
