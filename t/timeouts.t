# connect_timeout=, send_timeout= and read_timeout= of a cluster: they act in place
# of those of the location, for whatever passes requests to it, and for that
# cluster only; kept connections are used as without them.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use IO::Select ();
use IO::Socket::INET ();
use Socket ();
use Time::HiRes ();
use Backends;
use NginxBackend;

# S accepts connections, takes little and never says a word. Connections to the full
# port hang. L answers HTTP, and M SCGI, half a second late; P says half of an answer.
# W makes a tunnel, in which it repeats what it hears.
our $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp') or die "socket: $!";
setsockopt $silent, Socket::SOL_SOCKET(), Socket::SO_RCVBUF(), 4096 or die "setsockopt: $!";
listen $silent, 511 or die "listen: $!";
$silent->blocking(0);
$ENV{TEST_NGINX_SILENT} = '127.0.0.1:' . $silent->sockport;

our $full = NginxBackend->start;
$ENV{TEST_NGINX_FULL} = $full->add('full', state => 'full');

serve(L => sub {
    my $connection = shift;
    read_head($connection) or return;
    Time::HiRes::sleep(0.5);
    print $connection "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nL";
});

serve(M => sub {
    my $connection = shift;
    read_until($connection, qr/REQUEST_URI\0[^\0]+\0/) or return;
    Time::HiRes::sleep(0.5);
    print $connection "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\nM";
});

serve(P => sub {
    my $connection = shift;
    read_head($connection) or return;
    print $connection "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nP";
    sysread $connection, my $end, 1;
});

serve(W => sub {
    my $connection = shift;
    read_head($connection) or return;
    print $connection "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n";
    while (sysread $connection, my $data, 4096) { print $connection $data }
});

add_block_preprocessor(sub {
    my $block = shift;
    1 while $silent->accept;        # of the block before
    $block->set_value(http_config => backends('A' .. 'C') . $block->http_config);
    $block->set_value(config => 'location = /worker { return 200; }' . $block->config);
    $block->set_value(request => 'GET /worker') unless defined $block->request;
});

# Makes all of these requests at the same time, each [path, options ...]. Returns
# for each of them [code, seconds] when its answer begins.
sub timed {
    my @cases = @_;
    my $select = IO::Select->new;
    my (%case, @results);
    for my $number (0 .. $#cases) {
        my ($path, %option) = @{ $cases[$number] };
        my $connection = connect_to();
        my $sent = now();
        $connection->request($path, %option);
        $case{ $connection->{socket} } = [$number, $connection, $sent];
        $select->add($connection->{socket});
    }
    my $deadline = now() + 10;
    while ($select->count && now() < $deadline) {
        for my $socket ($select->can_read(1)) {
            my ($number, $connection, $sent) = @{ $case{$socket} };
            my $seconds = now() - $sent;
            $select->remove($socket);
            $results[$number] = [$connection->answer->{code}, $seconds];
        }
    }
    return map { $results[$_] // ['none', 10] } 0 .. $#cases;
}

# Requests, all at the same time: [what, code, seconds at the least, and at the most, path, options].
sub takes {
    my @cases = @_;
    my @results = timed(map { my ($what, $code, $least, $most, @request) = @$_; [@request] } @cases);
    for my $number (0 .. $#cases) {
        my ($what, $code, $least, $most) = @{ $cases[$number] };
        my ($got, $seconds) = @{ $results[$number] };
        is($got, $code, "$what: the status");
        cmp_ok($seconds, '>=', $least - 0.02, "$what: not before its time");
        cmp_ok($seconds, '<', $most, "$what: and not much later");
    }
    return;
}

no_root_location();
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: read_timeout= for all that passes requests
--- http_config
    upstream short { checkups_cluster read_timeout=200ms; server $TEST_NGINX_SILENT; }
    upstream long { checkups_cluster read_timeout=1s; server $TEST_NGINX_SILENT; }
--- config
    location /proxy { proxy_pass http://short; }
    location /fastcgi { fastcgi_pass short; }
    location /grpc { grpc_pass grpc://short; }
    location /uwsgi { uwsgi_pass short; }
    location /scgi { scgi_pass short; }
    location /memcached { set $memcached_key x; memcached_pass short; }

    location /long {
        proxy_read_timeout 100ms; fastcgi_read_timeout 100ms; grpc_read_timeout 100ms;
        uwsgi_read_timeout 100ms; scgi_read_timeout 100ms; memcached_read_timeout 100ms;
        location /long/proxy { proxy_pass http://long; }
        location /long/fastcgi { fastcgi_pass long; }
        location /long/grpc { grpc_pass grpc://long; }
        location /long/uwsgi { uwsgi_pass long; }
        location /long/scgi { scgi_pass long; }
        location /long/memcached { set $memcached_key x; memcached_pass long; }
    }
--- init
my @protocols = qw(proxy fastcgi grpc uwsgi scgi memcached);
::takes(
    (map { ["$_, shorter than that of the location", 504, 0.2, 5, "/$_"] } @protocols),
    (map { ["$_, longer than that of the location", 504, 1, 5, "/long/$_"] } @protocols),
);
--- timeout: 10



=== TEST 2: read_timeout= and a server that is late
--- http_config
    upstream http { checkups_cluster read_timeout=5s; server 127.0.0.1:$TEST_NGINX_BACKEND_L; }
    upstream scgi { checkups_cluster read_timeout=5s; server 127.0.0.1:$TEST_NGINX_BACKEND_M; }
    upstream short { checkups_cluster read_timeout=100ms; server 127.0.0.1:$TEST_NGINX_BACKEND_L; }
    upstream none { checkups_cluster; server 127.0.0.1:$TEST_NGINX_BACKEND_L; }
--- config
    proxy_read_timeout 100ms;
    scgi_read_timeout 100ms;
    location /http { proxy_pass http://http; }
    location /scgi { scgi_pass scgi; scgi_param REQUEST_URI $request_uri; }
    location /none { proxy_pass http://none; }
    location /short { proxy_pass http://short; proxy_read_timeout 5s; }
--- init
::takes(
    ['proxy', 200, 0.5, 4, '/http'], ['scgi', 200, 0.5, 4, '/scgi'],
    ['without it that of the location holds', 504, 0.1, 4, '/none'], ['shorter', 504, 0.1, 4, '/short'],
);



=== TEST 3: connect_timeout=
--- http_config
    upstream short { checkups_cluster connect_timeout=200ms; server $TEST_NGINX_FULL; }
    upstream long { checkups_cluster connect_timeout=1s; server $TEST_NGINX_FULL; }
    upstream none { checkups_cluster read_timeout=10s send_timeout=10s; server $TEST_NGINX_FULL; }
--- config
    location /proxy { proxy_pass http://short; }
    location /fastcgi { fastcgi_pass short; }
    location /grpc { grpc_pass grpc://short; }
    location /scgi { scgi_pass short; }
    location /long {
        proxy_connect_timeout 100ms; fastcgi_connect_timeout 100ms; grpc_connect_timeout 100ms; scgi_connect_timeout 100ms;
        location /long/proxy { proxy_pass http://long; }
        location /long/fastcgi { fastcgi_pass long; }
        location /long/grpc { grpc_pass grpc://long; }
        location /long/scgi { scgi_pass long; }
    }
    location /none { proxy_pass http://none; proxy_connect_timeout 300ms; }
--- init
my @protocols = qw(proxy fastcgi grpc scgi);
::takes(
    (map { ["$_, shorter than that of the location", 504, 0.2, 5, "/$_"] } @protocols),
    (map { ["$_, longer than that of the location", 504, 1, 5, "/long/$_"] } @protocols),
    ['the others are no connect_timeout', 504, 0.3, 5, '/none'],
);
--- timeout: 10



=== TEST 4: send_timeout=
The server takes no more than a part of the request.
--- http_config
    upstream short { checkups_cluster send_timeout=200ms; server $TEST_NGINX_SILENT; }
    upstream long { checkups_cluster send_timeout=1s; server $TEST_NGINX_SILENT; }
    upstream none { checkups_cluster read_timeout=10s connect_timeout=10s; server $TEST_NGINX_SILENT; }
--- config
    location /proxy { proxy_pass http://short; }
    location /fastcgi { fastcgi_pass short; }
    location /scgi { scgi_pass short; }
    location /unbuffered { proxy_pass http://short; proxy_request_buffering off; proxy_http_version 1.1; }
    location /long {
        proxy_send_timeout 100ms; fastcgi_send_timeout 100ms; scgi_send_timeout 100ms;
        location /long/proxy { proxy_pass http://long; }
        location /long/fastcgi { fastcgi_pass long; }
        location /long/scgi { scgi_pass long; }
    }
    location /none { proxy_pass http://none; proxy_send_timeout 300ms; }
--- init
my @post = (method => 'POST', body => 'x' x 12_000_000);
::takes(["$_, shorter than that of the location", 504, 0.2, 8, "/$_", @post]) for qw(proxy fastcgi scgi);
::takes(["$_, longer than that of the location", 504, 1, 8, "/long/$_", @post]) for qw(proxy fastcgi scgi);
::takes(['the others are no send_timeout', 504, 0.3, 8, '/none', @post]);
--- timeout: 20
--- error_log
upstream timed out (110: Connection timed out) while sending request to upstream



=== TEST 5: within an answer, and in a tunnel
--- http_config
    upstream half { checkups_cluster read_timeout=200ms; server 127.0.0.1:$TEST_NGINX_BACKEND_P; }
    upstream tunnel { checkups_cluster read_timeout=800ms; server 127.0.0.1:$TEST_NGINX_BACKEND_W; }
--- config
    location /half { proxy_pass http://half; proxy_http_version 1.1; }
    location /half/unbuffered { proxy_pass http://half; proxy_http_version 1.1; proxy_buffering off; }
    location /tunnel {
        proxy_pass http://tunnel;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
    }
--- init
for my $path ('/half', '/half/unbuffered') {
    my $start = ::now();
    my $connection = ::connect_to()->request($path);
    1 while $connection->more;
    my $seconds = ::now() - $start;
    ::unlike($connection->{data}, qr/ 504 /, "$path: the answer had begun");
    ::cmp_ok($seconds, '>=', 0.18, "$path: not before its time");
    ::cmp_ok($seconds, '<', 4, "$path: and not much later");
}
my $connection = ::connect_to()->request('/tunnel', headers => ['Upgrade: x', 'Connection: Upgrade']);
::is($connection->answer->{code}, 101, 'a tunnel');
for my $word (qw(one two three)) {
    Time::HiRes::sleep(0.4);            # half the time, three times; nginx is lazy with less than 0.3
    ::is($connection->say_raw($word)->take(CORE::length $word), $word, 'to and fro');
}
my $start = ::now();
::ok($connection->at_end, 'then the end');
my $seconds = ::now() - $start;
::cmp_ok($seconds, '>=', 0.4, 'not before its time');
::cmp_ok($seconds, '<', 4, 'and not much later');
--- error_log eval
[qr/upstream timed out \(110: Connection timed out\) while reading upstream/, qr/upstream timed out \(110: Connection timed out\) while proxying upgraded connection/]



=== TEST 6: the next server is tried that much earlier
--- http_config
    upstream up {
        checkups_cluster read_timeout=200ms connect_timeout=300ms;
        server $TEST_NGINX_SILENT;
        server $TEST_NGINX_FULL;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location / { proxy_pass http://up; }
--- init
::takes(['both, one after the other', 200, 0.5, 5, '/']);
::takes(['then they are out of use', 200, 0, 0.4, '/']);
--- grep_error_log: out of use for
--- grep_error_log_out
out of use for
out of use for



=== TEST 7: several upstreams behind one location, and one cluster behind several
--- http_config
    upstream short { checkups_cluster read_timeout=200ms; server $TEST_NGINX_SILENT; }
    upstream long { checkups_cluster read_timeout=1300ms; server $TEST_NGINX_SILENT; }
    upstream none { checkups_cluster; server $TEST_NGINX_SILENT; }
    upstream other { checkups_cluster connect_timeout=10s send_timeout=10s; server $TEST_NGINX_SILENT; }
    upstream stock { server $TEST_NGINX_SILENT; }
--- config
    location / { proxy_pass http://$arg_up; proxy_read_timeout 2500ms; }
    location /second { proxy_pass http://$arg_up; proxy_read_timeout 2600ms; }
    location /third { proxy_pass http://other; proxy_read_timeout 200ms; }
    location /fourth { proxy_pass http://other; proxy_read_timeout 1300ms; }
--- init
my @cases = map {
    (
        ["$_, the first", 504, 0.2, 1.2, "$_?up=short"], ["$_, the second", 504, 1.3, 2.4, "$_?up=long"],
        ["$_, one that says nothing of it", 504, 2.5, 7, "$_?up=none"], ["$_, one that says other things", 504, 2.5, 7, "$_?up=other"],
        ["$_, one that nginx balances", 504, 2.5, 7, "$_?up=stock"], ["$_, an address", 504, 2.5, 7, "$_?up=$ENV{TEST_NGINX_SILENT}"],
    )
} '/', '/second';
push @cases, ['the third location', 504, 0.2, 1.2, '/third'], ['the fourth location', 504, 1.3, 2.4, '/fourth'];
::takes((@cases) x 2, CORE::reverse @cases);
--- timeout: 15



=== TEST 8: an internal redirect, and a subrequest
--- http_config
    upstream short { checkups_cluster read_timeout=200ms; server $TEST_NGINX_SILENT; }
    upstream stock { server $TEST_NGINX_SILENT; }
    upstream none { checkups_cluster; server $TEST_NGINX_SILENT; }
--- config
    proxy_read_timeout 1s;
    location /stock { proxy_pass http://short; error_page 504 = @stock; }
    location @stock { proxy_pass http://stock; }
    location /none { proxy_pass http://short; error_page 504 = @none; }
    location @none { proxy_pass http://none; }
    location /back { proxy_pass http://none; error_page 504 = @short; }
    location @short { proxy_pass http://short; }
    location /auth { auth_request /auth/short; proxy_pass http://stock; }
    location = /auth/short { proxy_pass http://short; error_page 504 = /worker; }
--- init
::takes(
    ['to an upstream that nginx balances', 504, 1.2, 5, '/stock'], ['to a cluster without times', 504, 1.2, 5, '/none'],
    ['from there', 504, 1.2, 5, '/back'], ['after auth_request', 504, 1.2, 5, '/auth'],
);
--- timeout: 10



=== TEST 9: kept connections are used again
--- http_config
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream up {
        checkups_cluster connect_timeout=2s send_timeout=3s read_timeout=200ms tries_timeout=5s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
        keepalive 4;
    }
    upstream other {
        checkups_cluster read_timeout=4s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
        keepalive 4;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
        access_log off;
        location / { return 200 "$connection $connection_requests"; }
    }
--- config
    location / { proxy_pass http://up; }
    location /second { proxy_pass http://up; proxy_read_timeout 7s; }
    location /variable { proxy_pass http://$arg_up; }
--- init
my $accepted = sub { my %connections = map { (CORE::split / /)[0] => 1 } @_; CORE::scalar keys %connections };
my @answers = map { ::ask('/')->{body} } 1 .. 20;
::is($accepted->(@answers), 1, 'twenty requests, one connection');
::is((CORE::split / /, $answers[-1])[1], 20, 'and the last one is its twentieth');
Time::HiRes::sleep(0.3);            # longer than read_timeout=, which an idle connection has nothing to do with
::is((CORE::split / /, ::ask('/')->{body})[1], 21, 'later on, too');
my @second = map { ::ask('/second')->{body} } 1 .. 20;
::cmp_ok($accepted->(@answers, @second), '<=', 2, 'another location: a connection of its own at the most');
my @variable = map { (::ask('/variable?up=up')->{body}, ::ask('/variable?up=other')->{body}) } 1 .. 20;
::cmp_ok($accepted->(@answers, @second, @variable), '<=', 4, 'by a variable: no more than one for each cluster');



=== TEST 10: a kept connection of gRPC
--- http_config
    upstream grpc {
        checkups_cluster read_timeout=5s send_timeout=5s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_7;
        keepalive 4;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
        access_log off;
        default_type application/grpc;
        location / { return 200 "grpc"; }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_7 http2;
        access_log off;
        add_header X-Backend "$connection_requests";
        location / { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_6; }
    }
--- config
    location / { grpc_pass grpc://grpc; }
--- init
my @grpc = (method => 'POST', body => 'hello', headers => ['Content-Type: application/grpc', 'TE: trailers']);
::is(CORE::join(' ', map { my $answer = ::ask('/', @grpc); "$answer->{body}$answer->{headers}{'x-backend'}" } 1 .. 5),
    'grpc1 grpc2 grpc3 grpc4 grpc5', 'one connection');



=== TEST 11: what else the location says is as it was
--- http_config
    proxy_cache_path $TEST_NGINX_SERVER_ROOT/html/cache keys_zone=cache:1m;
    upstream up {
        checkups_cluster connect_timeout=2s send_timeout=3s read_timeout=4s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    location /next { proxy_pass http://up; proxy_next_upstream http_503; }
    location /off { proxy_pass http://up; proxy_next_upstream off; }
    location /one { proxy_pass http://up; proxy_next_upstream http_503; proxy_next_upstream_tries 1; }
    location /page { proxy_pass http://up; proxy_intercept_errors on; error_page 503 = /worker; }
    location /hidden { proxy_pass http://up; proxy_hide_header X-Server; }
    location /cached { proxy_pass http://up/requests; proxy_cache cache; proxy_cache_valid 200 1h; proxy_cache_key x; }
    location /redirected { proxy_pass http://up/; proxy_redirect http://up/ /changed/; proxy_method GET; }
    location /unbuffered { proxy_pass http://up/; proxy_buffering off; }
    location /stored { proxy_pass http://up/; proxy_store on; root html; }
--- init
::is(::routes(1, '/next', do => 'A=503'), 'AB 200', 'proxy_next_upstream');
::is(::routes(1, '/off', do => 'A=503'), 'A 503', 'proxy_next_upstream off');
::is(::routes(1, '/one', do => 'A=503'), 'A 503', 'proxy_next_upstream_tries');
::is(::ask('/page', do => 'A=503')->{code}, 200, 'proxy_intercept_errors');
::is(::ask('/hidden')->{headers}{'x-server'}, undef, 'proxy_hide_header');
::is(::ask('/next')->{headers}{'x-server'}, 'A', 'which others do not have');
::is(CORE::join(' ', map { my $answer = ::ask('/cached'); "$answer->{body}$answer->{tried}" } 1 .. 3), 'A1A A1 A1', 'proxy_cache');
::is(::ask('/redirected', method => 'POST', body => 'x')->{body}, 'A', 'proxy_method');
::is(::ask('/unbuffered')->{body}, 'A', 'proxy_buffering');
::is(::ask('/stored/file')->{body}, 'A', 'proxy_store');
::wait_for('the file', sub { -s html_dir() . '/stored/file' });



=== TEST 12: with the time for all tries
The tighter of tries_timeout= and proxy_next_upstream_timeout holds, for this cluster only.
--- http_config
    upstream up {
        checkups_cluster read_timeout=600ms tries_timeout=1s;
        server $TEST_NGINX_SILENT max_fails=0;
        server $TEST_NGINX_SILENT max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream other {
        checkups_cluster read_timeout=600ms;
        server $TEST_NGINX_SILENT max_fails=0;
        server $TEST_NGINX_SILENT max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
--- config
    location / { proxy_pass http://$arg_up; }
    location /tight { proxy_pass http://$arg_up; proxy_next_upstream_timeout 200ms; }
--- init
::takes(
    ['two tries fit', 504, 1.2, 5, '/?up=up'], ['one fits', 504, 0.6, 1.15, '/tight?up=up'],
    ['all fit', 200, 1.2, 5, '/?up=other'], ['one fits', 504, 0.6, 1.15, '/tight?up=other'],
);



=== TEST 13: the API shows them
--- http_config
    upstream a { checkups_cluster connect_timeout=1 send_timeout=1m30s read_timeout=604800s; server 127.0.0.1:1; }
    upstream b { checkups_cluster read_timeout=1ms; server 127.0.0.1:1; }
--- config
    location /c/ { checkups_api; }
--- request eval
['GET /c/clusters/a', 'GET /c/clusters/b']
--- response_body_like eval
[
    qr/"tries_timeout":null,"connect_timeout":"1s","send_timeout":"90s","read_timeout":"604800s",/,
    qr/"tries_timeout":null,"connect_timeout":null,"send_timeout":null,"read_timeout":"1ms",/,
]
