# The API of NGINX Plus: upstreams and their servers, as its clients ask for them and
# change them.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use JSON::PP ();
use Backends;
use Changing;
use Plus;

our $plain = 'upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }';

add_block_preprocessor(sub {
    my $block = shift;
    my $http = ($block->http_config // $main::plain)
        . "\nupstream any { checkups_cluster \$arg_c; }\n";
    $block->set_value(http_config => backends('A' .. 'D') . $http);
    $block->set_value(config => ($block->config // '') . <<'END');
    location / { proxy_pass http://up; }
    location /any { proxy_pass http://any; }
    location /c/ { checkups_api write=on; }
    location /api { checkups_api write=on; }
    location /read/ { checkups_api; }
END
    $block->set_value(init => "::forget();\n" . $block->init) if defined $block->init;
    $block->set_value(request => 'GET /c/') unless defined $block->request;
    $block->set_value(no_error_log => "[error]\n[crit]") unless defined $block->no_error_log || defined $block->error_log;
});

# The letters of answers in their order in the alphabet.
sub sorted { return join '', sort split //, answers(@_) }

# What a body that is JSON says.
sub said { return JSON::PP::decode_json($_[0]{body}) }

# The address of an answer and its code: for paths outside of /c/9/http/upstreams/.
sub code_at {
    my $answer = plus_at(@_);
    return $answer->{code} if $answer->{body} !~ /"code":"(\w+)"/;
    return "$answer->{code} $1";
}

# A POST of a server with one member more.
sub posted { return [POST => 'up/servers', qq({"server":"127.0.0.9",$_[0]})] }

no_root_location();
log_level('info');
master_on();
workers(2);
run_tests();

__DATA__

=== TEST 1: versions
--- init
for my $location ('/api', '/api/', '/c/', '/read/') {
    my $answer = ::plus_at(GET => $location);
    ::is("$answer->{code} $answer->{body}", '200 [4,5,6,7,8,9]', "$location lists them");
}
for my $version (4 .. 9) {
    for my $path ('http/upstreams', 'http/upstreams/', 'http/upstreams/up', 'http/upstreams/up/servers/', 'http/upstreams/up/servers/0') {
        ::is(::plus_at(GET => "/c/$version/$path")->{code}, 200, "version $version/$path");
    }
}
for my $version (0 .. 3, 10, 99, '4294967305', '99999999999999999999') {
    for my $path ('', '/', '/nginx', '/http/upstreams/', '/http/upstreams/up/servers/0', '/stream/upstreams', '/no/such') {
        ::is(::code_at(GET => "/c/$version$path"), '404 UnknownVersion', "version $version$path");
    }
}
::is(::code_at(GET => "/c/$_/http/upstreams/"), '404 UnknownVersion', "$_ is no version") for '09', '0009', '004';
::is(::code_at(GET => "/c/$_/http/upstreams/"), '404 PathNotFound', "$_ is no version") for 'v9', '9.0', '-9', '%2B9', '9%20', 'x';
my $roots = ::said(::plus_at(GET => '/c/9'));
::is_deeply($roots, [qw(nginx processes connections slabs http resolvers ssl workers)], 'what there is in version 9');
::is_deeply(::said(::plus_at(GET => '/c/8/')), [qw(nginx processes connections slabs http resolvers ssl)], 'in version 8');
::is_deeply(::said(::plus_at(GET => '/api/4')), [qw(nginx processes connections slabs http ssl)], 'in version 4');



=== TEST 2: with and without a slash at the end of the path and of the location
--- init
for my $path ('http/upstreams', 'http/upstreams/up', 'http/upstreams/up/servers', 'http/upstreams/up/servers/1', 'nginx', 'processes',
    'connections', 'slabs', 'http', 'http/caches', 'ssl', 'workers')
{
    my @answers = map { my $location = $_; map { ::plus_at(GET => "$location/9/$path$_") } '', '/', '?', '/?a=b' } '/c', '/api', '/read';
    ::is(join(' ', map { $_->{code} } @answers), join(' ', (200) x @answers), $path);
    my %types = map { ($_->{headers}{'content-type'} // '') . ', ' . ($_->{headers}{'cache-control'} // '') => 1 } @answers;
    ::is(join('; ', keys %types), 'application/json, no-store', "$path: the headers");
}
my @bodies = map { my $location = $_; map { ::plus_at(GET => "$location/9/http/upstreams/up/servers$_")->{body} } '', '/' } '/c', '/api', '/read';
::is(scalar(keys %{{ map { $_ => 1 } @bodies }}), 1, 'the same answer from all');
::is(::plus_at(POST => '/api/9/http/upstreams/up/servers', '{"server":"{C}"}')->{code}, 201, 'POST without it');
::is(::plus_at(POST => '/api/9/http/upstreams/up/servers/', '{"server":"{D}"}')->{code}, 201, 'POST with it');
::is(::plus_at(PATCH => '/api/9/http/upstreams/up/servers/2/', '{"weight":2}')->{code}, 200, 'PATCH with it');
::is(::plus_at(PATCH => '/api/9/http/upstreams/up/servers/3', '{"weight":3}')->{code}, 200, 'PATCH without it');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {C} weight=2; 3 {D} weight=3', 'what has come of it');
::is(::plus_at(DELETE => '/api/9/http/upstreams/up/servers/2/')->{code}, 200, 'DELETE with it');
::is(::plus_at(DELETE => '/api/9/http/upstreams/up/servers/3')->{code}, 200, 'DELETE without it');
::is(::servers_of('up'), '0 {A}; 1 {B}', 'what has come of it');



=== TEST 3: paths where there is nothing
--- init
for my $path ('http/upstream', 'http/upstreams/up/server', 'http/upstreams/up/peers', 'http/upstreams/up/servers/0/x', 'http/upstreams/up/servers/0/weight/',
    'stream', 'stream/', 'stream/upstreams', 'stream/upstreams/', 'stream/upstreams/up/servers', 'stream/server_zones', 'stream/limit_conns',
    'stream/zone_sync', 'stream/keyvals', 'upstreams', 'Http/upstreams', 'http/Upstreams', 'nginx/version', 'processes/x', 'no', 'status', 'clusters')
{
    ::is(::code_at($_ => "/c/9/$path", $_ eq 'GET' || $_ eq 'DELETE' ? () : '{}'), '404 PathNotFound', "$_ $path") for qw(GET POST PATCH DELETE);
}
::is(::code_at(GET => '/c/9/http/caches/x'), '404 CacheNotFound', 'a cache');
::is(::code_at(GET => '/c/9/http/keyvals/x'), '404 KeyvalNotFound', 'a keyval zone');
::is(::code_at(GET => '/c/9/http/server_zones/x'), '404 ServerZoneNotFound', 'a zone');
::is(::code_at(GET => '/c/9/slabs/x'), '404 SlabNotFound', 'a shared zone');
my $error = ::plus_at(GET => '/c/9/stream/upstreams');
my $id = $error->{body} =~ /"request_id":"([0-9a-f]{32})"/ ? $1 : '';
::is($error->{body}, '{"error":{"status":404,"text":"path not found","code":"PathNotFound"},"request_id":"' . $id
    . '","href":"https://nginx.org/en/docs/http/ngx_http_api_module.html"}', 'the body of an error');
::is($error->{headers}{'content-type'}, 'application/json', 'its type');
::is($error->{headers}{'cache-control'}, 'no-store', 'it is not to be kept');



=== TEST 4: which of several reasons is the one
--- config
location /old/ { checkups_api; }
--- init
my $up = 'http/upstreams';
my @cases = (
    # the location, the method, the path, the body, what is answered
    ['/read/', POST => "3/$up/no/servers/x", '[', '404 UnknownVersion'],
    ['/read/', PUT => "10/no", '[', '404 UnknownVersion'],
    ['/read/', POST => "9/$up/no/server", '[', '404 PathNotFound'],
    ['/read/', DELETE => '9/stream/upstreams/up/servers/0', undef, '404 PathNotFound'],
    ['/read/', PUT => "9/$up/no/servers", '[', '405 MethodNotAllowed'],
    ['/read/', POST => "9/$up/no/servers", '[', '405 MethodDisabled'],
    ['/read/', DELETE => "9/$up/no/servers/x", undef, '405 MethodDisabled'],
    ['/read/', PATCH => "9/$up/up/servers/99", '[', '405 MethodDisabled'],
    ['/read/', DELETE => "9/$up/no", undef, '405 MethodDisabled'],
    ['/read/', GET => "9/$up/no/servers/x", undef, '404 UpstreamNotFound'],
    ['/read/', GET => "9/$up/up/servers/x", undef, '400 UpstreamBadServerId'],
    ['/read/', GET => "9/$up/up/servers/99", undef, '404 UpstreamServerNotFound'],
    ['/c/', PUT => "9/$up/no/servers/x", '[', '405 MethodNotAllowed'],
    ['/c/', POST => "9/$up/no/servers", '[', '404 UpstreamNotFound'],
    ['/c/', PATCH => "9/$up/no/servers/x", '[', '404 UpstreamNotFound'],
    ['/c/', DELETE => "9/$up/no/servers/x", undef, '404 UpstreamNotFound'],
    ['/c/', DELETE => "9/$up/no", undef, '404 UpstreamNotFound'],
    ['/c/', PATCH => "9/$up/up/servers/x", '[', '400 UpstreamBadServerId'],
    ['/c/', PATCH => "9/$up/up/servers/x", '{"id":1}', '400 UpstreamBadServerId'],
    ['/c/', DELETE => "9/$up/up/servers/-1", undef, '400 UpstreamBadServerId'],
    ['/c/', PATCH => "9/$up/up/servers/99", '[', '404 UpstreamServerNotFound'],
    ['/c/', PATCH => "9/$up/up/servers/99", '{"weight":0}', '404 UpstreamServerNotFound'],
    ['/c/', PATCH => "9/$up/up/servers/0", '[', '415 JsonError'],
    ['/c/', PATCH => "9/$up/up/servers/0", '{"x":1,"weight":0}', '400 UpstreamConfFormatError'],
);
my $before = ::whole('');
for (@cases) {
    my ($location, $method, $path, $body, $expected) = @$_;
    ::is(::code_at($method, $location . $path, $body), $expected, "$method $location$path");
}
::is(::whole(''), $before, 'nothing changed');



=== TEST 5: methods
--- init
my %allow = ('' => 'GET, HEAD', up => 'GET, HEAD, DELETE', 'up/servers' => 'GET, HEAD, POST', 'up/servers/0' => 'GET, HEAD, PATCH, DELETE');
for my $path (sort keys %allow) {
    for my $location ('c', 'read') {
        for my $method (qw(PUT POST PATCH DELETE OPTIONS TRACK)) {
            next if $allow{$path} =~ /\b$method\b/;
            my $answer = ::plus_at($method, "/$location/9/http/upstreams/$path", $method =~ /^P/ ? '{}' : ());
            ::like("$answer->{code} $answer->{body}", qr/\A405 \{"error":\{"status":405,"text":"method not allowed","code":"MethodNotAllowed"\}/, "$method $path at /$location/");
            ::is($answer->{headers}{allow}, $allow{$path}, 'Allow');
        }
    }
    for my $method (grep { $allow{$path} =~ /\b$_\b/ } qw(POST PATCH DELETE)) {
        my $answer = ::plus_at($method, "/read/9/http/upstreams/$path", $method =~ /^P/ ? '{"server":"{C}"}' : ());
        ::like("$answer->{code} $answer->{body}", qr/\A405 \{"error":\{"status":405,"text":"method is disabled: checkups_api has no write=on","code":"MethodDisabled"\}/, "$method $path at /read/");
        ::is($answer->{headers}{allow}, 'GET, HEAD', 'Allow');
    }
    my $get = ::plus_at(GET => "/c/9/http/upstreams/$path");
    my $head = ::connect_to()->request("/c/9/http/upstreams/$path", method => 'HEAD', close => 1);
    my $text = $head->take_through("\r\n\r\n");
    ::like($text, qr/\AHTTP\/1\.1 200 /, "HEAD $path");
    ::like($text, qr/^Content-Length: @{[length $get->{body}]}\r$/m, 'the length is that of GET');
    ::ok($head->at_end, 'there is no body');
}
::is(::servers_of('up'), '0 {A}; 1 {B}', 'nothing changed');



=== TEST 6: servers, to the byte
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=5 max_conns=7 max_fails=0 fail_timeout=1m down;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
    checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 drain;
    checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 slow_start=30s;
}
--- init
my ($a, $b, $c) = map { ::server_of($_) } 'A' .. 'C';
my @servers = (
    qq({"id":0,"server":"$a","weight":1,"max_conns":0,"max_fails":1,"fail_timeout":"10s","slow_start":"0s","route":"","backup":false,"down":false,"drain":true}),
    qq({"id":1,"server":"$b","weight":5,"max_conns":7,"max_fails":0,"fail_timeout":"60s","slow_start":"0s","route":"","backup":false,"down":true}),
    qq({"id":2,"server":"$c","weight":1,"max_conns":0,"max_fails":1,"fail_timeout":"10s","slow_start":"30s","route":"","backup":true,"down":false}),
);
my $answer = ::plus_at(GET => '/c/9/http/upstreams/up/servers');
::is($answer->{body}, '[' . join(',', @servers) . ']', 'all of them');
::is(::plus_at(GET => "/c/9/http/upstreams/up/servers/$_")->{body}, $servers[$_], "number $_") for 0 .. 2;
::is(::plus(GET => 'up/servers'), '200 0 {A} drain=true; 1 {B} weight=5 max_conns=7 max_fails=0 fail_timeout=60s down=true; 2 {C} slow_start=30s backup=true', 'as this test shows them');
::is(::plus(GET => 'up/servers?fields=id'), ::plus(GET => 'up/servers'), '"fields" plays no part');
::is(::plus(GET => 'up/servers/0?fields=id'), ::plus(GET => 'up/servers/0'), 'nor for one of them');



=== TEST 7: POST adds a server, as it is by default
--- init
my $c = ::server_of('C');
my $answer = ::plus_at(POST => '/c/9/http/upstreams/up/servers/', qq({"server":"$c"}));
::is($answer->{code}, 201, 'created');
::is($answer->{body}, qq({"id":2,"server":"$c","weight":1,"max_conns":0,"max_fails":1,"fail_timeout":"10s","slow_start":"0s","route":"","backup":false,"down":false}), 'to the byte');
::is(::plus(GET => 'up/servers/2'), '200 2 {C}', 'it is there');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {C}', 'among the others');
::is(::sorted(6, '/'), 'AABBCC', 'and used');



=== TEST 8: POST with all that can be said, as clients compare it
--- init
my $c = ::server_of('C');
my %sent = (server => $c, weight => 10, max_conns => 321, max_fails => 0, fail_timeout => '21s', slow_start => '12s', route => 'test',
    backup => JSON::PP::true, down => JSON::PP::true);
my $answer = ::plus_at(POST => '/c/8/http/upstreams/up/servers/', ::json(\%sent));
::is($answer->{code}, 201, 'created');
::is_deeply(::said($answer), { id => 2, %sent }, 'comes back');
::is_deeply(::said(::plus_at(GET => '/c/8/http/upstreams/up/servers'))->[2], { id => 2, %sent }, 'and is listed');
::is(::plus(POST => 'up/servers', '{"server":"{D}","weight":1,"max_conns":0,"max_fails":1,"fail_timeout":"10s","slow_start":"0s","route":"","backup":false,"down":false,"drain":false}'),
    '201 3 {D}', 'what is so by default can be said');
::is(::servers_of('up'), '0 {A}; 1 {B}; 3 {D}; 2 {C} weight=10 max_conns=321 max_fails=0 fail_timeout=21s slow_start=12s route=test backup=true down=true', 'the list, level by level');



=== TEST 9: times and addresses have one form
--- init
for (['10s', '10s'], ['10', '10s'], ['1m', '60s'], ['1m30s', '90s'], ['500ms', '500ms'], ['1500ms', '1500ms'], ['2000ms', '2s'], ['1h', '3600s'], ['0', '0s'], ['0s', '0s'], ['0ms', '0s']) {
    my ($said, $shown) = @$_;
    my $answer = ::said(::plus_at(PATCH => '/c/9/http/upstreams/up/servers/0', qq({"fail_timeout":"$said","slow_start":"$said"})));
    ::is("$answer->{fail_timeout} $answer->{slow_start}", "$shown $shown", "a time of $said");
}
my $number = 1;
for (['127.0.0.9', '127.0.0.9:80'], ['127.0.0.9:8080', '127.0.0.9:8080'], ['[::1]', '[::1]:80'], ['[::1]:81', '[::1]:81'], ['[0:0:0:0:0:0:0:2]:80', '[::2]:80'],
    ['unix:/tmp/plus.sock', 'unix:/tmp/plus.sock'])
{
    my ($said, $shown) = @$_;
    $number++;
    ::is(::plus(POST => 'up/servers', qq({"server":"$said","down":true})), "201 $number $shown down=true", $said);
    ::is(::plus(POST => 'up/servers', qq({"server":"$said"})), '409 EntryExists: the upstream has this server already', "$said is there");
    ::is(::plus(POST => 'up/servers', qq({"server":"$shown"})), '409 EntryExists: the upstream has this server already', "$shown is, too");
    ::is(::plus(PATCH => "up/servers/$number", qq({"server":"$said","down":true})), "200 $number $shown down=true", 'PATCH with the address as it was');
}
::like(::servers_of('up'), qr/; 2 127\.0\.0\.9:80 down=true; 3 127\.0\.0\.9:8080 down=true; 4 \[::1\]:80 down=true; 5 \[::1\]:81 down=true; 6 \[::2\]:80 down=true; 7 unix:\/tmp\/plus\.sock down=true\z/, 'all of them');



=== TEST 10: a server that is there already
--- init
::refuses_plus(
    [POST => 'up/servers', '{"server":"{A}"}'], '409 EntryExists: the upstream has this server already',
    [POST => 'up/servers', '{"server":"{B}","weight":5,"down":true}'], '409 EntryExists: the upstream has this server already',
    [PATCH => 'up/servers/0', '{"server":"{B}"}'], '409 EntryExists: the upstream has this server already',
);
::is(::plus(POST => 'up/servers', '{"server":"{A}","backup":true}'), '201 2 {A} backup=true', 'in another level it is not');
::is(::plus(POST => 'up/servers', '{"server":"{A}","backup":true}'), '409 EntryExists: the upstream has this server already', 'once');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {A} backup=true', 'the list');
::is(::plus(PATCH => 'up/servers/2', '{"weight":3}'), '200 2 {A} weight=3 backup=true', 'the one is changed');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {A} weight=3 backup=true', 'not the other');
::is(::plus(DELETE => 'up/servers/0'), '200 1 {B}; 2 {A} weight=3 backup=true', 'and so with DELETE');



=== TEST 11: DELETE says what remains, and numbers are never given again
--- init
::is(::plus(POST => 'up/servers', '{"server":"{C}"}'), '201 2 {C}', 'added');
::is(::plus(DELETE => 'up/servers/1'), '200 0 {A}; 2 {C}', 'one in the midst is removed');
::is(::plus(DELETE => 'up/servers/1'), '404 UpstreamServerNotFound: server with ID "1" does not exist', 'once');
::is(::plus(GET => 'up/servers/1'), '404 UpstreamServerNotFound: server with ID "1" does not exist', 'it is not there');
::is(::plus(PATCH => 'up/servers/1', '{"weight":2}'), '404 UpstreamServerNotFound: server with ID "1" does not exist', 'nor to be changed');
::is(::plus(GET => 'up/servers/2'), '200 2 {C}', 'the one behind it keeps its number');
::is(::sorted(4, '/'), 'AACC', 'requests go to those that remain');
::is(::plus(POST => 'up/servers', '{"server":"{B}"}'), '201 3 {B}', 'added again it is another one');
::is(::plus(DELETE => 'up/servers/3'), '200 0 {A}; 2 {C}', 'the last one is removed');
::is(::plus(POST => 'up/servers', '{"server":"{B}"}'), '201 4 {B}', 'its number is not used again either');
::is(::plus(POST => 'up/servers', '{"server":"{B}","weight":0}') =~ s/:.*//r, '400 UpstreamBadWeight', 'one is refused');
::is(::plus(POST => 'up/servers', '{"server":"{D}"}'), '201 5 {D}', 'the next number');
::is(::sorted(8, '/'), 'AABBCCDD', 'requests');
::is(::plus(DELETE => 'up/servers/0'), '200 2 {C}; 4 {B}; 5 {D}', 'DELETE of number 0');
::is(::plus(GET => 'up/servers/0'), '404 UpstreamServerNotFound: server with ID "0" does not exist', 'it is gone');



=== TEST 12: numbers of servers that are none
--- init
for my $id ('x', '-1', '+1', '%2B1', '1x', '0x1', '1.0', '%20', '1%20', '4294967296', '99999999999999999999', 'up', '127.0.0.1:80') {
    ::is(::plus(GET => "up/servers/$id"), '400 UpstreamBadServerId: invalid server ID', "GET $id");
    ::is(::plus(DELETE => "up/servers/$id/"), '400 UpstreamBadServerId: invalid server ID', "DELETE $id");
    ::is(::plus(PATCH => "up/servers/$id", '{"weight":2}'), '400 UpstreamBadServerId: invalid server ID', "PATCH $id");
}
::is(::plus(GET => 'up/servers/4294967295'), '404 UpstreamServerNotFound: server with ID "4294967295" does not exist', 'the largest');
::is(::servers_of('up'), '0 {A}; 1 {B}', 'nothing changed');



=== TEST 13: PATCH of each member
--- init
my $is = '';
for (['"weight":5', 'weight=5'], ['"max_conns":7', 'max_conns=7'], ['"max_fails":0', 'max_fails=0'], ['"fail_timeout":"1m"', 'fail_timeout=60s'],
    ['"slow_start":"1500ms"', 'slow_start=1500ms'], ['"route":"a"', 'route=a'], ['"down":true', 'down=true'], ['"drain":true', 'drain=true'])
{
    my ($body, $shown) = @$_;
    $is .= " $shown";
    ::is(::plus(PATCH => 'up/servers/1', "{$body}"), "200 1 {B}$is", $body);
    ::is(::plus(PATCH => 'up/servers/1', "{$body}"), "200 1 {B}$is", "$body again");
    ::is(::servers_of('up'), "0 {A}; 1 {B}$is", 'the list');
}
::is(::plus(PATCH => 'up/servers/1', '{}'), "200 1 {B}$is", 'none');
::is(::plus(PATCH => 'up/servers/1', '{"server":"{B}"}'), "200 1 {B}$is", 'the address as it is');
::is(::plus(PATCH => 'up/servers/1', '{"server":"{B}","weight":1,"max_conns":0,"max_fails":1,"fail_timeout":"10s","slow_start":"0s","route":"","down":false,"drain":false}'), '200 1 {B}', 'all back');
::is(::sorted(4, '/'), 'AABB', 'requests');



=== TEST 14: PATCH takes any type of body, or none
--- init
my $weight = 1;
for my $type (undef, 'application/json', 'text/plain', 'application/x-www-form-urlencoded', 'application/octet-stream', 'x') {
    $weight++;
    ::is(::plus(PATCH => 'up/servers/0', "{\"weight\":$weight}", type => $type), "200 0 {A} weight=$weight", 'PATCH, ' . ($type // 'no type'));
    my $port = 8000 + $weight;
    ::is(::plus(POST => 'up/servers', qq({"server":"127.0.0.9:$port"}), type => $type), "201 $weight 127.0.0.9:$port", 'POST, ' . ($type // 'no type'));
}
::is(::plus_at(PATCH => '/c/clusters/up/servers/{A}', '{"weight":1}', type => 'text/plain')->{code}, 415, 'the other API wants a type');



=== TEST 15: PATCH of the address keeps the number
--- init
::is(::plus(PATCH => 'up/servers/0', '{"server":"{C}"}'), '200 0 {C}', 'another address');
::is(::servers_of('up'), '0 {C}; 1 {B}', 'in its place');
::is(::sorted(4, '/'), 'BBCC', 'requests go to the new one');
::is(::plus(PATCH => 'up/servers/0', '{"server":"{D}","weight":3}'), '200 0 {D} weight=3', 'with a weight');
::is(::sorted(8, '/'), 'BBDDDDDD', 'requests go by it');
::is(::plus(POST => 'up/servers', '{"server":"{C}"}'), '201 2 {C}', 'the old address can be added');
::is(::plus(PATCH => 'up/servers/0', '{"server":"{A}","weight":1}'), '200 0 {A}', 'and the first one be taken again');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {C}', 'all keep their numbers');
::is(::plus(PATCH => 'up/servers/2', '{"server":"127.0.0.9","down":true}'), '200 2 127.0.0.9:80 down=true', 'a port is added');
my @peers = ::peers_of('up');
::is($peers[2]{server} . ' ' . $peers[2]{name}, '127.0.0.9:80 127.0.0.9:80', 'among the peers');
::refuses_plus(
    [PATCH => 'up/servers/0', '{"server":"{B}"}'], '409 EntryExists',
    [PATCH => 'up/servers/0', '{"server":""}'], '400 UpstreamBadAddress',
    [PATCH => 'up/servers/0', '{"server":"127.0.0.1:0"}'], '400 UpstreamBadAddress',
    [PATCH => 'up/servers/0', '{"server":"127.0.0.1:99999","weight":2}'], '400 UpstreamBadAddress',
    [PATCH => 'up/servers/0', '{"server":null}'], '400 UpstreamConfFormatError',
    [PATCH => 'up/servers/0', '{"server":1}'], '400 UpstreamConfFormatError',
);



=== TEST 16: what PATCH does not take
--- init
::refuses_plus(
    [PATCH => 'up/servers/0', '{"id":0}'], '400 UpstreamConfFormatError: unknown parameter "id"',
    [PATCH => 'up/servers/0', '{"id":1,"weight":2}'], '400 UpstreamConfFormatError: unknown parameter "id"',
    [PATCH => 'up/servers/0', '{"weight":2,"parent":"1"}'], '400 UpstreamConfFormatError: unknown parameter "parent"',
    [PATCH => 'up/servers/0', '{"weight":2,"host":"a"}'], '400 UpstreamConfFormatError: unknown parameter "host"',
    [PATCH => 'up/servers/0', '{"weight":2,"backup":true}'], '400 UpstreamConfFormatError',
    [PATCH => 'up/servers/0', '{"weight":2,"service":"http"}'], qr/\A400 UpstreamConfFormatError|\A400 UpstreamBadService/,
    [PATCH => 'up/servers/0', '{"weight":2,"level":1}'], '400 UpstreamConfFormatError: unknown parameter "level"',
    [PATCH => 'up/servers/0', '{"weight":2,"resolve":true}'], '400 UpstreamConfFormatError: unknown parameter "resolve"',
    [PATCH => 'up/servers/0', '{"weight":2,"check":false}'], '400 UpstreamConfFormatError: unknown parameter "check"',
);



=== TEST 17: drain, and its end
--- init
::is(::plus(PATCH => 'up/servers/0', '{"drain":true}'), '200 0 {A} drain=true', 'it drains');
::is(::answers(4, '/'), 'BBBB', 'it gets no requests');
::is((::peers_of('up'))[0]{state}, 'draining', 'its state');
::is(::plus(PATCH => 'up/servers/0', '{"weight":2}'), '200 0 {A} weight=2 drain=true', 'it goes on with another change');
::is(::plus(PATCH => 'up/servers/0', '{"drain":false,"weight":1}'), '200 0 {A}', 'drain: false is not shown');
::is(::sorted(4, '/'), 'AABB', 'requests');
::is((::peers_of('up'))[0]{state}, 'up', 'its state');
::is(::plus(POST => 'up/servers', '{"server":"{C}","drain":true}'), '201 2 {C} drain=true', 'POST of one that drains');
::is(::plus(POST => 'up/servers', '{"server":"{D}","drain":false}'), '201 3 {D}', 'and of one that does not');
::is(::sorted(6, '/'), 'AABBDD', 'requests');



=== TEST 18: down
--- init
::is(::plus(PATCH => 'up/servers/0', '{"down":true}'), '200 0 {A} down=true', 'it is down');
::is(::answers(4, '/'), 'BBBB', 'it gets no requests');
::is((::peers_of('up'))[0]{state}, 'down', 'its state');
::is(::plus(PATCH => 'up/servers/0', '{"down":false}'), '200 0 {A}', 'it is not');
::is(::sorted(4, '/'), 'AABB', 'requests');
::is(::plus(POST => 'up/servers', '{"server":"{C}","down":true}'), '201 2 {C} down=true', 'POST of one that is down');
::is(::sorted(4, '/'), 'AABB', 'requests');



=== TEST 19: backup servers
--- init
::is(::plus(POST => 'up/servers', '{"server":"{C}","backup":true}'), '201 2 {C} backup=true', 'there was none');
::is(::plus(POST => 'up/servers', '{"server":"{D}","backup":false}'), '201 3 {D}', 'backup: false');
::is(::servers_of('up'), '0 {A}; 1 {B}; 3 {D}; 2 {C} backup=true', 'level by level');
::is(::sorted(6, '/'), 'AABBDD', 'requests');
::is(scalar(@{ ::settings('up')->{levels} }), 2, 'there is a second level');
::is(::plus(PATCH => 'up/servers/2', '{"weight":2}'), '200 2 {C} weight=2 backup=true', 'PATCH');
::like(::plus(PATCH => 'up/servers/2', '{"backup":false}'), qr/\A400 UpstreamConfFormatError: /, 'it stays one');
::is(::plus(PATCH => "up/servers/$_", '{"down":true}') =~ s/ .*//r, '200', "server $_ is down") for 0, 1, 3;
::is(::answers(2, '/'), 'CC', 'it is used');
::is(join(' ', map { "$_->{id}=$_->{backup}" } ::peers_of('up')), '0=0 1=0 3=0 2=1', 'the peers');
::is(::plus(DELETE => 'up/servers/2'), '200 0 {A} down=true; 1 {B} down=true; 3 {D} down=true', 'removed');
::is(scalar(@{ ::settings('up')->{levels} }), 1, 'the level is gone with it');
--- no_error_log
[crit]



=== TEST 20: the last server can be removed, and another one be added
--- init
::is(::plus(DELETE => 'up/servers/0'), '200 1 {B}', 'the one');
my $answer = ::plus_at(DELETE => '/c/9/http/upstreams/up/servers/1');
::is("$answer->{code} $answer->{body}", '200 []', 'the other');
::is(::plus_at(GET => '/c/9/http/upstreams/up/servers')->{body}, '[]', 'there is none');
::is_deeply([::peers_of('up')], [], 'nor a peer');
::is(::ask('/')->{code}, 502, 'requests fail');
::is(::plus(PATCH => 'up/servers/1', '{"weight":2}'), '404 UpstreamServerNotFound: server with ID "1" does not exist', 'no PATCH');
::is(scalar(keys %{ ::said(::plus_at(GET => '/c/9/http/upstreams/')) }), 1, 'the upstream is there');
::like(::whole('up'), qr/"servers":\[\]/, 'also as a cluster');
::is(::ask('/c/status')->{code}, 200, 'the status is shown');
::is(::plus(POST => 'up/servers', '{"server":"{C}"}'), '201 2 {C}', 'one is added');
::is(::answers(3, '/'), 'CCC', 'requests are answered');
::is(::plus(POST => 'up/servers', '{"server":"{A}","backup":true}'), '201 3 {A} backup=true', 'and one as a backup');
::is(::plus(DELETE => 'up/servers/2'), '200 3 {A} backup=true', 'which is the only one then');
::is(::answers(3, '/'), 'AAA', 'requests are answered');
::is(::plus(DELETE => 'up/servers/3'), '200 ', 'none again');
::is(::plus(POST => 'up/servers', '{"server":"{D}","backup":true}'), '201 4 {D} backup=true', 'a backup server alone');
::is(::answers(3, '/'), 'DDD', 'is used');
::is(::plus(POST => 'up/servers', '{"server":"{B}"}'), '201 5 {B}', 'one before it');
::is(::answers(3, '/'), 'BBB', 'is used then');
--- error_log
no servers available



=== TEST 21: route
--- init
::is(::plus(POST => 'up/servers', '{"server":"{C}","route":"' . 'r' x 32 . '"}'), '201 2 {C} route=' . 'r' x 32, '32 bytes');
::is(::plus(PATCH => 'up/servers/2', '{"route":"a.b-c_d/1"}'), '200 2 {C} route=a.b-c_d/1', 'another one');
::is(::plus(PATCH => 'up/servers/2', '{"route":""}'), '200 2 {C}', 'none');
::refuses_plus(
    ::posted('"route":"' . 'r' x 33 . '"'), '400 UpstreamBadRoute',
    ::posted('"route":"' . "\xc3\xa4" x 17 . '"'), '400 UpstreamBadRoute',
    [PATCH => 'up/servers/2', '{"route":"' . 'r' x 33 . '"}'], '400 UpstreamBadRoute',
    [PATCH => 'up/servers/2', '{"route":null}'], '400 UpstreamConfFormatError',
    [PATCH => 'up/servers/2', '{"route":1}'], '400 UpstreamConfFormatError',
);
::is(::sorted(6, '/'), 'AABBCC', 'requests');



=== TEST 22: bodies that are no JSON
--- init
for my $body ('', ' ', 'x', '{', '}', '{"server"', '{"server":}', "{'server':'{C}'}", '{"server":"{C}",}', '{"server":"{C}"}x', 'server={C}', '{"server":"{C}"}{}', "\xff",
    '{"weight":01}', '{"weight":+1}', '{"weight":NaN}', '{"server":"\ud800"}', '[' x 10_000, '{"a":' x 10_000)
{
    ::refuses_plus([$_->[0] => $_->[1], $body], '415 JsonError') for [POST => 'up/servers'], [PATCH => 'up/servers/0'];
}



=== TEST 23: bodies of another form
--- init
for my $body ('[]', '[{"server":"{C}"}]', '"{C}"', '1', 'null', 'true') {
    ::refuses_plus([$_->[0] => $_->[1], $body], '400 UpstreamConfFormatError') for [POST => 'up/servers'], [PATCH => 'up/servers/0'];
}
::refuses_plus(
    [POST => 'up/servers', '{}'], '400 UpstreamConfFormatError: missing "server" argument',
    [POST => 'up/servers', '{"weight":2}'], '400 UpstreamConfFormatError: missing "server" argument',
    ::posted('"id":7'), '400 UpstreamConfFormatError: unknown parameter "id"',
    ::posted('"parent":"0"'), '400 UpstreamConfFormatError: unknown parameter "parent"',
    ::posted('"host":"a"'), '400 UpstreamConfFormatError: unknown parameter "host"',
    ::posted('"wieght":2'), '400 UpstreamConfFormatError: unknown parameter "wieght"',
    ::posted('"Weight":2'), '400 UpstreamConfFormatError: unknown parameter "Weight"',
    ::posted('"":2'), '400 UpstreamConfFormatError: unknown parameter ""',
    ::posted('"check":false'), '400 UpstreamConfFormatError: unknown parameter "check"',
    ::posted('"level":1'), '400 UpstreamConfFormatError: unknown parameter "level"',
    ::posted('"resolve":true'), '400 UpstreamConfFormatError: unknown parameter "resolve"',
    ::posted(qq("@{['x' x 10_000]}":1)), qr/\A400 UpstreamConfFormatError: unknown parameter "x{100,400}\z/,
);
for my $member (qw(server weight max_conns max_fails fail_timeout slow_start route backup down drain service)) {
    for my $value ('[]', '{}', '[1]', '{"a":1}', '[[[]]]') {
        my $body = $member eq 'server' ? qq({"server":$value}) : qq({"server":"{C}","$member":$value});
        ::refuses_plus([POST => 'up/servers', $body], '400 UpstreamConfFormatError: nested object or list', [PATCH => 'up/servers/0', qq({"$member":$value})], '400 UpstreamConfFormatError: nested object or list');
    }
}



=== TEST 24: values of another type
--- init
my %wrong = (
    server => ['1', 'null', 'true'], weight => ['"1"', 'null', 'true'], max_conns => ['"1"', 'null', 'false'], max_fails => ['"1"', 'null', 'false'],
    fail_timeout => ['10', 'null', 'true'], slow_start => ['10', 'null', 'true'], route => ['1', 'null', 'true'], backup => ['1', '"yes"', '""', 'null'],
    down => ['1', '"1"', '"True"', 'null', '0'], drain => ['1', '" true"', 'null', '0'], service => ['1', 'null', 'true'],
);
for my $member (sort keys %wrong) {
    for my $value (@{ $wrong{$member} }) {
        my $body = $member eq 'server' ? qq({"server":$value}) : qq({"server":"{C}","$member":$value});
        ::refuses_plus([POST => 'up/servers', $body], qq(400 UpstreamConfFormatError: invalid value of parameter "$member"));
        ::refuses_plus([PATCH => 'up/servers/0', qq({"$member":$value})], qq(400 UpstreamConfFormatError: invalid value of parameter "$member"));
    }
}
::is(::plus(POST => 'up/servers', '{"server":"{C}","down":"true","drain":"false","backup":"true"}'), '201 2 {C} backup=true down=true', 'a boolean may be text');
::is(::plus(PATCH => 'up/servers/2', '{"down":"false","drain":"true"}'), '200 2 {C} backup=true drain=true', 'also in PATCH');



=== TEST 25: values that are none
--- init
my %wrong = (
    UpstreamBadWeight => [weight => '0', '-1', '1.5', '1000001', '1e3', '1e99', '99999999999999999999'],
    UpstreamBadMaxConns => [max_conns => '-1', '0.5', '1000001', '4294967296', '1e99'],
    UpstreamBadMaxFails => [max_fails => '-1', '0.5', '1000001', '4294967296'],
    UpstreamBadFailTimeout => [fail_timeout => '""', '"x"', '"10x"', '"-1s"', '"1.5s"', '"10 "', '" 10s"', '"99999999999999999999s"', '"s"', '"10s\u0000"'],
    UpstreamBadSlowStart => [slow_start => '""', '"x"', '"10x"', '"-1s"', '"1.5s"', '"99999999999999999999s"', '"s"'],
);
for my $code (sort keys %wrong) {
    my ($member, @values) = @{ $wrong{$code} };
    for my $value (@values) {
        ::refuses_plus(::posted(qq("$member":$value)), "400 $code", [PATCH => 'up/servers/0', qq({"$member":$value})], "400 $code");
    }
}
::is(::plus(PATCH => 'up/servers/0', '{"weight":1000000,"max_conns":1000000,"max_fails":1000000}'), '200 0 {A} weight=1000000 max_conns=1000000 max_fails=1000000', 'the largest');



=== TEST 26: addresses that are none
--- init
for my $address ('', ' ', ':', ':80', '127.0.0.1:', '127.0.0.1:0', '127.0.0.1:65536', '127.0.0.1:-1', '127.0.0.1:x', '127.0.0.1 :80', '127.0.0.1:80 ', '127.0.0:80', '127.0.0.256',
    '127.0.0.1:80:80', '::1', '[::1', '[::1]:', '[x]:80', 'unix:', 'unix:relative', 'unix:' . '/x' x 100, 'http://127.0.0.1', '127.0.0.1/x', '-a:80', 'a..b:80', '127.0.0.1:80\u0000', "a\\nb", 'x' x 300 . ':80', '*:80')
{
    ::refuses_plus([POST => 'up/servers', qq({"server":"$address"})], '400 UpstreamBadAddress', [PATCH => 'up/servers/0', qq({"server":"$address"})], '400 UpstreamBadAddress');
}



=== TEST 27: names need a resolver, services a name
--- init
::refuses_plus(
    [POST => 'up/servers', '{"server":"up.test:80"}'], '400 UpstreamConfNoResolver',
    [POST => 'up/servers', '{"server":"up.test"}'], '400 UpstreamConfNoResolver',
    [POST => 'up/servers', '{"server":"up.test","service":"http"}'], '400 UpstreamConfNoResolver',
    [POST => 'up/servers', '{"server":"up.test","service":""}'], qr/\A400 (?:UpstreamBadService|UpstreamConfNoResolver): /,
    [POST => 'up/servers', '{"server":"up.test:80","service":"http"}'], '400 UpstreamBadAddress',
    [POST => 'up/servers', '{"server":"127.0.0.9","service":"http"}'], '400 UpstreamBadAddress',
    [POST => 'up/servers', '{"server":"127.0.0.9:80","service":"http"}'], '400 UpstreamBadAddress',
    [POST => 'up/servers', '{"server":"unix:/a","service":"http"}'], '400 UpstreamBadAddress',
    [PATCH => 'up/servers/0', '{"server":"up.test:80"}'], '400 UpstreamBadAddress',
);



=== TEST 28: bodies that are too long
--- init
my $long = '{"server":"{C}","route":"' . 'x' x (1 << 20) . '"}';
::refuses_plus([POST => 'up/servers', $long], '413 BodyTooLarge', [PATCH => 'up/servers/0', $long], '413 BodyTooLarge');
::is(::plus(POST => 'up/servers', $long), '413 BodyTooLarge: the body is larger than 1048576 bytes', 'what it says');
::is(::plus(POST => 'up/servers', '{"server":"{C}"' . ' ' x 1_000_000 . '}'), '201 2 {C}', 'one that is not');
--- no_error_log
[crit]



=== TEST 29: upstreams that there are not
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream plain { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
upstream zoned { zone zoned 64k; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- init
for my $name ('no', 'Up', 'up2', 'any', 'plain', 'zoned', 'up%20', 'up%2Fx', '%C3%A4', '..x', 'x' x 300) {
    my $code = '404 UpstreamNotFound: upstream not found';
    ::refuses_plus(
        [GET => $name], $code,
        [DELETE => "$name/"], $code,
        [GET => "$name/servers"], $code,
        [POST => "$name/servers", '{"server":"{C}"}'], $code,
        [GET => "$name/servers/0"], $code,
        [PATCH => "$name/servers/0", '{"weight":2}'], $code,
        [DELETE => "$name/servers/0"], $code,
    );
}
::is(::code_at(GET => '/c/9/http/upstreams/%FF'), '404 PathNotFound', 'a path that is no text');
::is(join(' ', sort keys %{ ::said(::plus_at(GET => '/c/9/http/upstreams/')) }), 'up', 'and those that there are');



=== TEST 30: upstreams that nginx balances
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream old {
    zone old 64k;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_9;
    checkups_check tcp interval=50ms fails=1;
}
--- config
location /old { proxy_pass http://old; }
--- init
::is(join(' ', sort keys %{ ::said(::plus_at(GET => '/c/9/http/upstreams/')) }), 'old up', 'they are shown');
::wait_for('the checks', sub { join(' ', map { $_->{state} } ::peers_of('old')) eq 'up unhealthy' });
my ($good, $bad) = ::peers_of('old');
::is("$good->{server} $good->{weight} $bad->{weight}", ::server_of('B') . ' 2 1', 'the servers');
::ok($good->{health_checks}{checks} > 0 && $good->{health_checks}{fails} == 0, 'the checks of one');
::ok($bad->{health_checks}{fails} > 0 && $bad->{health_checks}{unhealthy} == 1, 'and of the other');
::ok($good->{health_checks}{last_passed} && !$bad->{health_checks}{last_passed}, 'the last ones');
::is(join(' ', $good->{id}, $bad->{id}), '0 1', 'numbers');
::refuses_plus(
    [POST => 'old/servers', '{"server":"{C}"}'], '400 UpstreamStatic: upstream is static',
    [PATCH => 'old/servers/0', '{"weight":5}'], '400 UpstreamStatic: upstream is static',
    [DELETE => 'old/servers/0'], '400 UpstreamStatic: upstream is static',
);
--- no_error_log
[crit]



=== TEST 31: an upstream and its peers
--- http_config
checkups_zone plus:2m;
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server localhost:$TEST_NGINX_RAND_PORT_2 weight=2 max_conns=9 down; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup; }
--- init
my ($a, $b, $c) = map { ::server_of($_) } 'A' .. 'C';
my $none = '"requests":0,"responses":{"1xx":0,"2xx":0,"3xx":0,"4xx":0,"5xx":0,"codes":{},"total":0},"sent":0,"received":0,"fails":0,"unavail":0,'
    . '"health_checks":{"checks":0,"fails":0,"unhealthy":0},"downtime":0';
my $name = 'localhost:' . ::port_of('B');
::is(::plus_at(GET => '/c/9/http/upstreams/up')->{body}, '{"peers":['
    . qq({"id":0,"server":"$a","name":"$a","backup":false,"weight":1,"state":"up","active":0,"max_conns":0,${none}},)
    . qq({"id":1,"server":"$b","name":"$name","backup":false,"weight":2,"state":"down","active":0,"max_conns":9,${none}},)
    . qq({"id":2,"server":"$c","name":"$c","backup":true,"weight":1,"state":"up","active":0,"max_conns":0,${none}})
    . '],"keepalive":0,"zombies":0,"zone":"plus"}', 'to the byte, before there was a request');
::answers(3, '/');
::ask('/', do => 'A=404');
my ($peer, $down, $backup) = ::peers_of('up');
::is($peer->{requests}, 4, 'the requests');
::is_deeply($peer->{responses}, { '1xx' => 0, '2xx' => 3, '3xx' => 0, '4xx' => 1, '5xx' => 0, codes => { 200 => 3, 404 => 1 }, total => 4 }, 'the responses');
::ok($peer->{sent} > 100 && $peer->{received} > 100, 'the bytes');
::like($peer->{selected}, qr/\A20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d\.\d{3}Z\z/, 'when it was selected');
::ok(defined $peer->{header_time} && defined $peer->{response_time} && $peer->{response_time} >= $peer->{header_time}, 'the times');
::is("$down->{requests} $backup->{requests}", '0 0', 'the others had none');
::ok(!exists $backup->{selected} && !exists $backup->{header_time}, 'nor these');
my $all = ::said(::plus_at(GET => '/c/9/http/upstreams'));
::is(join(' ', sort keys %$all), 'up', 'all upstreams');
::is($all->{up}{peers}[0]{requests}, 4, 'the same there');



=== TEST 32: DELETE of an upstream begins its statistics anew
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream other { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- config
location /other { proxy_pass http://other/; }
--- init
::answers(3, '/');
::answers(2, '/other');
my $before = ::whole('');
my $answer = ::plus_at(DELETE => '/c/9/http/upstreams/up');
::is("$answer->{code}<$answer->{body}>", '204<>', 'no body');
my ($peer) = ::peers_of('up');
::is("$peer->{requests} $peer->{sent} $peer->{received} $peer->{responses}{total}", '0 0 0 0', 'all is 0');
::is_deeply($peer->{responses}{codes}, {}, 'also the statuses');
::is((::peers_of('other'))[0]{requests}, 2, 'not those of others');
::is(::whole(''), $before, 'the settings are as they were');
::answers(1, '/');
::is((::peers_of('up'))[0]{requests}, 1, 'it goes on from there');
::is(::plus(DELETE => 'up/'), '204', 'with a slash at the end');



=== TEST 33: fields
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream other { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- init
my $body = sub { return ::plus_at(GET => "/c/9/http/upstreams$_[0]")->{body} };
::is($body->('?fields='), '["other","up"]', 'of a map: the names');
::is($body->('/?fields='), '["other","up"]', 'with a slash');
::is($body->('/?fields=zone'), '{"other":{"zone":"checkups"},"up":{"zone":"checkups"}}', 'one');
::is($body->('/?fields=zone,keepalive'), '{"other":{"keepalive":0,"zone":"checkups"},"up":{"keepalive":0,"zone":"checkups"}}', 'two');
::is($body->('/?fields=zone%2Ckeepalive&x=y'), '{"other":{"keepalive":0,"zone":"checkups"},"up":{"keepalive":0,"zone":"checkups"}}', 'encoded');
::is($body->('/?fields=no'), '{"other":{},"up":{}}', 'one that there is not');
::is($body->('/up?fields='), '{}', 'of one: nothing');
::is($body->('/up?fields=zone'), '{"zone":"checkups"}', 'one of one');
::is($body->('/up/?fields=zombies,no'), '{"zombies":0}', 'with one that there is not');
::is($body->('/up?a=b&fields=zone'), '{"zone":"checkups"}', 'behind another argument');
::is(join(' ', keys %{ JSON::PP::decode_json($body->('/up?fields=peers')) }), 'peers', 'the peers');
::is($body->('/up?fields=peers,keepalive,zombies,zone'), $body->('/up'), 'all of them');
::is($body->('/up?field=zone'), $body->('/up'), 'another argument');



=== TEST 34: the same change in both interfaces
--- init
my $version = ::version('up');
::is(::plus(POST => 'up/servers', '{"server":"{C}","weight":2,"slow_start":"30s"}'), '201 2 {C} weight=2 slow_start=30s', 'POST');
my $second = ::version('up');
::ok($second > $version, 'the version grows');
::is(join(' ', map { ::text_of($_->{server}) . "*$_->{weight}" } @{ ::settings('up')->{levels}[0]{servers} }), '{A}*1 {B}*1 {C}*2', 'the cluster has it');
::is(::settings('up')->{levels}[0]{servers}[2]{slow_start}, '30s', 'with all that was said');
::like(::change(PATCH => 'up/servers/{C}', '{"weight":3,"slow_start":"0s"}'), qr/\A200 /, 'changed there');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {C} weight=3', 'and shown here');
::is(::plus(PATCH => 'up/servers/2', '{"weight":3}'), '200 2 {C} weight=3', 'what is so already');
my $third = ::version('up');
::is(::plus(PATCH => 'up/servers/2', '{"weight":3}'), '200 2 {C} weight=3', 'again');
::is(::version('up'), $third, 'makes no new version');
::like(::change(POST => 'up/servers', '{"server":"{D}"}'), qr/\A201 /, 'added there');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {C} weight=3; 3 {D}', 'has a number here');
::like(::change(DELETE => 'up/servers/{B}'), qr/\A200 /, 'removed there');
::is(::servers_of('up'), '0 {A}; 2 {C} weight=3; 3 {D}', 'the others keep theirs');
::like(::change(PUT => 'up', '{"levels":[{"servers":[{"server":"{D}"},{"server":"{B}"},{"server":"{A}","weight":2}]}]}'), qr/\A200 /, 'all of them');
::is(::servers_of('up'), '3 {D}; 4 {B}; 0 {A} weight=2', 'who stays keeps its number');
::like(::change(POST => 'up/rollback', qq({"version":$version})), qr/\A200 /, 'back to the first version');
::like(::servers_of('up'), qr/\A0 \{A\}; \d+ \{B\}\z/, 'is shown');
::is(::sorted(4, '/'), 'AABB', 'requests');
--- error_log eval
qr/\[notice\] .*checkups: cluster "up": changed at run time, version \d+$/



=== TEST 35: a cluster that is made at run time
--- init
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{C}","weight":2}]},{"servers":[{"server":"{D}"}]}]}'), qr/\A201 /, 'made');
::is(::servers_of('new'), '0 {C} weight=2; 1 {D} backup=true', 'its servers');
::is(join(' ', sort keys %{ ::said(::plus_at(GET => '/c/9/http/upstreams')) }), 'new up', 'it is among the upstreams');
::is(::plus(POST => 'new/servers', '{"server":"{A}"}'), '201 2 {A}', 'one more');
::is(::sorted(6, '/any?c=new'), 'AACCCC', 'requests');
::like(::change(DELETE => 'new'), qr/\A200 /, 'deleted');
::is(::plus(GET => 'new/servers'), '404 UpstreamNotFound: upstream not found', 'it is gone');
::is(join(' ', sort keys %{ ::said(::plus_at(GET => '/c/9/http/upstreams')) }), 'up', 'and not listed');



=== TEST 36: more than two levels, which have names
--- http_config
upstream up {
    checkups_cluster;
    checkups_level near { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
    checkups_level far { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
    checkups_level last { server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
}
--- init
::is(::servers_of('up'), '0 {A}; 1 {B} backup=true; 2 {C} backup=true', 'all but the first are backups');
::is(::plus(POST => 'up/servers', '{"server":"{D}","backup":true}'), '201 3 {D} backup=true', 'a backup');
::is_deeply([map { scalar @{ $_->{servers} } } @{ ::settings('up')->{levels} }], [1, 2, 1], 'goes to the second level');
::is(::plus(DELETE => 'up/servers/1'), '200 0 {A}; 3 {D} backup=true; 2 {C} backup=true', 'removed');
::is(::plus(DELETE => 'up/servers/3'), '200 0 {A}; 2 {C} backup=true', 'the last of a level in the midst');
::is_deeply([map { $_->{name} } @{ ::settings('up')->{levels} }], ['near', 'far', 'last'], 'levels with names stay');
::is(::plus(DELETE => 'up/servers/0'), '200 2 {C} backup=true', 'the last of the first');
::is(::answers(2, '/'), 'CC', 'requests');
::is(::plus(POST => 'up/servers', '{"server":"{B}"}'), '201 4 {B}', 'one for it');
::is(::answers(2, '/'), 'BB', 'requests');



=== TEST 37: all workers go by a change at once
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
--- init
my @workers = ::workers_of(2, ::port_of(9), '/');
my $id = 1;
for my $letter ('C', 'D', 'A', 'B', 'C') {
    ::is(::plus(PATCH => 'up/servers/0', qq({"server":"{$letter}"})) =~ s/ .*//r, 200, "PATCH: $letter") if $letter ne 'B';
    ::is(::plus(PATCH => 'up/servers/1', '{"down":true}') =~ s/ .*//r, 200, 'the other is down');
    next if $letter eq 'B';
    ::is(join('', map { $_->request('/')->answer->{body} } @workers), $letter x 2, 'each worker');
}
--- no_error_log
[crit]



=== TEST 38: what "status" and "clusters/" are stays as it was
--- init
::is(::plus_at(GET => '/c/status')->{code}, 200, 'status');
::is(::code_at(GET => '/c/clusters/no'), '404 ClusterNotFound', 'clusters');
::like(::plus_at(GET => '/c/clusters/no')->{body}, qr/"href":"docs\/reference\.md#checkups_api"/, 'its errors');
::is(::code_at(GET => '/c/no'), '404 PathNotFound', 'a path of neither');
::like(::change(DELETE => 'up/servers/{A}'), qr/\A200 /, 'one is removed');
::is(::change(DELETE => 'up/servers/{B}'), '409 LastServer: a level needs a server', 'the last one is kept there');



=== TEST 39: two lines of one address are two servers
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2; }
--- init
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {A} weight=2', 'both are shown');
::is(::plus(PATCH => 'up/servers/2', '{"weight":3}'), '200 2 {A} weight=3', 'the one is changed');
::is(::servers_of('up'), '0 {A}; 1 {B}; 2 {A} weight=3', 'not the other');
::is(::plus(PATCH => 'up/servers/2', '{"server":"{A}","weight":2}'), '200 2 {A} weight=2', 'with its address');
::is(::plus(POST => 'up/servers', '{"server":"{A}"}'), '409 EntryExists: the upstream has this server already', 'no third one');
::is(::plus(DELETE => 'up/servers/0'), '200 1 {B}; 2 {A} weight=2', 'the one is removed');
::is(::sorted(6, '/'), 'AAAABB', 'the other is used');
::is(::plus(PATCH => 'up/servers/2', '{"server":"{C}"}'), '200 2 {C} weight=2', 'or gets another address');
::is(::sorted(6, '/'), 'BBCCCC', 'requests');



=== TEST 40: what is known of a line stays its own when another one of its address goes
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 weight=3;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 down;
}
--- init
my $requests = sub { CORE::join ' ', map { "$_->{id}:$_->{requests}:$_->{state}" } @{ ::said(::plus_at(GET => '/c/9/http/upstreams/up'))->{peers} } };
::is(::answers(8, '/'), 'A' x 8, 'requests');
::is($requests->(), '0:2:up 1:6:up 2:0:down', 'as many as the weights say');
::like(::routes(4, '/', do => 'A=close'), qr/AA/, 'requests that fail, on one after the other');
::like($requests->(), qr/\A0:\d+:unavail 1:\d+:up 2:0:down\z/, 'but not the other, which never is');
my ($second) = $requests->() =~ /(1:\S+)/;
::is(::plus(PATCH => 'up/servers/0', '{"server":"{C}"}'), '200 0 {C} fail_timeout=3600s', 'the first one gets another address');
::is($requests->(), "0:0:up $second 2:0:down", 'and begins anew; the second is what it was');
::is(::plus(DELETE => 'up/servers/0'), '200 1 {A} weight=3 max_fails=0; 2 {B} down=true', 'the first one goes');
::is($requests->(), "$second 2:0:down", 'the second is what it was');
--- no_error_log
[crit]



=== TEST 41: versions, and changes that are only tried
--- init
my $version = ::plus_at(GET => '/c/9/http/upstreams/up')->{headers}{etag};
::like($version, qr/\A"\d+"\z/, 'an upstream has the version as ETag');
::is(::plus_at(GET => "/c/9/http/upstreams/up/$_")->{headers}{etag}, $version, $_) for 'servers', 'servers/', 'servers/1';
::is(::plus(POST => 'up/servers?dry_run=1', '{"server":"{C}","weight":2}'), '200 2 {C} weight=2', 'POST');
::is(::plus(PATCH => 'up/servers/1?dry_run=1', '{"weight":7}'), '200 1 {B} weight=7', 'PATCH');
::is(::plus(DELETE => 'up/servers/1?dry_run=1'), '200 0 {A}', 'DELETE');
::is(::plus(DELETE => 'up/servers/5?dry_run=1') =~ s/:.*//r, '404 UpstreamServerNotFound', 'is judged');
::is(::plus(DELETE => 'up/servers/1?dry_run=yes') =~ s/:.*//r, '400 ArgumentInvalid', 'the argument, too');
::is(::servers_of('up'), '0 {A}; 1 {B}', 'nothing has changed');
::is(::plus_at(GET => '/c/9/http/upstreams/up')->{headers}{etag}, $version, 'nor the version');
::answers(2, '/');
::is(::plus(DELETE => 'up?dry_run=1'), '204', 'a reset');
::is(::said(::plus_at(GET => '/c/9/http/upstreams/up'))->{peers}[0]{requests}, 1, 'is none');
::is(::plus(PATCH => 'up/servers/1?dry_run=0', '{"weight":7}'), '200 1 {B} weight=7', 'a change');
::isnt(::plus_at(GET => '/c/9/http/upstreams/up')->{headers}{etag}, $version, 'has another version');



=== TEST 42: slow start begins when the server is added
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=10; }
--- init
::is(::plus(POST => 'up/servers', '{"server":"{B}","weight":10,"slow_start":"1h"}'), '201 1 {B} weight=10 slow_start=3600s', 'by this API');
my $share = () = ::answers(44, '/') =~ /B/g;
::ok($share >= 2 && $share <= 6, "$share of 44 requests, not 22") or ::diag($share);
::like(::change(POST => 'up/servers', '{"server":"{C}","weight":10,"slow_start":"1h"}'), qr/\A201 /, 'by the other one');
$share = () = ::answers(48, '/') =~ /C/g;
::ok($share >= 2 && $share <= 6, "$share of 48 requests, not 16") or ::diag($share);
::is(::plus(PATCH => 'up/servers/1', '{"slow_start":"0s"}'), '200 1 {B} weight=10', 'its end');
$share = () = ::answers(42, '/') =~ /B/g;
::ok($share >= 18, "$share of 42 requests then");



=== TEST 43: the zone is full
--- http_config
checkups_zone plus:64k;
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- init
my ($added, $last) = (0);
for my $port (1 .. 2000) {
    $last = ::plus(POST => 'up/servers', qq({"server":"127.0.0.9:$port","down":true}));
    last if $last !~ /\A201 /;
    $added++;
}
::like($last, qr/\A400 UpstreamOutOfMemory: /, 'one is refused');
my $before = ::servers_of('up');
::is(scalar(split /; /, $before), $added + 1, "those $added before it are there");
::like(::plus(POST => 'up/servers', '{"server":"{B}"}'), qr/\A400 UpstreamOutOfMemory: /, 'so is another one');
::is(::servers_of('up'), $before, 'nothing changed');
::is(::answers(2, '/'), 'AA', 'requests');
::is(::answers(2, '/'), 'AA', 'requests');
::is(::plus(GET => 'up/servers/0'), '200 0 {A}', 'one of them');
# Earlier settings give way.
::like(::plus(DELETE => "up/servers/$_"), qr/\A200 /, "one less, $_") for 1 .. 3;
::like(::plus(PATCH => 'up/servers/0', '{"weight":2}'), qr/\A200 /, 'and a change');
--- no_error_log
[emerg]



=== TEST 44: bodies in chunks
--- init
sub ::in_chunks {
    my ($method, $path, @chunks) = @_;
    my $text = join '', map { sprintf "%x\r\n%s\r\n", length, $_ } map { Changing::filled($_) } @chunks;
    my $connection = ::connect_to()->say_raw("$method /c/9/http/upstreams/$path HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n${text}0\r\n\r\n");
    return Plus::line($connection->answer);
}
::is(::in_chunks(POST => 'up/servers', '{"server":', '"{C}"', '}'), '201 2 {C}', 'POST');
::is(::in_chunks(PATCH => 'up/servers/2', '{"weight":3}'), '200 2 {C} weight=3', 'PATCH');
::is(::in_chunks(DELETE => 'up/servers/2', 'x'), '200 0 {A}; 1 {B}', 'DELETE, whatever its body');
::is(::in_chunks(POST => 'up/servers', '{"server":"{C}","route":"', ('x' x 65536) x 17, '"}'), '413 BodyTooLarge: the body is larger than 1048576 bytes', 'too long');
::is(::in_chunks(POST => 'up/servers'), '415 JsonError: EOF while parsing a value at line 1 column 0', 'none');
--- no_error_log
[crit]



=== TEST 45: upstreams with other methods of balancing
--- http_config
upstream up { checkups_cluster; checkups_balance hash $arg_key; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream least { checkups_cluster; checkups_balance least_conn; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- config
location /least { proxy_pass http://least/; }
--- init
for my $up (['up', '/?key=1'], ['least', '/least']) {
    my ($name, $path) = @$up;
    ::is(::plus(POST => "$name/servers", '{"server":"{B}"}'), '201 1 {B}', "$name: one more");
    ::is(::plus(POST => "$name/servers", '{"server":"{C}","backup":true}'), '201 2 {C} backup=true', 'a backup');
    ::is(::plus(DELETE => "$name/servers/0"), '200 1 {B}; 2 {C} backup=true', 'the first is removed');
    ::is(::answers(2, $path), 'BB', 'requests');
    ::is(::plus(PATCH => "$name/servers/1", '{"server":"{D}"}'), '200 1 {D}', 'another address');
    ::is(::answers(2, $path), 'DD', 'requests');
    ::is(::plus(DELETE => "$name/servers/1"), '200 2 {C} backup=true', 'removed');
    ::is(::answers(2, $path), 'CC', 'requests');
    ::is(::plus(DELETE => "$name/servers/2"), '200 ', 'removed');
    ::is(::ask($path)->{code}, 502, 'requests');
    ::is(::plus(POST => "$name/servers", '{"server":"{A}"}'), '201 3 {A}', 'and one added');
    ::is(::answers(2, $path), 'AA', 'requests');
}
--- error_log
no servers available
