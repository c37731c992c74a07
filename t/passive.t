# Passive health: failures of requests, counted once for all workers.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Time::HiRes ();
use Backends;

# D is a port where nobody listens. S accepts connections and never answers. P lets a check wait until
# there is a file P.go, and with "X-Do: P=hang" a request until the client goes.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'C') . $block->http_config);
});
silent_port('S');
serve(P => sub {
    my $connection = shift;
    my $head = read_head($connection) // return;
    if ($head =~ m{^GET /health }) { Time::HiRes::sleep(0.01) until -e html_dir() . '/P.go' }
    return if $head =~ /^X-Do:.*P=close/mi;
    return read_until($connection, qr/never/) if $head =~ /^X-Do:.*P=hang/mi;
    print $connection "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nP";
});

# A request whose client goes before it is answered, and nginx has noticed.
sub leave {
    my $path = shift;
    my $noticed = sub {
        open my $log, '<', $Test::Nginx::Util::ErrLogFile or return 0;
        return scalar grep { /closed prematurely|prematurely closed connection/ } readline $log;
    };
    my $before = $noticed->();
    my $connection = connect_to()->request($path, do => 'P=hang');
    Time::HiRes::sleep(0.1);
    close $connection->{socket};
    return wait_for('nginx has noticed', sub { $noticed->() > $before });
}

sub sleep_until {
    my $moment = shift;
    my $left = $moment - now();
    Time::HiRes::sleep($left) if $left > 0;
}

no_root_location();
workers(4);
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: by default one failure takes a server out of use
--- http_config
    upstream test_1 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass http://test_1; }
--- init
::is(::routes(1, '/', do => 'A=close'), 'AB 200', 'the failure');
::is(::routes(5, '/', do => 'A=close'), join(', ', ('B 200') x 5), 'then none');
::is(::routes(5, '/'), join(', ', ('B 200') x 5), 'nor any other request');
--- request
GET /
--- response_body: B
--- grep_error_log eval
qr/\[warn\] .*/
--- grep_error_log_out eval
qr/\A\[warn\] \S+ checkups: cluster "test_1", server "127\.0\.0\.1:\d+": out of use for 10s, failed requests: 1\n\z/



=== TEST 2: the log names the server
--- http_config
    upstream test_2 {
        checkups_cluster named;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=90s max_fails=2;
    }
--- config
    location / { proxy_pass http://test_2; }
--- init
::is(::routes(4, '/', do => 'B=close'), 'A 200, BA 200, A 200, BA 200', 'two failures');
--- request
GET /
--- response_body: A
--- grep_error_log eval
qr/cluster "named".*/
--- grep_error_log_out
cluster "named", server "127.0.0.1:$TEST_NGINX_RAND_PORT_2": out of use for 90s, failed requests: 2



=== TEST 3: all workers know it at once
--- http_config
    upstream test_3 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_3; }
    location = /worker { return 200; }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my @tried = map { $_->request('/', do => 'A=close')->answer->{tried} } @workers, @workers;
::is("@tried", 'AB B B B B B B B', 'one failing request, in one worker');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use



=== TEST 4: max_fails=3 is three failures over all workers
--- http_config
    upstream test_4 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_4; }
    location = /worker { return 200; }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my @tried = map { $_->request('/', do => 'A=close')->answer->{tried} } @workers, @workers;
::is("@tried", 'AB AB AB B B B B B', 'three, each in another worker');
--- request
GET /
--- response_body: B
--- grep_error_log eval: qr/out of use.*/
--- grep_error_log_out
out of use for 10s, failed requests: 3



=== TEST 5: a hundred requests, each on a connection of its own
--- http_config
    upstream test_5 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_5; }
--- init
my @answers = map { ::ask('/', port => ::port_of(9), do => 'A=close') } 1 .. 100;
my %workers = map { $_->{worker} => 1 } @answers;
::is(scalar keys %workers, 4, 'four workers');
::is(scalar(grep { $_->{tried} =~ /A/ } @answers), 3, 'three of them went to A');
::is(scalar(grep { $_->{code} == 200 } @answers), 100, 'all were answered');
--- request
GET /
--- response_body_like: ^[BC]$



=== TEST 6: max_fails=0 never takes a server out of use
--- http_config
    upstream test_6 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_6; }
--- init
::is(::routes(20, '/', do => 'A=close'), join(', ', ('AB 200') x 20), 'A each time');
--- request
GET /
--- response_body: A
--- no_error_log
out of use



=== TEST 7: a success clears the failures before it
--- http_config
    upstream test_7 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=3 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_7; }
--- init
for my $round (1 .. 3) {
    ::is(::routes(2, '/', do => 'A=close'), 'AB 200, AB 200', 'two failures');
    ::is(::routes(1, '/'), 'A 200', 'a success');
}
::is(::routes(5, '/', do => 'A=close'), 'AB 200, AB 200, AB 200, B 200, B 200',
    'three failures in a row');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use



=== TEST 8: what is a failure
A refused connection, a timeout, no answer, and the statuses of proxy_next_upstream.
--- http_config
    upstream refused {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream slow {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream status {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    proxy_read_timeout 200ms;
    location /refused { proxy_pass http://refused; }
    location /slow { proxy_pass http://slow; }
    location /status { proxy_pass http://status; proxy_next_upstream http_503 http_404; }
--- init
::is(::routes(2, '/refused'), 'DB 200, B 200', 'a refused connection');
::is(::routes(2, '/slow'), 'SB 200, B 200', 'a timeout');
::is(::routes(3, '/status', do => 'A=500'), 'A 500, A 500, A 500', 'not a status that is not named');
::is(::routes(3, '/status', do => 'A=404'), 'AB 200, AB 200, AB 200', 'not 404, though it is');
::is(::routes(2, '/status', do => 'A=503'), 'AB 200, B 200', 'one that is named');
--- request
GET /status
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use
out of use
out of use



=== TEST 9: after fail_timeout the server is used again
--- http_config
    upstream test_9 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_9; }
--- init
my $failed = ::now();
::is(::routes(2, '/', do => 'A=close'), 'AB 200, B 200', 'A fails');
::wait_for('A is used again', sub { ::ask('/', do => 'A=close')->{tried} eq 'AB' });
my $after = ::now() - $failed;
::cmp_ok($after, '>=', 0.99, 'not before its time');
::cmp_ok($after, '<', 1.9, 'and then soon');
::is(::routes(2, '/'), 'B 200, B 200', 'it failed, and is left alone once more');
::wait_for('A is used again', sub { ::ask('/')->{tried} eq 'A' });
::is(::routes(2, '/'), 'A 200, A 200', 'and stays in use');
--- request
GET /
--- response_body: A
--- timeout: 10
--- grep_error_log: out of use
--- grep_error_log_out
out of use
out of use



=== TEST 10: the window of max_fails slides
Three failures count when they are within two seconds, wherever these begin.
--- http_config
    upstream test_10 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=3 fail_timeout=2s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_10; }
--- init
my $start = ::now();
my @tried;
for my $moment (0, 1.2, 2.4, 2.5, 2.5) {
    ::sleep_until($start + $moment);
    push @tried, ::ask('/', do => 'A=close')->{tried};
}
::is("@tried", 'AB AB AB AB B', 'at 0, 1.2, 2.4 and 2.5 s: the last makes three in two seconds');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use



=== TEST 11: a single server stays in use
--- http_config
    upstream test_11 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location / { proxy_pass http://test_11; }
--- init
::is(::routes(3, '/', do => 'A=close'), 'A 502, A 502, A 502', 'failing');
--- request
GET /
--- response_body: A
--- no_error_log
out of use
no live upstreams



=== TEST 12: of two servers that fail one stays in use
--- http_config
    upstream test_12 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
    }
--- config
    location / { proxy_pass http://test_12; }
--- init
::is(::routes(4, '/', do => 'A=close B=close'), 'AB 502, B 502, B 502, B 502', 'the last one that worked');
::is(::routes(2, '/'), 'B 200, B 200', 'and it works again');
--- request
GET /
--- response_body: B
--- grep_error_log eval: qr/server "[^"]*": out of use/
--- grep_error_log_out
server "127.0.0.1:$TEST_NGINX_RAND_PORT_1": out of use
--- no_error_log
no live upstreams



=== TEST 13: the last that works stays in use, be the others out of use for their checks
--- user_files
>>> A.sick
--- http_config
    upstream test_13 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 down;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://test_13; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=err B=ok');
::is(::routes(3, '/', do => 'B=close'), 'B 502, B 502, B 502', 'failing');
--- request
GET /
--- response_body: B
--- no_error_log
out of use for
no live upstreams



=== TEST 14: a server that is out of use for failed requests does not change its check's status
--- http_config
    upstream test_14 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
        checkups_check http uri=/health interval=20ms;
    }
    upstream unchecked {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_14; }
    location /unchecked { proxy_pass http://unchecked; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok C=ok');
my $before = ::server_status('A');
::is(::routes(2, '/', do => 'A=close'), 'AB 200, B 200', 'A is out of use');
::is_deeply(::server_status('A'), $before, 'at once');
::sick('C');
::wait_for_status('C=err');
::well('C');
::wait_for_status('C=ok');
::is_deeply(::server_status('A'), $before, 'and two rounds of checks later');
::is(::routes(2, '/'), 'B 200, B 200', 'which do not bring it back');
::is(::routes(2, '/unchecked'), 'DB 200, B 200', 'D is out of use');
::is(::server_status('D')->{status}, 'unchecked', 'no check, no other status');
--- request
GET /
--- response_body: B



=== TEST 15: a check that turns to up clears it
--- http_config
    upstream test_15 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        checkups_check http uri=/health interval=20ms;
    }
--- config
    location / { proxy_pass http://test_15; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok');
::is(::routes(2, '/', do => 'A=close'), 'AB 200, B 200', 'A is out of use');
::sick('A');
::wait_for_status('A=err B=ok');
::is(::routes(1, '/'), 'B 200', 'for its checks, too');
::well('A');
::wait_for_status('A=ok B=ok');
::is(::routes(1, '/'), 'A 200', 'it is used again');
--- request
GET /
--- response_body: A



=== TEST 16: and it clears failures that were too few
--- http_config
    upstream test_16 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        checkups_check http uri=/health interval=20ms;
    }
--- config
    location / { proxy_pass http://test_16; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok');
::is(::routes(1, '/', do => 'A=close'), 'AB 200', 'one failure');
::sick('A');
::wait_for_status('A=err B=ok');
::well('A');
::wait_for_status('A=ok B=ok');
::is(::routes(2, '/', do => 'A=close'), 'AB 200, AB 200', 'two more');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use



=== TEST 17: and it gives the whole weight back
The failures leave A with an effective weight of 3. Its place in the order is that of
the start, so that the whole weight shows at once:
  of A B, 8 and 2:  A -2 2,  failed, 4;  of B: B -2 2
  +4 +2 of 6:       B  2 -2
  +5 +2 of 7:       A  0 0,  failed, 3;  of B: B 0 0
--- http_config
    upstream test_17 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=8 max_fails=3 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2;
        checkups_check http uri=/health interval=20ms;
    }
--- config
    location / { proxy_pass http://test_17; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok');
::is(::routes(3, '/', do => 'A=close'), 'AB 200, B 200, AB 200', 'two failures');
::sick('A');
::wait_for_status('A=err B=ok');
::well('A');
::wait_for_status('A=ok B=ok');
::is(::answers(10, '/'), 'AABAAAABAA', 'the whole weight');
--- request
GET /
--- response_body: A
--- no_error_log
out of use for



=== TEST 18: servers out of use for failed requests are used again when no other works
--- http_config
    upstream test_18 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
        checkups_check http uri=/health interval=20ms;
    }
--- config
    location / { proxy_pass http://test_18; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok');
::is(::routes(2, '/', do => 'A=close'), 'AB 200, B 200', 'A is out of use');
::sick('B');
::wait_for_status('A=ok B=err');
::is(::routes(3, '/'), 'A 200, A 200, A 200', 'as B fails its checks');
::sick('A');
::wait_for_status('A=unstable B=unstable');
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'all fail them');
--- request
GET /
--- response_body_like: ^[AB]$
--- error_log
no working server is left, those out of use for failed requests are used again



=== TEST 19: equal addresses in one level have failures of their own
--- http_config
    upstream test_19 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_19; }
    location /one { proxy_pass http://test_19; proxy_next_upstream_tries 1; }
--- init
::is(::routes(5, '/one', do => 'A=close'), 'A 502, A 502, A 502, A 502, B 200', 'two of each line, in turn');
--- request
GET /
--- response_body: B
--- grep_error_log eval: qr/server "[^"]*": out of use for 60s, failed requests: 2/
--- grep_error_log_out
server "127.0.0.1:$TEST_NGINX_RAND_PORT_1": out of use for 60s, failed requests: 2
server "127.0.0.1:$TEST_NGINX_RAND_PORT_1": out of use for 60s, failed requests: 2



=== TEST 20: equal addresses in several levels share their failures, the first ones and the second ones
--- http_config
    upstream levels_19 {
        checkups_cluster;
        checkups_level one {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=3 fail_timeout=60s;
        }
        checkups_level two { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s; }
        checkups_level three { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    }
--- config
    location / { proxy_pass http://levels_19; }
--- init
::is(::routes(4, '/', do => 'A=close'), 'AAAB 200, AB 200, AB 200, B 200',
    'the first lines of both levels have two failures at once, the second line three in the end');
--- request
GET /
--- response_body: B



=== TEST 21: of requests at the same time in four workers none is lost
--- http_config
    upstream test_20 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_20; }
--- init
my (%codes, %last);
my $until = ::now() + 2.2;
while (::now() < $until) {
    my @connections = map { ::connect_to(::port_of(9)) } 1 .. 40;
    $_->request('/', do => 'A=close') for @connections;
    for my $answer (map { $_->answer } @connections) {
        $codes{$answer->{code}}++;
        $last{$answer->{body}}++;
    }
}
::is(join(' ', keys %codes), 200, 'all are answered');
::is(join(' ', keys %last), 'B', 'by the one that works');
--- request
GET /
--- timeout: 10
--- response_body_like: ^[AB]$



=== TEST 22: a bad status on the last try that a request may make is a failure
nginx does not tell the balancer of it: it looks like a success.
--- http_config
    upstream test_21 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream both_21 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=2 fail_timeout=60s;
    }
--- config
    proxy_next_upstream error http_503;
    location / { proxy_pass http://test_21; }
    location /one { proxy_pass http://test_21; proxy_next_upstream_tries 1; }
    location /both { proxy_pass http://both_21; }
--- init
::is(::routes(1, '/', do => 'A=close'), 'AB 200', 'one failure');
::is(::routes(1, '/one', do => 'A=503'), 'A 503', 'the last try');
::is(::routes(2, '/'), 'B 200, B 200', 'these make two');
::routes(6, '/both', do => 'A=503 C=503');
::like(::routes(2, '/both'), qr/^(A 200, A 200|C 200, C 200)$/,
    'of two servers that always fail one is left alone');
--- request
GET /
--- response_body: B



=== TEST 23: with checkups_order the last server of each level stays in use
--- http_config
    upstream up {
        checkups_cluster;
        checkups_order $arg_order;
        checkups_level dc1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
        }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 fail_timeout=60s; }
        checkups_level dc3 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 fail_timeout=60s;
        }
    }
    upstream free {
        checkups_cluster;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 fail_timeout=60s; }
    }
--- config
    location / { proxy_pass http://up; }
    location /free { proxy_pass http://free; }
--- init
::is(::routes(3, '/?order=dc1', do => 'A=close B=close'), 'AB 502, B 502, B 502', 'one of two');
::is(::routes(3, '/?order=dc2', do => 'C=close'), 'C 502, C 502, C 502', 'the only one, though another level has it beside a second');
::is(::routes(2, '/free', do => 'A=close'), 'AC 200, C 200', 'without checkups_order that of the cluster');
--- request
GET /?order=dc1
--- response_body: B
--- grep_error_log eval: qr/cluster "[^"]*", server "[^"]*": out of use/
--- grep_error_log_out
cluster "up", server "127.0.0.1:$TEST_NGINX_RAND_PORT_1": out of use
cluster "free", server "127.0.0.1:$TEST_NGINX_RAND_PORT_1": out of use



=== TEST 24: a client that goes before the answer says nothing about the server
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_P max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream status {
        checkups_cluster;
        checkups_fail_status 500-599;
        server 127.0.0.1:$TEST_NGINX_BACKEND_P max_fails=2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location ~ ^/(\w+)$ { proxy_pass http://$1; }
    location = /worker { return 200 B; }
--- init
for my $cluster ('up', 'status') {
    ::leave("/$cluster") for 1 .. 3;
    ::is(::routes(1, "/$cluster", do => 'P=close'), 'PB 200', "$cluster: no failure");
    ::leave("/$cluster");
    ::is(::routes(2, "/$cluster", do => 'P=close'), 'PB 200, B 200', "$cluster: no success: the failure before it counts");
}
--- request
GET /worker
--- response_body: B
--- grep_error_log eval: qr/out of use for .*/
--- grep_error_log_out
out of use for 60s, failed requests: 2
out of use for 60s, failed requests: 2



=== TEST 25: the first check that passes brings back what was out of use before it
With a slow start, which begins then.
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_P fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_check http uri=/health interval=20ms timeout=60s;
    }
    upstream slow {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_P fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_BACKEND_P slow_start=1h;
        checkups_check http uri=/health interval=20ms timeout=60s;
    }
--- config
    location ~ ^/(\w+)$ { proxy_pass http://$1; }
    location /checkups/ { checkups_api; }
    location = /worker { return 200 B; }
--- init
my $states = sub {
    my $status = JSON::PP::decode_json(::ask('/checkups/status')->{body});
    return join ' ', map { $_->{status} } map { @{ $status->{"cls:$_"}[0] } } 'up', 'slow';
};
::wait_for('the checks of B', sub { $states->() eq 'unchecked ok unchecked ok' });
for my $cluster ('up', 'slow') {
    ::is(::routes(1, "/$cluster", do => 'P=close'), 'PB 200', "$cluster: P fails before its first check");
    ::is(::answers(4, "/$cluster"), 'BBBB', 'and is out of use');
}
CORE::open my $go, '>', html_dir() . '/P.go' or CORE::die "P.go: $!";
::wait_for('the checks of P', sub { $states->() eq 'ok ok ok ok' });
::is(join('', sort split //, ::answers(6, '/up')), 'BBBPPP', 'it is back');
my $slow = ::answers(22, '/slow');
::like($slow, qr/\AB*(?:PB*){1,3}\z/, "with a tenth of its share: $slow");
--- request
GET /worker
--- response_body: B
