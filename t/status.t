# What `status` shows: its shape and its values.

BEGIN { $ENV{TZ} = 'TST-5:45' }     # not UTC: the times are local ones

use Test::Nginx::Socket 'no_plan';

use IO::Socket::INET ();
use POSIX ();
use Time::HiRes ();
use Time::Local ();

POSIX::tzset();
$ENV{TEST_NGINX_HTML_DIR} ||= html_dir();

# A server that takes connections and never says a word.
our $silent = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 511)
    or die "cannot listen: $!";
$ENV{TEST_NGINX_SILENT_PORT} = $silent->sockport;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => 'location /api/ { checkups_api; }') unless defined $block->config;
    $block->set_value(request => 'GET /api/status') unless defined $block->request;
});

# And one for a single request, which can be seen to wait there.
our $slow = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 5)
    or die "cannot listen: $!";
$ENV{TEST_NGINX_SLOW_PORT} = $slow->sockport;

# Three live workers that run this configuration, and any of older ones that are about to end.
sub live_workers {
    my $version = shift;
    my $worker = sub { qq(\\{"worker":$_[0],"pid":[0-9]+,"status":"alive","config_version":$_[1]\\}) };
    return '\[' . join(',', map { $worker->($_, $version) } 0 .. 2) . '(?:,' . $worker->('[0-2]', '[0-9]+') . ')*\]';
}

# An exact body, in which only TIME, PORT and NUMBER stand for what cannot be known, and WORKERS_n
# for the workers. Its lines are written as one.
sub body {
    my $text = join '', map { s/^\s+//r } split /\n/, shift;
    my %known = (
        TIME   => '"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}"',
        PORT   => '[0-9]{1,5}',
        NUMBER => '[0-9]+',
    );
    $text = quotemeta $text;
    $text =~ s/(TIME|PORT|NUMBER)/$known{$1}/g;
    $text =~ s/WORKERS_(\d)/live_workers($1)/ge;
    return qr/\A$text\z/;
}

# What comes behind the clusters where checks have been made.
our $tail = '"last_check_time":TIME,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,'
    . '"shd_config_version":0,"config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},'
    . '"workers":WORKERS_0,'
    . '"zone":{"name":"checkups","size":4194304,"free":NUMBER}}';

# The body of a response of the server under test.
sub get {
    my $path = shift;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port_for_client(), Timeout => 3)
        or return "cannot connect: $!";
    print $socket "GET $path HTTP/1.0\r\n\r\n";
    my $response = do { local $/; <$socket> } // '';
    $response =~ s/\A.*?\r\n\r\n//s;
    return $response;
}

# Polls until the condition holds, which is a pattern for the status or a sub.
sub wait_for {
    my ($what, $condition) = @_;
    my $body = '';
    for (1 .. 500) {
        $body = get('/api/status');
        return $body if ref $condition eq 'CODE' ? $condition->($body) : $body =~ $condition;
        Time::HiRes::sleep(0.01);
    }
    Test::More::fail("waits for $what");
    Test::More::diag("the last status: $body");
    return $body;
}

# The workers write their signs of life one after the other when they start.
sub wait_for_workers {
    return wait_for('three live workers', qr/"checkup_timer_alive":true.*"worker-0":"alive","worker-1":"alive","worker-2":"alive"/);
}

# The time of a field, in seconds since 1970.
sub seconds {
    my ($body, $field) = @_;
    my ($y, $mon, $d, $h, $min, $s) = $body =~ /"$field":"(\d+)-(\d+)-(\d+) (\d+):(\d+):(\d+)"/ or return 0;
    return Time::Local::timelocal($s, $min, $h, $d, $mon - 1, $y);
}

sub write_file {
    my ($name, $text) = @_;
    open my $out, '>', html_dir() . "/$name" or die "$name: $!";
    print $out $text // '';
    close $out or die "$name: $!";
}

sub error_log_has {
    my $text = shift;
    open my $in, '<', server_root() . '/logs/error.log' or return 0;
    return scalar grep { index($_, $text) >= 0 } <$in>;
}

# Writes the file of this name again and tells the master to reload.
sub reload_with {
    my ($name, $text) = @_;
    write_file($name, $text);
    open my $in, '<', server_root() . '/logs/nginx.pid' or die "no pid file: $!";
    kill HUP => <$in> =~ /(\d+)/;
}

master_on();
workers(3);
no_long_string();
run_tests();

__DATA__

=== TEST 1: neither clusters nor a zone
--- response_headers
Content-Type: application/json
--- response_body chomp
{"last_check_time":null,"checkup_timer_alive":false,"start_time":null,"conf_hash":null,"shd_config_version":0,"config_timer":{},"workers":[],"zone":null}



=== TEST 2: a zone without clusters: the workers and the checker are alive all the same
--- http_config
checkups_zone a:1m;
--- init
main::wait_for_workers();
--- response_body_like eval
main::body(<<'END')
{
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":0,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_0,
    "zone":{"name":"a","size":1048576,"free":NUMBER}
}
END



=== TEST 3: a cluster without checks, in one level
What is not written is there too: 1, 1 and 10.
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:1;
    server 127.0.0.2:1 weight=5;
    server 127.0.0.3:1 max_fails=0 fail_timeout=0;
    server 127.0.0.4:1 max_fails=3 fail_timeout=1m30s max_conns=7;
    server 127.0.0.5:1 down;
}
--- init
main::wait_for_workers();
--- response_body_like eval
main::body(<<'END')
{
    "cls:up":[[
        {"server":"up:127.0.0.1:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:1","status":"unchecked","weight":5,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.3:1","status":"unchecked","weight":1,"max_fails":0,"fail_timeout":0},
        {"server":"up:127.0.0.4:1","status":"unchecked","weight":1,"max_fails":3,"fail_timeout":90},
        {"server":"up:127.0.0.5:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":0,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_0,
    "zone":{"name":"checkups","size":4194304,"free":NUMBER}
}
END



=== TEST 4: two levels, a name of its own, and an address that comes more than once
--- http_config
upstream up {
    server 127.0.0.1:1 backup weight=2;
    server 127.0.0.1:1 weight=3;
    checkups_cluster other.name:8;
    checkups_check off;
    server 127.0.0.1:1 weight=4;
    server 127.0.0.2:1 backup;
}
--- init
main::wait_for_workers();
--- response_body_like eval
main::body(<<'END')
{
    "cls:other.name:8":[[
        {"server":"other.name:8:127.0.0.1:1","status":"unchecked","weight":3,"max_fails":1,"fail_timeout":10},
        {"server":"other.name:8:127.0.0.1:1","status":"unchecked","weight":4,"max_fails":1,"fail_timeout":10}
    ],[
        {"server":"other.name:8:127.0.0.1:1","status":"unchecked","weight":2,"max_fails":1,"fail_timeout":10},
        {"server":"other.name:8:127.0.0.2:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":0,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_0,
    "zone":{"name":"checkups","size":4194304,"free":NUMBER}
}
END



=== TEST 5: IPv6 and unix sockets
--- http_config
upstream up {
    checkups_cluster;
    server [::1]:1 down;
    server unix:/nowhere/a.sock down;
}
--- init
main::wait_for_workers();
--- response_body_like eval
main::body(<<'END')
{
    "cls:up":[[
        {"server":"up:[::1]:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:unix:/nowhere/a.sock","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":0,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_0,
    "zone":{"name":"checkups","size":4194304,"free":NUMBER}
}
END



=== TEST 6: clusters in the order of their names
--- http_config
upstream zeta  { checkups_cluster; server 127.0.0.1:1; }
upstream stock { server 127.0.0.1:1; }
upstream alpha { checkups_cluster; server 127.0.0.1:1; }
upstream mu    { checkups_cluster; server 127.0.0.1:1; }
--- response_body_like chomp
^\{"cls:alpha":\[\[.*\]\],"cls:mu":\[\[.*\]\],"cls:zeta":\[\[.*\]\],"last_check_time":



=== TEST 7: ok, err and unchecked, with what the failed checks said
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 max_fails=3 fail_timeout=30s;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.3:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1 down;
    server 127.0.0.4:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    server unix:$TEST_NGINX_SERVER_ROOT/none.sock;
    server 127.0.0.5:$TEST_NGINX_RAND_PORT_1 backup;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1 backup weight=2;
    checkups_check http interval=30ms timeout=50ms;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200; } }
server { listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1; location / { return 503; } }
server { listen 127.0.0.4:$TEST_NGINX_RAND_PORT_1; location / { return 444; } }
server { listen 127.0.0.5:$TEST_NGINX_RAND_PORT_1; location / { return 302 /x; } }
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 6 == (() = $_[0] =~ /"err"/g) && 2 == (() = $_[0] =~ /"ok"/g) });
--- response_body_like eval
my $server_root = main::server_root();
main::body(<<"END" . $main::tail);
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":5,"max_fails":3,"fail_timeout":30},
        {"server":"up:127.0.0.2:PORT","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"status 503","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.3:PORT","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.4:PORT","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"closed before the response was complete","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.1:PORT","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"timed out after 50ms","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:unix:$server_root/none.sock","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"no such file or directory","weight":1,"max_fails":1,"fail_timeout":10}
    ],[
        {"server":"up:127.0.0.5:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"status 503","weight":2,"max_fails":1,"fail_timeout":10}
    ]],
END



=== TEST 8: every server fails: all are unstable, in both levels; a down one is not checked
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.3:$TEST_NGINX_RAND_PORT_1 down;
    server 127.0.0.4:$TEST_NGINX_RAND_PORT_1 backup;
    checkups_check tcp interval=30ms;
}
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 3 == (() = $_[0] =~ /"unstable"/g) });
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"unstable","fail_num":NUMBER,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"unstable","fail_num":NUMBER,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.3:PORT","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ],[
        {"server":"up:127.0.0.4:PORT","status":"unstable","fail_num":NUMBER,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- error_log
cluster "up": every server has failed its checks, all stay in use as unstable



=== TEST 9: fails=2: after one failed check a server is still ok, and shows the failure
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    checkups_check http interval=1h fails=2;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 500; } }
server { listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1; location / { return 200; } }
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 2 == (() = $_[0] =~ /"ok"/g) });
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"ok","fail_num":1,"lastmodified":TIME,"msg":"status 500","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- no_error_log
from ok to err
[error]



=== TEST 10: one address in several places: one check in a cluster, and one for each cluster
--- http_config
upstream a {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=3;
    checkups_check tcp interval=1h port=$TEST_NGINX_RAND_PORT_2;
}
upstream b {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    checkups_check http interval=1h;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 404; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; location / { return 200; } }
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 3 == (() = $_[0] =~ /"ok"/g) && 1 == (() = $_[0] =~ /"err"/g) });
--- response_body_like eval
my $a = quotemeta '"cls:a":[[{"server":"a:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":2,"max_fails":1,"fail_timeout":10},'
    . '{"server":"a:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":3,"max_fails":1,"fail_timeout":10}]]';
my $b = quotemeta '"cls:b":[[{"server":"b:127.0.0.1:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"status 404","weight":1,"max_fails":1,"fail_timeout":10},'
    . '{"server":"b:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10}]]';
s/PORT/\\d+/g, s/TIME/"[-0-9]{10} [0-9:]{8}"/g for $a, $b;
qr/^\{$a,$b,"last_check_time":"/;



=== TEST 11: a server fails and comes back: status, message, counter and log
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    checkups_check http interval=20ms fails=2 passes=2 uri=/health host=a.b;
}
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    server_name a.b;
    location / { return 500; }
    location = /health {
        if (-f $TEST_NGINX_HTML_DIR/down-$server_addr) { return 503; }
        return 200;
    }
}
--- init
main::wait_for_workers();
my $both = qr/"status":"ok","fail_num":0,.*"status":"ok","fail_num":0,/;
my $body = main::wait_for('both to be ok', $both);
Test::More::unlike($body, qr/"msg":"/, 'no messages where all is well');
main::write_file('down-127.0.0.1');
main::wait_for('one to fail', qr/"127.0.0.1:\d+","status":"err","fail_num":\d+,"lastmodified":"[^"]+","msg":"status 503",.*"status":"ok","fail_num":0,/
    =~ s/"127/"up:127/r);
main::write_file('down-127.0.0.2');
main::wait_for('both to be unstable', qr/"status":"unstable",.*"status":"unstable",/);
unlink main::html_dir() . '/down-127.0.0.2';
main::wait_for('one to work', qr/"status":"err",.*"status":"ok","fail_num":0,/);
unlink main::html_dir() . '/down-127.0.0.1';
main::wait_for('both to be ok again', $both);
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- grep_error_log eval
qr/\[notice\] \d+#\d+: checkups: cluster "up".*/
--- grep_error_log_out eval
my $notice = '\[notice\] \d+#\d+: checkups: cluster "up"';
my ($one, $two) = map { "$notice, server \"127\\.0\\.0\\.$_:\\d+\": from" } 1, 2;
qr/^$one ok to err: status 503
$two ok to unstable: status 503
$notice: every server has failed its checks, all stay in use as unstable
$two unstable to ok: check passed
$notice: a server works again, those that fail their checks are out of use
$one err to ok: check passed
$/



=== TEST 12: the times: local ones; that of a state stays while the checks go on
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    checkups_check http interval=50ms;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200; } }
--- init
my $first = main::wait_for('all checks', qr/"status":"ok".*"status":"err"/);
my $now = time;
for my $field (qw(start_time last_check_time lastmodified)) {
    my $seconds = main::seconds($first, $field);
    Test::More::cmp_ok(abs($now - $seconds), '<=', 2, "$field is now, in local time");
}
my $later = main::wait_for('a later check', sub { main::seconds($_[0], 'last_check_time') > main::seconds($first, 'last_check_time') });
for my $body ($first, $later) { $body =~ s/"fail_num":\d+/"fail_num":NUMBER/g }
my ($before, $after) = map { s/"last_check_time":"[^"]*"/"last_check_time":TIME/r } $first, $later;
s/"config_timer":.*// for $before, $after;
Test::More::is($after, $before, 'nothing but last_check_time and fail_num changes with time');
--- response_body_like chomp
"cls:up"



=== TEST 13: a reload counts as a change of the configuration
--- http_config
include ../html/clusters.conf;
--- user_files
>>> clusters.conf
upstream a { checkups_cluster; server 127.0.0.1:1; }
--- init
my $before = main::wait_for_workers();
main::reload_with('clusters.conf', <<'END');
upstream a { checkups_cluster; server 127.0.0.1:1; server 127.0.0.2:1 weight=2; }
upstream b { checkups_cluster; server 127.0.0.1:1; }
END
my $after = main::wait_for('the reload', qr/"cls:b":.*"shd_config_version":1,.*"worker-0":"alive","worker-1":"alive","worker-2":"alive"/);
Test::More::is(main::seconds($after, 'start_time'), main::seconds($before, 'start_time'), 'start_time stays');
--- response_body_like chomp
"cls:a":\[\[\{"server":"a:127.0.0.1:1",[^]]*"server":"a:127.0.0.2:1","status":"unchecked","weight":2,[^]]*\]\],.*"shd_config_version":1,"config_timer":\{"worker-0":"alive","worker-1":"alive","worker-2":"alive"\},"workers":\[(?:\{"worker":[0-2],"pid":[0-9]+,"status":"alive","config_version":1\},?){3}



=== TEST 14: a reload that fails changes nothing
--- http_config
checkups_zone a:256k;
include ../html/clusters.conf;
--- user_files
>>> clusters.conf
upstream a { checkups_cluster; server 127.0.0.1:1; }
--- init
my $before = main::wait_for_workers();
main::reload_with('clusters.conf', "upstream a { checkups_cluster; server 127.0.0.1:2; }\n"
    . "upstream b { checkups_cluster; server 127.0.0.1:1; }\n"
    . "upstream c { checkups_cluster; " . join('', map { "server 127.0.0.1:$_;\n" } 1 .. 2000) . "}\n");
main::wait_for('the refusal', sub { main::error_log_has('the zone is full while storing cluster "c" with its 2000 servers') });
Test::More::is(main::get('/api/status'), $before, 'the status is that from before, to the last free page');
--- response_body_like eval
main::body(<<'END')
{
    "cls:a":[[{"server":"a:127.0.0.1:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}]],
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":0,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_0,
    "zone":{"name":"a","size":262144,"free":NUMBER}
}
END



=== TEST 15: a cluster that a reload removed stays until the last worker is gone that knows it
--- http_config
include ../html/clusters.conf;
--- user_files
>>> clusters.conf
upstream a { checkups_cluster; server 127.0.0.1:1; }
upstream b { checkups_cluster; server 127.0.0.1:1; }
--- config
location /api/ { checkups_api; }
location /slow { proxy_pass http://127.0.0.1:$TEST_NGINX_SLOW_PORT; }
--- init
main::wait_for_workers();
my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port_for_client()) or die $!;
print $client "GET /slow HTTP/1.0\r\n\r\n";
$client->flush;
$main::slow->timeout(5);
my $backend = $main::slow->accept or die "the request does not arrive: $!";
1 while (<$backend> // "\r\n") ne "\r\n";
main::reload_with('clusters.conf', "upstream b { checkups_cluster; server 127.0.0.1:2; }\n");
my $body = main::wait_for('the reload', qr/"b:127.0.0.1:2".*"shd_config_version":1,.*"worker-0":"alive","worker-1":"alive","worker-2":"alive"/);
Test::More::like($body, main::body(<<'END'), 'the old cluster is there while a worker serves a request by it');
{
    "cls:a":[[{"server":"a:127.0.0.1:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}]],
    "cls:b":[[{"server":"b:127.0.0.1:2","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}]],
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":1,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_1,
    "zone":{"name":"checkups","size":4194304,"free":NUMBER}
}
END
print $backend "HTTP/1.0 200 OK\r\n\r\nlate";
close $backend;
my $response = do { local $/; <$client> };
Test::More::like($response, qr/late\z/, 'the request by the old configuration is answered');
main::wait_for('the end of the old cluster', qr/^\{"cls:b"/);
--- response_body_like chomp
"cls:b":\[\[\{"server":"b:127.0.0.1:2",



=== TEST 16: before its first check has ended a server is unchecked
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_SILENT_PORT;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    checkups_check http timeout=1h;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200; } }
--- init
main::wait_for_workers();
main::wait_for('one check', qr/"ok"/);
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- no_shutdown_error_log
[alert]


=== TEST 17: named levels are an object, in the order of the file
--- http_config
upstream up {
    checkups_cluster;
    checkups_level zeta {
        server 127.0.0.1:1 weight=2;
        server 127.0.0.2:1;
    }
    checkups_level alpha { server 127.0.0.1:1 max_fails=0; server unix:/nowhere/a.sock down; }
    checkups_level_from mu other only=backup;
    checkups_level_from 9.9 other;
}
upstream other {
    server 127.0.0.3:1;
    server 127.0.0.4:1 backup weight=3 max_fails=3 fail_timeout=1m;
}
--- init
main::wait_for_workers();
--- response_body_like eval
my $tail = $main::tail =~ s/"last_check_time":TIME/"last_check_time":null/r;
main::body(<<'END' . $tail)
{
    "cls:up":{"zeta":[
        {"server":"up:127.0.0.1:1","status":"unchecked","weight":2,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ],"alpha":[
        {"server":"up:127.0.0.1:1","status":"unchecked","weight":1,"max_fails":0,"fail_timeout":10},
        {"server":"up:unix:/nowhere/a.sock","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ],"mu":[
        {"server":"up:127.0.0.4:1","status":"unchecked","weight":3,"max_fails":3,"fail_timeout":60}
    ],"9.9":[
        {"server":"up:127.0.0.3:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.4:1","status":"unchecked","weight":3,"max_fails":3,"fail_timeout":60}
    ]},
END



=== TEST 18: one named level is an object, too, beside a cluster whose levels have no names
--- http_config
upstream named { checkups_cluster; checkups_level a { server 127.0.0.1:1; } }
upstream plain { checkups_cluster; server 127.0.0.1:1; server 127.0.0.2:1 backup; }
--- response_body_like chomp
^\{"cls:named":\{"a":\[\{"server":"named:127\.0\.0\.1:1",[^{}]*\}\]\},"cls:plain":\[\[\{"server":"plain:127\.0\.0\.1:1",[^{}]*\}\],\[\{"server":"plain:127\.0\.0\.2:1",[^{}]*\}\]\],"last_check_time":



=== TEST 19: named levels: one address has one check, and all levels count together
--- http_config
upstream up {
    checkups_cluster;
    checkups_level a { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.2:$TEST_NGINX_RAND_PORT_1; }
    checkups_level b { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2; server 127.0.0.2:$TEST_NGINX_RAND_PORT_1 down; }
    checkups_check http interval=1h;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 503; } }
server { listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1; location / { return 404; } }
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 3 == (() = $_[0] =~ /"unstable"/g) });
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":{"a":[
        {"server":"up:127.0.0.1:PORT","status":"unstable","fail_num":1,"lastmodified":TIME,"msg":"status 503","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"unstable","fail_num":1,"lastmodified":TIME,"msg":"status 404","weight":1,"max_fails":1,"fail_timeout":10}
    ],"b":[
        {"server":"up:127.0.0.1:PORT","status":"unstable","fail_num":1,"lastmodified":TIME,"msg":"status 503","weight":2,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ]},
END



=== TEST 20: drain: checked, but no server in use
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.3:$TEST_NGINX_RAND_PORT_1;
    checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 drain;
    checkups_server 127.0.0.2:$TEST_NGINX_RAND_PORT_1 drain;
    checkups_check http interval=1h;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200; } }
server { listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1; listen 127.0.0.3:$TEST_NGINX_RAND_PORT_1; location / { return 503; } }
--- init
main::wait_for_workers();
main::wait_for('all checks', qr/"ok".*"err".*"unstable"/);
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"status 503","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.3:PORT","status":"unstable","fail_num":1,"lastmodified":TIME,"msg":"status 503","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- error_log
cluster "up": every server has failed its checks, all stay in use as unstable



=== TEST 21: protected=one: one is unstable, the others are err
All have failed one check and passed none: it is the first that is in use.
--- http_config
upstream up {
    checkups_cluster protected=one;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.3:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.4:$TEST_NGINX_RAND_PORT_1 weight=9;
    server 127.0.0.3:$TEST_NGINX_RAND_PORT_1 backup;
    server 127.0.0.5:$TEST_NGINX_RAND_PORT_1 backup;
    checkups_server 127.0.0.2:$TEST_NGINX_RAND_PORT_1 drain;
    checkups_check tcp interval=1h;
}
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 5 == (() = $_[0] =~ /"connection refused"/g) });
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.3:PORT","status":"unstable","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.4:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":9,"max_fails":1,"fail_timeout":10}
    ],[
        {"server":"up:127.0.0.3:PORT","status":"unstable","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.5:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- grep_error_log eval
qr/\[notice\] \d+#\d+: checkups: cluster "up": .*/
--- grep_error_log_out eval
qr/\A\[notice\] \d+#\d+: checkups: cluster "up": every server has failed its checks, server "127\.0\.0\.3:\d+" stays in use as unstable\n\z/



=== TEST 22: protected=one in named levels, and the way back
--- http_config
upstream up {
    checkups_cluster protected=one;
    checkups_level a { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    checkups_level b { server 127.0.0.2:$TEST_NGINX_RAND_PORT_1; }
    checkups_check http uri=/health interval=20ms;
}
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    listen 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    location = /health {
        if (-f $TEST_NGINX_HTML_DIR/down-$server_addr) { return 503; }
        return 200;
    }
}
--- init
main::wait_for_workers();
my $states = sub { my $levels = join ',.*', map { s/(.*)=(.*)/"$1":\\[\\{"server":"[^"]*","status":"$2"/r } @_; qr/$levels/ };
main::wait_for('both to be ok', $states->('a=ok', 'b=ok'));
main::write_file('down-127.0.0.1');
main::wait_for('a to fail some checks, while b passes some', qr/"a":[^]]*"status":"err","fail_num":\d\d,.*"b":[^]]*"status":"ok"/);
main::write_file('down-127.0.0.2');
main::wait_for('b to fail, and to be kept: it passed a check more recently', $states->('a=err', 'b=unstable'));
unlink main::html_dir() . '/down-127.0.0.1';
main::wait_for('a to come back', $states->('a=ok', 'b=err'));
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":{"a":[
        {"server":"up:127.0.0.1:PORT","status":"ok","fail_num":0,"lastmodified":TIME,"msg":null,"weight":1,"max_fails":1,"fail_timeout":10}
    ],"b":[
        {"server":"up:127.0.0.2:PORT","status":"err","fail_num":NUMBER,"lastmodified":TIME,"msg":"status 503","weight":1,"max_fails":1,"fail_timeout":10}
    ]},
END



=== TEST 23: protected=off: all are err
--- http_config
upstream up {
    checkups_cluster protected=off;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.2:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.3:$TEST_NGINX_RAND_PORT_1 backup;
    checkups_check tcp interval=1h;
}
--- init
main::wait_for_workers();
main::wait_for('all checks', sub { 3 == (() = $_[0] =~ /"err"/g) });
--- response_body_like eval
main::body(<<'END' . $main::tail)
{
    "cls:up":[[
        {"server":"up:127.0.0.1:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"up:127.0.0.2:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10}
    ],[
        {"server":"up:127.0.0.3:PORT","status":"err","fail_num":1,"lastmodified":TIME,"msg":"connection refused","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
END
--- grep_error_log eval
qr/\[notice\] \d+#\d+: checkups: cluster "up": .*/
--- grep_error_log_out eval
qr/\A\[notice\] \d+#\d+: checkups: cluster "up": every server has failed its checks, none is used\n\z/



=== TEST 24: workers of two earlier configurations finish their requests
They are shown as long as they live, but are not in config_timer.
--- http_config
include ../html/clusters.conf;
--- user_files
>>> clusters.conf
upstream a { checkups_cluster; server 127.0.0.1:1; }
--- config
location /api/ { checkups_api; }
location /slow { proxy_pass http://127.0.0.1:$TEST_NGINX_SLOW_PORT; }
--- init
main::wait_for_workers();
my @waiting;
for my $version (1, 2) {
    my $client = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port_for_client()) or die $!;
    print $client "GET /slow HTTP/1.0\r\n\r\n";
    $client->flush;
    $main::slow->timeout(5);
    my $backend = $main::slow->accept or die "the request does not arrive: $!";
    1 while (<$backend> // "\r\n") ne "\r\n";
    push @waiting, [$client, $backend];
    main::reload_with('clusters.conf', "upstream a { checkups_cluster; server 127.0.0.1:1; server 127.0.0.2:$version; }\n");
    my $body = main::wait_for("reload $version", qr/"a:127.0.0.2:$version".*"worker-0":"alive","worker-1":"alive","worker-2":"alive"/);
    Test::More::like($body, main::body(<<"END"), "reload $version, while old workers are there");
{
    "cls:a":[[
        {"server":"a:127.0.0.1:1","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10},
        {"server":"a:127.0.0.2:$version","status":"unchecked","weight":1,"max_fails":1,"fail_timeout":10}
    ]],
    "last_check_time":null,"checkup_timer_alive":true,"start_time":TIME,"conf_hash":null,"shd_config_version":$version,
    "config_timer":{"worker-0":"alive","worker-1":"alive","worker-2":"alive"},
    "workers":WORKERS_${version},
    "zone":{"name":"checkups","size":4194304,"free":NUMBER}
}
END
    my $workers = join ',', map { qq(\\{"worker":[0-2],"pid":[0-9]+,"status":"alive","config_version":$_\\}) }
        ($version) x 3, reverse 0 .. $version - 1;
    main::wait_for('one worker of each is left', qr/"workers":\[$workers\],/);
}
for my $request (@waiting) {
    my ($client, $backend) = @$request;
    print $backend "HTTP/1.0 200 OK\r\n\r\nlate";
    close $backend;
    my $response = do { local $/; <$client> };
    Test::More::like($response, qr/late\z/, 'a request by an old configuration is answered');
}
--- response_body_like chomp
"shd_config_version":2,"config_timer":\{"worker-0":"alive","worker-1":"alive","worker-2":"alive"\},"workers":\[\{"worker":0,"pid":[0-9]+,"status":"alive","config_version":2\},
