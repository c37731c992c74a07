# `checkups_cluster $variable`: a block whose requests go to the cluster that a
# variable names, be it one of the configuration or one that came to be at run time.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Time::HiRes ();
use Backends;
use Changing;

add_block_preprocessor(sub {
    my $block = shift;
    if (defined(my $refused = $block->refused)) {
        chomp $refused;
        $block->set_value(user_files => ">>> up.conf\n" . $block->upstream);
        $block->set_value(http_config => 'include ../html/up.conf;');
        $block->set_value(config => '');
        $block->set_value(must_die => 1);
        my $pattern = quotemeta($refused) =~ s{in\\ up\\\.conf}{in \\S+/html/up\\.conf}r;
        $block->set_value(error_log => [qr/\[emerg\] \d+#\d+: $pattern$/]);
        return;
    }
    $block->set_value(http_config => backends('A' .. 'D') . ($block->http_config // <<'END'));
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream other { checkups_cluster renamed; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
upstream plain { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
upstream watched { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; checkups_check tcp interval=1m; }
upstream any { checkups_cluster $arg_c; }
END
    $block->set_value(config => <<'END' . ($block->config // ''));
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://any; }
    location /c/ { checkups_api write=on; }
END
    $block->set_value(init => "::forget();\n" . $block->init) if defined $block->init;
    $block->set_value(request => 'GET /c/') unless defined $block->request;
});

# What error.log has of unknown clusters and of upstreams without servers.
sub unknown_in_log {
    open my $log, '<', $Test::Nginx::Util::ErrLogFile or die "no error.log: $!";
    return join '; ', map { /\[(\w+)\] \d+#\d+: \*\d+ (checkups: .*?|no live upstreams) while / ? "$1 $2" : () } readline $log;
}

no_root_location();
log_level('info');
master_on();
workers(2);
run_tests();

__DATA__

=== TEST 1: clusters of the configuration, by the names that they have
--- init
::is(::answers(2, '/?c=up'), 'AA', 'by the name of its upstream');
::is(::answers(2, '/?c=renamed'), 'BB', 'by a name of its own');
::is(::ask('/?c=other')->{code}, 502, 'not by that of the upstream then');
--- error_log
checkups: cluster "other": unknown cluster while connecting to upstream



=== TEST 2: names that are none: 502, and a line in the log
--- init
for my $name ('zzz', '', 'UP', 'up%20', 'plain', 'watched', 'any', 'a' x 300, '%22%0a%00') {
    ::is(::ask("/?c=$name")->{code}, 502, "'$name'");
}
::is(::ask('/')->{code}, 502, 'no argument');
my $long = 'a' x 128;
::is(::unknown_in_log(), join('; ', map { qq(error checkups: cluster "$_": unknown cluster; error no live upstreams) } 'zzz', '', 'UP', 'up%20', 'plain', 'watched', 'any', $long, '%22%0a%00', ''), 'the log');



=== TEST 3: the whole line of the log
--- init
::ask('/some?c=zzz');
--- error_log eval
qr{\[error\] \d+#\d+: \*\d+ checkups: cluster "zzz": unknown cluster while connecting to upstream, client: 127\.0\.0\.1, server: localhost, request: "GET /some\?c=zzz HTTP/1\.1", upstream: "http://any/some\?c=zzz", host: "localhost"$}



=== TEST 4: a name with bytes that are none of a text is shown escaped
--- http_config
upstream any { checkups_cluster $uri; }
--- init
::is(::ask('/%ff%0a%22')->{code}, 502, 'bytes');
--- error_log
checkups: cluster "/\xff\n\"": unknown cluster while connecting to upstream



=== TEST 5: a cluster that is born gets traffic, in all workers, until it is deleted
--- init
my @workers = ::workers_of(2, ::port_of(9), '/?c=up');
my $all = sub { join '', map { my $answer = $_->request('/?c=new')->answer; $answer->{code} eq '200' ? $answer->{body} : $answer->{code} } @workers };
::is($all->(), '502502', 'it is not there yet');
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{C}"}]}]}'), qr/\A201 /, 'created');
::is($all->(), 'CC', 'each worker');
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{D}"}]}]}'), qr/\A200 /, 'changed');
::is($all->(), 'DD', 'each worker');
::like(::change(DELETE => 'new'), qr/\A200 /, 'deleted');
::is($all->(), '502502', 'each worker');
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{C}"}]}]}'), qr/\A201 /, 'created again');
::is($all->(), 'CC', 'each worker');
--- error_log
checkups: cluster "new": unknown cluster while connecting to upstream



=== TEST 6: a cluster of the configuration that is deleted, and made again
--- init
::like(::change(DELETE => 'up'), qr/\A200 /, 'deleted');
::is(::ask('/?c=up')->{code}, 502, 'its requests fail');
::like(::change(PUT => 'up', '{"levels":[{"servers":[{"server":"{D}"}]}]}'), qr/\A201 /, 'made again');
::is(::answers(2, '/?c=up'), 'DD', 'they are answered');
--- error_log
checkups: cluster "up": unknown cluster while connecting to upstream



=== TEST 7: requests are balanced, tried again and logged as those of any cluster
--- config
    location /tried { add_header X-Tried $upstream_addr always; add_header X-Cluster "$checkups_cluster $checkups_level" always; proxy_pass http://any; }
--- init
::like(::change(PUT => 'new', '{"tries":2,"levels":[{"name":"near","servers":[{"server":"{A}","weight":2},{"server":"{B}"}]},{"name":"far","servers":[{"server":"{C}"}]}]}'), qr/\A201 /, 'created');
::is(join('', sort split //, ::answers(6, '/?c=new')), 'AAAABB', 'by the weights');
::like(::routes(1, '/?c=new', do => 'A=close B=close'), qr/\A(?:AB|BA) 502\z/, 'two tries');
my $answer = ::ask('/tried?c=new');
::is($answer->{headers}{'x-cluster'}, 'new far', 'the variables');
--- no_error_log
unknown cluster



=== TEST 8: connections are kept alive, and each cluster has its own
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream other { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
upstream any { checkups_cluster $arg_c; keepalive 8; }
--- config
    location /requests { proxy_pass http://any; proxy_http_version 1.1; proxy_set_header Connection ""; }
--- init
my ($worker) = ::workers_of(1, ::port_of(9), '/?c=up');
my $get = sub { join ' ', map { my $name = $_; $worker->request("/requests?c=$name")->answer->{body} } @_ };
::is($get->('up', 'up', 'up'), 'A1 A2 A3', 'one connection');
::is($get->('other', 'up', 'other', 'up'), 'B1 A4 B2 A5', 'one of each');
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{C}"}]}]}'), qr/\A201 /, 'created');
::is($get->('new', 'new', 'up'), 'C1 C2 A6', 'of the new one too');
--- no_error_log
[error]



=== TEST 9: a map, so that a client cannot name what it likes
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream inner { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
map $http_x_service $cluster { up up; ~^(?<name>svc-[a-z]+)$ $name; default ""; }
upstream any { checkups_cluster $cluster; }
--- init
my $get = sub { my $answer = ::ask('/', headers => ["X-Service: $_[0]"]); $answer->{code} eq '200' ? $answer->{body} : $answer->{code} };
::is($get->('up'), 'A', 'one that the map has');
::is($get->('inner'), '502', 'one that it has not');
::is($get->('svc-a'), '502', 'one that there is not yet');
::like(::change(PUT => 'svc-a', '{"levels":[{"servers":[{"server":"{C}"}]}]}'), qr/\A201 /, 'created');
::is($get->('svc-a'), 'C', 'it is there');
--- error_log
checkups: cluster "": unknown cluster while connecting to upstream
checkups: cluster "svc-a": unknown cluster while connecting to upstream



=== TEST 10: variables with text around them
--- http_config
upstream svc-a { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream svc-a-b { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
upstream any { checkups_cluster svc-${arg_a}${arg_b}; }
--- init
::is(::answers(1, '/?a=a'), 'A', 'one variable');
::is(::answers(1, '/?a=a&b=-b'), 'B', 'two');



=== TEST 11: such a block is no cluster of its own
--- init
::is(join(' ', sort keys %{ JSON::PP::decode_json(::whole('')) }), 'renamed up watched', 'the clusters');
::is(::change(PATCH => 'any/servers/{A}', '{"weight":2}'), '404 ClusterNotFound: cluster not found', 'nothing to change');
::like(::change(PUT => 'any', '{"levels":[{"servers":[{"server":"{D}"}]}]}'), qr/\A201 /, 'the name is free');
::is(::answers(1, '/?c=any'), 'D', 'and is one like any other');



=== TEST 12: the balance of the cluster counts, with the key of the request
--- init
::like(::change(PUT => 'new', '{"balance":"hash $arg_key","levels":[{"servers":[{"server":"{A}"},{"server":"{B}"},{"server":"{C}"}]}]}'), qr/\A201 /, 'created');
my @letters = map { ::answers(3, "/?c=new&key=$_") } 1 .. 20;
::is(scalar(grep { !/\A(.)\1\1\z/ } @letters), 0, 'each key has its server');
::is(join('', sort keys %{{ map { substr($_, 0, 1) => 1 } @letters }}), 'ABC', 'all servers have keys');



=== TEST 13: the order of a cluster of the configuration holds here too
--- http_config
upstream up { checkups_cluster; checkups_order $arg_o; checkups_level near { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; } checkups_level far { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; } }
upstream any { checkups_cluster $arg_c; }
--- init
::is(::answers(1, '/?c=up&o=far,near'), 'B', 'far first');
::is(::answers(1, '/?c=up&o=near,far'), 'A', 'near first');



=== TEST 14: health counts
--- http_config
upstream any { checkups_cluster $arg_c; }
--- config
    location /checkups/ { checkups_api; }
--- init
::sick('A');
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{A}"},{"server":"{B}"}]}],"checks":[{"type":"http","uri":"/health","interval":"50ms"}]}'), qr/\A201 /, 'created');
::wait_for_status('A=err B=ok');
::is(::answers(4, '/?c=new'), 'BBBB', 'the one that is well');
::well('A');
::wait_for_status('A=ok B=ok');
::is(join('', sort split //, ::answers(4, '/?c=new')), 'AABB', 'both');
--- error_log eval
qr/\[notice\] .*cluster "new", server "127\.0\.0\.1:\d+": from err to ok: /



=== TEST 15: a server in such a block
--- upstream
upstream any { checkups_cluster $arg_c;
server 127.0.0.1:1; }
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "server" does not go with that: it is said of each cluster in up.conf:1



=== TEST 16: a check
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_check tcp; }
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "checkups_check" does not go with that: it is said of each cluster in up.conf:1



=== TEST 17: a balance
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_balance least_conn; }
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "checkups_balance" does not go with that: it is said of each cluster in up.conf:1



=== TEST 18: an order
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_order 1; }
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "checkups_order" does not go with that: it is said of each cluster in up.conf:1



=== TEST 19: statuses
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_fail_status 500; }
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "checkups_fail_status" does not go with that: it is said of each cluster in up.conf:1



=== TEST 20: a level
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_level a { server 127.0.0.1:1; } }
--- refused
checkups: "checkups_level" directive: it does not go with a cluster that is named by a variable in up.conf:2



=== TEST 21: what is said of a server
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_server 127.0.0.1:1 drain; }
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "checkups_server" does not go with that: it is said of each cluster in up.conf:1



=== TEST 22: parameters behind the variable
--- upstream
upstream any { checkups_cluster $arg_c tries=2; }
--- refused
checkups: "checkups_cluster" directive: "$arg_c" stands alone: what else there is to say is said of the clusters that it names in up.conf:1



=== TEST 23: a variable that nobody has
--- upstream
upstream any { checkups_cluster $nobody_has_it; }
--- refused
unknown "nobody_has_it" variable



=== TEST 24: twice
--- upstream
upstream any { checkups_cluster $arg_c;
checkups_cluster $arg_d; }
--- refused
checkups: "checkups_cluster" directive: it is duplicate in up.conf:2



=== TEST 25: behind another method
--- upstream
upstream any { least_conn;
checkups_cluster $arg_c; }
--- refused
checkups: "checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2
