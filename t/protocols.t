# All that passes requests to an upstream works over a cluster. In each the first
# server is dead, and the second one answers.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

# A is a server of HTTP/1, D a port where nobody listens.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A') . $block->http_config);
});

# The servers below answer with the name of the protocol, and with the method and
# the body of the request.

sub read_exactly {
    my ($connection, $length, $data) = (@_, '');
    while (length $data < $length) {
        sysread($connection, $data, $length - length $data, length $data)
            or die "the connection ended early\n";
    }
    return $data;
}

my $head = "Status: 200 OK\r\nContent-Type: text/plain\r\n\r\n";

serve(F => sub {
    my $connection = shift;
    my ($begin, $parameters, $stdin, $stdout, $end) = (1, 4, 5, 6, 3);
    my %streams = ($parameters => '', $stdin => '');
    my ($type, $id, $length, $padding);
    do {
        (undef, $type, $id, $length, $padding) = unpack 'CCnnC', read_exactly($connection, 8);
        $streams{$type} .= read_exactly($connection, $length);
        read_exactly($connection, $padding);
    } until $type == $stdin && $length == 0;

    my (%variables, @lengths);
    my $rest = $streams{$parameters};
    while (length $rest) {
        for (0, 1) {
            my $long = ord($rest) & 0x80;
            $lengths[$_] = unpack($long ? 'N' : 'C', substr $rest, 0, $long ? 4 : 1, '') & 0x7fffffff;
        }
        my $name = substr $rest, 0, $lengths[0], '';
        $variables{$name} = substr $rest, 0, $lengths[1], '';
    }
    my $answer = "${head}fastcgi $variables{REQUEST_METHOD} $streams{$stdin}";
    print $connection pack('CCnnCx', 1, $stdout, $id, length $answer, 0), $answer,
        pack('CCnnCx', 1, $stdout, $id, 0, 0), pack('CCnnCx NN', 1, $end, $id, 8, 0, 0, 0);
});

serve(U => sub {
    my $connection = shift;
    my (undef, $size) = unpack 'CvC', read_exactly($connection, 4);
    my %variables = unpack '(v/a)*', read_exactly($connection, $size);
    my $body = read_exactly($connection, $variables{CONTENT_LENGTH} || 0);
    print $connection "${head}uwsgi $variables{REQUEST_METHOD} $body";
});

serve(S => sub {
    my $connection = shift;
    my ($size, $byte) = ('');
    $size .= $byte while ($byte = read_exactly($connection, 1)) ne ':';
    my %variables = read_exactly($connection, $size) =~ /([^\0]*)\0([^\0]*)\0/g;
    read_exactly($connection, 1);
    my $body = read_exactly($connection, $variables{CONTENT_LENGTH});
    print $connection "${head}scgi $variables{REQUEST_METHOD} $body";
});

# Knows the key "/known" and no other.
serve(M => sub {
    my $connection = shift;
    while (my $line = read_until($connection, qr/\r\n/)) {
        print $connection "VALUE /known 0 5\r\nvalue\r\n" if $line =~ m{^get /known\r};
        print $connection "END\r\n";
    }
});

# Says everything twice, until it hears "bye".
serve(W => sub {
    my $connection = shift;
    my $request = read_head($connection) or return;
    my ($upgrade) = $request =~ /^Upgrade: (\w+)\r$/mi;
    print $connection "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
        . "Upgrade: $upgrade\r\n\r\n";
    while (sysread $connection, my $data, 4096) {
        print $connection $data, $data;
        last if $data =~ /bye/;
    }
});

# A server of gRPC. It has to read the whole request, or it resets the stream when
# it has answered, and that may come too early for a client such as curl: so the
# server of HTTP/2 passes the request on to one that answers.
our $grpc = <<'END';
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
        default_type application/grpc;
        location / { return 200 "grpc $request_method $uri"; }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_7 http2;
        add_header X-Backend "$server_protocol, request $connection_requests";
        location / { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_6; }
    }
    upstream grpc {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_7;
        keepalive 4;
    }
END

# curl with HTTP/2, which not every curl has.
sub has_curl_http2 { return `curl -V 2>&1` =~ /^Features:.*\bHTTP2\b/m }

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: fastcgi_pass
--- http_config
    upstream fastcgi {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_F;
    }
--- config
    location / {
        fastcgi_pass fastcgi;
        fastcgi_param REQUEST_METHOD $request_method;
        fastcgi_param LONG aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;
    }
--- request eval
["POST /\nhello", "GET /"]
--- response_body eval
["fastcgi POST hello", "fastcgi GET "]
--- response_headers eval
["X-Status: 502, 200", "X-Status: 200"]



=== TEST 2: uwsgi_pass
--- http_config
    upstream uwsgi {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_U;
    }
--- config
    location / {
        uwsgi_pass uwsgi;
        uwsgi_param REQUEST_METHOD $request_method;
        uwsgi_param CONTENT_LENGTH $content_length;
    }
--- request eval
["POST /\nhello", "GET /"]
--- response_body eval
["uwsgi POST hello", "uwsgi GET "]
--- response_headers eval
["X-Status: 502, 200", "X-Status: 200"]



=== TEST 3: scgi_pass
--- http_config
    upstream scgi {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S;
    }
--- config
    location / {
        scgi_pass scgi;
        scgi_param REQUEST_METHOD $request_method;
    }
--- request eval
["POST /\nhello", "GET /"]
--- response_body eval
["scgi POST hello", "scgi GET "]
--- response_headers eval
["X-Status: 502, 200", "X-Status: 200"]



=== TEST 4: memcached_pass
--- http_config
    upstream memcached {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_M;
        keepalive 4;
    }
--- config
    location / {
        set $memcached_key $uri;
        memcached_pass memcached;
    }
--- request eval
["GET /known", "GET /unknown", "GET /known"]
--- error_code eval
[200, 404, 200]
--- response_body_like eval
["^value\$", "404 Not Found", "^value\$"]
--- response_headers eval
["X-Status: 502, 200", "X-Status: 404", "X-Status: 200"]



=== TEST 5: memcached_next_upstream not_found
The server that does not know the key is tried first, and has not failed by that.
--- http_config
    upstream not_found {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_M weight=9;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 backup;
    }
--- config
    location / {
        set $memcached_key $uri;
        memcached_pass not_found;
        memcached_next_upstream error not_found;
    }
--- request eval
["GET /unknown", "GET /known"]
--- error_code eval
[502, 200]
--- response_headers eval
["X-Status: 404, 502", "X-Status: 200"]
--- response_body_like eval
["502 Bad Gateway", "^value\$"]



=== TEST 6: grpc_pass
--- http_config eval: $main::grpc
--- config
    location / { grpc_pass grpc://grpc; }
--- more_headers
Content-Type: application/grpc
TE: trailers
--- request eval
["POST /hello.Greeter/SayHello\nhello", "POST /hello.Greeter/SayHello\nhello"]
--- response_body eval
["grpc POST /hello.Greeter/SayHello", "grpc POST /hello.Greeter/SayHello"]
--- response_headers eval
[
    "X-Status: 502, 200\nX-Backend: HTTP/2.0, request 1\nContent-Type: application/grpc",
    "X-Status: 200\nX-Backend: HTTP/2.0, request 2",
]



=== TEST 7: grpc_pass for a client of HTTP/2
--- skip_eval
6: !main::has_curl_http2()
--- http_config eval: $main::grpc
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_8 http2;
    location / { grpc_pass grpc://grpc; }
--- init
my $url = 'http://127.0.0.1:' . ::port_of(8) . '/hello.Greeter/SayHello';
my $output = `curl -sS --max-time 5 --http2-prior-knowledge --noproxy '*' -d hello \\
    -H 'Content-Type: application/grpc' -H 'TE: trailers' -D - '$url' 2>&1`;
::is($?, 0, 'curl is content');
::like($output, qr{^HTTP/2 200 \r\n.*\r\nx-status: 502, 200\r\n.*\r\n\r\ngrpc POST /hello\.}s, 'the answer');
--- request
POST /hello.Greeter/SayHello
hello
--- response_body: grpc POST /hello.Greeter/SayHello
--- response_headers
X-Status: 200
X-Backend: HTTP/2.0, request 2



=== TEST 8: an upgraded connection
--- http_config
    upstream websocket {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_W;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
    }
--- config
    location / { proxy_pass http://websocket; }
    location /websocket {
        proxy_pass http://websocket;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection upgrade;
    }
    location /backup { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- init
my $connection = ::connect_to();
my $answer = $connection->request('/websocket',
    headers => ['Upgrade: websocket', 'Connection: Upgrade'])->answer;
::is("$answer->{code} $answer->{headers}{upgrade} via $answer->{tried}", '101 websocket via DW',
    'the answer');
::is($connection->say_raw('one')->take(6), 'oneone', 'to and fro');
::is($connection->say_raw('two')->take(6), 'twotwo', 'once more');
::is($connection->say_raw('bye')->take(6), 'byebye', 'for the last time');
::ok($connection->at_end, 'the server closes it');
--- request
GET /backup
--- response_body: A



=== TEST 9: a large answer, and one in many pieces, after a failed try
--- http_config
    upstream large {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_5;
        ssi on;
        ssi_types *;
        location / { root $TEST_NGINX_SERVER_ROOT/html; }
    }
--- user_files eval
[['large', '0123456789' x 20_000], ['pieces', '<!--# echo var="arg_x" -->,' x 500]]
--- config
    location / { proxy_pass http://large; proxy_http_version 1.1; }
    location /unbuffered/ { proxy_pass http://large/; proxy_http_version 1.1; proxy_buffering off; }
--- request eval
["GET /large", "GET /pieces?x=ab", "GET /unbuffered/large"]
--- response_body eval
['0123456789' x 20_000, 'ab,' x 500, '0123456789' x 20_000]
--- response_headers eval
["X-Status: 502, 200", "X-Status: 200", "X-Status: 200"]
