# Which servers a request tries, how many, and what the client gets in the end.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

# D is a port where nobody listens. S accepts connections and never answers.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'C') . $block->http_config);
});
silent_port('S');

# What is logged at error level of the tries of cluster NAME, request by request.
sub ended {
    my ($name, @ends) = @_;
    my $lines = join '', map { "\\[error\\] \\d+#\\d+: \\*\\d+ checkups: cluster \"$name\": \Q$_\E while .*, client: .*\\n" } @ends;
    return qr/\A$lines\z/;
}

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: where all answer 503 the client gets the last one's own answer
--- http_config
    upstream test_1 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_1; proxy_next_upstream http_503; }
--- request
GET /
--- more_headers
X-Do: A=503 B=503 C=503
--- error_code: 503
--- response_body: 503 from C
--- response_headers
X-Server: C
X-Status: 503, 503, 503
--- no_error_log
[error]



=== TEST 2: the next request starts elsewhere and ends elsewhere
By hand, with the current weights after each pick:
  of A B C: A -2 1 1;  of B C: B -2 0 2;  of C: C -2 0 2
  of A B C: C -1 1 0;  of A B: B 0 0 0;   of A: A 0 0 0   and so on
--- http_config
    upstream test_2 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_2; proxy_next_upstream http_503 http_500; }
--- init
for my $expected (qw(ABC CBA ABC CBA)) {
    my $answer = ::ask('/', do => 'A=503 B=503 C=500');
    my $last = substr $expected, -1;
    my $status = $last eq 'C' ? 500 : 503;
    ::is("$answer->{tried} $answer->{code} $answer->{body}", "$expected $status $status from $last",
        "tries $expected");
}
--- request
GET /
--- response_body: A



=== TEST 3: with every server down there is none to try
--- http_config
    upstream test_3 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 down backup;
    }
--- config
    location / { proxy_pass http://test_3; }
--- request
GET /
--- error_code: 502
--- response_headers
X-Tried: test_3
X-Status: 502
--- grep_error_log eval
qr/\[error\] .*/
--- grep_error_log_out eval
my $line = '\[error\] \d+#\d+: \*\d+ %s while connecting to upstream, client: .*, upstream: "http:\/\/test_3\/".*\n';
my $lines = sprintf $line x 2, 'checkups: cluster "test_3": no servers available', 'no live upstreams';
qr/\A$lines\z/



=== TEST 4: where all refuse connections each was tried
--- http_config
    upstream test_4 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6 backup;
    }
--- config
    location / { proxy_pass http://test_4; }
--- init
::is(::routes(1, '/'), 'DEF 502', 'each once');
--- request
GET /
--- error_code: 502
--- response_headers
X-Status: 502
--- error_log
Connection refused
--- no_error_log
no live upstreams



=== TEST 5: failures of all kinds, and an answer in the end
--- http_config
    upstream test_5 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
    }
--- config
    location / {
        proxy_pass http://test_5;
        proxy_next_upstream error timeout http_503;
        proxy_read_timeout 200ms;
    }
--- init
my $answer = ::ask('/', do => 'A=close B=503');
::is("$answer->{tried} $answer->{code}: $answer->{headers}{'x-status'}",
    'DSABC 200: 502, 504, 502, 503, 200', 'the tries');
::is($answer->{body}, 'C', 'the answer');
--- request
GET /
--- response_body: C
--- error_log
Connection refused
upstream timed out
upstream prematurely closed connection



=== TEST 6: by default a 503 is the answer
--- http_config
    upstream test_6 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass http://test_6; }
--- init
::is(::routes(4, '/', do => 'A=503'), 'A 503, B 200, A 503, B 200', 'nor is it a failure');
--- request
GET /
--- more_headers
X-Do: A=503 B=503
--- error_code: 503
--- response_body: 503 from A



=== TEST 7: proxy_next_upstream_tries
--- http_config
    upstream test_7 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
--- config
    proxy_next_upstream error http_503;
    location / { proxy_pass http://test_7; proxy_next_upstream_tries 2; }
    location /one { proxy_pass http://test_7/; proxy_next_upstream_tries 1; }
    location /four { proxy_pass http://test_7/; proxy_next_upstream_tries 4; }
--- init
my $all = 'A=503 B=503 C=503';
::is(::routes(1, '/one', do => $all), 'A 503', 'one');
::is(::routes(1, '/four', do => $all), 'BCA 503', 'more than there are');
::is(::routes(1, '/', do => $all), 'CA 503', 'two');
::is(::routes(1, '/', do => 'A=close B=close C=close'), 'BA 502', 'two without an answer');
--- request
GET /
--- response_body_like: ^[ABC]$
--- grep_error_log eval
qr/\[error\] .* checkups: .*/
--- grep_error_log_out eval
::ended('test_7', map { "no further try after $_: proxy_next_upstream_tries" } 1, 2, 2)



=== TEST 8: checkups_cluster tries=
--- http_config
    upstream test_8 {
        checkups_cluster tries=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_8; proxy_next_upstream error http_503; }
--- request
GET /
--- more_headers
X-Do: A=503 B=503 C=503
--- error_code: 503
--- response_body: 503 from B
--- response_headers
X-Status: 503, 503
--- grep_error_log eval
qr/\[error\] .*/
--- grep_error_log_out eval
::ended('test_8', 'no further try after 2: tries=2')



=== TEST 9: of both limits the tighter one holds
--- http_config
    upstream test_9 {
        checkups_cluster tries=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
--- config
    proxy_next_upstream error http_503;
    location /1 { proxy_pass http://test_9/; proxy_next_upstream_tries 1; }
    location /2 { proxy_pass http://test_9/; proxy_next_upstream_tries 2; }
    location /3 { proxy_pass http://test_9/; proxy_next_upstream_tries 3; }
    location /0 { proxy_pass http://test_9/; proxy_next_upstream_tries 0; }
--- init
my $all = 'A=503 B=503 C=503';
::is(::routes(1, '/1', do => $all), 'A 503', "nginx's");
::is(::routes(1, '/2', do => $all), 'AB 503', 'they are equal');
::is(::routes(1, '/3', do => $all), 'AC 503', 'that of the cluster');
::is(::routes(1, '/0', do => $all), 'AB 503', 'that of the cluster alone');
--- request
GET /1
--- response_body: A
--- grep_error_log eval
qr/\[error\] .*/
--- grep_error_log_out eval
::ended('test_9', 'no further try after 1: proxy_next_upstream_tries', ('no further try after 2: tries=2') x 3)



=== TEST 10: proxy_next_upstream off
--- http_config
    upstream test_10 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_10; proxy_next_upstream off; }
--- init
::is(::routes(4, '/', do => 'A=close B=503'), 'A 502, B 503, A 502, B 503', 'one try each');
--- request
GET /
--- response_body: A



=== TEST 11: POST is not sent twice, unless it never was sent
--- http_config
    upstream test_11 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream closed {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_11; }
    location /closed { proxy_pass http://closed; }
--- init
my @post = (method => 'POST', body => 'x=1');
::is(::routes(1, '/', @post, do => 'A=close'), 'A 502', 'it was sent');
::is(::routes(1, '/', do => 'A=close'), 'AB 200', 'GET');
::is(::routes(1, '/', method => 'PUT', body => 'x', do => 'A=close'), 'AB 200', 'PUT');
::is(::routes(1, '/closed', @post), 'DB 200', 'it was not sent');
--- request
POST /
x=1
--- response_body: A



=== TEST 12: non_idempotent
--- http_config
    upstream test_12 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://test_12; proxy_next_upstream error non_idempotent; }
--- request
POST /
x=1
--- more_headers
X-Do: A=close
--- response_body: B
--- response_headers
X-Status: 502, 200



=== TEST 13: http_404 and http_403: the next server, and no failure
Neither the share of A changes, nor is it left alone.
--- http_config
    upstream test_13 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream order {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass http://test_13; proxy_next_upstream http_404 http_403; }
    location /order { proxy_pass http://order; proxy_next_upstream http_404; proxy_next_upstream_tries 1; }
--- init
::is(::routes(3, '/', do => 'A=404'), 'AB 200, AB 200, AB 200', 'status 404');
::is(::routes(3, '/', do => 'A=403'), 'AB 200, AB 200, AB 200', 'status 403');
::is(::routes(3, '/'), 'A 200, A 200, A 200', 'A is still in use');
my $answer = ::ask('/', do => 'A=404 B=404');
::is("$answer->{tried} $answer->{code} $answer->{body}", 'AB 404 404 from B', 'all say so');
::is(::routes(1, '/order', do => 'A=404'), 'A 404', 'the first of an order');
::is(::answers(11, '/order'), 'AABAAA' . 'AABAA', 'the rest of it');
--- request
GET /
--- response_body: A
--- no_error_log
out of use



=== TEST 14: a server that its check excludes is no try
--- user_files
>>> A.sick
--- http_config
    upstream test_14 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://test_14; proxy_next_upstream error http_503; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=err B=ok');
::is(::routes(2, '/', do => 'B=close'), 'B 502, B 502', 'the only one');
--- request
GET /
--- more_headers
X-Do: A=503 B=503
--- error_code: 503
--- response_body: 503 from B
--- response_headers
X-Status: 503
--- no_error_log
no live upstreams



=== TEST 15: the same in two levels
--- user_files
>>> A.sick
--- http_config
    upstream test_15 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://test_15; proxy_next_upstream error http_503; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=err B=ok C=ok');
::is(::routes(2, '/', do => 'B=close C=503'), 'BC 503, BC 503', 'both that are left');
--- request
GET /
--- more_headers
X-Do: A=503 B=503 C=503
--- error_code: 503
--- response_body: 503 from C
--- response_headers
X-Status: 503, 503
--- no_error_log
no live upstreams



=== TEST 16: a server that is left alone for its failures is no try
--- http_config
    upstream test_16 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
    }
--- config
    location / { proxy_pass http://test_16; proxy_next_upstream error http_503; }
--- init
::is(::routes(1, '/', do => 'A=close'), 'AB 200', 'A fails');
--- request
GET /
--- more_headers
X-Do: B=503
--- error_code: 503
--- response_body: 503 from B
--- response_headers
X-Status: 503
--- no_error_log
no live upstreams



=== TEST 17: a server that is down is no try
--- http_config
    upstream test_17 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 down;
    }
--- config
    location / { proxy_pass http://test_17; proxy_next_upstream error http_503; }
--- request
GET /
--- more_headers
X-Do: A=503 B=503 C=503
--- error_code: 503
--- response_body: 503 from B
--- response_headers
X-Status: 503
--- no_error_log
no live upstreams



=== TEST 18: a request that goes on to a second cluster starts its tries anew
--- http_config
    upstream test_18 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
    }
    upstream other {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
--- config
    location / {
        proxy_pass http://test_18;
        error_page 502 503 = @other;
        proxy_intercept_errors on;
    }
    location @other { proxy_pass http://other; }
--- request
GET /
--- more_headers
X-Do: A=close B=503
--- response_body: C
--- response_headers
X-Status: 502, 503 : 502, 200



=== TEST 19: proxy_next_upstream_timeout
--- http_config
    upstream test_19 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
    }
--- config
    location / {
        proxy_pass http://test_19;
        proxy_read_timeout 200ms;
        proxy_next_upstream_timeout 100ms;
    }
--- request
GET /
--- error_code: 504
--- response_headers
X-Status: 504
--- grep_error_log eval
qr/\[error\] .* checkups: .*/
--- grep_error_log_out eval
::ended('test_19', 'no further try after 1: proxy_next_upstream_timeout')
