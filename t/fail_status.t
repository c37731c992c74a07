# checkups_fail_status: which answers count as failed requests, that they do so
# whatever happens to the request, and when a server comes back.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Time::HiRes ();
use Backends;

# V answers with the status that the path begins with, in HTTP and, as W, in SCGI.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'C') . $block->http_config);
    $block->set_value(request => 'GET /worker') unless defined $block->request;
    $block->set_value(config => "location = /worker { return 200; }\n" . $block->config);
});

sub text_of { my $status = shift; return $status =~ /^(?:204|304)$/ ? '' : "$status from V" }

serve(V => sub {
    my $connection = shift;
    while (my $head = read_head($connection)) {     # the bodies here come along with it
        my ($method, $status) = $head =~ m{\A(\S+) /(\d+)} or return;
        my $text = text_of($status);
        my $fields = $status =~ /^30[1-8]/ && $status != 304 ? "Location: /elsewhere\r\n" : '';
        $fields .= 'Content-Length: ' . length($text) . "\r\n" if length $text;
        print $connection "HTTP/1.1 $status X\r\n$fields\r\n", $method eq 'HEAD' ? '' : $text;
    }
});

serve(W => sub {
    my $connection = shift;
    my $request = read_until($connection, qr/REQUEST_URI\0[^\0]+\0/) or return;
    my ($status) = $request =~ m{REQUEST_URI\0/scgi/(\d+)} or return;
    print $connection "Status: $status X\r\nContent-Type: text/plain\r\n\r\n$status from W";
});
silent_port('S');

sub sleep_until {
    my $moment = shift;
    my $left = $moment - now();
    Time::HiRes::sleep($left) if $left > 0;
    return;
}

# Whether a request of this kind has put V out of use: the request, then whether
# the next one goes to the backup. V is used again after that.
sub verdict {
    my ($path, %option) = @_;
    my $first = routes(1, $path, %option);
    my $next = ask('/200')->{tried};
    my $port = port_of('V');
    my $answer = ask("/api/clusters/up/servers/127.0.0.1:$port/feedback",
        method => 'POST', body => '{"failed":false}', headers => ['Content-Type: application/json']);
    die "feedback: $answer->{code} $answer->{body}" if $answer->{code} ne '200';
    return "$first, then $next";
}

no_root_location();
workers(4);
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: codes and ranges
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500 502-504 404 301-302 599 204;
    }
--- config
    location / { proxy_pass http://up; }
    location /api/ { checkups_api write=on; }
--- init
for my $status (204, 301, 302, 404, 500, 502, 503, 504, 599) {
    ::is(::verdict("/$status"), "V $status, then A", "$status is a failure");
}
for my $status (200, 201, 203, 205, 206, 300, 303, 304, 307, 308, 400, 401, 403, 405, 418, 429, 499, 501, 505, 598) {
    ::is(::verdict("/$status"), "V $status, then V", "$status is none");
}
::like(::ask('/api/clusters/up')->{body}, qr/"fail_status":\["500","502-504","404","301-302","599","204"\]/, 'the API shows them');
--- grep_error_log eval: qr/(?:error|warn)\].*?(?:,|$)/
--- grep_error_log_out eval
qr/\A(?:warn\] \S+ checkups: cluster "up",\n){9}\z/



=== TEST 2: the client gets the answer as it is, and it is not sent a second time
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        checkups_fail_status 400-599;
    }
--- config
    location / { proxy_pass http://up; }
--- init
for my $status (404, 500, 503, 504) {
    my ($answer) = grep { $_->{tried} ne 'A' } map { ::ask("/$status") } 1 .. 4;
    ::is("$answer->{tried} $answer->{code} $answer->{body}", "V $status $status from V", 'one try');
}
--- no_error_log
[error]



=== TEST 3: methods
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
--- config
    location / { proxy_pass http://up; proxy_next_upstream error http_500; }
    location /500/plain { proxy_pass http://up; }
    location /500/all { proxy_pass http://up; proxy_next_upstream error http_500 non_idempotent; }
    location /api/ { checkups_api write=on; }
--- init
my @post = (method => 'POST', body => 'x');
::is(::verdict('/500/plain', @post), 'V 500, then A', 'POST');
::is(::verdict('/500', @post), 'V 500, then A', 'POST that would be retried, if it were GET');
::is(::verdict('/500/all', @post), 'VA 200, then A', 'POST that is retried');
::is(::verdict('/500/plain', method => 'DELETE'), 'V 500, then A', 'DELETE');
my $head = ::connect_to()->request('/500/plain', method => 'HEAD')->take_through("\r\n\r\n");
::like($head, qr/^HTTP\/1.1 500 /, 'HEAD');
::is(::answers(2, '/200'), 'AA', 'is like the others');



=== TEST 4: together with proxy_next_upstream
A status there has the request sent on, and is a failure; but 403 and 404 are none, unless they are named.
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500 404;
    }
--- config
    location / { proxy_pass http://up; proxy_next_upstream error http_500 http_503 http_404 http_403 http_429; }
    location ~ ^/5../off { proxy_pass http://up; proxy_next_upstream off; }
    location /api/ { checkups_api write=on; }
--- init
::is(::verdict('/500'), 'VA 200, then A', 'in both: retried, and a failure');
::is(::verdict('/503'), 'VA 200, then A', 'in proxy_next_upstream: retried, and a failure');
::is(::verdict('/429'), 'VA 200, then A', 'the same');
::is(::verdict('/404'), 'VA 200, then A', '404 in both: retried, and a failure');
::is(::verdict('/403'), 'VA 200, then V', '403 in proxy_next_upstream: retried, and none');
::is(::verdict('/502'), 'V 502, then V', 'in none: neither');
::is(::verdict('/500/off'), 'V 500, then A', 'without retries: a failure');
::is(::verdict('/503/off'), 'V 503, then V', 'without retries, and not named: none');



=== TEST 5: on the last try that a request may make
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
    upstream one {
        checkups_cluster tries=1;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
    upstream last {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h backup;
        checkups_fail_status 500;
    }
--- config
    proxy_next_upstream error http_500;
    location / { proxy_pass http://up; proxy_next_upstream_tries 1; }
    location /500/one { proxy_pass http://one; }
    location /500/last { proxy_pass http://last; }
    location /api/ { checkups_api write=on; }
--- init
::is(::verdict('/500'), 'V 500, then A', 'proxy_next_upstream_tries');
::is(::routes(2, '/500/one'), 'V 500, A 200', 'tries=');
::is(::routes(1, '/500/last', do => 'A=close'), 'AV 500', 'no other server');
::is(::routes(1, '/500/last', do => 'A=close'), 'A 502', 'now there is none');
--- grep_error_log: out of use
--- grep_error_log_out
out of use
out of use
out of use



=== TEST 6: a success clears, another status than those is one
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V max_fails=3 fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500-502;
    }
--- config
    location / { proxy_pass http://up; }
--- init
for my $success (200, 304, 404, 503) {
    ::is(::routes(1, $_), 'V ' . CORE::substr($_, 1), "a failure: $_") for '/500', '/502';
    ::is(::routes(1, "/$success"), "V $success", "a success: $success");
}
::is(::routes(1, $_), 'V ' . CORE::substr($_, 1), "a failure: $_") for '/500', '/501', '/502';
::is(::answers(2, '/200'), 'AA', 'these were three in a row');
--- grep_error_log eval: qr/out of use.*/
--- grep_error_log_out
out of use for 3600s, failed requests: 3



=== TEST 7: exactly max_fails in fail_timeout, over all workers
Requests one after another, in turn by four workers, as fast as they go. After each pair the server is
left alone for a second that begins with the second of them.
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=2 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=2 fail_timeout=1s;
        checkups_fail_status 500;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://up; }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my $start = ::now();
my (@failed, %tried, $made);
while (@failed < 8 && ::now() < $start + 15) {
    my $worker = shift @workers;
    push @workers, $worker;
    my $sent = ::now();
    my $answer = $worker->request('/', do => 'A=500')->answer;
    push @failed, [$sent, ::now()] if $answer->{code} eq '500';
    $tried{$answer->{tried}}++;
    $made++;
    Time::HiRes::sleep(0.002);
}
::is(CORE::scalar @failed, 8, "eight failed of $made requests");
::is($tried{A}, 8, 'these are all that went to A');
::is($tried{A} + $tried{B}, $made, 'the others to B');
for my $pair (0 .. 2) {
    my ($last, $next) = @failed[2 * $pair + 1, 2 * $pair + 2];
    ::cmp_ok($next->[1] - $last->[0], '>=', 0.99, 'a second of quiet after the second one');
    ::cmp_ok($next->[0] - $last->[1], '<', 2, 'and not much more');
}
--- timeout: 20
--- grep_error_log eval: qr/out of use.*/
--- grep_error_log_out
out of use for 1s, failed requests: 2
out of use for 1s, failed requests: 2
out of use for 1s, failed requests: 2
out of use for 1s, failed requests: 2



=== TEST 8: fail_timeout counts from the failure that was one too many
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V max_fails=2 fail_timeout=1s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
--- config
    location / { proxy_pass http://up; }
--- init
my $start = ::now();
::is(::routes(1, '/500'), 'V 500', 'one');
::sleep_until($start + 0.8);
my $second = ::now();
::is(::routes(2, '/500'), 'V 500, A 200', 'two');
my $noticed = ::now();
::wait_for('V is used again', sub { ::ask('/200')->{tried} eq 'V' });
my $used = ::now();
::cmp_ok($used - $second, '>=', 0.99, 'a second after the second one');
::cmp_ok($used - $noticed, '<', 1.7, 'and not much later');
::is(::routes(1, '/500'), 'V 500', 'the count begins at 0');
::is(::routes(1, '/200'), 'V 200', 'so it is still in use');
--- timeout: 10



=== TEST 9: the window slides
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V max_fails=3 fail_timeout=2s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
--- config
    location / { proxy_pass http://up; }
--- init
my $start = ::now();
my @tried;
for my $moment (0, 1.2, 2.4, 2.5, 2.5) {
    ::sleep_until($start + $moment);
    push @tried, ::ask('/500')->{tried};
}
::is("@tried", 'V V V V A', 'at 0, 1.2, 2.4 and 2.5 s: the last makes three in two seconds');
--- timeout: 10



=== TEST 10: the last working server stays in use
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=1h;
        checkups_fail_status 500;
    }
    upstream single {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V;
        checkups_fail_status 500;
    }
--- config
    location / { proxy_pass http://up; }
    location /500 { proxy_pass http://single; }
--- init
::is(::routes(4, '/', do => 'A=500 B=500'), 'A 500, B 500, B 500, B 500', 'one of two');
::is(::routes(2, '/'), 'B 200, B 200', 'when it works again, too');
::is(::routes(4, '/500'), CORE::join(', ', ('V 500') x 4), 'a single one');
--- grep_error_log eval: qr/server "[^"]*": out of use/
--- grep_error_log_out
server "127.0.0.1:$TEST_NGINX_RAND_PORT_1": out of use
--- no_error_log
no live upstreams



=== TEST 11: such an answer halves the share of the server
By hand, with the current weights after each pick, of A B (4 and 1): A -1 1, failed: A has 2;
+2 +1 of 3: B 1 -1, A has 3; +3 +1 of 4: A 0 0, A has 4; A -1 1; A -2 2; B 2 -2; A 1 -1; A 0 0; A -1 1
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=4 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=1 max_fails=0;
        checkups_fail_status 500;
    }
--- config
    location / { proxy_pass http://up; }
--- init
::is(::routes(1, '/', do => 'A=500'), 'A 500', 'a failure');
::is(::answers(8, '/'), 'BAAABAAA', 'the order after it');



=== TEST 12: nginx's own page in place of the answer, an internal redirect, a kept connection
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500 404;
        keepalive 4;
    }
--- config
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    location / { proxy_pass http://up; }
    location /404 { proxy_pass http://up; proxy_intercept_errors on; error_page 404 = /worker; }
    location /500/page { proxy_pass http://up; proxy_intercept_errors on; error_page 500 /worker; }
    location /api/ { checkups_api write=on; }
--- init
::is(::routes(1, '/200'), 'V 200', 'a kept connection');
::is(::verdict('/500'), 'V 500, then A', 'a kept connection');
::is(CORE::join(' ', @{ ::ask('/500/page') }{'code', 'body'}), '500 ', 'a page of our own');
::is(::answers(1, '/200'), 'A', 'it was a failure');
::verdict('/200');
::is(::ask('/404')->{code}, 200, 'another status with it');
::is(::answers(1, '/200'), 'A', 'it was a failure');



=== TEST 13: another protocol
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_W fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 backup;
        checkups_fail_status 503;
    }
--- config
    location /scgi { scgi_pass up; scgi_param REQUEST_URI $request_uri; }
--- init
::is(::routes(3, '/scgi/500'), 'W 500, W 500, W 500', 'not named');
::is(::routes(2, '/scgi/503'), 'W 503, D 502', 'named');



=== TEST 14: errors and timeouts are failures as before
--- http_config
    upstream refused {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
    upstream silent {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
--- config
    location /refused { proxy_pass http://refused; }
    location /silent { proxy_pass http://silent; proxy_read_timeout 100ms; proxy_next_upstream off; }
--- init
::is(::routes(2, '/refused'), 'DA 200, A 200', 'a refused connection');
::is(::routes(2, '/silent'), 'S 504, A 200', 'a timeout, though it is not retried');



=== TEST 15: other clusters are not asked
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 500;
    }
    upstream other {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_V fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
        checkups_fail_status 501;
    }
--- config
    location / { proxy_pass http://up; }
    location ~ /other { proxy_pass http://other; }
    location /api/ { checkups_api write=on; }
--- init
::is(::routes(2, '/500/other'), 'V 500, V 500', 'no failure there');
::is(::routes(1, '/200'), 'V 200', 'nor elsewhere');
::is(::routes(2, '/501/other'), 'V 501, A 200', 'a failure');
::is(::routes(1, '/200'), 'V 200', 'of that cluster only');
::is(::verdict('/500'), 'V 500, then A', 'and a failure of this one');
::is(::routes(1, '/200'), 'V 200', 'over');
::is(::routes(1, '/200/other'), 'A 200', 'which is not that of the other one');
