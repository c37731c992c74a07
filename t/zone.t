# checkups_zone: its words, its size, and what happens without it.
#
# Sections of this file's own:
#   http       a part of `http {}`
#   refused    the one message with which nginx must die. Then the part above is
#              a file http.conf, and "in http.conf:2" at the end of the message
#              is a place in it.

use Test::Nginx::Socket 'no_plan';

use File::Temp ();
use POSIX ();

# The smallest zone: 8 pages, of 4k in most places.
our $least_k = 8 * POSIX::sysconf(POSIX::_SC_PAGESIZE()) / 1024;

# So many `server` lines, of as many addresses.
sub servers {
    my $count = shift;
    return join '', map { sprintf "server 127.%d.%d.%d:1;\n", $_ / 62500, $_ / 250 % 250, $_ % 250 + 1 }
        1 .. $count;
}

add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(config => 'location /api/ { checkups_api; }') unless defined $block->config;
    if (defined(my $body = $block->http)) {
        if (defined $block->refused) {
            $block->set_value(user_files => ">>> http.conf\n$body");
            $body = "include ../html/http.conf;\n";
        }
        $block->set_value(http_config => $body);
    }
    defined(my $message = $block->refused) or return;
    chomp $message;
    my $pattern = quotemeta $message;
    $pattern =~ s{in\\ (\w+\\\.conf\\:\d+)}{in \\S+/html/$1}g;
    $block->set_value(must_die => 1);
    $block->set_value(error_log => [qr/\[emerg\] \d+#\d+: $pattern$/]);
    $block->set_value(grep_error_log => qr/\[emerg\]/);
    $block->set_value(grep_error_log_out => "[emerg]\n");
});

no_long_string();
run_tests();

# What the configuration that Test::Nginx writes cannot show.
my $dir = File::Temp->newdir;
my $log = "$dir/error.log";
my $command = "$Test::Nginx::Util::NginxBinary -p $dir -c nginx.conf";
END { system("$command -s stop 2>/dev/null") if -s "$dir/nginx.pid" }

for my $master (qw(on off)) {
    my $name = "no http {}, master_process $master";
    write_configuration("master_process $master;");
    Test::More::is(system("$command -t 2>/dev/null"), 0, "$name: nginx -t is content");
    Test::More::is(system("$command 2>/dev/null"), 0, "$name: nginx starts");
    Test::More::ok(waits_for(sub { -s "$dir/nginx.pid" }), "$name: nginx runs");
    Test::More::is(system("$command -s quit 2>/dev/null"), 0, "$name: nginx is told to quit");
    Test::More::ok(waits_for(sub { !-e "$dir/nginx.pid" }), "$name: nginx has quit");
    Test::More::is(join('', grep { /\[(?:warn|error|crit|alert|emerg)\]|panicked/ } lines_of($log)),
        '', "$name: no complaints");
}

write_configuration("worker_processes 5000;", <<"END");
http {
    checkups_zone small:${least_k}k;
    upstream up { checkups_cluster; server 127.0.0.1:1; }
}
END
my $said = `$command -t 2>&1`;
Test::More::isnt($?, 0, 'too small for the workers: nginx -t refuses it');
Test::More::like($said, qr/\[emerg\] .*zone "small" of \d+ bytes: the zone is full.*, a larger size is wanted in checkups_zone$/m,
    'too small for the workers: the message');

sub write_configuration {
    my ($main, $http) = (@_, '');
    my $modules = join '', map { "load_module $_;\n" } split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    if (length $http) {
        my $paths = join '', map { "${_}_temp_path $dir/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi);
        $http =~ s/\Ahttp \{\n\K/access_log off;\n$paths/;
    }
    unlink $log;
    open my $out, '>', "$dir/nginx.conf" or die $!;
    print $out "$modules$main\npid $dir/nginx.pid;\nerror_log $log notice;\nevents {}\n$http";
    close $out or die $!;
}

sub waits_for {
    my $condition = shift;
    for (1 .. 500) {
        return 1 if $condition->();
        select undef, undef, undef, 0.01;
    }
    return 0;
}

sub lines_of {
    open my $in, '<', shift or return "no log: $!\n";
    return <$in>;
}

__DATA__

=== TEST 1: NAME:SIZE
--- http
checkups_zone other-name:1m;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- request
GET /api/status
--- response_body_like eval
qr/^\{"cls:up":\[\[\{"server":"up:127\.0\.0\.1:1","status":"unchecked","weight":1,/
--- no_error_log
[warn]
[emerg]



=== TEST 2: behind the clusters, and a size in bytes that is no multiple of a page
--- http
upstream up { checkups_cluster; server 127.0.0.1:1; }
checkups_zone a:1000001;
--- request
GET /api/status
--- response_body_like eval
qr/^\{"cls:up":/



=== TEST 3: the units of nginx
--- http
checkups_zone a:2M;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- request
GET /api/status
--- response_body_like eval
qr/^\{"cls:up":/



=== TEST 4: no clusters
--- http
checkups_zone a:1m;
--- request eval
["GET /api/status", "GET /api/clusters/"]
--- response_body_like eval
['^\{"last_check_time":null,"checkup_timer_alive":(?:true|false),"start_time":"[-0-9]{10} [0-9:]{8}",', '^\{\}$']



=== TEST 5: neither a zone nor clusters
--- http
--- request eval
["GET /api/status", "GET /api/clusters/"]
--- response_body_like eval
['^\{"last_check_time":null,"checkup_timer_alive":false,"start_time":null,', '^\{\}$']
--- no_error_log eval
[["[warn]", "[error]", "[emerg]"], ["[warn]", "[error]", "[emerg]"]]



=== TEST 6: the smallest zone holds some servers, and serves
--- http eval
"checkups_zone a:${main::least_k}k;\n" . <<'END'
upstream up {
    checkups_cluster;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=2;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
    checkups_check http;
}
upstream b { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
upstream c { checkups_cluster; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; checkups_check tcp; }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "1\n"; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; location / { return 200 "2\n"; } }
END
--- config
location = /up { proxy_pass http://up; }
location = /b { proxy_pass http://b; }
location = /c { proxy_pass http://c; }
--- request eval
["GET /up", "GET /up", "GET /up", "GET /b", "GET /c"]
--- response_body eval
["1\n", "2\n", "1\n", "1\n", "2\n"]



=== TEST 7: under 8 pages
--- http eval
"checkups_zone a:@{[$main::least_k * 1024 - 1]};\n"
--- refused eval
qq{checkups: "checkups_zone" directive: invalid size "@{[$main::least_k * 1024 - 1]}", it must be at least ${main::least_k}k in http.conf:1\n}



=== TEST 8: size 0
--- http eval
"# the first line\ncheckups_zone a:0;\n"
--- refused eval
qq{checkups: "checkups_zone" directive: invalid size "0", it must be at least ${main::least_k}k in http.conf:2\n}



=== TEST 9: a negative size
--- http
checkups_zone a:-1m;
--- refused
checkups: "checkups_zone" directive: invalid size "-1m", it must be a number of bytes, or with k or m behind it in http.conf:1



=== TEST 10: a unit that sizes do not have
--- http
checkups_zone a:1g;
--- refused
checkups: "checkups_zone" directive: invalid size "1g", it must be a number of bytes, or with k or m behind it in http.conf:1



=== TEST 11: a size that no number holds
--- http
checkups_zone a:99999999999999999999m;
--- refused
checkups: "checkups_zone" directive: invalid size "99999999999999999999m", it must be a number of bytes, or with k or m behind it in http.conf:1



=== TEST 12: no size
--- http
checkups_zone checkups;
--- refused
checkups: "checkups_zone" directive: invalid zone "checkups", it must be NAME:SIZE, for example checkups:4m in http.conf:1



=== TEST 13: an empty size
--- http
checkups_zone checkups:;
--- refused
checkups: "checkups_zone" directive: invalid zone "checkups:", it must be NAME:SIZE, for example checkups:4m in http.conf:1



=== TEST 14: no name
--- http
checkups_zone :4m;
--- refused
checkups: "checkups_zone" directive: invalid zone ":4m", it must be NAME:SIZE, for example checkups:4m in http.conf:1



=== TEST 15: two colons
--- http
checkups_zone a:b:4m;
--- refused
checkups: "checkups_zone" directive: invalid size "b:4m", it must be a number of bytes, or with k or m behind it in http.conf:1



=== TEST 16: no word
--- http
checkups_zone;
--- refused
invalid number of arguments in "checkups_zone" directive in http.conf:1



=== TEST 17: two words
--- http
checkups_zone a:4m noreuse;
--- refused
invalid number of arguments in "checkups_zone" directive in http.conf:1



=== TEST 18: a second line
--- http
checkups_zone a:4m;
upstream up { checkups_cluster; server 127.0.0.1:1; }
checkups_zone b:4m;
--- refused
checkups: "checkups_zone" directive: it is duplicate, there is one zone in http.conf:3



=== TEST 19: a second line, even if it is the same
--- http
checkups_zone a:4m;
checkups_zone a:4m;
--- refused
checkups: "checkups_zone" directive: it is duplicate, there is one zone in http.conf:2



=== TEST 20: in upstream
--- http
upstream up {
    checkups_zone a:4m;
    server 127.0.0.1:1;
}
--- refused
"checkups_zone" directive is not allowed here in http.conf:2



=== TEST 21: in server
--- http
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    checkups_zone a:4m;
}
--- refused
"checkups_zone" directive is not allowed here in http.conf:3



=== TEST 22: too small for the configuration: the message names the cluster that does not fit
--- http eval
"checkups_zone small:${main::least_k}k;\n"
. "upstream a { checkups_cluster; server 127.0.0.1:1; }\n"
. "upstream b { checkups_cluster beta; " . main::servers(1000) . "}\n"
. "upstream c { checkups_cluster; server 127.0.0.1:1; }\n"
--- refused eval
'checkups: zone "small" of ' . $main::least_k * 1024 . ' bytes: the zone is full while storing cluster'
. ' "beta" with its 1000 servers, a larger size is wanted in checkups_zone' . "\n"



=== TEST 23: without the line the zone has 4m
--- http eval
"upstream up { checkups_cluster; " . main::servers(30000) . "}\n"
--- refused
checkups: zone "checkups" of 4194304 bytes: the zone is full while storing cluster "up" with its 30000 servers, a larger size is wanted in checkups_zone



=== TEST 24: in 4m there is room for 2000 servers that are checked
--- http eval
"upstream up { checkups_cluster; checkups_check tcp interval=1h; " . main::servers(2000) . "}\n"
--- request
GET /api/clusters/
--- response_body_like eval
qr/^\{"up":\{"name":"up",.*"server":"127\.0\.8\.1:1"/



=== TEST 25: without the line the zone is called checkups: another module has that name
--- http_config
limit_req_zone $uri zone=checkups:1m rate=1r/s;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- config
--- must_die: 1
--- error_log
the shared memory zone "checkups" is already declared for a different use



=== TEST 26: another module has the name: it comes later
--- http_config
checkups_zone mine:1m;
limit_conn_zone $uri zone=mine:1m;
--- config
--- must_die: 1
--- error_log
the shared memory zone "mine" is already declared for a different use



=== TEST 27: another module has the name: the zone of an upstream
--- http_config
checkups_zone up:1m;
upstream up { checkups_cluster; zone up 64k; server 127.0.0.1:1; }
--- config
--- must_die: 1
--- error_log
the shared memory zone "up" is already declared for a different use



=== TEST 28: another module may have the default name where it is not used
--- http_config
limit_req_zone $uri zone=checkups:1m rate=1r/s;
checkups_zone mine:1m;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- request
GET /api/status
--- response_body_like eval
qr/^\{"cls:up":/



=== TEST 29: less than a tenth is free: the log says so, once
--- http_config eval
"checkups_zone checkups:64k; upstream up { checkups_cluster; " . main::servers(61) . "}"
--- request
GET /api/status
--- response_body_like eval
qr/"zone":\{"name":"checkups","size":65536,"free":0\}/
--- wait: 2.2
--- grep_error_log eval
qr/checkups: zone "checkups": \d+ of \d+ bytes are free, a larger size is wanted in checkups_zone/
--- grep_error_log_out
checkups: zone "checkups": 0 of 65536 bytes are free, a larger size is wanted in checkups_zone



=== TEST 30: there is room enough: the log is silent
--- http_config eval
"checkups_zone checkups:64k; upstream up { checkups_cluster; " . main::servers(35) . "}"
--- request
GET /api/status
--- response_body_like eval
qr/"zone":\{"name":"checkups","size":65536,"free":[1-9]/
--- no_error_log
bytes are free
