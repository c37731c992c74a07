# The API over HTTP: paths, methods, headers, and what clusters/ shows. What
# `status` shows is in status.t.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Versions;

use IO::Socket::INET ();

add_block_preprocessor(sub {
    my $block = shift;
    any_version($block);
    $block->set_value(config => 'location /c/ { checkups_api; }') unless defined $block->config;
    $block->set_value(http_config => <<'END') unless defined $block->http_config;
upstream up { checkups_cluster; server 127.0.0.1:1; }
END
});

our $root = '[4,5,6,7,8,9]';
our $up = '{"name":"up","balance":"round_robin","order":null,"protected":"all","tries":null,"tries_timeout":null,'
    . '"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],'
    . '"levels":[{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:1","weight":1,'
    . '"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false}]}],"checks":[]}';
our $up_length = length($up) + length '"version":1795402302000002,';
our $status = '\A\{"cls:up":\[\[\{"server":"up:127\.0\.0\.1:1",.*"config_timer":\{.*\}\}\z';

# The body of an error.
sub error {
    my ($status, $code, $text) = @_;
    return qr/\A\{"error":\{"status":$status,"text":"$text","code":"$code"\},"request_id":"[0-9a-f]{32}","href":"docs\/reference\.md#checkups_api"\}\z/;
}
our $no_path    = error(404, 'PathNotFound', 'path not found');
our $no_cluster = error(404, 'ClusterNotFound', 'cluster not found');
our $no_method  = error(405, 'MethodNotAllowed', 'method not allowed');
our $no_write   = error(405, 'MethodDisabled', 'method is disabled: checkups_api has no write=on');
our $no_json    = error(415, 'UnsupportedMediaType', 'the body must be application/json');
our $no_server  = error(503, 'NoServersAvailable', 'no servers available');

# The path of the feedback for the server.
our $feedback = '/c/clusters/up/servers/127.0.0.1:1/feedback';

# A whole response.
sub get {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port_for_client(), Timeout => 3)
        or return "cannot connect: $!";
    my ($path, $method) = (@_, 'GET');
    print $socket "$method $path HTTP/1.0\r\n\r\n";
    local $/;
    return <$socket>;
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: paths below a location with a slash at its end
--- request eval
["GET /c/", "GET /c/status", "GET /c/status/", "GET /c/clusters", "GET /c/clusters/", "GET /c/clusters/up", "GET /c/clusters/up/"]
--- response_body_like eval
["\\A\Q$main::root\E\\z", $main::status, $main::status, ("\\A\Q{\"up\":$main::up}\E\\z") x 2, ("\\A\Q$main::up\E\\z") x 2]



=== TEST 2: paths below a location without a slash at its end
--- config
location /c { checkups_api; }
--- request eval
["GET /c", "GET /c/", "GET /c/status", "GET /c/status/", "GET /c/clusters", "GET /c/clusters/", "GET /c/clusters/up", "GET /c/clusters/up/"]
--- response_body_like eval
[("\\A\Q$main::root\E\\z") x 2, ($main::status) x 2, ("\\A\Q{\"up\":$main::up}\E\\z") x 2, ("\\A\Q$main::up\E\\z") x 2]



=== TEST 3: what merely begins like such a location is not below it
--- config
location /c { checkups_api; }
--- request eval
["GET /cstatus", "GET /cclusters/", "GET /c-", "GET /status"]
--- response_body_like eval
[$main::no_path, $main::no_path, $main::no_path, "404 Not Found"]
--- error_code eval
[404, 404, 404, 404]



=== TEST 4: ^~, nested locations, blanks in the prefix, and a rewrite
--- config
location ^~ /a/ { checkups_api; }
location /b/ { location /b/d/ { checkups_api; } }
location "/e f/" { checkups_api; }
location /old/ { rewrite ^/old/(.*) /a/$1 last; }
--- request eval
["GET /a/clusters/up", "GET /b/d/clusters/up", "GET /e%20f/clusters/up", "GET /old/clusters/up"]
--- response_body eval
[($main::up) x 4]



=== TEST 5: slashes that nginx merges, dots, escapes, and arguments
--- request eval
["GET /c//clusters///up", "GET /c/x/../clusters/./up", "GET /c/%63lusters/%75p", "GET /c/clusters/up?x=/y", "GET http://other/c/clusters/up"]
--- response_body eval
[($main::up) x 5]



=== TEST 6: slashes that nginx does not merge
--- http_config
merge_slashes off;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- request eval
["GET /c/clusters/up/", "GET /c/status//", "GET /c/clusters//", "GET /c/clusters//up", "GET /c/clusters/up//"]
--- response_body_like eval
["\\A\Q$main::up\E\\z", ($main::no_path) x 4]
--- error_code eval
[200, (404) x 4]



=== TEST 7: paths that are none
--- request eval
["GET /c/x", "GET /c/STATUS", "GET /c/status/x", "GET /c/statuses", "GET /c/stat", "GET /c/cluster/up", "GET /c/clusters/up/server", "GET /c/clusters/up/select/x", "GET /c/%00", "GET /c/%FF", "GET /c/status%20", "GET /c/clusters/up%0A/x", "GET /c/clusters/up/servers/127.0.0.1:1/x", "GET /c/clusters/up/servers/127.0.0.1:1/feedback/x", "GET /c/clusters/up/servers/unix:/a.sock/feedback"]
--- response_body_like eval
[map { /^%00$/ ? '400 Bad Request' : $main::no_path } 1 .. 8, '%00', 10 .. 15]
--- error_code eval
[(404) x 8, 400, (404) x 6]
--- response_headers eval
[map { $_ == 9 ? "Content-Type: text/html" : "Content-Type: application/json\nCache-Control: no-store\n! Allow" } 1 .. 15]



=== TEST 8: a slash that is encoded is a part of the name, and none between names
--- request eval
["GET /c/clusters/up%2Fselect", "GET /c/clusters%2Fup", "GET /c%2Fclusters/up", "GET /c/clusters%2f"]
--- response_body_like eval
[$main::no_cluster, ($main::no_path) x 3]
--- error_code eval
[(404) x 4]



=== TEST 9: clusters that are none
--- request eval
["GET /c/clusters/x", "GET /c/clusters/UP", "GET /c/clusters/up2", "GET /c/clusters/u", "GET /c/clusters/%22", "GET /c/clusters/up%00", "GET /c/clusters/" . "x" x 1000, "GET /c/clusters/-"]
--- response_body_like eval
[($main::no_cluster) x 5, '400 Bad Request', ($main::no_cluster) x 2]
--- error_code eval
[(404) x 5, 400, (404) x 2]



=== TEST 10: headers
--- init
my $response = main::get('/c/clusters/up');
Test::More::like($response, qr/^ETag: "([1-9][0-9]*)"\r\n(?s:.*)\r\n\r\n\{"name":"up","version":\1,/m, 'the entity tag is the version');
--- request eval
["GET /c/", "GET /c/status", "GET /c/clusters/", "GET /c/clusters/up"]
--- response_headers eval
my $all = "Content-Type: application/json\nCache-Control: no-store\n! Allow\n! Last-Modified\n! Accept-Ranges\n! Transfer-Encoding";
[("$all\n! ETag") x 3, $all]
--- error_code eval
[(200) x 4]



=== TEST 11: the length
--- request
GET /c/clusters/up
--- response_headers eval
"Content-Length: " . $main::up_length
--- response_body eval
$main::up



=== TEST 12: HTTP/1.0
--- raw_request eval
"GET /c/clusters/up HTTP/1.0\r\n\r\n"
--- response_headers eval
"Content-Length: " . $main::up_length
--- response_body eval
$main::up



=== TEST 13: HEAD
--- request eval
["HEAD /c/", "HEAD /c/clusters/up", "HEAD /c/clusters/", "HEAD /c/status"]
--- response_headers eval
[map { "Content-Type: application/json\nCache-Control: no-store\n$_" }
    "Content-Length: " . length($main::root), "Content-Length: " . $main::up_length, "Content-Length: " . ($main::up_length + 7), ""]
--- response_body eval
["", "", "", ""]
--- error_code eval
[200, 200, 200, 200]



=== TEST 14: HEAD of what is not there
--- request eval
["HEAD /c/x", "HEAD /c/clusters/x"]
--- response_headers eval
["Content-Type: application/json\n! Allow", "Content-Type: application/json\n! Allow"]
--- response_body eval
["", ""]
--- error_code eval
[404, 404]



=== TEST 15: other methods
--- request eval
["POST /c/status", "PUT /c/clusters/up", "DELETE /c/clusters/up", "PATCH /c/clusters/", "OPTIONS /c/", "PROPFIND /c/status", "post /c/status"]
--- more_headers eval
[("Content-Length: 0") x 6, ""]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\nAllow: GET, HEAD") x 6, "! Allow"]
--- response_body_like eval
[$main::no_method, ($main::no_write) x 2, ($main::no_method) x 3, '400 Bad Request']
--- error_code eval
[(405) x 6, 400]



=== TEST 16: other methods of what can be selected, and of a cluster that there is not
--- request eval
["POST /c/clusters/up/select", "DELETE /c/clusters/up/select", "PUT /c/clusters/x", "POST /c/clusters/x/select"]
--- more_headers eval
[("Content-Length: 0") x 4]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\nAllow: GET, HEAD") x 4]
--- response_body_like eval
[($main::no_method) x 2, $main::no_write, $main::no_method]
--- error_code eval
[(405) x 4]



=== TEST 17: other methods of feedback, with and without write=on
--- config
location /c/ { checkups_api write=on; }
location /d/ { checkups_api write=off; }
--- request eval
[map { my $path = $_; map { "$_ $path" } qw(GET HEAD PUT DELETE PATCH OPTIONS) } $main::feedback, $main::feedback =~ s/^.c/\/d/r, $main::feedback =~ s/up/x/r]
--- more_headers eval
[("Content-Length: 0") x 18]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\nAllow: POST") x 18]
--- response_body_like eval
[map { $_ % 6 == 1 ? '\A\z' : $main::no_method } 0 .. 17]
--- error_code eval
[(405) x 18]



=== TEST 18: feedback without write=on
--- config
location /c/ { checkups_api; }
location /d/ { checkups_api write=off; }
--- request eval
["POST $main::feedback\n{\"failed\":true}", "POST /d/clusters/up/servers/127.0.0.1:1/feedback\n{\"failed\":true}", "POST /d/clusters/x/servers/y/feedback"]
--- more_headers eval
["Content-Type: application/json", "", "Content-Length: 0"]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\nAllow: ") x 3]
--- response_body_like eval
[($main::no_write) x 3]
--- error_code eval
[(405) x 3]



=== TEST 19: the same, to the byte: no method at all is allowed
--- init
my $response = main::get("/c/clusters/up/servers/127.0.0.1:1/feedback", 'POST');
Test::More::like($response, qr/\AHTTP\/1\.1 405 Not Allowed\r\n(?:[^\r]+\r\n)*?Allow: \r\n/, 'the header is there, and empty');
--- request
GET /c/clusters/up
--- response_body eval
$main::up



=== TEST 20: write=on changes nothing for the rest
--- config
location /c/ { checkups_api write=on; }
--- request eval
["GET /c/clusters/up", "POST /c/clusters/up", "POST /c/status", "POST $main::feedback", "POST /c/x"]
--- more_headers eval
["", ("Content-Length: 0") x 4]
--- response_headers eval
["! Allow", "Allow: GET, HEAD, PUT, DELETE", "Allow: GET, HEAD", "! Allow", "! Allow"]
--- response_body_like eval
["\\A\Q$main::up\E\\z", $main::no_method, $main::no_method, $main::no_json, $main::no_path]
--- error_code eval
[200, 405, 405, 415, 404]



=== TEST 21: limit_except lets others read and some write, as for any location that answers
--- config
location /c/ { checkups_api write=on; limit_except GET { allow 127.0.0.1; deny all; } }
location /d/ { checkups_api write=on; limit_except GET { deny all; } }
--- request eval
["GET /c/clusters/up", "HEAD /c/clusters/up", "POST /c/clusters/up", "POST $main::feedback", "GET /d/clusters/up", "POST /d/clusters/up"]
--- more_headers eval
["", "", ("Content-Length: 0") x 2, "", "Content-Length: 0"]
--- response_body_like eval
["\\A\Q$main::up\E\\z", '\A\z', $main::no_method, $main::no_json, "\\A\Q$main::up\E\\z", '403 Forbidden']
--- error_code eval
[200, 200, 405, 415, 200, 403]



=== TEST 22: nothing can be selected
--- http_config
upstream up { checkups_cluster; server 127.0.0.1:1 down; }
--- request eval
["GET /c/clusters/up/select", "HEAD /c/clusters/up/select", "GET /c/clusters/x/select"]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\n! Allow") x 3]
--- response_body_like eval
[$main::no_server, '\A\z', $main::no_cluster]
--- error_code eval
[503, 503, 404]



=== TEST 23: other methods where nothing is: that nothing is there
--- request eval
["POST /c/x", "DELETE /c/clusters/up/servers/1/x"]
--- more_headers eval
["Content-Length: 0", ""]
--- response_headers eval
["! Allow", "! Allow"]
--- response_body_like eval
[$main::no_path, $main::no_path]
--- error_code eval
[404, 404]



=== TEST 24: TRACE, which nginx itself refuses
--- request
TRACE /c/status
--- error_code: 405



=== TEST 25: a body is read and thrown away; the connection lives on
--- pipelined_requests eval
["POST /c/clusters/up\n{\"servers\":[]}", "GET /c/clusters/up\n" . "x" x 10000, "GET /c/clusters/up"]
--- response_body_like eval
[$main::no_method, ("\\A\Q$main::up\E\\z") x 2]
--- error_code eval
[405, 200, 200]



=== TEST 26: a chunked body
--- request eval
"PATCH /c/clusters/up\n5\r\nhello\r\n0\r\n\r\n"
--- more_headers
Transfer-Encoding: chunked
--- response_headers
Allow: GET, HEAD, PUT, DELETE
--- response_body_like eval
$main::no_method
--- error_code: 405



=== TEST 27: a body that comes late
--- raw_request eval
["POST /c/clusters/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nConnection: close\r\n\r\n", "01234", "56789"]
--- raw_request_middle_delay: 0.05
--- response_headers
Allow: GET, HEAD, PUT, DELETE
--- response_body_like eval
$main::no_method
--- error_code: 405



=== TEST 28: nginx's own limit of the body does not come before the answer
--- http_config
client_max_body_size 10;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- config
location /c/ { checkups_api; }
location /d/ { checkups_api; client_max_body_size 10; }
--- request eval
["POST /c/clusters/up\n01234567890", "POST /d/clusters/up\n01234567890"]
--- response_headers eval
[("Allow: GET, HEAD, PUT, DELETE") x 2]
--- response_body_like eval
[($main::no_method) x 2]
--- error_code eval
[405, 405]



=== TEST 29: up to 16 megabytes, then it does
--- config
location /c/ { checkups_api; lingering_timeout 50ms; }
--- raw_request eval
["POST /c/clusters/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777216\r\nConnection: close\r\n\r\n",
 "POST /c/clusters/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 16777217\r\nConnection: close\r\n\r\n"]
--- response_body_like eval
[$main::no_method, '413 Request Entity Too Large']
--- error_code eval
[405, 413]



=== TEST 30: a limit of the body elsewhere stays as it is
--- config
location /c/ { checkups_api; location /c/other/ { proxy_pass http://127.0.0.1:1; client_max_body_size 10; } }
location /d/ { proxy_pass http://127.0.0.1:1; client_max_body_size 10; }
--- request eval
["POST /c/other/\n01234567890", "POST /d/\n01234567890"]
--- response_body_like eval
[("413 Request Entity Too Large") x 2]
--- error_code eval
[413, 413]



=== TEST 31: dates and ranges are about files
--- request eval
["GET /c/clusters/up", "GET /c/clusters/up"]
--- more_headers eval
["If-Modified-Since: Thu, 01 Jan 2037 00:00:00 GMT", "Range: bytes=0-3"]
--- response_body eval
[($main::up) x 2]



=== TEST 32: allow and deny
--- config
location /c/ { checkups_api; deny all; }
--- request
GET /c/status
--- response_body_like: 403 Forbidden
--- error_code: 403



=== TEST 33: the identity of the request in an error is $request_id
--- http_config
add_header X-Request-Id $request_id always;
--- init
my ($header, $body) = split /\r\n\r\n/, main::get('/c/x');
my ($in_header) = $header =~ /^X-Request-Id: ([0-9a-f]{32})/m;
my ($in_body) = $body =~ /"request_id":"([0-9a-f]{32})"/;
Test::More::is($in_body, $in_header, 'the same in the header and in the body');
--- request
GET /c/x
--- response_body_like eval
$main::no_path
--- error_code: 404



=== TEST 34: as a part of another page
--- config
location /c/ { checkups_api; }
location = /page { ssi on; ssi_types text/plain; return 200 'a<!--# include virtual="/c/clusters/up" -->b<!--# include virtual="/c/x" -->c'; }
--- request
GET /page
--- response_body_like eval
qr/\Aa\Q$main::up\Eb\{"error":\{"status":404,.*\}c\z/



=== TEST 35: compressed
--- config
location /c/ { checkups_api; gzip on; gzip_types application/json; gzip_min_length 1; }
--- request
GET /c/clusters/up
--- more_headers
Accept-Encoding: gzip
--- response_headers
Content-Type: application/json
Content-Encoding: gzip
! Content-Length
--- response_body_like eval
qr/\A\x1f\x8b/



=== TEST 36: error_page does not get in the way
--- config
error_page 404 405 = /page;
location = /page { return 200 "page\n"; }
location /c/ { checkups_api; }
--- request eval
["GET /c/x", "DELETE /c/"]
--- response_body_like eval
[$main::no_path, $main::no_method]
--- error_code eval
[404, 405]



=== TEST 37: no clusters
--- http_config
--- request eval
["GET /c/", "GET /c/clusters/", "GET /c/clusters/up", "GET /c/status"]
--- response_body_like eval
["\\A\Q$main::root\E\\z", '\A\{\}\z', $main::no_cluster, '\A\{"last_check_time":null,']
--- error_code eval
[200, 200, 404, 200]



=== TEST 38: clusters/ and clusters/NAME: all that is set
--- http_config
upstream zeta {
    checkups_cluster tries=3;
    server 127.0.0.1:1 weight=5 max_fails=3 fail_timeout=2m max_conns=100;
    server 127.0.0.2:1 down;
    server unix:/b.sock backup;
    checkups_check http interval=1500ms jitter=100ms timeout=1s fails=3 passes=2 uri=/health?a="b" method=HEAD host=zeta.example port=8081;
}
upstream stock { server 127.0.0.1:1; }
upstream other {
    checkups_cluster alpha.1:80;
    server [::1]:1;
    checkups_check tcp;
}
--- request eval
["GET /c/clusters/zeta", "GET /c/clusters/alpha.1:80", "GET /c/clusters/"]
--- response_body eval
my $zeta = '{"name":"zeta","balance":"round_robin","order":null,"protected":"all","tries":3,"tries_timeout":null,'
    . '"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":['
    . '{"name":null,"tries":null,"tries_timeout":null,"servers":['
    . '{"server":"127.0.0.1:1","weight":5,"max_fails":3,"fail_timeout":"120s","max_conns":100,"slow_start":"0s","down":false,"drain":false},'
    . '{"server":"127.0.0.2:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":true,"drain":false}]},'
    . '{"name":null,"tries":null,"tries_timeout":null,"servers":['
    . '{"server":"unix:/b.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false}]}],"checks":['
    . '{"type":"http","method":"HEAD","uri":"/health?a=\"b\"","host":"zeta.example","interval":"1500ms","jitter":"100ms","timeout":"1s","fails":3,"passes":2,"port":8081}]}';
my $alpha = '{"name":"alpha.1:80","balance":"round_robin","order":null,"protected":"all","tries":null,"tries_timeout":null,'
    . '"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":['
    . '{"name":null,"tries":null,"tries_timeout":null,"servers":['
    . '{"server":"[::1]:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false}]}],"checks":['
    . '{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}]}';
[$zeta, $alpha, "{\"alpha.1:80\":$alpha,\"zeta\":$zeta}"]



=== TEST 39: clusters/NAME: all that is set of a cluster with named levels
--- http_config
upstream geo {
    checkups_cluster protected=one tries=3 tries_timeout=5s connect_timeout=250ms send_timeout=1m read_timeout=90s;
    checkups_level dc1 tries=2 tries_timeout=1500ms {
        server 127.0.0.1:1 weight=5 max_fails=3 fail_timeout=2m max_conns=100;
        server 127.0.0.2:1 down;
    }
    checkups_level dc2 { server 127.0.0.3:1; server unix:/b.sock; }
    checkups_level_from dc3 other tries=1;
    checkups_order "$cookie_dc, 1";
    checkups_balance hash "$host$request_uri";
    checkups_fail_status 500 502-504;
    checkups_server 127.0.0.1:1 slow_start=30s;
    checkups_server unix:/b.sock drain;
    checkups_check tcp jitter=0 interval=1h timeout=100ms port=1;
}
upstream other { server [::1]:1 weight=2; }
--- request
GET /c/clusters/geo
--- response_body chomp
{"name":"geo","balance":"hash $host$request_uri","order":"$cookie_dc, 1","protected":"one","tries":3,"tries_timeout":"5s","connect_timeout":"250ms","send_timeout":"60s","read_timeout":"90s","fail_status":["500","502-504"],"levels":[{"name":"dc1","tries":2,"tries_timeout":"1500ms","servers":[{"server":"127.0.0.1:1","weight":5,"max_fails":3,"fail_timeout":"120s","max_conns":100,"slow_start":"30s","down":false,"drain":false},{"server":"127.0.0.2:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":true,"drain":false}]},{"name":"dc2","tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.3:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false},{"server":"unix:/b.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":true}]},{"name":"dc3","tries":1,"tries_timeout":null,"servers":[{"server":"[::1]:1","weight":2,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false}]}],"checks":[{"type":"tcp","interval":"3600s","jitter":"0s","timeout":"100ms","fails":1,"passes":1,"port":1}]}



=== TEST 40: every method, order and protection
--- http_config eval
my $server = 'server 127.0.0.1:1;';
"upstream a { checkups_cluster protected=off; checkups_balance url_hash; checkups_order ''; $server }
upstream b { checkups_cluster protected=on; checkups_balance ip_hash; checkups_order 2,1; $server }
upstream c { checkups_cluster protected=all; checkups_balance header_hash; $server }
upstream d { checkups_cluster; checkups_balance least_conn; $server }
upstream e { checkups_cluster; checkups_balance random two; $server }
upstream f { checkups_cluster; checkups_balance hash 'x\"\\\\y'; $server }"
--- request eval
["GET /c/clusters/"]
--- response_body eval
my $with = sub {
    my ($name, $balance, $order, $protected) = @_;
    qq("$name":) . $main::up =~ s/"name":"up"/"name":"$name"/r =~ s/round_robin/$balance/r =~ s/"order":null/"order":$order/r =~ s/"protected":"all"/"protected":"$protected"/r;
};
['{' . CORE::join(',', $with->('a', 'url_hash', '""', 'off'), $with->('b', 'ip_hash', '"2,1"', 'one'), $with->('c', 'header_hash', 'null', 'all'),
    $with->('d', 'least_conn', 'null', 'all'), $with->('e', 'random two', 'null', 'all'), $with->('f', 'hash x\"\\\\y', 'null', 'all')) . '}']



=== TEST 41: the name of a stock upstream, and that of the upstream where the cluster has another
--- http_config
upstream stock { server 127.0.0.1:1; }
upstream up { checkups_cluster other; server 127.0.0.1:1; }
--- request eval
["GET /c/clusters/stock", "GET /c/clusters/up", "GET /c/clusters/other"]
--- response_body_like eval
[$main::no_cluster, $main::no_cluster, '\A\{"name":"other",']
--- error_code eval
[404, 404, 200]



=== TEST 42: a body that does not fit into one packet
--- http_config eval
"checkups_zone checkups:8m;\nupstream up { checkups_cluster;\n" . CORE::join('', map { "server 127.0.0.1:$_;\n" } 1 .. 5000) . "}"
--- config
location /c/ { checkups_api; limit_rate 20m; limit_rate_after 16k; }
--- request eval
["GET /c/clusters/up", "GET /c/status"]
--- response_body_like eval
['\A\{"name":"up",.*"server":"127\.0\.0\.1:1",.*"server":"127\.0\.0\.1:5000",[^}]*\}\]\}\],"checks":\[\]\}\z',
 '\A\{"cls:up":\[\[.*"up:127\.0\.0\.1:5000",.*\]\],"last_check_time":.*\}\}\z']
