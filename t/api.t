# The API over HTTP: paths, methods, headers, and what clusters/ shows. What
# `status` shows is in status.t.

use Test::Nginx::Socket 'no_plan';

use IO::Socket::INET ();

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => 'location /c/ { checkups_api; }') unless defined $block->config;
    $block->set_value(http_config => <<'END') unless defined $block->http_config;
upstream up { checkups_cluster; server 127.0.0.1:1; }
END
});

our $root = '["status","clusters/"]';
our $up = '{"name":"up","balance":"round_robin","tries":null,"levels":[{"servers":[{"server":"127.0.0.1:1",'
    . '"weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":false}]}],"checks":[]}';
our $status = '\A\{"cls:up":\[\[\{"server":"up:127\.0\.0\.1:1",.*"config_timer":\{.*\}\}\z';

# The body of an error.
sub error {
    my ($status, $code, $text) = @_;
    return qr/\A\{"error":\{"status":$status,"text":"$text","code":"$code"\},"request_id":"[0-9a-f]{32}","href":"docs\/reference\.md#checkups_api"\}\z/;
}
our $no_path    = error(404, 'PathNotFound', 'path not found');
our $no_cluster = error(404, 'ClusterNotFound', 'cluster not found');
our $no_method  = error(405, 'MethodNotAllowed', 'method not allowed');

# A whole response.
sub get {
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port_for_client(), Timeout => 3)
        or return "cannot connect: $!";
    print $socket "GET $_[0] HTTP/1.0\r\n\r\n";
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
["GET /c/x", "GET /c/STATUS", "GET /c/status/x", "GET /c/statuses", "GET /c/stat", "GET /c/cluster/up", "GET /c/clusters/up/servers", "GET /c/clusters/up%2Fservers", "GET /c/%00", "GET /c/%FF", "GET /c/status%20", "GET /c/clusters/up%0A/x"]
--- response_body_like eval
[map { /^%00$/ ? '400 Bad Request' : $main::no_path } 1 .. 8, '%00', 10 .. 12]
--- error_code eval
[(404) x 8, 400, (404) x 3]
--- response_headers eval
[map { $_ == 9 ? "Content-Type: text/html" : "Content-Type: application/json\nCache-Control: no-store\n! Allow" } 1 .. 12]



=== TEST 8: clusters that are none
--- request eval
["GET /c/clusters/x", "GET /c/clusters/UP", "GET /c/clusters/up2", "GET /c/clusters/u", "GET /c/clusters/%22", "GET /c/clusters/up%00", "GET /c/clusters/" . "x" x 1000, "GET /c/clusters/-"]
--- response_body_like eval
[($main::no_cluster) x 5, '400 Bad Request', ($main::no_cluster) x 2]
--- error_code eval
[(404) x 5, 400, (404) x 2]



=== TEST 9: headers
--- request eval
["GET /c/", "GET /c/status", "GET /c/clusters/", "GET /c/clusters/up"]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\n! Allow\n! ETag\n! Last-Modified\n! Accept-Ranges\n! Transfer-Encoding") x 4]
--- error_code eval
[(200) x 4]



=== TEST 10: the length
--- request
GET /c/clusters/up
--- response_headers eval
"Content-Length: " . length $main::up
--- response_body eval
$main::up



=== TEST 11: HTTP/1.0
--- raw_request eval
"GET /c/clusters/up HTTP/1.0\r\n\r\n"
--- response_headers eval
"Content-Length: " . length $main::up
--- response_body eval
$main::up



=== TEST 12: HEAD
--- request eval
["HEAD /c/", "HEAD /c/clusters/up", "HEAD /c/clusters/", "HEAD /c/status"]
--- response_headers eval
[map { "Content-Type: application/json\nCache-Control: no-store\n$_" }
    "Content-Length: " . length($main::root), "Content-Length: " . length($main::up), "Content-Length: " . (length($main::up) + 7), ""]
--- response_body eval
["", "", "", ""]
--- error_code eval
[200, 200, 200, 200]



=== TEST 13: HEAD of what is not there
--- request eval
["HEAD /c/x", "HEAD /c/clusters/x"]
--- response_headers eval
["Content-Type: application/json\n! Allow", "Content-Type: application/json\n! Allow"]
--- response_body eval
["", ""]
--- error_code eval
[404, 404]



=== TEST 14: other methods
--- request eval
["POST /c/status", "PUT /c/clusters/up", "DELETE /c/clusters/up", "PATCH /c/clusters/", "OPTIONS /c/", "PROPFIND /c/status", "post /c/status"]
--- more_headers eval
[("Content-Length: 0") x 6, ""]
--- response_headers eval
[("Content-Type: application/json\nCache-Control: no-store\nAllow: GET, HEAD") x 6, "! Allow"]
--- response_body_like eval
[($main::no_method) x 6, '400 Bad Request']
--- error_code eval
[(405) x 6, 400]



=== TEST 15: other methods where nothing is: that nothing is there
--- request eval
["POST /c/x", "DELETE /c/clusters/up/servers/1"]
--- more_headers eval
["Content-Length: 0", ""]
--- response_headers eval
["! Allow", "! Allow"]
--- response_body_like eval
[$main::no_path, $main::no_path]
--- error_code eval
[404, 404]



=== TEST 16: TRACE, which nginx itself refuses
--- request
TRACE /c/status
--- error_code: 405



=== TEST 17: a body is read and thrown away; the connection lives on
--- pipelined_requests eval
["POST /c/clusters/up\n{\"servers\":[]}", "GET /c/clusters/up\n" . "x" x 10000, "GET /c/clusters/up"]
--- response_body_like eval
[$main::no_method, ("\\A\Q$main::up\E\\z") x 2]
--- error_code eval
[405, 200, 200]



=== TEST 18: a chunked body
--- request eval
"PUT /c/clusters/up\n5\r\nhello\r\n0\r\n\r\n"
--- more_headers
Transfer-Encoding: chunked
--- response_headers
Allow: GET, HEAD
--- response_body_like eval
$main::no_method
--- error_code: 405



=== TEST 19: a body that comes late
--- raw_request eval
["POST /c/clusters/up HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nConnection: close\r\n\r\n", "01234", "56789"]
--- raw_request_middle_delay: 0.05
--- response_headers
Allow: GET, HEAD
--- response_body_like eval
$main::no_method
--- error_code: 405



=== TEST 20: a body that is too large for nginx
--- config
location /c/ { checkups_api; client_max_body_size 10; }
--- request
POST /c/clusters/up
01234567890
--- response_body_like: 413 Request Entity Too Large
--- error_code: 413



=== TEST 21: dates and ranges are about files
--- request eval
["GET /c/clusters/up", "GET /c/clusters/up"]
--- more_headers eval
["If-Modified-Since: Thu, 01 Jan 2037 00:00:00 GMT", "Range: bytes=0-3"]
--- response_body eval
[($main::up) x 2]



=== TEST 22: allow and deny
--- config
location /c/ { checkups_api; deny all; }
--- request
GET /c/status
--- response_body_like: 403 Forbidden
--- error_code: 403



=== TEST 23: the identity of the request in an error is $request_id
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



=== TEST 24: as a part of another page
--- config
location /c/ { checkups_api; }
location = /page { ssi on; ssi_types text/plain; return 200 'a<!--# include virtual="/c/clusters/up" -->b<!--# include virtual="/c/x" -->c'; }
--- request
GET /page
--- response_body_like eval
qr/\Aa\Q$main::up\Eb\{"error":\{"status":404,.*\}c\z/



=== TEST 25: compressed
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



=== TEST 26: error_page does not get in the way
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



=== TEST 27: no clusters
--- http_config
--- request eval
["GET /c/", "GET /c/clusters/", "GET /c/clusters/up", "GET /c/status"]
--- response_body_like eval
["\\A\Q$main::root\E\\z", '\A\{\}\z', $main::no_cluster, '\A\{"last_check_time":null,']
--- error_code eval
[200, 200, 404, 200]



=== TEST 28: clusters/ and clusters/NAME: all that is set
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
my $zeta = '{"name":"zeta","balance":"round_robin","tries":3,"levels":[{"servers":['
    . '{"server":"127.0.0.1:1","weight":5,"max_fails":3,"fail_timeout":"120s","max_conns":100,"down":false},'
    . '{"server":"127.0.0.2:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":true}]},{"servers":['
    . '{"server":"unix:/b.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":false}]}],"checks":['
    . '{"type":"http","method":"HEAD","uri":"/health?a=\"b\"","host":"zeta.example","interval":"1500ms","jitter":"100ms","timeout":"1s","fails":3,"passes":2,"port":8081}]}';
my $alpha = '{"name":"alpha.1:80","balance":"round_robin","tries":null,"levels":[{"servers":['
    . '{"server":"[::1]:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"down":false}]}],"checks":['
    . '{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}]}';
[$zeta, $alpha, "{\"alpha.1:80\":$alpha,\"zeta\":$zeta}"]



=== TEST 29: the name of a stock upstream, and that of the upstream where the cluster has another
--- http_config
upstream stock { server 127.0.0.1:1; }
upstream up { checkups_cluster other; server 127.0.0.1:1; }
--- request eval
["GET /c/clusters/stock", "GET /c/clusters/up", "GET /c/clusters/other"]
--- response_body_like eval
[$main::no_cluster, $main::no_cluster, '\A\{"name":"other",']
--- error_code eval
[404, 404, 200]



=== TEST 30: a body that does not fit into one packet
--- http_config eval
"upstream up { checkups_cluster;\n" . CORE::join('', map { "server 127.0.0.1:$_;\n" } 1 .. 5000) . "}"
--- config
location /c/ { checkups_api; limit_rate 20m; limit_rate_after 16k; }
--- request eval
["GET /c/clusters/up", "GET /c/status"]
--- response_body_like eval
['\A\{"name":"up",.*"server":"127\.0\.0\.1:1",.*"server":"127\.0\.0\.1:5000",[^}]*\}\]\}\],"checks":\[\]\}\z',
 '\A\{"cls:up":\[\[.*"up:127\.0\.0\.1:5000",.*\]\],"last_check_time":.*\}\}\z']
