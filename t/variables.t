# $checkups_cluster, $checkups_level, $checkups_server and $checkups_tries in an
# access log: one value for each try, in line with those of $upstream_addr.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Time::HiRes ();
use Backends;

# Each request has a path of its own, by which its line in the log is found.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'END' . backends('A' .. 'D') . $block->http_config);
    log_format tries '$request_uri|$checkups_cluster|$checkups_level|$checkups_server|$checkups_tries|$upstream_addr|$status|';
    proxy_next_upstream error timeout http_503;
END
    $block->set_value(config => <<'END' . ($block->config // ''));
    access_log logs/tries.log tries;
    location = /worker { return 200; }
    location = /auth/yes { return 200; }
    location /api/ { checkups_api write=on; }
END
    $block->set_value(request => 'GET /worker') unless defined $block->request;
});
silent_port('S');

# R sends requests on to another location of nginx.
serve(R => sub {
    my $connection = shift;
    my ($to) = read_head($connection) =~ m{\A\S+ \S+?to=(\S*)} or return;
    print $connection "HTTP/1.1 200 OK\r\nX-Accel-Redirect: $to\r\nConnection: close\r\n\r\n";
});

# What was logged of the request to this path: "cluster|level|server|tries|upstream|status",
# with letters for addresses. Of one that was logged more than once, so many lines.
sub logged {
    my ($path, $count, $log) = @_;
    my @found;
    for (1 .. 300) {
        open my $in, '<', server_root() . '/logs/' . ($log // 'tries.log') or die "no log: $!";
        @found = map { /\A\Q$path\E\|(.*)\|\Z/ ? $1 : () } readline $in;
        last if @found >= ($count // 1);
        Time::HiRes::sleep(0.01);
    }
    for (@found) { s{127\.0\.0\.1:(\d+)}{my $port = $1; my ($letter) = grep { (eval { port_of($_) } // '') eq $port } 'A' .. 'E', 'R', 'S'; $letter // $port}ge }
    return join ' and ', @found;
}

# Makes a request and compares its line.
sub logs {
    my ($path, $expected, $what, %option) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ask($path, %option);
    return is(logged($path), $expected, $what);
}

sub has_ipv6 {
    require IO::Socket::IP;
    return defined IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1);
}

no_root_location();
workers(2);
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: a single try
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream upstream_name { checkups_cluster cluster:name.1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream levels { checkups_cluster; checkups_level dc-1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; } }
    upstream backup { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup; }
--- config
    location / { proxy_pass http://up; }
    location /name { proxy_pass http://upstream_name; }
    location /levels { proxy_pass http://levels; }
    location /backup { proxy_pass http://backup; }
--- init
::logs('/1', 'up|1|A|1|A|200', 'the first level is 1');
::logs('/2', 'up|1|B|1|B|200', 'another server');
::logs('/3', 'up|1|A|1|A|404', 'an answer with another status', do => 'A=404');
::logs('/4', 'up|1|B|1|B|200', 'POST', method => 'POST', body => 'x');
::logs('/name', 'cluster:name.1|1|A|1|A|200', 'the name of the cluster is not that of the upstream');
::logs('/levels', 'levels|dc-1|A|1|A|200', 'a level with a name');
::logs('/backup', 'backup|2|B|1|B|200', 'the backup level is 2');



=== TEST 2: several tries, over several levels
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
    upstream geo {
        checkups_cluster;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; }
        checkups_level dc3 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; }
        checkups_order $arg_order;
    }
    upstream limited { checkups_cluster tries=2; server 127.0.0.1:$TEST_NGINX_RAND_PORT_5; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- config
    location / { proxy_pass http://up; }
    location /geo { proxy_pass http://geo; }
    location /limited { proxy_pass http://limited; }
--- init
::logs('/1', 'up, up, up|1, 1, 2|A, B, C|1, 2, 3|A, B, C|200', 'the backup answers', do => 'A=close B=503');
::logs('/2', 'up, up, up|1, 1, 2|B, A, C|1, 2, 3|B, A, C|502', 'nobody answers', do => 'A=close B=close C=close');
::logs('/3', 'up|1|A|1|A|502', 'POST is not retried', do => 'A=close', method => 'POST', body => 'x');
::logs('/geo/1', 'geo, geo, geo, geo|dc1, dc1, dc2, dc3|A, E, B, A|1, 2, 3, 4|A, E, B, A|503', 'an address is tried in each level',
    do => 'A=503 B=503');
::logs('/geo/2?order=3,dc2', 'geo, geo|dc3, dc2|A, B|1, 2|A, B|200', 'in another order', do => 'A=503');
::logs('/limited', 'limited, limited|1, 1|E, A|1, 2|E, A|503', 'a limit of tries', do => 'A=503');



=== TEST 3: no server
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down; }
    upstream order { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; checkups_order nowhere$arg_more; }
    upstream later {
        checkups_cluster named;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=1h;
    }
--- config
    location /up { proxy_pass http://up; }
    location /order { proxy_pass http://order; }
    location /later { proxy_pass http://later; proxy_read_timeout 500ms; }
--- init
::logs('/up', 'up|-|-|1|up|502', 'all are down');
::logs('/order', 'order|-|-|1|order|502', 'no level');
my $request = ::connect_to()->request('/later');
my $port = ::port_of('B');
my $answer = ::ask("/api/clusters/named/servers/127.0.0.1:$port/feedback", method => 'POST', body => '{"failed":true}',
    headers => ['Content-Type: application/json']);
::like($answer->{body}, qr/"available":false/, 'while a request is at work on one server the other one is put out of use');
::is($request->answer->{code}, 502, 'no server is left for the next try');
::is(::logged('/later'), 'named, named|1, -|S, -|1, 2|S, later|502', 'that is an entry as well');
--- grep_error_log eval: qr/no servers available/
--- grep_error_log_out
no servers available
no servers available
no servers available



=== TEST 4: not proxied, or not to a cluster
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream stock { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_6; location / { proxy_pass http://up; } access_log off; }
--- config
    location /return { return 200; }
    location /static { root html; }
    location /stock { proxy_pass http://stock; }
    location /direct { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    location /variable { set $to http://up; proxy_pass $to; }
    location /denied { proxy_pass http://up; deny all; }
    location /selected { proxy_pass http://$checkups_select_up; }
--- init
::logs('/return', '-|-|-|-|-|200', 'an answer of nginx');
::logs('/static', '-|-|-|-|-|404', 'a file');
::logs('/stock', '-|-|-|-|B|200', 'an upstream that nginx balances');
::logs('/direct', '-|-|-|-|B|200', 'an address');
::logs('/denied', '-|-|-|-|-|403', 'it did not come to that');
::logs('/variable', 'up|1|A|1|A|200', 'a cluster by way of a variable');
::logs('/selected', '-|-|-|-|A|200', 'a server that was selected by a variable');
::logs('/api/status', '-|-|-|-|-|200', 'the API');



=== TEST 5: internal redirects
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_BACKEND_R; }
    upstream other { checkups_cluster; checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; } }
    upstream down { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down; }
    upstream stock { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
--- config
    location / { proxy_pass http://up; }
    location /other { proxy_pass http://other; }
    location /down { proxy_pass http://down; }
    location /stock { proxy_pass http://stock; }
    location /return { return 200; }
    location /named { proxy_pass http://up; }
    location /failed { proxy_pass http://other; proxy_intercept_errors on; error_page 503 = @other; }
    location @other { proxy_pass http://stock; error_page 502 = /other; }
    location /nobody { proxy_pass http://down; error_page 502 = /other; }
    location /twice { proxy_pass http://other; proxy_intercept_errors on; recursive_error_pages on; error_page 503 = /down; }
--- init
::logs('/1?to=/other', 'up : other|1 : dc1|R : A|1 : 1|R : A|200', 'to another cluster');
::logs('/2?to=/other', 'up : other, other|1 : dc1, dc1|R : B, A|1 : 1, 2|R : B, A|200', 'two tries there', do => 'B=close');
::logs('/3?to=/4?to=/other', 'up : up : other|1 : 1 : dc1|R : R : A|1 : 1 : 1|R : R : A|200', 'twice, to the same one first');
::logs('/5?to=/down', 'up : down|1 : -|R : -|1 : 1|R : down|502', 'to a cluster without servers');
::logs('/6?to=/return', 'up|1|R|1|R|200', 'to no upstream');
::logs('/7?to=/stock', 'up|1|R|1|R : C|200', 'to one that nginx balances, which has no entry');
::logs('/failed', 'other, other|dc1, dc1|B, A|1, 2|B, A : C|200', 'error_page, to one that nginx balances', do => 'A=503 B=503');
::logs('/nobody', 'down : other|- : dc1|- : A|1 : 1|down : A|200', 'error_page, as there was no server');
::logs('/twice', 'other, other : down|dc1, dc1 : -|B, A : -|1, 2 : 1|B, A : down|502', 'error_page, to no server', do => 'A=503 B=503');



=== TEST 6: subrequests have their own
--- user_files
>>> page.html
<!--# include virtual="/part/1" --><!--# include virtual="/part/2" -->
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream auth { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0; server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0 backup; }
    upstream parts { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_5; access_log off; location / { return 200; } }
--- config
    location / { proxy_pass http://up; }
    location /auth {
        auth_request /auth/cluster;
        auth_request_set $by "$checkups_cluster $checkups_level $checkups_server $checkups_tries";
        add_header X-By $by;
        proxy_pass http://up;
    }
    location /auth/none { auth_request /auth/yes; proxy_pass http://up; }
    location /auth/static { auth_request /auth/cluster; root html; }
    location = /auth/cluster { internal; proxy_pass http://auth; }
    location ~ html { root html; ssi on; }
    location /part { proxy_pass http://parts; access_log logs/parts.log tries; log_subrequest on; }
    location /mirrored { mirror /mirror; proxy_pass http://up; }
    location = /mirror { internal; proxy_pass http://parts; }
--- init
::logs('/auth', 'up|1|A|1|A|200', 'behind auth_request', do => 'D=close');
my ($d, $e) = map { '127.0.0.1:' . ::port_of($_) } 'D', 'E';
::is(::ask('/auth/header', do => 'D=close')->{headers}{'x-by'}, "auth, auth 1, 2 $d, $e 1, 2", 'what auth_request saw');
::is(::ask('/auth/header/2')->{headers}{'x-by'}, "auth 1 $d 1", 'the next time');
::logs('/auth/none', 'up|1|A|1|A|200', 'auth_request to no upstream');
::logs('/auth/static/x', '-|-|-|-|-|404', 'only auth_request was proxied');
::logs('/page.html', '-|-|-|-|-|200', 'only the parts of the page were proxied');
::logs('/mirrored', 'up|1|A|1|A|200', 'mirrored to another one');
::is(::logged('/page.html', 2, 'parts.log'), 'parts|1|B|1|B|200 and parts|1|C|1|C|200', 'which have theirs');



=== TEST 7: kept connections that are stale
--- http_config
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 4;
    }
--- config
    location / { proxy_pass http://up; }
--- init
my $connection = ::connect_to();                # one worker
$connection->request('/1')->answer;
::is(::logged('/1'), 'up|1|A|1|A|200', 'a kept connection');
$connection->request('/2', do => 'A=stale')->answer;
::is(::logged('/2'), 'up, up|1, 1|A, A|1, 2|A, A|200', 'the same server again');
$connection->request('/3')->answer;
::is(::logged('/3'), 'up|1|A|1|A|200', 'and again');



=== TEST 8: when they are evaluated
--- http_config
    map $checkups_server $mapped { default $checkups_server; '' none; }
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup; }
--- config
    location / {
        set $early "[$checkups_cluster$checkups_level$checkups_server$checkups_tries]";
        add_header X-Early $early;
        add_header X-Level $checkups_level;
        add_header X-Server "$checkups_server";
        add_header X-Both "$checkups_tries of $checkups_cluster";
        proxy_pass http://up;
    }
--- init
my $answer = ::ask('/1', do => 'D=close');
my ($d, $first) = map { '127.0.0.1:' . ::port_of($_) } 'D', 'A';
::is($answer->{headers}{'x-early'}, '[]', 'before it was proxied');
::is($answer->{headers}{'x-level'}, '1, 2', 'in a header of the answer');
::is($answer->{headers}{'x-server'}, "$d, $first", 'in another one');
::is($answer->{headers}{'x-both'}, '1, 2 of up, up', 'with text');
::is(::logged('/1'), 'up, up|1, 2|D, A|1, 2|D, A|200', 'in the log');



=== TEST 9: IPv6 and unix sockets
--- skip_eval: 3: !main::has_ipv6()
--- http_config
    server { listen unix:$TEST_NGINX_SERVER_ROOT/u.sock; access_log off; location / { return 200 U; } }
    upstream up { checkups_cluster; server [::1]:1; server unix:$TEST_NGINX_SERVER_ROOT/u.sock backup; }
--- config
    location / { proxy_pass http://up; }
--- init
if (::has_ipv6()) {
    my $socket = 'unix:' . server_root() . '/u.sock';
    ::logs('/1', "up, up|1, 2|[::1]:1, $socket|1, 2|[::1]:1, $socket|200", 'as $upstream_addr has them');
}



=== TEST 10: a client that leaves
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_BACKEND_S; }
--- config
    location / { proxy_pass http://up; }
--- init
my $connection = ::connect_to()->request('/1');
Time::HiRes::sleep(0.1);            # so that the request is at work, which nobody else can tell
CORE::close $connection->{socket};
::is(::logged('/1'), 'up|1|S|1|S|499', 'the server that was at work');



=== TEST 11: a cache
--- http_config
    proxy_cache_path $TEST_NGINX_SERVER_ROOT/html/cache keys_zone=cache:1m;
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup; }
--- config
    location / { proxy_pass http://up; proxy_cache cache; proxy_cache_valid 200 1h; proxy_cache_key $arg_key; }
--- init
::logs('/1?key=1', 'up, up|1, 2|D, A|1, 2|D, A|200', 'a miss', do => 'D=close');
::logs('/2?key=1', '-|-|-|-|-|200', 'a hit');
::logs('/3?key=2', 'up|1|D|1|D|200', 'a miss');
