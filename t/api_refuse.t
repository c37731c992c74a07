# What the API refuses: each time with the error in its own shape, and nothing is
# changed by it: what "clusters/" says is the same before and after.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use IO::Select ();
use JSON::PP ();
use Time::HiRes ();
use Backends;
use Changing;

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => <<'END' . backends('A' .. 'B')) unless defined $block->http_config;
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup; }
END
    $block->set_value(config => ($block->config // 'location /c/ { checkups_api write=on; }') . "\nlocation / { proxy_pass http://up; }\n");
    $block->set_value(init => "::forget();\n" . $block->init);
    $block->set_value(request => 'GET /') unless defined $block->request;
    $block->set_value(response_body => 'A') unless defined $block->response_body;
    $block->set_value(no_error_log => "[crit]\nat run time") unless defined $block->no_error_log;
});

# A body of PUT with these servers in one level.
sub with_servers { return '{"levels":[{"servers":[' . join(',', @_) . ']}]}' }

# A server with one member more.
sub with_member { return with_servers(qq({"server":"{A}",$_[0]})) }

# Refusals of bodies of PUT of a new cluster, and of the one that is there.
sub refuses_put {
    while (my ($body, $sentence) = splice @_, 0, 2) {
        my $expected = ref $sentence ? qr/\A400 BodyInvalid: $sentence\z/ : "400 BodyInvalid: $sentence";
        refused([PUT => 'up', $body], $expected, [PUT => 'new', $body], $expected);
    }
    return;
}

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: a body that is not JSON
--- init
::refuses_put(
    '' => 'EOF while parsing a value at line 1 column 0',
    ' ' => 'EOF while parsing a value at line 1 column 1',
    'x' => 'expected value at line 1 column 1',
    '{' => 'EOF while parsing an object at line 1 column 1',
    '{"tries":2' => 'EOF while parsing an object at line 1 column 10',
    '{"tries":2,}' => qr/trailing comma at line 1 column 12/,
    '{"tries":2}x' => 'trailing characters at line 1 column 12',
    '{"tries":2}{"tries":2}' => 'trailing characters at line 1 column 12',
    "{'tries':2}" => 'key must be a string at line 1 column 2',
    '{"tries":NaN}' => qr/expected .*at line 1 column 10/,
    '{"tries":Infinity}' => qr/expected .*at line 1 column 10/,
    '{"tries":-Infinity}' => qr/.*at line 1 column 11/,
    '{"tries":01}' => qr/.*at line 1 column 1[01]/,
    '{"tries":0x1}' => qr/.*at line 1 column 11/,
    "{\"name\":\"a\nb\"}" => qr/control character.*/,
    "{\"name\":\"\xff\"}" => qr/invalid unicode code point at line 1 column \d+/,
    '{"name":"\ud800"}' => qr/.*at line 1 column \d+/,
    "\xef\xbb\xbf{}" => 'expected value at line 1 column 1',
);



=== TEST 2: JSON that is no object
--- init
::refuses_put(
    'null' => 'invalid type: null, expected an object at line 1 column 4',
    'true' => 'invalid type: boolean `true`, expected an object at line 1 column 4',
    '1' => 'invalid type: integer `1`, expected an object at line 1 column 1',
    '"up"' => 'invalid type: string "up", expected an object at line 1 column 4',
    '[]' => qr/invalid type: sequence, expected an object at line 1 column \d/,
    '["up"]' => qr/invalid type: sequence, expected an object at line 1 column \d/,
);



=== TEST 3: JSON 10,000 deep
--- init
my $deep = 10_000;
for my $around (['{"levels":%s}', '[', ']'], ['{"checks":%s}', '[', ']'], ['%s', '{"a":', '}'], ['%s', '[', ']'], ['{"checks":[%s]}', '{"type":', '}'], ['{"cluster":%s}', '[', ']'],
    ['{"cluster":%s}', '{"a":', '}'], ['{"levels":[{"servers":[{"server":"{A}","level":%s}]}]}', '[', ']'])
{
    my ($body, $open, $close) = @$around;
    $body = sprintf $body, $open x $deep . '1' . $close x $deep;
    ::refused([PUT => 'new', $body], qr/\A400 BodyInvalid: /, [PUT => 'up', $body], qr/\A400 BodyInvalid: /);
}
for my $body ('{"server":' . '[' x $deep . ']' x $deep . '}', '{"weight":' . '{"a":' x $deep . '1' . '}' x $deep . '}', '{"level":' . '[' x $deep . ']' x $deep . '}', '[' x $deep) {
    ::refused([PATCH => 'up/servers/{A}', $body], qr/\A400 BodyInvalid: /, [POST => 'up/servers', $body], qr/\A400 BodyInvalid: /,
        [POST => 'up/rollback', $body], qr/\A400 BodyInvalid: /);
}



=== TEST 4: fields that there are not are named
--- init
::refuses_put(
    '{"a":1}' => qr/unknown field `a`, expected one of `name`, .*/,
    '{"levels":[{"servers":[{"server":"{A}"}],"wait":1}]}' => qr/unknown field `wait`, expected .*/,
    ::with_member('"wieght":1') => qr/unknown field `wieght`, expected one of `server`, `weight`, .*/,
    ::with_member('"backup":true') => qr/unknown field `backup`, .*/,
    ::with_member('"level":1') => 'unknown field "level" of a server',
    '{"cluster":[{"servers":[{"host":"127.0.0.1","port":1,"wait":1}]}]}' => qr/.*/,
    '{"Balance":"round_robin"}' => qr/unknown field `Balance`, .*/,
    '{"":1}' => qr/unknown field ``, .*/,
    '{"tries":2,"tries":3}' => qr/duplicate field `tries` at line 1 column \d+/,
    ::with_member('"weight":1,"weight":2') => qr/duplicate field `weight` at line 1 column \d+/,
);
::refused(
    [PATCH => 'up/servers/{A}', '{"a":1}'], qr/\A400 BodyInvalid: unknown field `a`, expected one of /,
    [POST => 'up/servers', '{"server":"{B}","a":1}'], qr/\A400 BodyInvalid: unknown field `a`, expected one of /,
    [POST => 'up/rollback', '{"version":1,"a":1}'], qr/\A400 BodyInvalid: unknown field `a`, expected `version`/,
    [POST => 'up/rollback', '{}'], qr/\A400 BodyInvalid: missing field `version`/,
);



=== TEST 5: wrong types
--- init
my @wrong;
for (['name', '1'], ['balance', '1'], ['order', '1'], ['protected', 'true'], ['tries', '"2"'], ['tries', 'true'], ['tries_timeout', '2'], ['connect_timeout', '2'],
    ['send_timeout', '[]'], ['read_timeout', '{}'], ['fail_status', '"500"'], ['fail_status', '[500]'], ['levels', '{}'], ['levels', '[[]]'], ['levels', '"x"'],
    ['checks', '{}'], ['checks', '"tcp"'], ['cluster', '1'])
{
    push @wrong, sprintf('{"%s":%s}', @$_), qr/(?:invalid type: .*|an array of levels.*)/;
}
for (['server', '1'], ['weight', '"2"'], ['weight', '[2]'], ['max_conns', 'true'], ['max_fails', '"x"'], ['fail_timeout', '10'], ['slow_start', '10'], ['down', '1'], ['down', '"true"'],
    ['drain', '0'], ['resolve', '1'], ['service', '1'], ['check', '"off"'], ['check_port', '"81"'], ['check_host', '1'])
{
    my $field = sprintf '"%s":%s', @$_;
    push @wrong, ::with_servers($_->[0] eq 'server' ? "{$field}" : "{\"server\":\"{A}\",$field}"), qr/invalid type: .*/;
    ::refused([PATCH => 'up/servers/{A}', "{$field}"], qr/\A400 BodyInvalid: invalid type: /);
}
::refuses_put(@wrong);
::refuses_put('{"checks":[1]}' => qr/.*/, '{"levels":[{"servers":{}}]}' => qr/invalid type: map, .*/, '{"levels":[{"servers":["127.0.0.1:1"]}]}' => qr/invalid type: string .*/);
::refused([POST => 'up/rollback', '{"version":"1"}'], qr/\A400 BodyInvalid: invalid type: /, [POST => 'up/rollback', '{"version":-1}'], qr/\A400 BodyInvalid: /,
    [POST => 'up/rollback', '{"version":1.5}'], qr/\A400 BodyInvalid: /, [POST => 'up/rollback', '{"version":18446744073709551616}'], qr/\A400 BodyInvalid: /,
    [POST => 'up/rollback', '{"version":0}'], '404 VersionNotFound: version not found');



=== TEST 6: numbers that are too small, too large or none
--- init
my @weights = map { [weight => $_, 1] } '0', '-1', '1.5', '1e3', '1000001', '4294967296', '18446744073709551616', '1e400', '-0';
my @others = map { ([max_conns => $_, 0], [max_fails => $_, 0]) } '-1', '0.5', '1000001', '99999999999999999999';
for (@weights, @others) {
    my ($name, $number, $least) = @$_;
    my $refusal = qr/\A400 BodyInvalid: (?:invalid value in "$name=.*", it must be a number from $least to 1000000|number out of range at line 1 column \d+)\z/;
    ::refused([PATCH => 'up/servers/{A}', qq({"$name":$number})], $refusal,
        [PUT => 'up', ::with_member(qq("$name":$number))], $refusal,
        [POST => 'up/servers', qq({"server":"127.0.0.1:1","$name":$number})], $refusal);
}
::refused(map { [PUT => 'up', qq({"tries":$_})], qr/\A400 BodyInvalid: invalid value in "tries=.*", it must be a number from 1 to 1000000\z/ } '0', '-1', '1000001', '1.5');
::refused(map { [PATCH => 'up/servers/{A}', qq({"check_port":$_})], qr/\A400 BodyInvalid: invalid value in "check_port=.*", it must be a number from 1 to 65535\z/ } '0', '-1', '65536', '1.5');



=== TEST 7: times
--- init
my @times = ('', ' ', 'x', '-1s', '1', '1.5s', '10 s', '10sec', "10s\\u0000", '99999999999999999999s', '1y');
@times = grep { $_ ne '1' && $_ ne '1y' } @times;
::refused(map { my $time = $_; map { [PATCH => 'up/servers/{A}', qq({"$_":"$time"})], qr/\A400 BodyInvalid: invalid value in "$_=/ } 'fail_timeout', 'slow_start' } @times);
::refused(map { my $time = $_; map { [PUT => 'up', qq({"$_":"$time"})], qr/\A400 BodyInvalid: invalid value in "$_=/ } 'tries_timeout', 'connect_timeout', 'send_timeout', 'read_timeout' } @times, '0', '0s', '0ms');



=== TEST 8: clusters and levels without servers, and what a cluster must have
--- init
::refuses_put(
    '{"levels":[]}' => 'a cluster needs a level with servers',
    '{"levels":[{"servers":[]}]}' => 'level "1" has no servers',
    '{"levels":[{"servers":[{"server":"{A}"}]},{"name":"far","servers":[]}]}' => 'level "far" has no servers',
    '{"levels":[{}]}' => qr/missing field `servers` at line 1 column \d+/,
    '{"levels":[{"name":"x"}]}' => qr/missing field `servers` at line 1 column \d+/,
    '{"cluster":[]}' => 'a cluster needs a level with servers',
    '{"cluster":{}}' => 'a cluster needs a level with servers',
    '{"cluster":[{"servers":[]}]}' => 'level "1" has no servers',
    '{"levels":[{"servers":[{}]}]}' => 'a server needs "server"',
    '{"levels":[{"servers":[{"weight":2}]}]}' => 'a server needs "server"',
    '{"cluster":[{"servers":[{"host":"127.0.0.1"}]}]}' => qr/.*/,
    '{"cluster":[{"servers":[{"port":1}]}]}' => qr/.*/,
    '{"levels":[{"servers":[{"server":"{A}"}]}],"cluster":[{"servers":[{"host":"127.0.0.1","port":1}]}]}' => '"levels" and "cluster" mean the same',
    '{"name":"other","levels":[{"servers":[{"server":"{A}"}]}]}' => qr/"name" must be "(?:up|new)", as in the path/,
    '{"order":"1,2","levels":[{"servers":[{"server":"{A}"}]}]}' => '"order" is set by checkups_order in the configuration only',
);
::refused(
    [PUT => 'new', '{}'], '400 BodyInvalid: a new cluster needs "levels" with servers',
    [PUT => 'new', '{"balance":"least_conn"}'], '400 BodyInvalid: a new cluster needs "levels" with servers',
    [PUT => 'new', '{"levels":null}'], '400 BodyInvalid: a new cluster needs "levels" with servers',
    [POST => 'up/servers', '{}'], '400 BodyInvalid: a server needs "server"',
    [DELETE => 'up/servers/{A}'], '409 LastServer: a level needs a server',
);



=== TEST 9: an address twice in one level, however it is written
--- init
::refuses_put(
    ::with_servers('{"server":"{A}"}', '{"server":"{B}"}', '{"server":"{A}"}') => 'server "{A}" is twice in level "1"',
    ::with_servers('{"server":"[::1]:80"}', '{"server":"[0:0:0:0:0:0:0:1]:80"}') => 'server "[::1]:80" is twice in level "1"',
    ::with_servers('{"server":"unix:/a"}', '{"server":"unix:/a"}') => 'server "unix:/a" is twice in level "1"',
    '{"levels":[{"name":"a","servers":[{"server":"{A}"},{"server":"{A}"}]}]}' => 'server "{A}" is twice in level "a"',
    '{"cluster":[{"servers":[{"host":"127.0.0.1","port":1},{"host":"127.0.0.1","port":1}]}]}' => 'server "127.0.0.1:1" is twice in level "1"',
    '{"levels":[{"name":"a","servers":[{"server":"{A}"}]},{"name":"a","servers":[{"server":"{B}"}]}]}' => 'level "a" is there twice',
);
::refused([POST => 'up/servers', '{"server":"{A}"}'], '409 ServerExists: the level has this server already',
    [POST => 'up/servers?level=2', '{"server":"{B}"}'], '409 ServerExists: the level has this server already');



=== TEST 10: servers that have no port, or none that can be
--- init
for ('127.0.0.1', '[::1]', 'localhost', '127.0.0.1:', '127.0.0.1:0', '127.0.0.1:65536', '127.0.0.1:-1', '127.0.0.1:99999999999', '127.0.0.1:http', '127.0.0.1:80x', 'localhost:0', '[::1]:0', '[::1]:65536',
    '127.0.0.1:+80', '127.0.0.1: 80')
{
    my $what = /:0$/ || /:[^:\]]*$/ && !/^\[::1\]$/ ? 'the port must be from 1 to 65535' : 'it has no port';
    my $expected = qr/\A400 BodyInvalid: server "\Q$_\E": (?:it has no port|the port must be from 1 to 65535)\z/;
    ::refused([POST => 'up/servers', qq({"server":"$_"})], $expected, [PUT => 'up', ::with_servers(qq({"server":"$_"}))], $expected);
}
for my $port (0, -1, 65536, 1.5, '"80"', '99999999999999999999') {
    ::refused([PUT => 'up', qq({"cluster":[{"servers":[{"host":"127.0.0.1","port":$port}]}]})], qr/\A400 BodyInvalid: /);
}



=== TEST 11: servers that are neither an address nor a name
--- init
for ('', ' ', ':80', '256.1.1.1:80', '1.2.3:80', '1.2.3.4.5:80', '::1:80', '[::g]:80', '[fe80::1%1]:80', '-a.example:80', '.example:80', 'a..example:80', 'a b:80', 'a/b:80', 'http://a:80', '$a:80', "a\\u0000:80",
    "a\\n:80", 'unix:', 'unix:a', 'unix:/a:b', 'unix:/a\\u0000', 'unix:/' . 'a' x 107, ('a' x 254) . ':80', "\x{c3}\x{a4}.example:80")
{
    ::refused([POST => 'up/servers', qq({"server":"$_"})], qr/\A400 BodyInvalid: server ".*": /);
}
::refused(
    [POST => 'up/servers', '{"server":"a.example:80"}'], '400 NoResolver: a server that is a name needs "resolver" in the http block of the configuration',
    [POST => 'up/servers', '{"server":"a.example","service":"http"}'], '400 NoResolver: a server that is a name needs "resolver" in the http block of the configuration',
    [POST => 'up/servers', '{"server":"127.0.0.1:80","resolve":true}'], '400 BodyInvalid: server "127.0.0.1:80": "resolve" is for names',
    [POST => 'up/servers', '{"server":"127.0.0.1:80","service":"http"}'], '400 BodyInvalid: server "127.0.0.1:80": "service" is for names',
    [PATCH => 'up/servers/{A}', '{"server":"{B}"}'], '400 BodyInvalid: "server", "service", "resolve" and "level" of a server cannot be changed',
    [PATCH => 'up/servers/{A}', '{"resolve":false}'], '400 BodyInvalid: "server", "service", "resolve" and "level" of a server cannot be changed',
);



=== TEST 12: names that are not names
--- init
my $put = ::with_servers('{"server":"{A}"}');
my $wrong = '400 NameInvalid: a name must be 1 to 128 letters, digits and the characters . _ : -, and that of a level no number';
for ('a%20b', 'a%2Fb', 'a%22b', 'a%0ab', '%C3%A4', 'a%24b', 'a+b', 'a,b', 'a;b', 'x' x 129, '%7Eup', '(up)', 'a=b', 'a*b') {
    ::refused([PUT => $_, $put], $wrong);
}
::refused([PUT => '%FF', $put], qr/\A404 PathNotFound/, [PUT => '%2e%2e%2Fup', $put], qr/\A404 PathNotFound/);
for ('', '1', '12', 'a b', '\u00e4', '$a', 'a/b', 'x' x 129) {
    ::refused([PUT => 'new', qq({"levels":[{"name":"$_","servers":[{"server":"{A}"}]}]})], $wrong);
}
::like(::change(PUT => 'A.b_c:d-' . 'x' x 120, $put), qr/\A201 /, 'what may be in a name, and how long it may be');
::like(::change(PUT => '1', $put), qr/\A201 /, 'a number');
--- no_error_log
[crit]



=== TEST 13: balance, protected, statuses
--- init
::refuses_put(map { my ($field, $sentence) = @$_; ::with_servers('{"server":"{A}"}') =~ s/\}\z/,$field}/r => $sentence }
    ['"balance":"fastest"', qr/.*"fastest".*/],
    ['"balance":""', qr/.+/],
    ['"balance":"hash"', qr/.+/],
    ['"balance":"hash "', qr/.+/],
    ['"balance":"hash $"', '"balance": the key of a hash must be one variable, as $request_uri'],
    ['"balance":"hash $a b"', '"balance": the key of a hash must be one variable, as $request_uri'],
    ['"balance":"nginx"', qr/.+/],
    ['"balance":"round_robin x"', qr/.+/],
    ['"protected":"some"', qr/.*protected=some.*all, one or off.*/],
    ['"fail_status":["200x"]', qr/.*"200x".*/],
    ['"fail_status":["99"]', qr/.*"99".*/],
    ['"fail_status":["600"]', qr/.*"600".*/],
    ['"fail_status":["504-502"]', qr/.*"504-502".*/],
);



=== TEST 14: checks
--- init
::refuses_put(map { my ($check, $sentence) = @$_; ::with_servers('{"server":"{A}"}') =~ s/\}\z/,"checks":[$check]}/r => $sentence }
    ['{}', 'a check needs a "type", which must be a string'],
    ['{"type":1}', 'a check needs a "type", which must be a string'],
    ['{"type":"smtp"}', qr/check: .*"smtp".*/],
    ['{"type":"off"}', 'a check cannot be "off" here'],
    ['"web"', 'no check "web" is defined by checkups_check_define'],
    ['""', 'no check "" is defined by checkups_check_define'],
    ['1', 'a check must be an object, or the name of a defined one'],
    ['null', 'a check must be an object, or the name of a defined one'],
    ['{"type":"http","url":"/"}', qr/check: .*"url=\/".*/],
    ['{"type":"http","uri":"x"}', qr/check: .*"uri=x".*/],
    ['{"type":"http","uri":["/"]}', '"uri" of a check must be a string or a number'],
    ['{"type":"http","headers":"a: b"}', 'unknown field "headers" of a check, or of another type'],
    ['{"type":"http","headers":["a"]}', qr/check: .*/],
    ['{"type":"http","headers":["a: b\r\nc: d"]}', qr/check: .*/s],
    ['{"type":"http","headers":[1]}', '"headers" must be an array of strings'],
    ['{"type":"tcp","interval":"-1s"}', qr/check: .*"interval=-1s".*/],
    ['{"type":"tcp","fails":0}', qr/check: .*"fails=0".*/],
    ['{"type":"tcp","port":65536}', qr/check: .*"port=65536".*/],
    ['{"type":"tcp","mandatory":"maybe"}', '"mandatory" must be off, on or persistent'],
    ['{"type":"http","match":"none"}', 'there is no checkups_match "none"'],
    (map { ["{\"type\":\"redis\",\"$_\":\"/etc/passwd\"}", "\"$_\" stands in checkups_check_define only: the API names no files"] } 'password_file', 'ssl_trusted_certificate', 'ssl_certificate', 'ssl_certificate_key'),
    [join(',', ('{"type":"tcp"}') x 9), 'a cluster has at most 8 checks'],
);



=== TEST 15: too many levels and servers
--- init
my $level = '{"servers":[{"server":"{A}"}]}';
::refused([PUT => 'new', '{"levels":[' . join(',', ($level) x 65) . ']}'], '400 BodyInvalid: a cluster has at most 64 levels');
::refused([PUT => 'new', ::with_servers(map { my $high = $_; map { qq({"server":"10.0.$high.$_:80"}) } 0 .. 250 } 0 .. 40)], '400 BodyInvalid: a cluster has at most 10000 servers');
::refused([PUT => 'new', '{"balance":"hash $request_uri","levels":[{"servers":[{"server":"{A}","weight":1000000}]}]}'], qr/\A400 BodyInvalid: the weights of a level add up to 1000000, with a hash they may to 20000\z/);
::refused([PUT => 'new', '{"levels":[{"servers":[{"server":"' . 'x' x 1000 . '"}]}]}'], qr/\A400 BodyInvalid: server "x{100}": it has no port\z/);
::refused([PUT => 'new', '{"' . 'x' x 100000 . '":1}'], qr/\A400 BodyInvalid: unknown field `x{1,400}\z/);



=== TEST 16: a body that is too large
--- config
location /c/ { checkups_api write=on; }
--- init
my $large = '{"levels":[{"servers":[{"server":"{A}"}]}]' . ' ' x (1 << 20) . '}';
::refused([PUT => 'new', $large], '413 BodyTooLarge: the body is larger than 1048576 bytes', [PATCH => 'up/servers/{A}', '{' . ' ' x (1 << 20) . '}'], '413 BodyTooLarge: the body is larger than 1048576 bytes');
my $before = ::whole('');
my $connection = ::connect_to();
$connection->say_raw(join "\r\n", 'PUT /c/clusters/new HTTP/1.1', 'Host: a', 'Content-Type: application/json', 'Transfer-Encoding: chunked', '', '');
$connection->say_raw("10000\r\n" . ' ' x 0x10000 . "\r\n") for 1 .. 17;
$connection->say_raw("0\r\n\r\n");
my $answer = $connection->answer;
::is($answer->{code}, 413, 'chunked');
::like($answer->{body}, qr/"code":"BodyTooLarge"/, 'with the error');
::is(::whole(''), $before, 'nothing changed');
my $fits = ::with_servers('{"server":"{B}"}');
$fits = ::server_of('B') && $fits =~ s/\{B\}/::server_of('B')/er;
$fits .= ' ' x ((1 << 20) - length $fits);
::like(::change(PUT => 'new', $fits), qr/\A201 /, 'one that is as large as it may be');
--- no_error_log
[crit]



=== TEST 17: other types than application/json
--- init
my $put = ::with_servers('{"server":"{B}"}');
my $wrong = '415 UnsupportedMediaType: the body must be application/json';
for my $type ('text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=a', 'text/json', 'application/jsonp', 'application/json-patch+json', 'text/plain; application/json', 'application/json, text/plain', '', undef) {
    ::refused(
        [PUT => 'new', $put, type => $type], $wrong,
        [PUT => 'up', $put, type => $type], $wrong,
        [POST => 'up/servers', '{"server":"{B}"}', type => $type], $wrong,
        [PATCH => 'up/servers/{A}', '{"weight":2}', type => $type], $wrong,
        [POST => 'up/rollback', '{"version":1}', type => $type], $wrong,
    );
}
for my $type ('application/json; charset=utf-8', 'Application/JSON', 'application/json ;x=y') {
    ::like(::change(PATCH => 'up/servers/{A}?dry_run=1', '{"weight":2}', type => $type), qr/\A200 /, $type);
}



=== TEST 18: no other origin is told that it may
--- init
for my $method ('OPTIONS', 'PUT', 'GET') {
    my $answer = ::call($method => 'up', $method eq 'PUT' ? '{"a":1}' : undef, headers => ['Origin: http://evil.example', 'Access-Control-Request-Method: PUT', 'Access-Control-Request-Headers: content-type']);
    ::is(scalar(grep { /^access-control/ } keys %{ $answer->{headers} }), 0, "$method: no CORS");
    ::is($answer->{code}, { OPTIONS => 405, PUT => 400, GET => 200 }->{$method}, $method);
}



=== TEST 19: methods that are not served, and those that are
--- init
my %allow = ('' => 'GET, HEAD', up => 'GET, HEAD, PUT, DELETE', new => 'GET, HEAD, PUT, DELETE', 'up/servers' => 'GET, HEAD, POST', 'up/servers/{A}' => 'GET, HEAD, PATCH, DELETE', 'up/rollback' => 'POST', 'up/select' => 'GET, HEAD', 'up/servers/{A}/feedback' => 'POST');
for my $path (sort keys %allow) {
    for my $method (qw(GET HEAD POST PUT PATCH DELETE OPTIONS PROPFIND MKCOL LOCK)) {
        next if $allow{$path} =~ /\b$method\b/;
        my $body = $method =~ /^P(OST|UT|ATCH)/ ? '{}' : undef;
        my $answer = ::call($method, $path, $body);
        ::is("$answer->{code} " . ($answer->{headers}{allow} // 'none'), "405 $allow{$path}", "$method $path");
        next if $method eq 'HEAD';
        ::like($answer->{body}, qr/\A\{"error":\{"status":405,"text":"method not allowed","code":"MethodNotAllowed"\},"request_id":"[0-9a-f]{32}","href":"docs\/reference\.md#checkups_api"\}\z/, 'the error');
    }
}



=== TEST 20: without write=on nothing can be changed
--- config
location /c/ { checkups_api; }
--- init
my $wrong = '405 MethodDisabled: method is disabled: checkups_api has no write=on';
my @requests = ([PUT => 'new', ::with_servers('{"server":"{B}"}')], [PUT => 'up', '{}'], [DELETE => 'up'], [DELETE => 'no'], [POST => 'up/servers', '{"server":"{B}"}'], [PATCH => 'up/servers/{A}', '{"weight":2}'], [DELETE => 'up/servers/{A}'],
    [POST => 'up/rollback', '{"version":1}'], [PUT => 'up?dry_run=1', '{}'], [PUT => 'up', '{}', type => undef], [PUT => 'up', 'x' x (2 << 20)]);
::refused(map { $_ => $wrong } @requests[0 .. 9]);
my %allow = (new => 'GET, HEAD', up => 'GET, HEAD', 'up/servers' => 'GET, HEAD', 'up/servers/{A}' => 'GET, HEAD', 'up/rollback' => '');
for my $path (sort keys %allow) {
    my $method = { up => 'PUT', new => 'PUT', 'up/servers' => 'POST', 'up/servers/{A}' => 'PATCH', 'up/rollback' => 'POST' }->{$path};
    ::is(::call($method, $path, '{}')->{headers}{allow}, $allow{$path}, "$path: Allow");
}



=== TEST 21: who may write is for nginx to say
--- config
location /c/ { checkups_api write=on; limit_except GET { deny all; } }
--- init
my $before = ::whole('');
::is(::call(PUT => 'up', '{"tries":2}')->{code}, 403, 'not this one');
::is(::call(DELETE => 'up')->{code}, 403, 'nor this one');
::is(::whole(''), $before, 'nothing changed');



=== TEST 22: a slow body times out
--- config
location /c/ { checkups_api write=on; client_body_timeout 300ms; }
--- init
my $before = ::whole('');
my $connection = ::connect_to();
my $started = Time::HiRes::time();
$connection->say_raw(join "\r\n", 'PUT /c/clusters/up HTTP/1.1', 'Host: a', 'Content-Type: application/json', 'Content-Length: 11', '', '{"tries":');
my $answer = $connection->answer;
::ok($answer->{code} eq '' || $answer->{code} eq '408', 'no success');
::ok(Time::HiRes::time() - $started < 3, 'after a while');
::is(::whole(''), $before, 'nothing changed');
$connection = ::connect_to();
$connection->say_raw(join "\r\n", 'PUT /c/clusters/up HTTP/1.1', 'Host: a', 'Content-Type: application/json', 'Content-Length: 11', '', '{"tries":');
undef $connection;
Time::HiRes::sleep(0.1);
::is(::whole(''), $before, 'nor by half a body');



=== TEST 23: a client that goes away while its change waits
--- init
for my $round (1 .. 20) {
    my $connection = ::connect_to();
    my $body = '{"tries":' . (1 + $round) . '}';
    $connection->say_raw(join "\r\n", 'PUT /c/clusters/up HTTP/1.1', 'Host: a', 'Content-Type: application/json', 'Content-Length: ' . length $body, '', $body);
    undef $connection;
}
Time::HiRes::sleep(0.2);
my $tries = ::settings('up')->{tries};
::ok(!defined $tries || $tries =~ /\A\d+\z/, 'the API answers');
--- no_error_log
[crit]



=== TEST 24: arguments
--- init
::refused(
    [PATCH => 'up/servers/{A}?dry_run=yes', '{"weight":2}'], '400 ArgumentInvalid: "dry_run" must be 0 or 1',
    [PATCH => 'up/servers/{A}?level=%FF', '{"weight":2}'], '400 ArgumentInvalid: "level" must be the name or number of a level',
    [PATCH => 'up/servers/{A}?level=9', '{"weight":2}'], '404 LevelNotFound: level not found',
    [PATCH => 'up/servers/{A}?level=', '{"weight":2}'], '404 LevelNotFound: level not found',
    [PATCH => 'up/servers/{A}?level=-1', '{"weight":2}'], '404 LevelNotFound: level not found',
    [PATCH => 'up/servers/{A}?level=99999999999999999999', '{"weight":2}'], '404 LevelNotFound: level not found',
    [PATCH => 'up/servers/{A}?level=2', '{"weight":2}'], '404 ServerNotFound: server not found',
    [PATCH => 'up/servers/127.0.0.1:1', '{"weight":2}'], '404 ServerNotFound: server not found',
    [PATCH => 'up/servers/x', '{"weight":2}'], '404 ServerNotFound: server not found',
    [DELETE => 'up/servers/127.0.0.1:1'], '404 ServerNotFound: server not found',
    [DELETE => 'no'], '404 ClusterNotFound: cluster not found',
    [PATCH => 'no/servers/{A}', '{"weight":2}'], '404 ClusterNotFound: cluster not found',
);



=== TEST 25: a cluster whose servers nginx selects
--- http_config
upstream up { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; checkups_check tcp interval=1m; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 A; } }
--- init
my $wrong = '409 BalancedByNginx: nginx selects the servers of this cluster, as its upstream has no checkups_cluster';
::refused([PUT => 'up', ::with_servers('{"server":"127.0.0.1:1"}')], $wrong, [DELETE => 'up'], $wrong, [POST => 'up/servers', '{"server":"127.0.0.1:1"}'], $wrong, [PATCH => 'up/servers/{A}', '{"weight":2}'], $wrong,
    [DELETE => 'up/servers/{A}'], $wrong, [POST => 'up/rollback', '{"version":1}'], $wrong);



=== TEST 26: an order of the configuration finds a level
--- http_config
upstream up { checkups_cluster; checkups_order near; checkups_level near { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; } checkups_level far { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 A; } }
--- init
::refused([PUT => 'up', '{"levels":[{"name":"far","servers":[{"server":"{A}"}]}]}'], '400 BodyInvalid: checkups_order of the configuration names none of the levels',
    [PUT => 'up', '{"order":"far"}'], '400 BodyInvalid: "order" is set by checkups_order in the configuration only',
    [PUT => 'up', '{"order":null}'], '400 BodyInvalid: "order" is set by checkups_order in the configuration only');
::is(::change(PUT => 'up', '{"order":"near"}'), '200 v1 ', 'what it is');
