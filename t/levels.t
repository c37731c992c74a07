# Levels: the servers, and behind them those that are marked "backup".

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'D') . $block->http_config);
});

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: a backup gets nothing while servers are left
--- http_config
    upstream test_1 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=100 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2;
    }
--- config
    location / { proxy_pass http://test_1; }
--- request eval
[("GET /") x 6]
--- response_body eval
[split //, 'BABBAB']
--- no_error_log
[error]



=== TEST 2: servers that failed are behind them, then the backups, by weight
--- http_config
    upstream test_2 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0 backup weight=2;
    }
--- config
    location / { proxy_pass http://test_2; }
--- init
::is(::routes(4, '/', do => 'A=close B=close'), 'ABD 200, BAC 200, ABD 200, BAD 200',
    'both servers first, each time');
::is(::routes(3, '/', do => 'A=close B=close C=close D=close'),
    'ABCD 502, BADC 502, ABCD 502', 'each server once');
::is(::routes(4, '/'), 'B 200, A 200, B 200, A 200', 'the servers again');
--- request
GET /
--- response_body: B



=== TEST 3: servers whose checks fail make room for the backup, until they pass again
--- http_config
    upstream test_3 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://test_3; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok C=ok');
::is(::answers(4, '/'), 'ABAB', 'all well');
::sick('A');
::wait_for_status('A=err B=ok C=ok');
::is(::answers(4, '/'), 'BBBB', 'one server is left');
::sick('B');
::wait_for_status('A=err B=err C=ok');
::is(::answers(4, '/'), 'CCCC', 'no server is left');
::is(::routes(2, '/', do => 'C=503'), 'C 503, C 503', 'the backup alone, and what it says');
::well('A');
::wait_for_status('A=ok B=err C=ok');
::is(::answers(4, '/'), 'AAAA', 'a server is back');
::well('B');
::wait_for_status('A=ok B=ok C=ok');
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'both are');
--- request
GET /
--- response_body_like: ^[AB]$
--- error_log eval
[
    qr/\[notice\] .*cluster "test_3", server "127\.0\.0\.1:\d+": from ok to err: /,
    qr/\[notice\] .*cluster "test_3", server "127\.0\.0\.1:\d+": from err to ok: /,
]
--- no_error_log
[error]



=== TEST 4: where all have failed their checks, the backup too, all stay in use in their order
--- user_files
>>> A.sick
>>> B.sick
>>> C.sick
--- http_config
    upstream test_4 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup max_fails=0;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://test_4; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=unstable B=unstable C=unstable');
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'the servers');
::well('C');
::wait_for_status('A=err B=err C=ok');
::is(::answers(4, '/'), 'CCCC', 'the backup, which works again');
--- request
GET /
--- response_body: C
--- error_log
checkups: cluster "test_4": every server has failed its checks
checkups: cluster "test_4": a server works again
--- no_error_log
[error]



=== TEST 5: servers that are left alone for failed requests make room for the backup
--- http_config
    upstream test_5 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup fail_timeout=60s;
    }
--- config
    location / { proxy_pass http://test_5; }
--- init
::is(::routes(1, '/', do => 'A=close B=close'), 'ABC 200', 'both fail');
::is(::routes(4, '/'), 'C 200, C 200, C 200, C 200', 'the backup at once');
--- request
GET /
--- response_body: C



=== TEST 6: the backup is used while no server is left, and then no more
--- http_config
    upstream test_6 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
    }
--- config
    location / { proxy_pass http://test_6; }
--- init
::is(::routes(1, '/', do => 'A=close'), 'AC 200', 'the server fails');
::is(::routes(2, '/'), 'C 200, C 200', 'the backup');
::wait_for('the server is used again', sub { ::ask('/')->{body} eq 'A' });
::is(::routes(3, '/'), 'A 200, A 200, A 200', 'the server');
--- request
GET /
--- response_body: A



=== TEST 7: one address as a server and as a backup is tried as both
--- http_config
    upstream test_7 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
--- config
    location / { proxy_pass http://test_7; }
--- init
::is(::routes(2, '/', do => 'A=close B=close'), 'ABA 502, BAA 502', 'in both levels');
::is(::routes(2, '/', do => 'A=close'), 'AB 200, B 200', 'not before the others of its level');
--- request
GET /
--- response_body: A



=== TEST 8: the same, and nothing else
The last working server stays in use, so that the second try takes place.
--- http_config
    upstream test_8 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
    }
--- config
    location / { proxy_pass http://test_8; }
--- init
::is(::routes(2, '/', do => 'A=close'), 'AA 502, AA 502', 'in both levels');
--- request
GET /
--- response_body: A
--- no_error_log
out of use



=== TEST 9: equal addresses in one level are servers of their own, and each is tried
--- http_config
    upstream test_9 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 weight=8;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 weight=8;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    location / { proxy_pass http://test_9; proxy_next_upstream error http_503; }
--- init
my $own_answer = sub {
    my $answer = ::ask('/', do => 'A=503 B=503');
    ::is("$answer->{tried} $answer->{body}", 'AAB 503 from B', "the last server's own answer");
};
$own_answer->();
::is(::routes(2, '/', do => 'A=close'), 'AAB 200, AAB 200', 'the backup next');
$own_answer->();
--- request
GET /
--- response_body: A



=== TEST 10: with every server down the backup does it all
--- http_config
    upstream test_10 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_10; }
--- request eval
[("GET /") x 3]
--- response_body eval
[split //, 'BBB']
--- no_error_log
[error]



=== TEST 11: a backup that is down is none
--- http_config
    upstream test_11 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup down;
    }
--- config
    location / { proxy_pass http://test_11; proxy_next_upstream error http_503; }
--- more_headers
X-Do: A=503
--- request
GET /
--- error_code: 503
--- response_body: 503 from A
--- no_error_log
[error]



=== TEST 12: equal addresses in one level, and nothing else, are as many tries
--- http_config
    upstream test_12 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 weight=8;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 weight=8;
    }
--- config
    location / { proxy_pass http://test_12; proxy_next_upstream error http_503; }
--- init
for my $attempt (1 .. 2) {
    my $answer = ::ask('/', do => 'A=503');
    ::is("$answer->{tried} $answer->{body}", 'AA 503 from A', "the server's own answer");
    ::is(::routes(2, '/', do => 'A=close'), 'AA 502, AA 502', 'two tries');
}
--- request
GET /
--- response_body: A
--- no_error_log
no live upstreams



=== TEST 13: one address in two levels is tried as both, though the first failure put it out of use
--- http_config
    upstream test_13 {
        checkups_cluster;
        checkups_level one { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s; }
        checkups_level two { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s; }
        checkups_level three { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    }
--- config
    location / { proxy_pass http://test_13; }
--- init
::is(::routes(3, '/', do => 'A=close'), 'AAB 200, B 200, B 200', 'in both levels, then in none');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use
