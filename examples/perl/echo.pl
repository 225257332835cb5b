#!/usr/bin/perl
# A child of ExecServer in plain Perl: a line echo server that says when it is busy.
use strict;
use warnings;

use Errno qw(EAGAIN ECONNABORTED EINTR);
use Getopt::Long qw(GetOptions);
use IO::Socket::INET;
use Time::HiRes qw(alarm time);

my ($max_requests, $words, $grace) = (25, 'control', 10);
GetOptions('max-requests=i' => \$max_requests, 'words=s' => \$words, 'grace=f' => \$grace)
    or die "usage: echo.pl [--max-requests N] [--words control|poe] [--grace SECONDS]\n";
my ($ack, $busy, $not_busy) = $words eq 'poe' ? (1, 2, 3) : ("\x06", "\x13", "\x11");

# The socket: descriptor 3, if LISTEN_PID names this process.
($ENV{LISTEN_PID} // '') eq $$ && ($ENV{LISTEN_FDS} // 0) >= 1
    or die "no socket from the parent: run this under ExecServer\n";
my $listener = IO::Socket::INET->new_from_fd(3, 'r+') or die "descriptor 3: $!\n";

# One unbuffered write for each word: it must arrive now and whole. The newline before it ends any
# earlier output.
my $state = $not_busy;
sub say_word { syswrite STDOUT, join '', map {"\n$_"} @_, '' }
sub turn { $state = shift; say_word($state) }

# ACKs, on our own clock. The state is repeated, so that a lost word does no harm.
my $interval = $ENV{PREFORK_SEND_ACK} || 0;
my $next_ack = 0;
sub acknowledge {
    return if $next_ack && (!$interval || time < $next_ack);
    say_word($ack, $state);
    $next_ack = time + ($interval || 1);
}

# SIGINT: finish the connection, and leave. It also comes when the parent dies; then the time is
# limited, in case this process is stuck. It is noted here and handled between connections.
my ($parent, $stop) = (getppid, 0);
my $leave = sub {
    $stop = 1;
    if (getppid != $parent) {
        $SIG{ALRM} = 'DEFAULT';
        alarm $grace;
    }
};
@SIG{qw(INT TERM)} = ($leave, $leave);
$SIG{PIPE} = 'IGNORE';

# Waits for a connection. Accept blocks, which wakes one process for a connection and not all; a
# timer interrupts it, so that ACKs are sent and a SIGINT that came just before is seen.
sub next_connection {
    my $tick = $interval && $interval < 1 ? $interval / 2 : 0.5;
    until ($stop) {
        acknowledge();
        local $SIG{ALRM} = sub { };
        alarm $tick, $tick;
        my $accepted = accept(my $client, $listener);
        my $error = $!;
        alarm 0 unless $stop && getppid != $parent;
        return $client if $accepted;
        $! = $error;
        die "accept: $!\n" unless $!{EINTR} || $!{EAGAIN} || $!{ECONNABORTED};
    }
    return;
}

# Echoes until the client ends its input. ACKs are sent however slow the client is: only a process
# that is stuck in code is silent.
sub serve {
    my ($client) = @_;
    my $buffer = '';
    while (1) {
        acknowledge();
        my $wanted = '';
        vec($wanted, fileno $client, 1) = 1;
        my $patience = $interval ? $next_ack - time : undef;
        $patience = 0 if defined $patience && $patience < 0;
        next unless select($wanted, undef, undef, $patience) > 0;
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

sub send_all {
    my ($client, $text) = @_;
    while (length $text) {
        my $count = syswrite $client, $text;
        next if !defined $count && $!{EINTR};
        return 0 unless $count;
        substr $text, 0, $count, '';
    }
    return 1;
}

# The line `spin` hangs this process; the parent's timeout ends it.
sub spin { 1 while 1 }

my $served = 0;
while (my $client = next_connection()) {
    turn($busy);
    $served++;
    serve($client);
    close $client;
    last if $stop || ($max_requests && $served >= $max_requests);
    turn($not_busy);
}
