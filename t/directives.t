# The words of the directives: what nginx accepts, and what it refuses with the
# file, the line, the word and what is allowed.
#
# Sections of this file's own:
#   upstream   the body of `upstream up {}`
#   http       a part of `http {}`
#   server     a part of `server {}`
#   refused    the one message with which nginx must die. Then the parts above
#              are files, up.conf, http.conf and server.conf, and "in up.conf:2"
#              in the message is a place in them.

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use NginxSettings;
use Versions;

use Cwd ();
use File::Temp ();
use IO::Socket::UNIX ();

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
    any_version($block);
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
    $block->set_value(user_files => $files . ($block->user_files // '')) if length $files;
    $block->set_value($_ => $text{$_}) for grep { !defined $block->$_ } keys %text;

    defined(my $message = $block->refused) or return;
    $block->set_value(must_die => 1);
    $block->set_value(error_log => refusal($message));
    # One message, and no second one of nginx that is about something else.
    $block->set_value(grep_error_log => qr/\[emerg\]/);
    $block->set_value(grep_error_log_out => "[emerg]\n");
});

# Whether a process may have an /etc/hosts of its own.
sub may_have_hosts { return !system("unshare -m mount --bind /etc/hosts /etc/hosts 2>/dev/null") }

# The settings of cluster "up", whose upstream block has this body, where these
# are the names that are known; or what nginx has against it.
sub settings_with_hosts {
    my ($hosts, $body) = @_;
    my $root = File::Temp->newdir('checkups-d.XXXXXX', TMPDIR => 1);
    chmod 0755, $root;
    my %files = (hosts => $hosts, 'up.conf' => $body, 'nginx.conf' => <<"END");
@{[ map { "load_module $_;\n" } map { Cwd::abs_path($_) // $_ } split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '' ]}
@{[ $> == 0 ? 'user root;' : '' ]}
worker_processes 1;
pid $root/nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path $root/body;
    proxy_temp_path $root/proxy;
    fastcgi_temp_path $root/fastcgi;
    scgi_temp_path $root/scgi;
    uwsgi_temp_path $root/uwsgi;
    upstream up { checkups_cluster; include $root/up.conf; }
    server { listen unix:$root/api.sock; location / { checkups_api; } }
}
END
    for my $name (keys %files) {
        open my $out, '>', "$root/$name" or die "$name: $!";
        print $out $files{$name};
        close $out or die "$name: $!";
    }
    my @nginx = ($Test::Nginx::Util::NginxBinary, '-p', "$root/", '-c', "$root/nginx.conf", '-e', "$root/error.log");
    my $status = system('unshare', '-m', 'sh', '-c', 'mount --bind "$0" /etc/hosts && exec "$@" 2>"$0.err"', "$root/hosts", @nginx);
    if ($status) {
        open my $log, '<', "$root/error.log" or die "error.log: $!";
        return join '', <$log>;
    }
    my $socket = IO::Socket::UNIX->new(Peer => "$root/api.sock") or die "api.sock: $!";
    print $socket "GET /clusters/up HTTP/1.0\r\n\r\n";
    my $response = do { local $/; <$socket> } // '';
    # nginx removes it at its end.
    open my $in, '<', "$root/nginx.pid" or die "nginx.pid: $!";
    kill TERM => <$in> =~ /(\d+)/;
    for (1 .. 500) {
        last if !-e "$root/nginx.pid";
        select undef, undef, undef, 0.01;
    }
    return without_version($response =~ s/\A.*?\r\n\r\n//sr);
}

no_long_string();
run_tests();

__DATA__

=== TEST 1: checkups_cluster: an unknown parameter
--- upstream
server 127.0.0.1:1;
checkups_cluster weight=1;
--- refused
checkups: "checkups_cluster" directive: unknown parameter "weight=1", allowed are one NAME, tries=, tries_timeout=, protected=, connect_timeout=, send_timeout= and read_timeout= in up.conf:2



=== TEST 2: checkups_cluster: two names
--- upstream
checkups_cluster a b;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "b" in up.conf:1



=== TEST 3: checkups_cluster: tries=0
--- upstream
checkups_cluster tries=0;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries=0", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 4: checkups_cluster: tries that are not a number
--- upstream
checkups_cluster a tries=1x;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries=1x", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 5: checkups_cluster: negative tries
--- upstream
checkups_cluster tries=-1;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries=-1", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 6: checkups_cluster: tries= without a number
--- upstream
checkups_cluster tries=;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries=", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 7: checkups_cluster: too many tries
--- upstream
checkups_cluster tries=1000001;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries=1000001", it must be a number from 1 to 1000000 in up.conf:1



=== TEST 8: checkups_cluster: tries twice
--- upstream
checkups_cluster tries=1 tries=1;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "tries=1" in up.conf:1



=== TEST 9: checkups_cluster: twice in a block
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_cluster other;
--- refused
checkups: "checkups_cluster" directive: it is duplicate in up.conf:3



=== TEST 10: checkups_cluster: the name is a variable
--- upstream
checkups_cluster $http_x_service;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "server" does not go with that: it is said of each cluster in up.conf:1



=== TEST 11: checkups_cluster: a variable in the name
--- upstream
checkups_cluster a-${uri};
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: it names the clusters by a variable, "server" does not go with that: it is said of each cluster in up.conf:1



=== TEST 12: checkups_cluster: a character that no name may have
--- upstream
checkups_cluster a/b;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid cluster name "a/b", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1



=== TEST 13: checkups_cluster: an empty name
--- upstream
checkups_cluster "";
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid cluster name "", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1



=== TEST 14: checkups_cluster: a blank in the name
--- upstream
checkups_cluster "a b";
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid cluster name "a b", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1



=== TEST 15: checkups_cluster: a name that is not ASCII
--- upstream eval
"checkups_cluster caf\xc3\xa9;\nserver 127.0.0.1:1;\n"
--- refused eval
qq{checkups: "checkups_cluster" directive: invalid cluster name "caf\xc3\xa9", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1\n}



=== TEST 16: checkups_cluster: a name that is not even UTF-8
Nothing of it may be cut off and the rest taken for the name.
--- upstream eval
"checkups_cluster caf\xe9;\nserver 127.0.0.1:1;\n"
--- config
--- must_die: 1
--- error_log eval
[qr/\[emerg\] \d+#\d+: checkups: "checkups_cluster" directive: invalid cluster name "caf.*", it must be 1 to 128 letters, digits and the characters \. _ : - in \S+up\.conf:1$/]



=== TEST 17: checkups_cluster: a name of 129 characters
--- upstream eval
"checkups_cluster " . 'x' x 129 . ";\nserver 127.0.0.1:1;\n"
--- refused eval
'checkups: "checkups_cluster" directive: invalid cluster name "' . 'x' x 129 . qq{", it must be 1 to 128 letters, digits and the characters . _ : - in up.conf:1\n}



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
--- response_body eval
::json_cluster('Az09._:-', [::json_level(undef, [::json_server('127.0.0.1:1')])], tries => 1000000)



=== TEST 20: checkups_cluster: no time for tries
--- upstream
checkups_cluster tries_timeout=0;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries_timeout=0", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:1



=== TEST 21: checkups_cluster: a time for tries that is too long
--- upstream
checkups_cluster tries_timeout=1w1ms;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries_timeout=1w1ms", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:1



=== TEST 22: checkups_cluster: a time for tries that is none
--- upstream
server 127.0.0.1:1;
checkups_cluster a tries_timeout=5x;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries_timeout=5x", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:2



=== TEST 23: checkups_cluster: an empty time for tries
--- upstream
checkups_cluster tries_timeout=;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "tries_timeout=", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:1



=== TEST 24: checkups_cluster: tries_timeout twice
--- upstream
checkups_cluster tries_timeout=1s tries=2 tries_timeout=2s;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "tries_timeout=2s" in up.conf:1



=== TEST 25: checkups_cluster: protected by a word that there is not
--- upstream
checkups_cluster protected=two;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "protected=two", it must be all, one or off in up.conf:1



=== TEST 26: checkups_cluster: protected in capitals
--- upstream
checkups_cluster protected=Off;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "protected=Off", it must be all, one or off in up.conf:1



=== TEST 27: checkups_cluster: protected by nothing
--- upstream
checkups_cluster protected=;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "protected=", it must be all, one or off in up.conf:1



=== TEST 28: checkups_cluster: protected twice
--- upstream
checkups_cluster protected=all protected=all;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "protected=all" in up.conf:1



=== TEST 29: checkups_cluster: no time to connect
--- upstream
checkups_cluster connect_timeout=0s;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "connect_timeout=0s", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:1



=== TEST 30: checkups_cluster: connect_timeout twice
--- upstream
checkups_cluster connect_timeout=1s connect_timeout=1s;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "connect_timeout=1s" in up.conf:1



=== TEST 31: checkups_cluster: a time to send that is too long
--- upstream
checkups_cluster send_timeout=604801;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "send_timeout=604801", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:1



=== TEST 32: checkups_cluster: send_timeout twice
--- upstream
checkups_cluster send_timeout=1s send_timeout=2s;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "send_timeout=2s" in up.conf:1



=== TEST 33: checkups_cluster: a time to read that is negative
--- upstream
checkups_cluster read_timeout=-1s;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: invalid value in "read_timeout=-1s", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:1



=== TEST 34: checkups_cluster: read_timeout twice
--- upstream
checkups_cluster read_timeout=1s send_timeout=1s read_timeout=1s;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: duplicate parameter "read_timeout=1s" in up.conf:1



=== TEST 35: checkups_cluster: every parameter, in any order
--- upstream
server 127.0.0.1:1;
checkups_cluster read_timeout=1w tries_timeout=1m30s protected=one a connect_timeout=1ms tries=1 send_timeout=2;
--- request
GET /api/clusters/a
--- response_body eval
::json_cluster('a', [::json_level(undef, [::json_server('127.0.0.1:1')])],
    tries => 1, tries_timeout => '"90s"', protected => '"one"',
    connect_timeout => '"1ms"', send_timeout => '"2s"', read_timeout => '"604800s"')



=== TEST 36: checkups_cluster: every word for protected
--- http
upstream all { checkups_cluster protected=all; server 127.0.0.1:1; }
upstream one { checkups_cluster protected=one; server 127.0.0.1:1; }
upstream on  { checkups_cluster protected=on;  server 127.0.0.1:1; }
upstream off { checkups_cluster protected=off; server 127.0.0.1:1; }
--- request eval
[map { "GET /api/clusters/$_" } qw(all one on off)]
--- response_body eval
[map { my ($name, $protected) = split /=/; ::json_cluster($name, [::json_level(undef, [::json_server('127.0.0.1:1')])], protected => qq("$protected")) }
    qw(all=all one=one on=one off=off)]



=== TEST 37: checkups_cluster: an upstream whose name no cluster can have
--- http
upstream a!b {
    server 127.0.0.1:1;
    checkups_cluster;
}
--- refused
checkups: "checkups_cluster" directive: invalid cluster name "a!b", it must be 1 to 128 letters, digits and the characters . _ : -; give the cluster another name than the upstream's: "checkups_cluster NAME" in http.conf:3



=== TEST 38: checkups_cluster: such an upstream with a name for the cluster
--- http
upstream a!b {
    server 127.0.0.1:1;
    checkups_cluster ab;
}
--- request
GET /api/clusters/ab
--- response_body eval
::json_cluster('ab', [::json_level(undef, [::json_server('127.0.0.1:1')])])



=== TEST 39: one name in two blocks: that of an upstream and a given one
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
checkups: "checkups_cluster" directive: duplicate cluster name "a", it is that of the upstream in http.conf:2 as well in http.conf:7



=== TEST 40: one name in two blocks: given in both
--- http
upstream a { checkups_cluster x tries=1; server 127.0.0.1:1; }

upstream b { checkups_cluster x tries=2; server 127.0.0.1:1; }
--- refused
checkups: "checkups_cluster" directive: duplicate cluster name "x", it is that of the upstream in http.conf:1 as well in http.conf:3



=== TEST 41: names that differ in case are two
--- http
upstream a { checkups_cluster x; server 127.0.0.1:1; }
upstream b { checkups_cluster X; server 127.0.0.1:2; }
--- request
GET /api/clusters/X
--- response_body_like eval
'^\{"name":"X",.*"server":"127.0.0.1:2"'



=== TEST 42: ip_hash before
--- upstream
ip_hash;
checkups_cluster;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 43: least_conn before
--- upstream
least_conn;
checkups_cluster;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 44: hash before
--- upstream
hash $uri consistent;
checkups_cluster;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 45: random before
--- upstream
random two;
checkups_cluster;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 46: ip_hash behind
--- upstream
checkups_cluster;
server 127.0.0.1:1;
ip_hash;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 47: least_conn behind
--- upstream
# the first line
checkups_cluster;
least_conn;
server 127.0.0.1:1;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 48: hash behind
--- upstream
checkups_cluster;
server 127.0.0.1:1;
hash $uri;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 49: random behind
--- upstream
checkups_cluster;
server 127.0.0.1:1;
random;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 50: a method behind keepalive
--- upstream
checkups_cluster;
server 127.0.0.1:1;
keepalive 2;
least_conn;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 51: a method behind it, in a block whose check stands first
--- upstream
checkups_check tcp;
checkups_cluster;
server 127.0.0.1:1;
ip_hash;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:2



=== TEST 52: a method behind levels
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
least_conn;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 53: a method behind a level of another upstream's servers
--- http
upstream other { server 127.0.0.1:1; }
upstream up {
    checkups_cluster;
    checkups_level_from a other;
    hash $uri consistent;
}
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in http.conf:3



=== TEST 54: least_conn behind levels
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
least_conn;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 55: ip_hash behind levels
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
ip_hash;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 56: hash behind levels
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
hash $uri consistent;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 57: random behind levels
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
random;
--- refused
checkups: "checkups_cluster" directive: a balancing method behind it replaces it, remove that method (ip_hash, least_conn, hash, random) in up.conf:1



=== TEST 58: keepalive before
Before nginx 1.29.7 it would be lost without a word.
--- upstream
server 127.0.0.1:1;
keepalive 2;
checkups_cluster;
--- refused
checkups: "checkups_cluster" directive: the block has a balancing method already: put "checkups_cluster" before "keepalive", and remove other methods (ip_hash, least_conn, hash, random) in up.conf:3
--- skip_nginx: 3: >= 1.29.7



=== TEST 59: keepalive behind
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



=== TEST 60: nginx's zone before and behind, which nginx's balancers want
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



=== TEST 61: a stock upstream beside a cluster
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



=== TEST 62: checkups_cluster outside of upstream: http
--- http
checkups_cluster;
--- refused
"checkups_cluster" directive is not allowed here in http.conf:1



=== TEST 63: checkups_cluster outside of upstream: server
--- server
checkups_cluster a;
--- refused
"checkups_cluster" directive is not allowed here in server.conf:1



=== TEST 64: checkups_cluster outside of upstream: location
--- server
location /x {
    checkups_cluster;
}
--- refused
"checkups_cluster" directive is not allowed here in server.conf:2



=== TEST 65: checkups_level outside of upstream: http
--- http
checkups_level a { server 127.0.0.1:1; }
--- refused
"checkups_level" directive is not allowed here in http.conf:1



=== TEST 66: checkups_level outside of upstream: server
--- server
# the first line
checkups_level a { server 127.0.0.1:1; }
--- refused
"checkups_level" directive is not allowed here in server.conf:2



=== TEST 67: checkups_level outside of upstream: location
--- server
location /x { checkups_level a { server 127.0.0.1:1; } }
--- refused
"checkups_level" directive is not allowed here in server.conf:1



=== TEST 68: checkups_level_from outside of upstream: http
--- http
checkups_level_from a other;
--- refused
"checkups_level_from" directive is not allowed here in http.conf:1



=== TEST 69: checkups_level_from outside of upstream: server
--- server
# the first line
checkups_level_from a other;
--- refused
"checkups_level_from" directive is not allowed here in server.conf:2



=== TEST 70: checkups_level_from outside of upstream: location
--- server
location /x { checkups_level_from a other; }
--- refused
"checkups_level_from" directive is not allowed here in server.conf:1



=== TEST 71: checkups_order outside of upstream: http
--- http
checkups_order $uri;
--- refused
"checkups_order" directive is not allowed here in http.conf:1



=== TEST 72: checkups_order outside of upstream: server
--- server
# the first line
checkups_order $uri;
--- refused
"checkups_order" directive is not allowed here in server.conf:2



=== TEST 73: checkups_order outside of upstream: location
--- server
location /x { checkups_order $uri; }
--- refused
"checkups_order" directive is not allowed here in server.conf:1



=== TEST 74: checkups_balance outside of upstream: http
--- http
checkups_balance least_conn;
--- refused
"checkups_balance" directive is not allowed here in http.conf:1



=== TEST 75: checkups_balance outside of upstream: server
--- server
# the first line
checkups_balance least_conn;
--- refused
"checkups_balance" directive is not allowed here in server.conf:2



=== TEST 76: checkups_balance outside of upstream: location
--- server
location /x { checkups_balance least_conn; }
--- refused
"checkups_balance" directive is not allowed here in server.conf:1



=== TEST 77: checkups_fail_status outside of upstream: http
--- http
checkups_fail_status 500;
--- refused
"checkups_fail_status" directive is not allowed here in http.conf:1



=== TEST 78: checkups_fail_status outside of upstream: server
--- server
# the first line
checkups_fail_status 500;
--- refused
"checkups_fail_status" directive is not allowed here in server.conf:2



=== TEST 79: checkups_fail_status outside of upstream: location
--- server
location /x { checkups_fail_status 500; }
--- refused
"checkups_fail_status" directive is not allowed here in server.conf:1



=== TEST 80: checkups_server outside of upstream: http
--- http
checkups_server 127.0.0.1:1 drain;
--- refused
"checkups_server" directive is not allowed here in http.conf:1



=== TEST 81: checkups_server outside of upstream: server
--- server
# the first line
checkups_server 127.0.0.1:1 drain;
--- refused
"checkups_server" directive is not allowed here in server.conf:2



=== TEST 82: checkups_server outside of upstream: location
--- server
location /x { checkups_server 127.0.0.1:1 drain; }
--- refused
"checkups_server" directive is not allowed here in server.conf:1



=== TEST 83: checkups_check outside of upstream: server
--- server
# the first line
checkups_check tcp;
--- refused
"checkups_check" directive is not allowed here in server.conf:2



=== TEST 84: checkups_check outside of upstream: location
--- server
location /x { checkups_check tcp; }
--- refused
"checkups_check" directive is not allowed here in server.conf:1



=== TEST 85: checkups_check and checkups_server where nginx balances
--- http
upstream up {
    least_conn;
    server 127.0.0.1:1;
    checkups_check tcp protected=one;
    checkups_check http uri=/healthz mandatory;
    checkups_server 127.0.0.1:1 check=off check_port=81 check_host=a.test;
}
upstream off {
    server 127.0.0.1:1;
    checkups_check off;
}
--- config
location /t { return 200 "fine\n"; }
--- request
GET /t
--- response_body
fine
--- no_error_log
[warn]
[emerg]



=== TEST 86: checkups_balance without checkups_cluster
--- upstream
server 127.0.0.1:1;
checkups_balance least_conn;
--- refused
checkups: "checkups_balance" directive: it must stand together with "checkups_cluster" in up.conf:2



=== TEST 87: checkups_order without checkups_cluster
--- upstream
checkups_order $cookie_dc;
server 127.0.0.1:1;
--- refused
checkups: "checkups_order" directive: it must stand together with "checkups_cluster" in up.conf:1



=== TEST 88: checkups_fail_status without checkups_cluster
--- upstream
server 127.0.0.1:1;

checkups_fail_status 500;
--- refused
checkups: "checkups_fail_status" directive: it must stand together with "checkups_cluster" in up.conf:3



=== TEST 89: checkups_server without checkups_cluster
--- upstream
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 drain;
--- refused
checkups: "checkups_server" directive: it must stand together with "checkups_cluster" in up.conf:2



=== TEST 90: several of them without checkups_cluster: the first is named
--- upstream
server 127.0.0.1:1;
checkups_fail_status 500;
checkups_balance round_robin;
--- refused
checkups: "checkups_fail_status" directive: it must stand together with "checkups_cluster" in up.conf:2



=== TEST 91: checkups_level without checkups_cluster
--- upstream
server 127.0.0.1:1;
checkups_level a { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: it must stand behind "checkups_cluster" in up.conf:2



=== TEST 92: checkups_level before checkups_cluster
--- upstream
checkups_level a { server 127.0.0.1:1; }
checkups_cluster;
--- refused
checkups: "checkups_level" directive: it must stand behind "checkups_cluster" in up.conf:1



=== TEST 93: checkups_level_from without checkups_cluster
--- http
upstream other { server 127.0.0.1:1; }
upstream up {
    server 127.0.0.1:1;
    checkups_level_from a other;
}
--- refused
checkups: "checkups_level_from" directive: it must stand behind "checkups_cluster" in http.conf:4



=== TEST 94: checkups_level_from before checkups_cluster
--- http
upstream other { server 127.0.0.1:1; }
upstream up {
    checkups_level_from a other;
    checkups_cluster;
}
--- refused
checkups: "checkups_level_from" directive: it must stand behind "checkups_cluster" in http.conf:3



=== TEST 95: all others may stand before checkups_cluster
--- upstream
checkups_server 127.0.0.1:1 drain;
checkups_fail_status 500;
checkups_order 1;
checkups_balance least_conn;
server 127.0.0.1:1;
checkups_cluster;
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [::json_level(undef, [::json_server('127.0.0.1:1', drain => 'true')])],
    balance => '"least_conn"', order => '"1"', fail_status => '["500"]')



=== TEST 96: checkups_check: without a type
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check;
--- refused
checkups: "checkups_check" directive: missing type of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in up.conf:3



=== TEST 97: checkups_check: an unknown type
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check icmp interval=1s;
--- refused
checkups: "checkups_check" directive: unknown type "icmp" of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in up.conf:3



=== TEST 98: checkups_check: types are in small letters
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check HTTP;
--- refused
checkups: "checkups_check" directive: unknown type "HTTP" of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in up.conf:3



=== TEST 99: checkups_check: a parameter where the type should be
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check interval=1s http;
--- refused
checkups: "checkups_check" directive: unknown type "interval=1s" of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in up.conf:3



=== TEST 100: checkups_check: several lines
--- upstream
checkups_cluster;
checkups_check tcp;
server 127.0.0.1:1 down;
checkups_check http uri=/a fails=2;
checkups_check http uri=/a fails=3;
--- request
GET /api/clusters/up
--- response_body_like eval
qr!"checks":\[\{"type":"tcp",[^}]*\},\{"type":"http",[^}]*"uri":"/a",[^}]*"fails":2,[^}]*\},\{"type":"http",[^}]*"uri":"/a",[^}]*"fails":3,[^}]*\}\]\}$!



=== TEST 101: checkups_check: eight lines
--- upstream eval
"checkups_cluster;\nserver 127.0.0.1:1 down;\n" . CORE::join '', map { "checkups_check tcp port=$_;\n" } 1 .. 8
--- request
GET /api/clusters/up
--- response_body_like eval
my $checks = CORE::join ',', map { qr/\{"type":"tcp",[^}]*"port":$_\}/ } 1 .. 8;
qr{"checks":\[$checks\]\}$}



=== TEST 102: checkups_check: too many lines
--- upstream eval
"checkups_cluster;\nserver 127.0.0.1:1;\n" . CORE::join '', map { "checkups_check tcp port=$_;\n" } 1 .. 9
--- refused
checkups: "checkups_check" directive: there are too many, a block has at most 8 in up.conf:11



=== TEST 103: checkups_check: one after off
--- upstream
checkups_cluster;
checkups_check off;
checkups_check http;
server 127.0.0.1:1;
--- refused
checkups: "checkups_check" directive: "checkups_check off" stands alone in its block in up.conf:3



=== TEST 104: checkups_check: off after one
--- upstream
server 127.0.0.1:1;
checkups_check http;
checkups_cluster;
checkups_check off;
--- refused
checkups: "checkups_check" directive: "checkups_check off" stands alone in its block in up.conf:4



=== TEST 105: checkups_check: off twice
--- upstream
server 127.0.0.1:1;
checkups_check off;
checkups_check off;
--- refused
checkups: "checkups_check" directive: "checkups_check off" stands alone in its block in up.conf:3



=== TEST 106: checkups_check: off with others in http
--- http
checkups_check http;
upstream up { server 127.0.0.1:1; }
checkups_check off;
--- refused
checkups: "checkups_check" directive: "checkups_check off" stands alone in its block in http.conf:3



=== TEST 107: checkups_check: off takes no parameters
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check off interval=1s;
--- refused
checkups: "checkups_check" directive: unexpected parameter "interval=1s" after "off" in up.conf:3



=== TEST 108: checkups_check: an unknown parameter of a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp intervall=1s;
--- refused
checkups: "checkups_check" directive: unknown parameter "intervall=1s", allowed are send=, expect=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 109: checkups_check: an unknown parameter of an http check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http matches=ok;
--- refused
checkups: "checkups_check" directive: unknown parameter "matches=ok", allowed are uri=, method=, host=, header=, body=, keepalive_time=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 110: checkups_check: a word without =
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http interval;
--- refused
checkups: "checkups_check" directive: unknown parameter "interval", allowed are uri=, method=, host=, header=, body=, keepalive_time=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 111: checkups_check: a parameter of http checks in a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp uri=/healthz;
--- refused
checkups: "checkups_check" directive: parameter "uri=/healthz" is not for a check of type "tcp", allowed are send=, expect=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 112: checkups_check: a parameter twice
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http uri=/a fails=2 uri=/b;
--- refused
checkups: "checkups_check" directive: duplicate parameter "uri=/b" in up.conf:3



=== TEST 113: checkups_check: an interval that is too short
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=9ms;
--- refused
checkups: "checkups_check" directive: invalid value in "interval=9ms", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 114: checkups_check: an interval that is too long
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=1w1s;
--- refused
checkups: "checkups_check" directive: invalid value in "interval=1w1s", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 115: checkups_check: an interval that is no time
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=1.5s;
--- refused
checkups: "checkups_check" directive: invalid value in "interval=1.5s", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 116: checkups_check: an empty interval
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp interval=;
--- refused
checkups: "checkups_check" directive: invalid value in "interval=", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 117: checkups_check: a jitter that is no time
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp jitter=-1s;
--- refused
checkups: "checkups_check" directive: invalid value in "jitter=-1s", it must be a time from 0s to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 118: checkups_check: no timeout
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp timeout=0;
--- refused
checkups: "checkups_check" directive: invalid value in "timeout=0", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 119: checkups_check: a number of fails that is too low
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp fails=0;
--- refused
checkups: "checkups_check" directive: invalid value in "fails=0", it must be a number from 1 to 1000000 in up.conf:3



=== TEST 120: checkups_check: a number of passes that is too high
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp passes=1000001;
--- refused
checkups: "checkups_check" directive: invalid value in "passes=1000001", it must be a number from 1 to 1000000 in up.conf:3



=== TEST 121: checkups_check: port=0
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp port=0;
--- refused
checkups: "checkups_check" directive: invalid value in "port=0", it must be a number from 1 to 65535 in up.conf:3



=== TEST 122: checkups_check: port=65536
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http port=65536;
--- refused
checkups: "checkups_check" directive: invalid value in "port=65536", it must be a number from 1 to 65535 in up.conf:3



=== TEST 123: checkups_check: a uri that does not begin with a slash
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http uri=healthz;
--- refused
checkups: "checkups_check" directive: invalid value in "uri=healthz", it must be a path that begins with / and has no blanks in up.conf:3



=== TEST 124: checkups_check: a uri with a line in it
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "uri=/ HTTP/1.1\r\nX: y";
--- config
--- must_die: 1
--- error_log eval
[qr{\[emerg\] \d+#\d+: checkups: "checkups_check" directive: invalid value in "uri=/ HTTP/1\.1}, qr{X: y", it must be a path that begins with / and has no blanks in \S+up\.conf:3$}]



=== TEST 125: checkups_check: a method that is none
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http method=get;
--- refused
checkups: "checkups_check" directive: invalid value in "method=get", it must be a method in capital letters, for example GET or HEAD in up.conf:3



=== TEST 126: checkups_check: no host
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http host=;
--- refused
checkups: "checkups_check" directive: invalid value in "host=", it must be a host name without blanks in up.conf:3



=== TEST 127: checkups_check: a blank in the host
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "host=a b";
--- refused
checkups: "checkups_check" directive: invalid value in "host=a b", it must be a host name without blanks in up.conf:3



=== TEST 128: checkups_check: mandatory takes no value
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp mandatory=on;
--- refused
checkups: "checkups_check" directive: unknown parameter "mandatory=on", allowed are send=, expect=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 129: checkups_check: mandatory twice
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp mandatory mandatory;
--- refused
checkups: "checkups_check" directive: duplicate parameter "mandatory" in up.conf:3



=== TEST 130: checkups_check: persistent without mandatory
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp persistent;
--- refused
checkups: "checkups_check" directive: "persistent" needs "mandatory" in up.conf:3



=== TEST 131: checkups_check: a down_interval that is too short
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp down_interval=9ms;
--- refused
checkups: "checkups_check" directive: invalid value in "down_interval=9ms", it must be a time from 10ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 132: checkups_check: bind with a port
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp bind=127.0.0.1:80;
--- refused
checkups: "checkups_check" directive: invalid value in "bind=127.0.0.1:80", it must be an IP address without a port in up.conf:3



=== TEST 133: checkups_check: bind to a name
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp bind=localhost;
--- refused
checkups: "checkups_check" directive: invalid value in "bind=localhost", it must be an IP address without a port in up.conf:3



=== TEST 134: checkups_check: bind in brackets
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp bind=[::1];
--- refused
checkups: "checkups_check" directive: invalid value in "bind=[::1]", it must be an IP address without a port in up.conf:3



=== TEST 135: checkups_check: a word that is neither on nor off
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp proxy_protocol=v2;
--- refused
checkups: "checkups_check" directive: invalid value in "proxy_protocol=v2", it must be on or off in up.conf:3



=== TEST 136: checkups_check: an unknown way to protect
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp protected=two;
--- refused
checkups: "checkups_check" directive: invalid value in "protected=two", it must be all, one or off in up.conf:3



=== TEST 137: checkups_check: protected= in a block with checkups_cluster
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp protected=one;
--- refused
checkups: "checkups_check" directive: "protected=" stands on "checkups_cluster" here in up.conf:3



=== TEST 138: checkups_check: a header without a value
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "header=X-Check";
--- refused
checkups: "checkups_check" directive: invalid value in "header=***", it must be "Name: value", and not Connection, Content-Length or Transfer-Encoding in up.conf:3



=== TEST 139: checkups_check: a header with a blank in its name
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "header=X Check: a";
--- refused
checkups: "checkups_check" directive: invalid value in "header=X Check: a", it must be "Name: value", and not Connection, Content-Length or Transfer-Encoding in up.conf:3



=== TEST 140: checkups_check: a header that checkups sees to
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http "header=content-length: 3";
--- refused
checkups: "checkups_check" directive: invalid value in "header=content-length: 3", it must be "Name: value", and not Connection, Content-Length or Transfer-Encoding in up.conf:3



=== TEST 141: checkups_check: no time to keep a connection
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http keepalive_time=0;
--- refused
checkups: "checkups_check" directive: invalid value in "keepalive_time=0", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 142: checkups_check: keepalive_time of a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp keepalive_time=1s;
--- refused
checkups: "checkups_check" directive: parameter "keepalive_time=1s" is not for a check of type "tcp", allowed are send=, expect=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 143: checkups_check: a parameter of tcp checks in an http check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http send=PING;
--- refused
checkups: "checkups_check" directive: parameter "send=PING" is not for a check of type "http", allowed are uri=, method=, host=, header=, body=, keepalive_time=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 144: checkups_check: a parameter of databases in a redis check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis database=a;
--- refused
checkups: "checkups_check" directive: parameter "database=a" is not for a check of type "redis", allowed are user=, password=, password_file=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 145: checkups_check: a match that is not there
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http match=healthy;
--- refused
checkups: "checkups_check" directive: there is no checkups_match "healthy" in up.conf:3



=== TEST 146: checkups_check: a match without a name
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp match=;
--- refused
checkups: "checkups_check" directive: invalid value in "match=", it must be the name of a checkups_match block in up.conf:3



=== TEST 147: checkups_check: a match and a text to send
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp send=PING match=pong;
--- refused
checkups: "checkups_check" directive: "match=" and "send=" do not go together in up.conf:3



=== TEST 148: checkups_check: a match and a text to expect
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp match=pong expect=PONG;
--- refused
checkups: "checkups_check" directive: "match=" and "expect=" do not go together in up.conf:3



=== TEST 149: checkups_check: a text with an escape that there is not
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp 'send=\q' ;
--- refused
checkups: "checkups_check" directive: invalid value in "send=\q", it must be a text, in which \xHH is a byte and \\ a backslash in up.conf:3



=== TEST 150: checkups_check: a service with a long name
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check grpc service=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa;
--- refused
checkups: "checkups_check" directive: invalid value in "service=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", it must be the name of a service, at most 255 bytes in up.conf:3



=== TEST 151: checkups_check: words of TLS without TLS
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http ssl_name=a.test;
--- refused
checkups: "checkups_check" directive: "ssl_name=" needs "ssl=on" in up.conf:3



=== TEST 152: checkups_check: ... in a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check tcp ssl_verify=off;
--- refused
checkups: "checkups_check" directive: "ssl_verify=" needs "ssl=on" in up.conf:3



=== TEST 153: checkups_check: ... where it is off
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check mysql ssl=off ssl_trusted_certificate=ca.pem;
--- refused
checkups: "checkups_check" directive: "ssl_trusted_certificate=" needs "ssl=on" in up.conf:3



=== TEST 154: checkups_check: https without TLS
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check https ssl=off;
--- refused
checkups: "checkups_check" directive: "https" and "ssl=off" do not go together in up.conf:3



=== TEST 155: checkups_check: https without trust
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check https;
--- refused
checkups: "checkups_check" directive: "ssl_trusted_certificate=" is missing: the certificate of the server cannot be verified without; "ssl_verify=off" does without in up.conf:3



=== TEST 156: checkups_check: ssl=on without trust
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis ssl=on;
--- refused
checkups: "checkups_check" directive: "ssl_trusted_certificate=" is missing: the certificate of the server cannot be verified without; "ssl_verify=off" does without in up.conf:3



=== TEST 157: checkups_check: ssl_verify=on without trust, where TLS is as the server offers it
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check postgres user=a ssl_verify=on;
--- refused
checkups: "checkups_check" directive: "ssl_trusted_certificate=" is missing: the certificate of the server cannot be verified without; "ssl_verify=off" does without in up.conf:3



=== TEST 158: checkups_check: a client certificate without its key
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check https ssl_verify=off ssl_certificate=a.pem;
--- refused
checkups: "checkups_check" directive: "ssl_certificate=" needs "ssl_certificate_key=" in up.conf:3



=== TEST 159: checkups_check: a key without its certificate
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check https ssl_verify=off ssl_certificate_key=a.pem;
--- refused
checkups: "checkups_check" directive: "ssl_certificate_key=" needs "ssl_certificate=" in up.conf:3



=== TEST 160: checkups_check: a version of TLS that there is not
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check https ssl_verify=off ssl_protocols=SSLv3;
--- refused
checkups: "checkups_check" directive: invalid value in "ssl_protocols=SSLv3", it must be some of TLSv1, TLSv1.1, TLSv1.2 and TLSv1.3, with blanks between in up.conf:3



=== TEST 161: checkups_check: a file without a name
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check https ssl_trusted_certificate=;
--- refused
checkups: "checkups_check" directive: invalid value in "ssl_trusted_certificate=", it must be the name of a file in up.conf:3



=== TEST 162: checkups_check: no user
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check mysql user=;
--- refused
checkups: "checkups_check" directive: invalid value in "user=", it must be a name of 1 to 255 bytes in up.conf:3



=== TEST 163: checkups_check: a database without a user
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check postgres database=a;
--- refused
checkups: "checkups_check" directive: "database=" needs "user=" in up.conf:3



=== TEST 164: checkups_check: a password without a user
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check mysql password=geheim;
--- refused
checkups: "checkups_check" directive: "password" needs "user=" in up.conf:3



=== TEST 165: checkups_check: a password file without a user
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check mysql password_file=geheim;
--- refused
checkups: "checkups_check" directive: "password" needs "user=" in up.conf:3



=== TEST 166: checkups_check: a password and a file with one
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password=geheim password_file=a;
--- refused
checkups: "checkups_check" directive: "password=" and "password_file=" do not go together in up.conf:3



=== TEST 167: checkups_check: an empty password
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password=;
--- refused
checkups: "checkups_check" directive: the password is empty in up.conf:3



=== TEST 168: checkups_check: a password that is too long
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password=geheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheimgeheim;
--- refused
checkups: "checkups_check" directive: the password is longer than 1024 bytes in up.conf:3



=== TEST 169: checkups_check: a password twice, which is not shown
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password=geheim password=geheim;
--- refused
checkups: "checkups_check" directive: duplicate parameter "password=***" in up.conf:3



=== TEST 170: checkups_check: ... in a check that has none
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check http password=geheim;
--- refused
checkups: "checkups_check" directive: parameter "password=***" is not for a check of type "http", allowed are uri=, method=, host=, header=, body=, keepalive_time=, match=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 171: checkups_check: ... behind off
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check off password=geheim;
--- refused
checkups: "checkups_check" directive: unexpected parameter "password=***" after "off" in up.conf:3



=== TEST 172: checkups_check: ... in place of the type
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check password=geheim redis;
--- refused
checkups: "checkups_check" directive: unknown type "password=***" of check, allowed are tcp, http, https, grpc, redis, mysql, postgres and off in up.conf:3



=== TEST 173: checkups_check: ... whose name is misspelt
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis Passwd=geheim;
--- refused
checkups: "checkups_check" directive: unknown parameter "Passwd=***", allowed are user=, password=, password_file=, interval=, jitter=, timeout=, down_interval=, fails=, passes=, mandatory, persistent, port=, bind=, proxy_protocol=, protected=, ssl=, ssl_verify=, ssl_trusted_certificate=, ssl_name=, ssl_certificate=, ssl_certificate_key= and ssl_protocols= in up.conf:3



=== TEST 174: checkups_check: ... behind something that is refused
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check mysql user=a password=geheim fails=0;
--- refused
checkups: "checkups_check" directive: invalid value in "fails=0", it must be a number from 1 to 1000000 in up.conf:3



=== TEST 175: checkups_server: a password
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 password=geheim;
--- refused
checkups: "checkups_server" directive: unknown parameter "password=***", allowed are slow_start=, drain, check=, check_port= and check_host= in up.conf:3



=== TEST 176: checkups_check: protected= of http does not stand against checkups_cluster
--- http
checkups_check tcp protected=one;
upstream up { checkups_cluster protected=off; server 127.0.0.1:1 down; }
--- request
GET /api/clusters/up
--- response_body_like eval
qr!"protected":"off",.*"checks":\[\{"type":"tcp",[^}]*\}\]\}$!



=== TEST 177: checkups_check: a file with a password that is not there
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password_file=../html/password;
--- config
--- must_die: 1
--- error_log eval
[qr{\[emerg\] \d+#\d+: checkups: "checkups_check" directive: "password_file=\S+/html/password": No such file or directory \(os error 2\) in \S+/html/up\.conf:3$}]



=== TEST 178: checkups_check: a directory in place of a file with a password
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password_file=../html;
--- config
--- must_die: 1
--- error_log eval
[qr{\[emerg\] \d+#\d+: checkups: "checkups_check" directive: "password_file=\S+/html": Is a directory \(os error 21\) in \S+/html/up\.conf:3$}]



=== TEST 179: checkups_check: a file with two lines
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check redis password_file=../html/password;
--- config
--- user_files
>>> password
geheim
more
--- must_die: 1
--- error_log eval
[qr{\[emerg\] \d+#\d+: checkups: "checkups_check" directive: "password_file=\S+/html/password": there is more than one line in \S+/html/up\.conf:3$}]
--- no_error_log
geheim



=== TEST 180: checkups_check: an empty file
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check mysql user=a password_file=../html/password;
--- config
--- user_files eval
">>> password\n\n"
--- must_die: 1
--- error_log eval
[qr{\[emerg\] \d+#\d+: checkups: "checkups_check" directive: "password_file=\S+/html/password": the password is empty in \S+/html/up\.conf:3$}]



=== TEST 181: checkups_check: a file with one line, in http; it is not shown
--- http
checkups_check redis user=a password_file=../html/password;
upstream up { checkups_cluster; server 127.0.0.1:1 down; }
upstream own {
    checkups_cluster;
    server 127.0.0.1:1 down;
    checkups_check redis user=b password=offen;
    checkups_check mysql user=c password=offen database=d;
}
--- user_files
>>> password
geheim
--- request eval
['GET /api/clusters/up', 'GET /api/clusters/own', 'GET /api/status']
--- response_body_like eval
my $times = '"interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null';
[qr{"checks":\[\{"type":"redis","user":"a",$times\}\]\}$},
 qr!"checks":\[\{"type":"redis","user":"b",$times\},\{"type":"mysql","user":"c","database":"d",$times,"ssl":"auto"[^}]*\}\]\}$!,
 qr{\A(?!.*(?:geheim|offen)).}s]
--- no_error_log eval
[(['geheim', 'offen']) x 3]



=== TEST 182: checkups_check: a match that is not there, inherited
--- http
checkups_check http match=healthy;
upstream up { checkups_cluster; server 127.0.0.1:1; }
--- refused
checkups: "checkups_check" directive: there is no checkups_match "healthy" in http.conf:1



=== TEST 183: checkups_check: what is wrong in http
--- http
checkups_check tcp;
checkups_check http uri=healthz;
--- refused
checkups: "checkups_check" directive: invalid value in "uri=healthz", it must be a path that begins with / and has no blanks in http.conf:2



=== TEST 184: checkups_check: in http, for upstreams that say nothing
Wherever it stands. A host that is not given is the name of the upstream, not of the cluster.
--- http
upstream up { checkups_cluster; server 127.0.0.1:1 down; }
checkups_check http uri=/a;
upstream named { checkups_cluster other; server 127.0.0.1:1 down; }
upstream own { checkups_cluster; server 127.0.0.1:1 down; checkups_check http host=b.test uri=/b; }
upstream none { checkups_cluster; server 127.0.0.1:1 down; checkups_check off; }
upstream stock { server 127.0.0.1:1 down; }
checkups_check tcp port=81;
--- request eval
[map { "GET /api/clusters/$_" } qw(up other own none)]
--- response_body_like eval
my $http = '"interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}';
my $tcp = $http =~ s/null/81/r;
[(map { qr{"checks":\[\{"type":"http","method":"GET","uri":"/a","host":"$_",$http,\{"type":"tcp",$tcp\]\}$} } 'up', 'named'),
 qr{"checks":\[\{"type":"http","method":"GET","uri":"/b","host":"b\.test",$http\]\}$}, qr{"checks":\[\]\}$}]



=== TEST 185: checkups_check: off in http is as if nothing were said
--- http
checkups_check off;
upstream up { checkups_cluster; server 127.0.0.1:1 down; }
upstream own { checkups_cluster; server 127.0.0.1:1 down; checkups_check tcp; }
--- request eval
['GET /api/clusters/up', 'GET /api/clusters/own']
--- response_body_like eval
[qr!"checks":\[\]\}$!, qr!"checks":\[\{"type":"tcp",[^}]*\}\]\}$!]



=== TEST 186: checkups_check: the defaults of a tcp check
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check tcp;
--- request
GET /api/clusters/up
--- response_body chomp
{"name":"up","balance":"round_robin","order":null,"protected":"all","tries":null,"tries_timeout":null,"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":[{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":true,"drain":false}]}],"checks":[{"type":"tcp","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}]}



=== TEST 187: checkups_check: the defaults of an http check, before the other lines
--- upstream
checkups_check http;
server 127.0.0.1:1 down;
checkups_cluster other;
--- request
GET /api/clusters/other
--- response_body chomp
{"name":"other","balance":"round_robin","order":null,"protected":"all","tries":null,"tries_timeout":null,"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":[{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":true,"drain":false}]}],"checks":[{"type":"http","method":"GET","uri":"/","host":"up","interval":"5s","jitter":"0s","timeout":"2s","fails":1,"passes":1,"port":null}]}



=== TEST 188: checkups_check: every parameter of an http check
The timeout may exceed the interval.
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check http interval=10ms jitter=1m30s timeout=3 down_interval=1m fails=1000000 passes=2 mandatory persistent
               port=65535 bind=127.0.0.2 proxy_protocol=on "uri=/health?a=b&c" method=OPTIONS host=[::1]:80
               "header=X-A: b c" "header=User-Agent:me" "body=a b" keepalive_time=1m;
--- request
GET /api/clusters/up
--- response_body_like eval
qr{"checks":\[\Q{"type":"http","method":"OPTIONS","uri":"/health?a=b&c","host":"[::1]:80","headers":["X-A: b c","User-Agent: me"],"body":"a b","keepalive_time":"60s","interval":"10ms","down_interval":"60s","jitter":"90s","timeout":"3s","fails":1000000,"passes":2,"mandatory":"persistent","port":65535,"bind":"127.0.0.2","proxy_protocol":true}\E\]\}$}



=== TEST 189: checkups_check: texts of a tcp check, in which \xHH is a byte
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check tcp 'send=PING\x0d\x0a' expect=+PONG mandatory;
--- request
GET /api/clusters/up
--- response_body_like eval
qr!"checks":\[\{"type":"tcp",[^}]*"mandatory":"on",[^}]*\}\]\}$!



=== TEST 190: checkups_check: the longest times
--- upstream
checkups_cluster;
server 127.0.0.1:1 down;
checkups_check tcp interval=1w timeout=7d jitter=168h;
--- request
GET /api/clusters/up
--- response_body_like eval
qr{"interval":"604800s","jitter":"604800s","timeout":"604800s"}



=== TEST 191: checkups_check: off
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_check off;
--- request
GET /api/clusters/up
--- response_body_like eval
qr{"checks":\[\]\}$}



=== TEST 192: server: every parameter of nginx, IPv6, a unix socket, and one address twice
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
{"name":"up","balance":"round_robin","order":null,"protected":"all","tries":2,"tries_timeout":null,"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":[{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:1","weight":5,"max_fails":3,"fail_timeout":"60s","max_conns":7,"slow_start":"0s","down":false,"drain":false},{"server":"127.0.0.1:1","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false},{"server":"[::1]:2","weight":1,"max_fails":0,"fail_timeout":"0s","max_conns":0,"slow_start":"0s","down":false,"drain":false},{"server":"unix:$TEST_NGINX_SERVER_ROOT/a.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":true,"drain":false}]},{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:80","weight":2,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false},{"server":"unix:/b.sock","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":true,"drain":false}]}],"checks":[]}
--- no_error_log
[warn]
[emerg]



=== TEST 193: server: lines before checkups_cluster
--- upstream
server 127.0.0.1:1 weight=3 backup;
server 127.0.0.1:2 max_conns=1 down;
checkups_cluster;
--- request
GET /api/clusters/up
--- response_body chomp
{"name":"up","balance":"round_robin","order":null,"protected":"all","tries":null,"tries_timeout":null,"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":[{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:2","weight":1,"max_fails":1,"fail_timeout":"10s","max_conns":1,"slow_start":"0s","down":true,"drain":false}]},{"name":null,"tries":null,"tries_timeout":null,"servers":[{"server":"127.0.0.1:1","weight":3,"max_fails":1,"fail_timeout":"10s","max_conns":0,"slow_start":"0s","down":false,"drain":false}]}],"checks":[]}



=== TEST 194: server: one address twice in a level serves
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



=== TEST 195: server: one that serves over IPv6
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



=== TEST 196: server: one that serves over a unix socket
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



=== TEST 197: server: a parameter that nginx does not have
--- upstream
checkups_cluster;
server 127.0.0.1:1 wait=5;
--- refused
invalid parameter "wait=5" in up.conf:2



=== TEST 198: server: a weight that is none
--- upstream
checkups_cluster;
server 127.0.0.1:1 weight=0;
--- refused
invalid parameter "weight=0" in up.conf:2



=== TEST 199: server: a weight that no counter holds
--- upstream
checkups_cluster;
server 127.0.0.1:1 weight=4294967296;
--- refused
checkups: "checkups_cluster" directive: server "127.0.0.1:1": weight=4294967296 is too large in up.conf:1



=== TEST 200: server: max_conns that no counter holds
--- upstream
checkups_cluster;
server 127.0.0.1:1 max_conns=4294967296;
--- refused
checkups: "checkups_cluster" directive: server "127.0.0.1:1": max_conns=4294967296 is too large in up.conf:1



=== TEST 201: server: max_fails that no counter holds
--- upstream
checkups_cluster;
server 127.0.0.1:1 max_fails=4294967296;
--- refused
checkups: "checkups_cluster" directive: server "127.0.0.1:1": max_fails=4294967296 is too large in up.conf:1



=== TEST 202: server: none
--- http
upstream up {
    checkups_cluster;
}
--- refused
no servers are inside upstream in http.conf:3



=== TEST 203: server: resolve, of a name that has no address yet
--- http
resolver 127.0.0.1:1;
upstream up {
    zone up 64k;
    checkups_cluster;
    server localhost:1 resolve;
}
--- request
GET /api/clusters/up
--- response_body chomp
{"name":"up","balance":"round_robin","order":null,"protected":"all","tries":null,"tries_timeout":null,"connect_timeout":null,"send_timeout":null,"read_timeout":null,"fail_status":[],"levels":[{"name":null,"tries":null,"tries_timeout":null,"servers":[]}],"checks":[]}
--- skip_nginx: 2: < 1.27.3



=== TEST 204: server: resolve, where nginx does not have it
--- upstream
checkups_cluster;
server localhost:1 resolve;
--- refused
invalid parameter "resolve" in up.conf:2
--- skip_nginx: 3: >= 1.27.3



=== TEST 205: checkups_level: without a name
--- upstream
checkups_cluster;
checkups_level { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: the NAME of the level is missing in up.conf:2



=== TEST 206: checkups_level: a number for a name
--- upstream
checkups_cluster;
checkups_level 2 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid level name "2", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2



=== TEST 207: checkups_level: an empty name
--- upstream
checkups_cluster;
checkups_level "" { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid level name "", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2



=== TEST 208: checkups_level: a comma in the name
--- upstream
checkups_cluster;
checkups_level a,b { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid level name "a,b", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2



=== TEST 209: checkups_level: a variable for a name
--- upstream
checkups_cluster;
checkups_level $arg_dc { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid level name "$arg_dc", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2



=== TEST 210: checkups_level: a parameter where the name should be
--- upstream
checkups_cluster;
checkups_level tries=2 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid level name "tries=2", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2



=== TEST 211: checkups_level: a name that is not ASCII
--- upstream eval
"checkups_cluster;\ncheckups_level caf\xc3\xa9 { server 127.0.0.1:1; }\n"
--- refused eval
qq{checkups: "checkups_level" directive: invalid level name "caf\xc3\xa9", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2\n}



=== TEST 212: checkups_level: a name of 129 characters
--- upstream eval
"checkups_cluster;\ncheckups_level " . 'x' x 129 . " { server 127.0.0.1:1; }\n"
--- refused eval
'checkups: "checkups_level" directive: invalid level name "' . 'x' x 129 . qq{", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2\n}



=== TEST 213: checkups_level: two of one name
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
checkups_level b { server 127.0.0.1:2; }
checkups_level a { server 127.0.0.1:3; }
--- refused
checkups: "checkups_level" directive: duplicate level "a", it is that in up.conf:2 as well in up.conf:4



=== TEST 214: checkups_level: the name of one of checkups_level_from
--- upstream
checkups_cluster;
checkups_level_from a other;
checkups_level a { server 127.0.0.1:3; }
--- refused
checkups: "checkups_level" directive: duplicate level "a", it is that in up.conf:2 as well in up.conf:3



=== TEST 215: checkups_level: an unknown parameter
--- upstream
checkups_cluster;
checkups_level a weight=2 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: unknown parameter "weight=2", allowed are tries= and tries_timeout= in up.conf:2



=== TEST 216: checkups_level: a second name
--- upstream
checkups_cluster;
checkups_level a b { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: unknown parameter "b", allowed are tries= and tries_timeout= in up.conf:2



=== TEST 217: checkups_level: no tries
--- upstream
checkups_cluster;
checkups_level a tries=0 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid value in "tries=0", it must be a number from 1 to 1000000 in up.conf:2



=== TEST 218: checkups_level: too many tries
--- upstream
checkups_cluster;
checkups_level a tries=1000001 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid value in "tries=1000001", it must be a number from 1 to 1000000 in up.conf:2



=== TEST 219: checkups_level: no time for tries
--- upstream
checkups_cluster;
checkups_level a tries_timeout=0 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: invalid value in "tries_timeout=0", it must be a time from 1ms to 604800s, for example 5s or 500ms in up.conf:2



=== TEST 220: checkups_level: a parameter twice
--- upstream
checkups_cluster;
checkups_level a tries=1 tries_timeout=1s tries=1 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: duplicate parameter "tries=1" in up.conf:2



=== TEST 221: checkups_level: tries_timeout twice
--- upstream
checkups_cluster;
checkups_level a tries_timeout=1s tries_timeout=1s { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: duplicate parameter "tries_timeout=1s" in up.conf:2



=== TEST 222: checkups_level: no server inside
--- upstream
checkups_cluster;
checkups_level a { }
--- refused
checkups: "checkups_level" directive: no servers are inside the level in up.conf:2



=== TEST 223: checkups_level: only a comment inside, and another level before
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
checkups_level b {
    # server 127.0.0.1:1;
}
--- refused
checkups: "checkups_level" directive: no servers are inside the level in up.conf:3



=== TEST 224: checkups_level: an empty file inside
--- upstream
checkups_cluster;
checkups_level a { include ../html/more.conf; }
--- user_files
>>> more.conf
--- refused
checkups: "checkups_level" directive: no servers are inside the level in up.conf:2



=== TEST 225: checkups_level: files inside of which there are none
--- upstream
checkups_cluster;
checkups_level a {
    include ../html/more-*.conf;
}
--- refused
checkups: "checkups_level" directive: no servers are inside the level in up.conf:2



=== TEST 226: checkups_level: another directive of an upstream inside
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1;
    keepalive 2;
}
--- refused
checkups: "keepalive" directive: it is not allowed in a level, allowed are server and include in up.conf:4



=== TEST 227: checkups_level: one of checkups inside
--- upstream
checkups_cluster;
checkups_level a {
    checkups_check tcp;
    server 127.0.0.1:1;
}
--- refused
checkups: "checkups_check" directive: it is not allowed in a level, allowed are server and include in up.conf:3



=== TEST 228: checkups_level: a word inside that is none of nginx
--- upstream
checkups_cluster;
checkups_level a {
    servers 127.0.0.1:1;
}
--- refused
checkups: "servers" directive: it is not allowed in a level, allowed are server and include in up.conf:3



=== TEST 229: checkups_level: a level inside
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1;
    checkups_level b { server 127.0.0.1:2; }
}
--- refused
unexpected "{" in up.conf:4



=== TEST 230: checkups_level: a server that is backup
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1;
    server 127.0.0.1:2 backup;
}
--- refused
balancing method does not support parameter "backup" in up.conf:4



=== TEST 231: checkups_level: a server with a parameter that nginx does not have
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1 drain;
}
--- refused
invalid parameter "drain" in up.conf:3



=== TEST 232: checkups_level: a server without an address
--- upstream
checkups_cluster;
checkups_level a { server; }
--- refused
checkups: "server" directive: invalid number of arguments in up.conf:2



=== TEST 233: checkups_level: a server with an address that is none
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:99999; }
--- refused
invalid port in upstream "127.0.0.1:99999" in up.conf:2



=== TEST 234: checkups_level: a weight that no counter holds
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1 weight=4294967296; }
--- refused
checkups: "checkups_cluster" directive: server "127.0.0.1:1": weight=4294967296 is too large in up.conf:1



=== TEST 235: checkups_level: resolve
--- http
resolver 127.0.0.1:1;
upstream up {
    zone up 64k;
    checkups_cluster;
    checkups_level a { server localhost:1 resolve; }
}
--- refused
checkups: "checkups_level" directive: "resolve" does not go with levels in http.conf:5
--- skip_nginx: 3: < 1.27.3



=== TEST 236: checkups_level: resolve, where nginx does not have it
--- upstream
checkups_cluster;
checkups_level a { server localhost:1 resolve; }
--- refused
invalid parameter "resolve" in up.conf:2
--- skip_nginx: 3: >= 1.27.3



=== TEST 237: checkups_level: include without a file
--- upstream
checkups_cluster;
checkups_level a {
    include;
}
--- refused
checkups: "include" directive: invalid number of arguments in up.conf:3



=== TEST 238: checkups_level: include with two files
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1;
    include ../html/a.conf ../html/b.conf;
}
--- refused
checkups: "include" directive: invalid number of arguments in up.conf:4



=== TEST 239: checkups_level: another directive in a file inside
--- upstream
checkups_cluster;
checkups_level a {
    include ../html/more.conf;
}
--- user_files
>>> more.conf
server 127.0.0.1:1;
checkups_balance least_conn;
--- refused
checkups: "checkups_balance" directive: it is not allowed in a level, allowed are server and include in more.conf:2



=== TEST 240: checkups_level: a server that is backup in a file inside
--- upstream
checkups_cluster;
checkups_level a {
    include ../html/more.conf;
}
--- user_files
>>> more.conf
server 127.0.0.1:1 backup;
--- refused
balancing method does not support parameter "backup" in more.conf:1



=== TEST 241: checkups_level: without its block
--- upstream
checkups_cluster;
checkups_level a;
server 127.0.0.1:1;
--- refused
directive "checkups_level" has no opening "{" in up.conf:2



=== TEST 242: checkups_level: a block that does not end
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1;
--- refused
unexpected end of file, expecting "}" in up.conf:4



=== TEST 243: checkups_level: behind a server line
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_level a { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: "server" lines stand either in the upstream block or in its levels in up.conf:3



=== TEST 244: checkups_level: behind a server line before checkups_cluster
--- upstream
server 127.0.0.1:1 backup;
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: "server" lines stand either in the upstream block or in its levels in up.conf:3



=== TEST 245: checkups_level: between a server line and another level
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
server 127.0.0.1:1;
checkups_level b { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level" directive: "server" lines stand either in the upstream block or in its levels in up.conf:4



=== TEST 246: checkups_level: before a server line
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
checkups_level b { server 127.0.0.1:1; }
server 127.0.0.1:1;
--- refused
checkups: "checkups_level" directive: "server" lines stand either in the upstream block or in its levels in up.conf:2



=== TEST 247: checkups_level: every parameter of nginx's server, IPv6, a unix socket, one address several times
--- upstream
checkups_cluster tries=9;
checkups_level zeta tries=2 tries_timeout=1500ms {
    server 127.0.0.1:1 weight=5 max_fails=3 fail_timeout=1m max_conns=7;
    server 127.0.0.1:1;
    server [::1]:2 max_fails=0 fail_timeout=0;
}
checkups_level alpha tries=1000000 { server 127.0.0.1 down; }
checkups_level 1.a tries_timeout=1w { server 127.0.0.1:1 weight=2; server unix:/b.sock; }
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [
    ::json_level('zeta', [
        ::json_server('127.0.0.1:1', weight => 5, max_fails => 3, fail_timeout => '"60s"', max_conns => 7),
        ::json_server('127.0.0.1:1'),
        ::json_server('[::1]:2', max_fails => 0, fail_timeout => '"0s"'),
    ], tries => 2, tries_timeout => '"1500ms"'),
    ::json_level('alpha', [::json_server('127.0.0.1:80', down => 'true')], tries => 1000000),
    ::json_level('1.a', [::json_server('127.0.0.1:1', weight => 2), ::json_server('unix:/b.sock')], tries_timeout => '"604800s"'),
], tries => 9)
--- no_error_log
[warn]
[emerg]



=== TEST 248: checkups_level: every character that a name may have, and names that differ in case
--- upstream eval
"checkups_cluster;\n" . CORE::join '', map { "checkups_level $_ { server 127.0.0.1:1; }\n" } 'Az09._:-', 'dc', 'DC', '-', '7a', 'x' x 128
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [map { ::json_level($_, [::json_server('127.0.0.1:1')]) } 'Az09._:-', 'dc', 'DC', '-', '7a', 'x' x 128])



=== TEST 249: checkups_level: servers in files inside, and in files of files
--- upstream
checkups_cluster;
checkups_level a {
    server 127.0.0.1:1;
    include ../html/one.conf;
    server 127.0.0.1:5;
}
checkups_level b { include ../html/m*.conf; }
--- user_files
>>> one.conf
server 127.0.0.1:2 weight=2;
include ../html/two.conf;
server 127.0.0.1:4;
>>> two.conf
server 127.0.0.1:3;
>>> m1.conf
server 127.0.0.1:6;
>>> m2.conf
server 127.0.0.1:7;
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [
    ::json_level('a', [map { ::json_server("127.0.0.1:$_", $_ == 2 ? (weight => 2) : ()) } 1 .. 5]),
    ::json_level('b', [map { ::json_server("127.0.0.1:$_") } 6, 7]),
])



=== TEST 250: checkups_level: in a file itself
--- upstream
checkups_cluster;
include ../html/levels.conf;
--- user_files
>>> levels.conf
checkups_level a { server 127.0.0.1:1; }
checkups_level b { server 127.0.0.1:2; }
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [::json_level('a', [::json_server('127.0.0.1:1')]), ::json_level('b', [::json_server('127.0.0.1:2')])])



=== TEST 251: checkups_level: one that serves, with a zone, keepalive and a check
--- upstream
zone up 64k;
checkups_cluster;
checkups_level a { server 127.0.0.1:1 down; }
checkups_level b { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
keepalive 2;
checkups_check tcp;
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



=== TEST 252: checkups_level_from: without words
--- upstream
checkups_cluster;
checkups_level_from;
--- refused
checkups: "checkups_level_from" directive: the NAME of the level is missing in up.conf:2



=== TEST 253: checkups_level_from: without an upstream
--- upstream
checkups_cluster;
checkups_level_from a;
--- refused
checkups: "checkups_level_from" directive: the name of the other UPSTREAM is missing in up.conf:2



=== TEST 254: checkups_level_from: a number for a name
--- upstream
checkups_cluster;
checkups_level_from 1 other;
--- refused
checkups: "checkups_level_from" directive: invalid level name "1", it must be 1 to 128 letters, digits and the characters . _ : -, and not a number: a number stands for the place of a level in up.conf:2



=== TEST 255: checkups_level_from: the name of another level
--- upstream
checkups_cluster;
checkups_level a { server 127.0.0.1:3; }
checkups_level_from a other;
--- refused
checkups: "checkups_level_from" directive: duplicate level "a", it is that in up.conf:2 as well in up.conf:3



=== TEST 256: checkups_level_from: an unknown parameter
--- upstream
checkups_cluster;
checkups_level_from a other backup;
--- refused
checkups: "checkups_level_from" directive: unknown parameter "backup", allowed are only=, tries= and tries_timeout= in up.conf:2



=== TEST 257: checkups_level_from: only what is neither
--- upstream
checkups_cluster;
checkups_level_from a other only=down;
--- refused
checkups: "checkups_level_from" directive: invalid value in "only=down", it must be primary or backup in up.conf:2



=== TEST 258: checkups_level_from: only twice
--- upstream
checkups_cluster;
checkups_level_from a other only=primary only=backup;
--- refused
checkups: "checkups_level_from" directive: duplicate parameter "only=backup" in up.conf:2



=== TEST 259: checkups_level_from: no tries
--- upstream
checkups_cluster;
checkups_level_from a other tries=0;
--- refused
checkups: "checkups_level_from" directive: invalid value in "tries=0", it must be a number from 1 to 1000000 in up.conf:2



=== TEST 260: checkups_level_from: tries_timeout twice
--- upstream
checkups_cluster;
checkups_level_from a other tries_timeout=1s tries_timeout=2s;
--- refused
checkups: "checkups_level_from" directive: duplicate parameter "tries_timeout=2s" in up.conf:2



=== TEST 261: checkups_level_from: with a block
--- upstream
checkups_cluster;
checkups_level_from a other { server 127.0.0.1:1; }
--- refused
directive "checkups_level_from" is not terminated by ";" in up.conf:2



=== TEST 262: checkups_level_from: an upstream that is nowhere
--- upstream
checkups_cluster;
checkups_level b { server 127.0.0.1:1; }
checkups_level_from a other;
--- refused
checkups: "checkups_level_from" directive: upstream "other" is not there in up.conf:3



=== TEST 263: checkups_level_from: an address that is proxied to is no upstream block
--- http
upstream up {
    checkups_cluster;
    checkups_level_from a 127.0.0.1:1;
}
server {
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    location / { proxy_pass http://127.0.0.1:1; }
}
--- refused
checkups: "checkups_level_from" directive: upstream "127.0.0.1:1" is not there in http.conf:3



=== TEST 264: checkups_level_from: the name of a cluster is not that of its upstream
--- http
upstream up {
    checkups_cluster;
    checkups_level_from a other;
}
upstream third {
    checkups_cluster other;
    server 127.0.0.1:1;
}
--- refused
checkups: "checkups_level_from" directive: upstream "other" is not there in http.conf:3



=== TEST 265: checkups_level_from: its own upstream
--- upstream
checkups_cluster;
checkups_level_from a up;
--- refused
checkups: "checkups_level_from" directive: upstream "up" has levels of its own in up.conf:2



=== TEST 266: checkups_level_from: an upstream that has levels
--- http
upstream up {
    checkups_cluster;
    checkups_level_from a other;
}
upstream other {
    checkups_cluster;
    checkups_level b { server 127.0.0.1:1; }
}
--- refused
checkups: "checkups_level_from" directive: upstream "other" has levels of its own in http.conf:3



=== TEST 267: checkups_level_from: an upstream with levels of others, before it in the file
--- http
upstream third { server 127.0.0.1:1; }
upstream other {
    checkups_cluster;
    checkups_level_from b third;
}
upstream up {
    checkups_cluster;
    checkups_level_from a other;
}
--- refused
checkups: "checkups_level_from" directive: upstream "other" has levels of its own in http.conf:8



=== TEST 268: checkups_level_from: each of two from the other
--- http
upstream one {
    checkups_cluster;
    checkups_level_from a two;
}
upstream two {
    checkups_cluster;
    checkups_level_from a one;
}
--- refused
checkups: "checkups_level_from" directive: upstream "two" has levels of its own in http.conf:3



=== TEST 269: checkups_level_from: only the backup servers, where there are none
--- http
upstream up {
    checkups_cluster;
    checkups_level_from a other;
    checkups_level_from b other only=backup;
}
upstream other { server 127.0.0.1:1; }
--- refused
checkups: "checkups_level_from" directive: upstream "other" has no such servers in http.conf:4



=== TEST 270: checkups_level_from: only the others, where all are backup
nginx refuses such an upstream itself, but in the order of the file.
--- http
upstream up {
    checkups_cluster;
    checkups_level_from a other only=primary;
}
upstream other { server 127.0.0.1:1 backup; }
--- refused
checkups: "checkups_level_from" directive: upstream "other" has no such servers in http.conf:3



=== TEST 271: checkups_level_from: an upstream with names that are resolved at run time
--- http
resolver 127.0.0.1:1;
upstream other {
    zone other 64k;
    server localhost:1 resolve;
}
upstream up {
    zone up 64k;
    checkups_cluster;
    checkups_level_from a other;
}
--- refused
checkups: "checkups_level_from" directive: "resolve" does not go with levels in http.conf:9
--- skip_nginx: 3: < 1.27.3



=== TEST 272: checkups_level_from: before a server line
--- http
upstream other { server 127.0.0.1:1; }
upstream up {
    checkups_cluster;
    checkups_level_from a other;
    server 127.0.0.1:1;
}
--- refused
checkups: "checkups_level_from" directive: "server" lines stand either in the upstream block or in its levels in http.conf:4



=== TEST 273: checkups_level_from: behind a server line
--- http
upstream other { server 127.0.0.1:1; }
upstream up {
    checkups_cluster;
    server 127.0.0.1:1;
    checkups_level_from a other;
}
--- refused
checkups: "checkups_level_from" directive: "server" lines stand either in the upstream block or in its levels in http.conf:5



=== TEST 274: checkups_level_from: an upstream before and one behind it, all of their servers or some
--- http
upstream before {
    ip_hash;
    server 127.0.0.1:1 weight=5 max_fails=3 fail_timeout=1m max_conns=7;
    server 127.0.0.1:2 down;
}
upstream up {
    checkups_cluster;
    checkups_level_from a behind only=backup tries=2;
    checkups_level b { server 127.0.0.1:5; }
    checkups_level_from c behind only=primary tries_timeout=2s;
    checkups_level_from d behind;
    checkups_level_from e before;
    checkups_level_from f before only=primary;
}
upstream behind {
    server 127.0.0.1:3;
    server 127.0.0.1:4 backup weight=2;
    server unix:/a.sock backup down;
}
--- request
GET /api/clusters/up
--- response_body eval
my @before = (
    ::json_server('127.0.0.1:1', weight => 5, max_fails => 3, fail_timeout => '"60s"', max_conns => 7),
    ::json_server('127.0.0.1:2', down => 'true'),
);
my @primary = ::json_server('127.0.0.1:3');
my @backup = (::json_server('127.0.0.1:4', weight => 2), ::json_server('unix:/a.sock', down => 'true'));
::json_cluster('up', [
    ::json_level('a', \@backup, tries => 2),
    ::json_level('b', [::json_server('127.0.0.1:5')]),
    ::json_level('c', \@primary, tries_timeout => '"2s"'),
    ::json_level('d', [@primary, @backup]),
    ::json_level('e', \@before),
    ::json_level('f', \@before),
])
--- no_error_log
[warn]
[emerg]



=== TEST 275: checkups_level_from: the name of an upstream in other letters
--- http
upstream Old.example { server 127.0.0.1:1 weight=2; }
upstream up { checkups_cluster; checkups_level_from a oLD.Example; }
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [::json_level('a', [::json_server('127.0.0.1:1', weight => 2)])])



=== TEST 276: checkups_level_from: of another cluster, which stays as it is
What checkups_server says belongs to the block in which it stands.
--- http
upstream other {
    checkups_cluster;
    server 127.0.0.1:1;
    server 127.0.0.1:2 backup;
    checkups_server 127.0.0.1:1 slow_start=5s drain;
    checkups_balance least_conn;
}
upstream up {
    checkups_cluster;
    checkups_level_from a other;
    checkups_server 127.0.0.1:2 slow_start=9s;
}
--- request eval
["GET /api/clusters/other", "GET /api/clusters/up"]
--- response_body eval
[
    ::json_cluster('other', [
        ::json_level(undef, [::json_server('127.0.0.1:1', slow_start => '"5s"', drain => 'true')]),
        ::json_level(undef, [::json_server('127.0.0.1:2')]),
    ], balance => '"least_conn"'),
    ::json_cluster('up', [::json_level('a', [::json_server('127.0.0.1:1'), ::json_server('127.0.0.1:2', slow_start => '"9s"')])]),
]



=== TEST 277: checkups_level_from: both upstreams serve, each by its own balancing
--- http
upstream other {
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
    server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
}
upstream up {
    checkups_cluster;
    checkups_level_from a other only=backup;
}
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1; location / { return 200 "one\n"; } }
server { listen 127.0.0.1:$TEST_NGINX_RAND_PORT_2; location / { return 200 "two\n"; } }
--- config
location = /up    { proxy_pass http://up; }
location = /other { proxy_pass http://other; }
--- request eval
["GET /up", "GET /other", "GET /up", "GET /other"]
--- response_body eval
["two\n", "one\n", "two\n", "one\n"]



=== TEST 278: checkups_order: without a string
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_order;
--- refused
invalid number of arguments in "checkups_order" directive in up.conf:3



=== TEST 279: checkups_order: two strings
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_order 1, 2;
--- refused
invalid number of arguments in "checkups_order" directive in up.conf:3



=== TEST 280: checkups_order: twice
--- upstream
checkups_cluster;
checkups_order 1;
server 127.0.0.1:1;
checkups_order 1;
--- refused
checkups: "checkups_order" directive: it is duplicate in up.conf:4



=== TEST 281: checkups_order: a variable without a name
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_order a,$;
--- refused
invalid variable name in up.conf:3



=== TEST 282: checkups_order: a variable whose bracket is not closed
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_order "${cookie_dc";
--- refused
the closing bracket in "cookie_dc" variable is missing in up.conf:3



=== TEST 283: checkups_order: a variable that nobody has
nginx looks for it when all of the configuration was read.
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_order $nobody_has_it;
--- refused
unknown "nobody_has_it" variable



=== TEST 284: checkups_order: not UTF-8
--- upstream eval
"checkups_cluster;\nserver 127.0.0.1:1;\ncheckups_order caf\xe9;\n"
--- refused
checkups: "checkups_order" directive: it must be UTF-8 in up.conf:3



=== TEST 285: checkups_order: empty, a list, variables, names and places that there are not
--- http
upstream a { checkups_cluster; checkups_order ""; server 127.0.0.1:1; }
upstream b { checkups_cluster; server 127.0.0.1:1; checkups_order "2, 1"; }
upstream c { checkups_order ${cookie_dc},$arg_dc; checkups_cluster; server 127.0.0.1:1; }
upstream d { checkups_cluster; server 127.0.0.1:1; checkups_order "café,9,\"x\",$arg_dc"; }
upstream e { checkups_cluster; server 127.0.0.1:1; checkups_order " "; }
upstream f { checkups_cluster; server 127.0.0.1:1; checkups_order nope,1; }
--- request eval
[map { "GET /api/clusters/$_" } 'a' .. 'f']
--- response_body eval
my @levels = ::json_level(undef, [::json_server('127.0.0.1:1')]);
[
    ::json_cluster('a', \@levels, order => '""'),
    ::json_cluster('b', \@levels, order => '"2, 1"'),
    ::json_cluster('c', \@levels, order => '"${cookie_dc},$arg_dc"'),
    ::json_cluster('d', \@levels, order => '"café,9,\"x\",$arg_dc"'),
    ::json_cluster('e', \@levels, order => '" "'),
    ::json_cluster('f', \@levels, order => '"nope,1"'),
]



=== TEST 286: checkups_order: names that no level has, and no variable
--- upstream
checkups_cluster;
checkups_order
    nope,dc;
checkups_level dc1 { server 127.0.0.1:1; }
checkups_level dc2 { server 127.0.0.1:1; }
--- refused
checkups: "checkups_order" directive: there is no level of "nope,dc" in the block in up.conf:3



=== TEST 287: checkups_order: places that there are not, and no variable
--- upstream
checkups_cluster;
server 127.0.0.1:1;
server 127.0.0.1:2 backup;
checkups_order "3, 0";
--- refused
checkups: "checkups_order" directive: there is no level of "3, 0" in the block in up.conf:4



=== TEST 288: checkups_order: commas only
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_order ", ,";
--- refused
checkups: "checkups_order" directive: there is no level of ", ," in the block in up.conf:3



=== TEST 289: checkups_balance: without a method
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance;
--- refused
checkups: "checkups_balance" directive: unknown method "", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 290: checkups_balance: a method that there is not
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance least_time header;
--- refused
checkups: "checkups_balance" directive: unknown method "least_time header", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 291: checkups_balance: methods are in small letters
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance Round_Robin;
--- refused
checkups: "checkups_balance" directive: unknown method "Round_Robin", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 292: checkups_balance: a hash without a key
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance hash;
--- refused
checkups: "checkups_balance" directive: the KEY of the hash is missing in up.conf:3



=== TEST 293: checkups_balance: a hash of nothing
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance hash "";
--- refused
checkups: "checkups_balance" directive: the KEY of the hash is missing in up.conf:3



=== TEST 294: checkups_balance: consistent is not said
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance hash $uri consistent;
--- refused
checkups: "checkups_balance" directive: unknown method "hash $uri consistent", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 295: checkups_balance: random, but not two
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance random;
--- refused
checkups: "checkups_balance" directive: unknown method "random", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 296: checkups_balance: random two of what nginx has besides
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance random two least_conn;
--- refused
checkups: "checkups_balance" directive: unknown method "random two least_conn", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 297: checkups_balance: a word behind a method that has none
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance ip_hash $remote_addr;
--- refused
checkups: "checkups_balance" directive: unknown method "ip_hash $remote_addr", allowed are round_robin, hash KEY, url_hash, ip_hash, header_hash, least_conn and random two in up.conf:3



=== TEST 298: checkups_balance: a variable without a name in the key
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance hash $;
--- refused
invalid variable name in up.conf:3



=== TEST 299: checkups_balance: a variable in the key that nobody has
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_balance hash $nobody_has_it;
--- refused
unknown "nobody_has_it" variable



=== TEST 300: checkups_balance: a key that is not UTF-8
--- upstream eval
"checkups_cluster;\nserver 127.0.0.1:1;\ncheckups_balance hash caf\xe9\$uri;\n"
--- refused
checkups: "checkups_balance" directive: it must be UTF-8 in up.conf:3



=== TEST 301: checkups_balance: twice
--- upstream
checkups_cluster;
checkups_balance least_conn;
server 127.0.0.1:1;
checkups_balance hash $uri;
--- refused
checkups: "checkups_balance" directive: it is duplicate in up.conf:4



=== TEST 302: checkups_balance: a hash over weights that are too large
--- upstream
checkups_cluster;
server 127.0.0.1:1 weight=10000;
server 127.0.0.1:2 weight=10001;
checkups_balance hash $uri;
--- refused
checkups: "checkups_balance" directive: the weights of a level add up to 20001, with a hash they may to 20000 in up.conf:4



=== TEST 303: checkups_balance: so it is for every hash, and where a server is down
--- upstream
server 127.0.0.1:1 weight=20000;
server 127.0.0.1:2 down;
checkups_balance ip_hash;
checkups_cluster;
--- refused
checkups: "checkups_balance" directive: the weights of a level add up to 20001, with a hash they may to 20000 in up.conf:3



=== TEST 304: checkups_balance: in a level
--- upstream
checkups_balance header_hash;
checkups_cluster;
checkups_level a { server 127.0.0.1:1; }
checkups_level b {
    server 127.0.0.1:1 weight=20000;
    server 127.0.0.1:2 weight=4294967295;
}
--- refused
checkups: "checkups_balance" directive: the weights of a level add up to 4294987295, with a hash they may to 20000 in up.conf:1



=== TEST 305: checkups_balance: among backup servers
--- upstream
checkups_cluster;
checkups_balance url_hash;
server 127.0.0.1:1;
server 127.0.0.1:2 backup weight=20001;
--- refused
checkups: "checkups_balance" directive: the weights of a level add up to 20001, with a hash they may to 20000 in up.conf:2



=== TEST 306: checkups_balance: the largest weights for a hash, and what the other methods take
--- http
upstream a {
    checkups_cluster;
    checkups_balance hash $uri;
    server 127.0.0.1:1 weight=19999;
    server 127.0.0.1:2;
    server 127.0.0.1:3 backup weight=20000;
}
upstream b {
    checkups_cluster;
    checkups_balance random two;
    server 127.0.0.1:1 weight=4294967295;
    server 127.0.0.1:2 weight=4294967295;
}
upstream c {
    checkups_cluster;
    checkups_balance least_conn;
    server 127.0.0.1:1 weight=4294967295;
    server 127.0.0.1:2 weight=4294967295;
}
--- request eval
[map { "GET /api/clusters/$_" } 'a' .. 'c']
--- response_body eval
my @largest = ::json_level(undef, [map { ::json_server("127.0.0.1:$_", weight => 4294967295) } 1, 2]);
[
    ::json_cluster('a', [
        ::json_level(undef, [::json_server('127.0.0.1:1', weight => 19999), ::json_server('127.0.0.1:2')]),
        ::json_level(undef, [::json_server('127.0.0.1:3', weight => 20000)]),
    ], balance => '"hash $uri"'),
    ::json_cluster('b', \@largest, balance => '"random two"'),
    ::json_cluster('c', \@largest, balance => '"least_conn"'),
]



=== TEST 307: checkups_balance: every method
--- http
upstream a { checkups_cluster; server 127.0.0.1:1; checkups_balance round_robin; }
upstream b { checkups_cluster; server 127.0.0.1:1; checkups_balance hash $request_uri; }
upstream c { checkups_cluster; server 127.0.0.1:1; checkups_balance hash "a ${arg_x}\"$host"; }
upstream d { checkups_cluster; server 127.0.0.1:1; checkups_balance url_hash; }
upstream e { checkups_balance ip_hash; checkups_cluster; server 127.0.0.1:1; }
upstream f { checkups_cluster; server 127.0.0.1:1; checkups_balance header_hash; }
upstream g { checkups_cluster; server 127.0.0.1:1; checkups_balance least_conn; }
upstream h { checkups_cluster; server 127.0.0.1:1; checkups_balance random two; }
upstream i { checkups_cluster; server 127.0.0.1:1; checkups_balance hash always_the_same; }
--- request eval
[map { "GET /api/clusters/$_" } 'a' .. 'i']
--- response_body eval
my $name = 'a';
[map { ::json_cluster($name++, [::json_level(undef, [::json_server('127.0.0.1:1')])], balance => qq("$_")) }
    'round_robin', 'hash $request_uri', 'hash a ${arg_x}\"$host', 'url_hash', 'ip_hash', 'header_hash', 'least_conn', 'random two', 'hash always_the_same']



=== TEST 308: checkups_fail_status: without a status
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status;
--- refused
invalid number of arguments in "checkups_fail_status" directive in up.conf:3



=== TEST 309: checkups_fail_status: too low
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 500 99;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "99", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 310: checkups_fail_status: too high
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 500-600;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "500-600", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 311: checkups_fail_status: a range from the higher to the lower
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 504-502;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "504-502", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 312: checkups_fail_status: half a range
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 500-;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "500-", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 313: checkups_fail_status: more than a range
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 500-502-504;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "500-502-504", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 314: checkups_fail_status: a word of proxy_next_upstream
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status http_500;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "http_500", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 315: checkups_fail_status: commas between them
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 500, 502;
--- refused
checkups: "checkups_fail_status" directive: invalid value in "500,", it must be a status from 100 to 599, or two with - between them in up.conf:3



=== TEST 316: checkups_fail_status: twice
--- upstream
checkups_cluster;
checkups_fail_status 500;
server 127.0.0.1:1;
checkups_fail_status 502;
--- refused
checkups: "checkups_fail_status" directive: it is duplicate in up.conf:4



=== TEST 317: checkups_fail_status: statuses and ranges, of which some come more than once
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_fail_status 503 100-599 500-500 503
    404;
--- request
GET /api/clusters/up
--- response_body eval
::json_cluster('up', [::json_level(undef, [::json_server('127.0.0.1:1')])], fail_status => '["503","100-599","500","503","404"]')



=== TEST 318: checkups_server: without an address
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server;
--- refused
checkups: "checkups_server" directive: the ADDRESS of the server is missing in up.conf:3



=== TEST 319: checkups_server: an address that there is not
--- upstream
checkups_cluster;
server 127.0.0.1:1;
server 127.0.0.2:2;
checkups_server 127.0.0.1:2 drain;
--- refused
checkups: "checkups_server" directive: there is no server "127.0.0.1:2" in the block in up.conf:4



=== TEST 320: checkups_server: an address of another block only
--- http
upstream other { checkups_cluster; server 127.0.0.1:2; }
upstream up {
    checkups_cluster;
    checkups_server 127.0.0.1:2 drain;
    server 127.0.0.1:1;
}
--- refused
checkups: "checkups_server" directive: there is no server "127.0.0.1:2" in the block in http.conf:4



=== TEST 321: checkups_server: without a port it is 80
--- upstream
checkups_cluster;
server 127.0.0.1:8080;
checkups_server 127.0.0.1 drain;
--- refused
checkups: "checkups_server" directive: there is no server "127.0.0.1" in the block in up.conf:3



=== TEST 322: checkups_server: an address in a level that a server has in another form only
--- upstream
checkups_cluster;
checkups_level a { server unix:/a.sock; }
checkups_server unix:/b.sock;
--- refused
checkups: "checkups_server" directive: there is no server "unix:/b.sock" in the block in up.conf:3



=== TEST 323: checkups_server: twice for one address
--- upstream
checkups_cluster;
server 127.0.0.1:80;
checkups_server 127.0.0.1:80 drain;
checkups_server 127.0.0.1 slow_start=5s;
--- refused
checkups: "checkups_server" directive: it is duplicate for server "127.0.0.1" in up.conf:4



=== TEST 324: checkups_server: twice for a unix socket
--- upstream
checkups_cluster;
checkups_server unix:/a.sock;
checkups_server unix:/a.sock;
server unix:/a.sock;
--- refused
checkups: "checkups_server" directive: it is duplicate for server "unix:/a.sock" in up.conf:3



=== TEST 325: checkups_server: an empty address
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server "";
--- refused
checkups: "checkups_server" directive: no host in "" in up.conf:3



=== TEST 326: checkups_server: a port that is none
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:65536 drain;
--- refused
checkups: "checkups_server" directive: invalid port in "127.0.0.1:65536" in up.conf:3



=== TEST 327: checkups_server: a URL
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server http://127.0.0.1:1 drain;
--- refused
checkups: "checkups_server" directive: invalid host in "http://127.0.0.1:1" in up.conf:3



=== TEST 328: checkups_server: a unix socket without a path
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server unix: drain;
--- refused
checkups: "checkups_server" directive: no path in the unix domain socket in "unix:" in up.conf:3



=== TEST 329: checkups_server: an unknown parameter
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 weight=2;
--- refused
checkups: "checkups_server" directive: unknown parameter "weight=2", allowed are slow_start=, drain, check=, check_port= and check_host= in up.conf:3



=== TEST 330: checkups_server: drain takes no value
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 drain=on;
--- refused
checkups: "checkups_server" directive: unknown parameter "drain=on", allowed are slow_start=, drain, check=, check_port= and check_host= in up.conf:3



=== TEST 331: checkups_server: drain twice
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 drain drain;
--- refused
checkups: "checkups_server" directive: duplicate parameter "drain" in up.conf:3



=== TEST 332: checkups_server: slow_start without a time
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 slow_start;
--- refused
checkups: "checkups_server" directive: unknown parameter "slow_start", allowed are slow_start=, drain, check=, check_port= and check_host= in up.conf:3



=== TEST 333: checkups_server: slow_start that is no time
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 slow_start=fast;
--- refused
checkups: "checkups_server" directive: invalid value in "slow_start=fast", it must be a time from 0s to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 334: checkups_server: slow_start that is too long
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 slow_start=8d;
--- refused
checkups: "checkups_server" directive: invalid value in "slow_start=8d", it must be a time from 0s to 604800s, for example 5s or 500ms in up.conf:3



=== TEST 335: checkups_server: slow_start twice
--- upstream
checkups_cluster;
server 127.0.0.1:1;
checkups_server 127.0.0.1:1 slow_start=5s drain slow_start=5s;
--- refused
checkups: "checkups_server" directive: duplicate parameter "slow_start=5s" in up.conf:3



=== TEST 336: checkups_server: every parameter, for every server of the address, wherever it stands
--- upstream
checkups_server 127.0.0.1 drain slow_start=1m30s;
server 127.0.0.1:80;
server 127.0.0.1:81;
checkups_cluster;
server 127.0.0.1 weight=3;
server [::1]:1;
server 127.0.0.1:80 backup;
server unix:/a.sock backup;
checkups_server 127.0.0.1:81;
checkups_server unix:/a.sock slow_start=0;
checkups_server [::1]:1 drain;
--- request
GET /api/clusters/up
--- response_body eval
my @both = (slow_start => '"90s"', drain => 'true');
::json_cluster('up', [
    ::json_level(undef, [::json_server('127.0.0.1:80', @both), ::json_server('127.0.0.1:81'),
        ::json_server('127.0.0.1:80', @both, weight => 3), ::json_server('[::1]:1', drain => 'true')]),
    ::json_level(undef, [::json_server('127.0.0.1:80', @both), ::json_server('unix:/a.sock')]),
])



=== TEST 337: checkups_server: in named levels
--- http
upstream up {
    checkups_cluster;
    checkups_level a { server 127.0.0.1:1; server unix:/a.sock; }
    checkups_server unix:/a.sock drain;
    checkups_server 127.0.0.1:1 slow_start=1w;
    checkups_level b { server 127.0.0.1:2; server 127.0.0.1:1; }
    checkups_level_from c other;
}
upstream other { server unix:/a.sock; }
--- request
GET /api/clusters/up
--- response_body eval
my @slow = ('127.0.0.1:1', slow_start => '"604800s"');
my @drained = ('unix:/a.sock', drain => 'true');
::json_cluster('up', [
    ::json_level('a', [::json_server(@slow), ::json_server(@drained)]),
    ::json_level('b', [::json_server('127.0.0.1:2'), ::json_server(@slow)]),
    ::json_level('c', [::json_server(@drained)]),
])



=== TEST 338: checkups_server: names with two addresses
A name stands for all of its addresses, of which one is enough to be in the block.
--- config
--- http
upstream none { server 127.0.0.1:1; }
--- init
SKIP: {
Test::More::skip('no /etc/hosts of our own is possible', 3) unless ::may_have_hosts();
my $settings = ::settings_with_hosts("127.0.0.1 both.test\n127.0.0.2 both.test\n127.0.0.3 others.test\n127.0.0.2 others.test\n", <<'END');
server both.test:1;
server 127.0.0.3:1;
server 127.0.0.1:2;
checkups_server both.test:1 drain;
checkups_server others.test:2 slow_start=5s;
checkups_server 127.0.0.1:2;
server 127.0.0.2:2;
END
Test::More::is($settings, ::json_cluster('up', [::json_level(undef, [
    ::json_server('127.0.0.1:1', drain => 'true'), ::json_server('127.0.0.2:1', drain => 'true'), ::json_server('127.0.0.3:1'),
    ::json_server('127.0.0.1:2'), ::json_server('127.0.0.2:2', slow_start => '"5s"'),
])]), 'by name');
$settings = ::settings_with_hosts("127.0.0.1 both.test\n127.0.0.2 both.test\n", <<'END');
server both.test:1;
checkups_server 127.0.0.2:1 drain;
END
Test::More::is($settings, ::json_cluster('up', [::json_level(undef, [
    ::json_server('127.0.0.1:1'), ::json_server('127.0.0.2:1', drain => 'true'),
])]), 'by address');
$settings = ::settings_with_hosts("127.0.0.1 both.test\n127.0.0.2 both.test\n", <<'END');
server both.test:1;
checkups_server 127.0.0.2:1 drain;
checkups_server both.test:1;
END
Test::More::like($settings, qr/checkups: "checkups_server" directive: it is duplicate for server "both\.test:1" in \S+:3$/m, 'twice for one of the addresses');
}
--- request
GET /
--- ignore_response



=== TEST 339: checkups_api: in http
--- http
checkups_api;
--- refused
"checkups_api" directive is not allowed here in http.conf:1



=== TEST 340: checkups_api: in server
--- server
checkups_api;
--- refused
"checkups_api" directive is not allowed here in server.conf:1



=== TEST 341: checkups_api: in upstream
--- upstream
server 127.0.0.1:1;
checkups_api;
--- refused
"checkups_api" directive is not allowed here in up.conf:2



=== TEST 342: checkups_api: in if
--- server
location /x/ {
    if ($arg_x) { checkups_api; }
}
--- refused
"checkups_api" directive is not allowed here in server.conf:2



=== TEST 343: checkups_api: in limit_except
--- server
location /x/ {
    limit_except GET { checkups_api; }
}
--- refused
"checkups_api" directive is not allowed here in server.conf:2



=== TEST 344: checkups_api: an unknown parameter
--- server
location /x/ { checkups_api read=on; }
--- refused
checkups: "checkups_api" directive: unknown parameter "read=on", allowed are write= in server.conf:1



=== TEST 345: checkups_api: a word without =
--- server
location /x/ { checkups_api write; }
--- refused
checkups: "checkups_api" directive: unknown parameter "write", allowed are write= in server.conf:1



=== TEST 346: checkups_api: write by a word that is neither
--- server
location /x/ {
    checkups_api write=yes;
}
--- refused
checkups: "checkups_api" directive: invalid value in "write=yes", it must be on or off in server.conf:2



=== TEST 347: checkups_api: write by nothing
--- server
location /x/ { checkups_api write=; }
--- refused
checkups: "checkups_api" directive: invalid value in "write=", it must be on or off in server.conf:1



=== TEST 348: checkups_api: write twice
--- server
location /x/ { checkups_api write=on write=on; }
--- refused
checkups: "checkups_api" directive: duplicate parameter "write=on" in server.conf:1



=== TEST 349: checkups_api: twice
--- server
location /x/ {
    checkups_api;
    checkups_api;
}
--- refused
checkups: "checkups_api" directive: it is duplicate, or another directive answers in this location in server.conf:3



=== TEST 350: checkups_api: behind another directive that answers
--- server
location /x/ {
    proxy_pass http://127.0.0.1:1;
    checkups_api;
}
--- refused
checkups: "checkups_api" directive: it is duplicate, or another directive answers in this location in server.conf:3



=== TEST 351: checkups_api: in an exact location
--- server
location = /x { checkups_api; }
--- refused
checkups: "checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:1



=== TEST 352: checkups_api: in a location by a regular expression
--- server
location ~ ^/x/(.*) { checkups_api; }
--- refused
checkups: "checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:1



=== TEST 353: checkups_api: in a location by a regular expression, case-insensitive
--- server
location ~* ^/x/ { checkups_api; }
--- refused
checkups: "checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:1



=== TEST 354: checkups_api: in a named location
--- server
location @x {
    checkups_api;
}
--- refused
checkups: "checkups_api" directive: it must stand in a location that is given by a prefix: not by "=", a regular expression or a name in server.conf:2



=== TEST 355: checkups_api: prefix locations of all kinds
--- config
location ^~ /a/ { checkups_api; }
location /b/ { location /b/c/ { checkups_api; } }
location "/d e/" { checkups_api; }
location /f { checkups_api write=on; }
location /g/ { checkups_api write=off; }
--- http_config
--- request eval
["GET /a/clusters/", "GET /b/c/clusters/", "GET /d%20e/clusters/", "GET /f/clusters/", "GET /g/clusters/"]
--- response_body eval
["{}", "{}", "{}", "{}", "{}"]



=== TEST 356: server: resolve, without a zone
--- http
resolver 127.0.0.1:1;
upstream up {
    checkups_cluster;
    server localhost:1 resolve;
}
--- refused
resolving names at run time requires upstream "up" in http.conf:2 to be in shared memory
--- skip_nginx: 3: < 1.27.3
