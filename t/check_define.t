# Checks that `checkups_check_define` gives a name, checks that the API gives, and
# what a change of the checks does to servers.

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
    if (defined(my $refused = $block->refused)) {
        chomp $refused;
        $block->set_value(user_files => ">>> http.conf\n" . $block->define . ($block->user_files // ''));
        $block->set_value(http_config => 'include ../html/http.conf;');
        $block->set_value(config => '');
        $block->set_value(must_die => 1);
        my $pattern = quotemeta($refused) =~ s{in\\ http\\\.conf}{in \\S+/html/http\\.conf}gr;
        $block->set_value(error_log => [qr/\[emerg\] \d+#\d+: $pattern$/]);
        $block->set_value(grep_error_log => qr/\[emerg\]/);
        $block->set_value(grep_error_log_out => "[emerg]\n");
        return;
    }
    $block->set_value(http_config => backends('A' .. 'B') . ($block->http_config // ''));
    $block->set_value(config => <<'END' . ($block->config // ''));
    location / { proxy_pass http://up; }
    location /c/ { checkups_api write=on; }
    location /checkups/ { checkups_api; }
END
    $block->set_value(init => "::forget();\n" . $block->init) if defined $block->init;
    $block->set_value(request => 'GET /c/') unless defined $block->request;
    $block->set_value(no_error_log => '[crit]') unless defined $block->no_error_log;
});

# A server that wants the password of test 2, and then answers PING.
serve('R', sub {
    my $connection = shift;
    my $said = '';
    my $is_known = 0;
    while (sysread $connection, $said, 4096, length $said) {
        while ($said =~ s/\A\*\d+\r\n((?:\$\d+\r\n[^\r]*\r\n)+)(?=\*|\z)//) {
            my $command = $1;
            $is_known = 1 if $command =~ /AUTH\r\n\$6\r\ngeheim\r\n/;
            my $answer = !$is_known ? '-NOAUTH' : $command =~ /AUTH/ ? '+OK' : $command =~ /PING/ ? '+PONG' : '-ERR unknown command';
            print $connection "$answer\r\n";
        }
    }
});
silent_port('H');

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: a defined check is used by its name
--- http_config
checkups_check_define web http uri=/health interval=50ms header="Authorization: Basic c2VjcmV0";
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- init
::is(::change(PUT => 'up', '{"checks":["web"]}'), '200 v1 checks: [] -> ["web"]', 'taken');
::is_deeply(::settings('up')->{checks}, ['web'], 'GET shows its name, and nothing of it');
::wait_for_status('A=ok B=ok');
::sick('A');
::wait_for_status('A=err B=ok');
::is(::answers(4, '/'), 'BBBB', 'requests go by it');
::is(::change(PUT => 'up', ::whole('up')), '200 v1 ', 'what GET shows changes nothing');
::well('A');
::wait_for_status('A=ok B=ok');
::is(::change(PUT => 'up', '{"checks":[]}'), '200 v2 checks: ["web"] -> []', 'without it');
::sick('A');
::wait_for('nothing is checked any more', sub { join('', sort split //, ::answers(4, '/')) eq 'AABB' });
Time::HiRes::sleep(0.2);
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'nor again');
::is(::change(PUT => 'up', '{"checks":["nothing"]}'), '400 BodyInvalid: no check "nothing" is defined by checkups_check_define', 'another name');
--- error_log eval
qr/\[notice\] .*cluster "up", server "127\.0\.0\.1:\d+": from ok to err: /



=== TEST 2: with a password file, and with TLS files, of which nothing is shown
--- user_files
>>> password
geheim
--- http_config
checkups_check_define store redis password_file=../html/password interval=50ms;
checkups_check_define secure http uri=/health ssl=on ssl_verify=off interval=1m;
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_BACKEND_R; }
--- init
my $redis = '127.0.0.1:' . ::port_of('R');
::is(::change(PUT => 'new', qq({"levels":[{"servers":[{"server":"$redis"}]}],"checks":["store"]})) =~ /\A201 /, 1, 'a password');
::wait_for_status('R=ok');
::is(::change(PUT => 'up', '{"checks":["secure","store"]}'), '200 v2 checks: [] -> ["secure","store"]', 'TLS');
::is_deeply(::settings('up')->{checks}, ['secure', 'store'], 'what GET shows');
::unlike(::whole(''), qr/geheim|password/, 'no password');
::is(::change(PUT => 'up', '{"checks":[{"type":"redis","password_file":"/etc/passwd"}]}'), '400 BodyInvalid: "password_file" stands in checkups_check_define only: the API names no files', 'no file by the API');



=== TEST 3: checks of the API by their parameters
--- http_config
checkups_match fine { status 503; }
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; }
--- init
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"50ms","headers":["X-A: 1"]}]}'), qr/\A200 v1 checks: \[\] -> \[\{.*\}\]\z/, 'taken');
my ($shown) = @{ ::settings('up')->{checks} };
::is("$shown->{type} $shown->{uri} $shown->{interval} $shown->{host}", 'http /health 50ms up', 'what GET shows');
::is(::change(PUT => 'up', ::whole('up')), '200 v1 ', 'which changes nothing');
::wait_for_status('A=ok B=ok');
::sick('B');
::wait_for_status('A=ok B=err');
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"50ms","match":"fine"}]}'), qr/\A200 v2 /, 'another match');
::wait_for_status('A=err B=ok');
::is(::answers(3, '/'), 'BBB', 'requests go by it');
--- no_error_log
[crit]



=== TEST 4: a changed check verifies anew without dropping the server
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; checkups_check http uri=/health interval=50ms; }
--- init
::sick('A');
::wait_for_status('A=err B=ok');
::is(::answers(3, '/'), 'BBB', 'one is sick');
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"1m","timeout":"2s"}]}'), qr/\A200 /, 'changed');
::is(::answers(6, '/'), 'BBBBBB', 'the one that is well stays in use, and the other out of it');
::wait_for_status('B=ok');
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"50ms"}]}'), qr/\A200 /, 'once more');
::is(::answers(4, '/'), 'BBBB', 'likewise');
::well('A');
::wait_for_status('A=ok B=ok');
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'both');
::is((::server_status('B')->{status}), 'ok', 'what the status says');



=== TEST 5: the first check of a cluster drops no server, whatever it finds at first
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_BACKEND_H; }
--- init
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"1m","timeout":"20s"}]}'), qr/\A200 /, 'a check that hangs at one');
my @held = map { ::connect_to()->request('/') } 1 .. 2;
Time::HiRes::sleep(0.2);
::is(scalar(grep { $_->{data} ne '' || IO::Select->new($_->{socket})->can_read(0) } @held), 1, 'one request is with each server');



=== TEST 6: a new check that is mandatory: servers wait until they have passed it
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- init
::sick('B');
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"50ms","mandatory":true}]}'), qr/\A200 /, 'changed');
::wait_for_status('A=ok');
::like(::change(POST => 'up/servers', '{"server":"{B}"}'), qr/\A201 /, 'a server is added');
::is(::answers(6, '/'), 'AAAAAA', 'it gets nothing before it has passed');
::well('B');
::wait_for_status('A=ok B=ok');
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'now it does');



=== TEST 7: servers that were checked stay in use when a check becomes mandatory
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; checkups_check http uri=/health interval=50ms; }
--- init
::wait_for_status('A=ok B=ok');
::like(::change(PUT => 'up', '{"checks":[{"type":"http","uri":"/health","interval":"1m","mandatory":true}]}'), qr/\A200 /, 'changed');
::is(join('', sort split //, ::answers(4, '/')), 'AABB', 'both, at once');



=== TEST 8: the checks of a cluster that is born begin at once
--- config
    location /none { return 204; }
--- init
::like(::change(PUT => 'new', '{"levels":[{"servers":[{"server":"{A}"},{"server":"{B}"}]}],"checks":["web"]}'), qr/\A201 /, 'created');
::wait_for_status('A=ok B=ok');
::like(::change(DELETE => 'new'), qr/\A200 /, 'deleted');
::unlike(::ask('/c/status')->{body}, qr/"cls:new"/, 'it is not in the status any more');
--- http_config
checkups_check_define web http uri=/health interval=1m;
upstream up { checkups_cluster; server 127.0.0.1:1; }



=== TEST 9: no name
--- define
checkups_check_define;
--- refused
checkups: "checkups_check_define" directive: the NAME of the check is missing in http.conf:1



=== TEST 10: no type
--- define
checkups_check_define web;
--- refused
checkups: "checkups_check_define" directive: missing type of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in http.conf:1



=== TEST 11: a type that there is not
--- define
checkups_check_define web smtp;
--- refused
checkups: "checkups_check_define" directive: unknown type "smtp" of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in http.conf:1



=== TEST 12: a name that is none
--- define
checkups_check_define "a b" tcp;
--- refused
checkups: "checkups_check_define" directive: invalid name of a check "a b", it must be 1 to 128 letters, digits and the characters . _ : - in http.conf:1



=== TEST 13: twice
--- define
checkups_check_define web tcp;
checkups_check_define web http;
--- refused
checkups: "checkups_check_define" directive: duplicate name "web", it is that in http.conf:1 as well in http.conf:2



=== TEST 14: an unknown parameter
--- define
checkups_check_define web tcp url=/;
--- refused
checkups: "checkups_check_define" directive: unknown parameter "url=/", allowed are send=, expect=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in http.conf:1



=== TEST 15: off
--- define
checkups_check_define web off;
--- refused
checkups: "checkups_check_define" directive: "off" is no check that could have a name in http.conf:1



=== TEST 16: a file that is not there
--- define
checkups_check_define web redis password_file=/nonexistent;
--- refused
checkups: "checkups_check_define" directive: "password_file=/nonexistent": No such file or directory (os error 2) in http.conf:1



=== TEST 17: a match that there is not
--- define
checkups_check_define web http match=none;
--- refused
checkups: "checkups_check_define" directive: there is no checkups_match "none" in http.conf:1



=== TEST 18: a match that stands behind it is found
--- http_config
checkups_check_define web http match=fine;
checkups_match fine { status 200; }
upstream up { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- init
::is(::change(PUT => 'up', '{"checks":["web"]}'), '200 v1 checks: [] -> ["web"]', 'taken');



=== TEST 19: a match of another type
--- define
checkups_check_define web tcp match=fine;
checkups_match fine { status 200; }
--- refused
checkups: "checkups_check_define" directive: checkups_match "fine" is for checks of another type in http.conf:1



=== TEST 20: TLS without what verifies it
--- define
checkups_check_define web http ssl=on;
--- refused
checkups: "checkups_check_define" directive: "ssl_trusted_certificate=" is missing: the certificate of the server cannot be verified without; "ssl_verify=off" does without in http.conf:1



=== TEST 21: protected=
--- define
checkups_check_define web http protected=off;
--- refused
checkups: "checkups_check_define" directive: unknown parameter "protected=", allowed are those of a cluster's checks in http.conf:1
