# Upstreams that nginx balances, whose servers come and go as names are resolved:
# backups, reloads, mandatory checks, checkups_server, and a full zone.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use Resolving;
use StockWorkers;
use Test::More;

need_resolve();

my ($names, $port) = (name_server(), port_of_all());
my $line = "server up.test:$port resolve;";
my $check = 'checkups_check http uri=/check interval=20ms;';

subtest 'beside servers of the configuration, and backups' => sub {
    $names->set('up.test', '127.0.0.3');
    my $nginx = resolving("zone up 64k; server 127.0.0.2:$port; server up.test:$port resolve backup; $check");
    becomes($nginx, '2 ok, 3 ok');
    my @workers = workers_of($nginx);
    is(which(asked(\@workers, 4)), '2', 'the backup is not used');
    fails($nginx, 2 => 1);
    becomes($nginx, '2 err, 3 ok');
    is(which(asked(\@workers, 4)), '3', 'it is where the other fails');
    $names->set('up.test', '127.0.0.4');
    becomes($nginx, '2 err, 4 ok');
    is(which(asked(\@workers, 4)), '4', 'another one');
    is(scalar @{ $nginx->status->{'cls:up'} }, 2, 'the levels');
    $names->set('up.test');
    becomes($nginx, '2 unstable');
    is(which(asked(\@workers, 4)), '2', 'without a backup the one that fails is used');
    ends_well($nginx);
};

# What has another priority than the best one is a backup server.
subtest 'by SRV records' => sub {
    $names->set("n$_.test", "127.0.0.$_") for 2 .. 4;
    $names->set('_http._tcp.up.test', "SRV 1 5 $port n2.test", "SRV 1 1 $port n3.test", "SRV 2 1 $port n4.test");
    my $nginx = resolving("zone up 64k; server up.test resolve service=http; $check");
    becomes($nginx, '2 ok, 3 ok, 4 ok');
    my @workers = workers_of($nginx);
    my %seen = asked(\@workers, 12);
    is_deeply(\%seen, { 2 => 40, 3 => 8 }, 'by their weights, and not the backup');
    is_deeply([map { scalar @$_ } @{ $nginx->status->{'cls:up'} }], [2, 1], 'the levels');
    fails($nginx, 2 => 1, 3 => 1);
    becomes($nginx, '2 err, 3 err, 4 ok');
    is(which(asked(\@workers, 4)), '4', 'the backup');
    $names->set('_http._tcp.up.test', "SRV 1 5 $port n4.test");
    becomes($nginx, '4 ok');
    is(which(asked(\@workers, 4)), '4', 'which is the only one then');
    ends_well($nginx);
};

subtest 'a reload keeps what is known' => sub {
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    my $nginx = resolving("zone up 64k; $line $check");
    fails($nginx, 2 => 1);
    becomes($nginx, '2 err, 3 ok');
    # The next checks come too late to be of help.
    $nginx->reload(http => $nginx->{servers} . "upstream up { zone up 64k; $line checkups_check http uri=/check interval=1h; }");
    is(which(asked([workers_of($nginx)], 10)), '3', 'what has failed is out of use');
    is(known_now($nginx), '2 err, 3 ok', 'the status');
    ends_well($nginx);
};

subtest 'mandatory' => sub {
    $names->set('up.test', '127.0.0.2');
    my $nginx = resolving("zone up 64k; $line checkups_check http uri=/check interval=20ms mandatory;");
    becomes($nginx, '2 ok');
    my @workers = workers_of($nginx);
    fails($nginx, 3 => 1);
    my $enough = $nginx->clients(4, '/get', qr/^2$/m);
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    ok(wait_until(10, sub { known_now($nginx) eq '2 ok, 3 err' }), 'another server came, and fails') or diag(known_now($nginx));
    my @failed = map { @{ $_->[1] } } $enough->();
    is_deeply([grep { $_ ne '502' } @failed], [], 'it got no request before');
    fails($nginx, 3 => 0);
    becomes($nginx, '2 ok, 3 ok');
    is(which(asked(\@workers, 10)), '2 3', 'it is used when it has passed');
    ends_well($nginx);
};

subtest 'checkups_server, and the API' => sub {
    $names->set('up.test', '127.0.0.2');
    my $nginx = resolving("zone up 64k; server up.test:$port resolve weight=3 max_fails=2; $check checkups_server up.test:$port check=off;");
    ok(wait_until(10, sub { $nginx->servers('up') }), 'the server is there');
    fails($nginx, 2 => 1);
    is(which(asked([workers_of($nginx)], 4)), '2', 'it is used');
    is(known_now($nginx), '2 unchecked', 'and not checked');
    like($nginx->get('/api/clusters/up')->{body}, qr/"servers":\[\{"server":"127\.0\.0\.2:$port","weight":3,"max_fails":2,/,
        'clusters/ shows what nginx has found');
    ends_well($nginx);
};

subtest 'a full zone' => sub {
    $names->set('up.test', '127.0.0.2');
    my $nginx = resolving("zone up 1m; $line $check");
    becomes($nginx, '2 ok');
    $nginx->reload(http => 'checkups_zone checkups:32k;' . $nginx->{http});
    # More than fit: none of them is lost.
    $names->set('up.test', map { "127.0.0.$_" } 2 .. 6, 10 .. 80);
    ok(wait_until(10, sub { $nginx->log =~ /cluster "up": the zone is full, servers that nginx has found are not checked/ }), 'the log says so');
    $names->set('up.test', '127.0.0.2', '127.0.0.3');
    becomes($nginx, '2 ok, 3 ok');
    ends_well($nginx);
};

done_testing();
