# Consistent hashing: the keys go where nginx's own "hash KEY consistent" sends them, and
# those of a server that is out of use go on along the ring, nobody else's.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Backends;

use Compress::Zlib ();
use IO::Socket::INET ();

# F and G are ports where nobody listens. K to T say nothing but that they are there.
add_block_preprocessor(sub {
    my $block = shift;
    my $listen = join ' ', map { "listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_$_;" } 11 .. 20;
    $block->set_value(http_config => backends('A' .. 'E') . <<"END" . $block->http_config);

server {
    $listen
    access_log off;
    return 204;
}
END
});

# The rule, written down once more and apart from the module: a server has 160 points for each
# unit of its weight, each the CRC-32 of what is written of the server and of the point before
# it; a key belongs to the first point that is not below its own CRC-32. The servers are those
# of a configuration, "127.0.0.1:80" or "A", with "=WEIGHT" where it is not 1.
sub ring {
    my %points;
    for (@_) {
        my ($server, $weight) = /^(.*?)(?:=(\d+))?$/;
        my $written = $server =~ /^[A-Z]$/ ? '127.0.0.1:' . port_of($server) : $server;
        my ($host, $port) = $written =~ /^unix:(.*)/ ? ($1, '') : $written =~ /^(.*?)(?::(\d+))?$/;
        my $point = 0;
        for (1 .. 160 * ($weight // 1)) {
            $point = Compress::Zlib::crc32("$host\0" . ($port // '') . pack 'V', $point);
            $points{$point} //= $server;
        }
    }
    my @sorted = sort { $a <=> $b } keys %points;
    return { points => \@sorted, servers => [@points{@sorted}] };
}

# All servers in the order in which they serve a key.
sub walk {
    my ($ring, $key, $most) = @_;
    my ($points, $servers) = @$ring{qw(points servers)};
    my $hash = Compress::Zlib::crc32($key);
    my ($low, $high) = (0, scalar @$points);
    while ($low < $high) {
        my $middle = int(($low + $high) / 2);
        if ($points->[$middle] < $hash) { $low = $middle + 1 } else { $high = $middle }
    }
    my (%seen, @walk);
    for my $step (0 .. $#$points) {
        my $server = $servers->[($low + $step) % @$points];
        push @walk, $server if !$seen{$server}++;
        last if $most && @walk == $most;
    }
    return @walk;
}

# The server of a key.
sub owner { return (walk(@_, 1))[0] }

# The first so many keys whose servers are, in this order, at least these.
sub keys_of {
    my ($ring, $count, $servers) = @_;
    my ($key, @keys) = 0;
    until (@keys == $count) {
        push @keys, $key if join('', walk($ring, $key)) =~ /^$servers/;
        $key++;
    }
    return @keys;
}

# The header X-Chosen of the answers to all these requests, many at a time.
sub chosen {
    my @paths = @_;
    my @connections = map { connect_to() } 1 .. 4;
    my @chosen;
    while (my @batch = splice @paths, 0, 1000) {
        my @asked;
        for my $connection (@connections) {
            my @part = splice @batch, 0, 250 or last;
            $connection->say_raw(join '', map { "GET $_ HTTP/1.1\r\nHost: localhost\r\n\r\n" } @part);
            push @asked, ($connection) x @part;
        }
        for my $connection (@asked) {
            my $head = $connection->take_through("\r\n\r\n") // die 'no answer';
            push @chosen, $head =~ /^X-Chosen: (.*)\r$/m;
        }
    }
    return @chosen;
}

# The server that "select" says for a key, a letter where it has one.
sub selected {
    my ($cluster, $key) = @_;
    my $answer = ask("/checkups/clusters/$cluster/select?key=$key");
    my ($server) = $answer->{body} =~ /"server":"([^"]+)"/ or return $answer->{code};
    return $server;
}

# Which positions are not alike in two lists: "0" where all are, or how many and the first.
sub differences {
    my ($some, $others) = @_;
    my @different = grep { $some->[$_] ne ($others->[$_] // '') } 0 .. $#$some;
    return '0' if !@different && @$some == @$others;
    return scalar(@different) . ' of ' . @$some . ", the first: $different[0]: "
        . join ' and ', map { $_->[$different[0]] // 'nothing' } $some, $others;
}

sub letters { return map { Backends::letter_of($_) } @_ }

# A connection from another address.
sub connect_from {
    my $address = shift;
    my $socket = IO::Socket::INET->new(
        LocalAddr => $address, PeerAddr => '127.0.0.1', PeerPort => server_port_for_client(), Timeout => 5,
    ) or die "cannot connect from $address: $!";
    return bless { socket => $socket, data => '' }, 'Backends';
}

sub has_ipv6 {
    require IO::Socket::IP;
    return defined IO::Socket::IP->new(LocalHost => '::1', LocalPort => 0, Listen => 1);
}

no_root_location();
workers(4);
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: 100,000 keys over 10 servers of weights 1 to 5 go where nginx sends them
--- http_config
    upstream ours {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_12;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_13 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_14 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_15 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_16 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_17 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_18;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_19 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_20 weight=5;
    }
    upstream theirs {
        hash $arg_k consistent;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_12;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_13 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_14 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_15 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_16 weight=4;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_17 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_18;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_19 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_20 weight=5;
        keepalive 64;
    }
    keepalive_requests 1000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
--- config
    location = /both {
        proxy_pass http://theirs;
        add_header X-Chosen "$checkups_select_ours $upstream_addr";
    }
    location = /ours {
        proxy_pass http://ours;
        add_header X-Chosen "$checkups_select_ours $upstream_addr";
    }
--- init
my (@ours, @theirs);
for (::chosen(map { "/both?k=$_" } 1 .. 100_000)) {
    my ($our, $their) = split / /;
    push @ours, $our;
    push @theirs, $their;
}
::is(scalar @ours, 100_000, 'so many keys');
::is(::differences(\@ours, \@theirs), '0', 'each goes where nginx sends it');
my %owners = map { $_ => 1 } @ours;
::is(scalar keys %owners, 10, 'all servers have keys');

my $ring = ::ring(qw(K=3 L M=5 N=2 O=4 P=4 Q=2 R S=3 T=5));
my @some = 1 .. 2000;
my @expected = map { '127.0.0.1:' . ::port_of(::owner($ring, $_)) } @some;
::is(::differences([@ours[0 .. 1999]], \@expected), '0', 'as the rule has it');
::is(::differences([::chosen(map { "/ours?k=$_" } @some)], [map { "$_ $_" } @expected]), '0',
    'and so do requests');
--- request
GET /both?k=1
--- error_code: 204
--- no_error_log
[error]



=== TEST 2: a server that is down: only its keys go elsewhere, as in nginx
A drained one is the same.
--- http_config
    upstream all {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_12 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_13;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_14 weight=2;
    }
    upstream less {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_12 weight=3 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_13;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_14 weight=2;
    }
    upstream drained {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_12 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_13;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_14 weight=2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_12 drain;
    }
    upstream theirs {
        hash $arg_k consistent;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_12 weight=3 down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_13;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_14 weight=2;
        keepalive 64;
    }
    keepalive_requests 1000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
--- config
    location / {
        proxy_pass http://theirs;
        add_header X-Chosen
            "$checkups_select_all $checkups_select_less $checkups_select_drained $upstream_addr";
    }
--- init
my (@all, @less, @drained, @theirs);
my @keys = 1 .. 10_000;
for (::chosen(map { "/?k=$_" } @keys)) {
    my ($all, $less, $drained, $theirs) = ::letters(split / /);
    push @all, $all;
    push @less, $less;
    push @drained, $drained;
    push @theirs, $theirs;
}
my $ring = ::ring(qw(K=2 L=3 M N=2));
my @next = map { my ($one, $two) = ::walk($ring, $_, 2); $one eq 'L' ? $two : $one } @keys;
::is(::differences(\@all, [map { ::owner($ring, $_) } @keys]), '0', 'with all servers');
::is(::differences(\@less, \@theirs), '0', 'without one, as in nginx');
::is(::differences(\@less, \@next), '0', 'its keys go on to the next, no others');
::is(::differences(\@drained, \@next), '0', 'the same where it is drained');
--- request
GET /?k=1
--- error_code: 204
--- no_error_log
[error]



=== TEST 3: a server that fails its checks: only its keys go elsewhere, and they come back
--- http_config
    upstream checked {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4;
        checkups_check http uri=/health interval=50ms;
    }
    keepalive_requests 1000000;
--- config
    location / { proxy_pass http://checked; }
    location = /select { add_header X-Chosen $checkups_select_checked; return 204; }
    location /checkups/ { checkups_api; }
--- init
my $ring = ::ring(qw(A B=2 C D));
my @keys = 1 .. 2000;
my @paths = map { "/select?k=$_" } @keys;
my $without = sub {
    my $out = shift;
    return [map { (grep { index($out, $_) < 0 } ::walk($ring, $_))[0] } @keys];
};
::wait_for_status('A=ok B=ok C=ok D=ok');
::is(::differences([::letters(::chosen(@paths))], $without->('')), '0', 'all well');
::sick('B');
::wait_for_status('A=ok B=err C=ok D=ok');
::is(::differences([::letters(::chosen(@paths))], $without->('B')), '0', 'without B');
my @its = ::keys_of($ring, 20, 'B');
::is(join('', map { ::ask("/?k=$_")->{body} } @its), join('', map { (::walk($ring, $_))[1] } @its),
    'requests with its keys');
::sick('C');
::wait_for_status('A=ok B=err C=err D=ok');
::is(::differences([::letters(::chosen(@paths))], $without->('BC')), '0', 'without B and C');
::well('B', 'C');
::wait_for_status('A=ok B=ok C=ok D=ok');
::is(::differences([::letters(::chosen(@paths))], $without->('')), '0', 'all well again');
--- request
GET /?k=1
--- response_body_like: ^[ABCD]$
--- no_error_log
[error]



=== TEST 4: unix sockets stand on the ring by their paths, as in nginx
--- http_config
    upstream ours {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server unix:$TEST_NGINX_SERVER_ROOT/logs/x.sock weight=2;
        server unix:$TEST_NGINX_SERVER_ROOT/logs/y.sock;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11;
    }
    upstream theirs {
        hash $arg_k consistent;
        server unix:$TEST_NGINX_SERVER_ROOT/logs/x.sock weight=2;
        server unix:$TEST_NGINX_SERVER_ROOT/logs/y.sock;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11;
        keepalive 64;
    }
    server {
        listen unix:$TEST_NGINX_SERVER_ROOT/logs/x.sock;
        listen unix:$TEST_NGINX_SERVER_ROOT/logs/y.sock;
        return 204;
    }
    keepalive_requests 1000000;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
--- config
    location / {
        proxy_pass http://theirs;
        add_header X-Chosen "$checkups_select_ours $upstream_addr";
    }
    location = /ours {
        proxy_pass http://ours;
        add_header X-Chosen $upstream_addr;
    }
--- init
my @keys = 1 .. 3000;
my (@ours, @theirs);
for (::chosen(map { "/?k=$_" } @keys)) {
    my ($our, $their) = split / /;
    push @ours, $our;
    push @theirs, $their;
}
my %owners = map { $_ => 1 } @ours;
::is(scalar keys %owners, 3, 'all have keys');
::is(::differences(\@ours, \@theirs), '0', 'each key goes where nginx sends it');
::is(::differences([::chosen(map { "/ours?k=$_" } @keys[0 .. 299])], [@ours[0 .. 299]]), '0',
    'and so do requests');
--- request
GET /?k=1
--- error_code: 204
--- no_error_log
[error]



=== TEST 5: IPv6, as in nginx
--- skip_eval
7: !main::has_ipv6()
--- http_config
    upstream ours {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server [::1]:$TEST_NGINX_RAND_PORT_21;
        server [::1]:$TEST_NGINX_RAND_PORT_22 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11;
    }
    upstream theirs {
        hash $arg_k consistent;
        server [::1]:$TEST_NGINX_RAND_PORT_21;
        server [::1]:$TEST_NGINX_RAND_PORT_22 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_11;
    }
    server {
        listen [::1]:$TEST_NGINX_RAND_PORT_21;
        listen [::1]:$TEST_NGINX_RAND_PORT_22;
        return 204;
    }
--- config
    location / {
        proxy_pass http://theirs;
        add_header X-Chosen "$checkups_select_ours $upstream_addr";
    }
--- init
my (@ours, @theirs);
for (::chosen(map { "/?k=$_" } 1 .. 1000)) {
    my ($our, $their) = split / /;
    push @ours, $our;
    push @theirs, $their;
}
my %owners = map { $_ => 1 } @ours;
::is(scalar keys %owners, 3, 'all have keys');
::is(::differences(\@ours, \@theirs), '0', 'each key goes where nginx sends it');
--- request
GET /?k=1
--- error_code: 204
--- no_error_log
[error]



=== TEST 6: servers without a port stand on the ring without one
Nothing is sent to them: port 80 is somebody else's.
--- http_config
    upstream plain {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1;
        server 127.0.0.2 weight=2;
        server 127.0.0.3:80;
        server [::1];
        server [::1]:80;
    }
--- config
    location / { return 204; add_header X-Chosen $checkups_select_plain; }
    location /checkups/ { checkups_api; }
--- init
my $ring = ::ring('127.0.0.1', '127.0.0.2=2', '127.0.0.3:80', '[::1]', '[::1]:80');
my @keys = 1 .. 1000;
my @expected = map { ::owner($ring, $_) =~ s/(?<!:80)$/:80/r } @keys;
::is(::differences([::chosen(map { "/?k=$_" } @keys)], \@expected), '0', 'as the rule has it');
::is(join(' ', map { ::selected('plain', $_) } @keys[0 .. 29]), join(' ', @expected[0 .. 29]),
    'select agrees');
--- request
GET /?k=1
--- error_code: 204
--- no_error_log
[error]



=== TEST 7: url_hash: the path, decoded and without its arguments
--- http_config
    upstream by_url {
        checkups_cluster;
        checkups_balance url_hash;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://by_url; }
--- init
my $ring = ::ring(qw(A B C));
my @paths = map { "/path/$_" } 1 .. 40;
::is(join('', map { ::ask($_)->{body} } @paths), join('', map { ::owner($ring, $_) } @paths), 'by the path');
::is(join('', map { ::ask("$_?$_")->{body} } @paths), join('', map { ::owner($ring, $_) } @paths),
    'arguments do not matter');
my @encoded = map { "/a%20b//%41$_/../x" } 1 .. 40;
::is(join('', map { ::ask($_)->{body} } @encoded), ::owner($ring, '/a b/x') x 40,
    'one path, written in many ways');
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 8: ip_hash: the address of the client, all of it
--- http_config
    upstream by_client {
        checkups_cluster;
        checkups_balance ip_hash;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://by_client; }
--- init
my $ring = ::ring(qw(A B C));
my @clients = map { "127.0.0.$_" } 1 .. 40;
::is(join('', map { ::connect_from($_)->request("/$_")->answer->{body} } @clients),
    join('', map { ::owner($ring, $_) } @clients), 'by the address');
::is(join('', map { ::ask("/$_")->{body} } 1 .. 9), ::owner($ring, '127.0.0.1') x 9, 'whatever is asked for');
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 9: header_hash: the header X-Hash-Key, or else the path
--- http_config
    upstream by_header {
        checkups_cluster;
        checkups_balance header_hash;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://by_header; }
--- init
my $ring = ::ring(qw(A B C));
my @keys = map { "/user/$_" } 1 .. 40;
my $owners = join '', map { ::owner($ring, $_) } @keys;
my $ask = sub { join '', map { ::ask($_->[0], headers => $_->[1])->{body} } @_ };
::is($ask->(map { ['/', ["X-Hash-Key: $_"]] } @keys), $owners, 'by the header');
::is($ask->(map { ['/', ["x-hash-key: $_"]] } @keys), $owners, 'in small letters');
::is($ask->(map { ["$_?a=b", []] } @keys), $owners, 'by the path where there is none');
::is($ask->(map { [$_, ['X-Hash-Key:']] } @keys), $owners, 'by the path where it is empty');
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 10: a key of text and several variables
--- http_config
    upstream composed {
        checkups_cluster;
        checkups_balance hash "$arg_a:x:$arg_b";
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://composed; }
--- init
my $ring = ::ring(qw(A B C));
::is(join('', map { ::ask("/?a=$_&b=0$_")->{body} } 1 .. 30),
    join('', map { ::owner($ring, "$_:x:0$_") } 1 .. 30), 'all of it');
::is(::answers(5, '/'), ::owner($ring, ':x:') x 5, 'with empty variables');
--- request
GET /
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 11: an empty key: the smooth order
--- http_config
    upstream without_key {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
    }
--- config
    location / { proxy_pass http://without_key; }
    location /checkups/ { checkups_api; }
--- init
::is(::answers(7, '/'), 'AABACAA', 'once around');
::is(::answers(5, '/?k=1'), ::owner(::ring(qw(A=5 B C)), 1) x 5, 'a key');
::is(join('', ::answers(3, '/?k='), map({ ::letters(::selected('without_key', '')) } 1 .. 4), ::answers(7, '/?x')),
    'AABACAA' x 2, 'is no part of it');
--- request eval
[('GET /') x 7]
--- response_body eval
[split //, 'AABACAA']
--- no_error_log eval
[('[error]') x 7]



=== TEST 12: a dead server: the request goes on along the ring
--- http_config
    upstream dead {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6 max_fails=0 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_7 max_fails=0;
    }
--- config
    location / { proxy_pass http://dead; }
--- init
my $ring = ::ring(qw(A B=2 F=2 C G));
my $expected = sub {
    my ($key, $dead) = @_;
    my $walk = join '', ::walk($ring, $key);
    return $walk =~ /^([$dead]*[^$dead])/ ? "$1 200" : "$walk 502";
};
my @keys = (1 .. 40, ::keys_of($ring, 10, 'F'), ::keys_of($ring, 5, 'FG'), ::keys_of($ring, 3, 'GFA'));
my $routes = sub { my $do = shift; join ', ', map { ::routes(1, "/?k=$_", do => $do) } @keys };
my $by_rule = sub { my $dead = shift; join ', ', map { $expected->($_, $dead) } @keys };
::is($routes->(''), $by_rule->('FG'), 'two are dead');
::is($routes->('A=close'), $by_rule->('AFG'), 'one more fails');
::is($routes->('A=close B=close C=close'), $by_rule->('ABCFG'), 'all of them: each is tried once');
::is($routes->(''), $by_rule->('FG'), 'the same as in the beginning');
--- request
GET /?k=1
--- response_body_like: ^[ABC]$



=== TEST 13: a server that is out of use for failed requests keeps its keys
--- http_config
    upstream out_of_use {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=2s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=2s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 fail_timeout=2s;
    }
--- config
    location / { proxy_pass http://out_of_use; }
--- init
my $ring = ::ring(qw(A B C));
my ($key, @others) = ::keys_of($ring, 5, 'A');
my ($second) = (::walk($ring, $key))[1];
::is(::routes(1, "/?k=$key", do => 'A=close'), "A$second 200", 'it fails');
::is(::routes(1, "/?k=$_"), (::walk($ring, $_))[1] . ' 200', 'its key goes to the next') for $key, @others;
::is(::routes(1, "/?k=$_"), "B 200", 'those of others stay') for ::keys_of($ring, 3, 'B');
::wait_for('it is used again', sub { ::ask("/?k=$key")->{body} eq 'A' });
::is(::routes(1, "/?k=$_"), 'A 200', 'its key comes back') for $key, @others;
--- request
GET /?k=1
--- response_body_like: ^[ABC]$



=== TEST 14: the backup has a ring of its own, for when all servers are out of use
--- http_config
    upstream two_levels {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0 backup weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0 backup;
        checkups_check http uri=/health interval=50ms;
    }
--- config
    location / { proxy_pass http://two_levels; }
    location /checkups/ { checkups_api; }
--- init
my ($servers, $backup) = (::ring(qw(A B=2)), ::ring(qw(C D=2 E)));
my @keys = 1 .. 40;
my $routes = sub { my $do = shift; join ', ', map { ::routes(1, "/?k=$_", do => $do) } @keys };
::wait_for_status('A=ok B=ok C=ok D=ok E=ok');
::is($routes->(''), join(', ', map { ::owner($servers, $_) . ' 200' } @keys), 'all well');
::is($routes->('A=close B=close'),
    join(', ', map { join '', ::walk($servers, $_), ::owner($backup, $_), ' 200' } @keys),
    'the servers first, each time');
::is($routes->('A=close B=close C=close D=close E=close'),
    join(', ', map { join '', ::walk($servers, $_), ::walk($backup, $_), ' 502' } @keys),
    'each once');
::sick('A');
::wait_for_status('A=err B=ok C=ok D=ok E=ok');
::is($routes->(''), join(', ', ('B 200') x @keys), 'no backup while a server is left');
::sick('B');
::wait_for_status('A=err B=err C=ok D=ok E=ok');
::is($routes->(''), join(', ', map { ::owner($backup, $_) . ' 200' } @keys), 'no server is left');
::well('A');
::wait_for_status('A=ok B=err C=ok D=ok E=ok');
::is($routes->(''), join(', ', ('A 200') x @keys), 'a server is back');
--- request
GET /?k=1
--- response_body: A



=== TEST 15: slow_start leaves the keys where they are
--- http_config
    upstream slow {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=5;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 slow_start=60s;
        checkups_check http uri=/health interval=50ms;
    }
    keepalive_requests 1000000;
--- config
    location / { proxy_pass http://slow; add_header X-Chosen $checkups_select_slow; }
    location /checkups/ { checkups_api; }
--- init
my $ring = ::ring(qw(A B=5 C));
my @keys = 1 .. 500;
::wait_for_status('A=ok B=ok C=ok');
::sick('B');
::wait_for_status('A=ok B=err C=ok');
::is(scalar(grep { $_ eq 'B' } ::letters(::chosen(map { "/?k=$_" } @keys))), 0, 'it is out of use');
::well('B');
::wait_for_status('A=ok B=ok C=ok');
::is(::differences([::letters(::chosen(map { "/?k=$_" } @keys))], [map { ::owner($ring, $_) } @keys]), '0',
    'it has all its keys at once');
--- request
GET /?k=1
--- response_body_like: ^[ABC]$
--- no_error_log
[error]



=== TEST 16: the same server for a key in every worker
--- http_config
    upstream in_workers {
        checkups_cluster;
        checkups_balance hash $arg_k;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 weight=3;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 weight=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_6 max_fails=0 weight=2;
    }
--- config
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    location / { proxy_pass http://in_workers; }
    location = /worker { return 200; }
--- init
my $ring = ::ring(qw(A B=3 C=2 F=2));
my $expected = join '', map { (grep { $_ ne 'F' } ::walk($ring, $_))[0] } 1 .. 100;
for my $worker (::workers_of(4, ::port_of(9), '/worker')) {
    ::is(join('', map { $worker->request("/?k=$_")->answer->{body} } 1 .. 100), $expected, 'in one worker');
}
--- request
GET /?k=1
--- response_body_like: ^[ABC]$
