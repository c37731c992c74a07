# What stays in use while every server in use fails its checks: all of them, the
# least bad one, or none, as protected= says; which one that is; and the way back.
#
# The servers are played by t/lib/NginxBackend.pm. A check that says "wait" gets
# its answer when the test releases it, so that the order of all answers is known.
# Where a list ends in "hang", the state stays as it is then.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use Test::More;
use Time::HiRes qw(sleep);

my $check = 'checkups_check http interval=20ms timeout=30s;';
my $get = 'location /get { proxy_pass http://up; }';

# nginx with an upstream "up" of these servers, and four workers.
sub start {
    my ($protected, $servers, %more) = @_;
    return NginxRunner->new(
        workers => 4, server => $get . ($more{server} // ''), http => config($protected, $servers, %more),
    )->start;
}

sub config {
    my ($protected, $servers, %more) = @_;
    return upstream(up => "$servers " . ($more{check} // $check), $protected) . ($more{http} // '');
}

# Which servers answer so many requests: "a b a b".
sub get { my ($nginx, $count) = @_; return join ' ', $nginx->bodies('/get', $count) }

my $none_left = '[error] cluster "up": no servers available';
my $back = '[notice] cluster "up": a server works again, those that fail their checks are out of use';
my $all_failed = '[notice] cluster "up": every server has failed its checks';

# A line about the checks of a server of "up".
sub turned {
    my ($name, $from, $to, $cause) = @_;
    return qq([notice] cluster "up", server $name: from $from to $to: $cause);
}

for my $protected ('', 'protected=all') {
    subtest $protected || 'the default' => sub {
        servers(a => 'wait:503 hang', b => 'wait:503 wait:200 hang', c => 'wait:503 hang');
        my $nginx = start($protected, 'server @a; server @b; server @c backup;');
        release(a => 1);
        now_known($nginx, up => 'a err 1 status 503', 'b unchecked', 'c unchecked');
        is(get($nginx, 4), 'b b b b', 'one that was not checked yet is better than one that failed');
        release(b => 1);
        now_known($nginx, up => 'a err 1 status 503', 'b err 1 status 503', 'c unchecked');
        is(get($nginx, 4), 'c c c c', 'the backup');
        release(c => 1);
        now_known($nginx, up => map { "$_ unstable 1 status 503" } 'a', 'b', 'c');
        is(get($nginx, 6), 'a b a b a b', 'all are in use, and levels are levels');
        is($nginx->status->{'cls:up'}[1][0]{status}, 'unstable', 'the backup is, too');

        release(b => 2);
        now_known($nginx, up => 'a err 1 status 503', 'b ok 0', 'c err 1 status 503');
        is(get($nginx, 4), 'b b b b', 'only the one that works');
        is_deeply([logged($nginx)], [
            turned(a => 'unchecked', 'err', 'status 503'),
            turned(b => 'unchecked', 'err', 'status 503'),
            turned(c => 'unchecked', 'unstable', 'status 503'),
            "$all_failed, all stay in use as unstable",
            turned(b => 'unstable', 'ok', 'check passed'),
            $back,
        ], 'the log');
        ends_well($nginx);
    };
}

subtest 'protected=all: failing requests put nobody out of use' => sub {
    servers(a => '503 hang | close', b => '503 hang | close');
    my $nginx = start('protected=all', 'server @a; server @b;');
    now_known($nginx, up => map { "$_ unstable 1 status 503" } 'a', 'b');
    is(get($nginx, 6), join(' ', (502) x 6), 'both fail');
    is(scalar @{ backend->seen('a')->{requests} }, 6, 'each request was at a');
    is(scalar @{ backend->seen('b')->{requests} }, 6, 'and at b');
    is_deeply([grep { /out of use for/ } logged($nginx)], [], 'nothing is held against them');
    ends_well($nginx);
};

for my $protected ('one', 'on') {
    subtest "protected=$protected" => sub {
        servers(a => 'wait:503 hang', b => 'wait:503 wait:200 hang', c => 'wait:503 hang');
        my $nginx = start("protected=$protected", 'server @a; server @b; server @c backup;');
        release($_ => 1) for 'a', 'b', 'c';
        now_known($nginx, up => 'a unstable 1 status 503', 'b err 1 status 503', 'c err 1 status 503');
        is(get($nginx, 8), 'a a a a a a a a', 'the first one, as they are alike');
        like($nginx->get('/api/clusters/up')->{body}, qr/"protected":"one"/, 'the API calls it one');

        release(b => 2);
        now_known($nginx, up => 'a err 1 status 503', 'b ok 0', 'c err 1 status 503');
        is(get($nginx, 4), 'b b b b', 'the one that works');
        my @logged = logged($nginx);
        is_deeply([sort @logged[0 .. 2]], [
            turned(a => 'unchecked', 'err', 'status 503'),
            turned(b => 'unchecked', 'err', 'status 503'),
            turned(c => 'unchecked', 'err', 'status 503'),
        ], 'the log of the failed checks');
        is_deeply([@logged[3 .. $#logged]], [
            "$all_failed, server a stays in use as unstable",
            turned(b => 'err', 'ok', 'check passed'),
            $back,
        ], 'and what followed');
        ends_well($nginx);
    };
}

subtest 'protected=one: failing requests do not put that one out of use' => sub {
    servers(a => '503 hang | close', b => '503 hang | close');
    my $nginx = start('protected=one', 'server @a; server @b;');
    now_known($nginx, up => 'a unstable 1 status 503', 'b err 1 status 503');
    is(get($nginx, 6), join(' ', (502) x 6), 'it fails');
    is(scalar @{ backend->seen('a')->{requests} }, 6, 'each request was at a');
    is(scalar @{ backend->seen('b')->{requests} }, 0, 'none at b');
    is_deeply([grep { /out of use for|no servers/ } logged($nginx)], [], 'it stays in use');
    ends_well($nginx);
};

subtest 'protected=off' => sub {
    servers(a => 'wait:503 hang', b => 'wait:503 wait:200 hang');
    my $nginx = start('protected=off', 'server @a; server @b;');
    release(a => 1);
    now_known($nginx, up => 'a err 1 status 503', 'b unchecked');
    is(get($nginx, 2), 'b b', 'one is left');
    release(b => 1);
    now_known($nginx, up => map { "$_ err 1 status 503" } 'a', 'b');
    is(get($nginx, 3), '502 502 502', 'none is used');
    is(scalar @{ backend->seen('a')->{requests} }, 0, 'nothing came to a');
    is(scalar @{ backend->seen('b')->{requests} }, 2, 'nor more to b');
    is(scalar(() = $nginx->log =~ /no live upstreams while connecting to upstream/g), 3, 'nginx says so for each');

    release(b => 2);
    now_known($nginx, up => 'a err 1 status 503', 'b ok 0');
    is(get($nginx, 3), 'b b b', 'the one that works');
    is_deeply([logged($nginx)], [
        turned(a => 'unchecked', 'err', 'status 503'),
        turned(b => 'unchecked', 'err', 'status 503'),
        "$all_failed, none is used",
        $none_left, $none_left, $none_left,
        turned(b => 'err', 'ok', 'check passed'),
        $back,
    ], 'the log');
    ends_well($nginx);
};

subtest 'a single server' => sub {
    for my $case (['all', 'unstable', 'a'], ['one', 'unstable', 'a'], ['off', 'err', '502']) {
        my ($protected, $state, $answer) = @$case;
        servers(a => '503 hang');
        my $nginx = start("protected=$protected", 'server @a;');
        now_known($nginx, up => "a $state 1 status 503");
        is(get($nginx, 2), "$answer $answer", "protected=$protected");
        ends_well($nginx);
    }
};

#-- Which one -----------------------------------------------------------------

# Times of passed checks are in milliseconds.
sub a_moment_later { return sleep 0.01 }

# b was the last to pass a check, and has failed more of them than the others.
subtest 'the one whose last passed check is the most recent' => sub {
    servers(
        a => 'wait:200 wait:503 wait:503 hang', b => 'wait:200 wait:503 wait:503 wait:503 hang',
        c => 'wait:200 wait:503 wait:503 hang',
    );
    my $nginx = start('protected=one', 'server @a; server @c; server @b backup;',
        check => 'checkups_check http interval=20ms timeout=30s fails=2;');
    for my $name ('c', 'a', 'b') {
        release($name => 1);
        checked($name => 2);            # so that the pass was noticed
        a_moment_later();
    }
    now_known($nginx, up => 'a ok 0', 'c ok 0', 'b ok 0');
    release(b => $_) for 2 .. 4;
    now_known($nginx, up => 'a ok 0', 'c ok 0', 'b err 3 status 503');
    release($_ => 2) for 'a', 'c';
    now_known($nginx, up => 'a ok 1 status 503', 'c ok 1 status 503', 'b err 3 status 503');
    release($_ => 3) for 'a', 'c';
    now_known($nginx, up => 'a err 2 status 503', 'c err 2 status 503', 'b unstable 3 status 503');
    is(get($nginx, 4), 'b b b b', 'it gets the requests');
    is((logged($nginx))[-1], "$all_failed, server b stays in use as unstable", 'the log');
    ends_well($nginx);
};

subtest 'then the one with the fewest failed checks, then the first' => sub {
    servers(
        a => 'wait:503 wait:503 hang', b => 'wait:503 wait:503 wait:503 hang',
        c => 'wait:503 hang', d => 'wait:503 hang',
    );
    my $nginx = start('protected=one', 'server @a; server @b; server @c; server @d backup;');
    release(b => $_) for 1 .. 3;
    release(a => $_) for 1 .. 2;
    now_known($nginx, up => 'a err 2 status 503', 'b err 3 status 503', 'c unchecked', 'd unchecked');
    release($_ => 1) for 'd', 'c';
    now_known($nginx, up => 'a err 2 status 503', 'b err 3 status 503', 'c unstable 1 status 503', 'd err 1 status 503');
    is(get($nginx, 4), 'c c c c', 'it gets the requests');
    is((logged($nginx))[-1], "$all_failed, server c stays in use as unstable", 'the log');
    ends_well($nginx);
};

# With passes=2 a passed check does not make a server good.
subtest 'it stays that one until another has a more recent passed check' => sub {
    servers(
        a => 'wait:503 wait:503 wait:503 wait:200 hang', b => 'wait:503 wait:200 wait:503 hang',
        c => 'wait:503 wait:503 wait:503 wait:200 wait:200 hang',
    );
    my $nginx = start('protected=one', 'server @a; server @b; server @c;',
        check => 'checkups_check http interval=20ms timeout=30s passes=2;');
    release($_ => 1) for 'b', 'c';
    now_known($nginx, up => 'a unchecked', 'b err 1 status 503', 'c err 1 status 503');
    release(a => 1);
    now_known($nginx, up => 'a unstable 1 status 503', 'b err 1 status 503', 'c err 1 status 503');
    release(a => 2);
    release(a => 3);
    now_known($nginx, up => 'a unstable 3 status 503', 'b err 1 status 503', 'c err 1 status 503');
    is(get($nginx, 3), 'a a a', 'that others fail less often by now does not matter');

    release(b => 2);
    now_known($nginx, up => 'a err 3 status 503', 'b unstable 1', 'c err 1 status 503');
    is(get($nginx, 3), 'b b b', 'b has passed one');
    release(b => 3);
    now_known($nginx, up => 'a err 3 status 503', 'b unstable 2 status 503', 'c err 1 status 503');
    is(get($nginx, 3), 'b b b', 'and stays though it fails again');

    a_moment_later();
    release(c => $_) for 2 .. 4;
    now_known($nginx, up => 'a err 3 status 503', 'b err 2 status 503', 'c unstable 3');
    is(get($nginx, 3), 'c c c', 'c has passed one later');
    a_moment_later();
    release(a => 4);
    now_known($nginx, up => 'a unstable 3', 'b err 2 status 503', 'c err 3');
    is(get($nginx, 3), 'a a a', 'a still later');
    release(c => 5);
    now_known($nginx, up => 'a err 3', 'b err 2 status 503', 'c ok 0');
    is(get($nginx, 3), 'c c c', 'c has passed enough');
    is_deeply([grep { !/: from .* to / } logged($nginx)], [
        (map { "$all_failed, server $_ stays in use as unstable" } 'a', 'b', 'c', 'a'), $back,
    ], 'the log');
    ends_well($nginx);
};

subtest 'equal addresses are one server' => sub {
    servers(a => '503 hang', b => '503 hang');
    my $nginx = start('protected=one', 'server @a; server @b; server @a weight=2; server @a backup;');
    now_known($nginx, up => 'a unstable 1 status 503', 'b err 1 status 503', 'a unstable 1 status 503', 'a unstable 1 status 503');
    is(get($nginx, 4), 'a a a a', 'it gets the requests');
    ends_well($nginx);
};

#-- Which servers count -------------------------------------------------------

my %kept = (
    all => [['a unstable 1 status 503', 'b unstable 1 status 503'], 'a b a b'],
    one => [['a unstable 1 status 503', 'b err 1 status 503'],      'a a a a'],
    off => [['a err 1 status 503',      'b err 1 status 503'],      '502 502 502 502'],
);
for my $protected (sort keys %kept) {
    my ($states, $answers) = @{ $kept{$protected} };
    subtest "protected=$protected: servers that are drained or down are not in use" => sub {
        servers(a => 'wait:503 hang', b => '503 hang', c => '200 hang', d => '200 hang');
        my $nginx = start("protected=$protected", 'server @a; server @b; server @c; server @d down; checkups_server @c drain;');
        now_known($nginx, up => 'a unchecked', 'b err 1 status 503', 'c ok 0', 'd unchecked');
        is(get($nginx, 2), 'a a', 'one is left');
        release(a => 1);
        now_known($nginx, up => @$states, 'c ok 0', 'd unchecked');
        is(get($nginx, 4), $answers, 'what is used');
        ends_well($nginx);
    };
}

subtest 'a drained server that has failed is err' => sub {
    servers(a => '503 hang', b => '503 hang');
    my $nginx = start('protected=all', 'server @a; server @b; checkups_server @b drain;');
    now_known($nginx, up => 'a unstable 1 status 503', 'b err 1 status 503');
    is(get($nginx, 2), 'a a', 'it is not used');
    ends_well($nginx);
};

subtest 'no server is in use: none has failed' => sub {
    servers(a => '503 hang', b => '503 hang');
    my $nginx = start('protected=all', 'server @a; server @b down; checkups_server @a drain;');
    now_known($nginx, up => 'a err 1 status 503', 'b unchecked');
    is(get($nginx, 1), '502', 'and none is there');
    is_deeply([logged($nginx)], [turned(a => 'unchecked', 'err', 'status 503'), $none_left], 'the log');
    ends_well($nginx);
};

# The levels of a cluster are one thing for this, whatever requests try.
subtest 'named levels' => sub {
    my $levels = 'checkups_level dc1 { server @a; } checkups_level dc2 { server @b; } checkups_order $arg_order;';
    for my $case (
        ['all', 'a unstable 1 status 503', 'b unstable 1 status 503', 'a a b'],
        ['one', 'a unstable 1 status 503', 'b err 1 status 503',      'a a 502'],
        ['off', 'a err 1 status 503',      'b err 1 status 503',      '502 502 502'],
    ) {
        my ($protected, $first, $second, $answers) = @$case;
        servers(a => '503 hang', b => 'wait:503 hang');
        my $nginx = start("protected=$protected", $levels);
        now_known($nginx, up => 'a err 1 status 503', 'b unchecked');
        is(join(' ', map { $nginx->bodies("/get?order=$_", 1) } '', 'dc1', 'dc2'), 'b 502 b', 'one has not failed yet');
        release(b => 1);
        now_known($nginx, up => $first, $second);
        is(join(' ', map { $nginx->bodies("/get?order=$_", 1) } '', 'dc1', 'dc2'), $answers, "protected=$protected");
        ends_well($nginx);
    }
};

#-- Reloads --------------------------------------------------------------------

subtest 'a reload that changes protected=' => sub {
    servers(a => '200 503 hang', b => '200 503 hang', c => '200 503 hang');
    my $servers = 'server @a; server @b; server @c;';
    my $nginx = start('protected=all', $servers);
    my $failed = '1 status 503';
    my %expected = (
        all => [["a unstable $failed", "b unstable $failed", "c unstable $failed"], 'a b c a b c'],
        off => [["a err $failed", "b err $failed", "c err $failed"], join ' ', (502) x 6],
    );
    my $protected_is = sub {
        my $protected = shift;
        my ($states, $answers) = @{ $expected{$protected} };
        now_known($nginx, up => @$states);
        is(join(' ', sort split / /, get($nginx, 6)), join(' ', sort split / /, $answers), "protected=$protected");
    };
    $protected_is->('all');
    for my $protected ('off', 'all', 'off') {
        ok($nginx->reload(http => config("protected=$protected", $servers)), 'a reload');
        $protected_is->($protected);
    }
    ok($nginx->reload(http => config('protected=one', $servers)), 'a reload');
    is_deeply([sort map { (split)[1] } known($nginx, 'up')], ['err', 'err', 'unstable'], 'one is left in use');
    my ($kept) = map { (split)[0] } grep { /unstable/ } known($nginx, 'up');
    is(get($nginx, 4), "$kept $kept $kept $kept", 'and gets all requests');
    ok($nginx->reload, 'one more reload');
    is_deeply([map { (split)[0] } grep { /unstable/ } known($nginx, 'up')], [$kept], 'it is the same one');
    ok($nginx->reload(http => config('', $servers)), 'a reload');
    $protected_is->('all');
    is_deeply([grep { /works again/ } logged($nginx)], [], 'none works again');
    ends_well($nginx);
};

subtest 'a reload that takes the one away that is in use' => sub {
    servers(a => '503 hang', b => '503 hang', c => '503 hang');
    my $nginx = start('protected=one', 'server @a; server @b; server @c;');
    now_known($nginx, up => 'a unstable 1 status 503', 'b err 1 status 503', 'c err 1 status 503');
    ok($nginx->reload(http => config('protected=one', 'server @b; server @c;')), 'a is removed');
    now_known($nginx, up => 'b unstable 1 status 503', 'c err 1 status 503');
    is(get($nginx, 3), 'b b b', 'b is in use');
    ok($nginx->reload(http => config('protected=one', 'server @b; server @c; checkups_server @b drain;')), 'b is drained');
    now_known($nginx, up => 'b err 1 status 503', 'c unstable 1 status 503');
    is(get($nginx, 3), 'c c c', 'c is in use');
    ok($nginx->reload(http => config('protected=one', 'server @b; server @c;')), 'no longer');
    now_known($nginx, up => 'b err 1 status 503', 'c unstable 1 status 503');
    is(get($nginx, 3), 'c c c', 'which does not change it back');
    ok($nginx->reload(http => config('protected=one', 'server @b; server @c down;')), 'c is down');
    now_known($nginx, up => 'b unstable 1 status 503', 'c unchecked');
    is(get($nginx, 3), 'b b b', 'b is all there is');
    wait_until(5, sub { 4 == grep { /\Q$all_failed/ } logged($nginx) });
    is_deeply([grep { /\Q$all_failed/ } logged($nginx)], [
        map { "$all_failed, server $_ stays in use as unstable" } 'a', 'b', 'c', 'b',
    ], 'the log, once for each change');
    ends_well($nginx);
};

for my $case (['all', 'unstable', 'all stay in use as unstable'], ['one', 'unstable', 'server a stays in use as unstable'],
    ['off', 'err', 'none is used']) {
    my ($protected, $state, $what) = @$case;
    subtest "protected=$protected: a reload that takes the last one away that works" => sub {
        servers(a => '503 hang', b => '200 hang');
        my $nginx = start("protected=$protected", 'server @a; server @b;');
        now_known($nginx, up => 'a err 1 status 503', 'b ok 0');
        my $without = config("protected=$protected", 'server @a; server @b down;');
        ok($nginx->reload(http => $without), 'b is down');
        now_known($nginx, up => "a $state 1 status 503", 'b unchecked');
        ok(wait_until(5, sub { grep { /\Q$all_failed/ } logged($nginx) }), 'the log says so');
        ok($nginx->reload(http => $without), 'another reload, that changes nothing');
        ok($nginx->reload(http => config("protected=$protected", 'server @a; server @b down; server @b backup;')), 'b is back');
        ok(wait_until(5, sub { grep { $_ eq $back } logged($nginx) }), 'the log says so');
        is_deeply([logged($nginx)], [turned(a => 'unchecked', 'err', 'status 503'), "$all_failed, $what", $back],
            'the log, once for each change');
        ends_well($nginx);
    };
}

subtest 'a reload that brings a server' => sub {
    servers(a => '503 hang', b => '503 hang', c => 'wait:503 hang');
    my $nginx = start('protected=off', 'server @a; server @b;');
    now_known($nginx, up => map { "$_ err 1 status 503" } 'a', 'b');
    is(get($nginx, 1), '502', 'none is in use');
    ok($nginx->reload(http => config('protected=off', 'server @a; server @b; server @c backup;')), 'c is added');
    now_known($nginx, up => 'a err 1 status 503', 'b err 1 status 503', 'c unchecked');
    is(get($nginx, 2), 'c c', 'it is in use');
    release(c => 1);
    now_known($nginx, up => map { "$_ err 1 status 503" } 'a', 'b', 'c');
    is(get($nginx, 1), '502', 'until it fails, too');
    ends_well($nginx);
};

done_testing();
