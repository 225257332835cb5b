#!/usr/bin/perl
# Serves a PSGI application (Dancer, Mojolicious, Catalyst, ...) as a child of ExecServer:
#
#     psgi.pl [--max-requests N] FILE.psgi
#
# One request for each connection, HTTP/1.0, as behind a proxy that keeps its clients' connections.
# What reads and answers is Plack's HTTP::Server::PSGI; the words are those of Prefork.pm.
package Prefork::PSGI;
use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Getopt::Long qw(GetOptions);
use Plack::Util;
use Prefork;
use Socket qw(:addrinfo);
use parent 'HTTP::Server::PSGI';

# While a client is slow, the child goes on saying ACK.
sub read_timeout {
    my ($self, $client, @more) = @_;
    Prefork::wait_for($client);
    return $self->SUPER::read_timeout($client, @more);
}

sub write_all {
    my ($self, $client, $text) = @_;
    return 0 unless defined $text;
    utf8::encode($text) if $text =~ /[^\x00-\xff]/;
    return Prefork::send_all($client, $text) && length $text;
}

# Address and port at an end of the connection; nothing at a UNIX socket.
sub end_of {
    my ($packed) = @_;
    my ($error, $host, $port) = getnameinfo($packed, NI_NUMERICHOST | NI_NUMERICSERV);
    return $error ? ('', 0) : ($host, $port);
}

sub serve {
    my ($self, $client, $app) = @_;
    my ($host, $port) = end_of(getsockname $client);
    my ($remote, $remote_port) = end_of(getpeername $client);
    my $env = {
        SERVER_NAME => $host || 'localhost',
        SERVER_PORT => $port || 80,
        SCRIPT_NAME => '',
        REMOTE_ADDR => $remote,
        REMOTE_PORT => $remote_port,
        'psgi.version' => [1, 1],
        'psgi.errors' => *STDERR,
        'psgi.url_scheme' => 'http',
        'psgi.run_once' => Plack::Util::FALSE,
        'psgi.multithread' => Plack::Util::FALSE,
        'psgi.multiprocess' => Plack::Util::TRUE,
        'psgi.streaming' => Plack::Util::TRUE,
        'psgi.nonblocking' => Plack::Util::FALSE,
        'psgix.input.buffered' => Plack::Util::TRUE,
    };
    $self->handle_connection($env, $client, $app);
}

$Prefork::max_requests = 1000;
GetOptions('max-requests=i' => \$Prefork::max_requests) && @ARGV == 1
    or die "usage: psgi.pl [--max-requests N] FILE.psgi\n";
# Before the first word: a child that cannot load it has failed to start.
my $app = Plack::Util::load_psgi($ARGV[0]);
my $server = Prefork::PSGI->new(host => 'localhost', port => 80, server_software => 'prefork');
Prefork::serve(sub { $server->serve($_[0], $app) });
