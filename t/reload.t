# Reloads: what is known of the servers stays, what the configuration changes is
# in use at once, what nginx refuses changes nothing, and no request is lost.
#
# The servers are played by t/lib/NginxBackend.pm. Where a list of answers ends in
# "hang", no check of the server comes to an end any more: its state stays.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use NginxBackend;
use NginxRunner;
use Test::More;
use Time::HiRes qw(sleep);

my $backend = NginxBackend->start;
my %address;

# Servers by these names: name => "words for checks | words for requests".
sub servers {
    my %words = @_;
    $backend->forget;
    for my $name (sort keys %words) {
        my ($checks, $requests) = map { [split] } split /\|/, $words{$name};
        $address{$name} = $backend->add($name, checks => $checks // [], requests => $requests // []);
    }
    return;
}

# An upstream block. In what it says "@a" is the address of server a.
sub upstream {
    my ($name, $text) = @_;
    $text =~ s/\@(\w+)/$address{$1}/g;
    return "upstream $name { checkups_cluster; $text }\n";
}

my $slow_check = 'checkups_check http interval=20ms timeout=30s;';
my $get = 'location /get { proxy_pass http://up; }';

# What "status" says of the servers of a cluster: "a err 2 status 503", and no more
# than the name and the state where they are not checked.
sub known {
    my ($nginx, $cluster) = @_;
    my %name = map { $address{$_} => $_ } keys %address;
    return map {
        my $server = $_;
        join ' ', $name{ $server->{server} =~ s/\A\Q$cluster\E://r }, $server->{status},
            grep { defined } @$server{qw(fail_num msg)};
    } $nginx->servers($cluster);
}

# Waits until the present second is over, so that what happens from then on has
# another time in the status.
sub next_second {
    my $now = time;
    sleep 0.01 while time == $now;
    return;
}

# The processes that the master has started. They call themselves workers only when
# they have.
sub children {
    my $nginx = shift;
    opendir my $proc, '/proc' or die "/proc: $!";
    return grep { my ($state, $parent) = NginxRunner::process($_); $state && $state !~ /[ZX]/ && $parent == $nginx->pid }
        grep { /^\d+$/ } readdir $proc;
}

# The process that a reload starts, as soon as it is there.
sub first_after_a_reload {
    my $nginx = shift;
    my %old = map { $_ => 1 } children($nginx);
    $nginx->signal('HUP');
    my $deadline = now() + 5;
    while (now() < $deadline) {
        my ($new) = grep { !$old{$_} } children($nginx);
        return $new if $new;
    }
    die "no new worker\n";
}

sub ends_well {
    my ($nginx, @expected) = @_;
    my $took = $nginx->stop;
    ok(defined $took, 'nginx stops');
    my @bad = grep { my $line = $_; !grep { $line =~ $_ } @expected } $nginx->bad_lines;
    is_deeply(\@bad, [], 'no crash, panic or alert');
    return;
}

subtest 'health is kept' => sub {
    servers(a => '503 503 hang', b => '200 hang', c => '200 503 503 503 hang');
    my $nginx = NginxRunner->new(
        workers => 2, server => $get,
        http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=30s;')
            . upstream(low => 'server @c; checkups_check http interval=20ms timeout=30s fails=5;'),
    )->start;
    ok($backend->wait_for('a', 3) && $backend->wait_for('b', 2) && $backend->wait_for('c', 5), 'the checks have come');
    my $before = $nginx->status;
    is_deeply([known($nginx, 'up')], ['a err 2 status 503', 'b ok 0'], 'a is down');
    is_deeply([known($nginx, 'low')], ['c ok 3 status 503'], 'c is not yet');
    next_second();

    my %old = map { $_ => 1 } $nginx->workers;
    my %seen;
    $nginx->signal('HUP');
    my $replaced = wait_until(10, sub {
        $seen{ $nginx->states('up') }++;
        my @workers = $nginx->workers;
        return @workers == 2 && !grep { $old{$_} } @workers;
    });
    ok($replaced, 'there are new workers');
    is_deeply([keys %seen], ['err ok'], 'the states were the same all the time');

    my $after = $nginx->status;
    is_deeply($after->{$_}, $before->{$_}, "$_ is the same") for 'cls:up', 'cls:low', 'start_time';
    is($after->{shd_config_version}, $before->{shd_config_version} + 1, 'the version is the next');
    is_deeply([$nginx->bodies('/get', 4)], ['b', 'b', 'b', 'b'], 'a is still out of use');
    ok($backend->wait_for('a', 4), 'the new worker checks it');
    is_deeply([$nginx->notices], [qq(cluster "up", server "$address{a}": from unchecked to err: status 503)],
        'nothing changed, so nothing was logged');
    ends_well($nginx);
};

# The fourth check of a is under way when the reload comes.
subtest 'failures in a row are counted on, and a check that is broken off is none' => sub {
    servers(a => '200 503 503 wait:503 503 hang', b => '200');
    my $nginx = NginxRunner->new(
        http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=30s fails=3;'),
    )->start;
    ok($backend->wait_for('a', 4), 'the fourth check has come');
    is((known($nginx, 'up'))[0], 'a ok 2 status 503', 'two have failed');
    ok($nginx->reload, 'the reload is done');
    ok($backend->wait_for('a', 6), 'the checks go on');
    is((known($nginx, 'up'))[0], 'a err 3 status 503', 'the next failure is the third');
    is_deeply([$nginx->notices], [qq(cluster "up", server "$address{a}": from ok to err: status 503)], 'it is logged');
    ends_well($nginx);
};

subtest 'passes in a row are counted on' => sub {
    servers(a => '503 200 wait:503 200 hang', b => '200');
    my $nginx = NginxRunner->new(
        http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=30s passes=2;'),
    )->start;
    ok($backend->wait_for('a', 3), 'the third check has come');
    is((known($nginx, 'up'))[0], 'a err 1', 'one has passed');
    ok($nginx->reload, 'the reload is done');
    ok($backend->wait_for('a', 5), 'the checks go on');
    is((known($nginx, 'up'))[0], 'a ok 0', 'the next pass is the second');
    ends_well($nginx);
};

subtest 'a passive mark is kept, and so is the count before it' => sub {
    servers(a => '| close 200', b => '', c => '| close 200');
    my $nginx = NginxRunner->new(
        http => upstream(up => 'server @a fail_timeout=1h; server @b;')
            . upstream(two => 'server @c max_fails=2 fail_timeout=1h; server @b;'),
        server => "$get location /two { proxy_pass http://two; }",
    )->start;
    is_deeply([$nginx->bodies('/get', 3)], ['b', 'b', 'b'], 'a failed');
    is_deeply([$nginx->bodies('/two', 1)], ['b'], 'c failed once');
    $backend->requests('c', 'close');
    ok($nginx->reload, 'the reload is done');
    is_deeply([$nginx->bodies('/get', 3)], ['b', 'b', 'b'], 'a is still out of use');
    is_deeply([$nginx->bodies('/two', 6)], [('b') x 6], 'c fails again');
    is(scalar @{ $backend->seen('c')->{requests} }, 2, 'and that was the second time, and the last');
    ends_well($nginx);
};

subtest 'the rotation goes on where it was' => sub {
    servers(map { $_ => '' } 'A', 'B', 'C', 'E');
    my $nginx = NginxRunner->new(
        http => upstream(up => 'server @A weight=1; server @B weight=4; server @C weight=3; server @E weight=6;'),
        server => $get,
    )->start;
    my $order = '';
    for my $count (5, 8, 1, 14) {
        $order .= join '', $nginx->bodies('/get', $count);
        ok($nginx->reload, 'the reload is done');
    }
    is($order, 'EBCEBEACEBECBEEBCEBEACEBECBE', 'the order is that without reloads');
    ends_well($nginx);
};

subtest 'servers come and go, weights change' => sub {
    servers(a => '200', b => '503', c => '200');
    my $nginx = NginxRunner->new(
        workers => 2, http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms fails=1;'),
        server => $get,
    )->start;
    ok($nginx->wait_for_states(up => 'ok err'), 'b is down');
    ok($nginx->reload(http => upstream(up => 'server @a weight=3 max_fails=5 fail_timeout=7s; server @c;
        checkups_check http interval=20ms;')), 'b is gone, c is new, a has another weight');
    my @servers = $nginx->servers('up');
    is_deeply([map { $_->{server} } @servers], ["up:$address{a}", "up:$address{c}"], 'the status has a and c');
    is_deeply([@{ $servers[0] }{qw(weight max_fails fail_timeout)}], [3, 5, 7], 'and what is set for a');
    ok($nginx->wait_for_states(up => 'ok ok'), 'c is checked');
    my %count;
    $count{$_}++ for $nginx->bodies('/get', 40);
    is_deeply(\%count, { a => 30, c => 10 }, 'requests go by the new weights');
    my $left = $backend->seen('b')->{accepted};
    ok($backend->wait_for('c', $backend->count('c') + 10), 'ten checks of c');
    is($backend->seen('b')->{accepted}, $left, 'and none of b');

    $backend->checks('b', 'hang');
    ok($nginx->reload(http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=30s;')),
        'b is there again');
    is_deeply([known($nginx, 'up')], ['a ok 0', 'b unchecked'], 'as a new server');
    ends_well($nginx);
};

subtest 'another check of the same servers' => sub {
    servers(a => '503', b => '200');
    my $nginx = NginxRunner->new(
        http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=30s uri=/one;'),
    )->start;
    ok($nginx->wait_for_states(up => 'err ok'), 'a is down');
    # Its last old check is under way from now on; the next two pass.
    $backend->checks('a', 'hang');
    ok(wait_until(5, sub { $backend->seen('a')->{open} == 1 }), 'a check hangs');
    my $count = $backend->count('a');
    $backend->checks('a', ('hang') x $count, '200', '200', 'hang');
    ok($nginx->reload(http => upstream(up => 'server @a; server @b;
        checkups_check http interval=20ms timeout=30s passes=3 uri=/two;')), 'the reload is done');
    ok($backend->wait_for('a', $count + 3), 'two checks pass');
    is_deeply([@{ $backend->seen('a')->{targets} }[$count .. $count + 2]], [('GET /two HTTP/1.1') x 3], 'they are new ones');
    is($nginx->states('up'), 'err ok', 'the new threshold counts');
    $backend->checks('a', ('hang') x ($count + 3), '200', 'hang');
    ok($nginx->reload, 'another reload');
    ok($backend->wait_for('a', $count + 5), 'a third check passes');
    is($nginx->states('up'), 'ok ok', 'three are enough');
    my @old = grep { m{/one} } @{ $backend->seen('b')->{targets} };
    ok($backend->wait_for('b', $backend->count('b') + 5), 'b is checked');
    is(scalar(grep { m{/one} } @{ $backend->seen('b')->{targets} }), scalar @old, 'and nobody asks the old check');
    ends_well($nginx);
};

# nginx stops the old workers a tenth of a second after it has started the new ones.
# What they find meanwhile is about a configuration that is in use no more.
subtest 'the old check has no say any more' => sub {
    servers(a => '200', b => '200', c => '503');
    my ($bad_port) = $address{c} =~ /:(\d+)/;
    my $config = sub { upstream(up => "server \@a; server \@b backup; checkups_check http interval=10ms $_[0];") };
    my $nginx = NginxRunner->new(workers => 2, http => $config->("port=$bad_port"))->start;
    ok($nginx->wait_for_states(up => 'unstable unstable'), 'all fail by a wrong port');
    my $from = length $nginx->log;
    ok($nginx->reload(http => $config->('')), 'the port is put right');
    ok($nginx->wait_for_states(up => 'ok ok'), 'all pass');
    my @lines = map { /^cluster "up", server "(.*?)": from \w+ to (.*)/ ? "$1 $2" : () } $nginx->notices($from);
    is_deeply([sort @lines], [sort map { "$address{$_} ok: check passed" } 'a', 'b'], 'once and for all');
    ends_well($nginx);
};

subtest 'the last server that works is removed, and another one is added' => sub {
    servers(a => '503 hang', b => '200', c => 'hang');
    my $config = sub { upstream(up => "$_[0] $slow_check") };
    my $nginx = NginxRunner->new(http => $config->('server @a; server @b;'), server => $get)->start;
    ok($nginx->wait_for_states(up => 'err ok'), 'a is down');
    my ($changed) = map { $_->{lastmodified} } $nginx->servers('up');
    next_second();
    ok($nginx->reload(http => $config->('server @a;')), 'b is removed');
    is_deeply([known($nginx, 'up')], ['a unstable 1 status 503'], 'a is all there is');
    is_deeply([$nginx->bodies('/get', 2)], ['a', 'a'], 'and in use');
    ok($nginx->reload(http => $config->('server @c; server @a backup;')), 'c is added, a is the backup');
    is_deeply([known($nginx, 'up')], ['c unchecked', 'a err 1 status 503'], 'a is down again');
    is_deeply([map { $_->{lastmodified} } ($nginx->servers('up'))[1]], [$changed], 'since the same time');
    is_deeply([$nginx->bodies('/get', 2)], ['c', 'c'], 'and out of use');
    ends_well($nginx);
};

# An old worker each, with a request that goes on.
subtest 'workers of several configurations' => sub {
    servers(a => '200 hang | wait:200', b => '503 hang');
    my $config = sub { upstream(up => "server \@a weight=$_[0]; server \@b; $slow_check") . upstream("own-$_[0]" => 'server @a;') };
    my $nginx = NginxRunner->new(workers => 2, http => 'checkups_zone checkups:64k; ' . $config->(1),
        server => "$get location /own { proxy_pass http://own-1; }")->start;
    ok($backend->wait_for('a', 2) && $backend->wait_for('b', 2), 'the checks have come');
    my @clients;
    for my $weight (2 .. 6) {
        push @clients, map { $nginx->send_request($_) } '/get', '/own';
        ok(wait_until(5, sub { @{ $backend->seen('a')->{requests} } == @clients }), 'requests are under way');
        ok($nginx->reload(drain => 1, http => 'checkups_zone checkups:64k; ' . $config->($weight),
            server => "$get location /own { proxy_pass http://own-$weight; }"), 'a reload');
        is($nginx->states('up'), 'ok err', 'the states');
    }
    $backend->release('a');
    is(join(' ', map { $nginx->answer($_)->{code} } @clients), join(' ', (200) x @clients), 'all are answered');
    ok(wait_until(5, sub { $nginx->workers == 2 }), 'the old workers are gone');
    is_deeply([grep { /no slot/ } $nginx->notices], [], 'each worker found its slot');
    wait_until(3, sub { 2 == grep { /^cls:/ } keys %{ $nginx->status } });
    is_deeply([sort grep { /^cls:/ } keys %{ $nginx->status }], ['cls:own-6', 'cls:up'], 'so are their clusters');
    ends_well($nginx);
};

subtest 'a server that is marked as down, and no longer' => sub {
    servers(a => '503', b => '200');
    my $config = sub { upstream(up => "server \@a $_[0]; server \@b; checkups_check http interval=20ms;") };
    my $nginx = NginxRunner->new(http => $config->(''), server => $get)->start;
    ok($nginx->wait_for_states(up => 'err ok'), 'a has failed');
    ok($nginx->reload(http => $config->('down')), 'a is marked');
    is_deeply([known($nginx, 'up')], ['a unchecked', 'b ok 0'], 'it is not checked');
    $backend->checks('a', 'hang');
    my $left = $backend->seen('a')->{accepted};
    ok($backend->wait_for('b', $backend->count('b') + 5), 'b is checked');
    is($backend->seen('a')->{accepted}, $left, 'nobody connects to a');
    ok($nginx->reload(http => $config->('')), 'a is in use again');
    is_deeply([sort map { $nginx->bodies('/get', 1) } 1, 2], ['a', 'b'], 'at once, as a new server');
    ends_well($nginx);
};

subtest 'a check that is removed takes its verdicts along' => sub {
    servers(a => '503', b => '200');
    my $with = upstream(up => 'server @a; server @b; checkups_check http interval=20ms;');
    my $nginx = NginxRunner->new(http => $with, server => $get)->start;
    ok($nginx->wait_for_states(up => 'err ok'), 'a is down');
    ok($nginx->reload(http => upstream(up => 'server @a; server @b;')), 'the check is removed');
    is_deeply([known($nginx, 'up')], ['a unchecked', 'b unchecked'], 'nothing is known');
    is_deeply([sort map { $nginx->bodies('/get', 1) } 1 .. 4], ['a', 'a', 'b', 'b'], 'a is used');
    my $left = $backend->seen('b')->{accepted};
    $backend->checks('a', 'hang');
    ok($nginx->reload(http => $with), 'the check is there again');
    is((known($nginx, 'up'))[0], 'a unchecked', 'what it said before is forgotten');
    ok($backend->wait_for('b', $left - 4 + 1), 'and b is checked');
    ends_well($nginx);
};

subtest 'clusters come and go' => sub {
    servers(a => '200', b => '503', slow => '200 | wait:200');
    my $one = upstream(up => "server \@a; $slow_check");
    my $nginx = NginxRunner->new(workers => 2, http => $one . upstream(old => "server \@slow; $slow_check"),
        server => "$get location /old { proxy_pass http://old; }")->start;
    ok($nginx->wait_for_states(old => 'ok'), 'there are two clusters');
    my $client = $nginx->send_request('/old');
    ok(wait_until(5, sub { @{ $backend->seen('slow')->{requests} } == 1 }), 'a request to one is under way');

    ok($nginx->reload(drain => 1, http => $one . upstream(new => "server \@b; $slow_check"), server => $get),
        'it is removed, another one is new');
    ok($nginx->wait_for_states(new => 'unstable'), 'the new one is in the status');
    ok(wait_until(3, sub { $nginx->workers == 3 }), 'the worker with the request is still there');
    ok($nginx->status->{'cls:old'}, 'the removed one still is, while a worker knows it');
    is($nginx->get('/api/clusters/old')->{code}, 404, 'but not among the clusters');
    is($nginx->get('/api/clusters/new')->{code}, 200, 'where the new one is');
    my $left = $backend->count('slow');
    ok($backend->wait_for('b', $backend->count('b') + 5), 'the new one is checked');
    is($backend->count('slow'), $left, 'the removed one is not');

    ok($nginx->reload(drain => 1), 'reloads go on meanwhile') for 1 .. 2;
    $backend->release('slow');
    my $answer = $nginx->answer($client);
    is("$answer->{code} $answer->{body}", "200 slow\n", 'the request has got its answer');
    ok(wait_until(5, sub { $nginx->workers == 2 }), 'the old worker is gone');
    ok(wait_until(3, sub { !$nginx->status->{'cls:old'} }), 'and the cluster with it');

    ok($nginx->reload(http => $one . upstream(old => "server \@slow; $slow_check")), 'the name is used again');
    ok($nginx->wait_for_states(old => 'ok'), 'the cluster is checked');
    ends_well($nginx);
};

# What a configuration does that nginx refuses: before it has touched the zone,
# after that, and when it binds its sockets.
subtest 'a configuration that is refused changes nothing' => sub {
    servers(a => '503', b => '200', c => '200');
    my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 1) or die "listen: $@\n";
    my $good = upstream(up => 'server @a; server @b weight=2 fail_timeout=1h; checkups_check http interval=20ms;')
        . upstream(other => 'server @b;');
    my $nginx = NginxRunner->new(workers => 2, http => "checkups_zone checkups:64k; $good", server => $get)->start;
    ok($nginx->wait_for_states(up => 'err ok'), 'a is down');
    my $before = $nginx->status;
    my @workers = sort { $a <=> $b } $nginx->workers;

    my $changed = upstream(up => 'server @a weight=7; server @c; checkups_check http interval=20ms uri=/new;')
        . upstream(new => 'server @c; checkups_check http interval=20ms uri=/new;');
    my @many = map { "server 127.0.0.1:$_;" } 1 .. 2000;
    my @refused = (
        ['a bad parameter', $changed . upstream(bad => 'server @a; checkups_check http interval=1ms;'), '',
            qr/\[emerg\].*"checkups_check".*"interval=1ms".*10ms.* in .*nginx\.conf:\d+/],
        ['an unknown directive', "$changed nonsense;", '', qr/\[emerg\].*unknown directive "nonsense"/],
        ['more than the zone holds', $changed . upstream(many => "@many"), '',
            qr/\[emerg\].*zone "checkups" of 65536 bytes: the zone is full while storing cluster "many" with its 2000 servers/],
        ['a port that is taken', $changed, 'listen 127.0.0.1:' . $taken->sockport . ';', qr/\[emerg\].*still could not bind/],
    );
    for my $case (@refused, @refused[2, 0]) {
        my ($name, $http, $server, $message) = @$case;
        my $checks = $backend->count('c');
        my $log = $nginx->failed_reload(http => "checkups_zone checkups:64k; $http", server => "$get $server");
        like($log, $message, "$name: nginx says so");
        is_deeply([sort { $a <=> $b } $nginx->workers], \@workers, '... the workers are the same');
        my $after = $nginx->status;
        for my $status ($before, $after) {      # checks of a go on
            delete $status->{'cls:up'}[0][0]{fail_num};
            delete $status->{last_check_time};
        }
        is_deeply($after, $before, '... and what they know');
        is_deeply([$nginx->bodies('/get', 3)], ['b', 'b', 'b'], '... and what they use');
        is($backend->count('c'), $checks, '... and what they check');
    }

    ok($nginx->reload(http => "checkups_zone checkups:64k; $changed"), 'the next good one is taken');
    is_deeply([map { $_->{weight} } $nginx->servers('up')], [7, 1], 'with what it says');
    is($nginx->states('up') =~ s/ .*//r, 'err', 'a is still down');
    ok(wait_until(3, sub { !$nginx->status->{'cls:other'} }), 'what it lacks is gone');
    ok($nginx->wait_for_states(new => 'ok'), 'what it adds is there');
    my @zones = grep { defined } map { /zone "checkups" of (\d+) bytes/ ? $1 : undef } split /\n/, $nginx->log;
    is_deeply(\@zones, [65536, 65536], 'the zone was full for nobody else');
    ends_well($nginx, qr/\[emerg\]/);
};

subtest 'another size of the zone' => sub {
    servers(a => '503 503 hang', b => '200 hang', c => '| close 200', d => '');
    my $http = upstream(up => "server \@a; server \@b; $slow_check")
        . upstream(passive => 'server @c fail_timeout=1h; server @d weight=2;')
        . upstream(order => 'server @b weight=2; server @d;');
    my $nginx = NginxRunner->new(workers => 2, http => "checkups_zone checkups:64k; $http",
        server => "$get location /passive { proxy_pass http://passive; } location /order { proxy_pass http://order; }")->start;
    ok($backend->wait_for('a', 3) && $backend->wait_for('b', 2), 'the checks have come');
    is_deeply([$nginx->bodies('/passive', 3)], ['d', 'd', 'd'], 'c failed a request');
    my $order = join '', $nginx->bodies('/order', 2);
    my $before = $nginx->status;
    next_second();
    for my $size ('256k', '1m', '64k') {
        my $count = $backend->count('a');
        ok($nginx->reload(http => "checkups_zone checkups:$size; $http"), "now it has $size");
        my $after = $nginx->status;
        is_deeply($after->{$_}, $before->{$_}, "... $_ is the same") for 'cls:up', 'cls:passive';
        is_deeply([$nginx->bodies('/get', 2)], ['b', 'b'], '... a is out of use');
        is_deeply([$nginx->bodies('/passive', 3)], ['d', 'd', 'd'], '... c is');
        $order .= join '', $nginx->bodies('/order', 2);
        ok($backend->wait_for('a', $count + 1), '... the checks go on');
    }
    is($order, 'bdbbdbbd', 'the rotation went on');
    my $log = $nginx->failed_reload(http => "checkups_zone checkups:32k; $http" . upstream(many => join ' ', map { "server 127.0.0.1:$_;" } 1 .. 500));
    like($log, qr/zone "checkups" of 32768 bytes: the zone is full/, 'a size that is too small is refused');
    is_deeply($nginx->status->{'cls:up'}, $before->{'cls:up'}, '... and all is as it was');
    is_deeply([$nginx->bodies('/get', 2)], ['b', 'b'], '... and a is out of use');
    ends_well($nginx, qr/the zone is full/);
};

subtest 'the number of workers' => sub {
    servers(a => '200');
    my $nginx = NginxRunner->new(workers => 1, http => upstream(up => 'server @a; checkups_check http interval=50ms;'))->start;
    for my $count (3, 2, 4, 1) {
        ok($nginx->reload(workers => $count), "now there are $count");
        my %all = map { ("worker-$_" => 'alive') } 0 .. $count - 1;
        ok(wait_until(2, sub { join(' ', %all) && eq_hash($nginx->status->{config_timer}, \%all) }), '... all alive')
            or diag(explain($nginx->status->{config_timer}));
        is($nginx->status->{checkup_timer_alive}, JSON::PP::true(), '... and checks are made');
    }
    is_deeply([grep { /no slot/ } $nginx->notices], [], 'each found its slot');
    ends_well($nginx);
};

# The next reload comes before the worker of the first has got so far that it uses
# the zone: that one is stopped while it starts its threads. The worker from before
# is there as well, with a request.
subtest 'a worker that is slow to start' => sub {
    my $threads = 1000;
    plan skip_all => 'this nginx has no threads' if qx($ENV{TEST_NGINX_BINARY} -V 2>&1) !~ /--with-threads/;
    servers(a => '| wait:200');
    my $nginx = NginxRunner->new(main => "thread_pool many threads=$threads;", http => upstream(up => 'server @a;'),
        server => $get)->start;
    my ($old) = $nginx->workers;
    my $client = $nginx->send_request('/get');
    ok(wait_until(5, sub { @{ $backend->seen('a')->{requests} } == 1 }), 'a request is under way');

    my ($late) = first_after_a_reload($nginx);
    kill STOP => $late;
    my $started = sub { return NginxRunner::slurp("/proc/$late/status") =~ /^Threads:\s+(\d+)/m ? $1 - 1 : 0 };
    cmp_ok($started->(), '<', $threads, 'the new worker has not started all of its threads');
    my ($next) = first_after_a_reload($nginx);
    ok(wait_until(20, sub { grep { $_ == $next } $nginx->workers }), 'the next one has started');
    is_deeply([sort { $a <=> $b } children($nginx)], [sort { $a <=> $b } $old, $late, $next], 'all three are there');
    kill CONT => $late;
    ok(wait_until(30, sub { !is_running($late) }), 'the late one starts, and ends');

    $backend->release('a');
    is($nginx->answer($client)->{code}, 200, 'the request has got its answer');
    ends_well($nginx);
};

# A third of the zone is in use, so that what a reload leaves behind would fill it
# soon: a generation, its servers, a cluster.
subtest 'reloads leave nothing behind' => sub {
    servers(a => '200', b => '503');
    my $config = sub {
        my $number = shift;
        my @own = map { 'server 127.0.0.1:' . (1 + $number % 5 * 3 + $_) . ' down;' } 1 .. 3;
        return 'checkups_zone checkups:32k; '
            . upstream(up => "server \@a weight=" . (1 + $number) . "; server \@b; @own checkups_check http interval=20ms;")
            . upstream("cluster-$number" => 'server @a; server @b backup;');
    };
    my $nginx = NginxRunner->new(http => $config->(0), server => $get)->start;
    ok($nginx->wait_for_states(up => 'ok err' . ' unchecked' x 3), 'b is down');
    my @wrong;
    for my $number (1 .. 20) {
        $nginx->failed_reload(http => $config->(100 + $number) . upstream(many => join ' ', map { "server 127.0.0.1:$_;" } 1 .. 500))
            if $number % 5 == 0;
        push @wrong, "reload $number: not done" if !$nginx->reload(http => $config->($number));
        push @wrong, "reload $number: " . $nginx->states('up') if $nginx->states('up') !~ /^ok err/;
        push @wrong, "reload $number: weight" if ($nginx->servers('up'))[0]{weight} != 1 + $number;
        push @wrong, "reload $number: " . join ' ', $nginx->bodies('/get', 1) if join('', $nginx->bodies('/get', 2)) ne 'aa';
    }
    is_deeply(\@wrong, [], 'twenty reloads in a zone of 32k');
    ok(wait_until(3, sub { 2 == grep { /^cls:/ } keys %{ $nginx->status } }), 'the clusters of those before are gone')
        or diag(explain([sort keys %{ $nginx->status }]));
    is_deeply([$nginx->notices =~ /slot/], [], 'slots are used again');
    ends_well($nginx, qr/zone "checkups" of 32768 bytes: the zone is full while storing cluster "many"/);
};

# New connections, one request each, one after another, from two clients.
subtest 'no request fails' => sub {
    servers(map { $_ => '200' } 'a', 'b', 'c');
    my @configs = map { upstream(up => "$_ checkups_check http interval=20ms;") }
        'server @a; server @b; server @c;', 'server @a weight=5; server @c;', 'server @b; server @c backup;',
        'server @c down; server @b; server @a;';
    my $nginx = NginxRunner->new(workers => 2, http => $configs[0], server => $get)->start;
    my $clients = $nginx->clients(2, '/get', qr/\A[abc]\n\z/);
    my $done = grep { $nginx->reload(http => $configs[$_ % 4]) } 1 .. 10;
    is($done, 10, 'ten reloads are done');
    for my $client ($clients->()) {
        my ($made, $failed) = @$client;
        cmp_ok($made, '>', 100, "there were requests: $made");
        is_deeply($failed, [], 'none of them failed');
    }
    ends_well($nginx);
};

done_testing();
