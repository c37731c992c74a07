package StockMethods;

# What holds of each balancing method of nginx, for t/stock.t and t/stock_zone.t.

use strict;
use warnings;

use Exporter 'import';
use NginxRunner;
use PlayedServers;
use StockWorkers;
use Test::More;

our @EXPORT = qw(each_method);

# Name, directive, and the first version with it.
my @methods = (
    ['round robin', ''],
    ['least_conn', 'least_conn;'],
    ['hash', 'hash $arg_k;'],
    ['hash consistent', 'hash $arg_k consistent;'],
    ['ip_hash', 'ip_hash;'],
    ['random', 'random;'],
    ['random two', 'random two least_conn;'],
    ['sticky', 'sticky cookie srv;', 1_029_006],
    ['least_time', 'least_time header;', 1_031_000],
);

my $check = 'checkups_check http interval=20ms timeout=5s;';

sub each_method {
    my $zone = shift;
    my $version = version_of();
    for my $method (@methods) {
        my ($name, $directive, $since) = @$method;
        subtest $name => sub {
            plan skip_all => "$name came later" if $version < ($since // 0);
            out_and_back("$directive $zone");
        };
    }
    return;
}

sub out_and_back {
    my $method = shift;
    my @names = ('a', 'b', 'c');
    servers(map { $_ => '200' } @names);
    my $nginx = stock(http => block(up => "$method server \@a; server \@b; server \@c; $check"));
    my @workers = workers_of($nginx);
    settled($nginx, map { $_ => 'ok' } @names);
    is_deeply([sort keys %{ { asked(\@workers, 40) } }], \@names, 'all servers get requests');

    backend->checks(a => '503');
    settled($nginx, a => 'err', b => 'ok', c => 'ok');
    my @before = map { counted($_) } @names;
    my %seen = asked(\@workers, 40);
    is_deeply([sort keys %seen], ['b', 'c'], 'one that fails its check gets none, in no worker');
    is($seen{b} + $seen{c}, 160, 'no request was lost');
    is(counted('a'), $before[0], 'and none was tried there');

    backend->checks(a => '200');
    settled($nginx, map { $_ => 'ok' } @names);
    for my $worker (@workers) {
        my %own = asked([$worker], 40);
        is_deeply([sort keys %own], \@names, 'it gets its share again');
    }

    backend->checks($_ => '503') for @names;
    settled($nginx, map { $_ => 'unstable' } @names);
    is_deeply([sort keys %{ { asked(\@workers, 40) } }], \@names, 'where all fail all stay in use');

    backend->checks(b => '200');
    settled($nginx, a => 'err', b => 'ok', c => 'err');
    is_deeply({ asked(\@workers, 20) }, { b => 80 }, 'one is left');
    ends_well($nginx);
    return;
}

# How many requests have come to a server.
sub counted { return scalar @{ backend->seen($_[0])->{requests} } }

1;
