# Levels with names, and the order in which a request tries them.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'F', 'H') . $block->http_config);
});

# The tries of so many requests with this cookie.
sub in_order {
    my ($dc, $count, %option) = @_;
    return routes($count // 1, $option{path} // '/', headers => ["Cookie: a=b; dc=$dc; c=d"], %option);
}

# How long so many requests with these headers take, in seconds.
sub seconds {
    my ($count, $headers) = @_;
    my $connection = connect_to();
    my $start = now();
    $connection->request('/', headers => $headers)->answer for 1 .. $count;
    return now() - $start;
}

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: the order that a cookie asks for
--- http_config
    upstream geo {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level dc1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        }
        checkups_level dc2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        }
        checkups_level dc3 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        }
    }
--- config
    location / { proxy_pass http://geo; }
    location /checkups/ { checkups_api; }
--- init
# The servers that fail a request whose servers all fail, level by level, in the order of the
# alphabet within a level.
my $failing = sub {
    my ($tried, $code) = split / /, ::in_order(shift, 1, do => 'A=close B=close C=close D=close E=close');
    $tried =~ s/BA/AB/;
    $tried =~ s/ED/DE/;
    return "$tried $code";
};
for (
    ['',                    'ABCDE'],
    ['  ',                  'ABCDE'],
    ['dc2,dc1',             'CAB'],
    ['2,1',                 'CAB'],
    ['2,dc1,3',             'CABDE'],
    ['dc3,dc2,dc1',         'DECAB'],
    ['dc3',                 'DE'],
    [' dc2 , dc1 ',         'CAB'],
    ["\tdc2\t,\tdc1\t",     'CAB'],
    ['nope,dc2',            'C'],
    ['dc2,nope,,dc1,',      'CAB'],
    [',,dc2',               'C'],
    ['2,2,1',               'CAB'],
    ['2,dc2,1,dc1,2',       'CAB'],
    ['02,001',              'CAB'],
    ['0,4,99999999999999999999,-1,1.0,2', 'C'],
    ['DC2,dc,dc22,dc3',     'DE'],
    ['"dc2"',               ''],
    ['dc2 dc1',             ''],
    ['dc2|dc1',             ''],
    ['nope',                ''],
    [',',                   ''],
    [' , ,',                ''],
    ['0',                   ''],
    ['4',                   ''],
) {
    my ($dc, $levels) = @$_;
    ::is($failing->($dc), length $levels ? "$levels 502" : '(geo) 502', "'$dc'");
}
::is(::routes(2, '/', do => 'A=close B=close C=close'), 'ABCD 200, BACE 200', 'no cookie');
--- request
GET /
--- more_headers
Cookie: dc=dc2,dc1
--- response_body: C



=== TEST 2: the smooth order of each level goes on, whoever asks for it
--- http_config
    upstream turns {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level dc1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        }
        checkups_level dc2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 weight=2;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5;
        }
    }
--- config
    location / { proxy_pass http://turns; }
--- init
my @dc1 = ('', 'dc1', '1', 'dc1,dc2');
my ($one, $two) = ('', '');
for (0 .. 20) {
    $one .= ::ask('/', headers => ["Cookie: dc=$dc1[$_ % 4]"])->{body};
    $two .= ::ask('/', headers => ['Cookie: dc=2,1'])->{body};
}
::is($one, 'AABACAA' x 3, 'of the first');
::is($two, 'DED' x 7, 'of the second');
--- request
GET /
--- response_body: A
--- no_error_log
[error]



=== TEST 3: nothing in it is known: no server, and the log says so
--- http_config
    upstream unknown {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    }
--- config
    location / {
        proxy_pass http://unknown;
        add_header X-Tries "$checkups_cluster/$checkups_level/$checkups_server/$checkups_tries" always;
    }
--- request
GET /
--- more_headers
Cookie: dc=nope
--- error_code: 502
--- response_headers
X-Tries: unknown/-/-/1
--- error_log eval
[
    qr/\[error\] .* checkups: cluster "unknown": no servers available while connecting to upstream, client: 127/,
    qr/\[error\] .* no live upstreams while connecting to upstream, client: 127/,
]



=== TEST 4: without names: 1 are the servers, 2 the backup
--- http_config
    upstream numbers {
        checkups_cluster;
        checkups_order $cookie_dc;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    location / {
        proxy_pass http://numbers;
        add_header X-Tried $upstream_addr always;
        add_header X-Level $checkups_level;
    }
--- init
for ('1 A', '2 B', '2,1 BA', '1,2 AB', ' AB', '3,2 B', 'backup,2 B', '3 (numbers)') {
    my ($dc, $tried) = split / /;
    ::is(::in_order($dc, 1, do => 'A=close B=close'), "$tried 502", "'$dc'");
}
--- request
GET /
--- more_headers
Cookie: dc=2,1
X-Do: B=close
--- response_body: A
--- response_headers
X-Level: 2, 1



=== TEST 5: one address in two levels is tried in both
--- http_config
    upstream twice {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level dc1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        }
        checkups_level dc2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
        checkups_level dc3 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
    }
--- config
    location / {
        proxy_pass http://twice;
        add_header X-Tried $upstream_addr always;
        add_header X-Levels $checkups_level always;
    }
--- init
my $all = 'A=close B=close';
::is(::in_order('', 1, do => $all), 'ABABA 502', 'in each');
::is(::in_order('dc2,dc1', 1, do => $all), 'ABA 502', 'whatever the order');
my $answer = ::ask('/', headers => ['Cookie: dc=3,2'], do => $all);
::is("$answer->{tried} $answer->{headers}{'x-levels'}", 'ABA dc3, dc3, dc2', 'the levels');
--- request
GET /
--- more_headers
Cookie: dc=dc2
--- response_body: A



=== TEST 6: an order that is fixed, and one of text and variables
--- http_config
    upstream fixed {
        checkups_cluster;
        checkups_order dc2,dc1;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; }
    }
    upstream composed {
        checkups_cluster;
        checkups_order "dc$arg_first, dc$arg_second";
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; }
        checkups_level dc3 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0; }
    }
--- config
    location /fixed { proxy_pass http://fixed; }
    location /composed { proxy_pass http://composed; }
    location /checkups/ { checkups_api; }
--- init
::is(::routes(1, '/fixed', do => 'B=close'), 'BA 200', 'fixed');
::is(::routes(1, '/composed?first=3&second=1', do => 'C=close'), 'CA 200', 'composed');
::is(::routes(1, '/composed?second=2'), 'B 200', 'of one variable');
::is(::routes(1, '/composed'), '(composed) 502', 'of none: it is not empty');
my $level = sub {
    my ($code, $body) = @{ ::ask("/checkups/clusters/composed/select$_[0]") }{qw(code body)};
    return $body =~ /"level":([^,]+),/ ? $1 : $code;
};
::is($level->('?order=dc3,dc1'), '"dc3"', 'select, by an order of its own');
::is($level->('?order=+2+,+1'), '"dc2"', 'with blanks');
::is($level->('?order=dc3%2Cdc1'), '"dc3"', 'with a comma that is encoded');
::is($level->(''), '"dc1"', 'without one');
::is($level->('?order='), '"dc1"', 'with an empty one');
::is($level->('?order=nope'), '503', 'with nothing that is known');
--- request
GET /fixed
--- response_body: B



=== TEST 7: a level whose servers are out of use is passed over
--- http_config
    upstream checked {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level dc1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
        checkups_level dc3 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 down; }
        checkups_level dc4 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_5; }
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://checked; }
    location /checkups/ { checkups_api; }
--- init
my $are = sub {
    my $wanted = shift;
    ::wait_for("status $wanted", sub {
        my $levels = JSON::PP::decode_json(::ask('/checkups/status')->{body})->{'cls:checked'};
        return $wanted eq join ' ', map { join ',', map { $_->{status} } @{ $levels->{$_} } } sort keys %$levels;
    });
};
$are->('ok,ok ok unchecked ok');
::is(::in_order('dc3,dc2'), 'C 200', 'a server that is down');
::sick('C');
$are->('ok,ok err unchecked ok');
::is(::in_order('dc2,dc1', 2), 'A 200, B 200', 'one that fails its checks');
::is(::in_order('dc2,dc3'), '(checked) 502', 'nobody is left');
::is(::in_order('dc2,dc4,dc1', 2), 'E 200, E 200', 'the next that has one');
::sick('A');
$are->('err,ok err unchecked ok');
::is(::in_order('', 2), 'B 200, B 200', 'one server of a level');
--- request
GET /
--- more_headers
Cookie: dc=dc2,dc4
--- response_body: E



=== TEST 8: the order is evaluated once a request, not for each try
What the variable is while the second try is under way is another order, in which that server
does not stand. A second cluster of the same request evaluates its own.
--- http_config
    map $upstream_status $order {
        volatile;
        ''      dc2,dc3;
        default dc1;
    }
    upstream once {
        checkups_cluster;
        checkups_order $order;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; }
        checkups_level dc3 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0; }
    }
    upstream second {
        checkups_cluster;
        checkups_order $order;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0; }
    }
--- config
    location / {
        proxy_pass http://once;
        proxy_next_upstream error http_503;
        proxy_intercept_errors on;
        error_page 503 = @second;
        add_header X-Order "$order" always;
        add_header X-Tried $upstream_addr always;
    }
    location @second { proxy_pass http://second; add_header X-Levels $checkups_level; }
--- init
my $answer = ::ask('/', do => 'B=close');
::is("$answer->{tried} $answer->{headers}{'x-order'}", 'BC dc1', 'the order of the beginning');
::is(::routes(1, '/', do => 'B=close C=close'), 'BC 502', 'and no more servers than it has');
--- request
GET /
--- more_headers
X-Do: B=503 C=503
--- response_body: D
--- response_headers
X-Levels: dc2, dc3 : dc1



=== TEST 9: levels of other upstreams, their servers with and without backup
--- http_config
    upstream old {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0 weight=3 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0 backup;
    }
    upstream from_old {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level_from main old only=primary;
        checkups_level_from spare old only=backup;
        checkups_level_from all old;
        checkups_level_from later behind;
    }
    upstream behind {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 backup;
    }
--- config
    location / { proxy_pass http://from_old; }
    location /behind { proxy_pass http://behind; }
    location /checkups/ { checkups_api; }
--- init
my $bodies = sub { my ($dc, $count) = @_; ::answers($count, '/', headers => ["Cookie: dc=$dc"]) };
::is($bodies->('main', 6), 'ACAACA', 'the servers, by weight');
::is($bodies->('spare', 8), 'DDEDDDED', 'those marked backup, by weight');
::is($bodies->('all', 7), 'DACDEAD', 'all of them as equals');
::is($bodies->('later', 4), 'FAFA', 'a block that stands behind it');
my @fail = (do => join ' ', map { "$_=close" } 'A' .. 'F');
my $tried = ::in_order('spare,main', 1, @fail);
::like($tried, qr/^(?:DE|ED)(?:AC|CA) 502$/, 'in this order');
$tried = ::in_order('', 1, @fail);
::like($tried, qr/^[AC]{2}[DE]{2}[ACDE]{4}[AF]{2} 502$/, 'in their own');
::is(::routes(2, '/behind', do => 'F=close'), 'FA 200, A 200', 'the other block is as it was');
my $cluster = JSON::PP::decode_json(::ask('/checkups/clusters/from_old')->{body});
::is(join(' ', map { "$_->{weight}$_->{down}$_->{max_fails}" } map { @{ $_->{servers} } } @{ $cluster->{levels} }),
    '200 111 100 300 100 200 111 100 300 100 101 101', 'what their lines say');
--- request
GET /
--- response_body_like: ^[AC]$



=== TEST 10: a hostile cookie costs no more than its length
--- http_config
    upstream hostile {
        checkups_cluster;
        checkups_order $cookie_dc;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
        checkups_level dc3 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
        checkups_level dc4 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_4; }
    }
--- config
    location / { proxy_pass http://hostile; }
--- init
for (
    [',', '', '(hostile) 502'], ['x,', '', '(hostile) 502'], ['9', '', '(hostile) 502'],
    [' ', '', 'A 200'], ['1,', '', 'A 200'], ['4,', '', 'D 200'], [' ,dc2', '', 'B 200'],
    [',', 'dc2', 'B 200'], ['x,', 'dc3', 'C 200'], ['9', ',3', 'C 200'], ['0,', 'dc2', 'B 200'],
    ['dc1', ',dc2', 'B 200'], ["\xff,", 'dc2', 'B 200'],
) {
    my ($part, $end, $route) = @$_;
    my $name = "'$part' again and again" . ($end && ", then '$end'");
    ::is(::in_order($part x (6000 / length $part) . $end), $route, $name =~ s/[^ -~]/?/gr);
}

# The fastest of several rounds each, which take turns. Each request goes to A.
my %cookies = (
    empty    => 'dc=',
    harmless => 'dc=dc1; x=' . ',' x 6000,
    map({ $_ => "dc=$_" . ($_ x (5999 / length)) . ($_ eq '1,' ? '1' : ',dc1') } ',', '1,', 'x,', 'dc9,', '9'),
);
my %fastest;
for my $round (1 .. 5) {
    for my $name (keys %cookies) {
        my $took = ::seconds(300, ["Cookie: $cookies{$name}"]);
        $fastest{$name} = $took if !$fastest{$name} || $took < $fastest{$name};
    }
}
Test::More::note('seconds for 300 requests: ', join ', ', map { "'$_' $fastest{$_}" } sort keys %fastest);
::cmp_ok($fastest{$_}, '<', 3 * $fastest{harmless}, "as fast as a harmless one: '$_'") for sort keys %fastest;
--- request
GET /
--- response_body: A



=== TEST 11: each level in turns while all fail, without those that are out by their checks
Nobody listens at the others, and their checks say so. E has weight 3, F 2 and H 2.
--- http_config
    upstream show {
        checkups_cluster tries=8;
        checkups_level dc1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_7 weight=2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 weight=3 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_6 weight=2 max_fails=0;
        }
        checkups_level dc2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_9 weight=3 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_8 weight=2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_10 weight=2 max_fails=0;
        }
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://show; proxy_next_upstream error http_503; }
    location /checkups/ { checkups_api; }
--- init
::wait_for('the checks', sub {
    my $levels = JSON::PP::decode_json(::ask('/checkups/status')->{body})->{'cls:show'};
    return 'err ok ok err ok err' eq join ' ', map { $_->{status} } map { @{ $levels->{$_} } } qw(dc1 dc2);
});
my @answers = map { ::ask('/', do => 'E=503 F=503 H=503') } 1 .. 5;
::is(join(' ', map { $_->{tried} } @answers), 'EFH FEH EFH FEH EFH', 'the tries');
::is(join(', ', map { "$_->{code} $_->{body}" } @answers), join(', ', ('503 503 from H') x 5),
    'what the client gets');
--- request
GET /
--- response_body_like: ^[EF]$
--- no_error_log
no further try
no live upstreams
