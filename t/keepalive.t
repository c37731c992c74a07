# Kept connections to servers: they are used, and one that the server has closed
# meanwhile is nobody's failure.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

# "/requests" of the backends says the number of the request on its connection,
# and "X-Do: A=stale" makes A close a connection that was used before.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'C') . <<'END' . $block->http_config);
    proxy_http_version 1.1;
    proxy_set_header Connection "";
END
});

# H says goodbye to nobody: it promises to keep the connection, answers, and closes it.
serve(H => sub {
    my $connection = shift;
    read_head($connection) or return;
    print $connection "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nH";
});

# M answers the first request of a connection. To the second it says nothing, or
# no more than the path of the request asks for, and closes it.
serve(M => sub {
    my $connection = shift;
    read_head($connection) or return;
    print $connection "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nM";
    my $head = read_head($connection) or return;
    if ($head =~ m{/hang}) { sysread $connection, $head, 1 }
    elsif ($head =~ m{/half}) { print $connection "HTTP/1.1 200 OK\r\nContent-Le" }
    elsif ($head =~ m{/nonsense}) { print $connection "HTTP/1.1 200 OK\r\nx\0y: z\r\n\r\n" }
});

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: a kept connection is used again
--- http_config
    upstream test_1 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_1; }
--- request eval
[("GET /requests") x 5]
--- response_body eval
[map { "A$_" } 1 .. 5]
--- no_error_log
[error]



=== TEST 2: each server has its own, and the order stays as it is
--- http_config
    upstream test_2 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_2; }
--- request eval
[("GET /requests") x 6]
--- response_body eval
[qw(A1 B1 A2 A3 B2 A4)]
--- no_error_log
[error]



=== TEST 3: without keepalive each request has a connection of its own
--- http_config
    upstream test_3 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location / { proxy_pass http://test_3; }
--- request eval
[("GET /requests") x 3]
--- response_body eval
[qw(A1 A1 A1)]
--- no_error_log
[error]



=== TEST 4: a stale connection to a single server
--- http_config
    upstream test_4 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_4; }
--- init
for my $round (1 .. 3) {
    ::is(::ask('/requests')->{body}, 'A' . ($round == 1 ? 1 : 2), 'a kept connection');
    my $answer = ::ask('/requests', do => 'A=stale');
    ::is("$answer->{tried} $answer->{headers}{'x-status'}: $answer->{body}", 'AA 502, 200: A1',
        'the server again');
}
--- request
GET /requests
--- response_body: A2
--- error_log
upstream prematurely closed connection
--- no_error_log
out of use
no live upstreams



=== TEST 5: it is no failure of the server
With max_fails=1 it would be left alone, and the backup be used.
--- http_config
    upstream test_5 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_5; }
--- init
::is(::ask('/requests')->{body}, 'A1', 'a kept connection');
for my $round (1 .. 3) {
    my $answer = ::ask('/requests', do => 'A=stale');
    ::is("$answer->{tried} $answer->{code} $answer->{body}", 'AA 200 A1', 'the server again');
}
--- request
GET /requests
--- response_body: A2
--- error_log
upstream prematurely closed connection
--- no_error_log
out of use



=== TEST 6: it is no try
--- http_config
    upstream test_6 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
    upstream one {
        checkups_cluster tries=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_6; proxy_next_upstream_tries 1; }
    location /requests/one { proxy_pass http://one; }
--- init
for my $path ('/requests', '/requests/one') {
    ::is(::ask($path)->{body}, 'A1', 'a kept connection');
    my $answer = ::ask($path, do => 'A=stale');
    ::is("$answer->{tried} $answer->{code} $answer->{body}", 'AA 200 A1', 'with one try');
}
--- request
GET /requests
--- response_body: A2
--- no_error_log
out of use



=== TEST 7: nor does it take anything from the server's weight
By hand, with the current weights after each pick: A -1 1; A -2 2, stale, and
(A and B have 3) A -3 3; B 2 -2; A 1 -1; A 0 0; A -1 1; A -2 2; A -3 3; B 2 -2 ...
--- http_config
    upstream test_7 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=1 max_fails=0;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_7; }
--- init
::is(::answers(1, '/'), 'A', 'a kept connection');
::is(::routes(1, '/', do => 'A=stale'), 'AA 200', 'the server again');
::is(::answers(12, '/'), 'BAAAAABAAAAA', 'the rest');
--- request
GET /
--- response_body: B
--- no_error_log
out of use



=== TEST 8: a cache full of stale connections
Three requests at the same time leave three connections behind. As in stock nginx
the one server is tried until a connection is fresh; so are two.
--- http_config
    upstream test_8 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        keepalive 8;
    }
    upstream two {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        keepalive 8;
    }
--- user_files
>>> three.html
<!--# include virtual="/requests" --> <!--# include virtual="/requests" --> <!--# include virtual="/requests" -->
>>> four.html
<!--# include virtual="/requests/2" --><!--# include virtual="/requests/2" -->
<!--# include virtual="/requests/2" --><!--# include virtual="/requests/2" -->
--- config
    location / { proxy_pass http://test_8; }
    location /requests/2 { proxy_pass http://two; }
    location ~ html { root html; ssi on; }
--- init
::like(::ask('/three.html')->{body}, qr/\AA1 A1 A1\s*\z/, 'three connections');
my $answer = ::ask('/requests', do => 'A=stale');
::is("$answer->{tried} $answer->{code} $answer->{body}", 'AAAA 200 A1', 'a fresh one');
::like(::ask('/four.html')->{body}, qr/\AB1C1\nB1C1\s*\z/, 'two connections each');
::is(::ask('/requests/2', do => 'B=stale C=stale')->{code}, 200, 'an answer');
--- request
GET /requests
--- response_body: A2
--- no_error_log
no live upstreams
out of use



=== TEST 9: stale connections to two servers
--- http_config
    upstream test_9 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=60s;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_9; }
--- init
::is(::answers(2, '/requests'), 'A1B1', 'two kept connections');
my $answer = ::ask('/requests', do => 'A=stale B=stale');
::is($answer->{code}, 200, 'an answer');
::like($answer->{body}, qr/^[AB]1$/, 'on a fresh connection');
my $others = join '', map { ::ask('/')->{body} } 1 .. 4;
::is(join('', sort split //, $others), 'AABB', 'both are in use');
--- request
GET /
--- response_body_like: ^[AB]$
--- no_error_log
no live upstreams
out of use



=== TEST 10: POST is not sent a second time, and that is no failure either
--- http_config
    upstream test_10 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_10; }
--- init
my @post = (method => 'POST', body => 'x');
::is(::routes(1, '/', @post), 'A 200', 'a kept connection');
::is(::routes(1, '/', @post, do => 'A=stale'), 'A 502', 'it was sent');
--- request
GET /requests
--- response_body: A1
--- no_error_log
out of use



=== TEST 11: a status on a kept connection is the server's
--- http_config
    upstream test_11 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://test_11; proxy_next_upstream error http_503; }
--- init
::is(::routes(1, '/'), 'A 200', 'a kept connection');
::is(::routes(2, '/', do => 'A=503'), 'AB 200, B 200', 'a failure');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use



=== TEST 12: so is a timeout
--- http_config
    upstream hangs {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_M fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://hangs; proxy_read_timeout 200ms; }
--- init
::is(::routes(1, '/'), 'M 200', 'a kept connection');
::is(::routes(2, '/hang'), 'MB 200, B 200', 'a failure');
--- request
GET /
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use



=== TEST 13: so is half an answer, or one that makes no sense
--- http_config
    upstream half {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_M fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
    upstream nonsense {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_M fail_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location /half { proxy_pass http://half; }
    location /nonsense { proxy_pass http://nonsense; proxy_next_upstream invalid_header; }
--- init
for my $path ('/half', '/nonsense') {
    ::is(::routes(1, $path), 'M 200', 'a kept connection');
    ::is(::routes(2, $path), 'MB 200, B 200', "a failure: $path");
}
--- request
GET /half
--- response_body: B
--- grep_error_log: out of use
--- grep_error_log_out
out of use
out of use



=== TEST 14: a server that closes after each answer loses no request
--- http_config
    upstream hasty {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_H;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    location / { proxy_pass http://hasty; }
--- init
my @answers = map { ::ask('/') } 1 .. 200;
::is(scalar(grep { $_->{code} eq 200 && $_->{body} eq 'H' } @answers), 200, 'all from that server');
--- request
GET /
--- response_body: H
--- no_error_log
out of use
