# max_conns: requests at a time, over all workers.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'C') . <<'END' . $block->http_config);
    map $http_upgrade $connection_header { '' ''; default upgrade; }
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_header;
    proxy_set_header Upgrade $http_upgrade;
END
});

# X, Y and Z say their letter, and keep a request that upgrades its connection
# under way until the client says "bye".
for my $letter (qw(X Y Z)) {
    serve($letter => sub {
        my $connection = shift;
        while (my $head = read_head($connection)) {
            if ($head =~ /^Upgrade:/mi) {
                print $connection "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                    . "Upgrade: hold\r\nX-Server: $letter\r\n\r\n";
                read_until($connection, qr/bye/);
                return;
            }
            print $connection "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n$letter";
        }
    });
}

# Begins a request that stays under way; returns the connection, and the server.
sub hold {
    my ($connection, $path) = @_;
    my $answer = $connection->request($path // '/', headers => ['Upgrade: hold'])->answer;
    return ($connection, $answer->{code} eq 101 ? $answer->{headers}{'x-server'} : $answer->{code});
}

# Ends it. nginx is done with it when the connection is closed.
sub let_go {
    return join '', map { $_->say_raw('bye')->at_end ? 'x' : '?' } @_;
}

no_root_location();
workers(2);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: over two workers, the next requests go to the backup, until one has ended
--- http_config
    upstream backup_behind {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=2;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y backup;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://backup_behind; }
    location = /worker { return 200; }
--- init
my @workers = ::workers_of(2, ::port_of(9), '/worker');
my @others = ::workers_of(2, ::port_of(9), '/worker');
my ($first, $its_server) = ::hold($workers[0]);
::is($its_server, 'X', 'the first');
::is(join('', map { $_->request('/')->answer->{body} } @others), 'XX', 'there is room for one');
my ($second, $other_server) = ::hold($workers[1]);
::is($other_server, 'X', 'the second, in the other worker');
::is(join('', map { $_->request('/')->answer->{body} } @others, @others), 'YYYY', 'there is no room');
my ($third, $third_server) = ::hold(::connect_to());
::is($third_server, 'Y', 'the third');
::is(::let_go($second), 'x', 'the second ends');
::is(join('', map { $_->request('/')->answer->{body} } @others, @others), 'XXXX', 'there is room');
::is(::let_go($first, $third), 'xx', 'the others end');
--- request
GET /
--- response_body: X
--- no_error_log
[error]



=== TEST 2: the next server of the level
Who has no room takes no part in the rotation. The current weights after each pick:
  X -2 1 1; then of Y Z: Y -2 0 2; Z -2 0 1 ... of Z: Z -2 0 2, as long as it is alone
  of Y Z again: Z -2 1 1; Y -2 0 2; Z -2 1 1; Y -2 0 2
  of X Y Z: Z -1 1 0; Y 0 -1 1; Z 1 0 -1; X -1 1 0; Y 0 -1 1; Z 1 0 -1; X -1 1 0
--- http_config
    upstream others_beside {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y max_conns=2;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z;
    }
--- config
    location / { proxy_pass http://others_beside; }
--- init
my (@held, $order);
for (1 .. 7) {
    my ($connection, $server) = ::hold(::connect_to());
    push @held, $connection;
    $order .= $server;
}
::is($order, 'XYZ' . 'YZ' . 'ZZ', 'in turns, while there is room');
::is(::answers(4, '/'), 'ZZZZ', 'one has room');
::is(::let_go($held[1], $held[3]), 'xx', 'the requests to Y end');
::is(::answers(4, '/'), 'ZYZY', 'two have room');
::is(::let_go(@held[0, 2, 4, 5, 6]), 'xxxxx', 'the others end');
::is(::answers(6, '/'), 'ZYZXYZ', 'all have room');
--- request
GET /
--- response_body: X
--- no_error_log
[error]



=== TEST 3: where none has room there is no server to try
--- http_config
    upstream alone {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
    }
--- config
    location / { proxy_pass http://alone; }
--- init
my ($held) = ::hold(::connect_to());
::is(::ask('/')->{code}, 502, 'no room');
::is(::let_go($held), 'x', 'it ends');
::is(::ask('/')->{code}, 200, 'room');
--- request
GET /
--- response_body: X
--- error_log
no live upstreams
--- no_error_log
out of use



=== TEST 4: a server without room is no try
--- http_config
    upstream answer_of_last {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    location / { proxy_pass http://answer_of_last; proxy_next_upstream error http_503; }
--- init
my ($held, $server) = ::hold(::connect_to());
::is($server, 'X', 'a request is under way');
my $answer = ::ask('/', do => 'A=503 B=503');
::is("$answer->{tried} $answer->{body}", 'AB 503 from B', "the last one's own answer");
::is(::let_go($held), 'x', 'it ends');
--- request
GET /
--- response_body: A
--- no_error_log
no live upstreams



=== TEST 5: a client that goes away makes room
--- http_config
    upstream client_goes {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y backup;
    }
--- config
    location / { proxy_pass http://client_goes; }
--- init
for my $round (1 .. 3) {
    my ($held, $server) = ::hold(::connect_to());
    ::is("$server " . ::answers(2, '/'), 'X YY', 'one is under way');
    undef $held;
    ::wait_for('the client went away, there is room', sub { ::ask('/')->{body} eq 'X' });
}
--- request
GET /
--- response_body: X
--- no_error_log
[error]



=== TEST 6: failed tries make room
--- http_config
    upstream failures {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_conns=1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_conns=1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location / { proxy_pass http://failures; }
--- init
::is(::routes(4, '/', do => 'A=close'), 'ADB 200, DAB 200, ADB 200, DAB 200', 'both are tried each time');
--- request
GET /
--- response_body: A



=== TEST 7: a kept connection that rests takes no room
--- http_config
    upstream resting {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y backup;
        keepalive 8;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://resting; }
    location = /worker { return 200; }
--- init
my @workers = ::workers_of(2, ::port_of(9), '/worker');
::is(join('', map { $_->request('/')->answer->{body} } (@workers) x 3), 'XXXXXX', 'one after another');
--- request
GET /
--- response_body: X
--- no_error_log
[error]



=== TEST 8: nor does one that turns out to be stale
--- http_config
    upstream stale {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_conns=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        keepalive 8;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://stale; proxy_set_header Connection ""; }
    location = /worker { return 200; }
--- init
my ($worker) = ::workers_of(2, ::port_of(9), '/worker');
::is(join(' ', map { $worker->request('/', do => 'A=stale')->answer->{tried} } 1 .. 4), 'A AA AA AA',
    'the same server again');
--- request
GET /
--- response_body: A
--- no_error_log
out of use



=== TEST 9: a worker that is killed takes its requests along
--- http_config
    upstream killed {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y backup;
    }
--- config
    location / { proxy_pass http://killed; }
    location = /worker { return 200; }
--- init
my $connection = ::connect_to();
my $worker = $connection->request('/worker')->answer->{worker};
my ($held, $server) = ::hold($connection);
::is("$server " . ::answers(2, '/'), 'X YY', 'a request is under way');
kill 'KILL', $worker;
::ok($held->at_end, 'the worker is gone');
::wait_for('there is room', sub { ::ask('/')->{body} eq 'X' });
--- request
GET /
--- response_body: X
--- error_log
exited on signal 9



=== TEST 10: equal addresses in one level have connections of their own, and in several levels share them
--- http_config
    upstream level {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=2;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y backup;
    }
    upstream levels {
        checkups_cluster;
        checkups_level one { server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1; }
        checkups_level two { server 127.0.0.1:$TEST_NGINX_BACKEND_X max_conns=1; }
        checkups_level three { server 127.0.0.1:$TEST_NGINX_BACKEND_Y; }
    }
--- config
    location /level { proxy_pass http://level; }
    location /levels { proxy_pass http://levels; }
--- init
for my $case (['/level', 'XXXY'], ['/levels', 'XYYY']) {
    my ($path, $expected) = @$case;
    my (@held, $order);
    for (1 .. 4) {
        my ($connection, $server) = ::hold(::connect_to(), $path);
        push @held, $connection;
        $order .= $server;
    }
    ::is($order, $expected, $path);
    ::is(::let_go(@held), 'xxxx', 'all end');
}
--- request
GET /level
--- response_body: X
--- no_error_log
[error]
