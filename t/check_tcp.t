# vi:set ft= ts=4 sw=4 et fdm=marker:

# TCP checks. "--- backend" is explained in t/lib/NginxBackend.pm. Nobody can tell
# how often a server has refused to be connected, so the tests follow the status
# where check_http.t counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxChecks;
use Test::Nginx::Socket;

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: a check connects, sends nothing, and closes the connection
--- backend
a: hang
b: 503
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::connected(a => 5, b => 5);
for my $name ('a', 'b') {
    my $seen = main::backend->seen($name);
    Test::More::is(@{ $seen->{checks} } + @{ $seen->{requests} }, 0, 'no request');
    Test::More::ok($seen->{silent} >= 4, 'the connections are closed again');
}
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 2: servers that refuse, are full, or are not there
--- backend
a: 200
b refuse:
c full:
d unix: 200
e unix refuse:
f unix full:
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        server unix:$TEST_NGINX_SERVER_ROOT/none.sock;
        checkups_check tcp interval=20ms timeout=100ms;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::status_is(
    'ok 0', 'err \d+ connection refused', 'err \d+ timed out after 100ms', 'ok 0', 'err \d+ connection refused',
    'err \d+ resource temporarily unavailable', 'err \d+ no such file or directory',
);
--- request eval
[('GET /get') x 4]
--- response_body_like eval
[(qr/\Aa\n\z/, qr/\Ad\n\z/) x 2]
--- no_error_log
[error]



=== TEST 3: fails in a row, and one pass ends them
--- backend
a refuse:
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=60ms fails=3;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
my @history = main::history_until('err 6');
main::went_through(\@history, 'unchecked', 'ok 1', 'ok 2', 'err 3', 'err 4', 'err 5', 'err 6');
main::log_is('a: from ok to err: connection refused');
Test::More::is(join(' ', map { main::get('/get') } 1 .. 3), 'b b b', 'a is out of use');
main::backend->state(a => 'listen');
main::status_is('ok 0', 'ok 0');
main::log_is('a: from ok to err: connection refused', 'a: from err to ok: check passed');
--- request eval
[('GET /get') x 2]
--- response_body_like eval
[qr/\A[ab]\n\z/, qr/\A[ab]\n\z/]



=== TEST 4: fewer fails than wanted change nothing, and are forgotten by a pass
--- backend
a refuse:
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check tcp interval=20ms fails=1000000;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::status_is('ok [3-9] connection refused');
main::backend->state(a => 'listen');
main::status_is('ok 0');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 5: passes in a row
--- backend
a refuse:
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=20ms passes=10;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::status_is('err [1-9]\d* connection refused', 'ok 0');
main::backend->state(a => 'listen');
main::status_is('err [1-9]\d*', 'ok 0');
main::status_is('ok 0', 'ok 0');
Test::More::ok(main::backend->seen('a')->{accepted} >= 10, 'after ten of them');
main::log_is('a: from unchecked to err: connection refused', 'a: from err to ok: check passed');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 6: when every server has failed, all stay in use, until one recovers
--- backend
a: 200
b refuse:
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=20ms timeout=1s port=$TEST_NGINX_PORT_C;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; proxy_next_upstream off; }
--- init
main::status_is('ok 0', 'ok 0');
main::backend->state(c => 'refuse');
main::status_is(('unstable \d+ connection refused') x 2);
Test::More::is(main::get('/get'), 'a', 'a answers');
Test::More::like(main::get('/get'), qr/502 Bad Gateway/, 'b cannot, and is tried nevertheless');
main::backend->state(c => 'listen');
main::status_is('ok 0', 'ok 0');
my @log = main::logged();
Test::More::is_deeply([grep { /every server/ } @log],
    ['every server has failed its checks, all stay in use as unstable'], 'logged once');
Test::More::is_deeply([grep { /works again/ } @log],
    ['a server works again, those that fail their checks are out of use'], 'logged once');
Test::More::is_deeply([sort map { /^[ab]: (from ok to .*)/ } @log],
    ['from ok to err: connection refused', 'from ok to unstable: connection refused'], 'each failed, once');
Test::More::is(scalar(grep { /from \w+ to ok: check passed/ } @log), 2, 'each recovered, once');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 7: another port, which is no matter of unix sockets
--- backend
a refuse:
b unix: 200
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=20ms port=$TEST_NGINX_PORT_C;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::connected(b => 5, c => 5);
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 8: over IPv6
--- skip_eval: 4: main::no_ipv6()
--- backend
a inet6: 200
b inet6 refuse:
c inet6: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=20ms;
    }
    upstream port {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=20ms port=$TEST_NGINX_PORT_C;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::connected(a => 3, c => 3) unless main::no_ipv6();
--- request
GET /api/status
--- response_body_like eval
qr/(?=.*"port:\[::1\]:\d+","status":"ok")(?=.*"up:\[::1\]:\d+","status":"ok".*"up:\[::1\]:\d+","status":"err","fail_num":\d+,"lastmodified":"[^"]+","msg":"connection refused")/



=== TEST 9: a check that turns to up clears the passive mark
--- backend
a: | close 200
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A fail_timeout=1h;
        checkups_check tcp interval=20ms;
        server $TEST_NGINX_BACKEND_B backup;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::connected(a => 2, b => 2);
Test::More::is(join(' ', map { main::get('/get') } 1 .. 3), 'b b b', 'a failed a request and is left alone');
main::connected(b => main::backend->seen('b')->{accepted} + 5);
Test::More::is(main::get('/get'), 'b', 'passes change nothing');
my @log = ('[warn] cluster "up", server a: out of use for 3600s, failed requests: 1');
main::log_is(@log);
main::backend->state(a => 'refuse');
push @log, 'a: from ok to err: connection refused';
main::backend->wait_until(10, sub { main::logged() == @log });
main::backend->state(a => 'listen');
push @log, 'a: from err to ok: check passed';
main::backend->wait_until(10, sub { main::logged() == @log });
main::log_is(@log);
--- request eval
[('GET /get') x 2]
--- response_body_like eval
[(qr/\Aa\n\z/) x 2]



=== TEST 10: a server that is down is not checked, equal addresses are checked once
--- backend
a: 200
b: 200
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A down;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_B weight=3;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_B backup;
        checkups_check tcp interval=40ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::connected(c => 15);
my ($b, $c) = map { main::backend->seen($_)->{accepted} } 'b', 'c';
Test::More::ok(abs($b - $c) <= 3, "as many for b as for c: $b, $c");
Test::More::is(main::backend->seen('a')->{accepted}, 0, 'nobody connects to a');
--- request
GET /api/status
--- response_body_like eval
qr/\[\[\{[^}]*"status":"unchecked","weight":1[^}]*\}(?:,\{[^}]*"status":"ok"[^}]*\}){3}\],\[\{[^}]*"status":"ok"/
