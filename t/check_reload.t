# Reloads that change the checks: what is known of the servers stays until a check of
# the new ones says otherwise, and a check that stays goes on where it was, wherever
# its line is now.
#
# The servers are played by t/lib/NginxBackend.pm, which answers each path by a list
# of its own. A check that says "wait" gets its answer when the test releases it.
# Where a list ends in "hang", the state stays as it is then.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use Test::More;

my $fast = 'interval=20ms timeout=30s';
my $get = 'location /get { proxy_pass http://up; }';

sub config {
    my ($servers, @checks) = @_;
    return upstream(up => join ' ', $servers, map { "checkups_check $_;" } @checks);
}

sub start { return NginxRunner->new(workers => 2, server => $get, http => config(@_))->start }

# A reload to such a configuration: a test of its own.
sub reload {
    my ($nginx, @config) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(scalar $nginx->reload(http => config(@config)), 'a reload');
}

sub known_is {
    my ($nginx, $expected, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return is_deeply([known($nginx, 'up')], $expected, $what);
}

# The servers that eight requests come to.
sub used {
    my $nginx = shift;
    my %used = map { $_ => 1 } $nginx->bodies('/get', 8);
    return join ' ', sort keys %used;
}

sub turned {
    my ($name, $from, $to, $cause) = @_;
    return qq([notice] cluster "up", server $name: from $from to $to: $cause);
}

subtest 'another uri: what is known stays until the new check says otherwise' => sub {
    servers(
        a => '/old 200 hang /new wait:200 hang', b => '/old 503 hang /new wait:200 hang',
        c => '/old 200 hang /new wait:503 hang', d => '/old 503 hang /new wait:404 hang',
    );
    my $all = 'server @a; server @b; server @c; server @d;';
    my $nginx = start($all, "http uri=/old $fast");
    now_known($nginx, up => 'a ok 0', 'b err 1 status 503', 'c ok 0', 'd err 1 status 503');
    my $enough = $nginx->clients(2, '/get', qr/\A[ac]\n\z/);
    reload($nginx, $all, "http uri=/new $fast");
    checked(map { ("$_/new" => 1) } 'a' .. 'd');
    is(join(' ', map { (split)[1] } known($nginx, 'up')), 'ok err ok err', 'the states stay');
    is(used($nginx), 'a c', 'so does who is used');
    my @clients = $enough->();
    is_deeply([map { @{ $_->[1] } } @clients], [], 'at no time was anybody else');
    my $from = length $nginx->log;
    release("$_/new" => 1) for 'a' .. 'd';
    checked(map { ("$_/new" => 2) } 'a' .. 'd');
    now_known($nginx, up => 'a ok 0', 'b ok 0', 'c err 1 status 503', 'd err 1 status 404');
    is(used($nginx), 'a b', 'now others are used');
    is_deeply([sort(logged($nginx, $from))],
        [sort(turned(b => 'err', 'ok', 'check passed'), turned(c => 'ok', 'err', 'status 503'))], 'the log');
    ends_well($nginx);
};

subtest 'another port' => sub {
    servers(a => '200 hang', b => '503 hang', p => 'wait:200 hang', q => 'wait:200 hang');
    my ($p, $q) = map { address($_) =~ s/.*://r } 'p', 'q';
    my $nginx = start('server @a; server @b;', "http $fast");
    now_known($nginx, up => 'a ok 0', 'b err 1 status 503');
    reload($nginx, 'server @a; server @b; checkups_server ' . address('b') . " check_port=$q;", "http $fast port=$p");
    checked(p => 1, q => 1);
    is(join(' ', map { (split)[1] } known($nginx, 'up')), 'ok err', 'the states stay');
    is(used($nginx), 'a', 'so does who is used');
    release(q => 1);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is(used($nginx), 'a b', 'b has passed at the other port');
    ends_well($nginx);
};

subtest 'passes= holds for the new check as well' => sub {
    servers(a => '200', b => '/old 503 hang /new wait:200 wait:200 hang');
    my $nginx = start('server @a; server @b;', "http uri=/old $fast passes=2");
    now_known($nginx, up => 'a ok 0', 'b err 1 status 503');
    reload($nginx, 'server @a; server @b;', "http uri=/new $fast passes=2");
    release('b/new' => 1);
    checked('b/new' => 2);
    like((known($nginx, 'up'))[1], qr/^b err/, 'once is not enough');
    release('b/new' => 2);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    ends_well($nginx);
};

subtest 'times and thresholds: the counts go on' => sub {
    servers(a => '200 503 503 hang', b => '200');
    my $nginx = start('server @a; server @b;', "http $fast fails=4");
    now_known($nginx, up => 'a ok 2 status 503', 'b ok 0');
    checked(a => 4);
    backend->checks(a => '503 wait:503');
    reload($nginx, 'server @a; server @b;', 'http interval=25ms timeout=29s fails=4');
    checked(a => 5);
    known_is($nginx, ['a ok 2 status 503', 'b ok 0'], 'two failures are known');
    release(a => 5);
    now_known($nginx, up => 'a ok 3 status 503', 'b ok 0');
    reload($nginx, 'server @a; server @b;', 'http interval=20ms timeout=30s fails=3');
    checked(a => 7);
    known_is($nginx, ['a ok 3 status 503', 'b ok 0'], 'what the new number of them makes of it, the next check says');
    release(a => 7);
    now_known($nginx, up => 'a err 4 status 503', 'b ok 0');
    ends_well($nginx);
};

subtest 'lines in another order: each check keeps what is known of it' => sub {
    servers(
        a => '/x 200 503 503 hang /y 200 hang', b => '/x 200 /y 200',
        c => '/x 200 hang /y 200 404 hang',
    );
    my @lines = ("http uri=/x $fast fails=3", "http uri=/y $fast");
    my $nginx = start('server @a; server @b; server @c;', @lines);
    now_known($nginx, up => 'a ok 2 /x: status 503', 'b ok 0', 'c err 1 /y: status 404');
    checked('a/x' => 4, 'a/y' => 2, 'c/x' => 2, 'c/y' => 3);
    backend->checks(a => '/x', 'wait:503', '/y', 'wait:200');
    backend->checks(c => '/x', 'wait:200', '/y', 'wait:404');
    reload($nginx, 'server @a; server @b; server @c;', reverse @lines);
    checked('a/x' => 5, 'a/y' => 3, 'c/x' => 3, 'c/y' => 4);
    known_is($nginx, ['a ok 2 /x: status 503', 'b ok 0', 'c err 1 /y: status 404'], 'nothing has changed');
    release('a/y' => 3);
    release('c/x' => 3);
    checked('a/y' => 4, 'c/x' => 4);
    known_is($nginx, ['a ok 2 /x: status 503', 'b ok 0', 'c err 1 /y: status 404'], 'nor by the others');
    release('a/x' => 5);
    release('c/y' => 4);
    now_known($nginx, up => 'a err 3 /x: status 503', 'b ok 0', 'c err 2 /y: status 404');
    ends_well($nginx);
};

subtest 'a check that is removed' => sub {
    servers(
        a => '/x 200 hang /y 503 hang', b => '/x 503 hang /y 200 hang', c => '/x 200 hang /y 200 hang',
        d => '/x 503 hang /y 404 hang',
    );
    my $all = 'server @a; server @b; server @c; server @d;';
    my $nginx = start($all, "http uri=/x $fast", "http uri=/y $fast");
    checked(map { ("$_/x" => 2, "$_/y" => 2) } 'a' .. 'd');
    now_known($nginx, up => 'a err 1 /y: status 503', 'b err 1 /x: status 503', 'c ok 0', 'd err 1 /x: status 503');
    my $from = length $nginx->log;
    reload($nginx, $all, "http uri=/x $fast");
    checked(map { ("$_/x" => 3) } 'a' .. 'd');
    known_is($nginx, ['a ok 0', 'b err 1 /x: status 503', 'c ok 0', 'd err 1 /x: status 503'],
        'who failed only that one works, and nothing is left of it');
    is(used($nginx), 'a c', 'the requests');
    is(backend->count("$_/y"), 2, "no more of it for $_") for 'a' .. 'd';
    is_deeply([logged($nginx, $from)], [], 'nothing is logged, as no check said anything');
    ends_well($nginx);
};

subtest 'the first of two is removed' => sub {
    servers(a => '/x 503 hang /y 200 wait:404 wait:404 hang', b => '/x 503 hang /y 404 hang', c => '200');
    my $all = 'server @a; server @b; server @c;';
    my $nginx = start($all, "http uri=/x $fast", "http uri=/y $fast");
    checked('a/x' => 2, 'a/y' => 2, 'b/x' => 2, 'b/y' => 2);
    now_known($nginx, up => 'a err 1 /x: status 503', 'b err 1 /x: status 503', 'c ok 0');
    reload($nginx, $all, "http uri=/y $fast");
    checked('a/y' => 3, 'b/y' => 3);
    is(join(' ', map { (split)[1] } known($nginx, 'up')), 'ok err ok', 'the states');
    known_is($nginx, ['a ok 0', 'b err 1', 'c ok 0'], 'what it said is gone');
    release('a/y' => 3);
    now_known($nginx, up => 'a err 1 status 404', 'b err 1', 'c ok 0');
    ends_well($nginx);
};

subtest 'the only server that works without it ends that all have failed' => sub {
    servers(a => '/x 200 hang /y 503 hang', b => '/x 503 hang /y 200 hang');
    my $nginx = start('server @a; server @b;', "http uri=/x $fast", "http uri=/y $fast");
    checked(map { ("$_/x" => 2, "$_/y" => 2) } 'a', 'b');
    now_known($nginx, up => 'a unstable 1 /y: status 503', 'b unstable 1 /x: status 503');
    my $from = length $nginx->log;
    reload($nginx, 'server @a; server @b;', "http uri=/x $fast");
    checked('a/x' => 3);
    is(used($nginx), 'a', 'only that one is used');
    is_deeply([logged($nginx, $from)],
        ['[notice] cluster "up": a server works again, those that fail their checks are out of use'], 'the log');
    ends_well($nginx);
};

subtest 'a check that is added' => sub {
    servers(
        a => '/x 200 hang /y wait:200 hang', b => '/x 503 hang /y wait:200 hang',
        c => '/x 200 hang /y wait:503 hang',
    );
    my $all = 'server @a; server @b; server @c;';
    my $nginx = start($all, "http uri=/x $fast");
    checked(map { ("$_/x" => 2) } 'a' .. 'c');
    reload($nginx, $all, "http uri=/y $fast", "http uri=/x $fast");
    checked(map { ("$_/y" => 1) } 'a' .. 'c');
    is(join(' ', map { (split)[1] } known($nginx, 'up')), 'ok err ok', 'nobody is held for what was not asked yet');
    is(used($nginx), 'a c', 'the requests');
    release("$_/y" => 1) for 'a' .. 'c';
    checked(map { ("$_/y" => 2) } 'a' .. 'c');
    is(join(' ', map { (split)[1] } known($nginx, 'up')), 'ok err err', 'and then for what it says');
    is(used($nginx), 'a', 'the requests');
    ends_well($nginx);
};

subtest 'no checks at all, and some again' => sub {
    servers(a => '503 hang', b => '200');
    my $nginx = start('server @a; server @b;', "http $fast");
    checked(a => 2);
    now_known($nginx, up => 'a err 1 status 503', 'b ok 0');
    reload($nginx, 'server @a; server @b;', 'off');
    known_is($nginx, ['a unchecked', 'b unchecked'], 'nothing is known any more');
    is(used($nginx), 'a b', 'all are used');
    backend->checks(a => 'hang');
    reload($nginx, 'server @a; server @b;', "http $fast");
    checked(a => 3);
    now_known($nginx, up => 'a unchecked', 'b ok 0');
    ends_well($nginx);
};

subtest 'one server less is checked, and one more' => sub {
    servers(a => '503 503 hang', b => '200', c => '503 hang');
    my $off = sub { join ' ', map { 'checkups_server ' . address($_) . ' check=off;' } @_ };
    my $all = 'server @a; server @b; server @c;';
    my $nginx = start($all . $off->('c'), "http $fast");
    checked(a => 3);
    now_known($nginx, up => 'a err 2 status 503', 'b ok 0', 'c unchecked');
    reload($nginx, $all . $off->('a'), "http $fast");
    checked(c => 2);
    now_known($nginx, up => 'a unchecked', 'b ok 0', 'c err 1 status 503');
    is(backend->count('a'), 3, 'nobody asks it any more');
    is(used($nginx), 'a b', 'the requests');
    ends_well($nginx);
};

subtest 'the checks of http change' => sub {
    servers(a => '/x 200 hang /y wait:503 hang', b => '200');
    my $up = config('server @a; server @b;');
    my $nginx = NginxRunner->new(http => "checkups_check http uri=/x $fast; $up", server => $get)->start;
    checked('a/x' => 2);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    ok(scalar $nginx->reload(http => "checkups_check http uri=/y $fast; $up"), 'a reload');
    checked('a/y' => 1);
    known_is($nginx, ['a ok 0', 'b ok 0'], 'what is known stays');
    release('a/y' => 1);
    now_known($nginx, up => 'a err 1 status 503', 'b ok 0');
    ends_well($nginx);
};

done_testing();
