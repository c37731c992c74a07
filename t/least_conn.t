# least_conn: the fewest connections for its weight, over all workers, exactly. random two:
# the better one of two that are drawn by weight.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;
use Holding;

# E and F are ports where nobody listens.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'D') . $Holding::proxying . $block->http_config);
    $block->set_value(config => $block->config . <<'END');
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location = /worker { return 200; }
END
});
holding_servers(qw(X Y Z));

# Connections, the same number to each of the four workers, which take turns.
sub connections {
    my $count = shift;
    my @connections = map { workers_of(4, port_of(9), '/worker') } 1 .. ($count + 3) / 4;
    return @connections[0 .. $count - 1];
}

# "X=1 Y=2": how often each letter is there.
sub counts {
    my %counts;
    $counts{$_}++ for split //, shift;
    return join ' ', map { "$_=$counts{$_}" } sort keys %counts;
}

# A thousand requests, some of which stay under way for a while: the same ones each time.
# Returns the letters of their servers.
sub life {
    my ($path) = @_;
    my ($state, @held) = (42);
    my $random = sub { $state = ($state * 1103515245 + 12345) % 2**31; return int($state / 65536) % shift };
    my $letters = '';
    my @workers = workers_of(4, port_of(9), '/worker');
    for (1 .. 250) {
        if (@held < 12 && $random->(2)) {
            push @held, connect_to(port_of(9));
            $letters .= hold($path, $held[-1]);
        }
        let_go(splice @held, $random->(scalar @held), 1) if @held && !$random->(3);
        $letters .= lc $workers[$random->(4)]->request($path)->answer->{body} for 1 .. $random->(7);
    }
    let_go(@held);
    return $letters;
}

# Whether a share of so many is what is to be expected with this probability: within five
# standard deviations, so that chance fails one run in a million.
sub is_near {
    my ($got, $count, $probability, $name) = @_;
    my $expected = $count * $probability;
    my $most = 5 * sqrt($expected * (1 - $probability));
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::cmp_ok(abs($got - $expected), '<=', $most, "$name: $got, expected $expected");
}

no_root_location();
workers(4);
worker_connections(512);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: 60 requests at the same time over 4 workers, exactly by weight
The first six by hand. All have none, so the smooth order decides: Z, whose weight is the
highest. X and Y still have none: Y. X is alone then. For each unit of weight they have 1, 1/2
and 1/3 now: Z, then Y with 1/2 before Z with 2/3, and Z.
--- http_config
    upstream by_weight {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y weight=2;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z weight=3;
    }
--- config
    location / { proxy_pass http://by_weight; }
--- init
my @held = ::connections(60);
::is(join('', map { ::hold('/', $_) } @held[0 .. 5]), 'ZYXZYZ', 'the first six, one by one');
::is(::counts(::hold('/', @held[6 .. 59])), 'X=9 Y=18 Z=27', 'the others at once');
::is(::let_go(@held), 'x' x 60, 'they end');
--- request
GET /
--- response_body_like: ^[XYZ]$
--- no_error_log
[error]



=== TEST 2: what ends makes room for the next
--- http_config
    upstream next_ones {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z;
    }
--- config
    location / { proxy_pass http://next_ones; }
--- init
my @held = ::connections(12);
::is(join('', map { ::hold('/', $_) } @held[0 .. 2]), 'XYZ', 'the first three');
::is(::counts(::hold('/', @held[3 .. 11])), 'X=3 Y=3 Z=3', 'the other nine');
::is(::let_go($held[1]), 'x', 'one of Y ends');
::is(::answers(5, '/'), 'YYYYY', 'it has the fewest');
my @next = ::connections(4);
::is(::hold('/', $next[0]), 'Y', 'the next one stays there');
::is(::let_go($held[0], $held[2]), 'xx', 'one of X and one of Z end');
::is(::counts(::answers(6, '/')), 'X=3 Z=3', 'these two take turns');
::is(::counts(::hold('/', @next[1, 2])), 'X=1 Z=1', 'one stays at each');
::is(::counts(::answers(6, '/')), 'X=2 Y=2 Z=2', 'all three take turns');
::is(::let_go(@held[3 .. 11], @next[0 .. 2]), 'x' x 12, 'they end');
--- request
GET /
--- response_body_like: ^[XYZ]$
--- no_error_log
[error]



=== TEST 3: of servers with the same, the next in the smooth order
--- http_config
    upstream ties {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://ties; }
--- init
::is(join('', map { $_->request('/')->answer->{body} } ::connections(28)), 'AABACAA' x 4, 'in all workers');
--- request eval
[("GET /") x 7]
--- response_body eval
[split //, 'AABACAA']
--- no_error_log eval
[('[error]') x 7]



=== TEST 4: the same as nginx's least_conn with a zone, request by request
--- http_config
    upstream ours {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X weight=3;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y weight=2 max_conns=4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z;
    }
    upstream theirs {
        zone theirs 256k;
        least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X weight=3;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y weight=2 max_conns=4;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z;
    }
--- config
    location / { proxy_pass http://ours; }
    location /theirs { proxy_pass http://theirs; }
--- init
my $theirs = ::life('/theirs');
::cmp_ok(length $theirs, '>', 700, 'so many requests');
::like($theirs, qr/X.*Y.*Z.*x.*y.*z/, 'to all servers, for short and for long');
::is(::life('/'), $theirs, 'they go to the same servers');
--- request
GET /
--- response_body_like: ^[XYZ]$
--- no_error_log
[error]



=== TEST 5: max_conns
X has room for two, and would take ten for one of Y.
--- http_config
    upstream limited {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X weight=10 max_conns=2;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y max_conns=5;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z max_conns=1 backup;
    }
--- config
    location / { proxy_pass http://limited; }
--- init
my @held = ::connections(9);
::is(::counts(::hold('/', @held[0 .. 6])), 'X=2 Y=5', 'the servers are full');
::is(::hold('/', $held[7]), 'Z', 'the backup is next');
::is(::hold('/', $held[8]), '-', 'nobody has room');
::is(::let_go($held[7]), 'x', 'that at the backup ends');
::is(::answers(3, '/'), 'ZZZ', 'there is room again');
::is(::let_go(@held[0 .. 6]), 'x' x 7, 'all end');
--- request
GET /
--- response_body: X
--- error_log
checkups: cluster "limited": no servers available while connecting to upstream
no live upstreams while connecting to upstream
--- no_error_log
out of use



=== TEST 6: a hundred at once where there is room for 30
--- http_config
    upstream crowded {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X weight=2 max_conns=6;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y max_conns=14;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z max_conns=10;
    }
--- config
    location / { proxy_pass http://crowded; }
--- init
my @held = ::connections(100);
my $held = ::hold('/', @held);
::is(::counts($held), '-=70 X=6 Y=14 Z=10', 'each is full, and no more than that');
::is(::let_go(map { $held[$_] } grep { substr($held, $_, 1) ne '-' } 0 .. 99), 'x' x 30, 'they end');
::is(::counts(::answers(8, '/')), 'X=4 Y=2 Z=2', 'all have room');
--- request
GET /
--- response_body_like: ^[XYZ]$
--- error_log
no servers available



=== TEST 7: failed requests go on, to each server once, and then to the backup
--- http_config
    upstream failing {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
--- config
    location / { proxy_pass http://failing; }
--- init
for (1 .. 6) {
    my $answer = ::ask('/', do => 'A=close B=close');
    ::is(join('', sort split //, substr $answer->{tried}, 0, 3) . substr($answer->{tried}, 3) . " $answer->{code}",
        'ABEC 200', 'each once');
    $answer = ::ask('/', do => 'A=close B=close C=close');
    ::is(join('', sort split //, substr $answer->{tried}, 0, 3) . substr($answer->{tried}, 3) . " $answer->{code}",
        'ABEC 502', 'all fail');
}
::is(::counts(::answers(40, '/')), 'A=20 B=20', 'none is held to have any left');
--- request
GET /
--- response_body_like: ^[AB]$
--- no_error_log
no live upstreams



=== TEST 8: a worker that is killed takes its requests along
--- http_config
    upstream killed {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y;
    }
--- config
    location / { proxy_pass http://killed; }
--- init
my @held = map { (::workers_of(4, ::port_of(9), '/worker'))[0] } 1 .. 4;
my $worker = $held[0]->request('/worker')->answer->{worker};
::is(join('', map { ::hold('/', $_) } @held), 'XYYX', 'four in one worker');
::is(::let_go(@held[1, 2]), 'xx', 'those at Y end');
::is(::answers(6, '/'), 'YYYYYY', 'X has two');
kill 'KILL', $worker;
::ok($held[0]->at_end, 'the worker is gone');
::wait_for('X is free again', sub { ::answers(2, '/') =~ /X/ });
::is(::counts(::answers(10, '/')), 'X=5 Y=5', 'both take turns');
--- request
GET /
--- response_body_like: ^[XY]$
--- error_log
exited on signal 9



=== TEST 9: random two: requests under way are spread by weight
--- http_config
    upstream two {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Y weight=2;
        server 127.0.0.1:$TEST_NGINX_BACKEND_Z weight=3;
    }
--- config
    location / { proxy_pass http://two; }
--- init
my @held = ::connections(120);
my $held = ::hold('/', @held);
my %most = (X => 20, Y => 40, Z => 60);
for my $letter (sort keys %most) {
    my $count = () = $held =~ /$letter/g;
    ::cmp_ok(abs($count - $most{$letter}), '<=', 6, "$letter has $count");
}
::is(::let_go(@held), 'x' x 120, 'they end');
--- request
GET /
--- response_body_like: ^[XYZ]$
--- no_error_log
[error]



=== TEST 10: random two: without any under way, the first one that is drawn: by weight
--- http_config
    upstream ours {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://ours; }
--- init
my ($connection) = ::connections(1);
my $letters = join '', map { $connection->request('/')->answer->{body} } 1 .. 900;
for ([A => 4/7], [B => 2/7], [C => 1/7]) {
    my ($letter, $share) = @$_;
    my $count = () = $letters =~ /$letter/g;
    ::is_near($count, 900, $share, $letter);
}
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 11: random two: servers out of use are never picked
C fails its checks, D is drained, E is down; X has no room. Then B fails its checks as well.
--- user_files
>>> C.sick
--- http_config
    upstream out_of_use {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=100;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 weight=100;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 weight=100 down;
        server 127.0.0.1:$TEST_NGINX_BACKEND_X weight=100 max_conns=1;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 drain;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://out_of_use; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok C=err');
my ($connection, $held) = ::connections(1);
::wait_for('X has a request', sub { ($held) = ::connections(1); ::hold('/', $held) eq 'X' });
my $ask = sub { join '', map { $connection->request('/')->answer->{body} } 1 .. 200 };
::like($ask->(), qr/^(?=.*A)(?=.*B)[AB]+$/, 'A and B are left');
::sick('B');
::wait_for_status('A=ok B=err');
::is($ask->(), 'A' x 200, 'A is left');
::is(::let_go($held), 'x', 'X has room again');
::like($ask->(), qr/^(?=.*A)(?=.*X)[AX]+$/, 'A and X');
--- request
GET /
--- response_body_like: ^[AX]$
--- no_error_log
[error]



=== TEST 12: random two: all servers are dead
--- http_config
    upstream dead {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6 max_fails=0 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
    }
    upstream none {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 down;
    }
--- config
    location / { proxy_pass http://dead; }
    location /none { proxy_pass http://none; }
--- init
my %tried;
for (1 .. 40) {
    my $answer = ::ask('/', do => 'A=close');
    $tried{join ' ', $answer->{code}, sort split //, $answer->{tried}}++;
}
::is(join(', ', keys %tried), '502 A E F', 'each is tried once');
::is(::answers(20, '/'), 'A' x 20, 'one is back');
--- request
GET /none
--- error_code: 502
--- error_log
checkups: cluster "none": no servers available while connecting to upstream
no live upstreams while connecting to upstream



=== TEST 13: both methods, with a single server, and with the backup
--- http_config
    upstream least {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
    upstream two {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
--- config
    location /least { proxy_pass http://least; }
    location /two { proxy_pass http://two; }
--- init
for my $path ('/least', '/two') {
    ::is(::answers(10, $path), 'A' x 10, 'the only server');
    for (1 .. 10) {
        ::like(::routes(1, $path, do => 'A=close'), qr/^A[BC] 200$/, 'the backup next');
        ::like(::routes(1, $path, do => 'A=close B=close C=close'), qr/^A(?:BC|CB) 502$/, 'each once');
    }
}
--- request
GET /two
--- response_body: A
