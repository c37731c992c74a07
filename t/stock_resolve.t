# Upstreams that nginx balances, whose servers come and go as names are resolved.
#
# The servers are addresses 127.0.0.N of the same nginx, all with one port. A file
# says which of them fails its check.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NameServer;
use NginxRunner;
use PlayedServers;
use StockWorkers;
use Test::More;

plan skip_all => 'resolve came with nginx 1.27.3' if version_of() < 1_027_003;

my $names = NameServer->start;
my $port = NginxRunner::free_port();

sub start {
    my ($text, %more) = @_;
    my $nginx = NginxRunner->new(workers => 4, %more);
    my $root = $nginx->root;
    my $servers = join '', map { <<"END" } 2 .. 6;
        server {
            listen 127.0.0.$_:$port;
            location / { return 200 "$_\\n"; }
            location /check { if (-f $root/fails_$_) { return 503; } return 200; }
        }
END
    $nginx->{servers} = "resolver 127.0.0.1:" . $names->port . " valid=1s ipv6=off; resolver_timeout 1s; $servers";
    $nginx->{http} = $nginx->{servers} . "upstream up { $text }";
    $nginx->{server} = locations();
    return $nginx->start;
}

sub fails {
    my ($nginx, %fails) = @_;
    for my $number (sort keys %fails) {
        my $file = $nginx->root . "/fails_$number";
        if ($fails{$number}) { open my $out, '>', $file or die "$file: $!" }
        elsif (-f $file) { unlink $file or die "$file: $!" }
    }
    return;
}

sub which { return join ' ', sort keys %{ { @_ } } }

# The servers of the status: 2 => 'ok', in the order of their numbers: "2 ok, 3 err".
sub known_now {
    my $nginx = shift;
    my %known = map { $_->{server} =~ /127\.0\.0\.(\d+):/ ? ($1 => $_->{status}) : () } $nginx->servers('up');
    return join ', ', map { "$_ $known{$_}" } sort keys %known;
}

sub becomes {
    my ($nginx, $expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $known;
    return ok(wait_until(10, sub { ($known = known_now($nginx)) eq $expected }), "the status is: $expected")
        || diag("it is: $known");
}

my $line = "server up.test:$port resolve;";
my $check = 'checkups_check http uri=/check interval=20ms;';

for my $method ('', 'hash $arg_k consistent;', 'ip_hash;', 'random two;') {
    subtest $method || 'round robin' => sub {
        $names->set('up.test', map { "127.0.0.$_" } 2, 3, 4);
        my $nginx = start("$method zone up 64k; $line $check");
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
    my $nginx = start("zone up 64k; $line $check");
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

subtest 'beside servers of the configuration, and backups' => sub {
    $names->set('up.test', '127.0.0.3');
    my $nginx = start("zone up 64k; server 127.0.0.2:$port; server up.test:$port resolve backup; $check");
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

subtest 'a reload keeps what is known' => sub {
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    my $nginx = start("zone up 64k; $line $check");
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
    my $nginx = start("zone up 64k; $line checkups_check http uri=/check interval=20ms mandatory;");
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
    my $nginx = start("zone up 64k; server up.test:$port resolve weight=3 max_fails=2; $check checkups_server up.test:$port check=off;");
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
    my $nginx = start("zone up 1m; $line $check");
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
