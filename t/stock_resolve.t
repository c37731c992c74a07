# Upstreams that nginx balances, whose servers come and go as names are resolved: each
# balancer that can have them, and no request that is lost.

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

for my $method ('', 'hash $arg_k consistent;', 'ip_hash;', 'random two;') {
    subtest $method || 'round robin' => sub {
        $names->set('up.test', map { "127.0.0.$_" } 2, 3, 4);
        my $nginx = resolving("$method zone up 64k; $line $check");
        becomes($nginx, '2 ok, 3 ok, 4 ok');
        my @workers = workers_of($nginx);
        is(which(asked(\@workers, 30)), '2 3 4', 'all are used');
        fails($nginx, 3 => 1);
        becomes($nginx, '2 ok, 3 err, 4 ok');
        is(which(asked(\@workers, 30)), '2 4', 'not the one that fails');

        $names->set('up.test', map { "127.0.0.$_" } 3, 4, 5);
        fails($nginx, 5 => 1);
        becomes($nginx, '3 err, 4 ok, 5 err');
        is(which(asked(\@workers, 30)), '4', 'one that came is checked, one that went is not used');
        fails($nginx, 4 => 1);
        becomes($nginx, '3 unstable, 4 unstable, 5 unstable');
        is(which(asked(\@workers, 30)), '3 4 5', 'where all fail all stay in use');
        fails($nginx, 3 => 0, 4 => 0, 5 => 0);
        becomes($nginx, '3 ok, 4 ok, 5 ok');
        is(which(asked(\@workers, 30)), '3 4 5', 'all are used again');
        ends_well($nginx);
    };
}

subtest 'requests go on whatever comes and goes' => sub {
    $names->set('up.test', map { "127.0.0.$_" } 2, 3, 4);
    my $nginx = resolving("zone up 64k; $line $check");
    becomes($nginx, '2 ok, 3 ok, 4 ok');
    my $enough = $nginx->clients(4, '/get', qr/^[2-6]$/m);
    for my $round (0 .. 2) {
        fails($nginx, 2 => $round % 2, 3 => 1, 5 => ($round + 1) % 2);
        $names->set('up.test', map { "127.0.0.$_" } $round % 2 ? (2, 3, 4) : (3, 4, 5));
        ok(wait_until(10, sub { known_now($nginx) =~ ($round % 2 ? qr/^2 err, 3 err, 4 ok$/ : qr/^3 err, 4 ok, 5 err$/) }), "change $round")
            or diag(known_now($nginx));
    }
    # The last one that works goes: what fails is used, before that is known to worker 0.
    fails($nginx, 2 => 0, 3 => 1, 4 => 0, 5 => 0);
    for my $round (1 .. 2) {
        $names->set('up.test', map { "127.0.0.$_" } 3, 4);
        becomes($nginx, '3 err, 4 ok');
        $names->set('up.test', '127.0.0.3');
        becomes($nginx, '3 unstable');
    }
    my ($made, @failed) = (0);
    for my $client ($enough->()) {
        $made += $client->[0];
        push @failed, @{ $client->[1] };
    }
    cmp_ok($made, '>', 100, "$made requests were made");
    # A request that has begun while nginx changes its list has a 502 of nginx, also without checks.
    cmp_ok(scalar @failed, '<', 5, 'and answered') or diag("@failed[0 .. 4]");
    ends_well($nginx);
};

done_testing();
