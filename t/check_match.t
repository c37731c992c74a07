# vi:set ft= ts=4 sw=4 et fdm=marker:

# checkups_match: what the answer to a check has to be like, by answers that are
# played. "--- backend" and "--- answers" are explained in t/lib/NginxBackend.pm,
# "--- verdicts" in t/lib/Verdicts.pm.
#
# Sections of this file's own:
#   http       a part of `http {}`
#   refused    the one message with which nginx must die. Then "http" is the file
#              http.conf, and "in http.conf:2" in the message a place in it.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxChecks;
use Verdicts;
use Test::Nginx::Socket;

add_block_preprocessor(sub {
    my $block = shift;
    my $http = $block->http // return;
    my $message = $block->refused;
    return $block->set_value(http_config => ($block->http_config // '') . $http) if !defined $message;
    chomp $message;
    my $pattern = quotemeta($message) =~ s{in\\ (\w+\\\.conf\\:\d+)}{in \\S+/html/$1}gr;
    my %value = (
        user_files => ">>> http.conf\n$http" . ($block->user_files // ''), http_config => 'include ../html/http.conf;',
        config => '', must_die => 1, error_log => [qr/\[emerg\] \d+#\d+: $pattern$/],
        grep_error_log => qr/\[emerg\]/, grep_error_log_out => "[emerg]\n",
    );
    $block->set_value($_ => $value{$_}) for keys %value;
});

master_on();
no_root_location();
no_long_string();
plan 'no_plan';

run_tests();

__DATA__

=== TEST 1: statuses, ranges of them, and those that are bad
--- backend
ok: 200
created: 201
moved: 301
see: 303
other: 304
gone: 410
down: 503
--- http
checkups_match one { status 200; }
checkups_match some { status 200 410-499 503; }
checkups_match all_but { status ! 500-599 410; }
checkups_match some_but { status 200-399 ! 301-303; }
checkups_match any { status 100-599; }
--- verdicts
OK: http match=one => ok
CREATED: http match=one => err status 201
DOWN: http match=one => err status 503
OK: http match=some => ok
GONE: http match=some => ok
DOWN: http match=some => ok
MOVED: http match=some => err status 301
CREATED: http match=all_but => ok
MOVED: http match=all_but => ok
GONE: http match=all_but => err status 410
DOWN: http match=all_but => err status 503
CREATED: http match=some_but => ok
MOVED: http match=some_but => err status 301
SEE: http match=some_but => err status 303
OTHER: http match=some_but => ok
GONE: http match=some_but => err status 410
DOWN: http match=any => ok



=== TEST 2: where nothing is said of the status, any is good
--- backend
gone: 410
named: 404
--- http
checkups_match length { header Content-Length; }
checkups_match name { body ~ ^named$; }
checkups_match name_of_line { body ~ "^named\n$"; }
--- verdicts
GONE: http match=length => ok
NAMED: http match=name => err body does not match
NAMED: http match=name_of_line => ok



=== TEST 3: headers that are there, and that are not
Their names are the same in capitals and small letters.
--- answers
a: HTTP/1.1 200 OK\r\nX-One: a b\r\nX-Empty:\r\n\r\n
--- backend
a: shut:a
--- http
checkups_match one { header X-One; }
checkups_match small { header x-one; header ! x-two; }
checkups_match empty { header X-Empty; }
checkups_match two { header X-Two; }
checkups_match no_one { header ! X-ONE; }
checkups_match no_empty { header ! X-Empty; }
checkups_match long { header X-A-Name-That-Is-Longer-Than-What-Is-Kept-Of-A-Message; }
--- verdicts
A: http match=one => ok
A: http match=small => ok
A: http match=empty => ok
A: http match=two => err header "X-Two" does not match
A: http match=no_one => err header "X-ONE" does not match
A: http match=no_empty => err header "X-Empty" does not match
A: http match=long => err header "X-A-Name-That-Is-Longer-Than-What-Is..." does not match



=== TEST 4: what headers say
--- answers
a: HTTP/1.1 200 OK\r\nX-One: a b \r\nX-Empty:\r\nX-Tab: a\x09b\r\nX-Bytes: \xe4\r\n\r\n
--- backend
a: shut:a
--- http
checkups_match is { header X-One = "a b"; header X-Empty = ""; header X-Two != a; header X-One != A; }
checkups_match is_all { header X-One = a; }
checkups_match is_there { header X-Two = ""; }
checkups_match is_not { header X-One != 'a b'; }
checkups_match has { header x-one ~ b$; header X-One ~ ^a\s; header X-One ~* B; header X-Empty ~ ^$; }
checkups_match has_no { header X-One !~ ^b; header X-One !~* ^B; header X-Two !~ ''; }
checkups_match has_capital { header X-One ~ B; }
checkups_match has_all { header X-One !~* A; }
checkups_match has_two { header X-Two ~ ''; }
checkups_match tab { header X-Tab = "a\tb"; }
checkups_match bytes { header X-Bytes ~ ^\xe4$; }
--- verdicts
A: http match=is => ok
A: http match=is_all => err header "X-One" does not match
A: http match=is_there => err header "X-Two" does not match
A: http match=is_not => err header "X-One" does not match
A: http match=has => ok
A: http match=has_no => ok
A: http match=has_capital => err header "X-One" does not match
A: http match=has_all => err header "X-One" does not match
A: http match=has_two => err header "X-Two" does not match
A: http match=tab => ok
A: http match=bytes => ok



=== TEST 5: several headers of one name: one value is enough, and none may be what must not be
--- answers
a: HTTP/1.1 200 OK\r\nX: 1\r\nY: 3\r\nx: 2, 3\r\n\r\n
--- backend
a: shut:a
--- http
checkups_match first { header X = 1; }
checkups_match second { header X = "2, 3"; header X ~ ^2; header X = 1; }
checkups_match no_list { header X = 2; }
checkups_match none { header X != 4; header X !~ 4; }
checkups_match not_first { header X != 1; }
checkups_match not_second { header X !~ 2; }
--- verdicts
A: http match=first => ok
A: http match=second => ok
A: http match=no_list => err header "X" does not match
A: http match=none => ok
A: http match=not_first => err header "X" does not match
A: http match=not_second => err header "X" does not match



=== TEST 6: all conditions have to hold, the status first, then the headers in their order, then the body
--- answers
a: HTTP/1.1 203 X\r\nX: a\r\nContent-Length: 2\r\n\r\nok
--- backend
a: say:a
--- http
checkups_match good { status 203; header X; body ~ ok; body ~ ^o; body !~ error; header X = a; }
checkups_match status { body ~ x; header X = b; status 200; }
checkups_match header { body ~ x; header X = b; header ! X; status 203; }
checkups_match header_2 { body ~ x; header X = a; header Y; status 203; }
checkups_match body { body ~ ok; body !~ k; status 203; }
--- verdicts
A: http match=good => ok
A: http match=status => err status 203
A: http match=header => err header "X" does not match
A: http match=header_2 => err header "Y" does not match
A: http match=body => err body does not match



=== TEST 7: bodies of a known length, in chunks and until the end, in pieces
--- answers
sized: HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n | ab | cne | edle!
more: HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nneedle
chunked: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r | \nabcn\r\n | 1;x=needle\r\ne\r\n0005\r\ned | le!\r\n0\r | \n\r\n
until: HTTP/1.1 200 OK\r\n\r\nab | cnee | dle!
interim: HTTP/1.1 103 X\r\nX: needle\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nneed
trailer: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nnee\r\n0\r\nX: needle\r\n\r\n
--- backend
sized: say:sized
more: say:more
chunked: say:chunked
until: shut:until
open: say:until
interim: say:interim
trailer: say:trailer
--- http
checkups_match needle { body ~ needle; }
checkups_match no_needle { body !~ needle; }
checkups_match whole { body ~ ^abcneedle!$; }
checkups_match crlf { body !~ [\r\n]; body !~ x; }
--- verdicts
SIZED: http match=needle => ok
SIZED: http match=no_needle => err body does not match
SIZED: http match=whole => ok
MORE: http match=needle => err body does not match
MORE: http match=no_needle => ok
CHUNKED: http match=needle => ok
CHUNKED: http match=no_needle => err body does not match
CHUNKED: http match=whole => ok
CHUNKED: http match=crlf => ok
UNTIL: http match=needle => ok
UNTIL: http match=no_needle => err body does not match
UNTIL: http match=whole => ok
OPEN: http match=needle => ok
OPEN: http match=no_needle => err body does not match
OPEN: http match=crlf timeout=300ms => err timed out after 300ms
INTERIM: http match=needle => err body does not match
INTERIM: http match=no_needle => ok
TRAILER: http match=needle => err body does not match
TRAILER: http match=no_needle => ok



=== TEST 8: bodies that are cut or that there cannot be
--- answers
sized: HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nneed
chunked: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nneed\r\n
wrong: HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n
empty: HTTP/1.1 204 X\r\n\r\n
not_new: HTTP/1.1 304 X\r\nContent-Length: 10\r\n\r\n
head: HTTP/1.1 200 X\r\nContent-Length: 10\r\n\r\n
--- backend
sized: shut:sized
chunked: shut:chunked
wrong: say:wrong
empty: say:empty
not_new: say:not_new
head: say:head
--- http
checkups_match needle { body ~ needle; }
checkups_match no_needle { body !~ needle; }
checkups_match need { body ~ need; }
--- verdicts
SIZED: http match=needle => err closed before the response was complete
SIZED: http match=no_needle => err closed before the response was complete
SIZED: http match=need => ok
CHUNKED: http match=needle => err closed before the response was complete
WRONG: http match=needle => err invalid chunk
EMPTY: http match=needle => err body does not match
EMPTY: http match=no_needle => ok
NOT_NEW: http match=needle => err body does not match
NOT_NEW: http match=no_needle => ok
HEAD: http method=HEAD match=needle => err body does not match
HEAD: http method=HEAD match=no_needle => ok



=== TEST 9: the first 256 kB of a body count
--- answers eval
my ($last, $late) = map { my $blanks = $_; ' ' x $blanks . 'needle' . ' ' x 1000 } 262138, 262139;
CORE::join '', "last: HTTP/1.1 200 OK\\r\\nContent-Length: 263144\\r\\n\\r\\n$last\n",
    "late: HTTP/1.1 200 OK\\r\\nContent-Length: 263145\\r\\n\\r\\n$late\n",
    "until: HTTP/1.1 200 OK\\r\\n\\r\\n$late\n",
    "chunked: HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n403e9\\r\\n$late\\r\\n0\\r\\n\\r\\n\n";
--- backend
last: say:last
late: say:late
until: say:until
chunked: say:chunked
--- http
checkups_match needle { body ~ needle; }
checkups_match no_needle { body !~ needle; }
checkups_match end { body ~ 'needl$'; }
--- verdicts
LAST: http match=needle => ok
LAST: http match=no_needle => err body does not match
LATE: http match=needle => err body does not match
LATE: http match=no_needle => ok
LATE: http match=end => ok
UNTIL: http match=needle => err body does not match
UNTIL: http match=no_needle => ok
CHUNKED: http match=needle => err body does not match
CHUNKED: http match=no_needle => ok



=== TEST 10: nobody asks for a body that is compressed
--- http
gzip on;
gzip_min_length 1;
gzip_proxied any;
gzip_types *;
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "needle in a haystack $http_accept_encoding|"; }
}
checkups_match plain { status 200; body ~ '^needle in a haystack \|$'; header ! Content-Encoding; }
checkups_match gzip { body !~ needle; header Content-Encoding = gzip; }
--- verdicts
1: http match=plain => ok
1: http match=gzip "header=Accept-Encoding: gzip" => ok



=== TEST 11: patterns have the syntax of the crate regex, and are about bytes
--- answers
a: HTTP/1.1 200 OK\r\n\r\n{"state": "up", "n": 12,\n "text": "\xc3\xa4"}\x00\xff
--- backend
a: shut:a
--- http
checkups_match json { body ~ '"state": *"(up|standby)"'; body ~ '"n": \d{2},'; body ~ '(?m)",?$|2,$'; }
checkups_match dot { body ~ '12,. "text"'; }
checkups_match dot_all { body ~ '(?s)12,. "text"'; }
checkups_match bytes { body ~ "\x00\xff$"; body ~ '"\xc3\xa4"'; body ~ "ä"; body ~ "\\x00"; }
checkups_match case { body ~* '"STATE"'; body ~ '(?i)"STATE"'; body !~ STATE; }
checkups_match case_not { body !~* '"STATE"'; }
checkups_match blind { body ~ '.*.*.*.*.*x{20}$'; }
--- verdicts
A: http match=json => ok
A: http match=dot => err body does not match
A: http match=dot_all => ok
A: http match=bytes => ok
A: http match=case => ok
A: http match=case_not => err body does not match
A: http match=blind => err body does not match



=== TEST 12: texts over a connection
--- answers
pong: +PO | NG\r\n
hello: 220 mail.example.com ESMTP\r\n
nul: a\x00\xffb
slash: a\\b
--- backend
pong talks: say:pong
hello talks: greet:hello
nul talks: say:nul
slash talks: say:slash
silent talks: hang
shut talks: shut:pong
--- http
checkups_match ping { send "PING\r\n"; expect +PONG; }
checkups_match line { send "PING\r\n"; expect "+PONG\r\n"; }
checkups_match pang { send PING; expect +PANG; }
checkups_match hello { expect "220 "; }
checkups_match hello_2 { expect "ESMTP\x0d\x0a"; }
checkups_match nul { send "\x00\xfe\\\\ä"; expect \x00\xFF; }
checkups_match slash { send x; expect a\\\\b; }
checkups_match send { send x; }
--- verdicts
PONG: tcp match=ping => ok
PONG: tcp match=line => ok
PONG: tcp match=pang timeout=300ms => err timed out after 300ms
SHUT: tcp match=ping => ok
SHUT: tcp match=pang => err closed before the expected answer
HELLO: tcp match=hello => ok
HELLO: tcp match=hello_2 => ok
SILENT: tcp match=hello timeout=300ms => err timed out after 300ms
NUL: tcp match=nul => ok
SLASH: tcp match=slash => ok
SILENT: tcp match=send => ok
--- init
main::verdicts_are($block);
my %sent = map { my $name = $_; $name => (main::backend->connections($name))[0]{sent} } qw(pong hello nul);
Test::More::is($sent{hello}, '', 'nothing is sent where nothing is said of it');
Test::More::is($sent{nul}, "\x00\xfe\\\xc3\xa4", 'the bytes that are sent');
my %said = map { $_->{sent} => 1 } grep { length $_->{sent} } main::backend->connections('pong');
Test::More::is(join(',', sort keys %said), "PING,PING\r\n", 'both texts are sent');



=== TEST 13: patterns over a connection
--- answers
hello: 220 mail | .example.com ESMTP\r\n
long: xyz
--- backend
hello talks: greet:hello
shut talks: shut:hello
--- http
checkups_match start { expect ~ ^220; }
checkups_match regex { expect ~ '^2\d\d \S+ ESMTP'; }
checkups_match case { expect ~* esmtp; }
checkups_match capital { expect ~ esmtp; }
checkups_match never { expect ~ ^5; }
checkups_match end { send x; expect ~ '\n$'; }
--- verdicts
HELLO: tcp match=start => ok
HELLO: tcp match=regex => ok
HELLO: tcp match=case => ok
HELLO: tcp match=capital timeout=300ms => err timed out after 300ms
HELLO: tcp match=never => err answer does not match
HELLO: tcp match=end timeout=300ms => err timed out after 300ms
SHUT: tcp match=end => ok



=== TEST 14: the first 64 kB of an answer over a connection count
--- answers eval
my ($last, $late) = map { my $blanks = $_; ' ' x $blanks . 'needle' . ' ' x 1000 } 65530, 65531;
"last: $last\nlate: $late\n"
--- backend
last talks: greet:last
late talks: greet:late
--- http
checkups_match needle { expect needle; }
--- verdicts
LAST: tcp match=needle => ok
LATE: tcp match=needle => err answer does not match



=== TEST 15: a block that stands behind its use, is used often, and is the default of http
--- backend
a: 200
b: 503
--- http
checkups_check http match=default host=all interval=50ms;
upstream one { checkups_cluster protected=off; server $TEST_NGINX_BACKEND_A; }
upstream two { checkups_cluster protected=off; server $TEST_NGINX_BACKEND_A; }
upstream three { server $TEST_NGINX_BACKEND_B; checkups_cluster protected=off; checkups_check http match=other interval=50ms; }
upstream four { server $TEST_NGINX_BACKEND_B; server $TEST_NGINX_BACKEND_A; checkups_cluster; }
checkups_match other { status 503; }
checkups_match never { status 100; }
checkups_match default { body ~ a; }
--- config
location /api/ { checkups_api; }
--- init
main::states_are(one => 'ok');
main::states_are(two => 'ok');
main::states_are(three => 'ok');
main::states_are(four => 'err body does not match', 'ok');
main::checked(b => 30);
Test::More::cmp_ok(main::backend->count('a'), '<', main::backend->count('b'), 'one check for all that share it');
--- request eval
[map { "GET /api/clusters/$_" } 'one', 'three']
--- response_body_like eval
['"match":"default"', '"match":"other"']



=== TEST 16: of several checks each has its own
--- backend
a: 200
--- http
upstream up {
    checkups_cluster protected=off;
    server $TEST_NGINX_BACKEND_A;
    checkups_check http interval=50ms match=a;
    checkups_check http interval=50ms match=b uri=/b;
}
checkups_match a { body ~ a; }
checkups_match b { body ~ b; }
--- config
location /api/ { checkups_api; }
--- init
main::states_are(up => 'err /b: body does not match');
--- request
GET /api/status
--- response_body_like: /b: body does not match



=== TEST 17: what is included in a block
--- backend
a: 200
b: 503
--- user_files
>>> good.conf
status 200;
include b*.conf;
>>> body.conf
body ~ a;
>>> name.conf
checkups_match there { include ../html/good.conf; }
--- http
checkups_match here {
    include ../html/good.conf;
    header Content-Length;
    include ../html/none*.conf;
}
include ../html/name.conf;
--- verdicts
A: http match=here => ok
B: http match=here => err status 503
A: http match=there => ok
B: http match=there => err status 503



=== TEST 18: an unknown condition
--- http
checkups_match a {
    state 200;
}
--- refused
checkups: "state" directive: unknown condition "state", allowed are status, header, body, send and expect in http.conf:2



=== TEST 19: a condition of another form
--- http
checkups_match a { status 200; header X == a; }
--- refused
checkups: "header" directive: invalid condition "header X == a", it must be "header NAME", "header ! NAME", or "header NAME OPERATOR VALUE" with an operator of =, !=, ~, ~*, !~ and !~* in http.conf:1



=== TEST 20: a regular expression that is none
--- http
checkups_match a {
    status 200;
    body ~ a(b;
}
--- refused
checkups: "body" directive: invalid regular expression "a(b": unclosed group in http.conf:3



=== TEST 21: a regular expression of another language
--- http
checkups_match a {
    header X ~ '(?=a)';
}
--- refused
checkups: "header" directive: invalid regular expression "(?=a)": look-around, including look-ahead and look-behind, is not supported in http.conf:2



=== TEST 22: a regular expression that is too much
--- http
checkups_match a { body ~ '(a.{200}){200}'; }
--- refused
checkups: "body" directive: invalid regular expression "(a.{200}){200}": too many ways to match it, write .* in place of counts such as .{0,100} in http.conf:1



=== TEST 23: an expectation that no answer is needed for
--- http
checkups_match a { expect ~ .*; }
--- refused
checkups: "expect" directive: invalid regular expression ".*": it matches even without an answer in http.conf:1



=== TEST 24: a byte that is none
--- http
checkups_match a {
    send "\x0g";
}
--- refused
checkups: "send" directive: invalid value in "\x0g", it must be a text, in which \xHH is a byte and \\ a backslash in http.conf:2



=== TEST 25: a block without conditions
It is the beginning of the block that is named.
--- http
checkups_match good { status 200; }
checkups_match a {
    # nothing
}
--- refused
checkups: "checkups_match" directive: there are no conditions in it, allowed are status, header, body, send and expect in http.conf:2



=== TEST 26: two blocks of one name
--- http
checkups_match a { status 200; }
checkups_match b { status 200; }
checkups_match a {
    status 201;
}
--- refused
checkups: "checkups_match" directive: duplicate name "a", it is that in http.conf:1 as well in http.conf:3



=== TEST 27: a name that none can have
--- http
checkups_match a/b { status 200; }
--- refused
checkups: "checkups_match" directive: invalid name "a/b", it must be 1 to 128 letters, digits and the characters . _ : - in http.conf:1



=== TEST 28: a status that there is not
--- http
checkups_match a {
    status 200 600;
}
--- refused
checkups: "status" directive: invalid value in "600", it must be a status from 100 to 599, or two with - between them in http.conf:2



=== TEST 29: a range from the higher to the lower, of those that are bad
--- http
checkups_match a { status 200-399 ! 303-301; }
--- refused
checkups: "status" directive: invalid value in "303-301", it must be a status from 100 to 599, or two with - between them in http.conf:1



=== TEST 30: a condition twice
--- http
checkups_match a {
    status 200;
    body ~ a;
    status 201;
}
--- refused
checkups: "status" directive: duplicate condition "status 201" in http.conf:4



=== TEST 31: conditions for HTTP and for a bare connection
--- http
checkups_match a {
    status 200;
    expect ok;
}
--- refused
checkups: "expect" directive: condition "expect ok" is for another type of check than those before it: send and expect are for tcp, status, header and body are for http and https in http.conf:3



=== TEST 32: a block for HTTP, and a check of a connection
--- http
upstream up {
    checkups_cluster;
    server 127.0.0.1:1;
    checkups_check tcp match=a;
}
checkups_match a { status 200; }
--- refused
checkups: "checkups_check" directive: checkups_match "a" is for checks of another type in http.conf:4



=== TEST 33: a block for a connection, and a check by HTTPS
--- http
checkups_match a { expect a; }
upstream up {
    checkups_cluster;
    server 127.0.0.1:1;
    checkups_check https ssl_verify=off match=a;
}
--- refused
checkups: "checkups_check" directive: checkups_match "a" is for checks of another type in http.conf:5



=== TEST 34: a name that there is not
--- http
checkups_match a { status 200; }
upstream up {
    checkups_cluster;
    server 127.0.0.1:1;
    checkups_check http match=A;
}
--- refused
checkups: "checkups_check" directive: there is no checkups_match "A" in http.conf:5



=== TEST 35: mistakes in what is included are shown there
--- user_files
>>> inner.conf

state 200;
--- http
checkups_match a {
    include ../html/inner.conf;
}
--- refused
checkups: "state" directive: unknown condition "state", allowed are status, header, body, send and expect in inner.conf:2



=== TEST 36: what is included is not there
--- http
checkups_match a {
    include;
}
--- refused
checkups: "include" directive: invalid number of arguments in http.conf:2



=== TEST 37: a block in the block
--- http
checkups_match a {
    status { 200; }
}
--- refused
unexpected "{" in http.conf:2



=== TEST 38: a block that does not end
--- http
checkups_match a {
    status 200;
--- refused
unexpected end of file, expecting "}" in http.conf:3



=== TEST 39: no block at all
--- http
checkups_match a status 200;
--- refused
directive "checkups_match" has no opening "{" in http.conf:1



=== TEST 40: a block without a name
--- http
checkups_match { status 200; }
--- refused
invalid number of arguments in "checkups_match" directive in http.conf:1



=== TEST 41: in an upstream
--- http
upstream up {
    server 127.0.0.1:1;
    checkups_match a { status 200; }
}
--- refused
"checkups_match" directive is not allowed here in http.conf:3
