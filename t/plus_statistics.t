# The API of NGINX Plus: what is counted of the servers of an upstream, against what they
# really got and sent, and for how long they were really away.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use CountedServers;
use JSON::PP ();
use NginxRunner;
use PlayedServers ();
use PlusFigures;
use StockWorkers ();
use Test::More;

counted_servers(qw(a b));
my ($a, $b) = map { server_at($_) } qw(a b);
my $dead = '127.0.0.1:' . NginxRunner::free_port();

sub nginx { return figures_nginx(@_) }

# The statuses of requests over connections to each of the workers: so many to each.
sub over_workers {
    my ($nginx, @do) = @_;
    my @workers = StockWorkers::workers_of($nginx);
    my %seen;
    for my $socket (@workers) {
        for my $do (@do) { $seen{ (StockWorkers::ask($socket, '/', "X-Do: $do"))[0] }++ }
    }
    # The worker is done with a request when it has answered the next one.
    StockWorkers::ask($_, '/pid') for @workers;
    return join ' ', map { "$_=$seen{$_}" } sort keys %seen;
}

subtest 'statuses, over 4 workers' => sub {
    my $nginx = nginx("server $a;", workers => 4)->start;
    is(counted($nginx, 'a'), 'requests=0 total=0', 'nothing yet');
    is(over_workers($nginx, ('a=200') x 5, ('a=404') x 3, 'a=302', ('a=500') x 2, 'a=201'), '200=20 201=4 302=4 404=12 500=8', 'a known mix');
    is(counted($nginx, 'a'), 'requests=48 total=48 2xx=24 3xx=4 4xx=12 5xx=8 200=20 201=4 302=4 404=12 500=8', 'is counted');
    is(counted($nginx, 'a'), counted($nginx, 'a'), 'the same in all workers') for 1 .. 8;
    ends_well($nginx);
};

subtest 'more statuses than are counted one by one' => sub {
    my $nginx = nginx("server $a;", workers => 4)->start;
    my @first = (200, 201, 301, 404, 410, 500, 502, 503);
    is(asked($nginx, '/', map { "a=$_" } @first), "@first", 'eight');
    my $eight = '200=1 201=1 301=1 404=1 410=1 500=1 502=1 503=1';
    is(counted($nginx, 'a'), "requests=8 total=8 2xx=2 3xx=1 4xx=2 5xx=3 $eight", 'all are there');
    is(asked($nginx, '/', 'a=418', 'a=504', 'a=202', 'a=418'), '418 504 202 418', 'three more');
    is(counted($nginx, 'a'), "requests=12 total=12 2xx=3 3xx=1 4xx=4 5xx=4 $eight other=4", 'the classes are right');
    is(over_workers($nginx, 'a=200', 'a=307', 'a=503', 'a=507'), '200=4 307=4 503=4 507=4', 'over all workers');
    is(counted($nginx, 'a'), 'requests=28 total=28 2xx=7 3xx=5 4xx=4 5xx=12 200=5 201=1 301=1 404=1 410=1 500=1 502=1 503=5 other=12', 'those that are there go on');
    ends_well($nginx);
};

subtest 'odd statuses' => sub {
    my $nginx = nginx("server $a;")->start;
    is(asked($nginx, '/', map { "a=$_" } 299, 399, 499, 599, 600, 999, 999), '299 399 499 599 600 999 999', 'nginx passes them on');
    is(counted($nginx, 'a'), 'requests=7 total=7 2xx=1 3xx=1 4xx=1 5xx=1 299=1 399=1 499=1 599=1 600=1 999=2', 'they are there, those from 600 on in no class');
    ends_well($nginx);
};

subtest 'bytes' => sub {
    my $nginx = nginx("server $a;", server => 'location /off { proxy_pass http://up; proxy_buffering off; }')->start;
    my $same = sub {
        my $what = shift;
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        is(bytes($nginx, 'a'), traffic('a'), "$what: the bytes are those of the server");
    };
    for my $path ('/', '/off') {
        for my $case (['GET'], ['HEAD'], ['POST', 'x' x 1000], ['POST', ''], ['PUT', 'y' x 3_000_000]) {
            my ($method, $body) = @$case;
            for my $do ('200', '204', '304', '404:70000', '200:3000000', '200:0') {
                my ($code, $got) = finish(begin($nginx, $path, method => $method, body => $body, do => "a=$do"));
                is($code, substr($do, 0, 3), "$method $path $do: the status");
                my $length = $method eq 'HEAD' || $do =~ /\A(?:204|304)/ ? 0 : $do =~ /:(\d+)/ ? $1 : 1;
                is(length $got, $length, 'the body');
                $same->("$method $path $do");
            }
        }
    }
    like(bytes($nginx, 'a'), qr/\Asent \d{8} received \d{8}\z/, 'it was a lot');
    ends_well($nginx);
};

done_testing();
