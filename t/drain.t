# checkups_server ADDRESS drain: no new requests come to the server, those at work
# on it go on, and it is still checked. It is set and taken away by a reload, at
# which no request is lost.
#
# The servers are played by t/lib/NginxBackend.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use JSON::PP ();
use NginxRunner;
use PlayedServers;
use Test::More;

my $check = 'checkups_check http interval=20ms timeout=30s;';
my $get = 'location /get { proxy_pass http://up; }';

sub start {
    my ($servers, %more) = @_;
    return NginxRunner->new(
        workers => 4, server => $get . ($more{server} // ''), http => config($servers, %more),
    )->start;
}

sub config { my ($servers, %more) = @_; return upstream(up => $servers . ($more{check} // $check), $more{cluster}) }

sub get { my ($nginx, $count) = @_; return join ' ', $nginx->bodies('/get', $count) }

sub requests { return scalar @{ backend->seen($_[0])->{requests} } }

sub error_lines { my $nginx = shift; return [grep { /\[(?:error|warn)\]/ } split /\n/, $nginx->log] }

# What clusters/ says of the servers: "a drain", "b down", "c".
sub settings {
    my $nginx = shift;
    my $cluster = JSON::PP::decode_json($nginx->get('/api/clusters/up')->{body});
    my %name = map { address($_) => $_ } 'a' .. 'c';
    return [map {
        my $server = $_;
        join ' ', $name{ $server->{server} }, grep { $server->{$_} } 'down', 'drain'
    } map { @{ $_->{servers} } } @{ $cluster->{levels} }];
}

subtest 'no requests, but checks' => sub {
    servers(a => '200', b => '200 wait:503 wait:200 hang', c => '200');
    my $nginx = start('server @a weight=2; server @b weight=5; server @c; checkups_server @b drain;');
    now_known($nginx, up => 'a ok 0', 'b ok 0', 'c ok 0');
    is_deeply(settings($nginx), ['a', 'b drain', 'c'], 'the API says it');
    is(get($nginx, 8), 'a c a a c a a c', 'the order of the two others');
    release(b => 2);
    now_known($nginx, up => 'a ok 0', 'b err 1 status 503', 'c ok 0');
    release(b => 3);
    now_known($nginx, up => 'a ok 0', 'b ok 0', 'c ok 0');
    is(get($nginx, 3), 'a a c', 'and on');
    is(requests('b'), 0, 'nothing came to it');
    is_deeply([logged($nginx)], [
        '[notice] cluster "up", server b: from ok to err: status 503',
        '[notice] cluster "up", server b: from err to ok: check passed',
    ], 'the log is about its checks');
    ends_well($nginx);
};

subtest 'down is without checks' => sub {
    servers(a => '200', b => '200', c => '200');
    my $nginx = start('server @a; server @b down; server @c; checkups_server @c drain;');
    now_known($nginx, up => 'a ok 0', 'b unchecked', 'c ok 0');
    is_deeply(settings($nginx), ['a', 'b down', 'c drain'], 'what is set');
    checked(a => 5, c => 5);
    is(backend->seen('b')->{accepted}, 0, 'nobody connects to what is down');
    is(get($nginx, 3), 'a a a', 'the other one gets all requests');
    ends_well($nginx);
};

subtest 'down and drain' => sub {
    servers(a => '200', b => '200', c => '');
    my $nginx = start('server @a; server @b down; checkups_server @b drain;');
    checked(a => 5);
    is_deeply(settings($nginx), ['a', 'b down drain'], 'both are set');
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b unchecked'], 'down wins');
    is(get($nginx, 2), 'a a', 'the other one gets all requests');
    ends_well($nginx);
};

subtest 'every server of the address, in all levels' => sub {
    servers(a => '200', b => '200', c => '200');
    my $nginx = start('server @a; server @b; server @b weight=3; server @b backup; server @c backup; checkups_server @b drain;');
    now_known($nginx, up => 'a ok 0', ('b ok 0') x 3, 'c ok 0');
    is_deeply(settings($nginx), ['a', 'b drain', 'b drain', 'b drain', 'c'], 'the API says it');
    is(get($nginx, 3), 'a a a', 'one is left in the first level');
    ok($nginx->reload(http => config('server @a down; server @b; server @b backup; server @c backup; checkups_server @b drain;')), 'a reload');
    is(get($nginx, 3), 'c c c', 'one in the second');
    is(requests('b'), 0, 'nothing came to it');
    ends_well($nginx);
};

subtest 'a level of which all are drained is passed over' => sub {
    servers(a => '200', b => '200', c => '200');
    my $nginx = start('checkups_level one { server @a; } checkups_level two { server @b; server @c; } checkups_server @a drain;');
    is(get($nginx, 4), 'b c b c', 'the next level');
    ends_well($nginx);
};

subtest 'all are drained' => sub {
    servers(a => '200', b => '200', c => '');
    my $nginx = start('server @a; server @b backup; checkups_server @a drain; checkups_server @b drain;');
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is(get($nginx, 2), '502 502', 'nobody is there for requests');
    is_deeply([logged($nginx)], [('[error] cluster "up": no servers available') x 2], 'the log says so');
    ends_well($nginx);
};

subtest 'it is no other server' => sub {
    servers(a => '200 hang | close', b => '200 hang', c => '');
    my $nginx = start('server @a fail_timeout=1h; server @b; checkups_server @b drain;');
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is(get($nginx, 3), '502 502 502', 'requests are not retried there');
    is(requests('a'), 3, 'and the last server in use stays in use');
    is_deeply([grep { /out of use/ } logged($nginx)], [], 'it is not put out of use');
    is(requests('b'), 0, 'nothing came to it');
    ends_well($nginx);
};

for my $method ('round_robin', 'least_conn', 'random two', 'url_hash') {
    subtest $method => sub {
        servers(a => '200', b => '200', c => '200');
        my $nginx = start("checkups_balance $method; server \@a; server \@b weight=9; server \@c; checkups_server \@b drain;");
        my %count;
        $count{ ($nginx->bodies("/get/$_", 1))[0] }++ for 1 .. 60;
        is_deeply([sort keys %count], ['a', 'c'], 'the two others get all requests');
        ends_well($nginx);
    };
}

#-- Reloads --------------------------------------------------------------------

my $drained = 'server @a; server @b; checkups_server @b drain;';
my $used = 'server @a; server @b;';

subtest 'requests at work go on, also in workers that stay' => sub {
    servers(a => '200', b => '200 | wait:200', c => '200');
    my $nginx = start($used);
    is(get($nginx, 1), 'a', 'a is the first');
    my $first = $nginx->send_request('/get');
    ok(wait_until(5, sub { requests('b') == 1 }), 'a request is at work on b');
    ok($nginx->reload(drain => 1, http => config($drained)), 'b is drained');
    is(get($nginx, 6), 'a a a a a a', 'it gets no more');
    is(requests('b'), 1, 'the one before is still there');
    ok(wait_until(5, sub { $nginx->workers == 5 }), 'in a worker of before');
    is_deeply(settings($nginx), ['a', 'b drain'], 'the API says it');
    is(get($nginx, 3), 'a a a', 'still no more');
    backend->release('b');
    is($nginx->answer($first)->{body}, "b\n", 'it is answered by b');
    ok(wait_until(5, sub { $nginx->workers == 4 }), 'then that worker is gone');
    is_deeply(error_lines($nginx), [], 'nothing went wrong');
    ends_well($nginx);
};

# The worker of before knows what is in use now.
subtest 'a request that is retried after the reload does not come to it' => sub {
    servers(a => '200 | wait:503', b => '200', c => '200');
    my $server = 'proxy_next_upstream http_503;';
    my $nginx = start('server @a; server @b; server @c down;', server => $server);
    my $request = $nginx->send_request('/get');
    ok(wait_until(5, sub { requests('a') == 1 }), 'a request is at work on a');
    ok($nginx->reload(drain => 1, http => config('server @a; server @b; server @c; checkups_server @b drain;')), 'b is drained');
    backend->release('a');
    is($nginx->answer($request)->{body}, "c\n", 'c answers');
    is(requests('b'), 0, 'nothing came to b');
    ends_well($nginx);
};

subtest 'what is known of it stays' => sub {
    servers(a => '200', b => '200 wait:503 503 503 wait:200 hang', c => '200');
    my $nginx = start($drained);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    release(b => 2);
    checked(b => 5);
    ok($nginx->reload(http => config($used)), 'it is not drained any more');
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b err 3 status 503'], 'it has failed its checks');
    is(get($nginx, 4), 'a a a a', 'so it is not used');
    ok($nginx->reload(http => config($drained)), 'it is drained once more');
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b err 3 status 503'], 'nothing is new');
    ends_well($nginx);
};

subtest 'after down there is nothing known of it' => sub {
    servers(a => '200', b => '503 hang', c => '200');
    my $nginx = start($drained);
    now_known($nginx, up => 'a ok 0', 'b err 1 status 503');
    ok($nginx->reload(http => config('server @a; server @b down;')), 'from drain to down');
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b unchecked'], 'not checked');
    ok($nginx->reload(http => config($drained)), 'from down to drain');
    is(get($nginx, 3), 'a a a', 'still no requests');
    ok($nginx->reload(http => config($used)), 'and into use');
    is(join(' ', sort split / /, get($nginx, 4)), 'a a b b', 'with its share');
    ends_well($nginx);
};

# Without checks, and out of use for a failed request.
subtest 'failed requests are remembered' => sub {
    servers(a => '', b => '| close 200', c => '');
    my %unchecked = (check => '');
    my $nginx = start('server @b fail_timeout=1h; server @a;', %unchecked);
    is(get($nginx, 3), 'a a a', 'b is out of use');
    is(requests('b'), 1, 'for one failed request');
    ok($nginx->reload(http => config('server @b fail_timeout=1h; server @a; checkups_server @b drain;', %unchecked)), 'b is drained');
    ok($nginx->reload(http => config('server @b fail_timeout=1h; server @a;', %unchecked)), 'and no longer');
    is(get($nginx, 3), 'a a a', 'b is still out of use');
    ends_well($nginx);
};

# New connections, one request each, one after another, from two clients.
subtest 'no request fails while servers are drained and used again' => sub {
    servers(a => '200', b => '200', c => '200');
    my @configs = map { config("server \@a; server \@b; server \@c backup; $_") }
        '', 'checkups_server @b drain;', 'checkups_server @a drain; checkups_server @b drain;', 'checkups_server @a drain;';
    my @answering = (qr/\A[ab]\z/, qr/\Aa\z/, qr/\Ac\z/, qr/\Ab\z/);
    my $nginx = start('server @a; server @b; server @c backup;');
    my $clients = $nginx->clients(2, '/get', qr/\A[abc]\n\z/);
    my @wrong;
    for my $number (1 .. 8) {
        $nginx->reload(http => $configs[$number % 4]) or push @wrong, "reload $number";
        my @bodies = $nginx->bodies('/get', 4);
        push @wrong, "$number: @bodies" if grep { $_ !~ $answering[$number % 4] } @bodies;
    }
    is_deeply(\@wrong, [], 'each of eight reloads has its effect at once');
    for my $client ($clients->()) {
        my ($made, $failed) = @$client;
        cmp_ok($made, '>', 100, "there were requests: $made");
        is_deeply($failed, [], 'none of them failed');
    }
    is_deeply(error_lines($nginx), [], 'nothing went wrong');
    ends_well($nginx);
};

done_testing();
