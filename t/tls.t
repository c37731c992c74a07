# TLS to the servers: sessions are taken up again, each server's its own.

use strict;
use warnings;

use lib 't/lib';
use File::Temp ();
use Test::Nginx::Socket 'no_plan';
use Backends;

# A certificate for the name "backend.test", which vouches for itself.
my $directory = File::Temp->newdir;
my $log = `cd '$directory' && openssl req -x509 -newkey rsa:2048 -nodes -days 2 -sha256 \\
    -subj /CN=backend.test -addext 'subjectAltName=DNS:backend.test' \\
    -keyout server.key -out server.crt 2>&1`;
die "openssl: $log" if $?;
$ENV{TEST_NGINX_CERTIFICATES} = "$directory";

# A and B are servers of TLS on $TEST_NGINX_RAND_PORT_1 and ..._2: they say their
# letter, and "." for a new session or "r" for one that was taken up again.
sub tls_backends {
    my ($protocol) = @_;
    # The default of nginx 1.22 is without TLS 1.3.
    my $text = 'proxy_ssl_protocols TLSv1.2 TLSv1.3;'
        . ' add_header X-Tried $upstream_addr always; add_header X-Status $upstream_status always;';
    for (['A', 1], ['B', 2]) {
        my ($letter, $port) = @$_;
        $text .= <<"END";

server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_$port ssl;
    access_log off;
    ssl_certificate \$TEST_NGINX_CERTIFICATES/server.crt;
    ssl_certificate_key \$TEST_NGINX_CERTIFICATES/server.key;
    ssl_session_cache shared:sessions$letter:1m;
    ssl_protocols $protocol;
    add_header X-Protocol \$ssl_protocol;
    add_header X-Name \$ssl_server_name;
    if (\$http_x_do ~ "$letter=close") { return 444; }
    location / { return 200 "$letter\$ssl_session_reused"; }
    location /requests { return 200 "$letter\$connection_requests"; }
}
END
    }
    return $text;
}

# "--- protocol" says which version the servers speak.
add_block_preprocessor(sub {
    my $block = shift;
    my $protocol = $block->protocol // 'TLSv1.3';
    $block->set_value(http_config => tls_backends($protocol) . $block->http_config);
});

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: the second connection takes the session up again
--- http_config
    upstream test_1 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location / { proxy_pass https://test_1; }
--- request eval
[("GET /") x 3]
--- response_body eval
[qw(A. Ar Ar)]
--- response_headers eval
[("X-Protocol: TLSv1.3") x 3]
--- no_error_log
[error]



=== TEST 2: with two servers each has a session of its own
--- http_config
    upstream test_2 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass https://test_2; proxy_ssl_session_reuse on; }
--- request eval
[("GET /") x 6]
--- response_body eval
[qw(A. B. Ar Br Ar Br)]
--- no_error_log
[error]



=== TEST 3: the same with TLS 1.2
--- protocol: TLSv1.2
--- http_config
    upstream test_3 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass https://test_3; }
--- request eval
[("GET /") x 6]
--- response_body eval
[qw(A. B. Ar Br Ar Br)]
--- response_headers eval
[("X-Protocol: TLSv1.2") x 6]
--- no_error_log
[error]



=== TEST 4: proxy_ssl_session_reuse off
--- http_config
    upstream test_4 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass https://test_4; proxy_ssl_session_reuse off; }
--- request eval
[("GET /") x 4]
--- response_body eval
[qw(A. B. A. B.)]
--- no_error_log
[error]



=== TEST 5: a session outlives a failed try
--- http_config
    upstream test_5 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass https://test_5; }
--- init
my $say = sub { my $answer = ::ask('/', @_); "$answer->{tried} $answer->{body}" };
::is($say->(), 'A A.', 'a new session');
::is($say->(do => 'A=close'), 'AB B.', 'it fails');
::is($say->(do => 'A=close'), 'AB Br', 'it fails again');
--- request
GET /
--- response_body: Ar



=== TEST 6: two clusters with the same server
--- http_config
    upstream one {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
    upstream two {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location /1 { proxy_pass https://one; }
    location /2 { proxy_pass https://two; }
--- request eval
["GET /1", "GET /2", "GET /1", "GET /2"]
--- response_body eval
[qw(A. A. Ar Ar)]
--- no_error_log
[error]



=== TEST 7: a server that does not speak TLS fails, and so does one that is not there
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        location / { return 200 plain; }
    }
    upstream test_7 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass https://test_7; }
--- request eval
[("GET /") x 2]
--- response_body eval
[qw(B. Br)]
--- response_headers eval
["X-Status: 502, 502, 200", "X-Status: 200"]



=== TEST 8: certificates are verified, and the name is sent
--- http_config
    upstream test_8 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    proxy_ssl_verify on;
    proxy_ssl_trusted_certificate $TEST_NGINX_CERTIFICATES/server.crt;
    proxy_ssl_server_name on;
    location / { proxy_pass https://test_8; proxy_ssl_name backend.test; }
    location /other { proxy_pass https://test_8; proxy_ssl_name other.test; }
--- request eval
["GET /", "GET /", "GET /", "GET /other"]
--- error_code eval
[200, 200, 200, 502]
--- response_body_like eval
['^A\.$', '^B\.$', '^Ar$', '502 Bad Gateway']
--- response_headers eval
[("X-Name: backend.test") x 3, "X-Status: 502, 502"]



=== TEST 9: kept connections
--- http_config
    upstream test_9 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        keepalive 4;
    }
--- config
    location / { proxy_pass https://test_9; proxy_http_version 1.1; proxy_set_header Connection ""; }
--- request eval
[("GET /requests") x 4]
--- response_body eval
[qw(A1 B1 A2 B2)]
--- no_error_log
[error]
