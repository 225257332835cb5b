# A small Plack application, for psgi.pl: `psgi.pl hello.psgi`.
use strict;
use warnings;
use Plack::Builder;
use Plack::Request;

builder {
    enable 'ContentLength';
    mount '/upper' => sub {
        my $request = Plack::Request->new(shift);
        return [200, ['Content-Type' => 'text/plain'], [uc $request->content]];
    };
    mount '/crash' => sub { kill KILL => $$ };
    mount '/' => sub { [200, ['Content-Type' => 'text/plain'], ["hello from $$\n"]] };
};
