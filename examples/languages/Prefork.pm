#!/usr/bin/perl
# A child of ExecServer in plain Perl: takes connections one by one and says when it is busy.
#
#     use lib 'examples/languages';
#     use Prefork;
#     Prefork::serve(sub { my ($client) = @_; ... });
#
# Run as a program it is a line echo server, which the line `spin` hangs.
package Prefork;
use strict;
use warnings;

use Errno qw(EAGAIN ECONNABORTED EINTR);
use IO::Socket;
use Socket qw(MSG_DONTWAIT);
use Time::HiRes qw(alarm time);

our %WORDS = (control => ["\x06", "\x13", "\x11"], poe => [1, 2, 3]);
our ($max_requests, $words, $grace) = (25, 'control', 10);

my ($ack, $busy, $not_busy, $state, $interval, $next_ack, $parent, $stop);

# One unbuffered write for each message: it must arrive now and whole. The newline before a word ends
# any earlier output.
sub say_words { syswrite STDOUT, join '', map {"\n$_"} @_, '' }
sub turn { $state = shift; say_words($state) }

# Says ACK if one is due, on our own clock. The state is repeated, so that a lost word does no harm.
# Call it during long work.
sub ack {
    return if $next_ack && (!$interval || time < $next_ack);
    say_words($ack, $state);
    $next_ack = time + ($interval || 1);
}

# The socket: descriptor 3, if LISTEN_PID names this process.
sub listener {
    ($ENV{LISTEN_PID} // '') eq $$ && ($ENV{LISTEN_FDS} // 0) >= 1
        or die "no socket from the parent: run this under ExecServer\n";
    return IO::Socket->new_from_fd(3, 'r+') || die "descriptor 3: $!\n";
}

# SIGINT: finish the connection, and leave. It also comes when the parent dies; then the time for the
# one in hand is limited, in case this process is stuck. Without one the timer is that of accept.
sub leave {
    $stop = 1;
    if ($state eq $busy && getppid != $parent) {
        $SIG{ALRM} = 'DEFAULT';
        alarm $grace;
    }
}

# Waits for a connection. Accept blocks, which wakes one process for a connection and not all; a
# timer interrupts it, so that ACKs are sent and a SIGINT that came just before is seen.
sub next_connection {
    my ($listener) = @_;
    my $tick = $interval && $interval < 1 ? $interval / 2 : 0.5;
    until ($stop) {
        ack();
        local $SIG{ALRM} = sub { };
        alarm $tick, $tick;
        my $accepted = accept(my $client, $listener);
        my $error = $!;
        alarm 0;
        return $client if $accepted;
        $! = $error;
        die "accept: $!\n" unless $!{EINTR} || $!{EAGAIN} || $!{ECONNABORTED};
    }
    return;
}

# Waits until a client has sent something, or has room for more, and goes on saying ACK however slow it
# is: only a process that is stuck in code is silent.
sub wait_for {
    my ($client, $for_writing) = @_;
    while (1) {
        ack();
        my $wanted = '';
        vec($wanted, fileno $client, 1) = 1;
        my $patience = $interval ? $next_ack - time : undef;
        $patience = 0 if defined $patience && $patience < 0;
        my @wanted = $for_writing ? (undef, $wanted) : ($wanted, undef);
        return if select($wanted[0], $wanted[1], undef, $patience) > 0;
    }
}

# Sends all of it, waiting in the same way; false if the client has gone.
sub send_all {
    my ($client, $text) = @_;
    while (length $text) {
        my $count = send $client, $text, MSG_DONTWAIT;
        if (defined $count) {
            substr $text, 0, $count, '';
        } elsif ($!{EAGAIN}) {
            wait_for($client, 1);
        } elsif (!$!{EINTR}) {
            return 0;
        }
    }
    return 1;
}

# Calls `handler` with each connection, until told to stop or after $max_requests (0: no limit).
sub serve {
    my ($handler) = @_;
    ($ack, $busy, $not_busy) = @{ $WORDS{$words} };
    ($state, $interval, $next_ack) = ($not_busy, $ENV{PREFORK_SEND_ACK} || 0, 0);
    ($parent, $stop) = (getppid, 0);
    @SIG{qw(INT TERM)} = (\&leave, \&leave);
    $SIG{PIPE} = 'IGNORE';
    my ($listener, $served) = (listener(), 0);
    while (my $client = next_connection($listener)) {
        turn($busy);
        leave() if $stop;
        $served++;
        $handler->($client);
        close $client;
        last if $stop || ($max_requests && $served >= $max_requests);
        turn($not_busy);
    }
}

# A handler that sends each line back.
sub echo {
    my ($client) = @_;
    my $buffer = '';
    while (1) {
        wait_for($client);
        my $count = sysread $client, $buffer, 4096, length $buffer;
        next if !defined $count && $!{EINTR};
        return unless $count;
        while ($buffer =~ s/^(.*\n)//) {
            my $line = $1;
            spin() if $line eq "spin\n";
            send_all($client, $line) or return;
        }
    }
}

# The line `spin` hangs this process; the parent's timeout ends it.
sub spin { 1 while 1 }

unless (caller) {
    require Getopt::Long;
    Getopt::Long::GetOptions(
        'max-requests=i' => \$max_requests, 'words=s' => \$words, 'grace=f' => \$grace)
        && $WORDS{$words}
        or die "usage: Prefork.pm [--max-requests N] [--words control|poe] [--grace SECONDS]\n";
    serve(\&echo);
}

1;
