# slow_start=: the share of a server that came back rises from a tenth to the whole,
# by whatever way it came back, in all workers; and no other server is slow.
#
# What is measured is how many of the requests of each quarter of the time go to the
# server, against what its share at the time of each of them makes one expect. The
# bounds are wide, and yet a server that has its whole share at once is far outside.

use strict;
use warnings;

use lib 't/lib';
use Test::Nginx::Socket 'no_plan';
use JSON::PP ();
use Time::HiRes ();
use Backends;

# The clusters have their names as paths.
add_block_preprocessor(sub {
    my $block = shift;
    $block->set_value(http_config => backends('A' .. 'C') . $block->http_config);
    $block->set_value(config => <<'END' . ($block->config // ''));
    listen 127.0.0.1:$TEST_NGINX_RAND_PORT_9 reuseport;
    keepalive_requests 100000;
    location = /worker { return 200; }
    location /checkups/ { checkups_api write=on; }
    location ~ ^/(\w+)$ { proxy_pass http://$1; }
END
    $block->set_value(request => 'GET /worker') unless defined $block->request;
});

# What "status" says of the servers of a cluster: "A=ok B=err".
sub states {
    my ($status, $cluster) = @_;
    my %letter = map { port_of($_) => $_ } 'A' .. 'C';
    return join ' ', map { my ($port) = $_->{server} =~ /:(\d+)$/; "$letter{$port}=$_->{status}" }
        map { @$_ } @{ $status->{"cls:$cluster"} };
}

sub status { return JSON::PP::decode_json(ask('/checkups/status')->{body}) }

# Waits until clusters have these states. Returns when that was, for each of them.
sub when_states {
    my ($wanted, @clusters) = @_;
    my (%when, $seen);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    wait_for("$wanted in @clusters", sub {
        my ($before, $status) = (now(), status());
        for my $cluster (grep { !$when{$_} } @clusters) {
            next if states($status, $cluster) ne $wanted;
            $when{$cluster} = (($seen // $before) + $before) / 2;
        }
        $seen = $before;
        return @clusters == keys %when;
    });
    return %when;
}

sub feedback {
    my ($letter, $failed, $cluster) = @_;
    my $answer = ask("/checkups/clusters/$cluster/servers/127.0.0.1:" . port_of($letter) . '/feedback', method => 'POST',
        body => qq({"failed":$failed}), headers => ['Content-Type: application/json']);
    return $answer->{body} =~ /"available":(\w+)/ ? $1 : $answer->{body};
}

# Requests to these clusters, in turn over these connections, until that time. For
# each cluster a list of [time, letter].
sub requests {
    my ($until, $connections, @clusters) = @_;
    my %made;
    while (now() < $until) {
        for my $cluster (@clusters) {
            push @$connections, my $connection = shift @$connections;
            my $sent = now();
            my $letter = $connection->request("/$cluster")->answer->{body} || die 'no answer';
            push @{ $made{$cluster} }, [($sent + now()) / 2, $letter];
        }
        Time::HiRes::sleep(0.003);
    }
    return %made;
}

# Whether the share of A is as it should be for a slow start of so many seconds that
# began then. The sub makes of the share of the weight that of the requests. Where it
# is chance that deals them out, four standard deviations more are allowed.
sub rises {
    my ($name, $made, $start, $seconds, %how) = @_;
    my $expect = $how{expect} // sub { $_[0] / (1 + $_[0]) };
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @quarters;
    for (@$made) {
        my ($when, $letter) = @$_;
        my $part = ($when - $start) / $seconds;
        next if $part < 0 || $part >= 1;
        my $quarter = $quarters[int 4 * $part] //= { all => 0, seen => 0, expected => 0 };
        $quarter->{all}++;
        $quarter->{seen} += $letter eq 'A';
        $quarter->{expected} += $expect->(0.1 + 0.9 * $part);
    }
    for my $number (0 .. 3) {
        my $quarter = $quarters[$number] // { all => 0 };
        ok($quarter->{all} >= 20, "$name, quarter $number: $quarter->{all} requests") or return;
        my ($seen, $expected) = @$quarter{'seen', 'expected'};
        my $bound = 3 + 0.3 * $expected + ($how{by_chance} ? 4 * sqrt $expected : 0);
        ok(abs($seen - $expected) <= $bound,
            sprintf '%s, quarter %d: %d of %d, expected %.1f', $name, $number, $seen, $quarter->{all}, $expected);
    }
    my $whole = $quarters[0]{all} * $expect->(1);
    cmp_ok($quarters[0]{seen}, '<', 0.7 * $whole, "$name: less than the whole share at first");
    return;
}

# Whether A and B take turns.
sub takes_turns {
    my ($cluster, $name) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like(answers(10, "/$cluster"), qr/\A(?:(?:AB){5}|(?:BA){5})\z/, $name);
}

no_root_location();
workers(4);
worker_connections(256);
log_level('info');
master_on();
run_tests();

__DATA__

=== TEST 1: after its checks
It fails them from the start on, and comes back when they pass. With random two nothing is at work: so
the first one that is drawn gets the request. A is drawn for every third one, and then left out as its slow start says.
--- user_files
>>> A.sick
--- http_config
    upstream plain {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
        checkups_check http uri=/health interval=20ms;
    }
    upstream heavy {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 weight=3; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
        checkups_check http uri=/health interval=20ms;
    }
    upstream least {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
        checkups_check http uri=/health interval=20ms;
    }
    upstream random {
        checkups_cluster;
        checkups_balance random two;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2; server 127.0.0.1:$TEST_NGINX_RAND_PORT_3;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
        checkups_check http uri=/health interval=20ms;
    }
    upstream other {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 slow_start=2s;
        checkups_check http uri=/health interval=20ms;
    }
--- init
my @clusters = qw(plain heavy least other);
::when_states('A=err B=ok', @clusters);
::when_states('A=err B=ok C=ok', 'random');
my @workers = ::workers_of(4, ::port_of(9), '/worker');
::well('A');
my %start = (::when_states('A=ok B=ok', @clusters), ::when_states('A=ok B=ok C=ok', 'random'));
my %made = ::requests(::now() + 2.1, \@workers, @clusters, ('random') x 12);     # chance wants many
::rises($_, $made{$_}, $start{$_}, 2) for 'plain', 'least';
::rises('heavy', $made{heavy}, $start{heavy}, 2, expect => sub { 3 * $_[0] / (1 + 3 * $_[0]) });
::rises('random', $made{random}, $start{random}, 2, expect => sub { $_[0] / 3 }, by_chance => 1);
my $to_other = CORE::join '', map { $_->[1] } @{ $made{other} };
::like($to_other, qr/\A(?:B?(?:AB)+A?)\z/, 'it has no slow start: its whole share at once');
::takes_turns($_, "$_: its whole share in the end") for 'plain', 'least';
::like(::answers(8, '/heavy'), qr/\A(?:AABA|ABAA|BAAA|AAAB){2}\z/, 'heavy: its whole share in the end');
--- timeout: 20



=== TEST 2: after fail_timeout
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1s; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
    }
    upstream least {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1s; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
    }
    upstream quiet {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1s; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=1s;
    }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my %start;
for my $cluster ('up', 'least', 'quiet') {
    my $before = ::now();
    ::is(::routes(1, "/$cluster", do => 'A=close'), 'AB 200', "$cluster: a failed request");
    $start{$cluster} = ($before + ::now()) / 2 + 1;
}
my %made = ::requests($start{least} + 2.1, \@workers, 'up', 'least');
for my $cluster ('up', 'least') {
    my @early = grep { $_->[1] eq 'A' && $_->[0] < $start{$cluster} - 0.05 } @{ $made{$cluster} };
    ::is(CORE::scalar @early, 0, "$cluster: out of use before");
    ::rises($cluster, $made{$cluster}, $start{$cluster}, 2);
    ::takes_turns($cluster, "$cluster: its whole share in the end");
}
::takes_turns('quiet', 'the time runs without requests as well');
--- timeout: 20



=== TEST 3: after feedback
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
    }
    upstream again {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
    }
    upstream single {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 backup;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=2s;
    }
    upstream both {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 fail_timeout=1h;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_3 backup;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=20s;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_2 slow_start=20s;
    }
--- init
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my %start;
for my $cluster ('up', 'again', 'single') {
    ::is(::feedback('A', 'true', $cluster), 'false', "$cluster: out of use");
    ::is(::feedback('A', 'false', $cluster), 'true', "$cluster: back");
    $start{$cluster} = ::now();
}
::is(::answers(5, '/single'), 'AAAAA', 'where there is no other in the level it gets all requests');
::is(::feedback($_, 'true', 'both') . ::feedback($_, 'false', 'both'), 'falsetrue', "both: $_") for 'A', 'B';
my $both = ::answers(20, '/both');
::cmp_ok($both =~ tr/A//, '>=', 8, "two that are as slow share alike: $both");
::cmp_ok($both =~ tr/B//, '>=', 8, 'whatever others of later levels are');

my %first = ::requests($start{again} + 1, \@workers, 'up', 'again');
my $before_again = ::answers(12, '/again');
::is(::feedback('A', 'false', 'up'), 'true', 'what is in use does not start anew by that');
::is(::feedback('A', 'true', 'again'), 'false', 'again: once more out of use');
::is(::feedback('A', 'false', 'again'), 'true', 'again: and back');
my $again = ::now();
my %made = ::requests($again + 2.1, \@workers, 'up', 'again');
::rises('up', [@{ $first{up} }, @{ $made{up} }], $start{up}, 2);
::rises('again', $made{again}, $again, 2);
::takes_turns($_, "$_: its whole share in the end") for 'up', 'again';
--- timeout: 20



=== TEST 4: not at the start of nginx, and not what was never away
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=1h;
    }
    upstream checked {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 max_fails=3; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=1h;
        checkups_check http uri=/health interval=20ms fails=1000;
    }
    upstream least {
        checkups_cluster;
        checkups_balance least_conn;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=1h;
    }
    upstream zero {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=0s;
    }
--- init
::is(::answers(6, "/$_"), 'ABABAB', $_) for 'up', 'least', 'zero';
::takes_turns('checked', 'before its first check');
::when_states('A=ok B=ok', 'checked');
::takes_turns('checked', 'and after it');
::sick('A');
::wait_for('a failed check', sub { ::status()->{'cls:checked'}[0][0]{fail_num} > 2 });
::takes_turns('checked', 'while its checks fail, less often than fails= says');
::well('A');
::wait_for('a passed check', sub { ::status()->{'cls:checked'}[0][0]{fail_num} == 0 });
::takes_turns('checked', 'and pass');
::is(::feedback('A', 'true', 'checked'), 'true', 'one failure, of three');
::is(::feedback('A', 'false', 'checked'), 'true', 'and none');
::takes_turns('checked', 'it was in use all the time');
::is(::feedback('A', 'true', 'zero'), 'false', 'slow_start=0s: out of use');
::is(::feedback('A', 'false', 'zero'), 'true', 'slow_start=0s: and back');
::takes_turns('zero', 'slow_start=0s is no slow start');



=== TEST 5: over a reload
What came back goes on with its slow start, and a new server has none.
--- user_files
>>> more.conf
--- http_config
    upstream up {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 fail_timeout=1h; server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        checkups_server 127.0.0.1:$TEST_NGINX_RAND_PORT_1 slow_start=4s;
    }
    upstream more {
        checkups_cluster;
        server 127.0.0.1:$TEST_NGINX_RAND_PORT_2;
        include $TEST_NGINX_SERVER_ROOT/html/more.conf;
    }
--- init
::is(::feedback('A', 'true', 'up') . ::feedback('A', 'false', 'up'), 'falsetrue', 'A is back');
my $start = ::now();
CORE::open my $out, '>', html_dir() . '/more.conf' or CORE::die "more.conf: $!";
my $a = '127.0.0.1:' . ::port_of('A');
CORE::print $out "server $a; checkups_server $a slow_start=1h;";
CORE::close $out;
my %old = map { $_->request('/worker')->answer->{worker} => 1 } ::workers_of(4, ::port_of(9), '/worker');
CORE::open my $in, '<', server_root() . '/logs/nginx.pid' or CORE::die "no pid file: $!";
CORE::kill HUP => CORE::readline($in) =~ /(\d+)/;
::wait_for('the new workers', sub { !grep { CORE::kill 0, $_ } keys %old });
my @versions = map { "$_->{worker}: $_->{config_version}" } @{ ::status()->{workers} };
::is("@versions", '0: 1 1: 1 2: 1 3: 1', 'the new configuration');
my @workers = ::workers_of(4, ::port_of(9), '/worker');
my %made = ::requests($start + 4.1, \@workers, 'up', 'more');
my @late = grep { $_->[0] > $start + 1 } @{ $made{up} };
my $early = CORE::join '', map { $_->[1] } grep { $_->[0] < $start + 1 } @{ $made{up} };
::cmp_ok($early =~ tr/A//, '<', 0.35 * CORE::length $early, "few at first: $early");
my ($seen, $expected) = (0, 0);
for (@late) {
    my $share = 0.1 + 0.9 * ($_->[0] - $start) / 4;
    $share = 1 if $share > 1;
    $seen += $_->[1] eq 'A';
    $expected += $share / (1 + $share);
}
::ok(CORE::abs($seen - $expected) < 3 + 0.2 * $expected, CORE::sprintf '%d, expected %.1f', $seen, $expected);
::like(CORE::join('', map { $_->[1] } @{ $made{more} }), qr/\A(?:A?(?:BA)+B?)\z/, 'the new server has its share at once');
::takes_turns('up', 'the whole share in the end');
--- timeout: 20
