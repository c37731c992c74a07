# Changes of clusters by the API: what they answer, what they do to requests,
# and what they leave alone.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use JSON::PP ();
use Backends;
use Changing;

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
END
    $block->set_value(init => "::forget();\n" . $block->init) if defined $block->init;
    $block->set_value(request => 'GET /c/') unless defined $block->request;
    $block->set_value(no_error_log => "[error]\n[crit]") unless defined $block->no_error_log || defined $block->error_log;
});

# A server as it is shown where only its address was said.
sub plain_server {
    my ($letter, %as) = @_;
    return {
        server => server_of($letter), weight => 1, max_fails => 1, fail_timeout => '10s', max_conns => 0,
        slow_start => '0s', down => JSON::PP::false, drain => JSON::PP::false, %as,
    };
}

sub plain_level {
    my ($name, @servers) = @_;
    return { name => $name, tries => undef, tries_timeout => undef, servers => \@servers };
}

sub plain_cluster {
    my ($name, @levels) = @_;
    return {
        name => $name, balance => 'round_robin', order => undef, protected => 'all', checks => [], fail_status => [],
        levels => \@levels, map { $_ => undef } qw(tries tries_timeout connect_timeout send_timeout read_timeout),
    };
}

# The letters of answers in their order in the alphabet.
sub sorted { return join '', sort split //, answers(@_) }

silent_port('H');
no_root_location();
log_level('info');
master_on();
workers(2);
run_tests();

__DATA__

=== TEST 1: PUT creates a cluster that did not exist, and all is as it is by default
--- init
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{A}"},{"server":"{B}","weight":2}]}]}'), qr/\A201 v1 cluster: null -> \{/, 'created');
::is_deeply(::settings('new'), ::plain_cluster('new', ::plain_level(undef, ::plain_server('A'), ::plain_server('B', weight => 2))), 'what GET shows');
::is(::sorted(6, '/any?c=new'), 'AABBBB', 'requests go there by the weights');
my $all = JSON::PP::decode_json(::whole(''));
::is_deeply([sort keys %$all], ['new', 'up'], 'it is among the others');
::is_deeply($all->{new}, JSON::PP::decode_json(::whole('new')), 'as it is shown by itself');
::like(::ask('/c/status')->{body}, qr/"cls:new":/, 'the status has it');
--- error_log eval
qr/\[notice\] .*checkups: cluster "new": created at run time, version \d+$/



=== TEST 2: the answer to PUT of a new cluster, to the byte
--- init
my $answer = ::call(PUT => 'new', '{"levels":[{"servers":[{"server":"{A}"}]}]}');
my $version = ::version('new');
my $server = ::server_of('A');
::is($answer->{code}, 201, 'created');
::is($answer->{headers}{etag}, qq("$version"), 'the ETag');
::is($answer->{headers}{'content-type'}, 'application/json', 'the type');
::is($answer->{headers}{'cache-control'}, 'no-store', 'not to be kept');
::is($answer->{body}, qq({"name":"new","version":$version,"difference":[{"path":"cluster","before":null,"after":)
    . '{"balance":"round_robin","checks":[],"connect_timeout":null,"fail_status":[],"levels":[{"name":null,"servers":['
    . qq({"down":false,"drain":false,"fail_timeout":"10s","max_conns":0,"max_fails":1,"server":"$server","slow_start":"0s","weight":1})
    . '],"tries":null,"tries_timeout":null}],"order":null,"protected":"all","read_timeout":null,"send_timeout":null,"tries":null,"tries_timeout":null}}]}',
    'the body');



=== TEST 3: PUT of a whole cluster, with all that can be said
--- init
my $body = '{"name":"new","version":7,"balance":"least_conn","order":null,"protected":"one","tries":3,"tries_timeout":"1m","connect_timeout":"500ms",'
    . '"send_timeout":"2s","read_timeout":"3s","fail_status":["500","502-504"],"levels":[{"name":"near","tries":2,"tries_timeout":"5s","servers":['
    . '{"server":"{A}","weight":5,"max_fails":0,"fail_timeout":"30s","max_conns":10,"slow_start":"20s","down":true,"drain":false},'
    . '{"server":"{B}","down":false,"drain":true}]},{"name":"far","tries":null,"tries_timeout":null,"servers":[{"server":"{C}"}]}],'
    . '"checks":[{"type":"tcp","interval":"1m","timeout":"3s","mandatory":false}]}';
::like(::change(PUT => 'new', $body), qr/\A201 v1 cluster: null -> /, 'created');
my $shown = ::settings('new');
my %is = (balance => 'least_conn', protected => 'one', tries => 3, tries_timeout => '60s', connect_timeout => '500ms', send_timeout => '2s',
    read_timeout => '3s', order => undef);
::is_deeply({ map { $_ => $shown->{$_} } keys %is }, \%is, 'the options');
::is_deeply($shown->{levels}, [
    { name => 'near', tries => 2, tries_timeout => '5s', servers => [
        ::plain_server('A', weight => 5, max_fails => 0, fail_timeout => '30s', max_conns => 10, slow_start => '20s', down => JSON::PP::true),
        ::plain_server('B', drain => JSON::PP::true)] },
    ::plain_level('far', ::plain_server('C')),
], 'the levels');
::is($shown->{checks}[0]{type}, 'tcp', 'the check');
::is(::answers(3, '/any?c=new'), 'CCC', 'one server is down, the other drains');
::is(::change(PUT => 'new', ::whole('new')), '200 v1 ', 'what GET shows changes nothing');



=== TEST 4: PUT of only the levels keeps the options
--- http_config
upstream up {
    checkups_cluster protected=one tries=3;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=3;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    checkups_balance least_conn;
    checkups_check tcp interval=1m;
}
--- init
my $before = ::settings('up');
::is(::change(PUT => 'up', '{"levels":[{"servers":[{"server":"{C}"},{"server":"{B}"}]}]}'),
    '200 v1 levels/1/servers/{A}: {"down":false,"drain":false,"fail_timeout":"10s","max_conns":0,"max_fails":1,"server":"{A}","slow_start":"0s","weight":3} -> null; '
    . 'levels/1/servers/{C}: null -> {"down":false,"drain":false,"fail_timeout":"10s","max_conns":0,"max_fails":1,"server":"{C}","slow_start":"0s","weight":1}', 'the difference');
my $after = ::settings('up');
::is_deeply($after->{levels}, [::plain_level(undef, ::plain_server('C'), ::plain_server('B'))], 'the levels');
delete $_->{levels} for $before, $after;
::is_deeply($after, $before, 'the rest is as it was');
::is(::sorted(4, '/'), 'BBCC', 'requests');
--- error_log eval
qr/\[notice\] .*checkups: cluster "up": changed at run time, version \d+$/



=== TEST 5: PUT of only options keeps the levels
--- init
my $levels = ::settings('up')->{levels};
::is(::change(PUT => 'up', '{"balance":"least_conn","tries":2,"read_timeout":"5s"}'),
    '200 v1 balance: "round_robin" -> "least_conn"; read_timeout: null -> "5s"; tries: null -> 2', 'some options');
::is(::change(PUT => 'up', '{"tries":null,"protected":"off"}'), '200 v2 protected: "all" -> "off"; tries: 2 -> null', 'null is the default');
::is(::change(PUT => 'up', '{"protected":null,"balance":null,"read_timeout":null}'),
    '200 v3 balance: "least_conn" -> "round_robin"; protected: "off" -> "all"; read_timeout: "5s" -> null', 'null of the rest');
::is_deeply(::settings('up'), ::plain_cluster('up', ::plain_level(undef, ::plain_server('A'), ::plain_server('B'))), 'as at first');
::is(::change(PUT => 'up', '{}'), '200 v3 ', 'nothing said, nothing changed');
::is_deeply(::settings('up')->{levels}, $levels, 'the levels');



=== TEST 6: the shape of lua-resty-checkups
--- init
my ($a, $b) = map { ::port_of($_) } 'A', 'B';
::like(::change(PUT => 'new', qq({"cluster":[{"servers":[{"host":"127.0.0.1","port":$a,"weight":3,"max_fails":2,"fail_timeout":30}]},{"servers":[{"host":"::1","port":$b}]}]})), qr/\A201 /, 'levels in order');
::is_deeply(::settings('new')->{levels}, [
    ::plain_level(undef, ::plain_server('A', weight => 3, max_fails => 2, fail_timeout => '30s')),
    ::plain_level(undef, ::plain_server('B', server => "[::1]:$b")),
], 'what GET shows');
::like(::change(PUT => 'named', qq({"cluster":{"near":{"servers":[{"host":"127.0.0.1","port":$a}]},"far":{"servers":[{"host":"127.0.0.1","port":$b}]}}})), qr/\A201 /, 'levels by name');
::is_deeply([map { $_->{name} } @{ ::settings('named')->{levels} }], ['far', 'near'], 'in the order of the names');
::is(::answers(2, '/any?c=new'), 'AA', 'requests');



=== TEST 7: GET and PUT of a configured cluster with checks that do not show everything
--- user_files
>>> password
secret
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    checkups_check http uri=/health header="Authorization: Basic c2VjcmV0" interval=1m;
    checkups_check redis password_file=../html/password interval=1m;
    checkups_check http uri=/health ssl=on ssl_verify=off interval=1m;
}
--- init
my $shown = ::whole('up');
::like($shown, qr/"Authorization: \*\*\*"/, 'a header is not shown');
::unlike($shown, qr/secret|c2VjcmV0/, 'no secret is');
::is(::change(PUT => 'up', $shown), '200 v1 ', 'the same again');
::like(::change(PUT => 'up', $shown =~ s/round_robin/least_conn/r), qr/\A200 v2 balance: "round_robin" -> "least_conn"\z/, 'something else changed');
::is(::whole('up') =~ s/"version":\d+//r, $shown =~ s/"version":\d+//r =~ s/round_robin/least_conn/r, 'the checks are the same');
my $checks = JSON::PP::decode_json($shown)->{checks};
::like(::change(PUT => 'up', '{"checks":[]}'), qr/\A200 v3 checks: \[\{.*\}\] -> \[\]\z/, 'without checks');
::like(::change(PUT => 'up', ::json({ checks => $checks })), qr/\A200 v4 checks: \[\] -> \[\{.*\}\]\z/, 'those of the configuration again');
::is_deeply(::settings('up')->{checks}, $checks, 'what GET shows');
::is_deeply(::settings('up')->{balance}, 'least_conn', 'the balance stays');
--- no_error_log
[crit]



=== TEST 8: levels by name
--- init
::like(::change(PUT => 'new', '{"levels":[{"name":"near","servers":[{"server":"{A}"}]},{"name":"far","servers":[{"server":"{B}"}]}]}'), qr/\A201 /, 'created');
::is(::change(PATCH => 'new/servers/{B}?level=far', '{"weight":2}'), '200 v2 levels/far/servers/{B}/weight: 1 -> 2', 'by the name');
::is(::change(PATCH => 'new/servers/{B}?level=2', '{"weight":3}'), '200 v3 levels/far/servers/{B}/weight: 2 -> 3', 'by the number');
::is(::change(PATCH => 'new/servers/{B}?level=near', '{"weight":2}'), '404 ServerNotFound: server not found', 'in another level');
::is(::change(PATCH => 'new/servers/{B}?level=else', '{"weight":2}'), '404 LevelNotFound: level not found', 'no such level');
::is(::change(PATCH => 'new/servers/{B}?level=3', '{"weight":2}'), '404 LevelNotFound: level not found', 'no such number');
::is(::change(PATCH => 'new/servers/{B}?level=0', '{"weight":2}'), '404 LevelNotFound: level not found', 'no level 0');
::is(::change(PUT => 'new', '{"levels":[{"name":"far","servers":[{"server":"{B}","weight":3}]},{"name":"near","servers":[{"server":"{A}"}]}]}'), '200 v4 levels: ["near","far"] -> ["far","near"]', 'the other way round');
::is(::answers(2, '/any?c=new'), 'BB', 'the first level is used');
--- no_error_log
[crit]



=== TEST 9: the key of a hash is a variable
--- init
::is(::change(PUT => 'up', '{"balance":"hash $arg_key"}'), '200 v1 balance: "round_robin" -> "hash $arg_key"', 'taken');
my %by = map { my $key = $_; $key => join '', sort { $a cmp $b } split //, ::answers(3, "/?key=$key") } 1 .. 20;
::is(scalar(grep { !/\A(AAA|BBB)\z/ } values %by), 0, 'each key has its server');
::is(join('', sort keys %{{ reverse map { $_ => substr $by{$_}, 0, 1 } keys %by }}), 'AB', 'both servers have keys');
::is(::change(PUT => 'up', '{"balance":"hash $request_uri"}'), '200 v2 balance: "hash $arg_key" -> "hash $request_uri"', 'another one');
::is(::change(PUT => 'up', '{"balance":"hash ${arg_key}"}'), '400 BodyInvalid: "balance": the key of a hash must be one variable, as $request_uri', 'brackets');
::is(::change(PUT => 'up', '{"balance":"hash $arg_a$arg_b"}'), '400 BodyInvalid: "balance": the key of a hash must be one variable, as $request_uri', 'two');
::is(::change(PUT => 'up', '{"balance":"hash x"}'), '400 BodyInvalid: "balance": the key of a hash must be one variable, as $request_uri', 'none');
::is(::change(PUT => 'up', '{"balance":"hash $no_such_thing"}'), '400 BodyInvalid: "balance": there is no variable "$no_such_thing"', 'unknown');



=== TEST 10: the key of the configuration, however it is made, can be taken up again
--- http_config
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    checkups_balance hash $arg_a-$arg_b;
}
--- init
my $one = ::answers(1, '/?a=1&b=2');
::is(::change(PUT => 'up', '{"balance":"round_robin"}'), '200 v1 balance: "hash $arg_a-$arg_b" -> "round_robin"', 'another balance');
::is(::sorted(4, '/?a=1&b=2'), 'AABB', 'requests');
::is(::change(PUT => 'up', '{"balance":"hash $arg_a-$arg_b"}'), '200 v2 balance: "round_robin" -> "hash $arg_a-$arg_b"', 'that of the configuration');
::is(::answers(3, '/?a=1&b=2'), $one x 3, 'the same server as before');



=== TEST 11: PATCH of each field
--- init
for (['"weight":5', 'weight: 1 -> 5'], ['"max_conns":7', 'max_conns: 0 -> 7'], ['"max_fails":0', 'max_fails: 1 -> 0'],
    ['"fail_timeout":"1m"', 'fail_timeout: "10s" -> "60s"'], ['"slow_start":"1500ms"', 'slow_start: "0s" -> "1500ms"'],
    ['"down":true', 'down: false -> true'], ['"drain":true', 'drain: false -> true'],
    ['"check":false', 'check: null -> false'], ['"check_port":81', 'check_port: null -> 81'], ['"check_host":"example.com"', 'check_host: null -> "example.com"'],
    ['"check_port":null', 'check_port: 81 -> null'], ['"check_host":null', 'check_host: "example.com" -> null'], ['"check":true', 'check: false -> null'])
{
    my ($body, $difference) = @$_;
    ::like(::change(PATCH => 'up/servers/{A}', "{$body}"), qr/\A200 v\d+ levels\/1\/servers\/\{A\}\/\Q$difference\E\z/, $body);
}
::is_deeply(::settings('up')->{levels}[0]{servers}, [
    ::plain_server('A', weight => 5, max_conns => 7, max_fails => 0, fail_timeout => '60s', slow_start => '1500ms', down => JSON::PP::true, drain => JSON::PP::true),
    ::plain_server('B'),
], 'what GET shows');
::is(::change(PATCH => 'up/servers/{A}', '{"server":"{A}","weight":1,"down":false,"drain":false}'),
    '200 v14 levels/1/servers/{A}/down: true -> false; levels/1/servers/{A}/drain: true -> false; levels/1/servers/{A}/weight: 5 -> 1', 'several');
::is(::change(PATCH => 'up/servers/{A}', '{}'), '200 v14 ', 'none');



=== TEST 12: what PATCH changes, the next requests go by
--- init
::is(::sorted(4, '/'), 'AABB', 'at first');
::like(::change(PATCH => 'up/servers/{A}', '{"weight":3}'), qr/\A200 /, 'weight');
::is(::sorted(8, '/'), 'AAAAAABB', 'by the weights');
::like(::change(PATCH => 'up/servers/{A}', '{"down":true}'), qr/\A200 /, 'down');
::is(::answers(4, '/'), 'BBBB', 'not the one that is down');
::like(::change(PATCH => 'up/servers/{A}', '{"down":false,"drain":true,"weight":1}'), qr/\A200 /, 'drain');
::is(::answers(4, '/'), 'BBBB', 'nor the one that drains');
::like(::change(PATCH => 'up/servers/{A}', '{"drain":false}'), qr/\A200 /, 'back');
::is(::sorted(4, '/'), 'AABB', 'both');



=== TEST 13: max_conns takes effect
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_BACKEND_H; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- init
use Time::HiRes ();
my $slow = '127.0.0.1:' . $ENV{TEST_NGINX_BACKEND_H};
::like(::change(PATCH => "up/servers/$slow", '{"max_conns":1}'), qr/\A200 /, 'one at a time');
my @held = map { ::connect_to()->request('/') } 1 .. 2;
Time::HiRes::sleep(0.2);
::is(::answers(3, '/'), 'BBB', 'the server is full');
::like(::change(PATCH => "up/servers/$slow", '{"max_conns":2}'), qr/\A200 /, 'two');
my $more = ::connect_to()->request('/');
my $other = ::connect_to()->request('/');
Time::HiRes::sleep(0.2);
::is(::answers(2, '/'), 'BB', 'full again, with the one that it had');
--- request
GET /



=== TEST 14: POST and DELETE of servers
--- init
::is(::change(POST => 'up/servers', '{"server":"{C}","weight":2}'),
    '201 v1 levels/1/servers/{C}: null -> {"down":false,"drain":false,"fail_timeout":"10s","max_conns":0,"max_fails":1,"server":"{C}","slow_start":"0s","weight":2}', 'added');
::is(::sorted(8, '/'), 'AABBCCCC', 'requests');
::is(::change(POST => 'up/servers/', '{"server":"{C}"}'), '409 ServerExists: the level has this server already', 'twice');
::like(::change(DELETE => 'up/servers/{A}'), qr/\A200 v2 levels\/1\/servers\/\{A\}: \{.*\} -> null\z/, 'removed');
::is(::change(DELETE => 'up/servers/{A}'), '404 ServerNotFound: server not found', 'is not there any more');
::is(::sorted(6, '/'), 'BBCCCC', 'requests');
::like(::change(DELETE => 'up/servers/{B}'), qr/\A200 v3 /, 'removed');
::is(::change(DELETE => 'up/servers/{C}'), '409 LastServer: a level needs a server', 'not the last one');
::is(::change(POST => 'up/servers?level=2', '{"server":"{A}"}'), '404 LevelNotFound: level not found', 'no such level');
::is(::change(POST => 'no/servers', '{"server":"{A}"}'), '404 ClusterNotFound: cluster not found', 'no such cluster');
::is(::answers(2, '/'), 'CC', 'requests');



=== TEST 15: POST to the second level
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup; }
--- init
::like(::change(POST => 'up/servers?level=2', '{"server":"{A}"}'), qr/\A201 v1 levels\/2\/servers\/\{A\}: null -> /, 'the same address');
::is(::change(PATCH => 'up/servers/{A}', '{"weight":2}'), '409 ServerAmbiguous: more than one level has this server: say which with ?level=', 'PATCH: which');
::is(::change(DELETE => 'up/servers/{A}'), '409 ServerAmbiguous: more than one level has this server: say which with ?level=', 'DELETE: which');
::is(::call(GET => 'up/servers/{A}')->{code}, 409, 'GET: which');
::is(::change(PATCH => 'up/servers/{A}?level=2', '{"weight":2}'), '200 v2 levels/2/servers/{A}/weight: 1 -> 2', 'that of the second level');
::is(JSON::PP::decode_json(::call(GET => 'up/servers/{A}?level=2')->{body})->{weight}, 2, 'GET of it');
::is(JSON::PP::decode_json(::call(GET => 'up/servers/{A}?level=1')->{body})->{weight}, 1, 'GET of the other');
::like(::change(DELETE => 'up/servers/{A}?level=2'), qr/\A200 v3 /, 'DELETE of it');
::is(::change(PATCH => 'up/servers/{A}', '{"weight":3}'), '200 v4 levels/1/servers/{A}/weight: 1 -> 3', 'there is one again');



=== TEST 16: GET of servers
--- http_config
upstream up { checkups_cluster; checkups_level near { server 127.0.0.1:1 weight=3; } checkups_level far { server 127.0.0.1:2; } }
upstream plain { checkups_cluster; server 127.0.0.1:1; server 127.0.0.1:2 backup; }
--- init
my $version = ::version('up');
my @rest = ('"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false}');
my $answer = ::call(GET => 'up/servers');
::is($answer->{body}, qq([{"level":"near","server":"127.0.0.1:1","weight":3,@rest,{"level":"far","server":"127.0.0.1:2","weight":1,@rest]), 'by the names of their levels');
::is($answer->{headers}{etag}, qq("$version"), 'the ETag is that of the cluster');
::is(::call(GET => 'plain/servers/')->{body}, qq([{"level":1,"server":"127.0.0.1:1","weight":1,@rest,{"level":2,"server":"127.0.0.1:2","weight":1,@rest]), 'by the numbers');
$answer = ::call(GET => 'up/servers/127.0.0.1:2');
::is($answer->{body}, qq({"level":"far","server":"127.0.0.1:2","weight":1,@rest), 'one of them');
::is($answer->{headers}{etag}, qq("$version"), 'its ETag is that of the cluster');
::is(::call(HEAD => 'up/servers/127.0.0.1:2')->{headers}{etag}, qq("$version"), 'HEAD');
::is(::call(GET => 'up/servers/127.0.0.1:3')->{code}, 404, 'none');
::is(::call(GET => 'no/servers')->{code}, 404, 'no cluster');



=== TEST 17: addresses that are percent-encoded, and unix sockets
--- http_config eval
qq(upstream up { checkups_cluster; server unix:$ENV{TEST_NGINX_SERVROOT}/a.sock; server 127.0.0.1:\$TEST_NGINX_RAND_PORT_1; }
server { listen unix:$ENV{TEST_NGINX_SERVROOT}/a.sock; location / { return 200 U; } })
--- init
my $path = "unix:$ENV{TEST_NGINX_SERVROOT}/a.sock";
my $encoded = $path =~ s/\//%2F/gr;
::is(::sorted(2, '/'), 'AU', 'at first');
::like(::change(PATCH => "up/servers/$encoded", '{"down":true}'), qr/\A200 v1 levels\/1\/servers\/\Q$path\E\/down: false -> true\z/, 'with %2F');
::is(::answers(2, '/'), 'AA', 'it is down');
::like(::change(PATCH => 'up/servers/' . $encoded =~ s/:/%3a/r, '{"down":false}'), qr/\A200 v2 /, 'with %3a');
::is(::sorted(2, '/'), 'AU', 'it is back');
::is(::change(PATCH => "up/servers/$path", '{"down":true}'), '404 PathNotFound: path not found', 'slashes separate');
::like(::change(PATCH => 'up/servers/%31' . substr(::server_of('A'), 1), '{"weight":2}'), qr/\A200 v3 /, 'a digit that is encoded');
::like(::change(DELETE => "up/servers/$encoded"), qr/\A200 v4 /, 'removed');
::like(::change(POST => 'up/servers', qq({"server":"$path"})), qr/\A201 v5 /, 'added again');
::is(::sorted(3, '/'), 'AAU', 'requests');
::like(::change(POST => 'up/servers', '{"server":"[::1]:1","down":true}'), qr/\A201 v6 /, 'IPv6');
::like(::change(PATCH => 'up/servers/%5B::1%5D:1', '{"weight":2}'), qr/\A200 v7 /, 'with its brackets encoded');
::like(::change(DELETE => 'up/servers/[::1]:1'), qr/\A200 v8 /, 'and not');
--- no_error_log
[crit]



=== TEST 18: ETag and If-Match
--- init
my $tag = ::call(GET => 'up')->{headers}{etag};
::like($tag, qr/\A"[1-9]\d*"\z/, 'the ETag');
::is($tag, '"' . ::version('up') . '"', 'is the version');
my $patch = sub { ::change(PATCH => 'up/servers/{A}', "{\"weight\":$_[0]}", headers => [@_[1 .. $#_]]) };
::like($patch->(2, "If-Match: $tag"), qr/\A200 /, 'it is that');
my $other = ::call(GET => 'up')->{headers}{etag};
::isnt($other, $tag, 'another one');
my @refused = ('412 PreconditionFailed: the cluster has another version');
::is($patch->(3, "If-Match: $tag"), $refused[0], 'it is not that any more');
::is($patch->(3, 'If-Match: "1"'), $refused[0], 'nor something else');
::is($patch->(3, "If-Match: W/$other"), $refused[0], 'a weak one is none');
::is($patch->(3, "If-None-Match: $other"), $refused[0], 'If-None-Match');
::is($patch->(3, 'If-None-Match: *'), $refused[0], 'If-None-Match: there is one');
::is($patch->(3, 'If-Match: 5'), '400 ArgumentInvalid: a precondition must be entity tags, or *', 'no tag');
::is($patch->(3, 'If-Match: '), '400 ArgumentInvalid: a precondition must be entity tags, or *', 'empty');
::is(::call(GET => 'up')->{headers}{etag}, $other, 'nothing changed');
::like($patch->(3, "If-Match: \"1\", $other"), qr/\A200 /, 'one of several');
::like($patch->(4, 'If-Match: *'), qr/\A200 /, 'any');
::like($patch->(5, "if-none-match: $tag"), qr/\A200 /, 'If-None-Match: another');



=== TEST 19: If-Match and If-None-Match of what is created and deleted
--- init
my $body = '{"levels":[{"servers":[{"server":"{A}"}]}]}';
::is(::change(PUT => 'new', $body, headers => ['If-Match: *']), '412 PreconditionFailed: the cluster has another version', 'it is not there');
::is(::whole('new'), '404', 'nor is it now');
::like(::change(PUT => 'new', $body, headers => ['If-None-Match: *']), qr/\A201 /, 'only if it is not there');
::is(::change(PUT => 'new', $body =~ s/A/B/r, headers => ['If-None-Match: *']), '412 PreconditionFailed: the cluster has another version', 'it is');
my $first = ::call(GET => 'new')->{headers}{etag};
::is(::change(DELETE => 'new', undef, headers => ['If-Match: "1"']), '412 PreconditionFailed: the cluster has another version', 'DELETE of another version');
::like(::change(DELETE => 'new', undef, headers => ["If-Match: $first"]), qr/\A200 /, 'DELETE of this one');
::like(::change(PUT => 'new', $body), qr/\A201 /, 'once more');
::isnt(::call(GET => 'new')->{headers}{etag}, $first, 'a version is never used twice');



=== TEST 20: dry_run shows the difference and changes nothing
--- init
my $before = ::whole('');
my @dry = (
    [PUT => 'new?dry_run=1', '{"levels":[{"servers":[{"server":"{A}"}]}]}', qr/\A200 v\d \(dry\) cluster: null -> \{.*\}\z/],
    [PUT => 'up?dry_run=1', '{"balance":"least_conn"}', qr/\A200 v\d \(dry\) balance: "round_robin" -> "least_conn"\z/],
    [PATCH => 'up/servers/{A}?dry_run=1', '{"weight":5}', qr/\A200 v\d \(dry\) levels\/1\/servers\/\{A\}\/weight: 1 -> 5\z/],
    [POST => 'up/servers?dry_run=1', '{"server":"{C}"}', qr/\A200 v\d \(dry\) levels\/1\/servers\/\{C\}: null -> \{.*\}\z/],
    [DELETE => 'up/servers/{A}?dry_run=1', undef, qr/\A200 v\d \(dry\) levels\/1\/servers\/\{A\}: \{.*\} -> null\z/],
    [DELETE => 'up?dry_run=1', undef, qr/\A200 v\d \(dry\) cluster: \{.*\} -> null\z/],
    [PATCH => 'up/servers/{A}?dry_run=1', '{"weight":0}', qr/\A400 BodyInvalid: invalid value in "weight=0", it must be a number from 1 to 1000000\z/],
    [PATCH => 'up/servers/{A}?dry_run=2', '{"weight":2}', qr/\A400 ArgumentInvalid: "dry_run" must be 0 or 1\z/],
    [PATCH => 'up/servers/{A}?dry_run=', '{"weight":2}', qr/\A400 ArgumentInvalid: "dry_run" must be 0 or 1\z/],
);
for (@dry) {
    my ($method, $path, $body, $expected) = @$_;
    ::like(::change($method, $path, $body), $expected, "$method $path");
    ::is(::whole(''), $before, 'nothing changed');
}
::is(::sorted(4, '/'), 'AABB', 'requests');
::is(::change(PATCH => 'up/servers/{A}?dry_run=1', '{"weight":2}', headers => ['If-Match: "1"']), '412 PreconditionFailed: the cluster has another version', 'with a precondition');
::like(::change(PATCH => 'up/servers/{A}?dry_run=0', '{"weight":2}'), qr/\A200 v\d levels/, 'dry_run=0');
--- no_error_log
at run time, version 0



=== TEST 21: the same settings have the same version
--- init
my $before = ::whole('');
::is(::change(PATCH => 'up/servers/{A}', '{"weight":1}'), '200 v1 ', 'PATCH');
::is(::change(PUT => 'up', '{"levels":[{"servers":[{"server":"{A}"},{"server":"{B}"}]}]}'), '200 v1 ', 'PUT');
::is(::whole(''), $before, 'nothing changed');
--- no_error_log
at run time



=== TEST 22: rollback, to what the configuration has too
--- init
my $configured = ::version('up');
my $of = ::settings('up');
::like(::change(PATCH => 'up/servers/{A}', '{"weight":2}'), qr/\A200 /, 'a change');
my ($second, $of_second) = (::version('up'), ::settings('up'));
::like(::change(PUT => 'up', '{"levels":[{"servers":[{"server":"{C}"}]}],"balance":"least_conn"}'), qr/\A200 /, 'a larger one');
::is(::answers(2, '/'), 'CC', 'requests');
my $third = ::version('up');
::like(::change(POST => 'up/rollback', "{\"version\":$second}"), qr/\A200 v\d+ balance: "least_conn" -> "round_robin"; levels\/1\/servers\/\{C\}: .* -> null; levels/, 'back to the first change');
::is_deeply(::settings('up'), $of_second, 'the settings of then');
::ok(::version('up') > $third, 'with a new version');
::is(::sorted(3, '/'), 'AAB', 'requests');
::like(::change(POST => 'up/rollback', "{\"version\":$configured}"), qr/\A200 v\d+ levels\/1\/servers\/\{A\}\/weight: 2 -> 1\z/, 'back to the configuration');
::is_deeply(::settings('up'), $of, 'the settings of then');
::like(::change(POST => 'up/rollback?dry_run=1', "{\"version\":$third}"), qr/\A200 v\d+ \(dry\) balance: /, 'a dry run');
::is_deeply(::settings('up'), $of, 'changes nothing');
::like(::change(POST => 'up/rollback', "{\"version\":$third}"), qr/\A200 v\d+ balance: /, 'and forth');
::is(::answers(2, '/'), 'CC', 'requests');
my $now = ::version('up');
::like(::change(POST => 'up/rollback', "{\"version\":$now}"), qr/\A200 v\d+ \z/, 'to what it is');
::is(::version('up'), $now, 'nothing changed');
::is(::change(POST => 'up/rollback', '{"version":1}'), '404 VersionNotFound: version not found', 'no such version');
::is(::change(POST => 'up/rollback', "{\"version\":$configured}", headers => ['If-Match: "1"']), '412 PreconditionFailed: the cluster has another version', 'with a precondition');
::is(::change(POST => 'no/rollback', "{\"version\":$configured}"), '404 ClusterNotFound: cluster not found', 'no such cluster');



=== TEST 23: the last ten before it are kept
--- init
my @versions = ::version('up');
for my $weight (2 .. 13) {
    ::change(PATCH => 'up/servers/{A}', "{\"weight\":$weight}");
    push @versions, ::version('up');
}
::is(scalar(keys %{{ map { $_ => 1 } @versions }}), 13, 'each has its own version');
::is(::change(POST => 'up/rollback?dry_run=1', "{\"version\":$versions[1]}"), '404 VersionNotFound: version not found', 'the eleventh before it is gone');
::like(::change(POST => 'up/rollback?dry_run=1', "{\"version\":$versions[2]}"), qr/\/weight: 13 -> 3\z/, 'the tenth is there');
::is(::change(POST => 'up/rollback', "{\"version\":$versions[0]}"), '404 VersionNotFound: version not found', 'that of the configuration is one of them');



=== TEST 24: a cluster of another is none to roll back to
--- init
my $other = ::version('up');
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{A}"}]}]}'), qr/\A201 /, 'created');
::is(::change(POST => 'new/rollback', "{\"version\":$other}"), '404 VersionNotFound: version not found', 'the version of another cluster');



=== TEST 25: DELETE of a cluster, and PUT of it
--- init
my $before = ::settings('up');
::like(::change(DELETE => 'up'), qr/\A200 v1 cluster: \{.*\} -> null\z/, 'deleted');
::is(::whole('up'), '404', 'it is not there');
::is(::whole(''), '{}', 'nor in the list');
::unlike(::ask('/c/status')->{body}, qr/cls:up/, 'nor in the status');
::is(::ask('/')->{code}, 502, 'its requests fail');
::is(::change(DELETE => 'up'), '404 ClusterNotFound: cluster not found', 'once only');
::is(::change(PATCH => 'up/servers/{A}', '{"weight":2}'), '404 ClusterNotFound: cluster not found', 'nothing of it can be changed');
::is(::change(PUT => 'up', '{"balance":"least_conn"}'), '400 BodyInvalid: a new cluster needs "levels" with servers', 'it is new');
::like(::change(PUT => 'up', '{"levels":[{"servers":[{"server":"{B}"}]}]}'), qr/\A201 /, 'made again');
::is(::answers(2, '/'), 'BB', 'its requests are answered');
--- error_log eval
[qr/\[notice\] .*checkups: cluster "up": deleted at run time, version \d+$/, qr/\[notice\] .*checkups: cluster "up": created at run time, version \d+$/]



=== TEST 26: servers that stay keep what is known of them
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=60s; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- no_error_log
[crit]
--- init
::is(::routes(2, '/', do => 'A=close') =~ /AB 200/ ? 1 : 0, 1, 'one server fails');
::is(::answers(3, '/'), 'BBB', 'it is left alone');
::like(::change(POST => 'up/servers', '{"server":"{C}"}'), qr/\A201 /, 'another server');
::is(::sorted(4, '/'), 'BBCC', 'it is still left alone');
::like(::change(PATCH => 'up/servers/{A}', '{"weight":5}'), qr/\A200 /, 'it is changed itself');
::is(::sorted(4, '/'), 'BBCC', 'and left alone');
::like(::change(DELETE => 'up/servers/{A}'), qr/\A200 /, 'removed');
::like(::change(POST => 'up/servers', '{"server":"{A}"}'), qr/\A201 /, 'and added');
::is(::sorted(6, '/'), 'AABBCC', 'a new server has no past');



=== TEST 27: changes of the weights do not send the next requests to the heaviest server again
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=3; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3; }
--- init
my %count;
for my $number (1 .. 120) {
    $count{ ::ask('/')->{body} }++;
    ::change(PUT => 'up', '{"read_timeout":"' . $number . 's"}');
}
::is_deeply(\%count, { A => 60, B => 40, C => 20 }, 'the shares are those of the weights');



=== TEST 28: all workers go by a change at once
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
--- init
my @workers = ::workers_of(2, ::port_of(9), '/');
for my $letter ('C', 'A', 'D', 'B') {
    ::like(::change(PUT => 'up', "{\"levels\":[{\"servers\":[{\"server\":\"{$letter}\"}]}]}"), qr/\A200 /, "PUT: $letter");
    ::is(join('', map { $_->request('/')->answer->{body} } @workers), $letter x 2, 'each worker');
}
--- no_error_log
[crit]
