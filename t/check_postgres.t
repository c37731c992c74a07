# vi:set ft= ts=4 sw=4 et fdm=marker:

# PostgreSQL checks, with real servers. "--- verdicts" is explained in
# t/lib/Verdicts.pm, the servers in t/lib/RealServers.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use RealServers;
use Verdicts;
use Test::Nginx::Socket;

my %users = (sql => <<'SQL', hba => <<'HBA', options => ['max_connections=10', 'superuser_reserved_connections=1']);
SET password_encryption = 'scram-sha-256'
CREATE ROLE scram LOGIN PASSWORD 'sesame'
CREATE ROLE clear LOGIN PASSWORD 'sesame'
CREATE ROLE tls LOGIN PASSWORD 'sesame'
CREATE ROLE cert LOGIN
CREATE ROLE trusted LOGIN
CREATE ROLE off NOLOGIN PASSWORD 'sesame'
CREATE ROLE unlisted LOGIN PASSWORD 'sesame'
CREATE ROLE rejected LOGIN PASSWORD 'sesame'
CREATE ROLE few LOGIN PASSWORD 'sesame' CONNECTION LIMIT 0
SET password_encryption = 'md5'
CREATE ROLE md LOGIN PASSWORD 'sesame'
CREATE DATABASE shop
SQL
host    all scram,off,few   127.0.0.1/32 scram-sha-256
host    all md              127.0.0.1/32 md5
host    all clear           127.0.0.1/32 password
host    all trusted,admin   127.0.0.1/32 trust
hostssl all tls             127.0.0.1/32 scram-sha-256
host    all rejected        127.0.0.1/32 reject
HBA

keys_of_tests();
# A client certificate needs an authority to be known, which only the one with TLS has.
postgres('POSTGRES', %users, hba => "$users{hba}hostssl all cert 127.0.0.1/32 trust clientcert=verify-ca\n",
    options => [@{ $users{options} }, "ssl_ca_file=$ENV{TEST_NGINX_KEYS}/ca.crt"]);
postgres('PLAIN', %users, hba => $users{hba} =~ s/^hostssl.*\n//mr, tls => 0);
nobody('NOBODY');

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: without a user, the answer to the request for TLS is enough
--- verdicts
POSTGRES: postgres => ok
PLAIN: postgres => ok
PLAIN: postgres ssl=off => ok
NOBODY: postgres => err connection refused
--- no_error_log
[error]



=== TEST 2: users and passwords, without TLS
--- verdicts
PLAIN: postgres user=scram password=sesame database=postgres ssl=off => ok
PLAIN: postgres user=md password=sesame database=postgres ssl=off => ok
PLAIN: postgres user=clear password=sesame database=postgres ssl=off => ok
PLAIN: postgres user=trusted database=postgres ssl=off => ok
PLAIN: postgres user=scram password=sesame-wrong database=postgres ssl=off => err postgres: password authentication failed for user "scram"
PLAIN: postgres user=md password=sesame-wrong database=postgres ssl=off => err postgres: password authentication failed for user "md"
PLAIN: postgres user=clear password=sesame-wrong database=postgres ssl=off => err postgres: password authentication failed for user "clear"
PLAIN: postgres user=no-such password=sesame database=postgres ssl=off => err ~^postgres: no pg_hba.conf entry for host "127\.0\.0\.1"
PLAIN: postgres user=unlisted password=sesame database=postgres ssl=off => err ~^postgres: no pg_hba.conf entry for host "127\.0\.0\.1"
PLAIN: postgres user=rejected password=sesame database=postgres ssl=off => err ~^postgres: pg_hba.conf rejects connection
PLAIN: postgres user=off password=sesame database=postgres ssl=off => err postgres: role "off" is not permitted to log in
PLAIN: postgres user=few password=sesame database=postgres ssl=off => err postgres: too many connections for role "few"
PLAIN: postgres user=scram database=postgres ssl=off => err the server wants a password
PLAIN: postgres user=md database=postgres ssl=off => err the server wants a password
PLAIN: postgres user=trusted password=sesame database=postgres ssl=off => ok
--- no_error_log
[error]



=== TEST 3: databases
--- verdicts
PLAIN: postgres user=scram password=sesame database=shop ssl=off => ok
PLAIN: postgres user=scram password=sesame database=nowhere ssl=off => err postgres: database "nowhere" does not exist
PLAIN: postgres user=scram password=sesame ssl=off => err postgres: database "scram" does not exist



=== TEST 4: passwords from files
--- user_files
>>> right
sesame
>>> wrong
sesame-wrong
--- verdicts
PLAIN: postgres user=scram password_file=$TEST_NGINX_SERVER_ROOT/html/right database=postgres ssl=off => ok
PLAIN: postgres user=md password_file=../html/right database=postgres ssl=off => ok
PLAIN: postgres user=scram password_file=../html/wrong database=postgres ssl=off => err postgres: password authentication failed for user "scram"



=== TEST 5: TLS
--- verdicts
POSTGRES: postgres ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
POSTGRES: postgres user=scram password=sesame database=postgres ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
POSTGRES: postgres user=md password=sesame database=postgres ssl=on ssl_verify=off => ok
POSTGRES: postgres user=tls password=sesame database=postgres ssl=on ssl_verify=off => ok
POSTGRES: postgres user=tls password=sesame database=postgres ssl=off => err ~^postgres: no pg_hba.conf entry for host "127\.0\.0\.1"
POSTGRES: postgres user=scram password=sesame-wrong database=postgres ssl=on ssl_verify=off => err postgres: password authentication failed for user "scram"
POSTGRES: postgres user=cert database=postgres ssl=on ssl_verify=off => err ~^postgres: connection requires a valid client certi
POSTGRES: postgres user=cert database=postgres ssl=on ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key => ok
POSTGRES: postgres user=cert database=postgres ssl=on ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/strange_client.crt ssl_certificate_key=$TEST_NGINX_KEYS/strange_client.key => err ~.
POSTGRES: postgres user=scram password=sesame database=postgres ssl=on ssl_verify=off ssl_protocols=TLSv1.2 => ok
POSTGRES: postgres user=scram password=sesame database=postgres ssl=on ssl_verify=off ssl_protocols=TLSv1.3 => ok
POSTGRES: postgres user=scram password=sesame database=postgres ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=other.test => err TLS: the certificate is not for "other.test"
POSTGRES: postgres user=scram password=sesame database=postgres ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate
PLAIN: postgres ssl=on ssl_verify=off => err the server has no TLS
PLAIN: postgres user=scram password=sesame database=postgres ssl=on ssl_verify=off => err the server has no TLS



=== TEST 6: TLS where the server offers it
--- verdicts
POSTGRES: postgres user=tls password=sesame database=postgres ssl_verify=off => ok
PLAIN: postgres user=scram password=sesame database=postgres ssl_verify=off => ok
POSTGRES: postgres user=tls password=sesame database=postgres ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
PLAIN: postgres user=scram password=sesame database=postgres ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
POSTGRES: postgres user=scram password=sesame database=postgres ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=other.test => err TLS: the certificate is not for "other.test"
POSTGRES: postgres user=scram password=sesame database=postgres ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate



=== TEST 7: nothing of the passwords in a log of everything
--- log_level: debug
--- user_files
>>> file
sesame-file
--- verdicts
PLAIN: postgres user=scram password=sesame database=postgres ssl=off => ok
PLAIN: postgres user=clear password=sesame database=postgres ssl=off => ok
PLAIN: postgres user=md password=sesame-wrong database=postgres ssl=off => err ~password authentication failed
PLAIN: postgres user=scram password_file=../html/file database=postgres ssl=off => err ~password authentication failed
POSTGRES: postgres user=scram password=sesame database=postgres ssl=on ssl_verify=off => ok



=== TEST 8: a server without a free connection
--- http_config
    upstream up {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_PLAIN_PORT;
        checkups_check postgres user=scram password=sesame database=postgres ssl=off interval=100ms timeout=10s;
    }
--- config
    location /api/ { checkups_api; }
--- init
# Each begins a session as a user who needs no password. A check may have a connection while the others
# are taken, and that one is free afterwards: so they are taken again and again.
my $parameters = "user\0trusted\0database\0postgres\0\0";
my @held;
my $state = '';
NginxRunner::wait_until(15, sub {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_PLAIN_PORT});
    syswrite $socket, pack('NN', 8 + length $parameters, 3 << 16) . $parameters;
    sysread $socket, my $answer, 1000;
    push @held, $socket if $answer !~ /^E/;
    return ($state = main::state_of(main::servers_of('up'))) =~ /^err/;
});
Test::More::like($state, qr/^err postgres: (?:sorry, too many clients already|remaining connection slots)/, 'it is full');
undef @held;
main::states_are('up', 'ok');
--- request
GET /api/status



=== TEST 9: what is no PostgreSQL
--- http_config
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- verdicts
1: postgres => err invalid PostgreSQL message
1: postgres user=scram password=sesame ssl=off => err ~.



=== TEST 10: a parameter of another type
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT;
        checkups_check postgres uri=/;
    }
--- config
--- must_die
--- error_log
uri



=== TEST 11: a password without a user
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT;
        checkups_check postgres password=sesame;
    }
--- config
--- must_die
--- error_log
user=
--- no_error_log
sesame



=== TEST 12: TLS without something to verify by
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_POSTGRES_PORT;
        checkups_check postgres user=x password=sesame ssl=on;
    }
--- config
--- must_die
--- error_log
ssl_trusted_certificate
--- no_error_log
sesame
