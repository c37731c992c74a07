# The API of NGINX Plus: what is counted of upstreams that nginx balances, which are checked.
# They are counted when a request is over.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use CountedServers;
use IO::Socket::INET ();
use NginxRunner;
use PlusFigures;
use StockWorkers ();
use Test::More;

counted_servers(qw(a b));
my ($a, $b) = map { server_at($_) } qw(a b);
# A port that nobody else can take, and where nobody listens.
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp') or die "no port: $!";
my $dead = '127.0.0.1:' . $taken->sockport;

# A check by tcp sends nothing, and a dead server is not checked: requests fail on it.
my $check = 'checkups_check tcp interval=1h;';

# Requests over connections to each of the workers: the statuses, and how often each server was tried.
sub over_workers {
    my ($nginx, @do) = @_;
    my (%seen, %tried);
    my @workers = StockWorkers::workers_of($nginx);
    for my $socket (@workers) {
        for my $do (@do) {
            my ($code, undef, $head) = StockWorkers::ask($socket, '/', "X-Do: $do");
            $seen{$code}++;
            my ($addresses) = $head =~ /^X-Tried: (.*?)\r?$/m;
            $tried{$_}++ for split /, /, $addresses // '';
        }
    }
    # The worker is done with a request when it has answered the next one.
    StockWorkers::ask($_, '/pid') for @workers;
    return (join(' ', map { "$_=$seen{$_}" } sort keys %seen), \%tried);
}

# With these lines in the block, in front of the servers.
for my $lines ('', 'zone up 64k;', 'zone up 64k; least_conn;') {
    my $with = $lines || 'nothing more';
    my $stock = sub {
        my ($servers, %as) = @_;
        my $server = 'add_header X-Tried $upstream_addr always;' . (delete $as{server} // '');
        my $keepalive = delete $as{keepalive} // '';
        my $checks = $servers =~ /$dead/ ? "$check checkups_server $dead check=off;" : $check;
        return figures_nginx('', block => "upstream up { $lines server $servers; $keepalive $checks }\n", server => $server, %as);
    };

    subtest "statuses and bytes, $with" => sub {
        my $nginx = $stock->("$a", server => 'location /off { proxy_pass http://up; proxy_buffering off; }')->start;
        is(counted($nginx, 'a'), 'requests=0 total=0', 'nothing yet');
        is(members(peer($nginx, 'a'), qw(active selected header_time response_time downstart state)), 'active=0 (no selected) (no header_time) (no response_time) (no downstart) state=up', 'nor this');
        is((over_workers($nginx, ('a=200') x 5, ('a=404') x 3, 'a=302', 'a=500'))[0], '200=10 302=2 404=6 500=2', 'a known mix');
        is(counted($nginx, 'a'), 'requests=20 total=20 2xx=10 3xx=2 4xx=6 5xx=2 200=10 302=2 404=6 500=2', 'is counted') for 1 .. 4;
        is(bytes($nginx, 'a'), traffic('a'), 'the bytes are those of the server');
        for my $path ('/', '/off') {
            for my $do ('200', '204', '304', '404:70000', '200:3000000') {
                for my $method ('GET', 'HEAD', 'POST') {
                    my ($code) = finish(begin($nginx, $path, method => $method, do => "a=$do", $method eq 'POST' ? (body => 'x' x 300_000) : ()));
                    # nginx may wait for the client to close its side before the request is over.
                    becomes(sub { "$code " . bytes($nginx, 'a') }, substr($do, 0, 3) . ' ' . traffic('a'), "$method $path $do");
                }
            }
        }
        is(counted($nginx, 'a'), 'requests=50 total=50 2xx=28 3xx=8 4xx=12 5xx=2 200=22 204=6 302=2 304=6 404=12 500=2', 'all of them');
        my $selected = peer($nginx, 'a')->{selected};
        is((over_workers($nginx, map { "a=$_" } 201, 202, 203, 206))[0], '201=2 202=2 203=2 206=2', 'more than eight');
        like(counted($nginx, 'a'), qr/\Arequests=58 total=58 2xx=36 3xx=8 4xx=12 5xx=2 .* other=4\z/, 'the rest is together');
        cmp_ok(peer($nginx, 'a')->{selected}, 'gt', $selected, 'when it was selected moves on');
        ends_well($nginx);
    };

    subtest "kept connections, $with" => sub {
        my $nginx = $stock->("$a", keepalive => 'keepalive 8;', server => 'proxy_http_version 1.1; proxy_set_header Connection "";')->start;
        is((over_workers($nginx, ('a=200', 'a=404:70000', 'a=503') x 5))[0], '200=10 404=10 503=10', 'one after the other');
        is(counted($nginx, 'a'), 'requests=30 total=30 2xx=10 4xx=10 5xx=10 200=10 404=10 503=10', 'are counted');
        is(bytes($nginx, 'a'), traffic('a'), 'the bytes are those of the server');
        ends_well($nginx);
    };

    subtest "failures, $with" => sub {
        my $nginx = $stock->("$a; server $dead max_fails=0", server => 'proxy_read_timeout 100ms; location /503 { proxy_pass http://up; proxy_next_upstream error http_503; }')->start;
        my ($codes, $tried) = over_workers($nginx, ('a=200') x 10);
        is($codes, '200=20', 'requests are answered');
        is(counted($nginx, 'a'), 'requests=20 total=20 2xx=20 200=20', 'by the one');
        cmp_ok($tried->{$dead} // 0, '>', 2, 'many after a failure');
        is(counted($nginx, $dead), "requests=$tried->{$dead} total=0 fails=$tried->{$dead}", 'which is counted');
        my $peer = peer($nginx, $dead);
        is(bytes($peer) . ' ' . members($peer, qw(header_time response_time downtime downstart)), 'sent 0 received 0 (no header_time) (no response_time) downtime=0 (no downstart)', 'nothing was sent');
        is(bytes($nginx, 'a'), traffic('a'), 'the bytes of the one');
        ends_well($nginx);
    };

    subtest "failures of several kinds, $with" => sub {
        my $nginx = $stock->("$a max_fails=0; server $b max_fails=0 backup", server => 'proxy_read_timeout 100ms; proxy_next_upstream error timeout invalid_header http_503 http_404;
            location /off { proxy_pass http://up; proxy_next_upstream off; }')->start;
        is(asked($nginx, '/', 'a=503', 'a=hang', 'a=half', 'a=close', 'a=404'), '200 200 200 200 200', 'the next server answers');
        is(counted($nginx, 'a'), 'requests=5 total=2 4xx=1 5xx=1 404=1 503=1 fails=4', 'failures, and responses as far as there were any');
        is(counted($nginx, 'b'), 'requests=5 total=5 2xx=5 200=5', 'the next one');
        is(asked($nginx, '/off', 'a=503', 'a=hang', 'a=half', 'a=close', 'a=404', 'a=200'), '503 504 502 502 404 200', 'without another try');
        is(counted($nginx, 'a'), 'requests=11 total=5 2xx=1 4xx=2 5xx=2 200=1 404=2 503=2 fails=7', 'the same, but a status is none then');
        becomes(sub { traffic('a') }, bytes($nginx, 'a'), 'the bytes');
        is(bytes($nginx, 'b'), traffic('b'), 'those of the next one');
        is(asked($nginx, '/', 'a=503 b=503'), '503', 'both fail');
        like(counted($nginx, 'a'), qr/\Arequests=12 total=6 .* fails=8\z/, 'the first one');
        like(counted($nginx, 'b'), qr/\Arequests=6 total=6 2xx=5 5xx=1 200=5 503=1/, 'the next one');
        ends_well($nginx);
    };

    subtest "two lines of one address, $with" => sub {
        my $nginx = $stock->("$a; server $a")->start;
        my @clients = map { begin($nginx, '/', do => 'a=wait') } 1 .. ($lines ? 2 : 0);
        my $all = sub {
            my ($code, $upstream) = plus_call($nginx, GET => 'up');
            return join ', ', map { members($_, qw(id active requests)) } @{ $upstream->{peers} };
        };
        becomes($all, 'id=0 active=' . @clients . ' requests=0, id=1 active=0 requests=0', 'what is at work is shown of the first');
        release();
        finish($_) for @clients;
        becomes($all, 'id=0 active=0 requests=' . @clients . ', id=1 active=0 requests=0', 'and so is what is over');
        ends_well($nginx);
    };

    subtest "requests at work, and clients that go away, $with" => sub {
        my $nginx = $stock->("$a", workers => $lines ? 2 : 1)->start;
        my @workers = StockWorkers::workers_of($nginx);
        syswrite $_, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Do: a=wait\r\n\r\n" for @workers;
        my $active = @workers;
        becomes(sub { peer($nginx, 'a')->{active} }, $active, 'one in each worker');
        is(peer($nginx, 'a')->{active}, $active, 'as each of them says') for 1 .. 4;
        is(counted($nginx, 'a'), 'requests=0 total=0', 'they are counted when they are over');
        my $more = begin($nginx, '/', do => 'a=wait');
        becomes(sub { peer($nginx, 'a')->{active} }, $active + 1, 'one more');
        close $more;
        becomes(sub { members(peer($nginx, 'a'), 'active', 'requests') }, "active=$active requests=1", 'goes away');
        is(counted($nginx, 'a'), 'requests=1 total=0', 'that is no response and no failure');
        release();
        my $all = 1 + $active;
        becomes(sub { counted($nginx, 'a') }, "requests=$all total=$active 2xx=$active 200=$active", 'the others are answered');
        is(peer($nginx, 'a')->{active}, 0, 'none is at work');
        # The one that nobody waits for is answered, too; but nginx does not see that.
        is(bytes($nginx, 'a') =~ s/ received .*//r, traffic('a') =~ s/ received .*//r, 'the bytes');
        ends_well($nginx);
    };

    subtest "times, resets, reloads and deaths of workers, $with" => sub {
        my $nginx = $stock->("$a")->start;
        is(asked($nginx, '/', 'a=slow'), '200', '100 ms until the header, 300 ms in all');
        between(peer($nginx, 'a')->{header_time}, 95, 180, 'the time until the header');
        between(peer($nginx, 'a')->{response_time}, 295, 420, 'until the end');
        my ($code, $said) = plus_call($nginx, DELETE => 'up');
        is("$code $said->{error}{code}", '400 UpstreamStatic', 'nothing is reset');
        is((over_workers($nginx, ('a=200') x 5))[0], '200=10', 'requests');
        my $figures = sub { my $peer = peer($nginx, 'a'); join ', ', counted($peer), bytes($peer), members($peer, qw(header_time response_time downtime)) };
        my $before = $figures->();
        like($before, qr/\Arequests=11 total=11 2xx=11 200=11, /, 'are counted');
        ok(scalar $nginx->reload, 'a reload');
        is($figures->(), $before, 'loses nothing');
        my @workers = $nginx->workers;
        $nginx->signal('KILL', $_) for @workers;
        ok(wait_until(5, sub { my %old = map { $_ => 1 } @workers; my @now = $nginx->workers; @now == 2 && !grep { $old{$_} } @now }), 'all workers are killed');
        is($figures->(), $before, 'that loses nothing');
        is((over_workers($nginx, 'a=200'))[0], '200=2', 'requests');
        like(counted($nginx, 'a'), qr/\Arequests=13 total=13 2xx=13 200=13\z/, 'it goes on');
        ends_well($nginx, qr/exited on signal 9/);
    };
}

done_testing();
