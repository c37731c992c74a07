# The limits of tries: of the cluster, of a level and of nginx. The tightest holds, the log says
# which one ended a request, and the client gets the last server's own answer, but for one case.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use Time::HiRes ();
use Backends;

# S accepts connections and never answers. T answers 503, but only after 300 ms.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'E') . $block->http_config);
});
silent_port('S');
serve(T => sub {
    my $connection = shift;
    read_head($connection) // return;
    Time::HiRes::sleep(0.3);
    print $connection "HTTP/1.0 503 Slow\r\nContent-Length: 10\r\n\r\n503 from T";
});

# What came of a request: "AB 503 from B", who was tried and what the client got (of a page of
# nginx's own the status), and behind it what the log says of limits.
sub ended {
    my ($path, %option) = @_;
    my $from = -s $Test::Nginx::Util::ErrLogFile;
    my $connection = connect_to();
    my $answer = $connection->request($path, %option, close => 1)->answer;
    $connection->at_end;        # the line is written when nginx is done with the answer
    open my $log, '<', $Test::Nginx::Util::ErrLogFile or die "error.log: $!";
    seek $log, $from, 0;
    my @lines = map { /\[error\] .* checkups: cluster "[^"]+": (.*?)(?: while .*)?$/ ? "; $1" : () } readline $log;
    my $body = $answer->{body} =~ /</ ? $answer->{code} : $answer->{body};
    return join '', "$answer->{tried} $body", @lines;
}

our $all = join ' ', map { "$_=503" } 'A' .. 'E';

no_root_location();
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: tries of the cluster
--- http_config
    upstream two {
        checkups_cluster tries=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
    }
    upstream one {
        checkups_cluster tries=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    proxy_next_upstream error http_503;
    location / { proxy_pass http://two; }
    location /one { proxy_pass http://one; }
--- init
::is(::ended('/', do => $::all), 'AB 503 from B; no further try after 2: tries=2', 'both fail');
::is(::ended('/', do => $::all), 'AC 503 from C; no further try after 2: tries=2', 'both fail, others');
::is(::ended('/', do => 'A=close B=close'), 'AB 502; no further try after 2: tries=2', 'without an answer');
::is(::ended('/', do => 'A=503'), 'AC C', 'the second has an answer');
::is(::ended('/'), 'A A', 'the first has one');
::is(::ended('/', do => 'A=503 B=500'), 'AB 500 from B', 'one that nginx is not told to retry');
::is(::ended('/one', do => $::all), 'A 503 from A; no further try after 1: tries=1', 'of one');
::is(::ended('/one', do => 'A=500'), 'A 500 from A', 'of one, with an answer');
--- request
GET /one
--- more_headers
X-Do: A=close
--- error_code: 502
--- error_log eval
my $line = '\[error\] \d+#\d+: \*\d+ checkups: cluster "one": no further try after 1: tries=1 '
    . 'while reading response header from upstream, client: 127\.0\.0\.1, server: localhost, '
    . 'request: "GET /one HTTP/1\.1", upstream: "http://127\.0\.0\.1:\d+/one", host: "localhost"';
qr/$line$/;



=== TEST 2: no line where no limit ended it
--- http_config
    upstream three {
        checkups_cluster tries=3 tries_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup down;
    }
    upstream as_many {
        checkups_cluster tries=2;
        checkups_level dc1 tries=1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; }
        checkups_level dc2 tries=1 tries_timeout=60s { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; }
    }
    upstream one_try {
        checkups_cluster tries=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    proxy_next_upstream error http_503;
    location / { proxy_pass http://three; proxy_next_upstream_tries 3; proxy_next_upstream_timeout 60s; }
    location /as_many { proxy_pass http://as_many; proxy_next_upstream_tries 2; }
    location /one_try { proxy_pass http://one_try; }
    location /off { proxy_pass http://one_try; proxy_next_upstream off; }
    location /timeout { proxy_pass http://one_try; proxy_next_upstream timeout; }
--- init
::is(::ended('/', do => $::all), 'AB 503 from B', 'more tries than servers');
::is(::ended('/', do => 'A=close B=close'), 'AB 502', 'more tries than servers, without an answer');
::is(::ended('/as_many', do => $::all), 'AB 503 from B', 'as many tries as servers');
::is(::ended('/as_many', do => 'A=close B=close'), 'AB 502', 'as many tries as servers, without an answer');
::is(::ended('/one_try', do => 'A=close', method => 'POST', body => 'x'), 'A 502', 'it may not be sent twice');
::is(::ended('/one_try', do => 'A=503', method => 'POST', body => 'x'), 'A 503 from A',
    'it may not be sent twice, with an answer');
::is(::ended('/off', do => 'A=503'), 'A 503 from A', 'no next server is wanted, with an answer');
::is(::ended('/off', do => 'A=close'), 'A 502', 'no next server is wanted');
::is(::ended('/timeout', do => 'A=close'), 'A 502', 'no next server is wanted after such a failure');
--- request
GET /
--- response_body: A
--- no_error_log
no further try



=== TEST 3: tries_timeout of the cluster
--- http_config
    upstream short {
        checkups_cluster tries_timeout=100ms;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream long {
        checkups_cluster tries_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream alone {
        checkups_cluster tries_timeout=100ms;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
    }
--- config
    proxy_read_timeout 200ms;
    proxy_next_upstream error timeout http_503;
    location / { proxy_pass http://short; }
    location /long { proxy_pass http://long; }
    location /alone { proxy_pass http://alone; }
--- init
::is(::ended('/'), 'S 504; no further try after 1: tries_timeout=100ms', 'the time is over');
::is(::ended('/long'), 'SA A', 'there is time left');
::is(::ended('/long', do => 'A=503'), 'SA 503 from A', 'there is time left, but no server');
::is(::ended('/alone'), 'S 504', 'the time is over, but there is no other server anyway');
--- request
GET /
--- error_code: 504
--- error_log eval
qr{: cluster "short": no further try after 1: tries_timeout=100ms while reading response header from upstream, }



=== TEST 4: tries of a level: then the next level
A, B and C are "1" here, D and E "2".
--- http_config
    upstream levels {
        checkups_cluster;
        checkups_order $arg_order;
        checkups_level dc1 tries=2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        }
        checkups_level dc2 tries=1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        }
    }
    upstream enough {
        checkups_cluster;
        checkups_level dc1 tries=1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        }
        checkups_level dc2 tries=2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        }
    }
    upstream from {
        checkups_cluster;
        checkups_level_from dc1 other tries=1;
    }
    upstream other {
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
    }
--- config
    proxy_next_upstream error http_503;
    location / { proxy_pass http://levels; }
    location /enough { proxy_pass http://enough; }
    location /from { proxy_pass http://from; }
--- init
my $ended = sub { ::ended(@_) =~ tr/ABCDE/11122/r };
for (1 .. 4) {
    ::is($ended->('/', do => $::all), '112 503 from 2; no further try after 3: level "dc2" tries=1',
        'all fail');
    ::is($ended->('/?order=2,1', do => $::all), '211 503 from 1; no further try after 3: level "dc1" tries=2',
        'in another order');
    ::is($ended->('/?order=dc1', do => $::all), '11 503 from 1; no further try after 2: level "dc1" tries=2',
        'one level');
    ::is($ended->('/', do => 'A=close B=close C=close'), '112 2', 'the next level has an answer');
    ::is($ended->('/enough', do => $::all), '122 503 from 2; no further try after 3: level "dc1" tries=1',
        'all of the last, not all of the first');
    ::is($ended->('/from', do => $::all), '1 503 from 1; no further try after 1: level "dc1" tries=1',
        'a level of another upstream');
}
--- request
GET /?order=dc2
--- more_headers
X-Do: D=503 E=503
--- error_code: 503
--- response_body_like: ^503 from [DE]$
--- error_log eval
qr{: cluster "levels": no further try after 1: level "dc2" tries=1 while reading upstream, }



=== TEST 5: tries_timeout of a level: then the next level
The time of a level begins with the first try in it.
--- http_config
    upstream next_level {
        checkups_cluster;
        checkups_order $arg_order;
        checkups_level dc1 tries_timeout=100ms {
            server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0 weight=1000;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
        checkups_level dc2 tries_timeout=500ms {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0 weight=1000;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        }
        checkups_level dc3 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        }
    }
    upstream patient {
        checkups_cluster;
        checkups_level dc1 tries_timeout=60s {
            server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0 weight=1000;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
    }
    upstream alone {
        checkups_cluster;
        checkups_level dc1 tries_timeout=100ms {
            server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        }
    }
    upstream late {
        checkups_cluster;
        checkups_level dc1 tries_timeout=100ms {
            server 127.0.0.1:$TEST_NGINX_BACKEND_T max_fails=0 weight=1000;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
    }
--- config
    proxy_read_timeout 200ms;
    proxy_next_upstream error timeout http_503;
    location / { proxy_pass http://next_level; }
    location /later { proxy_pass http://next_level; proxy_read_timeout 600ms; }
    location /patient { proxy_pass http://patient; }
    location /alone { proxy_pass http://alone; }
    location /late { proxy_pass http://late; proxy_read_timeout 5s; }
--- init
::is(::ended('/'), 'SD D', 'the next level has an answer');
::is(::ended('/later', do => 'D=503'), 'SDE E', 'the time of the next level has just begun');
my $over = 'level "dc1" tries_timeout=100ms';
::is(::ended('/?order=dc1'), "S 504; no further try after 1: $over", 'there is no other level');
::is(::ended('/?order=dc2,dc1', do => $::all), "DES 504; no further try after 3: $over", 'it is the last');
::is(::ended('/?order=dc1,dc3', do => $::all), "SB 503 from B; no further try after 2: $over",
    'all of the last, not all of the first');
::is(::ended('/patient'), 'SA A', 'there is time left');
::is(::ended('/patient', do => 'A=503'), 'SA 503 from A', 'there is time left, but no server');
::is(::ended('/alone'), 'S 504', 'the time is over, but there is no other server anyway');
::is(::ended('/late'), "T 503; no further try after 1: $over", "nginx's own page in place of the server's body");
--- request
GET /?order=1
--- error_code: 504
--- error_log eval
qr{: cluster "next_level": no further try after 1: level "dc1" tries_timeout=100ms while reading response header from upstream, }



=== TEST 6: proxy_next_upstream_tries: of both the tighter one
--- http_config
    upstream two {
        checkups_cluster tries=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
    }
    upstream none {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
    }
    upstream level {
        checkups_cluster;
        checkups_level dc1 tries=2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        }
    }
--- config
    proxy_next_upstream error http_503;
    location /two/0 { proxy_pass http://two; proxy_next_upstream_tries 0; }
    location /two/1 { proxy_pass http://two; proxy_next_upstream_tries 1; }
    location /two/3 { proxy_pass http://two; proxy_next_upstream_tries 3; }
    location /none/2 { proxy_pass http://none; proxy_next_upstream_tries 2; }
    location /none/3 { proxy_pass http://none; proxy_next_upstream_tries 3; }
    location /level/1 { proxy_pass http://level; proxy_next_upstream_tries 1; }
    location /level/3 { proxy_pass http://level; proxy_next_upstream_tries 3; }
--- init
my $ended = sub { ::ended(@_, do => $::all) =~ tr/ABCD/./r };
for (1 .. 3) {
    ::is($ended->('/two/0'), '.. 503 from .; no further try after 2: tries=2', "nginx's is off");
    ::is($ended->('/two/1'), '. 503 from .; no further try after 1: proxy_next_upstream_tries',
        "nginx's is tighter");
    ::is($ended->('/two/3'), '.. 503 from .; no further try after 2: tries=2', "the cluster's is tighter");
    ::is($ended->('/none/2'), '.. 503 from .; no further try after 2: proxy_next_upstream_tries',
        "nginx's alone");
    ::is($ended->('/none/3'), '... 503 from .', 'as many as there are');
    ::is($ended->('/level/1'), '. 503 from .; no further try after 1: proxy_next_upstream_tries',
        "tighter than a level's");
    ::is($ended->('/level/3'), '.. 503 from .; no further try after 2: level "dc1" tries=2',
        "a level's is tighter");
}
--- request
GET /none/2
--- more_headers
X-Do: A=503 B=503 C=503
--- error_code: 503
--- response_body_like: ^503 from [ABC]$
--- error_log eval
qr{: cluster "none": no further try after 2: proxy_next_upstream_tries while reading upstream, }



=== TEST 7: proxy_next_upstream_timeout: of both the tighter one
--- http_config
    upstream limited {
        checkups_cluster tries_timeout=100ms;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream not_limited {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream loose {
        checkups_cluster tries_timeout=60s;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream level {
        checkups_cluster;
        checkups_level dc1 tries_timeout=60s {
            server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0 weight=1000;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
    }
    upstream alone {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
    }
--- config
    proxy_read_timeout 200ms;
    location /limited/50 { proxy_pass http://limited; proxy_next_upstream_timeout 50ms; }
    location /limited/150 { proxy_pass http://limited; proxy_next_upstream_timeout 150ms; }
    location /limited/60s { proxy_pass http://limited; proxy_next_upstream_timeout 60s; }
    location /not_limited/100 { proxy_pass http://not_limited; proxy_next_upstream_timeout 100ms; }
    location /not_limited/60s { proxy_pass http://not_limited; proxy_next_upstream_timeout 60s; }
    location /loose/100 { proxy_pass http://loose; proxy_next_upstream_timeout 100ms; }
    location /level/100 { proxy_pass http://level; proxy_next_upstream_timeout 100ms; }
    location /alone { proxy_pass http://alone; proxy_next_upstream_timeout 100ms; }
--- init
my $nginx = 'S 504; no further try after 1: proxy_next_upstream_timeout';
my $cluster = 'S 504; no further try after 1: tries_timeout=100ms';
::is(::ended('/limited/50'), $nginx, "nginx's is tighter");
::is(::ended('/limited/150'), $cluster, "the cluster's is tighter");
::is(::ended('/limited/60s'), $cluster, "the cluster's is much tighter");
::is(::ended('/not_limited/100'), $nginx, "nginx's alone");
::is(::ended('/not_limited/60s'), 'SA A', 'there is time left');
::is(::ended('/loose/100'), $nginx, "nginx's is much tighter");
::is(::ended('/level/100'), $nginx, "tighter than a level's");
::is(::ended('/alone'), 'S 504', 'the time is over, but there is no other server anyway');
--- request
GET /not_limited/100
--- error_code: 504
--- error_log eval
qr{: cluster "not_limited": no further try after 1: proxy_next_upstream_timeout while reading response header from upstream, }



=== TEST 8: limits of the cluster and of its levels: the tighter one
--- http_config
    upstream cluster_first {
        checkups_cluster tries=3;
        checkups_level dc1 tries=2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        }
        checkups_level dc2 tries=2 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        }
    }
    upstream level_first {
        checkups_cluster tries=4;
        checkups_level dc1 tries=1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0;
        }
        checkups_level dc2 tries=1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_5 max_fails=0;
        }
    }
    upstream time_first {
        checkups_cluster tries=2 tries_timeout=100ms;
        checkups_level dc1 tries=1 {
            server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0 weight=1000;
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        }
        checkups_level dc2 tries=1 {
            server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0;
        }
    }
--- config
    proxy_read_timeout 200ms;
    proxy_next_upstream error timeout http_503;
    location /cluster { proxy_pass http://cluster_first; }
    location /level { proxy_pass http://level_first; }
    location /time { proxy_pass http://time_first; }
--- init
my $ended = sub { ::ended(@_, do => $::all) =~ tr/ABCDE/11122/r };
for (1 .. 4) {
    ::is($ended->('/cluster'), '112 503 from 2; no further try after 3: tries=3', 'of the cluster');
    ::is($ended->('/level'), '12 503 from 2; no further try after 2: level "dc2" tries=1', 'of the level');
}
::is($ended->('/time'), 'S 504; no further try after 1: tries_timeout=100ms', 'of the time of the cluster');
--- request
GET /cluster
--- response_body_like: ^[ABC]$



=== TEST 9: a kept connection that turns out to be stale is no try
--- http_config
    upstream stale {
        checkups_cluster tries=1;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        keepalive 8;
    }
    upstream stale_level {
        checkups_cluster;
        checkups_level dc1 tries=1 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0; }
        checkups_level dc2 { server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0; }
        keepalive 8;
    }
    proxy_http_version 1.1;
    proxy_set_header Connection "";
--- config
    location / { proxy_pass http://stale; }
    location /level { proxy_pass http://stale_level; }
    location /one { proxy_pass http://stale; proxy_next_upstream_tries 1; }
--- init
for my $path ('/', '/level', '/one') {
    my $connection = ::connect_to();
    ::is($connection->request($path)->answer->{tried}, 'A', "$path: a connection is kept");
    ::is($connection->request($path, do => 'A=stale')->answer->{tried}, 'AA', 'it is stale') for 1 .. 3;
}
--- request
GET /
--- response_body: A
--- no_error_log
no further try



=== TEST 10: a request that goes on to a second cluster has its limits from there on
--- http_config
    upstream first {
        checkups_cluster tries=1 tries_timeout=100ms;
        server 127.0.0.1:$TEST_NGINX_BACKEND_S max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0 backup;
    }
    upstream second {
        checkups_cluster tries=2 tries_timeout=500ms;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0 backup;
    }
--- config
    proxy_read_timeout 600ms;
    proxy_next_upstream error timeout http_503;
    location / {
        proxy_pass http://first;
        error_page 504 = @second;
    }
    location @second { proxy_pass http://second; }
--- init
my $first = 'no further try after 1: tries=1';
::is(::ended('/', do => 'B=503'), "SBC C; $first", 'the second has time and tries');
::is(::ended('/', do => $::all), "SBD 503 from D; $first; no further try after 2: tries=2",
    'and a limit of its own');
--- request
GET /
--- response_body: B



=== TEST 11: the client gets the last answer, whole
--- http_config
    upstream last {
        checkups_cluster tries=2;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=0;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 max_fails=0 backup;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 max_fails=0 backup down;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_4 max_fails=0 backup;
    }
--- config
    location / { proxy_pass http://last; proxy_next_upstream error http_500 http_503 http_404; }
--- init
for (
    ['A=500 B=503 D=503',   'AB 503 503 from B'],
    ['A=503 B=500 D=500',   'AD 500 500 from D'],
    ['A=close B=404 D=404', 'AB 404 404 from B'],
) {
    my $answer = ::ask('/', do => $_->[0]);
    ::is("$answer->{tried} $answer->{code} $answer->{body}", $_->[1], 'status and body');
    ::is($answer->{headers}{'x-server'}, substr($_->[1], 1, 1), 'and header');
}
--- request
GET /
--- more_headers
X-Do: A=503 B=503 D=503
--- error_code: 503
--- response_body: 503 from D
--- response_headers
X-Server: D
X-Status: 503, 503
--- error_log
checkups: cluster "last": no further try after 2: tries=2
