# Several checks of one server, all of which must pass; the checks of http, which
# upstreams have that say nothing of checks; and what checkups_server says of them.
#
# The servers are played by t/lib/NginxBackend.pm, which answers each path by a list
# of its own. A check that says "wait" gets its answer when the test releases it, so
# that the order of all answers is known.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use Test::More;

my $fast = 'interval=20ms timeout=30s';
my $get = 'location /get { proxy_pass http://up; }';

# nginx with an upstream "up" of these servers and checks.
sub start {
    my ($servers, @checks) = @_;
    my $checks = join ' ', map { "checkups_check $_;" } @checks;
    return NginxRunner->new(http => upstream(up => "$servers $checks"), server => $get)->start;
}

sub get { my ($nginx, $count) = @_; return join ' ', $nginx->bodies('/get', $count) }

sub turned {
    my ($name, $from, $to, $cause) = @_;
    return qq([notice] cluster "up", server $name: from $from to $to: $cause);
}

# Waits until so many more checks have come.
sub checked_again {
    my ($name, $count) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return checked($name => backend->count($name) + $count);
}

subtest 'all must pass, and one that fails is not outvoted' => sub {
    servers(a => '/a 200 /b 200 200 wait:503 wait:200 hang', b => '200');
    my $nginx = start('server @a; server @b;', "http uri=/a $fast", "http uri=/b $fast");
    checked('a/a' => 3, 'a/b' => 3);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is(get($nginx, 4), 'a b a b', 'both are in use');
    release('a/b' => 3);
    now_known($nginx, up => 'a err 1 /b: status 503', 'b ok 0');
    checked('a/b' => 4);
    checked_again('a/a' => 10);
    is_deeply([known($nginx, 'up')], ['a err 1 /b: status 503', 'b ok 0'], 'that the other one passes changes nothing');
    is(get($nginx, 4), 'b b b b', 'it is out of use');
    release('a/b' => 4);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is(join(' ', sort split / /, get($nginx, 4)), 'a a b b', 'it is used again');
    is_deeply([logged($nginx)], [turned(a => 'ok', 'err', '/b: status 503'), turned(a => 'err', 'ok', 'check passed')],
        'a line for each change of the server, and none for a check');
    ends_well($nginx);
};

subtest 'both fail: the first one is heard, and the last one that passes ends it' => sub {
    servers(a => '/a 200 wait:503 wait:200 hang /b 200 wait:404 wait:200 hang', b => '200');
    my $nginx = start('server @a; server @b;', "http uri=/a $fast", "http uri=/b $fast");
    checked('a/a' => 2, 'a/b' => 2);
    release('a/b' => 2);
    now_known($nginx, up => 'a err 1 /b: status 404', 'b ok 0');
    release('a/a' => 2);
    now_known($nginx, up => 'a err 1 /a: status 503', 'b ok 0');
    release('a/b' => 3);
    checked('a/b' => 4);
    is_deeply([known($nginx, 'up')], ['a err 1 /a: status 503', 'b ok 0'], 'one of them passes');
    is(get($nginx, 2), 'b b', 'it is out of use');
    release('a/a' => 3);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is_deeply([logged($nginx)], [turned(a => 'ok', 'err', '/b: status 404'), turned(a => 'err', 'ok', 'check passed')],
        'the log');
    ends_well($nginx);
};

subtest 'of two that fail the second one goes on to' => sub {
    servers(a => '/a 200 wait:503 wait:200 hang /b 200 wait:404 wait:404 wait:200 hang', b => '200');
    my $nginx = start('server @a; server @b;', "http uri=/a $fast", "http uri=/b $fast");
    checked('a/a' => 2, 'a/b' => 2);
    release('a/a' => 2);
    now_known($nginx, up => 'a err 1 /a: status 503', 'b ok 0');
    release('a/b' => 2);
    checked('a/b' => 3);
    is_deeply([known($nginx, 'up')], ['a err 1 /a: status 503', 'b ok 0'], 'the first one is heard');
    release('a/a' => 3);
    checked('a/a' => 4);
    like((known($nginx, 'up'))[0], qr/^a err 1/, 'it passes again');
    release('a/b' => 3);
    now_known($nginx, up => 'a err 2 /b: status 404', 'b ok 0');
    release('a/b' => 4);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is_deeply([logged($nginx)], [turned(a => 'ok', 'err', '/a: status 503'), turned(a => 'err', 'ok', 'check passed')],
        'the log');
    ends_well($nginx);
};

subtest 'each has its own fails and passes' => sub {
    servers(
        a => '/a 200 wait:503 wait:503 wait:503 wait:200 wait:200 hang /b 200 wait:503 wait:200 hang', b => '200',
    );
    my $nginx = start('server @a; server @b;', "http uri=/a $fast fails=3 passes=2", "http uri=/b $fast");
    checked('a/a' => 2, 'a/b' => 2);
    release('a/a' => 2);
    now_known($nginx, up => 'a ok 1 /a: status 503', 'b ok 0');
    release('a/a' => 3);
    now_known($nginx, up => 'a ok 2 /a: status 503', 'b ok 0');
    release('a/b' => 2);
    now_known($nginx, up => 'a err 2 /a: status 503', 'b ok 0');
    release('a/b' => 3);
    now_known($nginx, up => 'a ok 2 /a: status 503', 'b ok 0');
    release('a/a' => 4);
    now_known($nginx, up => 'a err 3 /a: status 503', 'b ok 0');
    release('a/a' => 5);
    checked('a/a' => 6);
    like((known($nginx, 'up'))[0], qr/^a err 3/, 'one passed check is not enough for it');
    release('a/a' => 6);
    now_known($nginx, up => 'a ok 0', 'b ok 0');
    is_deeply([logged($nginx)], [
        turned(a => 'ok', 'err', '/b: status 503'), turned(a => 'err', 'ok', 'check passed'),
        turned(a => 'ok', 'err', '/a: status 503'), turned(a => 'err', 'ok', 'check passed'),
    ], 'the log');
    ends_well($nginx);
};

# What is late when the machine is busy is measured again.
subtest 'each has its own interval' => sub {
    my @wrong;
    for (1 .. 5) {
        servers(a => '/a 200 /b 200');
        my $nginx = start('server @a;', 'http uri=/a interval=20ms', 'http uri=/b interval=200ms');
        checked('a/b' => 8);
        my ($often, $seldom) = map { scalar grep { $_ } @{ backend->seen($_)->{checks} } } 'a/a', 'a/b';
        ends_well($nginx);
        push @wrong, "$often and $seldom";
        next if abs($often / $seldom - 10) > 3;
        @wrong = ();
        last;
    }
    is_deeply(\@wrong, [], 'the one is made ten times as often as the other');
};

subtest 'by what a check is told from others' => sub {
    servers(map { $_ => '200' } 'a' .. 'i');
    backend->state(i => 'refuse');
    backend->checks($_, 503) for 'b', 'h';
    my ($closed, $failing) = map { address($_) =~ s/.*://r } 'i', 'h';
    my $nginx = NginxRunner->new(http => join '',
        upstream(first => "server \@a; server \@b; checkups_check tcp $fast; checkups_check http $fast;"),
        upstream(second => "server \@a; server \@b; checkups_check http uri=/x?y=z $fast; checkups_check tcp $fast port=$closed;"),
        upstream(third => "server \@a; checkups_check https ssl_verify=off uri=/t interval=20ms timeout=50ms port=$failing; checkups_check tcp $fast;"),
        upstream(fourth => "server \@a; checkups_check http uri=/f $fast port=$failing; checkups_check tcp $fast;"),
        upstream(alone => "server \@a; server \@c; checkups_check http $fast port=$failing;"),
        upstream(long => "server \@b; server \@a; checkups_check http uri=/" . 'x' x 80 . " $fast; checkups_check tcp $fast;"),
    )->start;
    my $message = sub {
        my ($cluster, $server) = @_;
        return wait_until(10, sub { ($nginx->servers($cluster))[$server]{msg} }) // '';
    };
    is($message->(first => 1), '/: status 503', 'http');
    is($message->(second => 0), ":$closed tcp: connection refused", 'tcp on a port');
    # Both fail, and the other one may have been the first to be made.
    my $of_both;
    wait_until(10, sub { ($of_both = $message->(second => 1)) =~ m{/} });
    is($of_both, '/x: status 503', 'the path: there may be a secret behind it');
    like($message->(third => 0), qr{^:$failing /t: }, 'https');
    is($message->(fourth => 0), ":$failing /f: status 503", 'http on a port');
    is($message->(alone => 0), 'status 503', 'one that is alone says nothing of itself');
    is($message->(long => 0), '/' . 'x' x 23 . '...: status 503', 'a long path is cut');
    ends_well($nginx);
};

subtest 'a server that stands in a level twice, and in another one' => sub {
    servers(a => '/a 200 503 hang /b 200 wait:200 wait:404 hang', b => '200');
    my $nginx = start('server @a; server @a; server @b; server @a backup;', "http uri=/a $fast", "http uri=/b $fast");
    checked('a/a' => 3, 'a/b' => 2, b => 20);
    now_known($nginx, up => ('a err 1 /a: status 503') x 2, 'b ok 0', 'a err 1 /a: status 503');
    release('a/b' => 2);
    release('a/b' => 3);
    checked('a/b' => 4);
    is_deeply([known($nginx, 'up')], [('a err 1 /a: status 503') x 2, 'b ok 0', 'a err 1 /a: status 503'], 'that stays');
    is_deeply([map { backend->count("a/$_") } 'a', 'b'], [3, 4], 'the address is asked once');
    is(get($nginx, 4), 'b b b b', 'all of it is out of use');
    is_deeply([logged($nginx)], [turned(a => 'ok', 'err', '/a: status 503')], 'the log');
    ends_well($nginx);
};

subtest 'the checks of http' => sub {
    servers(
        a => '/default 200 503 503 hang', b => '200', c => '/default 503 /own 200', d => '503',
        e => '/default 200',
    );
    my $nginx = NginxRunner->new(http => upstream(up => 'server @a; server @b;')
        . "checkups_check http uri=/default $fast;"
        . upstream(own => "server \@c; server \@b; checkups_check http uri=/own host=o.test $fast;")
        . upstream(none => 'server @d; server @b; checkups_check off;')
        . upstream(named => 'server @e; server @b;', 'other'), server => $get)->start;
    checked('a/default' => 4, 'c/own' => 5, 'e/default' => 3);
    now_known($nginx, up => 'a err 2 status 503', 'b ok 0');
    now_known($nginx, own => 'c ok 0', 'b ok 0');
    now_known($nginx, none => 'd unchecked', 'b unchecked');
    now_known($nginx, other => 'e ok 0', 'b ok 0');
    is(get($nginx, 3), 'b b b', 'who failed is out of use');
    is(backend->count('c/default'), 0, 'lines of an upstream replace them');
    is(backend->seen('d')->{accepted}, 0, 'off turns them off');
    is(backend->seen('a')->{hosts}[0], 'up', 'the host is the name of the upstream');
    is(backend->seen('c')->{hosts}[0], 'o.test', 'unless there is another');
    is(backend->seen('e')->{hosts}[0], 'named', 'and not that of the cluster');
    ends_well($nginx);
};

subtest 'two checks in http' => sub {
    servers(a => '/x 200 /y 503', b => '200');
    my $nginx = NginxRunner->new(http => "checkups_check http uri=/x $fast; checkups_check http uri=/y $fast;"
        . upstream(up => 'server @a; server @b;'), server => $get)->start;
    checked('a/x' => 2, 'a/y' => 2);
    ok(wait_until(10, sub { (known($nginx, 'up'))[0] =~ m{^a err \d+ /y: status 503$} }), 'both are made');
    is(get($nginx, 3), 'b b b', 'and both must pass');
    ends_well($nginx);
};

subtest 'another port, another host, and no check, by server' => sub {
    servers(map { $_ => '200' } 'a' .. 'f', 'p', 'q');
    my ($p, $q) = map { address($_) =~ s/.*://r } 'p', 'q';
    backend->checks('p', '/one', '503', '/two', '200');
    my $nginx = NginxRunner->new(http => upstream(up => qq(
        server \@a; server \@b; server \@c; server \@d;
        checkups_server @{[address('b')]} check_port=$p;
        checkups_server @{[address('c')]} check_host=c.test:81;
        checkups_server @{[address('d')]} check=off;
        checkups_check http uri=/one $fast;)) . upstream(ported => qq(
        server \@e; server \@f;
        checkups_server @{[address('f')]} check_port=$q check_host=f.test;
        checkups_check http uri=/two host=two.test port=$p $fast;)), server => $get)->start;
    checked(a => 3, c => 3, 'p/one' => 3, 'p/two' => 3, q => 3);
    ok(wait_until(10, sub { "@{[known($nginx, 'up')]}" =~ /^a ok 0 b err \d+ status 503 c ok 0 d unchecked$/ }),
        'the states') or diag(known($nginx, 'up'));
    now_known($nginx, ported => 'e ok 0', 'f ok 0');
    is_deeply([map { backend->seen($_)->{accepted} } 'b', 'd', 'e', 'f'], [0, 0, 0, 0], 'nobody else is asked');
    is(join(' ', sort split / /, get($nginx, 3)), 'a c d', 'requests go to the ports of the servers');
    is(backend->seen('a')->{hosts}[0], 'up', 'the host of the check');
    is(backend->seen('c')->{hosts}[0], 'c.test:81', 'that of a server');
    is_deeply([sort keys %{ { map { $_ => 1 } @{ backend->seen('p')->{hosts} } } }], ['two.test', 'up'], 'a port of a check');
    is(backend->seen('q')->{hosts}[0], 'f.test', 'that of a server goes before it');
    is(backend->seen('q')->{targets}[0], 'GET /two HTTP/1.1', 'and is asked the same');
    ends_well($nginx);
};

subtest 'no check of a server, wherever it stands' => sub {
    servers(a => '503', b => '200');
    my $nginx = start('server @a; server @b; server @a backup; checkups_server ' . address('a') . ' check=off;', "http $fast");
    checked(b => 10);
    is_deeply([known($nginx, 'up')], ['a unchecked', 'b ok 0', 'a unchecked'], 'nothing is known of it');
    is(backend->seen('a')->{accepted}, 0, 'nobody asks it');
    is(get($nginx, 4), 'a b a b', 'it is in use');
    ends_well($nginx);
};

done_testing();
