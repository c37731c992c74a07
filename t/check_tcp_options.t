# vi:set ft= ts=4 sw=4 et fdm=marker:

# What checks send and expect over a bare connection, where they connect from,
# the PROXY header, and how their connections end. "--- backend" and "--- answers"
# are explained in t/lib/NginxBackend.pm, "--- verdicts" in t/lib/Verdicts.pm.

use strict;
use warnings;

use Errno ();
use FindBin;
use lib "$FindBin::Bin/lib";
use NginxChecks;
use NginxRunner ();
use Socket ();
use Verdicts;
use Test::Nginx::Socket;

# Of the sockets of the connections to a server, on both sides, those in TIME_WAIT: "server" or
# "checker", whose it is.
sub waiting {
    my $name = shift;
    my $port = $ENV{"TEST_NGINX_PORT_\U$name"};
    my %of_check = map { $_->{port} => 1 } backend->connections($name);
    my @found;
    for my $table (map { NginxRunner::slurp("/proc/net/$_") } 'tcp', 'tcp6') {
        while ($table =~ /^ *\d+: \w+:(\w+) \w+:(\w+) 06 /mg) {
            my ($local, $remote) = (hex $1, hex $2);
            push @found, 'server'  if $local == $port && $of_check{$remote};
            push @found, 'checker' if $remote == $port && $of_check{$local};
        }
    }
    return @found;
}

# Whether the system refuses by itself to connect from one address to another.
sub has_no_way {
    my ($from, $to) = map { Socket::inet_aton($_) } @_;
    socket my $socket, Socket::AF_INET, Socket::SOCK_STREAM, 0 or die "socket: $!";
    $socket->blocking(0);
    bind $socket, Socket::pack_sockaddr_in(0, $from) or return 0;
    return !connect($socket, Socket::pack_sockaddr_in(1, $to)) && $!{EINVAL};
}

# The first connection to a server that has ended.
sub ended {
    my $name = shift;
    my $connection;
    backend->wait_until(10, sub { ($connection) = grep { defined $_->{end} } backend->connections($name); defined $connection });
    return $connection;
}

# How the connections to a server ended, of which some have.
sub ends {
    my $name = shift;
    ended($name);
    my %ends = map { $_->{end} => 1 } grep { defined $_->{end} } backend->connections($name);
    my @ends = sort keys %ends;
    return @ends;
}

master_on();
no_root_location();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: what is sent
--- answers
hello: hello
--- backend
a talks: hang
b talks: greet:hello
c unix talks: hang
--- verdicts
A: tcp "send=PING a  b\r\n\x00\xFF\\\\ä;{" => ok
B: tcp send=\x41 => ok
--- http_config
    upstream unix { checkups_cluster; server $TEST_NGINX_BACKEND_C; checkups_check tcp interval=50ms send=c; }
--- init
main::verdicts_are($block);
main::states_are(unix => 'ok');
my %wanted = (a => "PING a  b\r\n\x00\xff\\\xc3\xa4;{", b => 'A', c => 'c');
Test::More::is(main::ended($_)->{sent}, $wanted{$_}, "what $_ got") for 'a' .. 'c';
Test::More::is(main::ended($_)->{end}, 'closed', "the connection to $_ was closed") for 'a', 'c';



=== TEST 2: what is expected
--- answers
hello: 220 he | llo\r\n
nul: a\x00\xffb
echo: PONG
--- backend
a talks: greet:hello
b talks: shut:echo
c talks: close
d talks: hang
e talks: say:nul
f: 200
g refuse:
--- verdicts
A: tcp expect=hello => ok
A: tcp "expect=220 " => ok
A: tcp "expect=hello\r\n" => ok
A: tcp expect=HELLO timeout=300ms => err timed out after 300ms
A: tcp expect=~hello timeout=300ms => err timed out after 300ms
B: tcp send=PING expect=PONG => ok
B: tcp send=PING expect=PING => err closed before the expected answer
B: tcp expect=PONG timeout=300ms => err timed out after 300ms
C: tcp send=PING expect=PONG => err ~^(?:closed before the expected answer|connection reset by peer)$
C: tcp expect=PONG => err closed before the expected answer
D: tcp send=PING expect=PONG timeout=300ms => err timed out after 300ms
E: tcp send=x expect=\x00\xFF => ok
F: tcp "send=GET / HTTP/1.0\r\n\r\n" "expect=HTTP/1.1 200 " => ok
G: tcp send=PING expect=PONG => err connection refused



=== TEST 3: the address that a check comes from
A server of another family is connected to without it.
--- skip_eval: 12: main::no_ipv6()
--- backend
a talks: hang
b: 200
c inet6: 200
d unix: 200
e: 200
f inet6: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check tcp interval=20ms bind=127.0.0.2 send=x;
    }
    upstream up_4 {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        server $TEST_NGINX_BACKEND_D;
        checkups_check http interval=20ms bind=127.1.2.3;
    }
    upstream up_6 {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        checkups_check http interval=20ms bind=::1;
    }
--- config
    location /api/ { checkups_api; }
--- init
if (!main::no_ipv6()) {
    main::states_are(up => 'ok');
    main::states_are(up_4 => ('ok') x 3);
    main::states_are(up_6 => ('ok') x 2);
    my %from = (a => '127.0.0.2', b => '127.1.2.3', c => '::1', d => undef, e => '127.0.0.1', f => '::1');
    Test::More::is((main::backend->connections($_))[0]{from}, $from{$_}, "where the check of $_ comes from") for sort keys %from;
    main::log_is();
}
--- request
GET /api/status
--- response_body_like eval
main::states('ok 0')



=== TEST 4: an address that is not of this host is no failure of the server
It is logged once, no check is lost sight of, and no descriptor is lost.
--- backend
a: 200
b: 200
c: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check tcp interval=10ms bind=198.51.100.1;
    }
    upstream up_http {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_B;
        checkups_check http interval=10ms bind=198.51.100.1 keepalive_time=1h;
    }
    upstream up_other {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_C;
        checkups_check http interval=10ms bind=127.0.0.2;
    }
--- config
    location /api/ { checkups_api; }
    location /get { proxy_pass http://up; }
--- init
my ($pid) = main::get('/api/status') =~ /"pid":(\d+)/;
main::checked(c => 5);
my $descriptors = sub { scalar grep { (readlink // '') =~ /socket/ } glob "/proc/$pid/fd/*" };
my $before = $descriptors->();
main::checked(c => 50);
Test::More::cmp_ok($descriptors->(), '<', $before + 5, 'no descriptor is lost');
Test::More::is(main::get('/get'), 'a', 'the server is used');
Test::More::is(main::backend->seen('b')->{accepted}, 0, 'nobody connects from elsewhere');
main::log_is('[warn] the address of bind= is not to be had in this worker: checks cannot be made and give no verdict');
--- request
GET /api/status
--- response_body_like eval
qr/(?=.*"up:[^}]*"status":"unchecked","weight")(?=.*"up_http:[^}]*"status":"unchecked","weight")(?=.*"up_other:[^}]*"status":"ok")/



=== TEST 5: the PROXY header to nginx, by TCP and HTTP
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1 proxy_protocol;
        location / { return 200 "$proxy_protocol_addr $proxy_protocol_server_addr $proxy_protocol_server_port"; }
        location = /same { if ($proxy_protocol_port = $remote_port) { return 200; } return 404; }
    }
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        location / { return 200; }
    }
    checkups_match here { body ~ "^127.0.0.1 127.0.0.1 $TEST_NGINX_RAND_PORT_1$"; }
    checkups_match bound { body ~ "^127.0.0.2 127.0.0.1 $TEST_NGINX_RAND_PORT_1$"; }
--- verdicts
1: http proxy_protocol=on match=here => ok
1: http proxy_protocol=on match=bound bind=127.0.0.2 => ok
2: http proxy_protocol=on match=bound bind=127.0.0.2 port=$TEST_NGINX_RAND_PORT_1 => ok
1: http proxy_protocol=on uri=/same => ok
1: http proxy_protocol=on uri=/same keepalive_time=1h => ok
1: http => err closed before the response was complete
1: http proxy_protocol=off => err closed before the response was complete
2: http => ok
2: http proxy_protocol=on => err status 400
1: tcp proxy_protocol=on => ok
1: tcp proxy_protocol=on "send=GET / HTTP/1.0\r\n\r\n" "expect=127.0.0.1 127.0.0.1" => ok
1: tcp "send=GET / HTTP/1.0\r\n\r\n" "expect=127.0.0.1 127.0.0.1" => err closed before the expected answer



=== TEST 6: the bytes of the PROXY header, which come before anything else
--- skip_eval: 14: main::no_ipv6()
--- answers
ok: ok
--- backend
a talks: say:ok
b inet6 talks: say:ok
c unix talks: say:ok
d talks: hang
e inet6 talks: hang
f: 200
g inet6: 200
h unix: 200
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        server $TEST_NGINX_BACKEND_B;
        server $TEST_NGINX_BACKEND_C;
        checkups_check tcp interval=50ms proxy_protocol=on send=x expect=ok;
    }
    upstream up_only {
        checkups_cluster;
        server 127.0.0.1:1;
        server [::1]:1;
        checkups_check tcp interval=50ms proxy_protocol=on port=$TEST_NGINX_PORT_D;
        checkups_server [::1]:1 check_port=$TEST_NGINX_PORT_E;
    }
    upstream up_http {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_F;
        server $TEST_NGINX_BACKEND_G;
        server $TEST_NGINX_BACKEND_H;
        checkups_check http interval=50ms proxy_protocol=on;
    }
--- config
    location /api/ { checkups_api; }
--- init
if (!main::no_ipv6()) {
    main::states_are(up => ('ok') x 3);
    main::states_are(up_only => ('ok') x 2);
    main::states_are(up_http => ('ok') x 3);
    my $get = "GET / HTTP/1.1\r\nHost: up_http\r\n";
    my %sent = (
        a => ['TCP4 127.0.0.1 127.0.0.1', 'x'], b => ['TCP6 ::1 ::1', 'x'], c => [undef, 'x'],
        d => ['TCP4 127.0.0.1 127.0.0.1', ''], e => ['TCP6 ::1 ::1', ''],
        f => ['TCP4 127.0.0.1 127.0.0.1', $get], g => ['TCP6 ::1 ::1', $get], h => [undef, $get],
    );
    for my $name (sort keys %sent) {
        my ($start, $rest) = @{ $sent{$name} };
        my $connection = main::ended($name);
        my $ports = $connection->{port} ? "$connection->{port} " . $ENV{"TEST_NGINX_PORT_\U$name"} : '';
        my $wanted = 'PROXY ' . (defined $start ? "$start $ports" : 'UNKNOWN') . "\r\n$rest";
        Test::More::is(substr($connection->{sent}, 0, length $wanted), $wanted, "what $name got");
    }
    main::log_is();
}
--- request
GET /api/status
--- response_body_like eval
main::states(('ok 0') x 3)



=== TEST 7: connections end by a reset, and leave nothing behind
Also where the server closes them first, or fails.
--- answers
hello: hello
bye: bye
--- backend
a talks: hang
b talks: greet:hello
c talks: shut:bye
d: 200
e: keep:200
f: 503
g inet6 talks: hang
h: garbage
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check tcp interval=10ms;
    }
    upstream up_b {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=10ms expect=hello;
    }
    upstream up_c {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_C;
        checkups_check tcp interval=10ms send=x expect=bye;
    }
    upstream up_d {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_D;
        server $TEST_NGINX_BACKEND_E;
        server $TEST_NGINX_BACKEND_F;
        server $TEST_NGINX_BACKEND_H;
        checkups_check http interval=10ms;
    }
    upstream up_g {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_G;
        checkups_check tcp interval=10ms proxy_protocol=on;
    }
    upstream up_h {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check tcp interval=10ms send=x expect=y timeout=50ms;
    }
--- config
    location /api/ { checkups_api; }
--- init
my @names = ('a' .. 'f', 'h', main::no_ipv6() ? () : 'g');
main::connected(map { $_ => 50 } @names);
for my $name (@names) {
    Test::More::is("@{[main::waiting($name)]}", '', "$name: no TIME_WAIT on either side");
}
for my $name (grep { /[abegh]/ } @names) {
    Test::More::is("@{[main::ends($name)]}", 'reset', "the connections to $name are reset");
}
--- request
GET /api/status
--- response_body_like eval
qr/"up:[^"]+","status":"ok"/



=== TEST 8: but where something was sent and no answer is awaited they are closed
A reset could overtake what was sent.
--- backend
a talks: hang
b talks: hang
--- http_config
    upstream up {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check tcp interval=10ms send=x;
    }
    upstream up_proxy {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_B;
        checkups_check tcp interval=10ms proxy_protocol=on send=x;
    }
--- config
    location /api/ { checkups_api; }
--- init
main::connected(a => 20, b => 20);
for my $name ('a', 'b') {
    Test::More::is("@{[main::ends($name)]}", 'closed', "the connections to $name are closed");
    my @waiting;
    main::backend->wait_until(10, sub { (@waiting = main::waiting($name)) > 10 });
    Test::More::cmp_ok(scalar @waiting, '>', 10, 'each waits');
    Test::More::is(scalar(grep { $_ eq 'server' } @waiting), 0, 'on our side, not on that of the server');
}
--- request
GET /api/status
--- response_body_like eval
qr/"up:[^"]+","status":"ok"/



=== TEST 9: an address from which there is no way to the server is no failure of it
--- skip_eval: 3: !main::has_no_way('127.0.0.2', '198.51.100.1')
--- backend
a: 200
--- http_config
    upstream up {
        checkups_cluster;
        server 198.51.100.1:1;
        checkups_check tcp interval=10ms bind=127.0.0.2;
    }
    upstream up_other {
        checkups_cluster;
        server $TEST_NGINX_BACKEND_A;
        checkups_check http interval=10ms bind=127.0.0.2;
    }
--- config
    location /api/ { checkups_api; }
--- init
if (main::has_no_way('127.0.0.2', '198.51.100.1')) {
    main::checked(a => 20);
    main::log_is('[warn] there is no way from the address of bind= in this worker: checks cannot be made and give no verdict');
}
--- request
GET /api/status
--- response_body_like eval
qr/(?=.*"up:[^}]*"status":"unchecked","weight")(?=.*"up_other:[^}]*"status":"ok")/
