# One check for all that want to know the same: upstreams that share a server share
# its checks, and each draws its own conclusions. And the interval of servers that
# are down.
#
# The servers are played by t/lib/NginxBackend.pm. A check that says "wait" gets
# its answer when the test releases it, so that the order of all answers is known.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max min);
use NginxRunner;
use PlayedServers;
use Test::More;

my $fast = 'interval=20ms timeout=30s';

sub turned {
    my ($cluster, $name, $from, $to, $cause) = @_;
    return qq([notice] cluster "$cluster", server $name: from $from to $to: $cause);
}

# How many checks each of these had, by the host that they asked for.
sub by_host {
    my %count;
    $count{$_}++ for @{ backend->seen($_[0])->{hosts} };
    return \%count;
}

# Measures until it is right. The measurement returns what is wrong, or nothing: what
# is late when the machine is busy is measured again.
sub measure {
    my ($what, $measurement) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @wrong;
    for (1 .. 5) {
        my @found = $measurement->();
        return pass($what) if !@found;
        push @wrong, "@found";
    }
    fail($what);
    diag(map { "$_\n" } @wrong);
    return;
}

# The times from one check to the next, in milliseconds.
sub gaps {
    my @times = map { $_ * 1000 } @{ backend->seen(shift)->{checks} };
    return map { $times[$_] - $times[$_ - 1] } 1 .. $#times;
}

subtest 'one check for three upstreams, each with its own fails and passes' => sub {
    servers(a => '200 wait:503 wait:503 wait:503 wait:200 wait:200 hang', b => '200 hang');
    my $nginx = NginxRunner->new(
        http => upstream(one => "server \@a; server \@b; checkups_check http host=h $fast;")
            . upstream(two => "server \@b; server \@a; checkups_check http host=h $fast fails=2;")
            . upstream(three => "server \@b; server \@a backup; checkups_check http host=h $fast fails=3 passes=2;"),
        server => join '', map { "location /$_ { proxy_pass http://$_; }" } 'one', 'two', 'three',
    )->start;
    checked(a => 2, b => 2);
    my @clusters = ('one', 'two', 'three');
    my $states = sub { join ', ', map { my $cluster = $_; grep { /^a/ } known($nginx, $cluster) } @clusters };
    my $are = sub {
        my @expected = @_;
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        my $is = '';
        wait_until(10, sub { ($is = $states->()) eq "@expected" });
        return is($is, "@expected", "the states are @expected");
    };
    $are->('a ok 0, a ok 0, a ok 0');
    release(a => 2);
    $are->('a err 1 status 503, a ok 1 status 503, a ok 1 status 503');
    is_deeply([$nginx->bodies('/one', 2)], ['b', 'b'], 'the first one has enough');
    release(a => 3);
    $are->('a err 2 status 503, a err 2 status 503, a ok 2 status 503');
    release(a => 4);
    $are->('a err 3 status 503, a err 3 status 503, a err 3 status 503');
    release(a => 5);
    $are->('a ok 0, a ok 0, a err 3');
    release(a => 6);
    $are->('a ok 0, a ok 0, a ok 0');
    checked(a => 7);
    is_deeply([map { backend->count($_) } 'a', 'b'], [7, 2], 'nobody was asked more than once a time');
    is_deeply([logged($nginx)], [
        turned(one => a => 'ok', 'err', 'status 503'), turned(two => a => 'ok', 'err', 'status 503'),
        turned(three => a => 'ok', 'err', 'status 503'), turned(one => a => 'err', 'ok', 'check passed'),
        turned(two => a => 'err', 'ok', 'check passed'), turned(three => a => 'err', 'ok', 'check passed'),
    ], 'the log');
    ends_well($nginx);
};

subtest 'one that is mandatory in one upstream only' => sub {
    servers(a => 'wait:200 hang');
    my $nginx = NginxRunner->new(
        http => upstream(one => "server \@a; checkups_check http host=h $fast mandatory;")
            . upstream(two => "server \@a; checkups_check http host=h $fast;"),
    )->start;
    checked(a => 1);
    is_deeply([map { known($nginx, $_) } 'one', 'two'], ['a checking 0', 'a unchecked'], 'the states');
    release(a => 1);
    now_known($nginx, $_ => 'a ok 0') for 'one', 'two';
    checked(a => 2);
    is(backend->count('a'), 2, 'one check');
    ends_well($nginx);
};

subtest 'one of several checks is shared, and is told apart where there are several' => sub {
    servers(a => '/x 200 503 hang /y 200 hang', b => '/x 200 /y 200');
    my $nginx = NginxRunner->new(
        http => upstream(one => "server \@a; server \@b; checkups_check http host=h uri=/y $fast; checkups_check http host=h uri=/x $fast;")
            . upstream(two => "server \@a; server \@b; checkups_check http host=h uri=/x $fast;"),
    )->start;
    now_known($nginx, one => 'a err 1 /x: status 503', 'b ok 0');
    now_known($nginx, two => 'a err 1 status 503', 'b ok 0');
    checked('a/x' => 3, 'a/y' => 2);
    is_deeply([map { backend->count("a/$_") } 'x', 'y'], [3, 2], 'each is made once');
    ends_well($nginx);
};

subtest 'another host is another check' => sub {
    servers(a => '200', b => '200');
    my $nginx = NginxRunner->new(
        http => upstream(one => "server \@a; checkups_check http $fast;")
            . upstream(two => "server \@a; checkups_check http $fast;")
            . upstream(three => "server \@b; checkups_check tcp $fast;")
            . upstream(four => "server \@b; checkups_check tcp $fast;"),
    )->start;
    ok(wait_until(10, sub { my $count = by_host('a'); min(map { $_ // 0 } @$count{'one', 'two'}) >= 10 }), 'both are asked');
    is_deeply([sort keys %{ by_host('a') }], ['one', 'two'], 'for the names of the upstreams');
    measure('a connection has no host: there is one for both', sub {
        my $from = backend->seen('b')->{accepted};
        my $start = now();
        wait_until(10, sub { backend->seen('b')->{accepted} >= $from + 20 });
        my $each = (now() - $start) * 1000 / 20;
        return $each > 17 ? () : $each;
    });
    ends_well($nginx);
};

subtest 'other times are another check' => sub {
    servers(a => 'hang', b => 'hang');
    my $nginx = NginxRunner->new(
        http => upstream(one => 'server @a; checkups_check http host=h interval=20ms timeout=30s;')
            . upstream(two => 'server @a; checkups_check http host=h interval=20ms timeout=29s;')
            . upstream(three => 'server @b; checkups_check http host=h interval=21ms timeout=30s;')
            . upstream(four => 'server @b; checkups_check http host=h interval=20ms timeout=30s down_interval=1s;')
            . upstream(five => 'server @b; checkups_check http host=h interval=20ms timeout=30s down_interval=1s passes=2;'),
    )->start;
    checked(a => 2, b => 2);
    is(backend->seen('b')->{open}, 2, 'but what follows is no time');
    ends_well($nginx);
};

subtest 'a hundred upstreams' => sub {
    servers(map { $_ => '200 200 503 hang' } 'a', 'b');
    backend->checks(b => '200');
    my $nginx = NginxRunner->new(http => "checkups_zone checkups:8m; checkups_check http host=h $fast;"
        . join '', map { upstream("up$_" => 'server @a; server @b;') } 1 .. 100)->start;
    now_known($nginx, "up$_" => 'a err 1 status 503', 'b ok 0') for 1, 50, 100;
    checked(a => 4);
    is(backend->count('a'), 4, 'a check is one check');
    is((scalar grep { / server a: from ok to err: status 503$/ } logged($nginx)), 100, 'all have their line');
    ends_well($nginx);
};

subtest 'a reload: an upstream that joins, and one that leaves' => sub {
    servers(a => '200 503 hang', b => '200');
    my $one = upstream(one => "server \@a; server \@b; checkups_check http host=h $fast;");
    my $two = upstream(two => "server \@a; server \@b; checkups_check http host=h $fast;");
    my $nginx = NginxRunner->new(http => $one)->start;
    checked(a => 3);
    now_known($nginx, one => 'a err 1 status 503', 'b ok 0');
    ok($nginx->reload(http => $one . $two), 'with another one');
    checked(a => 4);
    is(backend->count('a'), 4, 'one check for both');
    now_known($nginx, one => 'a err 1 status 503', 'b ok 0');
    now_known($nginx, two => 'a unchecked', 'b ok 0');
    backend->checks(a => '200');
    ok($nginx->reload(http => $two), 'without the first one');
    now_known($nginx, two => 'a ok 0', 'b ok 0');
    ends_well($nginx);
};

measure('a server that is down is asked by down_interval, one that works by interval', sub {
    servers(a => join(' ', ('200') x 10, ('503') x 5, '200'), b => '200');
    my $nginx = NginxRunner->new(http => upstream(up => 'server @a; server @b; checkups_check http interval=40ms down_interval=300ms;'))->start;
    backend->wait_for(a => 25);
    my @gaps = gaps('a');
    ends_well($nginx);
    my @before = @gaps[0 .. 9];
    my @down = @gaps[10 .. 14];
    my @after = @gaps[15 .. 22];
    my @good = (@before, @after);
    my @others = gaps('b');
    return max(@good) < 120 && min(@good) > 10 && min(@down) > 270 && max(@down) < 450 && max(@others) < 200 ? () : map { sprintf '%.0f', $_ } @gaps;
});

measure('... which may be shorter', sub {
    servers(a => join(' ', '200', ('503') x 12, '200'), b => '200');
    my $nginx = NginxRunner->new(http => upstream(up => 'server @a; server @b; checkups_check http interval=300ms down_interval=30ms jitter=10ms;'))->start;
    backend->wait_for(a => 17);
    my @gaps = gaps('a');
    ends_well($nginx);
    my @down = @gaps[1 .. 12];
    my @good = @gaps[0, 13 .. 15];
    return max(@down) < 120 && min(@down) > 10 && min(@good) > 250 && max(@good) < 450 ? () : map { sprintf '%.0f', $_ } @gaps;
});

measure('... and where it is down for one upstream only, it is no server that is down', sub {
    servers(a => '200 503', b => '200');
    my $nginx = NginxRunner->new(
        http => upstream(one => 'server @a; server @b; checkups_check http host=h interval=40ms down_interval=300ms;')
            . upstream(two => 'server @a; server @b; checkups_check http host=h interval=40ms down_interval=300ms fails=8;'),
    )->start;
    backend->wait_for(a => 13);
    my @gaps = gaps('a');
    ends_well($nginx);
    return max(@gaps[0 .. 7]) < 150 && min(@gaps[8 .. 11]) > 270 ? () : map { sprintf '%.0f', $_ } @gaps;
});

measure('... and by several checks: all of a server that one of them has down', sub {
    servers(a => '/x 200 503 /y 200', b => '200');
    my $nginx = NginxRunner->new(
        http => upstream(up => 'server @a; server @b; checkups_check http uri=/x interval=40ms down_interval=300ms; checkups_check http uri=/y interval=40ms;'),
    )->start;
    backend->wait_for('a/x' => 6);
    my @x = gaps('a/x');
    my @y = gaps('a/y');
    ends_well($nginx);
    return min(@x[1 .. 4]) > 270 && max(@y) < 200 ? () : map { sprintf '%.0f', $_ } @x, @y;
});

done_testing();
