# $checkups_select_NAME and clusters/NAME/select: a server is selected as for a
# request that is proxied, with nothing sent to it.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use JSON::PP ();
use Backends;

# A, B ... say their letter. /pick says which one was selected for cluster "up".
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'D') . $block->http_config);
    $block->set_value(config => <<'END' . ($block->config // ''));
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location = /worker { return 200; }
    location /c/ { checkups_api; }
    location /checkups/ { checkups_api; }
    location / { proxy_pass http://up; }
    location /pick { return 200 $checkups_select_up; }
END
    $block->set_value(request => 'GET /worker') unless defined $block->request;
});
silent_port('S');

# The letter of a server by its address, as text or in an answer of the API.
sub letter {
    my $text = shift;
    my ($port) = $text =~ /127\.0\.0\.1:(\d+)/ or return "($text)";
    my ($letter) = grep { port_of($_) == $port } 'A' .. 'D';
    return $letter // "($text)";
}

# What is selected for so many requests: "ABA".
sub picks {
    my ($count, $path, %option) = @_;
    return join '', map { letter(ask($path, %option)->{body}) } 1 .. $count;
}

# An answer of the API: "200 up 1 A", or the status and the code of the error.
sub selected {
    my ($path, %option) = @_;
    my $answer = ask("/c/clusters/$path", %option);
    my $said = JSON::PP::decode_json($answer->{body});
    return "$answer->{code} $said->{error}{code}: $said->{error}{text}" if $said->{error};
    is($answer->{body}, JSON::PP->new->allow_nonref->encode($said->{cluster})
        =~ s/.*/{"cluster":$&,"level":${\JSON::PP->new->allow_nonref->encode($said->{level})},"server":"$said->{server}"}/r,
        'nothing else is in the answer');
    return "$answer->{code} $said->{cluster} $said->{level} " . letter($said->{server});
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

=== TEST 1: the order goes on, whether requests are proxied or ask for a server
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- init
my $order = 'ABACAABACA';
my @ways = (
    sub { ::answers(1, '/') }, sub { ::picks(1, '/pick') }, sub { ::letter(::ask('/c/clusters/up/select')->{body}) },
);
::is(::answers(5, '/'), CORE::substr($order x 2, 0, 5), 'proxied');
::is(::picks(5, '/pick'), CORE::substr($order x 2, 5, 5), 'by the variable');
::is(CORE::join('', map { $ways[2]->() } 1 .. 5), CORE::substr($order x 2, 10, 5), 'by the API');
::is(CORE::join('', map { $ways[$_ % 3]->() } 0 .. 14), CORE::substr($order x 3, 15, 15), 'in turn');
::is(::ask('/pick')->{body}, '127.0.0.1:' . ::port_of('A'), 'the value is the address');
--- no_error_log
[error]



=== TEST 2: one order for all workers
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my $picks = CORE::join '', map { ::letter($_->request('/pick')->answer->{body}) } (@workers) x 3;
::is($picks, 'ABC' x 4, 'twelve requests in four workers');



=== TEST 3: once a request
--- http_config
    log_format picked '$request_uri $checkups_select_up';
    map $checkups_select_up $mapped { default "mapped $checkups_select_up"; }
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    access_log logs/picked.log picked;
    location /many {
        set $one $checkups_select_up;
        add_header X-Pick $checkups_select_up;
        return 200 "$one $checkups_select_up $checkups_select_UP $mapped";
    }
    location /redirect { set $one $checkups_select_up; rewrite ^ /many last; }
--- init
for my $letter (qw(A B A B)) {
    my $answer = ::ask('/many');
    my $address = '127.0.0.1:' . ::port_of($letter);
    ::is($answer->{body}, "$address $address $address mapped $address", 'in the body');
    ::is($answer->{headers}{'x-pick'}, $address, 'in a header');
}
::is(::picks(3, '/pick'), 'ABA', 'the next request gets the next one');
::is(::picks(4, '/redirect'), 'BABA', 'an internal redirect is the same request');
my $log;
::wait_for('the log', sub {
    CORE::open my $in, '<', server_root() . '/logs/picked.log' or CORE::return 0;
    $log = CORE::join '', readline $in;
    CORE::return 11 == (() = $log =~ /\n/g);
});
my @logged = $log =~ /(\S+)$/mg;
::is(CORE::join('', sort map { ::letter($_) } @logged), 'AAAAAABBBBB', 'in the log');
--- no_error_log
[error]



=== TEST 4: weights, levels, servers that are down or drained
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 drain;
    }
    upstream levels {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
--- config
    location /levels { return 200 $checkups_select_levels; }
--- init
::is(::picks(6, '/pick'), 'ABAABA', 'those in use');
::is(::picks(2, '/levels'), 'BB', 'the backup');
::is(::selected('up/select'), '200 up 1 A', 'the first level is 1');
::is(::selected('levels/select'), '200 levels 2 B', 'the backup is 2');



=== TEST 5: what has failed is not selected
--- user_files
>>> C.sick
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        checkups_check http uri=/health interval=20ms;
    }
--- init
::wait_for_status('A=ok B=ok C=err');
::is(CORE::join('', sort CORE::split //, ::picks(6, '/pick')), 'AAABBB', 'C fails its checks');
my ($failed) = grep { $_->{tried} eq 'AB' } map { ::ask('/', do => 'A=close') } 1 .. 2;
::ok($failed, 'a request failed on A');
::is(::picks(3, '/pick'), 'BBB', 'A is out of use');
::well('C');
::wait_for_status('C=ok');
::is(CORE::join('', sort CORE::split //, ::picks(6, '/pick')), 'BBBCCC', 'C is back');



=== TEST 6: no connection is counted
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_conns=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_conns=1;
    }
    upstream full {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_conns=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    }
    upstream least {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location /full { proxy_pass http://full; }
    location /full/pick { return 200 $checkups_select_full; }
    location /least { proxy_pass http://least; }
    location /least/pick { return 200 $checkups_select_least; }
--- init
::is(::picks(6, '/pick'), 'ABABAB', 'each may be selected again and again');
my $silent = '127.0.0.1:' . ::port_of('S');
::is(::ask('/full/pick')->{body}, $silent, 'the first one is selected');
for my $path ('/full', '/least') {
    my @busy;                       # one of them is at work on the first server then
    ::wait_for("$path: the other one is selected", sub {
        push @busy, ::connect_to()->request($path);
        ::picks(6, "$path/pick") eq 'BBBBBB';
    });
    CORE::close $_->{socket} for @busy;
    ::wait_for("$path: the first one may be selected again", sub { ::ask("$path/pick")->{body} eq $silent });
}



=== TEST 7: the key and the order are those of this request
--- http_config
    upstream up {
        checkups_cluster;
        checkups_balance hash $arg_key;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
    upstream geo {
        checkups_cluster;
        checkups_order $arg_order;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
    }
--- config
    location /geo { proxy_pass http://geo; }
    location /geo/pick { return 200 $checkups_select_geo; }
--- init
my (%count, @other);
for my $key (1 .. 40) {
    my @servers = (::answers(1, "/?key=$key"), ::picks(2, "/pick?key=$key"), ::letter(::ask("/c/clusters/up/select?key=$key")->{body}));
    my $all = CORE::join '', @servers;
    push @other, "$key: $all" if $all !~ /\A(.)\1{3}\z/;
    $count{$servers[0]}++;
}
::is("@other", '', 'all ways lead to the same server');
::is(CORE::join('', sort keys %count), 'ABC', 'each has some keys');
::is(CORE::join('', sort CORE::split //, ::picks(3, '/pick')), 'ABC', 'an empty key is balanced by round robin');
::is(CORE::join('', sort CORE::split //, CORE::join '', map { ::letter(::ask("/c/clusters/up/select$_")->{body}) } '', '?key=', '?key'), 'ABC',
    'by the API, too');

for my $order ('', 'dc1', '1', 'dc1,dc2', 'nowhere,dc1') {
    ::is(::answers(1, "/geo?order=$order"), 'A', "order $order");
    ::is(::picks(1, "/geo/pick?order=$order"), 'A', "order $order, by the variable");
    ::is(::selected("geo/select?order=$order"), '200 geo dc1 A', "order $order, by the API");
}
for my $order ('dc2', '2', 'dc2,dc1') {
    ::is(::picks(2, "/geo/pick?order=$order"), 'BC', "order $order, by the variable");
    ::is(::selected("geo/select?order=$order"), '200 geo dc2 B', "order $order, by the API");
    ::is(::answers(1, "/geo?order=$order"), 'C', "order $order");
}



=== TEST 8: other methods
--- http_config
    upstream up { checkups_cluster; checkups_balance url_hash; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream header { checkups_cluster; checkups_balance header_hash; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream ip { checkups_cluster; checkups_balance ip_hash; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream least { checkups_cluster; checkups_balance least_conn; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream random { checkups_cluster; checkups_balance random two; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- config
    location /header/pick { return 200 $checkups_select_header; }
    location /header { proxy_pass http://header; }
    location /ip/pick { return 200 $checkups_select_ip; }
    location /ip { proxy_pass http://ip; }
    location /least/pick { return 200 $checkups_select_least; }
    location /random/pick { return 200 $checkups_select_random; }
--- init
my $path_of = CORE::join '', map { ::letter(::ask("/c/clusters/up/select?key=/$_")->{body}) } 1 .. 20;
::is(CORE::join('', map { ::answers(1, "/$_") } 1 .. 20), $path_of, 'url_hash: the key is the path');
for my $key (1 .. 20) {
    my @header = (headers => ["X-Hash-Key: $key"]);
    my $wanted = ::letter(::ask("/c/clusters/header/select?key=$key")->{body});
    ::is(::picks(1, '/header/pick', @header) . ::answers(1, '/header', @header), $wanted x 2, "header_hash: $key");
}
my $one = ::letter(::ask('/c/clusters/ip/select?key=127.0.0.1')->{body});
::is(::picks(5, '/ip/pick') . ::answers(5, '/ip'), $one x 10, 'ip_hash: the key is the address');
::is(::picks(4, '/least/pick'), 'ABAB', 'least_conn: nothing is counted, so they take turns');
::like(::picks(40, '/random/pick'), qr/\A(?=.*A)(?=.*B)[AB]+\z/, 'random two: both');
::is(::selected('least/select?key=x'), '200 least 1 A', 'a key that nobody looks at');



=== TEST 9: names of clusters as names of variables
--- http_config
    upstream first { checkups_cluster My.cluster-1:80; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream UPPER { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream a.b-c.example.com { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
    upstream up { checkups_cluster _; server 127.0.0.1:$TEST_NGINX_RAND_PORT_4; }
--- config
    location /1 { return 200 "$checkups_select_my_cluster_1_80 $checkups_select_My_Cluster_1_80"; }
    location /2 { return 200 "$checkups_select_upper ${checkups_select_UPPER} $CHECKUPS_SELECT_upper"; }
    location /3 { return 200 "$checkups_select_a_b_c_example_com"; }
    location /4 { return 200 "${checkups_select__}"; }
    location /5 { return 200 "$checkups_select_first.$checkups_select_a_b_c_example.$checkups_select_my."; }
--- init
my $address = sub { '127.0.0.1:' . ::port_of(CORE::shift) };
::is(::ask('/1')->{body}, CORE::join(' ', ($address->('A')) x 2), 'capitals, a dot, a hyphen and a colon');
::is(::ask('/2')->{body}, CORE::join(' ', ($address->('B')) x 3), 'capitals');
::is(::ask('/3')->{body}, $address->('C'), 'a name of a host');
::is(::ask('/4')->{body}, $address->('D'), 'no letter at all');
::is(::ask('/5')->{body}, '...', 'others are unknown');
--- grep_error_log eval: qr/(?<=checkups: )cluster .*/
--- grep_error_log_out
cluster "first": unknown cluster, client: 127.0.0.1, server: localhost, request: "GET /5 HTTP/1.1", host: "localhost"
cluster "a_b_c_example": unknown cluster, client: 127.0.0.1, server: localhost, request: "GET /5 HTTP/1.1", host: "localhost"
cluster "my": unknown cluster, client: 127.0.0.1, server: localhost, request: "GET /5 HTTP/1.1", host: "localhost"



=== TEST 10: no such cluster, no server
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down; }
    upstream order { checkups_cluster; checkups_order nowhere$arg_more; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream stock { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- config
    location /nope { return 200 "[$checkups_select_nope] [$checkups_select_nope]"; }
    location /none { return 200 "[$checkups_select_up] [$checkups_select_up]"; }
    location /order { return 200 "[$checkups_select_order]"; }
    location /stock { return 200 "[$checkups_select_stock] [$checkups_select_]"; }
    location /proxied { proxy_pass http://$checkups_select_nope; }
--- init
::is(::ask('/nope')->{body}, '[] []', 'no such cluster');
::is(::ask('/none')->{body}, '[] []', 'no server in use');
::is(::ask('/order')->{body}, '[]', 'no level');
::is(::ask('/stock')->{body}, '[] []', 'an upstream that nginx balances, and no name at all');
::is(::ask('/proxied')->{code}, 500, 'and nothing to proxy to');
::is(::selected('up/select'), '503 NoServersAvailable: no servers available', 'the API');
::is(::selected('order/select'), '200 order 1 A', 'the API takes the order from its arguments');
::is(::selected('order/select?order=nowhere'), '503 NoServersAvailable: no servers available', 'of which none may be known');
::is(::selected("$_/select"), '404 ClusterNotFound: cluster not found', "no cluster: $_") for 'nope', 'stock', 'UP';
--- grep_error_log eval: qr/(?<=checkups: )cluster .*/
--- grep_error_log_out eval
my @lines = (
    ['nope', 'unknown cluster', '/nope'], ['up', 'no servers available', '/none'], ['order', 'no servers available', '/order'],
    ['stock', 'unknown cluster', '/stock'], ['', 'unknown cluster', '/stock'], ['nope', 'unknown cluster', '/proxied'],
);
my $lines = CORE::join '', map {
    my ($cluster, $what, $path) = @$_;
    qq(cluster "$cluster": $what, client: 127.0.0.1, server: localhost, request: "GET $path HTTP/1.1", host: "localhost"\n)
} @lines;
qr/\A\Q$lines\E\z/
--- error_log
invalid URL prefix in "http://"



=== TEST 11: proxied to
--- http_config
    server { listen unix:$TEST_NGINX_SERVER_ROOT/u.sock; location / { return 200 "U $uri"; } }
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=1h;
    }
    upstream socket { checkups_cluster; server unix:$TEST_NGINX_SERVER_ROOT/u.sock; }
--- config
    location /to { proxy_pass http://$checkups_select_up; }
    location /to/path { proxy_pass http://$checkups_select_up/requests; }
    location /socket { proxy_pass http://$checkups_select_socket:/there; }
    location /redirect { return 307 http://$checkups_select_up$request_uri; }
--- init
::is(::routes(4, '/to'), 'A 200, B 200, A 200, B 200', 'in turn');
::is(::answers(2, '/to/path'), 'A1B1', 'with another path');
::is(::ask('/socket')->{body}, 'U /there', 'a unix socket');
::is(::routes(4, '/to', do => 'A=close B=close'), 'A 502, B 502, A 502, B 502', 'no failure is noticed, and nothing retried');
::is(::ask('/redirect?x=y')->{headers}{location}, 'http://127.0.0.1:' . ::port_of('A') . '/redirect?x=y', 'a redirect');
--- no_error_log
out of use



=== TEST 12: IPv6
--- skip_eval: 3: !main::has_ipv6()
--- http_config
    server { listen [::1]:$TEST_NGINX_RAND_PORT_4; location / { return 200 S; } }
    upstream up { checkups_cluster; server [::1]:$TEST_NGINX_RAND_PORT_4; }
--- config
    location /to { proxy_pass http://$checkups_select_up; }
--- init
if (::has_ipv6()) {
    my $address = '[::1]:' . ::port_of('D');
    ::is(::ask('/pick')->{body}, $address, 'the address');
    ::is(::ask('/to')->{body}, 'S', 'proxied to');
    ::is(::ask('/c/clusters/up/select')->{body}, qq({"cluster":"up","level":1,"server":"$address"}), 'by the API');
}



=== TEST 13: the answer of the API, its methods and its paths
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:1; }
    upstream geo { checkups_cluster Geo.1:2; checkups_level dc-1 { server unix:/a.sock; } checkups_level _2 { server [::1]:80; } }
--- request eval
[
    'GET /c/clusters/up/select', 'GET /c/clusters/up/select/', 'GET /c/clusters/up/select?', 'GET /c/clusters/%75p/select?order=1&key=x',
    'GET /c/clusters/Geo.1:2/select', 'GET /c/clusters/Geo.1%3A2/select?order=_2', 'HEAD /c/clusters/up/select',
    'GET /c/clusters/up/select/x', 'GET /c/clusters/up/Select', 'POST /c/clusters/up/select', 'GET /c/clusters/up/select?order=2',
    'HEAD /c/clusters/up/select?order=2',
]
--- error_code eval
[200, 200, 200, 200, 200, 200, 200, 404, 404, 405, 503, 503]
--- response_body_like eval
my $error = sub { my ($status, $code, $text) = @_; qr/\A\{"error":\{"status":$status,"text":"$text","code":"$code"\},"request_id":"[0-9a-f]{32}","href":"docs\/reference\.md#checkups_api"\}\z/ };
my $up = qr/\A\{"cluster":"up","level":1,"server":"127\.0\.0\.1:1"\}\z/;
[
    ($up) x 4, qr/\A\{"cluster":"Geo\.1:2","level":"dc-1","server":"unix:\/a\.sock"\}\z/,
    qr/\A\{"cluster":"Geo\.1:2","level":"_2","server":"\[::1\]:80"\}\z/, qr/\A\z/,
    ($error->(404, 'PathNotFound', 'path not found')) x 2, $error->(405, 'MethodNotAllowed', 'method not allowed'),
    $error->(503, 'NoServersAvailable', 'no servers available'), qr/\A\z/,
]
--- response_headers_like eval
my @plain = ("Content-Type: application/json\nCache-Control: no-store") x 12;
$plain[6] .= "\nContent-Length: 49";
$plain[9] .= "\nAllow: GET, HEAD";
$plain[11] .= "\nContent-Length: 1[0-9][0-9]";
[@plain]



=== TEST 14: how the arguments are encoded
--- http_config
    upstream up {
        checkups_cluster;
        checkups_balance hash $http_x_key;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
    }
    upstream geo {
        checkups_cluster;
        checkups_level dc1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
        checkups_level dc:2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    }
--- init
my %keys = (
    '/index.html?a=b' => ['/index.html?a=b', '%2Findex.html%3fa%3Db'], 'a b' => ['a+b', 'a%20b'], 'a+b' => ['a%2Bb', 'a%2bb'],
    'a&b=c' => ['a%26b=c', 'a%26b%3Dc'], '100%' => ['100%', '100%25'], '%zz' => ['%zz', '%25zz'], "\xc3\xa9" => ['%C3%A9', "\xc3\xa9"],
    "\xff\xfe" => ['%ff%FE'], '0' => ['0', '%30'], 'x' x 3000 => ['x' x 3000], '#' => ['%23'], '"' => ['%22', '"'],
);
my %seen;
for my $key (sort keys %keys) {
    my $wanted = ::answers(1, '/', headers => ["X-Key: $key"]);
    $seen{$wanted}++;
    for my $encoded (@{ $keys{$key} }) {
        my $found = ::letter(::ask("/c/clusters/up/select?order=&key=$encoded&key=other")->{body});
        ::is($found, $wanted, 'key=' . CORE::substr $encoded, 0, 40);
    }
}
::cmp_ok(CORE::scalar keys %seen, '>', 2, 'these are several servers');
::is(::selected("geo/select?order=$_"), '200 geo dc:2 B', "order=$_") for 'dc:2', 'dc%3A2,dc1', '2', '%32', '+dc:2+,dc1', '%20dc:2%20', 'x,dc:2&order=dc1';
::is(::selected("geo/select?$_"), '200 geo dc1 A', $_) for 'Order=2', 'order', 'order=', 'order=+', 'orders=2', 'key=2', '&&', 'order=%31';
::is(::selected("geo/select?order=$_"), '503 NoServersAvailable: no servers available', "order=$_") for '3', '0', '-1', ',', 'DC1', 'dc', 'dc1%00', '99999999999999999999999';



=== TEST 15: subrequests are of the same request
--- user_files
>>> two.html
<!--# include virtual="/pick" --> <!--# include virtual="/pick" -->
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
--- config
    location ~ html { root html; ssi on; }
    location /auth { auth_request /pick; proxy_pass http://$checkups_select_up; }
    location /auth/pick { return 200 $checkups_select_up; }
--- init
my ($first, $second) = map { '127.0.0.1:' . ::port_of($_) } 'A', 'B';
::is(::ask('/two.html')->{body}, "$first $first\n", 'two parts of a page');
::is(::ask('/two.html')->{body}, "$second $second\n", 'of the next one');
::is(::answers(3, '/auth'), 'ABA', 'auth_request');
--- no_error_log
[error]



=== TEST 16: a value that depends on itself ends
--- http_config
    upstream up {
        checkups_cluster;
        checkups_order $checkups_select_up;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    }
--- config
    location /proxied { proxy_pass http://up; }
--- init
::like(::ask('/pick')->{code}, qr/\A(?:200|500)\z/, 'an answer');
::like(::ask('/proxied')->{code}, qr/\A(?:200|500|502)\z/, 'an answer');
--- error_log
cycle while evaluating variable "checkups_select_up"



=== TEST 17: looked up by name, as SSI does
--- user_files
>>> echo.html
<!--# echo var="checkups_select_up" --> <!--# echo var="CHECKUPS_SELECT_UP" --> <!--# include virtual="/pick" -->
>>> none.html
[<!--# echo var="checkups_select_nope" default="" -->] [<!--# echo var="checkups_select_down" default="" -->] [<!--# echo var="checkups_select_down" default="" -->]
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    }
    upstream down { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 down; }
--- config
    location ~ html { root html; ssi on; }
--- init
for my $letter ('A', 'B', 'A') {
    ::is(::ask('/echo.html')->{body}, CORE::join(' ', ('127.0.0.1:' . ::port_of($letter)) x 3) . "\n", 'once a request');
}
::is(::ask('/none.html')->{body}, "[] [] []\n", 'nothing is empty, too');
--- grep_error_log eval: qr/(?<=checkups: )cluster .*?(?= while)/
--- grep_error_log_out
cluster "nope": unknown cluster
cluster "down": no servers available



=== TEST 18: of names that are alike the exact one
--- http_config
    upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream a.b { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    upstream a_b { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    upstream c-d { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
    upstream C.d { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_4; }
--- config
    location /exact { return 200 $checkups_select_a_b; }
    location /folded { return 200 $checkups_select_c_d; }
--- init
::is(::picks(2, '/exact'), 'BB', 'it wins over one before it');
::is(::picks(2, '/folded'), 'CC', 'where none is exact the first one counts');
