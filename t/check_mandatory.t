# Checks that have to be passed before a server gets its first request: what is used
# until then, what failed checks change about it, and what of it outlives reloads and
# workers.
#
# The servers are played by t/lib/NginxBackend.pm. A check that says "wait" gets
# its answer when the test releases it, so that the order of all answers is known.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use Test::More;

my $fast = 'interval=20ms timeout=30s';
my $get = 'location /get { proxy_pass http://up; }';

# nginx with an upstream "up" of these servers, and four workers.
sub start {
    my ($servers, $check, $parameters) = @_;
    return NginxRunner->new(workers => 4, server => $get, http => config($servers, $check, $parameters))->start;
}

sub config {
    my ($servers, $check, $parameters) = @_;
    my $checks = join ' ', map { "checkups_check $_;" } ref $check ? @$check : $check;
    return upstream(up => "$servers $checks", $parameters);
}

sub get { my ($nginx, $count) = @_; return join ' ', $nginx->bodies('/get', $count) }

sub turned {
    my ($name, $from, $to, $cause) = @_;
    return qq([notice] cluster "up", server $name: from $from to $to: $cause);
}

my $awaited = '[notice] cluster "up": no server has passed its first check, none is used';
my $none_left = '[error] cluster "up": no servers available';
my $back = '[notice] cluster "up": a server works again, those that fail their checks are out of use';

for my $words ('mandatory', 'mandatory persistent') {
    subtest "no request before the first passed check: $words" => sub {
        servers(a => 'wait:200 hang', b => 'wait:200 hang');
        my $nginx = start('server @a; server @b;', "http $fast $words");
        checked(a => 1, b => 1);
        is_deeply([known($nginx, 'up')], ['a checking 0', 'b checking 0'], 'the status');
        is(get($nginx, 4), '502 502 502 502', 'there is nobody to ask');
        is(scalar @{ backend->seen($_)->{requests} }, 0, "no request came to $_") for 'a', 'b';
        release(b => 1);
        now_known($nginx, up => 'a checking 0', 'b ok 0');
        is(get($nginx, 8), join(' ', ('b') x 8), 'all are for the one that has passed');
        release(a => 1);
        now_known($nginx, up => 'a ok 0', 'b ok 0');
        is(join(' ', sort split / /, get($nginx, 8)), 'a a a a b b b b', 'then both are used');
        is_deeply([logged($nginx)], [
            $awaited, ($none_left) x 4, turned(b => 'checking', 'ok', 'check passed'), $back,
            turned(a => 'checking', 'ok', 'check passed'),
        ], 'the log');
        ends_well($nginx);
    };
}

subtest 'a first failure is not passed, however many it takes to fail' => sub {
    servers(a => 'wait:503 wait:503 wait:200 wait:503 hang', b => 'hang');
    my $nginx = start('server @a; server @b;', "http $fast fails=2 mandatory");
    release(a => 1);
    now_known($nginx, up => 'a checking 1 status 503', 'b checking 0');
    is(get($nginx, 2), '502 502', 'it gets no requests');
    release(a => 2);
    now_known($nginx, up => 'a err 2 status 503', 'b checking 0');
    is(get($nginx, 2), '502 502', 'nor then');
    release(a => 3);
    now_known($nginx, up => 'a ok 0', 'b checking 0');
    is(get($nginx, 4), 'a a a a', 'it has passed');
    release(a => 4);
    now_known($nginx, up => 'a ok 1 status 503', 'b checking 0');
    is(get($nginx, 4), 'a a a a', 'now one failure does not matter');
    is_deeply([grep { $_ ne $none_left } logged($nginx)], [
        $awaited, turned(a => 'checking', 'err', 'status 503'), turned(a => 'err', 'ok', 'check passed'), $back,
    ], 'the log');
    ends_well($nginx);
};

for my $protected ('all', 'one') {
    subtest "protected=$protected is no way in" => sub {
        servers(a => '503 503 hang', b => '503 hang');
        my $nginx = start('server @a; server @b;', "http $fast mandatory", "protected=$protected");
        now_known($nginx, up => 'a err 2 status 503', 'b err 1 status 503');
        is(get($nginx, 4), '502 502 502 502', 'none of them has ever passed');
        is(scalar @{ backend->seen($_)->{requests} }, 0, "no request came to $_") for 'a', 'b';
        ends_well($nginx);
    };

    subtest "protected=$protected keeps the one that has passed" => sub {
        servers(a => '503 hang', b => '200 wait:503 hang', c => 'hang');
        my $nginx = start('server @a; server @b; server @c;', "http $fast mandatory", "protected=$protected");
        now_known($nginx, up => 'a err 1 status 503', 'b ok 0', 'c checking 0');
        release(b => 2);
        now_known($nginx, up => 'a err 1 status 503', 'b unstable 1 status 503', 'c checking 0');
        is(get($nginx, 4), 'b b b b', 'it stays in use, and nobody else');
        ends_well($nginx);
    };
}

subtest 'protected=off' => sub {
    servers(a => '200 wait:503 hang', b => 'hang');
    my $nginx = start('server @a; server @b;', "http $fast mandatory", 'protected=off');
    now_known($nginx, up => 'a ok 0', 'b checking 0');
    release(a => 2);
    now_known($nginx, up => 'a err 1 status 503', 'b checking 0');
    is(get($nginx, 2), '502 502', 'none is used');
    ends_well($nginx);
};

subtest 'one of two checks is mandatory' => sub {
    servers(a => '/must wait:200 hang /may 200 wait:503 hang', b => '/must 200 hang /may hang');
    my $nginx = start('server @a; server @b;', ["http uri=/may $fast", "http uri=/must $fast mandatory"]);
    checked('a/may' => 2, 'b/must' => 2);
    now_known($nginx, up => 'a checking 0', 'b ok 0');
    is(get($nginx, 4), 'b b b b', 'it is for the one that is to say');
    release('a/must' => 1);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    release('a/may' => 2);
    now_known($nginx, up => 'a err 1 /may: status 503', 'b ok 0');
    is((logged($nginx))[-1], turned(a => 'ok', 'err', '/may: status 503'), 'the log');
    ends_well($nginx);
};

subtest 'two are: both have to be passed' => sub {
    servers(a => '/a 200 /b wait:404 wait:200 hang');
    my $nginx = start('server @a;', ["http uri=/a $fast mandatory", "http uri=/b $fast mandatory"]);
    checked('a/a' => 10);
    is_deeply([known($nginx, 'up')], ['a checking 0'], 'the one is not enough');
    is(get($nginx, 1), '502', 'no request');
    release('a/b' => 1);
    now_known($nginx, up => 'a err 1 /b: status 404');
    is(get($nginx, 1), '502', 'and nobody is kept');
    release('a/b' => 2);
    now_known($nginx, up => 'a ok 0');
    is(get($nginx, 1), 'a', 'the other one has come');
    is_deeply([grep { $_ ne $none_left } logged($nginx)], [
        $awaited, turned(a => 'checking', 'err', '/b: status 404'),
        '[notice] cluster "up": every server has failed its checks, none is used',
        turned(a => 'err', 'ok', 'check passed'), $back,
    ], 'the log');
    ends_well($nginx);
};

subtest 'a server without a check need not pass it' => sub {
    servers(a => 'hang', b => 'hang');
    my $nginx = start('server @a; server @b; checkups_server ' . address('b') . ' check=off;', "http $fast mandatory");
    checked(a => 1);
    is_deeply([known($nginx, 'up')], ['a checking 0', 'b unchecked'], 'the states');
    is(get($nginx, 4), 'b b b b', 'it is used at once');
    ends_well($nginx);
};

subtest 'levels: the backup, until one of the first level has passed' => sub {
    servers(a => 'wait:200 hang', b => '200 hang');
    my $nginx = start('server @a; server @b backup;', "http $fast mandatory");
    now_known($nginx, up => 'a checking 0', 'b ok 0');
    is(get($nginx, 4), 'b b b b', 'the backup');
    release(a => 1);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is(get($nginx, 4), 'a a a a', 'the first level');
    ends_well($nginx);
};

subtest 'a reload: who has passed goes on, who is new waits' => sub {
    servers(a => '200 hang', b => 'wait:200 hang', c => 'wait:503 hang');
    my $nginx = start('server @a; server @c;', "http $fast mandatory");
    release(c => 1);
    now_known($nginx, up => 'a ok 0', 'c err 1 status 503');
    my $enough = $nginx->clients(2, '/get', qr/\Aa\n\z/);
    ok($nginx->reload(http => config('server @c; server @a; server @b;', "http $fast mandatory persistent")), 'a reload');
    checked(b => 1);
    is_deeply([known($nginx, 'up')], ['c err 1 status 503', 'a ok 0', 'b checking 0'], 'the states');
    is(get($nginx, 6), 'a a a a a a', 'the requests');
    my @clients = $enough->();
    cmp_ok($_->[0], '>', 0, 'requests were made meanwhile') for @clients;
    is_deeply([map { @{ $_->[1] } } @clients], [], 'and all were for a');
    release(b => 1);
    now_known($nginx, up => 'c err 1 status 503', 'a ok 0', 'b ok 0');
    my @logged = logged($nginx);
    is_deeply([grep { /server a/ } @logged], [turned(a => 'checking', 'ok', 'check passed')], 'nothing new of a');
    is_deeply([grep { /server b/ } @logged], [turned(b => 'checking', 'ok', 'check passed')], 'b has passed');
    ends_well($nginx);
};

subtest 'a reload that makes the check mandatory' => sub {
    servers(a => '200 hang', b => 'hang', c => '503 hang');
    my $nginx = start('server @a; server @b; server @c;', "http $fast");
    checked(a => 2, b => 1, c => 2);
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b unchecked', 'c err 1 status 503'], 'the states');
    ok($nginx->reload(http => config('server @a; server @b; server @c;', "http $fast mandatory")), 'a reload');
    checked(a => 3, b => 2, c => 3);
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b checking 0', 'c err 1 status 503'], 'who has passed has passed');
    is(get($nginx, 4), 'a a a a', 'the requests');
    ok($nginx->reload(http => config('server @a; server @b; server @c;', "http $fast")), 'and back');
    checked(a => 4, b => 3, c => 4);
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b unchecked', 'c err 1 status 503'], 'it is no longer awaited');
    is(join(' ', sort split / /, get($nginx, 4)), 'a a b b', 'the requests');
    ends_well($nginx);
};

subtest 'a server that was gone is new' => sub {
    servers(a => '200 200 hang', b => '200 hang');
    my $nginx = start('server @a; server @b;', "http $fast mandatory");
    checked(a => 3);
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b ok 0'], 'both have passed');
    ok($nginx->reload(http => config('server @b;', "http $fast mandatory")), 'without it');
    is_deeply([known($nginx, 'up')], ['b ok 0'], 'the states');
    ok($nginx->reload(http => config('server @a; server @b;', "http $fast mandatory")), 'with it');
    checked(a => 4);
    is_deeply([known($nginx, 'up')], ['a checking 0', 'b ok 0'], 'the states');
    is(get($nginx, 4), 'b b b b', 'the requests');
    ends_well($nginx);
};

subtest 'the worker that makes the checks is killed' => sub {
    servers(a => '200 hang', b => 'hang', c => '503 hang');
    my $nginx = start('server @a; server @b; server @c;', "http $fast mandatory");
    now_known($nginx, up => 'a ok 0', 'b checking 0', 'c err 1 status 503');
    checked(a => 2, b => 1, c => 2);
    my ($prober) = sort { $a <=> $b } $nginx->workers;
    $nginx->signal('KILL', $prober);
    checked(a => 3, b => 2, c => 3);
    ok(wait_until(5, sub { $nginx->workers == 4 }), 'there is another one');
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b checking 0', 'c err 1 status 503'], 'the states');
    is(get($nginx, 8), 'a a a a a a a a', 'the requests');
    ends_well($nginx, qr/exited on signal 9$/);
};

done_testing();
