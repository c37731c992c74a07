# vi:set ft= ts=4 sw=4 et fdm=marker:

# MySQL checks, with a real MariaDB. "--- verdicts" is explained in t/lib/Verdicts.pm,
# the servers in t/lib/RealServers.pm. MariaDB has no caching_sha2_password: that is
# tested with recorded exchanges, in src/logic/probe/mysql.rs.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use RealServers;
use Verdicts;
use Test::Nginx::Socket;

my $users = <<'END';
CREATE USER 'mon'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('sesame');
CREATE USER 'open'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('');
CREATE USER 'tls'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('sesame') REQUIRE SSL;
CREATE USER 'cert'@'127.0.0.1' IDENTIFIED VIA mysql_native_password USING PASSWORD('sesame') REQUIRE X509;
CREATE USER 'elsewhere'@'192.0.2.1' IDENTIFIED BY 'sesame';
CREATE USER 'locked'@'127.0.0.1' IDENTIFIED BY 'sesame' ACCOUNT LOCK;
CREATE DATABASE shop;
CREATE DATABASE other;
GRANT SELECT ON shop.* TO 'mon'@'127.0.0.1';
END

# Of a user that it does not know, MariaDB pretends that it has the plugin of another one, at random:
# so the server that is asked for such a user has only those that the checks know.
my $curve = "CREATE USER 'curve'\@'127.0.0.1' IDENTIFIED VIA ed25519 USING PASSWORD('sesame');\n";

keys_of_tests();
mariadb('MARIADB', sql => $users . $curve, options => ['--plugin-load-add=auth_ed25519']);
mariadb('PLAIN', sql => $users, tls => 0, options => ['--max-connections=10']);
mariadb('STRICT', sql => $users, options => ['--require-secure-transport=ON']);
nobody('NOBODY');

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: without a user, the greeting is enough
--- verdicts
MARIADB: mysql => ok
PLAIN: mysql => ok
PLAIN: mysql ssl=off => ok
STRICT: mysql => ok
NOBODY: mysql => err connection refused
--- no_error_log
[error]



=== TEST 2: users and passwords, without TLS
--- verdicts
PLAIN: mysql user=mon password=sesame ssl=off => ok
PLAIN: mysql user=open ssl=off => ok
PLAIN: mysql user=mon password=sesame-wrong ssl=off => err ~^mysql: Access denied for user 'mon'@'127\.0\.0\.1' \(us
PLAIN: mysql user=mon password=SESAME ssl=off => err ~^mysql: Access denied for user 'mon'@
PLAIN: mysql user=mon ssl=off => err ~^mysql: Access denied for user 'mon'@
PLAIN: mysql user=open password=sesame ssl=off => err ~^mysql: Access denied for user 'open'@
PLAIN: mysql user=no-such password=sesame ssl=off => err ~^mysql: Access denied for user 'no-such'@
PLAIN: mysql user=elsewhere password=sesame ssl=off => err ~^mysql: Access denied for user 'elsewhere'@
PLAIN: mysql user=locked password=sesame ssl=off => err ~^mysql: Access denied, this account is locked
MARIADB: mysql user=curve password=sesame ssl=off => err mysql: plugin client_ed25519 is not supported
MARIADB: mysql user=mon password=sesame ssl=off => ok
MARIADB: mysql user=tls password=sesame ssl=off => err ~^mysql: Access denied for user 'tls'@
STRICT: mysql user=mon password=sesame ssl=off => err ~.
--- no_error_log
[error]



=== TEST 3: databases
--- verdicts
PLAIN: mysql user=mon password=sesame database=shop ssl=off => ok
PLAIN: mysql user=mon password=sesame database=other ssl=off => err ~^mysql: Access denied for user 'mon'@
PLAIN: mysql user=mon password=sesame database=nowhere ssl=off => err ~^mysql: .*(?:Access denied|Unknown database)



=== TEST 4: passwords from files
--- user_files
>>> right
sesame
>>> wrong
sesame-wrong
--- verdicts
PLAIN: mysql user=mon password_file=$TEST_NGINX_SERVER_ROOT/html/right ssl=off => ok
PLAIN: mysql user=mon password_file=../html/right ssl=off => ok
PLAIN: mysql user=mon password_file=../html/wrong ssl=off => err ~^mysql: Access denied for user 'mon'@



=== TEST 5: TLS
--- verdicts
MARIADB: mysql ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
MARIADB: mysql user=mon password=sesame ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
MARIADB: mysql user=mon password=sesame-wrong ssl=on ssl_verify=off => err ~^mysql: Access denied for user 'mon'@
MARIADB: mysql user=tls password=sesame ssl=on ssl_verify=off => ok
MARIADB: mysql user=tls password=sesame ssl=on ssl_verify=off database=nowhere => err ~^mysql: (?:Access denied|Unknown database)
MARIADB: mysql user=cert password=sesame ssl=on ssl_verify=off => err ~^mysql: Access denied for user 'cert'@
MARIADB: mysql user=cert password=sesame ssl=on ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key => ok
MARIADB: mysql user=mon password=sesame ssl=on ssl_verify=off ssl_protocols=TLSv1.2 => ok
MARIADB: mysql user=mon password=sesame ssl=on ssl_verify=off ssl_protocols=TLSv1.3 => ok
STRICT: mysql user=mon password=sesame ssl=on ssl_verify=off => ok
MARIADB: mysql user=mon password=sesame ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=other.test => err TLS: the certificate is not for "other.test"
MARIADB: mysql user=mon password=sesame ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate
PLAIN: mysql ssl=on ssl_verify=off => err the server has no TLS
PLAIN: mysql user=mon password=sesame ssl=on ssl_verify=off => err the server has no TLS



=== TEST 6: TLS where the server offers it
--- verdicts
MARIADB: mysql user=tls password=sesame ssl_verify=off => ok
STRICT: mysql user=mon password=sesame ssl_verify=off => ok
PLAIN: mysql user=mon password=sesame ssl_verify=off => ok
MARIADB: mysql user=tls password=sesame ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
PLAIN: mysql user=mon password=sesame ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
MARIADB: mysql user=mon password=sesame ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=other.test => err TLS: the certificate is not for "other.test"
MARIADB: mysql user=mon password=sesame ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate



=== TEST 7: nothing of the passwords in a log of everything
--- log_level: debug
--- user_files
>>> file
sesame-file
--- verdicts
PLAIN: mysql user=mon password=sesame ssl=off => ok
PLAIN: mysql user=mon password=sesame-wrong ssl=off => err ~Access denied
PLAIN: mysql user=mon password_file=../html/file ssl=off => err ~Access denied
MARIADB: mysql user=mon password=sesame ssl=on ssl_verify=off => ok



=== TEST 8: a server without a free connection
--- init
# A check may have a connection while the others are taken, and that one is free afterwards: so they are
# taken again and again.
my @held;
my $state = '';
NginxRunner::wait_until(15, sub {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_PLAIN_PORT});
    sysread $socket, my $greeting, 100;
    push @held, $socket if $greeting !~ /Too many/;
    return ($state = main::state_of(main::servers_of('up'))) =~ /^err/;
});
Test::More::is($state, 'err mysql: Too many connections', 'it is full');
undef @held;
main::states_are('up', 'ok');
--- http_config
    upstream up {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_PLAIN_PORT;
        checkups_check mysql interval=100ms timeout=10s;
    }
--- config
    location /api/ { checkups_api; }
--- request
GET /api/status



=== TEST 9: checks with a login end in an orderly way
--- http_config
    upstream up {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_PLAIN_PORT;
        checkups_check mysql user=mon password=sesame ssl=off interval=20ms timeout=10s;
    }
    upstream tls {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_MARIADB_PORT;
        checkups_check mysql user=mon password=sesame ssl=on ssl_verify=off interval=20ms timeout=10s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::states_are($_, 'ok') for 'up', 'tls';
for my $port (@ENV{'TEST_NGINX_PLAIN_PORT', 'TEST_NGINX_MARIADB_PORT'}) {
    my $counted = sub {
        my $said = `mariadb --no-defaults -h 127.0.0.1 -P $port -u root -NB -e "SHOW GLOBAL STATUS WHERE Variable_name IN ('Aborted_clients', 'Aborted_connects', 'Connections')"`;
        return { $said =~ /(\w+)\t(\d+)/g };
    };
    my $before = $counted->();
    my $after;
    NginxRunner::wait_until(10, sub { $after = $counted->(); $after->{Connections} > $before->{Connections} + 20 });
    Test::More::cmp_ok($after->{Connections}, '>', $before->{Connections} + 20, 'checks were made');
    Test::More::is($after->{$_}, $before->{$_}, "$_ is as before") for 'Aborted_clients', 'Aborted_connects';
}
--- request
GET /api/status



=== TEST 10: what is no MySQL
--- http_config
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; client_header_timeout 1s; }
--- verdicts
1: mysql timeout=300ms interval=100ms => err timed out after 300ms
2: mysql timeout=20s interval=100ms => err ~^closed before



=== TEST 11: a parameter of another type
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_MARIADB_PORT;
        checkups_check mysql service=x;
    }
--- config
--- must_die
--- error_log
service



=== TEST 12: a password without a user
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_MARIADB_PORT;
        checkups_check mysql password=sesame;
    }
--- config
--- must_die
--- error_log
user=
--- no_error_log
sesame



=== TEST 13: TLS without something to verify by
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_MARIADB_PORT;
        checkups_check mysql user=x password=sesame ssl=on;
    }
--- config
--- must_die
--- error_log
ssl_trusted_certificate
--- no_error_log
sesame
