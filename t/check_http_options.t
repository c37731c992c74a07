# vi:set ft= ts=4 sw=4 et fdm=marker:

# What an HTTP check asks, by its parameters, and how long its connection lives.
# "--- backend" and "--- answers" are explained in t/lib/NginxBackend.pm. Where a
# list of answers ends in "hang", no check comes to an end before the test does.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxChecks;
use Test::Nginx::Socket;

# How many checks came over each connection to these servers, in the order of
# the connections; and all but the last of these were ended by a reset.
sub connections_are {
    my %wanted = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $name (sort keys %wanted) {
        my @connections = backend->connections($name);
        is("@{[map { $_->{checks} } @connections]}", $wanted{$name}, "the checks of the connections to $name");
        my $last = pop @connections;
        is("@{[map { $_->{end} } @connections]}", "@{[('reset') x @connections]}", "how those before ended");
        is($last->{end}, undef, 'the last one is open');
    }
    return;
}

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: a method, headers and a body
--- backend
a: 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s uri=/a?b method=POST "header=X-Check: a  b" header=x-check:2
                       "header=X-Empty:" "header=Content-Type: application/json" "body={\"a\": [1, \"ä\"]}\r\n";
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 2);
--- request
GET /last
--- response_body_like eval
my @head = ('POST /a?b HTTP/1.1', 'Host: up');
my @more = ('Accept: */*', 'X-Check: a  b', 'x-check: 2', 'X-Empty: ', 'Content-Type: application/json', 'Connection: close',
    'Content-Length: 18', '', "{\"a\": [1, \"\xc3\xa4\"]}\r\n");
my ($start, $end) = map { quotemeta CORE::join "\r\n", @$_ } \@head, \@more;
qr{\A$start\r\nUser-Agent: checkups/[^\r]+\r\n$end\z}



=== TEST 2: headers in place of those that checkups sends by itself
--- backend
a: 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s "header=X-Check: 1" host=not.example.com "header=accept: text/html"
                       "header=HOST: www.example.com:8080" "header=User-Agent: probe/1 (of ours)" "header=Accept: text/plain";
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 2);
--- request
GET /last
--- response_body eval
CORE::join "\r\n", 'GET / HTTP/1.1', 'HOST: www.example.com:8080', 'User-Agent: probe/1 (of ours)', 'accept: text/html',
    'Accept: text/plain', 'X-Check: 1', 'Connection: close', '', ''



=== TEST 3: a body of no bytes has a length, too
--- backend
a: 200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s method=PUT body= keepalive_time=1m;
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 2);
--- request
GET /last
--- response_body_like eval
qr{\APUT / HTTP/1\.1\r\nHost: up\r\nUser-Agent: checkups/\S+\r\nAccept: \*/\*\r\nContent-Length: 0\r\n\r\n\z}



=== TEST 4: nginx reads what is asked
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server_name www.example.com;
        location / { return 404; }
        location = /good {
            if ($http_authorization = "Basic dTpw") { set $good a; }
            if ($content_length = 5) { set $good "${good}b"; }
            if ($http_user_agent = "me") { set $good "${good}c"; }
            if ($request_method = PATCH) { set $good "${good}d"; }
            if ($good = abcd) { return 204; }
        }
    }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 default_server; return 403; }
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        checkups_check http interval=20ms uri=/good host=www.example.com "header=Authorization: Basic dTpw" header=User-Agent:me
                       method=PATCH body=12345;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::status_is('ok 0');
--- request
GET /api/clusters/up
--- response_body_unlike: dTpw
--- no_error_log
[error]



=== TEST 5: without keepalive_time each check has a connection of its own
Also where the server would keep it.
--- backend
a: keep:200 keep:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s;
    }
--- config
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
main::checked(a => 3);
main::connections_are(a => '1 1 1');
--- request
GET /last
--- response_body_like: \r\nConnection: close\r\n



=== TEST 6: with it, one connection serves one check after the other
By IPv4, IPv6 and a unix socket.
--- skip_eval: 15: main::no_ipv6()
--- backend
a: keep:200
b inet6: keep:200
c unix: keep:200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=10ms keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
    location /last { proxy_pass http://$TEST_NGINX_BACKEND_A/_last; }
--- init
if (!main::no_ipv6()) {
    main::checked(a => 20, b => 20, c => 20);
    for my $name ('a' .. 'c') {
        my @connections = main::backend->connections($name);
        Test::More::is(scalar @connections, 1, "one connection to $name");
        Test::More::cmp_ok($connections[0]{checks}, '>=', 20, 'for all checks');
    }
    main::log_is();
}
--- request eval
['GET /api/status', 'GET /last']
--- response_body_like eval
[main::states(('ok 0') x 3), qr{\AGET / HTTP/1\.1\r\nHost: up\r\nUser-Agent: checkups/\S+\r\nAccept: \*/\*\r\n\r\n\z}]



=== TEST 7: it is kept where the response ends as it has said
--- answers
chunked: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n | \r\n
pieces: HTTP/1.1 200 OK\r\nConnection: X, Y\r\nContent-Length: 4\r\n\r\nab | cd
empty: HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n
none: HTTP/1.1 204 X\r\n\r\n
not_new: HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n
old: HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\nok
interim: HTTP/1.1 102 X\r\n\r\n | HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok
--- backend
a: say:chunked say:chunked say:chunked hang
b: say:pieces say:pieces say:pieces hang
c: say:empty say:empty say:empty hang
d: say:none say:none say:none hang
e: say:not_new say:not_new say:not_new hang
f: say:old say:old say:old hang
g: say:interim say:interim say:interim hang
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
        checkups_check http interval=50ms timeout=30s keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(map { $_ => 4 } 'a' .. 'g');
main::connections_are(map { $_ => '4' } 'a' .. 'g');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states(('ok 0') x 7)



=== TEST 8: it is dropped at the first oddity, which is no failure
--- answers eval
my $long = 'x' x 262145;
my $text = CORE::join '', <<'END', "long: HTTP/1.1 200 OK\\r\\nContent-Length: 262145\\r\\n\\r\\n$long\n";
close: HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok
old: HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok
surplus: HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay
surplus_none: HTTP/1.1 204 OK\r\n\r\nokay
surplus_chunk: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nokay
late: HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok | HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok
until: HTTP/1.1 200 OK\r\n\r\nok
END
--- backend
a: say:close say:close hang
b: say:old say:old hang
c: say:surplus say:surplus hang
d: say:surplus_none say:surplus_none hang
e: say:surplus_chunk say:surplus_chunk hang
f: say:late say:late hang
g: say:until say:until hang
h: say:long say:long hang
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
        server $TEST_NGINX_BACKEND_H;
        checkups_check http interval=300ms timeout=30s keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(map { $_ => 3 } 'a' .. 'h');
main::connections_are((map { $_ => '1 1 1' } 'a' .. 'g'));
Test::More::is(scalar(main::backend->connections('h')), 3, 'a long body is not waited for');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states(('ok 0') x 8)



=== TEST 9: it is dropped after a check that failed
--- answers
bad: HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbusy
--- backend
a: keep:200 keep:503 keep:200 keep:404 keep:404 keep:200 keep:200 hang
b: keep:200 say:bad keep:200 hang
--- http_config
    checkups_match good { status 200-399; body !~ busy; }
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=30s keepalive_time=1h match=good fails=3;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 8, b => 4);
main::connections_are(a => '2 2 1 3', b => '2 2');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 10: what is looked for was found, and the rest of the body is read nevertheless
--- answers
found: HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nneedle | behind
chunked: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nneedle\r\n | 3\r\nend\r\n0\r\n\r\n
--- backend
a: say:found say:found hang
b: say:chunked say:chunked hang
--- http_config
    checkups_match needle { body ~ needle; }
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=100ms timeout=30s keepalive_time=1h match=needle;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 3, b => 3);
main::connections_are(a => '3', b => '3');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 11: a HEAD has no body, whatever its length
--- backend
a: keep:200 keep:200 keep:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s keepalive_time=1h method=HEAD;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 4);
main::connections_are(a => '4');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 12: a request with a body, again and again
--- backend
a: keep:200 keep:200 keep:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s keepalive_time=1h method=POST body=abc;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 4);
main::connections_are(a => '4');
my ($connection) = main::backend->connections('a');
my @requests = $connection->{sent} =~ m{\GPOST / HTTP/1\.1\r\n(?:[^\r]+\r\n)*\r\nabc}g;
Test::More::is(scalar @requests, 4, 'four whole requests');
Test::More::is(length $connection->{sent}, length CORE::join('', @requests), 'and nothing else');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 13: it ends with the keepalive_time
--- backend
a: keep:200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s keepalive_time=400ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::connected(a => 4);
my @connections = (main::backend->connections('a'))[0 .. 2];
my @opened = map { $_->{opened} } main::backend->connections('a');
Test::More::ok($connections[$_]{checks} >= 2, 'several checks') for 0 .. 2;
# Of the clock that both go by a turn of the event loop is the unit.
Test::More::cmp_ok($opened[$_] - $opened[$_ - 1], '>=', 0.35, 'none is opened before the time is over') for 1 .. $#opened;
Test::More::is("@{[map { $_->{end} } @connections]}", 'reset reset reset', 'how they ended');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 14: a server that closes it between two checks
--- backend
a: brief:200 brief:200 brief:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=200ms timeout=30s keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 4);
Test::More::is(CORE::join(' ', map { $_->{checks} } main::backend->connections('a')), '1 1 1 1', 'each check has a new one');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 15: a server that closes it, or resets it, when the next check comes
That is no verdict: the same check goes on with a new connection.
--- backend
a: keep:200 close keep:200 hang
b: keep:200 reset keep:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=600ms timeout=30s keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 4, b => 4);
for my $name ('a', 'b') {
    my @times = @{ main::backend->seen($name)->{checks} };
    Test::More::is(CORE::join(' ', map { $_->{checks} } main::backend->connections($name)), '2 2', 'a new connection');
    Test::More::cmp_ok($times[2] - $times[1], '<', 0.4, 'at once');
}
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 16: a server that does so with a new connection has failed
And so has one that ends in the middle of an answer.
--- backend
a: keep:200 close close hang
b: keep:200 reset 503 hang
c: keep:200 half hang
d: keep:200 error hang
e: keep:200 garbage hang
f: close hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        server 127.0.0.1:$TEST_NGINX_SERVER_PORT;
        checkups_check http interval=50ms timeout=30s keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
    location = / { return 204; }
--- init
main::checked(a => 4, b => 4, c => 3, d => 3, e => 3, f => 2);
Test::More::is(CORE::join(' ', map { $_->{checks} } main::backend->connections($_)), '2 1 1', "connections to $_") for 'a', 'b';
Test::More::is(CORE::join(' ', map { $_->{checks} } main::backend->connections($_)), '2 1', "connections to $_") for 'c' .. 'e';
--- request
GET /api/status
--- response_body_like eval
main::states(
    'err 1 closed before the response was complete', 'err 1 status 503', 'err 1 closed before the response was complete',
    'err 1 connection reset by peer', 'err 1 invalid HTTP response', 'err 1 closed before the response was complete', 'ok 0',
)



=== TEST 17: a check over it that takes too long
--- backend
a: keep:200 hang keep:200 keep:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=50ms timeout=1s keepalive_time=1h fails=9;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 5);
main::connections_are(a => '2 3');
--- request
GET /api/status
--- response_body_like eval
main::states('ok \d')



=== TEST 18: a server that is not there any more
--- backend
a: keep:200
b: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=20ms timeout=1s keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 3);
main::backend->checks(a => 'close');
main::backend->state(a => 'refuse');
main::status_is('err \d+ connection refused', 'ok 0');
main::backend->checks(a => 'keep:200');
main::backend->state(a => 'listen');
main::status_is('ok 0', 'ok 0');
main::log_is('a: from ok to err: connection refused', 'a: from err to ok: check passed');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0', 'ok 0')



=== TEST 19: nginx as the server, which ends it after three requests
--- http_config
    log_format kept $connection_requests;
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        access_log $TEST_NGINX_SERVER_ROOT/logs/kept.log kept;
        keepalive_requests 3;
        location / { return 200 ok; }
    }
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        checkups_check http interval=20ms keepalive_time=1h;
    }
--- config
    location /api/ { checkups_api; }
--- init
my $log;
main::backend->wait_until(10, sub {
    open my $in, '<', "$ENV{TEST_NGINX_SERVER_ROOT}/logs/kept.log" or return;
    local $/ = undef;
    $log = readline $in;
    return length $log >= 18;
});
Test::More::like($log, qr/\A1\n2\n3\n1\n2\n3\n1\n2\n3\n/, 'three checks each');
main::log_is();
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 20: the PROXY header comes once a connection
--- backend
a: keep:200 keep:200 hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms timeout=30s keepalive_time=1h proxy_protocol=on bind=127.0.0.2;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 3);
main::connections_are(a => '3');
my ($connection) = main::backend->connections('a');
Test::More::is($connection->{from}, '127.0.0.2', 'the address that it is from');
my $get = qr{GET / HTTP/1\.1\r\n(?:[^\r]+\r\n)+\r\n};
Test::More::like($connection->{sent}, qr{\APROXY TCP4 127\.0\.0\.2 127\.0\.0\.1 \d+ $ENV{TEST_NGINX_PORT_A}\r\n(?:$get){3}\z}, 'what is sent');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 21: clusters that share a check share its connection, and other checks have their own
--- backend
a: keep:200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms keepalive_time=1h host=a;
    }
    upstream up_same {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms keepalive_time=1h host=a;
    }
    upstream up_other {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=20ms keepalive_time=1h host=b;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::checked(a => 30);
my @connections = main::backend->connections('a');
Test::More::is(scalar @connections, 2, 'two connections');
my @hosts = sort map { $_->{sent} =~ /\r\nHost: (\w+)/ } @connections;
Test::More::is("@hosts", 'a b', 'one each');
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')
