# vi:set ft= ts=4 sw=4 et fdm=marker:

# gRPC checks, with the health service of Python's grpcio, and with nginx before
# it. "--- verdicts" is explained in t/lib/Verdicts.pm, the servers in
# t/lib/RealServers.pm, their services in t/lib/grpc_server.py.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use RealServers;
use Verdicts;
use Test::Nginx::Socket;

keys_of_tests();
grpc_health('GRPC');
grpc_health('WITHOUT', 'without');
grpc_health('TLS', 'server');
grpc_health('EXPIRED', 'expired');
grpc_health('STRANGE', 'strange');
grpc_health('CLIENTS', 'server', 'ca');
nobody('NOBODY');

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: services
--- verdicts
GRPC: grpc => ok
GRPC: grpc service=up => ok
GRPC: grpc service=a.b.Deep/service => ok
GRPC: grpc service=down => err grpc: not serving
GRPC: grpc service=dark => err grpc: status unknown
GRPC: grpc service=no.such.Service => err grpc: unknown service
GRPC: grpc service=UP => err grpc: unknown service
GRPC: grpc host=health.test:50051 => ok
WITHOUT: grpc => err grpc: no health service
WITHOUT: grpc service=up => err grpc: no health service
NOBODY: grpc => err connection refused
--- no_error_log
[error]



=== TEST 2: over TLS
--- verdicts
TLS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
TLS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt host=backend.test service=up => ok
TLS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test service=down => err grpc: not serving
TLS: grpc ssl=on ssl_verify=off => ok
TLS: grpc ssl=on ssl_verify=off service=no-such => err grpc: unknown service
TLS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=other.test => err TLS: the certificate is not for "other.test"
TLS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate
EXPIRED: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => err TLS: certificate has expired
EXPIRED: grpc ssl=on ssl_verify=off => ok
STRANGE: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => err ~^TLS: .*certificate
CLIENTS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => err ~.
CLIENTS: grpc ssl=on ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/strange_client.crt ssl_certificate_key=$TEST_NGINX_KEYS/strange_client.key => err ~.
CLIENTS: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key => ok
--- no_error_log
[alert]



=== TEST 3: TLS on one side only
--- verdicts
TLS: grpc timeout=1s interval=200ms => err ~.
GRPC: grpc ssl=on ssl_verify=off timeout=1s interval=200ms => err ~.



=== TEST 4: what does not speak gRPC
--- http_config
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200; } }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 http2; location / { return 200 "hello\n"; } }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3 http2; location / { return 404; } }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4 http2; location / { add_header grpc-status 14 always; default_type application/grpc; return 204; } }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_5 ssl;
        ssl_certificate $TEST_NGINX_KEYS/server.crt;
        ssl_certificate_key $TEST_NGINX_KEYS/server.key;
    }
--- verdicts
1: grpc timeout=1s interval=200ms => err ~.
2: grpc => err ~.
3: grpc => err ~404
4: grpc => err ~.
5: grpc ssl=on ssl_verify=off timeout=1s interval=200ms => err ~.
--- no_error_log
[alert]



=== TEST 5: nginx before the servers
--- http_config
    # grpc_pass of nginx asks a server that is gone, or answers by itself.
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 http2;
        location /grpc.health.v1.Health/Check { grpc_pass grpc://127.0.0.1:$TEST_NGINX_GRPC_PORT; }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2 ssl http2;
        ssl_certificate $TEST_NGINX_KEYS/server.crt;
        ssl_certificate_key $TEST_NGINX_KEYS/server.key;
        location / { if ($http_host != health.test) { return 404; } return 204; }
        location /grpc.health.v1.Health/Check { grpc_pass grpc://127.0.0.1:$TEST_NGINX_GRPC_PORT; }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_3 http2;
        location / { grpc_pass grpc://127.0.0.1:$TEST_NGINX_NOBODY_PORT; }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4 http2 default_server;
        server_name _;
        return 403;
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_4 http2;
        server_name health.test;
        location / { grpc_pass grpc://127.0.0.1:$TEST_NGINX_GRPC_PORT; }
    }
--- verdicts
1: grpc => ok
1: grpc service=up => ok
1: grpc service=down => err grpc: not serving
1: grpc service=no-such => err grpc: unknown service
2: grpc ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
2: grpc ssl=on ssl_verify=off service=down => err grpc: not serving
3: grpc => err ~502
4: grpc => err ~403
4: grpc host=health.test => ok
4: grpc host=health.test:50051 => ok



=== TEST 6: a server that goes and comes back
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 http2;
        location / {
            if (-f $TEST_NGINX_SERVER_ROOT/html/sick) { return 503; }
            grpc_pass grpc://127.0.0.1:$TEST_NGINX_GRPC_PORT;
        }
    }
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_GRPC_PORT;
        checkups_check grpc interval=50ms timeout=10s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::states_are('up', 'ok', 'ok');
open my $sick, '>', "$ENV{TEST_NGINX_SERVER_ROOT}/html/sick" or die;
main::states_are('up', 'err ~503', 'ok');
unlink "$ENV{TEST_NGINX_SERVER_ROOT}/html/sick" or die;
main::states_are('up', 'ok', 'ok');
--- request
GET /api/status



=== TEST 7: a parameter of another type
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check grpc uri=/; }
--- config
--- must_die
--- error_log
uri



=== TEST 8: TLS without something to verify by
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check grpc ssl=on; }
--- config
--- must_die
--- error_log
ssl_trusted_certificate



=== TEST 9: service is of gRPC only
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check http service=up; }
--- config
--- must_die
--- error_log
service
