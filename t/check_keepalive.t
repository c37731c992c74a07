# Connections that checks keep, and the end of worker 0: at a reload, at the end
# of nginx, and while a client holds up an old worker.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use Test::More;

my $check = 'checkups_check http interval=50ms timeout=30s keepalive_time=1h';

# An nginx that keeps a connection to each of the servers.
sub with_connections {
    my ($servers, %as) = @_;
    servers(map { $_ => 'keep:200 | wait:200' } @$servers);
    my $lines = join ' ', map { "server \@$_;" } @$servers;
    my $nginx = NginxRunner->new(
        http => upstream(up => "$lines $check;"), server => 'location /get { proxy_pass http://up; }', %as,
    )->start;
    checked(map { $_ => 4 } @$servers);
    is(scalar(backend->connections($_)), 1, "one connection to $_") for @$servers;
    return $nginx;
}

# The ends of the connections to a server, in the order in which they came.
sub ends { return map { $_->{end} // 'open' } backend->connections(shift) }

sub no_socket_is_left {
    my $nginx = shift;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply([grep { /open socket/ } split /\n/, $nginx->log], [], 'no socket is left');
    return is_deeply([$nginx->notices], [], 'nothing is said of the servers');
}

for my $case ([QUIT => 'on', 1], [TERM => 'on', 1], [QUIT => 'on', 4], [TERM => 'on', 4], [QUIT => 'off', 1], [TERM => 'off', 1]) {
    my ($signal, $master, $workers) = @$case;
    my $what = $master eq 'on' ? "$workers workers" : 'a single process';
    subtest "the end by $signal, $what" => sub {
        my $nginx = with_connections(['a' .. 'e'], master => $master, workers => $workers);
        my $took = $nginx->stop($signal);
        is($nginx->{status}, 0, 'nginx exits with 0');
        cmp_ok($took, '<', 3, 'soon');
        for my $name ('a' .. 'e') {
            ok(wait_until(5, sub { !grep { $_ eq 'open' } ends($name) }), "no connection to $name is open");
            is(scalar(backend->connections($name)), 1, 'and there was no other');
        }
        is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
        no_socket_is_left($nginx);
    };
}

subtest 'clients have connections, however many servers there are' => sub {
    my @servers = map { "s$_" } 1 .. 70;
    servers(map { $_ => 'keep:200' } @servers);
    my $lines = join ' ', map { "server \@$_;" } @servers;
    my $nginx = NginxRunner->new(
        http => upstream(up => "$lines checkups_check http interval=200ms timeout=30s keepalive_time=1h;"),
        server => 'location /get { return 200 here; }', worker_connections => 64,
    )->start;
    checked(map { $_ => 3 } @servers);
    is($nginx->get('/get')->{body}, 'here', "request $_") for 1 .. 3;
    my $kept = grep { (ends($_))[-1] eq 'open' } @servers;
    cmp_ok($kept, '<=', 32, 'half of the connections at the most are for checks');
    cmp_ok($kept, '>=', 8, 'some are kept');
    ends_well($nginx);
};

subtest 'a reload' => sub {
    my $nginx = with_connections(['a', 'b'], workers => 2);
    for my $round (1 .. 3) {
        $nginx->reload;
        for my $name ('a', 'b') {
            ok(wait_until(5, sub { my @ends = ends($name); @ends == $round + 1 && !grep { $_ eq 'open' } @ends[0 .. $round - 1] }),
                "the new worker 0 has its own connection to $name, and the old one is closed");
        }
    }
    checked(map { $_ => backend->count($_) + 3 } 'a', 'b');
    is(scalar(backend->connections($_)), 4, "no other connection to $_") for 'a', 'b';
    no_socket_is_left($nginx);
    ends_well($nginx);
};

subtest 'a reload without the server, the check, or keepalive_time' => sub {
    my $nginx = with_connections(['a', 'b', 'c']);
    $nginx->reload(http => upstream(up => "server \@a; $check;")
        . upstream(other => 'server @b;') . upstream(third => 'server @c; checkups_check http interval=50ms timeout=30s;'));
    ok(wait_until(5, sub { (ends($_))[0] ne 'open' }), "the first connection to $_ is closed") for 'a' .. 'c';
    checked(map { $_ => backend->count($_) + 3 } 'a', 'c');
    is(scalar(backend->connections('a')), 2, 'one more connection to a');
    is(scalar(backend->connections('b')), 1, 'no more connections to b');
    cmp_ok(scalar(backend->connections('c')), '>', 3, 'one for each check of c');
    no_socket_is_left($nginx);
    ends_well($nginx);
};

# The old worker 0 lives on for its client. Its connection is idle, or a check is
# under way on it.
for my $under_way (0, 1) {
    subtest 'a worker that a client holds up, ' . ($under_way ? 'with a check under way' : 'without one') => sub {
        my $nginx = with_connections(['a', 'b']);
        my $client = $nginx->send_request('/get');
        ok(wait_until(5, sub { @{ backend->seen('a')->{requests} } == 1 }), 'a request is under way');
        if ($under_way) {
            my $count = backend->count('b');
            backend->checks(b => ('keep:200') x ($count + 1), 'hang', 'keep:200');
            checked(b => $count + 2);
        }
        my ($old) = $nginx->workers;
        $nginx->reload(drain => 1);
        for my $name ('a', 'b') {
            ok(wait_until(5, sub { my @ends = ends($name); @ends == 2 && $ends[0] ne 'open' }),
                "the connection of the old worker to $name is closed, the new one has its own");
        }
        ok(is_running($old), 'the old worker is still there');
        checked(map { $_ => backend->count($_) + 3 } 'a', 'b');
        is(scalar(backend->connections($_)), 2, "no other connection to $_") for 'a', 'b';
        backend->release('a');
        is($nginx->answer($client)->{code}, 200, 'the client gets its answer');
        ok(wait_until(5, sub { !is_running($old) }), 'and the old worker goes');
        no_socket_is_left($nginx);
        ends_well($nginx);
    };
}

# The process that holds it is gone: the kernel closes the connection, and the
# worker that follows makes its own.
subtest 'the death of worker 0' => sub {
    my $nginx = with_connections(['a']);
    my ($old) = $nginx->workers;
    $nginx->signal(KILL => $old);
    ok(wait_until(5, sub { my @ends = ends('a'); @ends == 2 && $ends[0] ne 'open' }), 'the next worker has a connection of its own');
    checked(a => backend->count('a') + 3);
    is(scalar(backend->connections('a')), 2, 'one');
    ends_well($nginx, qr/exited on signal 9/);
};

done_testing;
