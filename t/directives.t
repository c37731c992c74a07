# The words of the directives: what nginx accepts, and what it refuses with the
# file, the line, the word and what is allowed.
#
# Sections of this file's own:
#   upstream   the body of `upstream up {}`
#   http       a part of `http {}`
#   server     a part of `server {}`
#   refused    the one message with which nginx must die. Then the parts above
#              are files, up.conf, http.conf and server.conf, and "in up.conf:2"
#              at the end of the message is a place in them.

use Test::Nginx::Socket 'no_plan';

my %part = (
    upstream => { file => 'up.conf',     place => 'http_config', around => "upstream up {\n%s}\n" },
    http     => { file => 'http.conf',   place => 'http_config', around => '%s' },
    server   => { file => 'server.conf', place => 'config',      around => '%s' },
);

sub refusal {
    my $message = shift;
    chomp $message;
    my $pattern = quotemeta $message;
    $pattern =~ s{in\\ (\w+\\\.conf\\:\d+)}{in \\S+/html/$1}g;
    return [qr/\[emerg\] \d+#\d+: $pattern$/];
}

add_block_preprocessor(sub {
    my $block = shift;
    my %text = (http_config => '', config => "location /api/ { checkups_api; }\n");
    my $files = '';
    for my $section (sort keys %part) {
        my ($file, $place, $around) = @{ $part{$section} }{qw(file place around)};
        defined(my $body = $block->$section) or next;
        if (defined $block->must_die || defined $block->refused) {
            $files .= ">>> $file\n$body";
            $body = "include ../html/$file;\n";
        }
        $text{$place} .= sprintf $around, $body;
    }
    $block->set_value(user_files => $files) if length $files;
    $block->set_value($_ => $text{$_}) for grep { !defined $block->$_ } keys %text;

    defined(my $message = $block->refused) or return;
    $block->set_value(must_die => 1);
    $block->set_value(error_log => refusal($message));
    # One message, and no second one of nginx that is about something else.
    $block->set_value(grep_error_log => qr/\[emerg\]/);
    $block->set_value(grep_error_log_out => "[emerg]\n");
});

no_long_string();
run_tests();

__DATA__

=== TEST 1: checkups_cluster: an unknown parameter
--- upstream
server 127.0.0.1:1;
checkups_cluster weight=1;
--- refused
"checkups_cluster" directive: unknown parameter "weight=1", allowed are one NAME and tries= in up.conf:2



=== TEST 2: checkups_cluster: two names
--- upstream
checkups_cluster a b;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: duplicate parameter "b" in up.conf:1



=== TEST 3: checkups_cluster: tries=0
--- upstream
checkups_cluster tries=0;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid value in "tries=0", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 4: checkups_cluster: tries that are not a number
--- upstream
checkups_cluster a tries=1x;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid value in "tries=1x", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 5: checkups_cluster: negative tries
--- upstream
checkups_cluster tries=-1;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid value in "tries=-1", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 6: checkups_cluster: tries= without a number
--- upstream
checkups_cluster tries=;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid value in "tries=", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 7: checkups_cluster: too many tries
--- upstream
checkups_cluster tries=1000001;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid value in "tries=1000001", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 8: checkups_cluster: tries twice
--- upstream
checkups_cluster tries=1 tries=1;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: duplicate parameter "tries=1" in up.conf:1



=== TEST 9: checkups_cluster: twice in a block
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_cluster other;
--- refused
"checkups_cluster" directive: it is duplicate in up.conf:3



=== TEST 10: checkups_cluster: the name is a variable
--- upstream
checkups_cluster $http_x_service;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: "$http_x_service": a cluster cannot be named by a variable in up.conf:1



=== TEST 11: checkups_cluster: a variable in the name
--- upstream
checkups_cluster a-${uri};
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: "a-${uri}": a cluster cannot be named by a variable in up.conf:1



=== TEST 12: checkups_cluster: a character that no name may have
--- upstream
checkups_cluster a/b;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid cluster name "a/b", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1



=== TEST 13: checkups_cluster: an empty name
--- upstream
checkups_cluster "";
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid cluster name "", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1



=== TEST 14: checkups_cluster: a blank in the name
--- upstream
checkups_cluster "a b";
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: invalid cluster name "a b", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1



=== TEST 15: checkups_cluster: a name that is not ASCII
--- upstream eval
"checkups_cluster caf\xc3\xa9;\nserver 127.0.0.1:1;\n"
--- refused eval
qq{"checkups_cluster" directive: invalid cluster name "caf\xc3\xa9", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1\n}



=== TEST 16: checkups_cluster: a name that is not even UTF-8
Nothing of it may be cut off and the rest taken for the name.
--- upstream eval
"checkups_cluster caf\xe9;\nserver 127.0.0.1:1;\n"
--- config
--- must_die: 1
--- error_log eval
[qr/\[emerg\] \d+#\d+: "checkups_cluster" directive: invalid cluster name "caf.*", it must be 1 to 128 letters, digits and the characters \. _ : - in \S+up\.conf:1$/]



=== TEST 17: checkups_cluster: a name of 129 characters
--- upstream eval
"checkups_cluster " . 'x' x 129 . ";\nserver 127.0.0.1:1;\n"
--- refused eval
'"checkups_cluster" directive: invalid cluster name "' . 'x' x 129 . qq{", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1\n}



=== TEST 18: checkups_cluster: a name of 128 characters
--- upstream eval
"checkups_cluster " . 'x' x 128 . ";\nserver 127.0.0.1:1;\n"
--- request eval
"GET /api/clusters/" . 'x' x 128
--- response_body_like eval
'^\{"name":"x{128}",'
--- no_error_log
[emerg]
[warn]



=== TEST 19: checkups_cluster: every character that a name may have
--- upstream
checkups_cluster Az09._:- tries=1000000;
server 127.0.0.1:1;
--- request
GET /api/clusters/Az09._:-
--- response_body_like eval
'^\{"name":"Az09\._:-","balance":"round_robin","tries":1000000,'



=== TEST 20: checkups_cluster: an upstream whose name no cluster can have
--- http
upstream a!b {
    server 127.0.0.1:1;
    checkups_cluster;
}
--- refused
checkups: invalid cluster name "a!b", it must be 1 to 128 letters, digits and the characters . _ : -; give the cluster another name than the upstream's: "checkups_cluster NAME" in http.conf:3



=== TEST 21: checkups_cluster: such an upstream with a name for the cluster
--- http
upstream a!b {
    server 127.0.0.1:1;
    checkups_cluster ab;
}
--- request
GET /api/clusters/ab
--- response_body_like eval
'^\{"name":"ab","balance":"round_robin","tries":null,'



=== TEST 22: one name in two blocks: that of an upstream and a given one
--- http
upstream a {
    checkups_cluster;
    server 127.0.0.1:1;
}
upstream b {
    server 127.0.0.1:1;
    checkups_cluster a;
}
--- refused
checkups: duplicate cluster name "a", it is that of the upstream in http.conf:2 as well in http.conf:7



=== TEST 23: one name in two blocks: given in both
--- http
upstream a { checkups_cluster x tries=1; server 127.0.0.1:1; }

upstream b { checkups_cluster x tries=2; server 127.0.0.1:1; }
--- refused
checkups: duplicate cluster name "x", it is that of the upstream in http.conf:1 as well in http.conf:3



=== TEST 24: names that differ in case are two
--- http
upstream a { checkups_cluster x; server 127.0.0.1:1; }
upstream b { checkups_cluster X; server 127.0.0.1:2; }
--- request
GET /api/clusters/X
--- response_body_like eval
'^\{"name":"X",.*"server":"127.0.0.1:2"'



=== TEST 25: ip_hash before
--- upstream
ip_hash;
checkups_cluster;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 26: least_conn before
--- upstream
least_conn;
checkups_cluster;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 27: hash before
--- upstream
hash $uri consistent;
checkups_cluster;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 28: random before
--- upstream
random two;
checkups_cluster;
server 127.0.0.1:1;
--- refused
"checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 29: ip_hash behind
--- upstream
checkups_cluster;
server 127.0.0.1:1;
ip_hash;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 30: least_conn behind
--- upstream
# the first line
checkups_cluster;
least_conn;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 31: hash behind
--- upstream
checkups_cluster;
server 127.0.0.1:1;
hash $uri;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 32: random behind
--- upstream
checkups_cluster;
server 127.0.0.1:1;
random;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 33: a method behind keepalive
--- upstream
checkups_cluster;
server 127.0.0.1:1;
keepalive 2;
least_conn;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 34: a method behind it, in a block whose check stands first
--- upstream
checkups_check tcp;
checkups_cluster;
server 127.0.0.1:1;
ip_hash;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 35: keepalive before
Before nginx 1.29.7 it would be lost without a word.
--- upstream
server 127.0.0.1:1;
keepalive 2;
checkups_cluster;
--- refused
"checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:3
--- skip_nginx: 3: >= 1.29.7



=== TEST 36: keepalive behind
--- upstream
checkups_cluster;
server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
keepalive 2;
keepalive_requests 10;
keepalive_timeout 5s;
--- http
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "request $connection_requests\n"; }
}
--- config
location = /t {
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_pass http://up;
}
--- request eval
["GET /t", "GET /t"]
--- response_body eval
["request 1\n", "request 2\n"]
--- no_error_log eval
[["[warn]", "[emerg]"], ["[warn]", "[emerg]"]]



=== TEST 37: nginx's zone before and behind, which nginx's balancers want
--- http
upstream a { zone a 64k; checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream b { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; zone b 64k; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "$uri\n"; }
}
--- config
location /a { proxy_pass http://a; }
location /b { proxy_pass http://b; }
--- request eval
["GET /a", "GET /b"]
--- response_body eval
["/a\n", "/b\n"]



=== TEST 38: a stock upstream beside a cluster
--- http
upstream stock   { least_conn; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream cluster { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { return 200 "$uri\n"; }
}
--- config
location /stock   { proxy_pass http://stock; }
location /cluster { proxy_pass http://cluster; }
location /none    { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
location /api/    { checkups_api; }
--- request eval
["GET /stock", "GET /cluster", "GET /none", "GET /api/clusters/stock"]
--- response_body_like eval
['^/stock$', '^/cluster$', '^/none$', '"ClusterNotFound"']
--- error_code eval
[200, 200, 200, 404]



=== TEST 39: checkups_cluster outside of upstream: http
--- http
checkups_cluster;
--- refused
"checkups_cluster" directive is not allowed here in http.conf:1



=== TEST 40: checkups_cluster outside of upstream: server
--- server
checkups_cluster a;
--- refused
"checkups_cluster" directive is not allowed here in server.conf:1



=== TEST 41: checkups_cluster outside of upstream: location
--- server
location /x {
    checkups_cluster;
}
--- refused
"checkups_cluster" directive is not allowed here in server.conf:2



=== TEST 42: checkups_check outside of upstream: http
--- http
checkups_check tcp;
--- refused
"checkups_check" directive is not allowed here in http.conf:1



=== TEST 43: checkups_check outside of upstream: server
--- server
# the first line
checkups_check tcp;
--- refused
"checkups_check" directive is not allowed here in server.conf:2



=== TEST 44: checkups_check outside of upstream: location
--- server
location /x { checkups_check tcp; }
--- refused
"checkups_check" directive is not allowed here in server.conf:1



=== TEST 45: checkups_check without checkups_cluster
--- upstream
least_conn;
server 127.0.0.1:1;
checkups_check tcp;
--- refused
checkups: "checkups_check" directive: it must stand together with "checkups_cluster" in up.conf:3



=== TEST 46: checkups_check off without checkups_cluster
--- upstream
server 127.0.0.1:1;
checkups_check off;
--- refused
checkups: "checkups_check" directive: it must stand together with "checkups_cluster" in up.conf:2



=== TEST 47: checkups_check: without a type
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check;
--- refused
"checkups_check" directive: missing type of check, allowed are tcp, http and off in up.conf:3



=== TEST 48: checkups_check: an unknown type
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check icmp interval=1s;
--- refused
"checkups_check" directive: unknown type "icmp" of check, allowed are tcp, http and off in up.conf:3



=== TEST 49: checkups_check: types are in small letters
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check HTTP;
--- refused
"checkups_check" directive: unknown type "HTTP" of check, allowed are tcp, http and off in up.conf:3



=== TEST 50: checkups_check: a parameter where the type should be
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check interval=1s http;
--- refused
"checkups_check" directive: unknown type "interval=1s" of check, allowed are tcp, http and off in up.conf:3



=== TEST 51: checkups_check: a second one
--- upstream
checkups_cluster;
checkups_check tcp;
server 127.0.0.1:1;
checkups_check http;
--- refused
"checkups_check" directive: it is duplicate, an upstream has one check in up.conf:4



=== TEST 52: checkups_check: a second one after off
--- upstream
checkups_cluster;
checkups_check off;
checkups_check http;
server 127.0.0.1:1;
--- refused
"checkups_check" directive: it is duplicate, an upstream has one check in up.conf:3



=== TEST 53: checkups_check: off takes no parameters
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check off interval=1s;
--- refused
"checkups_check" directive: unexpected parameter "interval=1s" after "off" in up.conf:3



=== TEST 54: checkups_check: an unknown parameter of a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp intervall=1s;
--- refused
"checkups_check" directive: unknown parameter "intervall=1s", allowed are interval=, jitter=, timeout=, fails=, passes= and port= in up.conf:3



=== TEST 55: checkups_check: an unknown parameter of an http check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http match=ok;
--- refused
"checkups_check" directive: unknown parameter "match=ok", allowed are interval=, jitter=, timeout=, fails=, passes=, port=, uri=, method= and host= in up.conf:3



=== TEST 56: checkups_check: a word without =
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http interval;
--- refused
"checkups_check" directive: unknown parameter "interval", allowed are interval=, jitter=, timeout=, fails=, passes=, port=, uri=, method= and host= in up.conf:3



=== TEST 57: checkups_check: a parameter of http checks in a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp uri=/healthz;
--- refused
"checkups_check" directive: parameter "uri=/healthz" is not for a check of type "tcp", allowed are interval=, jitter=, timeout=, fails=, passes= and port= in up.conf:3



=== TEST 58: checkups_check: a parameter twice
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http uri=/a fails=2 uri=/b;
--- refused
"checkups_check" directive: duplicate parameter "uri=/b" in up.conf:3



=== TEST 59: checkups_check: an interval that is too short
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=9ms;
--- refused
"checkups_check" directive: invalid value in "interval=9ms", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 60: checkups_check: an interval that is too long
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=1w1s;
--- refused
"checkups_check" directive: invalid value in "interval=1w1s", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 61: checkups_check: an interval that is no time
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=1.5s;
--- refused
"checkups_check" directive: invalid value in "interval=1.5s", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 62: checkups_check: an empty interval
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=;
--- refused
"checkups_check" directive: invalid value in "interval=", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 63: checkups_check: a jitter that is no time
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp jitter=-1s;
--- refused
"checkups_check" directive: invalid value in "jitter=-1s", it must be a time from 0s to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 64: checkups_check: no timeout
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp timeout=0;
--- refused
"checkups_check" directive: invalid value in "timeout=0", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 65: checkups_check: a number of fails that is too low
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp fails=0;
--- refused
"checkups_check" directive: invalid value in "fails=0", it must be a number from 1 to 1000000 in up.conf:3



=== TEST 66: checkups_check: a number of passes that is too high
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp passes=1000001;
--- refused
"checkups_check" directive: invalid value in "passes=1000001", it must be a number from 1 to 1000000 in up.conf:3



=== TEST 67: checkups_check: port=0
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp port=0;
--- refused
"checkups_check" directive: invalid value in "port=0", it must be a number from 1 to 65535 in up.conf:3



=== TEST 68: checkups_check: port=65536
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http port=65536;
--- refused
"checkups_check" directive: invalid value in "port=65536", it must be a number from 1 to 65535 in up.conf:3



=== TEST 69: checkups_check: a uri that does not begin with a slash
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http uri=healthz;
--- refused
"checkups_check" directive: invalid value in "uri=healthz", it must be a path that begins with / and has no blanks in up.conf:3



=== TEST 70: checkups_check: a uri with a line in it
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "uri=/ HTTP/1.1\r\nX: y";
--- config
--- must_die: 1
--- error_log eval
[qr{\[emerg\] \d+#\d+: "checkups_check" directive: invalid value in "uri=/ HTTP/1\.1}, qr{X: y", it must be a path that begins with / and has no blanks in \S+up\.conf:3$}]



=== TEST 71: checkups_check: a method that is none
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http method=get;
--- refused
"checkups_check" directive: invalid value in "method=get", it must be a method in capital letters, for example GET or HEAD in up.conf:3



=== TEST 72: checkups_check: no host
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http host=;
--- refused
"checkups_check" directive: invalid value in "host=", it must be a host name without blanks in up.conf:3



=== TEST 73: checkups_check: a blank in the host
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "host=a b";
--- refused
"checkups_check" directive: invalid value in "host=a b", it must be a host name without blanks in up.conf:3



=== TEST 74: checkups_check: the defaults of a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check tcp;
--- request
GET /api/clusters/up
--- response_body chomp
{"name":"up","balance":"round_robin","tries":null,"levels":[{"servers":[{"server":"127.0.0.1:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":true}]}],"checks":[{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}]}



=== TEST 75: checkups_check: the defaults of an http check, before the other lines
--- upstream
checkups_check http;
server 127.0.0.1:1 down;
checkups_cluster other;
--- request
GET /api/clusters/other
--- response_body chomp
{"name":"other","balance":"round_robin","tries":null,"levels":[{"servers":[{"server":"127.0.0.1:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":true}]}],"checks":[{"type":"http","method":"GET","uri":"/","host":"up","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}]}



=== TEST 76: checkups_check: every parameter
The timeout may exceed the interval.
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check http interval=10ms jitter=1m30s timeout=3 fails=1000000 passes=2 port=65535
               "uri=/health?a=b&c" method=OPTIONS host=[::1]:80;
--- request
GET /api/clusters/up
--- response_body_like eval
qr{"checks":\[\Q{"type":"http","method":"OPTIONS","uri":"/health?a=b&c","host":"[::1]:80","interval":"10ms","jitter":"90s","timeout":"3s","fails":1000000,"passes":2,"port":65535}\E\]\}$}



=== TEST 77: checkups_check: the longest times
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check tcp interval=1w timeout=7d jitter=168h;
--- request
GET /api/clusters/up
--- response_body_like eval
qr{"interval":"604800s","jitter":"604800s","timeout":"604800s"}



=== TEST 78: checkups_check: off
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check off;
--- request
GET /api/clusters/up
--- response_body_like eval
qr{"checks":\[\]\}$}



=== TEST 79: server: every parameter of nginx, IPv6, a unix socket, and one address twice
--- upstream
checkups_cluster tries=2;
server 127.0.0.1:1 weight=5 max_fails=3 fail_timeout=1m max_conns=7;
server 127.0.0.1:1;
server [::1]:2 max_fails=0 fail_timeout=0;
server unix:$TEST_NGINX_SERVER_ROOT/a.sock down;
server 127.0.0.1 backup weight=2;
server unix:/b.sock backup down;
--- request
GET /api/clusters/up
--- response_body chomp
{"name":"up","balance":"round_robin","tries":2,"levels":[{"servers":[{"server":"127.0.0.1:1","weight":5,"max_fails":3,"fail_timeout":"60s","max_conns":7,"down":false},{"server":"127.0.0.1:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":false},{"server":"[::1]:2","weight":1,"max_fails":0,"fail_timeout":"0s","max_conns":0,"down":false},{"server":"unix:$TEST_NGINX_SERVER_ROOT/a.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":true}]},{"servers":[{"server":"127.0.0.1:80","weight":2,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":false},{"server":"unix:/b.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":true}]}],"checks":[]}
--- no_error_log
[warn]
[emerg]



=== TEST 80: server: lines before checkups_cluster
--- upstream
server 127.0.0.1:1 weight=3 backup;
server 127.0.0.1:2 max_conns=1 down;
checkups_cluster;
--- request
GET /api/clusters/up
--- response_body chomp
{"name":"up","balance":"round_robin","tries":null,"levels":[{"servers":[{"server":"127.0.0.1:2","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":1,"down":true}]},{"servers":[{"server":"127.0.0.1:1","weight":3,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":false}]}],"checks":[]}



=== TEST 81: server: one address twice in a level serves
--- upstream
checkups_cluster;
server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
--- http
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "ok\n"; } }
--- config
location = /t { proxy_pass http://up; }
--- request eval
["GET /t", "GET /t", "GET /t"]
--- response_body eval
["ok\n", "ok\n", "ok\n"]



=== TEST 82: server: one that serves over IPv6
--- upstream
checkups_cluster;
server [::1]:$TEST_NGINX_RAND_PORT_1;
--- http
server { listen [::1]:$TEST_NGINX_RAND_PORT_1; location / { return 200 "$server_addr\n"; } }
--- config
location = /t { proxy_pass http://up; }
--- request
GET /t
--- response_body
::1
--- skip_eval: 2: require IO::Socket::IP; !IO::Socket::IP->new(LocalHost => '::1', Listen => 1)



=== TEST 83: server: one that serves over a unix socket
--- upstream
checkups_cluster;
server unix:$TEST_NGINX_SERVER_ROOT/a.sock;
--- http
server { listen unix:$TEST_NGINX_SERVER_ROOT/a.sock; location / { return 200 "$server_addr\n"; } }
--- config
location = /t { proxy_pass http://up; }
--- request
GET /t
--- response_body
unix:$TEST_NGINX_SERVER_ROOT/a.sock



=== TEST 84: server: a parameter that nginx does not have
--- upstream
checkups_cluster;
server 127.0.0.1:1 wait=5;
--- refused
invalid parameter "wait=5" in up.conf:2



=== TEST 85: server: a weight that is none
--- upstream
checkups_cluster;
server 127.0.0.1:1 weight=0;
--- refused
invalid parameter "weight=0" in up.conf:2



=== TEST 86: server: a weight that no counter holds
--- upstream
checkups_cluster;
server 127.0.0.1:1 weight=4294967296;
--- refused
checkups: server "127.0.0.1:1": weight=4294967296 is too large in up.conf:1



=== TEST 87: server: max_conns that no counter holds
--- upstream
checkups_cluster;
server 127.0.0.1:1 max_conns=4294967296;
--- refused
checkups: server "127.0.0.1:1": max_conns=4294967296 is too large in up.conf:1



=== TEST 88: server: max_fails that no counter holds
--- upstream
checkups_cluster;
server 127.0.0.1:1 max_fails=4294967296;
--- refused
checkups: server "127.0.0.1:1": max_fails=4294967296 is too large in up.conf:1



=== TEST 89: server: none
--- http
upstream up {
    checkups_cluster;
}
--- refused
no servers are inside upstream in http.conf:3



=== TEST 90: server: resolve
--- http
resolver 127.0.0.1:1;
upstream up {
    zone up 64k;
    checkups_cluster;
    server localhost:1 resolve;
}
--- refused
load balancing method does not support resolving names at run time in upstream "up" in http.conf:2
--- skip_nginx: 3: < 1.27.3



=== TEST 91: server: resolve, where nginx does not have it
--- upstream
checkups_cluster;
server localhost:1 resolve;
--- refused
invalid parameter "resolve" in up.conf:2
--- skip_nginx: 3: >= 1.27.3



=== TEST 92: checkups_api: in http
--- http
checkups_api;
--- refused
"checkups_api" directive is not allowed here in http.conf:1



=== TEST 93: checkups_api: in server
--- server
checkups_api;
--- refused
"checkups_api" directive is not allowed here in server.conf:1



=== TEST 94: checkups_api: in upstream
--- upstream
server 127.0.0.1:1;
checkups_api;
--- refused
"checkups_api" directive is not allowed here in up.conf:2



=== TEST 95: checkups_api: in if
--- server
location /x/ {
    if ($arg_x) { checkups_api; }
}
--- refused
"checkups_api" directive is not allowed here in server.conf:2



=== TEST 96: checkups_api: in limit_except
--- server
location /x/ {
    limit_except GET { checkups_api; }
}
--- refused
"checkups_api" directive is not allowed here in server.conf:2



=== TEST 97: checkups_api: a parameter
--- server
location /x/ { checkups_api write=on; }
--- refused
invalid number of arguments in "checkups_api" directive in server.conf:1



=== TEST 98: checkups_api: twice
--- server
location /x/ {
    checkups_api;
    checkups_api;
}
--- refused
"checkups_api" directive: it is duplicate, or another directive answers in this location in server.conf:3



=== TEST 99: checkups_api: behind another directive that answers
--- server
location /x/ {
    proxy_pass http://127.0.0.1:1;
    checkups_api;
}
--- refused
"checkups_api" directive: it is duplicate, or another directive answers in this location in server.conf:3



=== TEST 100: checkups_api: in an exact location
--- server
location = /x { checkups_api; }
--- refused
"checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:1



=== TEST 101: checkups_api: in a location by a regular expression
--- server
location ~ ^/x/(.*) { checkups_api; }
--- refused
"checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:1



=== TEST 102: checkups_api: in a location by a regular expression, case-insensitive
--- server
location ~* ^/x/ { checkups_api; }
--- refused
"checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:1



=== TEST 103: checkups_api: in a named location
--- server
location @x {
    checkups_api;
}
--- refused
"checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:2



=== TEST 104: checkups_api: prefix locations of all kinds
--- config
location ^~ /a/ { checkups_api; }
location /b/ { location /b/c/ { checkups_api; } }
location "/d e/" { checkups_api; }
--- http_config
--- request eval
["GET /a/clusters/", "GET /b/c/clusters/", "GET /d%20e/clusters/"]
--- response_body eval
["{}", "{}", "{}"]
