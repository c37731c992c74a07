# vi:set ft= ts=4 sw=4 et fdm=marker:

# HTTP checks: what a server is asked, which answers count, and what they do to
# its state. "--- backend" is explained in t/lib/NginxBackend.pm. Where a list of
# answers ends in "hang", the state stays as it is then: no check comes to an end
# before the test does.

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

=== TEST 1: what a server is asked
--- backend
a: 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 1);
--- request
GET /last
--- response_body_like eval
qr{\AGET / HTTP/1\.1\r\nHost: up\r\nUser-Agent: checkups/\d+\.\d+\.\d+\r\nAccept: \*/\*\r\nConnection: close\r\n\r\n\z}



=== TEST 2: method, uri and host
--- backend
a: 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s method=HEAD uri=/a/b?c=d&e=%20#f host=www.example.com:81;
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 1);
--- request
GET /last
--- response_body_like eval
qr{\AHEAD /a/b\?c=d&e=%20#f HTTP/1\.1\r\nHost: www\.example\.com:81\r\nUser-Agent: checkups/\S+\r\nAccept: \*/\*\r\nConnection: close\r\n\r\n\z}



=== TEST 3: the host is the name of the upstream, whatever that of the cluster
--- backend
a: 200 hang
--- http_config
    upstream example.com {
        checkups_cluster other;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 1);
--- request
GET /last
--- response_body_like: \r\nHost: example\.com\r\n



=== TEST 4: another port is checked, and requests go to the server's own
--- backend
a: 503 hang
b: 200 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s port=$TEST_NGINX_PORT_B;
    }
--- config
    location /api/ { checkups_api; }
    location /count { proxy_pass http://$TEST_NGINX_BACKEND_A/_count; }
    location /get { proxy_pass http://up; }
--- init
main::checked(b => 3);
--- request eval
['GET /count', 'GET /get', 'GET /api/status']
--- response_body_like eval
[qr/\A0\n\z/, qr/\Aa\n\z/, main::states('ok 0')]



=== TEST 5: another port, over IPv6
--- skip_eval: 3: main::no_ipv6()
--- backend
a inet6: 503 hang
b inet6: 200 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s port=$TEST_NGINX_PORT_B;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(b => 3) unless main::no_ipv6();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')
--- no_error_log
[error]



=== TEST 6: statuses from 200 to 399 are good, and a redirect is not followed
--- backend
a: 200 200 hang
b: 204 204 hang
c: 302 302 hang
d: 399 399 hang
e: 400 400 hang
f: 404 404 hang
g: 503 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        server $TEST_NGINX_BACKEND_G;
        checkups_check http interval=20ms timeout=30s uri=/health;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(map { $_ => 3 } 'a' .. 'g');
my $seen = main::backend->seen('c');
Test::More::is_deeply($seen->{targets}, [('GET /health HTTP/1.1') x 3], 'nobody asked for the Location');
Test::More::is($seen->{accepted}, 3, 'one connection a check');
--- request
GET /api/status
--- response_body_like eval
main::states(('ok 0') x 4, 'err 2 status 400', 'err 2 status 404', 'err 2 status 503')



=== TEST 7: answers that are none
--- backend
a: 200
b: close close hang
c: half half hang
d: garbage garbage hang
e: reset reset hang
f: error error hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(map { $_ => 3 } 'a' .. 'f');
--- request
GET /api/status
--- response_body_like eval
main::states(
    'ok 0', ('err 2 closed before the response was complete') x 2, 'err 2 invalid HTTP response',
    ('err 2 connection reset by peer') x 2,
)
--- no_error_log
[error]



=== TEST 8: servers that are not there, or too slow
--- backend
a: 200
b refuse:
c full:
d: trickle
e: hang
f unix refuse:
g unix full:
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        server $TEST_NGINX_BACKEND_G;
        server unix:$TEST_NGINX_SERVER_ROOT/none.sock;
        checkups_check http interval=20ms timeout=200ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::status_is(qr/(?:"status":"err".*){7}/);
--- request
GET /api/status
--- response_body_like eval
main::states(
    'ok 0', 'err \d+ connection refused', ('err \d+ timed out after 200ms') x 3, 'err \d+ connection refused',
    'err \d+ resource temporarily unavailable', 'err \d+ no such file or directory',
)
--- no_error_log
[error]



=== TEST 9: answers that come in pieces, after a 100, or without an end of the body
--- backend
a: split split hang
b: interim interim hang
c: endless endless hang
d: 200:200 200:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(map { $_ => 3 } 'a' .. 'd');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states(('ok 0') x 4)



=== TEST 10: the timeout is for the whole check, and counts as a failure
--- backend
a: trickle
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=10ms timeout=100ms fails=3;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 4);
my @times = @{ main::backend->seen('a')->{checks} };
Test::More::cmp_ok($times[3] - $times[0], '>', 0.25, 'no check begins before the one before was given up');
main::status_is(qr/"status":"err"/);
main::log_is('a: from ok to err: timed out after 100ms');
--- request
GET /api/status
--- response_body_like: \[\[\{"server":"up:[^"]+","status":"err","fail_num":\d+,"lastmodified":"[^"]+","msg":"timed out after 100ms"



=== TEST 11: fewer failures in a row than wanted change nothing
--- backend
a: 200 503 503 hang
b: 503 503 hang
c: 503 503 200 503 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=20ms timeout=30s fails=3;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 4, b => 3, c => 6);
main::log_is();
--- request eval
['GET /api/status', ('GET /get') x 3]
--- response_body_like eval
[main::states(('ok 2 status 503') x 3), qr/\Aa\n\z/, qr/\Ab\n\z/, qr/\Ac\n\z/]



=== TEST 12: the third failure in a row is the one, and it is counted on
--- backend
a: 200 503 503 503 hang
b: 503 503 503 404 close hang
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=20ms timeout=30s fails=3;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 5, b => 6, c => 1);
main::log_is_in_some_order('a: from ok to err: status 503', 'b: from ok to err: status 503');
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
[main::states('err 3 status 503', 'err 5 closed before the response was complete', 'ok 0'), (qr/\Ac\n\z/) x 4]



=== TEST 13: passes in a row: one is not enough, and a failure starts the count afresh
--- backend
a: 503 200 hang
b: 503 200 503 200 hang
c: 503 503 200 503 200 503 hang
d: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        checkups_check http interval=20ms timeout=30s passes=2;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 3, b => 5, c => 7, d => 1);
main::log_is_in_some_order(map { "$_: from unchecked to err: status 503" } 'a' .. 'c');
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
[main::states('err 1', 'err 2', 'err 4 status 503', 'ok 0'), (qr/\Ad\n\z/) x 4]



=== TEST 14: passes in a row: the second is the one
--- backend
a: 503 200 200 hang
b: 503 200 503 200 200 hang
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=20ms timeout=30s passes=2;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 4, b => 6, c => 1);
--- request eval
['GET /api/status', ('GET /get') x 3]
--- response_body_like eval
[main::states(('ok 0') x 3), qr/\Aa\n\z/, qr/\Ab\n\z/, qr/\Ac\n\z/]



=== TEST 15: a line for each change of state, and none for a check
--- backend
a: 200 200 503 503 503 200 200 404 200 200 200 200 hang
b: 200
--- http_config
    upstream up {
        checkups_cluster cluster-1;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 13, b => 10);
my $line = '[notice] cluster "cluster-1", server a: from';
main::log_is(
    "$line ok to err: status 503", "$line err to ok: check passed",
    "$line ok to err: status 404", "$line err to ok: check passed",
);
--- request
GET /api/clusters/



=== TEST 16: when every server has failed, all stay in use
--- backend
a: 200 503 hang
b: 200 wait:503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 3, b => 2);
main::backend->release('b');
main::checked(b => 3);
main::log_is(
    'a: from ok to err: status 503',
    'b: from ok to unstable: status 503',
    'every server has failed its checks, all stay in use as unstable',
);
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
[main::states(('unstable 1 status 503') x 2), qr/\Aa\n\z/, qr/\Ab\n\z/, qr/\Aa\n\z/, qr/\Ab\n\z/]



=== TEST 17: the only server of a cluster
--- backend
a: 503 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 3);
--- request eval
['GET /api/status', 'GET /get']
--- response_body_like eval
[main::states('unstable 2 status 503'), qr/\Aa\n\z/]



=== TEST 18: one that recovers ends that, and the others are out of use
--- backend
a: 503 503 503 hang
b: wait:503 wait:200 hang
c: wait:503 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 4, b => 1, c => 1);
main::backend->release('b');
main::checked(b => 2);
main::backend->release('c');
main::checked(c => 3);
main::backend->release('b');
main::checked(b => 3);
main::log_is(
    'a: from unchecked to err: status 503',
    'b: from unchecked to err: status 503',
    'c: from unchecked to unstable: status 503',
    'every server has failed its checks, all stay in use as unstable',
    'b: from unstable to ok: check passed',
    'a server works again, those that fail their checks are out of use',
);
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
[main::states('err 3 status 503', 'ok 0', 'err 2 status 503'), (qr/\Ab\n\z/) x 4]



=== TEST 19: an unchecked server keeps the others from being unstable
--- backend
a: 503 hang
b: hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 2, b => 1);
--- request eval
['GET /api/status', ('GET /get') x 3]
--- response_body_like eval
[main::states('err 1 status 503', 'unchecked'), (qr/\Ab\n\z/) x 3]



=== TEST 20: the backup is checked as well, and used when the others have failed
--- backend
a: 503 hang
b: 200 hang
c: 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B backup;
        server $TEST_NGINX_BACKEND_C backup;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 2, b => 2, c => 2);
--- request eval
['GET /api/status', ('GET /get') x 3]
--- response_body_like eval
[qr/\A\{"cls:up":\[\[\{[^]]*"err"[^]]*\}\],\[\{[^}]*"ok"[^}]*\},\{[^}]*"err"[^}]*\}\]\],/, (qr/\Ab\n\z/) x 3]



=== TEST 21: servers over IPv6 and unix sockets
--- skip_eval: 18: main::no_ipv6()
--- backend
a inet6: 200 200 hang
b unix: 200 200 hang
c inet6: 503 503 hang
d unix: 503 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(map { $_ => 3 } 'a' .. 'd') unless main::no_ipv6();
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
[main::states('ok 0', 'ok 0', 'err 2 status 503', 'err 2 status 503'), qr/\Aa\n\z/, qr/\Ab\n\z/, qr/\Aa\n\z/, qr/\Ab\n\z/]



=== TEST 22: a check that turns to up clears the passive mark
--- backend
a: 200 wait:200 503 200 hang | 200 close 200
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A fail_timeout=1h;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 2);
my @marked = map { main::get('/get') } 1 .. 5;
Test::More::is("@marked", 'a b b b b', 'a failed a request and is left alone');
main::backend->release('a');
main::checked(a => 5);
main::log_is(
    '[warn] cluster "up", server a: out of use for 3600s, failed requests: 1',
    'a: from ok to err: status 503',
    'a: from err to ok: check passed',
);
--- request eval
[('GET /get') x 4]
--- response_body eval
["b\n", "a\n", "b\n", "a\n"]



=== TEST 23: a check that passes once more does not, and a passive mark is no verdict
--- backend
a: 200 wait:200 200 200 200 hang | close
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A fail_timeout=1h;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 2);
Test::More::is(main::get('/get'), 'b', 'a failed, b answered');
main::backend->release('a');
main::checked(a => 6);
main::log_is('[warn] cluster "up", server a: out of use for 3600s, failed requests: 1');
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
[qr/"up:[^"]+","status":"ok","fail_num":0,.*"up:[^"]+","status":"ok"/, (qr/\Ab\n\z/) x 4]



=== TEST 24: a failure of the last server that works is no mark, so that there is one
--- backend
a: 503 hang | 200
b: 200 hang | close 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B fail_timeout=1h;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 2, b => 2);
main::log_is('a: from unchecked to err: status 503');
--- request eval
[('GET /get') x 3]
--- error_code eval
[502, 200, 200]
--- no_error_log
out of use



=== TEST 25: a server with a passive mark is used again when all others fail their checks
--- backend
a: hang | close 200
b: 200 wait:200 503 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A fail_timeout=1h;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 1, b => 2);
my @marked = map { main::get('/get') } 1 .. 3;
Test::More::is("@marked", 'b b b', 'a failed a request and is left alone');
main::backend->release('b');
main::checked(b => 4);
main::log_is(
    '[warn] cluster "up", server a: out of use for 3600s, failed requests: 1',
    'b: from ok to err: status 503',
    'no working server is left, those out of use for failed requests are used again',
);
--- request eval
['GET /api/status', ('GET /get') x 3]
--- response_body_like eval
[qr/"up:[^"]+","status":"unchecked",.*"up:[^"]+","status":"err"/, (qr/\Aa\n\z/) x 3]



=== TEST 26: a server that is down is not checked
--- backend
a: 200
b: 503
c: 503
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B down;
        checkups_check http interval=10ms;
    }
    upstream all {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_C down;
        checkups_check http interval=10ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 20);
Test::More::is(main::backend->seen($_)->{accepted}, 0, "nobody connects to $_") for 'b', 'c';
main::log_is();
--- request
GET /api/status
--- response_body_like eval
my ($up, $all) = map { qr/"up:[^"]+","status":"$_"/ } 'ok', 'unchecked';
qr/(?=.*$up.*$all)(?=.*"all:[^"]+","status":"unchecked","weight")/



=== TEST 27: equal addresses are checked once, and share what is known
--- backend
a: 200 503 503 hang
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_A backup;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 4, b => 20);
Test::More::is(main::backend->count('a'), 4, 'no second check of the address');
main::log_is('a: from ok to err: status 503');
--- request eval
['GET /api/status', ('GET /get') x 4]
--- response_body_like eval
my $err = qr/"status":"err","fail_num":2,"lastmodified":"[^"]+","msg":"status 503"/;
[qr/\A\{"cls:up":\[\[[^]]*$err[^]]*$err[^]]*"ok"[^]]*\],\[[^]]*$err/, (qr/\Ab\n\z/) x 4]



=== TEST 28: of equal addresses, one that is down does not keep the other from being checked
--- backend
a: 200 503 hang
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A down;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
main::checked(a => 3, b => 5);
Test::More::is(main::backend->count('a'), 3, 'no second check of the address');
--- request eval
['GET /api/status', ('GET /get') x 3]
--- response_body_like eval
[main::states('unchecked', 'err 1 status 503', 'ok 0'), (qr/\Ab\n\z/) x 3]



=== TEST 29: the same address in two clusters is checked for each
--- backend
a: 200
--- http_config
    upstream one {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms uri=/one;
    }
    upstream two {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms uri=/two;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 10);
my %count;
$count{$_}++ for @{ main::backend->seen('a')->{targets} };
Test::More::is_deeply([sort keys %count], ['GET /one HTTP/1.1', 'GET /two HTTP/1.1'], 'both are asked');
Test::More::ok((grep { $_ >= 4 } values %count) == 2, 'equally often')
    or Test::More::diag(join ' ', %count);
--- request
GET /api/status
--- response_body_like eval
qr/(?=.*"one:[^"]+","status":"ok")(?=.*"two:[^"]+","status":"ok")/



=== TEST 30: no checks where they are off
--- backend
a: 503
b: 503
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check off;
    }
    upstream none {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_B;
    }
    upstream other {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=10ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(c => 20);
Test::More::is(main::backend->seen($_)->{accepted}, 0, "nobody connects to $_") for 'a', 'b';
--- request
GET /api/status
--- response_body_like eval
qr/(?=.*"up:[^"]+","status":"unchecked","weight")(?=.*"none:[^"]+","status":"unchecked","weight")/



=== TEST 31: nginx as the server
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        location = /gone { return 410; }
        location = /teapot { return 299 ""; }
        location = /bye { return 444; }
    }
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        checkups_check http interval=20ms uri=/gone;
    }
    upstream teapot {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        checkups_check http interval=20ms uri=/teapot;
    }
    upstream bye {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        checkups_check http interval=20ms uri=/bye;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::status_is(qr/(?=.*"up:[^"]+","status":"unstable")(?=.*"teapot:[^"]+","status":"ok")(?=.*"bye:[^"]+","status":"unstable")/);
--- request
GET /api/status
--- response_body_like eval
qr/(?=.*"up:[^}]*"msg":"status 410")(?=.*"teapot:[^}]*"msg":null)(?=.*"bye:[^}]*"msg":"closed before the response was complete")/
