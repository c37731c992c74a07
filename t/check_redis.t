# vi:set ft= ts=4 sw=4 et fdm=marker:

# Redis checks, with real servers. "--- verdicts" is explained in t/lib/Verdicts.pm,
# the servers in t/lib/RealServers.pm.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use RealServers;
use Verdicts;
use Test::Nginx::Socket;

keys_of_tests();
# Replicas are served at once.
redis('REDIS', '--repl-diskless-sync-delay', 0);
redis('LOCKED', '--requirepass', 'sesame');
redis('ACL', '--user', 'default', 'off', '--user', 'mon', 'on', '>sesame-mon', '-@all', '+ping', '+info',
    '--user', 'poor', 'on', '>sesame-poor', '-@all', '+ping',
    '--user', 'mute', 'on', '>sesame-mute', '-@all', '--user', 'any', 'on', 'nopass', '-@all', '+ping', '+info');
redis('TLS', '--tls');
nobody('NOBODY');
redis('CUT_OFF', '--replicaof', "127.0.0.1 $ENV{TEST_NGINX_NOBODY_PORT}");
redis('REPLICA', '--replicaof', "127.0.0.1 $ENV{TEST_NGINX_REDIS_PORT}");
# It has its first copy when its link is up.
NginxRunner::wait_until(20, sub {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_REPLICA_PORT}) or return 0;
    print $socket "INFO replication\r\nQUIT\r\n";
    return do { local $/ = undef; readline $socket } =~ /master_link_status:up/;
}) or die "the replica has no link to its master\n";
redis('FULL', '--maxclients', '1');
# The one client that it takes.
my $only = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $ENV{TEST_NGINX_FULL_PORT}) or die "FULL: $!";

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: with and without a password
--- verdicts
REDIS: redis => ok
REDIS: redis password=sesame => err redis: ERR AUTH <password> called without any password
REDIS: redis user=default password=sesame => ok
REDIS: redis user=nobody password=sesame => err redis: WRONGPASS invalid username-password pair or user
LOCKED: redis => err redis: NOAUTH Authentication required.
LOCKED: redis password=sesame => ok
LOCKED: redis user=default password=sesame => ok
LOCKED: redis password=sesame-wrong => err redis: WRONGPASS invalid username-password pair or user
LOCKED: redis password=SESAME => err redis: WRONGPASS invalid username-password pair or user
NOBODY: redis => err connection refused
FULL: redis => err redis: ERR max number of clients reached
--- no_error_log
[error]



=== TEST 2: users with few rights
--- verdicts
ACL: redis user=mon password=sesame-mon => ok
ACL: redis user=mon password=sesame => err redis: WRONGPASS invalid username-password pair or user
ACL: redis user=any => ok
ACL: redis user=poor password=sesame-poor => ok
ACL: redis user=mute password=sesame-mute => err ~^redis: NOPERM
ACL: redis => err redis: NOAUTH Authentication required.
--- init
my ($mon) = main::servers_of('v1');
Test::More::is($mon->{redis_version}, '7.0.15', 'INFO was allowed') if $mon->{redis_version} =~ /^7\.0/;
Test::More::like($mon->{redis_version}, qr/^\d+\.\d+\.\d+$/, 'INFO was allowed');
my ($poor) = main::servers_of('v4');
Test::More::like($poor->{replication}{err}, qr/^NOPERM /, 'and here it was not');
--- no_error_log
[error]



=== TEST 3: passwords from files
--- user_files
>>> right
sesame
>>> wrong
sesame-wrong
--- verdicts
LOCKED: redis password_file=$TEST_NGINX_SERVER_ROOT/html/right => ok
LOCKED: redis user=default password_file=$TEST_NGINX_SERVER_ROOT/html/right => ok
LOCKED: redis password_file=$TEST_NGINX_SERVER_ROOT/html/wrong => err redis: WRONGPASS invalid username-password pair or user
LOCKED: redis password_file=../html/right => ok



=== TEST 4: nothing of the passwords in a log of everything
--- log_level: debug
--- user_files
>>> file
sesame-file
--- verdicts
REDIS: redis user=default password=sesame => ok
LOCKED: redis password=sesame => ok
LOCKED: redis password=sesame-wrong => err redis: WRONGPASS invalid username-password pair or user
LOCKED: redis password_file=../html/file => err redis: WRONGPASS invalid username-password pair or user
ACL: redis user=mon password=sesame-mon => ok



=== TEST 5: TLS
--- verdicts
TLS: redis ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=backend.test => ok
TLS: redis ssl=on ssl_verify=off => ok
TLS: redis ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/ca.crt ssl_name=other.test => err TLS: the certificate is not for "other.test"
TLS: redis ssl=on ssl_trusted_certificate=$TEST_NGINX_KEYS/stranger.crt ssl_name=backend.test => err ~^TLS: .*certificate
TLS: redis ssl=on ssl_verify=off ssl_certificate=$TEST_NGINX_KEYS/client.crt ssl_certificate_key=$TEST_NGINX_KEYS/client.key => ok
TLS: redis ssl=on ssl_verify=off password=sesame => err redis: ERR AUTH <password> called without any password
TLS: redis => err ~.
TLS: redis timeout=300ms interval=100ms ssl=off => err ~.
REDIS: redis ssl=on ssl_verify=off timeout=500ms interval=100ms => err timed out after 500ms



=== TEST 6: what a server says of itself is in the status
--- verdicts
REDIS: redis => ok
REPLICA: redis => ok
CUT_OFF: redis => unstable master link status: down
--- init
my ($master) = main::servers_of('v1');
Test::More::like($master->{redis_version}, qr/^\d+\.\d+\.\d+$/, 'the version');
Test::More::is_deeply($master->{replication}, { role => 'master' }, 'a master');
my ($replica) = main::servers_of('v2');
my $fields = $replica->{replication};
Test::More::like(delete $fields->{master_last_io_seconds_ago}, qr/^\d+$/, 'the master was heard of');
Test::More::is_deeply($fields, {
    role => 'slave', master_host => '127.0.0.1', master_port => $ENV{TEST_NGINX_REDIS_PORT}, master_link_status => 'up',
}, 'a replica');
my ($cut_off) = main::servers_of('v3');
$fields = $cut_off->{replication};
Test::More::like(delete $fields->{$_}, qr/^-?\d+$/, $_)
    for 'master_last_io_seconds_ago', 'master_link_down_since_seconds';
Test::More::is_deeply($fields, {
    role => 'slave', master_host => '127.0.0.1', master_port => $ENV{TEST_NGINX_NOBODY_PORT}, master_link_status => 'down',
}, 'a replica without its master');
--- no_error_log
[error]



=== TEST 7: a replica without its master is not used where another server works
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_CUT_OFF_PORT;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis interval=50ms;
    }
--- config
    location /api/ { checkups_api; }
    location /get { return 200 "$checkups_select_up\n"; }
--- init
main::states_are('up', 'err master link status: down', 'ok');
my ($cut_off) = main::servers_of('up');
Test::More::is($cut_off->{replication}{role}, 'slave', 'its fields are there, too');
--- request eval
[('GET /get') x 3]
--- response_body eval
[("127.0.0.1:$ENV{TEST_NGINX_REDIS_PORT}\n") x 3]



=== TEST 8: it is used where no other works, before those that do not answer at all
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_LOCKED_PORT;
        server 127.0.0.1:$TEST_NGINX_CUT_OFF_PORT;
        server 127.0.0.1:$TEST_NGINX_NOBODY_PORT;
        checkups_check redis interval=50ms;
    }
--- config
    location /api/ { checkups_api; }
    location /get { return 200 "$checkups_select_up\n"; }
--- init
main::states_are('up', 'err redis: NOAUTH Authentication required.', 'unstable master link status: down',
    'err connection refused');
--- request eval
[('GET /get') x 3]
--- response_body eval
[("127.0.0.1:$ENV{TEST_NGINX_CUT_OFF_PORT}\n") x 3]



=== TEST 9: also where nothing is protected
--- http_config
    upstream up {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_NOBODY_PORT;
        server 127.0.0.1:$TEST_NGINX_CUT_OFF_PORT;
        checkups_check redis interval=50ms;
    }
--- config
    location /api/ { checkups_api; }
    location /get { return 200 "$checkups_select_up\n"; }
--- init
main::states_are('up', 'err connection refused', 'unstable master link status: down');
--- request eval
[('GET /get') x 2]
--- response_body eval
[("127.0.0.1:$ENV{TEST_NGINX_CUT_OFF_PORT}\n") x 2]



=== TEST 10: where another check of the server fails, it has failed
--- http_config
    upstream up {
        checkups_cluster protected=off;
        server 127.0.0.1:$TEST_NGINX_CUT_OFF_PORT;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis interval=50ms timeout=10s;
        checkups_check tcp port=$TEST_NGINX_NOBODY_PORT interval=50ms timeout=10s;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::states_are('up', 'err ~.', 'err ~connection refused$');
--- request
GET /api/status



=== TEST 11: what is no Redis
--- http_config
    server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- verdicts
1: redis => err invalid Redis reply
1: redis password=sesame => err invalid Redis reply



=== TEST 12: parameters of other types
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis uri=/;
    }
--- config
--- must_die
--- error_log
uri



=== TEST 13: a password twice
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis password=sesame password_file=x;
    }
--- config
--- must_die
--- error_log
password_file
--- no_error_log
sesame



=== TEST 14: a file that is not there
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis password_file=/nowhere/at-all;
    }
--- config
--- must_die
--- error_log
/nowhere/at-all



=== TEST 15: a file with nothing in it
--- user_files
>>> empty
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis password_file=../html/empty;
    }
--- config
--- must_die
--- error_log
empty



=== TEST 16: a file with more than a password
--- user_files
>>> long
sesame
sesame again
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis password_file=../html/long;
    }
--- config
--- must_die
--- error_log
password_file
--- no_error_log
sesame



=== TEST 17: TLS without something to verify by
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis ssl=on password=sesame;
    }
--- config
--- must_die
--- error_log
ssl_trusted_certificate
--- no_error_log
sesame



=== TEST 18: a password that is empty
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis password=;
    }
--- config
--- must_die
--- error_log
password



=== TEST 19: a parameter that there is not shows no password
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_REDIS_PORT;
        checkups_check redis password=sesame pass=x;
    }
--- config
--- must_die
--- error_log
pass=
--- no_error_log
sesame
