# Smooth weighted round robin: the exact order, one for all workers, and what a
# failure does to it.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'E') . $block->http_config);
});

# The rule, written down once more and apart from the module: every eligible
# peer's current weight rises by its effective weight; an effective weight below
# the weight recovers by one; the highest current weight wins, the first on a
# tie, and falls by the sum. A failure halves the effective weight, rounded up.
#
# For each request the letters of the servers that fail it are given. The result
# is what routes() gives where failed requests are retried.
sub model {
    my ($weights, @failing) = @_;
    my $letter = 'A';
    my @peers = map { { name => $letter++, weight => $_, effective => $_, current => 0 } } @$weights;
    my @routes;
    for my $failing (@failing) {
        my ($route, $code) = ('', 502);
        while (my @eligible = grep { index($route, $_->{name}) < 0 } @peers) {
            my ($total, $best) = (0);
            for my $peer (@eligible) {
                $peer->{current} += $peer->{effective};
                $total += $peer->{effective};
                $peer->{effective}++ if $peer->{effective} < $peer->{weight};
                $best = $peer if !$best || $peer->{current} > $best->{current};
            }
            $best->{current} -= $total;
            $route .= $best->{name};
            if (index($failing, $best->{name}) < 0) { $code = 200; last }
            $best->{effective} = int(($best->{effective} + 1) / 2);
        }
        push @routes, "$route $code";
    }
    return join ', ', @routes;
}

# The same requests to nginx.
sub measured {
    return join ', ', map { routes(1, '/', do => join ' ', map { "$_=close" } split //) } @_;
}

# Requests that fail at some servers, in bursts: the same ones each time.
sub failures_at_random {
    my ($count, @letters) = @_;
    my ($state, $quiet, @failing) = (42, 0);
    my $random = sub { $state = ($state * 1103515245 + 12345) % 2**31; return int($state / 65536) % shift };
    for (1 .. $count) {
        $quiet = $random->(60) if !$quiet-- && !$random->(4);
        push @failing, $quiet > 0 ? '' : join '', grep { !$random->(4) } @letters;
        $quiet = 0 if $quiet < 0;
    }
    return @failing;
}

# Where an order is not even: where so many in a row are not those that are expected.
sub uneven {
    my ($order, $expected) = @_;
    my $round = length $expected;
    return join ' ', grep { join('', sort split //, substr $order, $_, $round) ne $expected }
        0 .. length($order) - $round;
}

sub has_ipv6 {
    require IO::Socket::IP;
    return defined IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1);
}

no_root_location();
workers(4);
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: weights 1, 4, 3 and 6, twice around
--- http_config
    upstream test_1 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 weight=6;
    }
--- config
    location / { proxy_pass http://test_1; }
--- request eval
[("GET /") x 28]
--- response_body eval
[split //, 'EBCEBEACEBECBEEBCEBEACEBECBE']
--- no_error_log
[error]



=== TEST 2: the same order goes on for ever
--- http_config
    upstream test_2 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 weight=6;
    }
--- config
    location / { proxy_pass http://test_2; }
--- init
::is(::answers(280, '/'), 'EBCEBEACEBECBE' x 20, 'twenty times around');
--- request
GET /
--- response_body: E
--- no_error_log
[error]



=== TEST 3: weights 1, 2 and 3
--- http_config
    upstream test_3 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=3;
    }
--- config
    location / { proxy_pass http://test_3; }
--- request eval
[("GET /") x 12]
--- response_body eval
[split //, 'CBACBCCBACBC']
--- no_error_log
[error]



=== TEST 4: weights 5, 1 and 1
--- http_config
    upstream test_4 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://test_4; }
--- request eval
[("GET /") x 7]
--- response_body eval
[split //, 'AABACAA']
--- no_error_log
[error]



=== TEST 5: equal weights take turns as they are written
--- http_config
    upstream test_5 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=100;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=100;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=100;
    }
--- config
    location / { proxy_pass http://test_5; }
--- request eval
[("GET /") x 6]
--- response_body eval
[split //, 'CABCAB']
--- no_error_log
[error]



=== TEST 6: a single server
--- http_config
    upstream test_6 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=3;
    }
--- config
    location / { proxy_pass http://test_6; }
--- request eval
[("GET /") x 4]
--- response_body eval
[split //, 'AAAA']
--- no_error_log
[error]



=== TEST 7: a server that is down gets nothing, whatever its weight
--- http_config
    upstream test_7 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=100 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=2;
    }
--- config
    location / { proxy_pass http://test_7; }
--- init
::is(::answers(30, '/'), 'CAC' x 10, 'only the others');
--- request
GET /
--- response_body: C
--- no_error_log
[error]



=== TEST 8: equal addresses in one level are peers of their own
Weights 2, 1, 1, of which the first two are A.
--- http_config
    upstream test_8 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location / { proxy_pass http://test_8; }
--- request eval
[("GET /") x 8]
--- response_body eval
[split //, 'AABAAABA']
--- no_error_log
[error]



=== TEST 9: 700 requests on as many connections over 4 workers
--- http_config
    upstream test_9 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_9; }
--- init
my @answers = map { ::ask('/', port => ::port_of(9)) } 1 .. 700;
my $order = join '', map { $_->{body} } @answers;
my %counts;
$counts{$_->{body}}++ for @answers;
::is(join(' ', map { "$_=$counts{$_}" } sort keys %counts), 'A=500 B=100 C=100', 'the shares');
::is(::uneven($order, 'AAAAABC'), '', 'any 7 in a row hold 5, 1 and 1');
my %workers = map { $_->{worker} => 1 } @answers;
::is(scalar keys %workers, 4, 'four workers answered');
--- request
GET /
--- response_body: A
--- no_error_log
[error]



=== TEST 10: the order over workers that take turns is that of one worker
--- http_config
    upstream test_10 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 weight=6;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_10; }
    location = /worker { return 200; }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my $order = join '', map { $workers[$_ % 4]->request('/')->answer->{body} } 0 .. 55;
::is($order, 'EBCEBEACEBECBE' x 4, 'the order');
--- request
GET /
--- response_body: E
--- no_error_log
[error]



=== TEST 11: the shares of requests at the same time are exact
--- http_config
    upstream test_11 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://test_11; }
--- init
my %counts;
for (1 .. 10) {
    my @connections = map { ::connect_to(::port_of(9)) } 1 .. 70;
    $_->request('/') for @connections;
    $counts{$_->answer->{body}}++ for @connections;
}
::is(join(' ', map { "$_=$counts{$_}" } sort keys %counts), 'A=500 B=100 C=100', 'the shares');
--- request
GET /
--- response_body: A
--- no_error_log
[error]



=== TEST 12: a failure halves the share, and each pick gives one back
By hand, with the current weights after each pick:
                  A=5: -2 1 1      and its effective weight is then 3, rounded up
  +3 1 1 of 5     B:    1 -3 2
  +4 1 1 of 6     A:   -1 -2 3
  +5 1 1 of 7     A:   -3 -1 4    (A and C have 4: the first wins)
  +5 1 1 of 7     C:    2 0 -2
  +5 1 1 of 7     A:    0 1 -1
                  A:   -2 2 0
                  A:   -4 3 1     (A and B have 3)
                  B:    1 -3 2
                  A:   -1 -2 3
                  A:   -3 -1 4
from here on as after the fourth pick.
--- http_config
    upstream test_12 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
--- config
    location / {
        proxy_pass http://test_12;
        proxy_next_upstream off;
    }
--- init
::is(::routes(1, '/', do => 'A=close'), 'A 502', 'the failure');
::is(::answers(24, '/'), 'BAA' . 'CAAABAA' x 3, 'the order after it');
--- request
GET /
--- response_body: C



=== TEST 13: failures in a row halve it again, down to 1
--- http_config
    upstream test_13 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=8 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_13; }
--- init
my @failing = (('A') x 8, ('') x 20);
my $expected = ::model([8, 2], @failing);
::is(::measured(@failing), $expected, 'as the rule has it');
--- request
GET /
--- response_body_like: ^[AB]$



=== TEST 14: retries of failed requests move the rotation of those that are left
--- http_config
    upstream test_14 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=7 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 weight=2 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_14; }
--- init
my @failing = map { join '', grep { $_ ne '-' } split // } qw(
    C A - AC ABCD B - - CD - D ACD - ABC C C C C - - A A BD - ABCD ABCD - -
), ('-') x 30;
::is(::measured(@failing), ::model([5, 1, 7, 2], @failing), 'as the rule has it');
--- request
GET /
--- response_body_like: ^[ABCD]$



=== TEST 15: a long run with quiet times between the failures
--- http_config
    upstream test_15 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=7 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 weight=2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 weight=2 max_fails=0;
    }
--- config
    location / { proxy_pass http://test_15; }
--- init
my @failing = ::failures_at_random(1000, 'A' .. 'E');
my @expected = split /, /, ::model([5, 1, 7, 2, 2], @failing);
my @got = split /, /, ::measured(@failing);
my ($first) = grep { $got[$_] ne $expected[$_] } 0 .. $#failing;
$first //= 1000;
::is($first, 1000, 'as the rule has it, all the way')
    or ::diag("from there on: got @got[$first .. $first + 9], expected @expected[$first .. $first + 9]");
--- request
GET /
--- response_body_like: ^[A-E]$



=== TEST 16: the shares of those that are left while one is out of use, and after that
--- http_config
    upstream test_16 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=2;
        checkups_check http uri=/health interval=20ms;
    }
--- config
    location / { proxy_pass http://test_16; }
    location /checkups/ { checkups_api; }
--- init
::wait_for_status('A=ok B=ok C=ok');
::is(::uneven(::answers(37, '/'), 'AAAAABBBCC'), '', 'any 10 in a row');
::sick('A');
::wait_for_status('A=err B=ok C=ok');
::is(::uneven(::answers(23, '/'), 'BBBCC'), '', 'any 5 in a row without A');
::sick('B');
::wait_for_status('A=err B=err C=ok');
::is(::answers(7, '/'), 'CCCCCCC', 'C alone');
::well('A');
::wait_for_status('A=ok B=err C=ok');
::is(::uneven(::answers(24, '/'), 'AAAAACC'), '', 'any 7 in a row without B');
::well('B');
::wait_for_status('A=ok B=ok C=ok');
::is(::uneven(::answers(33, '/'), 'AAAAABBBCC'), '', 'any 10 in a row again');
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 17: unix sockets
--- http_config
    server {
        listen unix:$TEST_NGINX_SERVER_ROOT/logs/x.sock;
        location / { return 200 X; }
    }
    upstream test_17 {
        checkups_cluster;
        server unix:$TEST_NGINX_SERVER_ROOT/logs/x.sock weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location / { proxy_pass http://test_17; }
--- request eval
[("GET /") x 6]
--- response_body eval
[split //, 'XAXXAX']
--- no_error_log
[error]



=== TEST 18: IPv6
--- skip_eval
7: !main::has_ipv6()
--- http_config
    server {
        listen [::1]:$TEST_NGINX_RAND_PORT_6;
        location / { return 200 X; }
    }
    upstream test_18 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server [::1]:$TEST_NGINX_RAND_PORT_6;
    }
--- config
    location / { proxy_pass http://test_18; }
--- request eval
["GET /", "GET /"]
--- response_body eval
[split //, 'AX']
--- no_error_log
[error]



=== TEST 19: weights whose order is too long to be computed in advance
--- http_config
    upstream test_19 {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=700001;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=300000;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=99999;
    }
--- config
    location / { proxy_pass http://test_19; }
--- init
my @failing = ('') x 100;
::is(::measured(@failing), ::model([700001, 300000, 99999], @failing), 'as the rule has it');
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]
