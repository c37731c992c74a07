# The API of NGINX Plus: what it tells of nginx itself.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET ();
use JSON::PP ();
use NginxRunner;
use Test::More;

my $json = JSON::PP->new;
my $moment = qr/\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\z/;

sub nginx {
    my %as = @_;
    my $http = delete $as{http} // '';
    my $nginx = NginxRunner->new(
        workers => 3,
        server  => 'location /plus/ { checkups_api; } location /stub { stub_status; } location / { return 200 a; }',
        %as,
    );
    $nginx->{http} = "checkups_zone plus:256k; upstream up { checkups_cluster; server 127.0.0.1:1; } $http";
    return $nginx->start;
}

sub told {
    my ($nginx, $path) = @_;
    return $json->decode($nginx->get("/plus/9/$path")->{body});
}

# What stub_status shows: accepted, handled, requests, active, reading, writing, waiting.
sub stub {
    my $body = $_[0]->get('/stub')->{body};
    my %shown;
    ($shown{active}) = $body =~ /Active connections: (\d+)/;
    @shown{qw(accepted handled requests)} = $body =~ /^ (\d+) (\d+) (\d+) $/m;
    @shown{qw(reading writing waiting)} = $body =~ /Reading: (\d+) Writing: (\d+) Waiting: (\d+)/;
    return \%shown;
}

sub ends_well {
    my ($nginx, $expected) = @_;
    ok($nginx->stop, 'nginx ends');
    is(join('', grep { !$expected || !/$expected/ } $nginx->bad_lines), '', 'nothing bad in the log');
    return;
}

subtest 'nginx' => sub {
    my $nginx = nginx();
    my $first = told($nginx, 'nginx');
    is(join(' ', sort keys %$first), 'address build generation load_timestamp pid ppid timestamp version', 'its members');
    my ($version) = `$ENV{TEST_NGINX_BINARY} -v 2>&1` =~ m{nginx/([\d.]+)};
    is($first->{version}, $version, 'the version');
    is($first->{address}, '127.0.0.1', 'the address');
    is($first->{generation}, 1, 'it was never reloaded');
    is($first->{ppid}, $nginx->pid, 'the master');
    ok((grep { $_ == $first->{pid} } $nginx->workers), 'one of the workers');
    like($first->{$_}, $moment, $_) for qw(load_timestamp timestamp);
    cmp_ok($first->{load_timestamp}, 'le', $first->{timestamp}, 'loaded before now');
    is(told($nginx, 'nginx')->{load_timestamp}, $first->{load_timestamp}, 'and only then');
    $nginx->reload;
    my $second = told($nginx, 'nginx');
    is($second->{generation}, 2, 'it was reloaded');
    cmp_ok($second->{load_timestamp}, 'gt', $first->{timestamp}, 'just now');
    ends_well($nginx);
};

subtest 'what is counted goes on in a zone of another size' => sub {
    my $nginx = nginx();
    kill KILL => ($nginx->workers)[0];
    ok(wait_until(10, sub { told($nginx, 'processes')->{respawned} == 1 }), 'a worker died');
    for my $load (2 .. 3) {
        my $size = 256 * $load;
        $nginx->reload(http => $nginx->{http} =~ s/plus:\d+k/plus:${size}k/r);
        is(told($nginx, 'nginx')->{generation}, $load, "load $load");
        is(told($nginx, 'processes')->{respawned}, 1, 'still one');
    }
    ends_well($nginx, 'exited on signal 9');
};

subtest 'workers and processes' => sub {
    my $nginx = nginx();
    my $pids = sub { return join ' ', sort { $a <=> $b } map { $_->{pid} } @{ told($nginx, 'workers') } };
    my $real = sub { return join ' ', sort { $a <=> $b } $nginx->workers };
    is($pids->(), $real->(), 'the workers');
    is(join(' ', map { $_->{id} } @{ told($nginx, 'workers/') }), '0 1 2', 'with their numbers');
    is_deeply(told($nginx, 'workers/1'), told($nginx, 'workers')->[1], 'one of them');
    is(told($nginx, 'workers/3')->{error}{code}, 'WorkerNotFound', 'none');
    is(told($nginx, 'processes')->{respawned}, 0, 'none has died');
    my ($victim) = map { $_->{pid} } grep { $_->{id} == 1 } @{ told($nginx, 'workers') };
    kill KILL => $victim;
    ok(wait_until(10, sub { told($nginx, 'processes')->{respawned} == 1 }), 'one was started in place of one that died');
    is($pids->(), $real->(), 'the workers are others');
    $nginx->reload;
    is(told($nginx, 'processes')->{respawned}, 1, 'those of a reload do not count');
    is($pids->(), $real->(), 'the workers of the new configuration');
    ends_well($nginx, 'exited on signal 9');
};

subtest 'connections and requests' => sub {
    my $nginx = nginx();
    my @idle = map { IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) // die "connect: $!" } 1 .. 4;
    for my $client (@idle) {
        syswrite $client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        sysread $client, my $answer, 4096;
    }
    ok(wait_until(10, sub { stub($nginx)->{waiting} == 4 }), 'four wait');
    my ($stub, $shown) = (stub($nginx), told($nginx, 'connections'));
    is_deeply($shown, { accepted => $stub->{accepted} + 1, dropped => 0, active => 1, idle => 4 }, 'connections')
        or diag(explain($stub));
    ($stub, $shown) = (stub($nginx), told($nginx, 'http/requests'));
    is_deeply($shown, { total => $stub->{requests} + 1, current => 1 }, 'requests') or diag(explain($stub));
    is_deeply(told($nginx, 'connections?fields=idle,x'), { idle => 4 }, 'some fields');
    close $_ for @idle;
    ends_well($nginx);
};

subtest 'shared zones' => sub {
    my $nginx = nginx(http => 'limit_req_zone $binary_remote_addr zone=limit:64k rate=1r/s;');
    my $slabs = told($nginx, 'slabs/');
    is(join(' ', sort keys %$slabs), 'limit plus', 'all zones of nginx');
    my ($page) = `getconf PAGESIZE` =~ /(\d+)/;
    for my $zone (['limit', 65536], ['plus', 262144]) {
        my ($name, $size) = @$zone;
        my $pages = $slabs->{$name}{pages};
        my $all = $pages->{used} + $pages->{free};
        ok($all <= $size / $page && $all >= $size / $page - 4, "$name: $all pages");
        is(join(' ', sort { $a <=> $b } keys %{ $slabs->{$name}{slots} }), join(' ', map { 2**$_ } 3 .. log($page) / log(2) - 1), 'the sizes of pieces');
    }
    my $slots = $slabs->{plus}{slots};
    # A server has a record, and what is counted of it.
    ok($slots->{256}{used} >= 1 && $slots->{512}{used} >= 1, 'pieces in use');
    is((grep { $_->{fails} } values %$slots) + 0, 0, 'there was always room');
    is_deeply(told($nginx, 'slabs/limit'), $slabs->{limit}, 'one of them');
    is(told($nginx, 'slabs/none')->{error}{code}, 'SlabNotFound', 'none');
    is_deeply(told($nginx, 'slabs?fields='), [qw(limit plus)], 'their names');
    my $free = $json->decode($nginx->get('/plus/status')->{body})->{zone}{free};
    is($slabs->{plus}{pages}{free} * $page, $free, 'as in the status');
    ends_well($nginx);
};

done_testing();
