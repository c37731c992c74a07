# vi:set ft= ts=4 sw=4 et fdm=marker:

# Checks over TLS, with nginx as the server. "--- verdicts" is explained in
# t/lib/Verdicts.pm, the certificates in t/lib/RealServers.pm.
#
# The servers, by the numbers of their ports:
#
#   1  TLS 1.2 and 1.3, for backend.test     5  a certificate of an unknown authority
#   2  TLS 1.2 only                          6  wants a certificate of the client
#   3  an expired certificate                7  HTTP without TLS
#   4  a certificate for other.test          8  TLS 1.3 only
#                                            9  refuses all names but backend.test
#
# There "/" is 200, "/name/backend.test" where that is the name that came by SNI
# (and "/name/" where none came), "/host/backend.test" where that is the Host;
# "/thrice" fails from the third request of a connection on.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use RealServers;
use Verdicts;
use Test::Nginx::Socket;

keys_of_tests();

sub tls_server {
    my ($number, $certificate, $more) = @_;
    my $tls = $certificate ? 'ssl' : '';
    my $names = $certificate ? <<"END" : '';
    ssl_certificate \$TEST_NGINX_KEYS/$certificate.crt;
    ssl_certificate_key \$TEST_NGINX_KEYS/$certificate.key;
    location = /name/ { if (\$ssl_server_name) { return 404; } return 200; }
    location ~ ^/name/(.+) { if (\$ssl_server_name != \$1) { return 404; } return 200; }
END
    return <<"END";
server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_$number $tls;
    access_log off;
    $names
    $more
    location / { return 200; }
    location = /thrice { if (\$connection_requests = 3) { return 503; } return 200; }
    location = /gone { return 410; }
    location ~ ^/host/(.+) { if (\$http_host != \$1) { return 404; } return 200; }
}
END
}

my $both = 'ssl_protocols TLSv1.2 TLSv1.3;';
my $servers = join '',
    tls_server(1, 'server', $both),
    tls_server(2, 'server', 'ssl_protocols TLSv1.2;'),
    tls_server(3, 'expired', $both),
    tls_server(4, 'other', $both),
    tls_server(5, 'strange', $both),
    tls_server(6, 'server', "$both ssl_client_certificate \$TEST_NGINX_KEYS/ca.crt; ssl_verify_client on;"),
    tls_server(7, undef, ''),
    tls_server(8, 'server', 'ssl_protocols TLSv1.3;'),
    "server { listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_9 ssl; ssl_reject_handshake on; $both }\n",
    tls_server(9, 'server', "$both server_name backend.test;");

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => $servers . ($block->http_config // '')) if !defined $block->must_die;
    # By all of the same parameters that most lines need.
    my $verdicts = $block->verdicts // return;
    $verdicts =~ s/\bKNOWN\b/ssl_trusted_certificate=$ENV{TEST_NGINX_KEYS}\/ca.crt/g;
    $verdicts =~ s/\bNAMED\b/ssl_trusted_certificate=$ENV{TEST_NGINX_KEYS}\/ca.crt ssl_name=backend.test/g;
    $block->set_value(verdicts => $verdicts);
});

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: certificates that are good, and that are not
--- verdicts
1: https NAMED => ok
2: https NAMED => ok
8: https NAMED => ok
3: https NAMED => err TLS: certificate has expired
4: https NAMED => err TLS: the certificate is not for "backend.test"
5: https NAMED => err ~^TLS: .*certificate
1: https ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate
4: https KNOWN ssl_name=other.test => ok
5: https ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => ok
1: https KNOWN ssl_name=other.test => err TLS: the certificate is not for "other.test"
1: https KNOWN ssl_name=127.0.0.1 => err TLS: the certificate is not for "127.0.0.1"
--- no_error_log
[alert]



=== TEST 2: without verification
--- verdicts
1: https ssl_verify=off => ok
3: https ssl_verify=off => ok
4: https ssl_verify=off => ok
5: https ssl_verify=off => ok
5: https ssl_verify=off KNOWN => ok
1: https ssl_verify=off uri=/gone => err status 410
1: https ssl_verify=off method=HEAD => ok



=== TEST 3: the same for http and tcp with ssl=on
--- verdicts
1: http ssl=on NAMED => ok
1: http ssl=on NAMED uri=/gone => err status 410
3: http ssl=on NAMED => err TLS: certificate has expired
1: tcp ssl=on NAMED => ok
2: tcp ssl=on NAMED => ok
8: tcp ssl=on NAMED => ok
3: tcp ssl=on NAMED => err TLS: certificate has expired
4: tcp ssl=on NAMED => err TLS: the certificate is not for "backend.test"
5: tcp ssl=on NAMED => err ~^TLS: .*certificate
3: tcp ssl=on ssl_verify=off => ok
7: tcp ssl=on ssl_verify=off => err ~.
3: tcp => ok



=== TEST 4: certificates of the client
--- verdicts
6: https NAMED => err status 400
6: https NAMED ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key => ok
6: https NAMED ssl_certificate=$TEST_NGINX_KEYS/strange_client.crt ssl_certificate_key=$TEST_NGINX_KEYS/strange_client.key => err status 400
6: https ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key ssl_protocols=TLSv1.2 => ok
1: https NAMED ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key => ok



=== TEST 5: versions of TLS
--- verdicts
1: https NAMED ssl_protocols=TLSv1.2 => ok
1: https NAMED ssl_protocols=TLSv1.3 => ok
1: https NAMED "ssl_protocols=TLSv1.2 TLSv1.3" => ok
2: https NAMED ssl_protocols=TLSv1.2 => ok
2: https NAMED ssl_protocols=TLSv1.3 => err ~.
8: https NAMED ssl_protocols=TLSv1.2 => err ~.
8: https NAMED ssl_protocols=TLSv1.3 => ok



=== TEST 6: the name that is verified, and sent by SNI
--- verdicts
1: https KNOWN host=backend.test => ok
1: https KNOWN host=backend.test uri=/name/backend.test => ok
1: https KNOWN host=backend.test uri=/host/backend.test => ok
1: https KNOWN host=backend.test:8443 uri=/name/backend.test => ok
1: https NAMED uri=/name/backend.test => ok
1: https NAMED host=www.example.com uri=/name/backend.test => ok
1: https NAMED host=www.example.com uri=/host/www.example.com => ok
1: https ssl_verify=off host=www.example.com uri=/name/www.example.com => ok
1: https ssl_verify=off ssl_name=127.0.0.1 uri=/name/ => ok
1: https ssl_verify=off ssl_name=a.test host=b.test uri=/name/b.test => err status 404
9: https NAMED => ok
9: https ssl_verify=off ssl_name=other.test => err ~^TLS: .*unrecognized name



=== TEST 7: without a host, the name is that of the upstream
--- http_config
    upstream backend.test {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        checkups_check https interval=100ms timeout=10s uri=/name/backend.test ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::states_are('backend.test', 'ok', 'err TLS: the certificate is not for "backend.test"');
--- request
GET /api/status



=== TEST 8: TLS on one side only
--- verdicts
7: https ssl_verify=off => err ~.
1: http => err status 400
7: http => ok



=== TEST 9: kept connections
--- http_config
    upstream each {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_check https interval=20ms timeout=10s uri=/thrice ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test;
    }
    upstream kept {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_8;
        checkups_check https interval=20ms timeout=10s uri=/thrice ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test keepalive_time=10s;
    }
    upstream plain {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_7;
        checkups_check http interval=20ms timeout=10s uri=/thrice keepalive_time=10s;
    }
    upstream short {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_7;
        checkups_check http interval=50ms timeout=10s uri=/thrice keepalive_time=1ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
# The third request of a connection is one that fails.
my %failures = (kept => 6, plain => 2);
my $failures = sub { return scalar(() = main::log_text() =~ /cluster "$_[0]", server "[^"]+": from ok to err: status 503/g) };
NginxRunner::wait_until(10, sub { !grep { $failures->($_) < $failures{$_} } keys %failures });
Test::More::cmp_ok($failures->($_), '>=', $failures{$_}, "$_: connections are kept") for sort keys %failures;
Test::More::is($failures->($_), 0, "$_: they are not") for 'each', 'short';
--- request
GET /api/status



=== TEST 10: many checks, one after another, over new connections
--- http_config
    upstream up {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5;
        checkups_check https interval=10ms timeout=10s ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test;
    }
--- config
    location /api/ { checkups_api; }
--- init
my $failed = sub { (main::servers_of('up'))[2]{fail_num} // 0 };
NginxRunner::wait_until(15, sub { $failed->() >= 50 });
Test::More::cmp_ok($failed->(), '>=', 50, 'fifty checks');
main::states_are('up', 'ok', 'ok', 'err ~^TLS: .*certificate');
Test::More::unlike(main::log_text(), qr/ from ok/, 'none of those to the others failed');
--- request
GET /api/status
--- no_error_log
[alert]



=== TEST 11: nothing to verify by
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https; }
--- config
--- must_die
--- error_log
ssl_trusted_certificate



=== TEST 12: nothing to verify by, with ssl_verify=on
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check http ssl=on ssl_verify=on; }
--- config
--- must_die
--- error_log
ssl_trusted_certificate



=== TEST 13: a certificate without its key
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:1;
        checkups_check https ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/client.crt;
    }
--- config
--- must_die
--- error_log
ssl_certificate_key



=== TEST 14: a key without its certificate
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:1;
        checkups_check https ssl_verify=off ssl_certificate_key=$TEST_NGINX_KEYS/client.key;
    }
--- config
--- must_die
--- error_log
ssl_certificate



=== TEST 15: a key of another certificate
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:1;
        checkups_check https ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/server.key;
    }
--- config
--- must_die
--- error_log
server.key



=== TEST 16: authorities that are not there
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https ssl_trusted_certificate=/nowhere/ca.crt; }
--- config
--- must_die
--- error_log
/nowhere/ca.crt



=== TEST 17: authorities that are none
--- user_files
>>> none.crt
nonsense
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https ssl_trusted_certificate=../html/none.crt; }
--- config
--- must_die
--- error_log
none.crt



=== TEST 18: no version of TLS
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https ssl_verify=off ssl_protocols=TLSv1.9; }
--- config
--- must_die
--- error_log
ssl_protocols



=== TEST 19: neither on nor off
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https ssl_verify=maybe; }
--- config
--- must_die
--- error_log
ssl_verify



=== TEST 20: a name that is none
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https ssl_verify=off ssl_name=; }
--- config
--- must_die
--- error_log
ssl_name



=== TEST 21: https without TLS
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; checkups_check https ssl=off; }
--- config
--- must_die
--- error_log
ssl=off
