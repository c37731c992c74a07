# The API of NGINX Plus: what is counted of the servers of an upstream, against what they
# really got and sent, and for how long they were really away.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use CountedServers;
use IO::Socket::INET ();
use NginxRunner;
use PlayedServers qw(servers address backend checked);
use PlusFigures;
use StockWorkers ();
use Test::More;
use Time::HiRes qw(sleep);
use Time::Local ();

counted_servers(qw(a b));
my ($a, $b) = map { server_at($_) } qw(a b);
# A port that nobody else can take, and where nobody listens.
my $taken = IO::Socket::INET->new(LocalAddr => '127.0.0.1', Proto => 'tcp') or die "no port: $!";
my $dead = '127.0.0.1:' . $taken->sockport;

sub nginx { return figures_nginx(@_) }

sub state_of { return peer(@_)->{state} }

# The time of a moment.
sub seconds {
    my $moment = shift // '';
    my ($year, $month, @rest) = $moment =~ /\A(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d\.\d{3})Z\z/ or return;
    my ($day, $hour, $minute, $second) = @rest;
    return Time::Local::timegm(0, $minute, $hour, $day, $month - 1, $year) + $second;
}

# The statuses of requests over connections to each of the workers: so many to each.
sub over_workers {
    my ($nginx, @do) = @_;
    my @workers = StockWorkers::workers_of($nginx);
    my %seen;
    for my $socket (@workers) {
        for my $do (@do) { $seen{ (StockWorkers::ask($socket, '/', "X-Do: $do"))[0] }++ }
    }
    # The worker is done with a request when it has answered the next one.
    StockWorkers::ask($_, '/pid') for @workers;
    return join ' ', map { "$_=$seen{$_}" } sort keys %seen;
}

subtest 'statuses, over 4 workers' => sub {
    my $nginx = nginx("server $a;", workers => 4)->start;
    is(counted($nginx, 'a'), 'requests=0 total=0', 'nothing yet');
    is(over_workers($nginx, ('a=200') x 5, ('a=404') x 3, 'a=302', ('a=500') x 2, 'a=201'), '200=20 201=4 302=4 404=12 500=8', 'a known mix');
    is(counted($nginx, 'a'), 'requests=48 total=48 2xx=24 3xx=4 4xx=12 5xx=8 200=20 201=4 302=4 404=12 500=8', 'is counted');
    is(counted($nginx, 'a'), counted($nginx, 'a'), 'the same in all workers') for 1 .. 8;
    ends_well($nginx);
};

subtest 'more statuses than are counted one by one' => sub {
    my $nginx = nginx("server $a;", workers => 4)->start;
    my @first = (200, 201, 301, 404, 410, 500, 502, 503);
    is(asked($nginx, '/', map { "a=$_" } @first), "@first", 'eight');
    my $eight = '200=1 201=1 301=1 404=1 410=1 500=1 502=1 503=1';
    is(counted($nginx, 'a'), "requests=8 total=8 2xx=2 3xx=1 4xx=2 5xx=3 $eight", 'all are there');
    is(asked($nginx, '/', 'a=418', 'a=504', 'a=202', 'a=418'), '418 504 202 418', 'three more');
    is(counted($nginx, 'a'), "requests=12 total=12 2xx=3 3xx=1 4xx=4 5xx=4 $eight other=4", 'the classes are right');
    is(over_workers($nginx, 'a=200', 'a=307', 'a=503', 'a=507'), '200=4 307=4 503=4 507=4', 'over all workers');
    is(counted($nginx, 'a'), 'requests=28 total=28 2xx=7 3xx=5 4xx=4 5xx=12 200=5 201=1 301=1 404=1 410=1 500=1 502=1 503=5 other=12', 'those that are there go on');
    ends_well($nginx);
};

subtest 'odd statuses' => sub {
    my $nginx = nginx("server $a;")->start;
    is(asked($nginx, '/', map { "a=$_" } 299, 399, 499, 599, 600, 999, 999), '299 399 499 599 600 999 999', 'nginx passes them on');
    is(counted($nginx, 'a'), 'requests=7 total=7 2xx=1 3xx=1 4xx=1 5xx=1 299=1 399=1 499=1 599=1 600=1 999=2', 'they are there, those from 600 on in no class');
    ends_well($nginx);
};

subtest 'bytes' => sub {
    my $nginx = nginx("server $a;", server => 'location /off { proxy_pass http://up; proxy_buffering off; }')->start;
    my $same = sub {
        my $what = shift;
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        is(bytes($nginx, 'a'), traffic('a'), "$what: the bytes are those of the server");
    };
    for my $path ('/', '/off') {
        for my $case (['GET'], ['HEAD'], ['POST', 'x' x 1000], ['POST', ''], ['PUT', 'y' x 3_000_000]) {
            my ($method, $body) = @$case;
            for my $do ('200', '204', '304', '404:70000', '200:3000000', '200:0') {
                my ($code, $got) = finish(begin($nginx, $path, method => $method, body => $body, do => "a=$do"));
                is($code, substr($do, 0, 3), "$method $path $do: the status");
                my $length = $method eq 'HEAD' || $do =~ /\A(?:204|304)/ ? 0 : $do =~ /:(\d+)/ ? $1 : 1;
                is(length $got, $length, 'the body');
                $same->("$method $path $do");
            }
        }
    }
    like(bytes($nginx, 'a'), qr/\Asent \d{8} received \d{8}\z/, 'it was a lot');
    ends_well($nginx);
};

subtest 'bytes over kept connections' => sub {
    my $nginx = nginx('', block => "upstream up { checkups_cluster; server $a; keepalive 8; }\n",
        server => 'proxy_http_version 1.1; proxy_set_header Connection ""; location /off { proxy_pass http://up; proxy_buffering off; }')->start;
    for my $path ('/', '/off') {
        for my $do ('200', '204', '304', '404:70000', '200:3000000', '200:0') {
            for my $method ('GET', 'HEAD', 'POST') {
                my ($code) = finish(begin($nginx, $path, method => $method, do => "a=$do", $method eq 'POST' ? (body => 'x' x 100_000) : ()));
                is("$code " . bytes($nginx, 'a'), substr($do, 0, 3) . ' ' . traffic('a'), "$method $path $do");
            }
        }
    }
    is(over_workers($nginx, ('a=200') x 20), '200=40', 'one after the other');
    is(bytes($nginx, 'a'), traffic('a'), 'the bytes of all of them');
    like(counted($nginx, 'a'), qr/\Arequests=76 total=76 2xx=64 /, 'and their number');
    ends_well($nginx);
};

subtest 'an upgraded connection' => sub {
    my $nginx = nginx("server $a;", server => 'location /up { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection upgrade; proxy_set_header Upgrade $http_upgrade; }')->start;
    my $socket = begin($nginx, '/up', do => 'a=101', headers => ['Connection: upgrade', 'Upgrade: echo']);
    my $text = '';
    while (sysread $socket, $text, 4096, length $text) {
        last if $text =~ /pong\z/;
        if ($text =~ /\r\n\r\n\z/) { syswrite $socket, 'pong' }
    }
    like($text, qr/\AHTTP\/1\.1 101 .*\r\n\r\npong\z/s, 'it is upgraded, and goes both ways');
    is(members(peer($nginx, 'a'), 'requests', 'active'), 'requests=1 active=1', 'it is at work');
    close $socket;
    becomes(sub { members(peer($nginx, 'a'), 'active') }, 'active=0', 'it ends');
    is(counted($nginx, 'a'), 'requests=1 total=1 1xx=1 101=1', 'counted as 1xx');
    is(bytes($nginx, 'a'), traffic('a'), 'the bytes are those of the server');
    ends_well($nginx);
};

subtest 'a dead server' => sub {
    my $nginx = nginx("server $dead fail_timeout=1s; server $a;")->start;
    my $before = Time::HiRes::time();
    is(asked($nginx, '/', ('') x 6), join(' ', (200) x 6), 'requests are answered');
    my $peer = peer($nginx, $dead);
    is(counted($peer), 'requests=1 total=0 fails=1 unavail=1', 'one of them was tried there');
    is(bytes($peer), 'sent 0 received 0', 'nothing was sent');
    is($peer->{state}, 'unavail', 'it is left alone');
    is(members($peer, 'header_time', 'response_time'), '(no header_time) (no response_time)', 'no times');
    is(counted($nginx, 'a'), 'requests=6 total=6 2xx=6 200=6', 'all came to the other one');
    between(seconds($peer->{downstart}), $before - 0.1, Time::HiRes::time() + 0.1, 'since when');
    between($peer->{downtime}, 0, 1000, 'for how long');
    my %starts = map { (peer($nginx, $dead)->{downstart} // 'none') => 1 } 1 .. 20;
    is(join(' ', keys %starts), $peer->{downstart}, 'that stays');
    my $later = peer($nginx, $dead)->{downtime};
    cmp_ok($later, '>=', $peer->{downtime}, 'it gets longer');
    becomes(sub { state_of($nginx, $dead) }, 'up', 'it is tried again after that');
    between(Time::HiRes::time() - $before, 0.95, 3, 'after a second');
    between((peer($nginx, $dead))->{downtime}, 950, 1100, 'the time that it was away');
    is(members(peer($nginx, $dead), 'downstart'), '(no downstart)', 'it is not any more');
    my $downtime = peer($nginx, $dead)->{downtime};
    is(asked($nginx, '/', ('') x 4), join(' ', (200) x 4), 'requests are answered');
    $peer = peer($nginx, $dead);
    is(counted($peer), 'requests=2 total=0 fails=2 unavail=2', 'it is tried, and left alone again');
    is(counted($nginx, 'a'), 'requests=10 total=10 2xx=10 200=10', 'the other one');
    cmp_ok($peer->{downtime}, '>=', $downtime, 'the times add up');
    becomes(sub { state_of($nginx, $dead) }, 'up', 'the second time');
    between(peer($nginx, $dead)->{downtime}, 1950, 2200, 'is over');
    ends_well($nginx);
};

subtest 'more failures than one, of several kinds' => sub {
    my $nginx = nginx("server $a max_fails=3 fail_timeout=1h; server $b max_fails=0;", server => 'proxy_read_timeout 100ms; proxy_next_upstream error timeout invalid_header http_503;')->start;
    my @figures;
    # The first server of a request is the next one in turn, and this one where that fails.
    my $tried = sub {
        my ($do, $expected, $what) = @_;
        my $before = peer($nginx, 'a')->{requests};
        for (1 .. 6) {
            my $code = asked($nginx, '/', "a=$do");
            is($code, 200, "$what: the client gets an answer") if $code ne '200';
            last if peer($nginx, 'a')->{requests} > $before;
        }
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        is(counted($nginx, 'a') . ' ' . state_of($nginx, 'a'), $expected, $what);
        becomes(sub { traffic('a') }, bytes($nginx, 'a'), 'the bytes');
    };
    $tried->('hang', 'requests=1 total=0 fails=1 up', 'a timeout');
    $tried->('half', 'requests=2 total=0 fails=2 up', 'the end within the header');
    $tried->('503', 'requests=3 total=1 5xx=1 503=1 fails=3 unavail=1 unavail', 'a status that is a failure');
    like(counted($nginx, 'b'), qr/\Arequests=([3-9]) total=\1 2xx=\1 200=\1\z/, 'the other one has answered all');
    ends_well($nginx);
};

subtest 'failures that are not retried' => sub {
    my $nginx = nginx("server $a max_fails=0;", server => 'proxy_read_timeout 100ms; location /503 { proxy_pass http://up; proxy_next_upstream http_503; }')->start;
    is(asked($nginx, '/', 'a=hang'), '504', 'a timeout');
    is(counted($nginx, 'a'), 'requests=1 total=0 fails=1', 'is no response');
    is(asked($nginx, '/', 'a=close'), '502', 'no answer');
    is(counted($nginx, 'a'), 'requests=2 total=0 fails=2', 'is none');
    is(asked($nginx, '/', 'a=half'), '502', 'half a header');
    is(counted($nginx, 'a'), 'requests=3 total=0 fails=3', 'is none');
    is(asked($nginx, '/', 'a=503'), '503', 'a status');
    is(counted($nginx, 'a'), 'requests=4 total=1 5xx=1 503=1 fails=3', 'is one, and no failure');
    is(asked($nginx, '/503', 'a=503'), '503', 'a status that is one');
    is(counted($nginx, 'a'), 'requests=5 total=2 5xx=2 503=2 fails=4', 'is a response and a failure');
    is(asked($nginx, '/', 'a=cut'), '200', 'half a body');
    is(counted($nginx, 'a'), 'requests=6 total=3 2xx=1 5xx=2 200=1 503=2 fails=4', 'is a response, and no failure, as for nginx');
    becomes(sub { traffic('a') }, bytes($nginx, 'a'), 'the bytes');
    is(state_of($nginx, 'a'), 'up', 'with max_fails=0 it is never left alone');
    ends_well($nginx);
};

subtest 'a client that goes away' => sub {
    my $nginx = nginx("server $a;", server => 'location /503 { proxy_pass http://up; proxy_next_upstream error http_503; } location /off { proxy_pass http://up; proxy_buffering off; }')->start;
    my $socket = begin($nginx, '/', do => 'a=wait');
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=1 active=1', 'a request is at work');
    close $socket;
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=1 active=0', 'the client goes away');
    is(counted($nginx, 'a'), 'requests=1 total=0', 'that is no response and no failure');
    is(bytes($nginx, 'a'), traffic('a'), 'what was sent is counted');
    $socket = begin($nginx, '/off', do => 'a=pause');
    my $text = '';
    1 while $text !~ /\r\n\r\n/ && sysread $socket, $text, 4096, length $text;
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=2 active=1', 'another one, with a header');
    close $socket;
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=2 active=0', 'the client goes away');
    is(counted($nginx, 'a'), 'requests=2 total=1 2xx=1 200=1', 'that was a response');
    is(state_of($nginx, 'a'), 'up', 'the server is used');
    my $requests = 2;
    for my $status (503, 200) {
        my $answered = sub { traffic('a') =~ s/.*received //r };
        my $before = $answered->();
        $socket = begin($nginx, '/503', do => "a=line:$status");
        becomes(sub { $answered->() - $before }, length "HTTP/1.1 $status Said\r\n", 'a part of the header');
        close $socket;
        $requests++;
        becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, "requests=$requests active=0", 'the client goes away');
        like(counted($nginx, 'a'), qr/\A[^f]*\z/, "no failure, whatever would have come: $status");
        is(state_of($nginx, 'a'), 'up', 'the server is used');
    }
    release();
    ends_well($nginx);
};

subtest 'requests at work, over all workers' => sub {
    my $nginx = nginx("server $a;", workers => 4)->start;
    my @workers = StockWorkers::workers_of($nginx);
    syswrite $_, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Do: a=wait\r\n\r\n" for @workers;
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=4 active=4', 'one in each worker');
    is(members(peer($nginx, 'a'), 'active'), 'active=4', 'as each of them says') for 1 .. 8;
    my @more = map { begin($nginx, '/', do => 'a=wait') } 1 .. 3;
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=7 active=7', 'and three more');
    close pop @more;
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=7 active=6', 'one goes away');
    is(counted($nginx, 'a'), 'requests=7 total=0', 'there is no response yet');
    release();
    is(join(' ', map { (finish($_))[0] } @more), '200 200', 'the others are answered');
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=7 active=0', 'none is at work');
    is(counted($nginx, 'a'), 'requests=7 total=6 2xx=6 200=6', 'the responses');
    ends_well($nginx);
};

subtest 'selected' => sub {
    my $nginx = nginx("server $a; server $b backup;", workers => 4)->start;
    is(members(peer($nginx, 'a'), 'selected'), '(no selected)', 'it was not yet');
    my $selected = 0;
    for (1 .. 3) {
        my $before = Time::HiRes::time();
        is(asked($nginx, '/', ''), '200', 'a request');
        my $after = Time::HiRes::time();
        my $peer = peer($nginx, 'a');
        between(seconds($peer->{selected}), $before - 0.05, $after + 0.05, 'when that was');
        cmp_ok(seconds($peer->{selected}), '>=', $selected, 'it moves on');
        $selected = seconds($peer->{selected});
        my %seen = map { (peer($nginx, 'a')->{selected} // 'none') => 1 } 1 .. 20;
        is(join(' ', keys %seen), $peer->{selected}, 'no reading changes it');
        sleep 0.06;     # for there to be another moment
    }
    is(members(peer($nginx, 'b'), 'selected'), '(no selected)', 'the other one was not');
    ends_well($nginx);
};

subtest 'times' => sub {
    my $nginx = nginx("server $a;")->start;
    is(asked($nginx, '/', 'a=slow'), '200', '100 ms until the header, 300 ms in all');
    my $peer = peer($nginx, 'a');
    between($peer->{header_time}, 95, 180, 'the time until the header');
    between($peer->{response_time}, 295, 420, 'until the end');
    my @sockets = map { begin($nginx, '/', do => 'a=slow') } 1 .. 4;
    finish($_) for @sockets;
    $peer = peer($nginx, 'a');
    between($peer->{header_time}, 95, 180, 'the mean of the times until the header');
    between($peer->{response_time}, 295, 420, 'and until the end');
    is(asked($nginx, '/', ('') x 45), join(' ', (200) x 45), 'others do not take long');
    $peer = peer($nginx, 'a');
    between($peer->{header_time}, 9, 25, 'the mean of all, until the header');
    between($peer->{response_time}, 29, 50, 'and until the end');
    ends_well($nginx);
};

subtest 'checks' => sub {
    servers(good => '200 200 200 hang', bad => '200 503 503 200 503 503 hang', late => '503 503 503 200 hang', new => 'hang');
    my $nginx = nginx('', block => 'upstream up { checkups_cluster; server ' . join('; server ', map { address($_) } qw(good bad new))
        . '; checkups_check http interval=20ms timeout=30s; } upstream two { checkups_cluster; server ' . address('late')
        . "; server $a; checkups_server $a check=off; checkups_check http interval=20ms timeout=30s fails=2; }\n")->start;
    checked(good => 4, bad => 7, late => 5, new => 1);
    my $checks = sub {
        my $peer = peer($nginx, address($_[0]), $_[1]);
        my $of = $peer->{health_checks};
        my $last = !exists $of->{last_passed} ? 'none' : $of->{last_passed} ? 'passed' : 'failed';
        return "$peer->{state} checks=$of->{checks} fails=$of->{fails} unhealthy=$of->{unhealthy} last=$last";
    };
    is($checks->('good'), 'up checks=3 fails=0 unhealthy=0 last=passed', 'one that passes');
    is($checks->('bad'), 'unhealthy checks=6 fails=4 unhealthy=2 last=failed', 'one that has failed two times');
    is($checks->('new'), 'up checks=0 fails=0 unhealthy=0 last=none', 'one that was not checked yet');
    is($checks->('late', 'two'), 'up checks=4 fails=3 unhealthy=1 last=passed', 'one that came back');
    my $bad = peer($nginx, address('bad'));
    ok(defined seconds($bad->{downstart}) && defined $bad->{downtime}, 'since when it is away');
    is(members(peer($nginx, address($_)), 'downtime', 'downstart'), 'downtime=0 (no downstart)', "not $_") for qw(good new);
    my $late = peer($nginx, address('late'), 'two');
    between($late->{downtime}, 30, 2000, 'the time that one was away');
    is(members($late, 'downstart'), '(no downstart)', 'it is not any more');
    is(members(peer($nginx, 'a', 'two'), 'downtime', 'downstart'), 'downtime=0 (no downstart)', 'one that is not checked');
    is(counted($nginx, address('bad')), 'requests=0 total=0', 'checks are no requests');
    is(bytes($nginx, address('bad')), 'sent 0 received 0', 'and their bytes are not theirs');
    is((plus_call($nginx, DELETE => 'up'))[0], 204, 'reset');
    is($checks->('bad'), 'unhealthy checks=0 fails=0 unhealthy=0 last=none', 'it begins anew, as it is');
    ok(defined peer($nginx, address('bad'))->{downstart}, 'it is still away');
    backend->release('bad');
    is($checks->('late', 'two'), 'up checks=4 fails=3 unhealthy=1 last=passed', 'the other upstream is as it was');
    ends_well($nginx);
};

subtest 'states' => sub {
    servers(map { ($_ => $_ eq 'bad' ? '503 hang' : $_ eq 'new' ? 'hang' : '200 hang') } qw(ok bad new down drained));
    my @lines = (address('ok'), address('bad'), address('new'), address('down') . ' down', address('drained'));
    my $nginx = nginx('', block => 'upstream up { checkups_cluster; ' . join('', map { "server $_; " } @lines) . 'checkups_server ' . address('drained')
        . " drain; checkups_check http interval=20ms timeout=30s mandatory; }\n")->start;
    my $states = sub { join ' ', map { "$_=" . state_of($nginx, address($_)) } qw(ok bad new down drained) };
    becomes($states, 'ok=up bad=unhealthy new=checking down=down drained=draining', 'all of them');
    my $new = peer($nginx, address('new'));
    ok(!exists $new->{health_checks}{last_passed} && !$new->{health_checks}{checks}, 'no check of a new one has ended');
    is(asked($nginx, '/', ('') x 6), join(' ', (200) x 6), 'requests');
    is(join(' ', map { peer($nginx, address($_))->{requests} } qw(ok bad new down drained)), '6 0 0 0 0', 'go to the one that is up');
    is((plus_call($nginx, PATCH => 'up/servers/0', '{"down":true}'))[0], 200, 'it is put down');
    is((plus_call($nginx, PATCH => 'up/servers/4', '{"drain":false}'))[0], 200, 'and another one is not to drain any more');
    becomes(sub { state_of($nginx, address('drained')) }, 'up', 'it is used');
    is(state_of($nginx, address('ok')), 'down', 'the other one is not');
    ends_well($nginx);
};

subtest 'a reset' => sub {
    my $nginx = nginx("server $a; server $dead fail_timeout=1h;", workers => 4)->start;
    is(asked($nginx, '/', map { "a=$_" } 200 .. 203, 404, 301, 500, 502, 503, 504, 505, 507), '200 201 202 203 404 301 500 502 503 504 505 507', 'requests');
    like(counted($nginx, 'a'), qr/\Arequests=12 total=12 2xx=4 3xx=1 4xx=1 5xx=6 .* other=4\z/, 'are counted');
    is(counted($nginx, $dead) . ' ' . state_of($nginx, $dead), 'requests=1 total=0 fails=1 unavail=1 unavail', 'also at the dead one');
    my $selected = peer($nginx, 'a')->{selected};
    my $held = begin($nginx, '/', do => 'a=wait');
    becomes(sub { members(peer($nginx, 'a'), 'active') }, 'active=1', 'and one is at work');
    my $at_work = peer($nginx, 'a')->{selected};
    is(join(' ', map { $_ // '' } plus_call($nginx, DELETE => 'up')), '204 ', 'reset');
    for (1 .. 8) {
        my $peer = peer($nginx, 'a');
        is(join(', ', counted($peer), bytes($peer), members($peer, qw(active downtime downstart selected header_time response_time state))),
            "requests=0 total=0, sent 0 received 0, active=1 downtime=0 (no downstart) selected=$at_work (no header_time) (no response_time) state=up", 'all is 0');
    }
    my $peer = peer($nginx, $dead);
    is(join(', ', counted($peer), bytes($peer), $peer->{state}), 'requests=0 total=0, sent 0 received 0, unavail', 'the dead one is away as before');
    ok(defined seconds($peer->{downstart}), 'since some time');
    release();
    is((finish($held))[0], '200', 'what was at work is answered');
    is(counted($nginx, 'a'), 'requests=0 total=1 2xx=1 200=1', 'its response is counted');
    is(over_workers($nginx, 'a=200', 'a=207'), '200=4 207=4', 'requests');
    is(counted($nginx, 'a'), 'requests=8 total=9 2xx=9 200=5 207=4', 'it goes on');
    ends_well($nginx);
};

subtest 'reloads and deaths of workers' => sub {
    my $nginx = nginx("server $a; server $dead fail_timeout=1h;", workers => 4)->start;
    is(over_workers($nginx, ('a=200') x 5, 'a=404'), '200=20 404=4', 'requests');
    my $figures = sub { my $peer = peer($nginx, 'a'); join ', ', counted($peer), bytes($peer), members($peer, qw(header_time response_time downtime)) };
    my $before = $figures->();
    like($before, qr/\Arequests=24 total=24 2xx=20 4xx=4 200=20 404=4, /, 'are counted');
    my $of_dead = counted($nginx, $dead) . ' ' . state_of($nginx, $dead);
    is($of_dead, 'requests=1 total=0 fails=1 unavail=1 unavail', 'also at the dead one');
    my ($selected, $since) = map { seconds($_) } peer($nginx, 'a')->{selected}, peer($nginx, $dead)->{downstart};
    my $same = sub {
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        is($figures->(), $before, "$_[0]: nothing is lost");
        is(join(' ', counted($nginx, $dead), state_of($nginx, $dead)), $of_dead, 'the dead one is away as before');
        # Who shows a moment has a clock of its own.
        between(seconds(peer($nginx, 'a')->{selected}), $selected - 0.003, $selected + 0.003, 'when one was selected');
        between(seconds(peer($nginx, $dead)->{downstart}), $since - 0.003, $since + 0.003, 'and since when the other is away');
    };
    ok(scalar $nginx->reload, 'a reload');
    $same->('a reload');
    for my $round (1 .. 2) {
        my @workers = $nginx->workers;
        $nginx->signal('KILL', $_) for @workers[$round - 1 .. 2];
        ok(wait_until(5, sub { my @now = $nginx->workers; @now == 4 && "@now" ne "@workers" }), 'workers are killed');
        $same->('workers are killed');
    }
    my $held = begin($nginx, '/', do => 'a=wait');
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=25 active=1', 'a request is at work');
    my @workers = $nginx->workers;
    $nginx->signal('KILL', $_) for @workers;
    ok(wait_until(5, sub { my %old = map { $_ => 1 } @workers; my @now = $nginx->workers; @now == 4 && !grep { $old{$_} } @now }), 'all workers are killed');
    becomes(sub { members(peer($nginx, 'a'), 'requests', 'active') }, 'requests=25 active=0', 'it is not any more');
    like($figures->(), qr/\Arequests=25 total=24 2xx=20 4xx=4 200=20 404=4, /, 'it has no response');
    release();
    is(over_workers($nginx, 'a=200'), '200=4', 'requests');
    is(counted($nginx, 'a'), 'requests=29 total=28 2xx=24 4xx=4 200=24 404=4', 'it goes on');
    ends_well($nginx, qr/exited on signal 9/);
};

subtest 'changes at run time' => sub {
    my $nginx = nginx("server $a; server $b down;", workers => 4)->start;
    is(over_workers($nginx, ('a=200') x 3), '200=12', 'requests');
    my $figures = sub { my $peer = peer($nginx, 'a'); join ', ', counted($peer), bytes($peer), members($peer, 'selected') };
    my $before = $figures->();
    for my $body ('{"weight":3}', '{"max_fails":4}', '{"max_conns":7,"fail_timeout":"3s"}', '{"drain":true}', '{"drain":false}', '{"down":true}', '{"down":false}') {
        is((plus_call($nginx, PATCH => 'up/servers/0', $body))[0], 200, "PATCH $body");
        is($figures->(), $before, 'keeps all');
    }
    is((plus_call($nginx, PATCH => 'up/servers/1', '{"down":false}'))[0], 200, 'PATCH of the other one');
    is($figures->(), $before, 'does, too');
    is((plus_call($nginx, DELETE => 'up/servers/0'))[0], 200, 'it is removed');
    my ($code, $added) = plus_call($nginx, POST => 'up/servers', qq({"server":"$a"}));
    is("$code $added->{id}", '201 2', 'and added');
    my $peer = peer($nginx, 'a');
    is(join(', ', counted($peer), bytes($peer), members($peer, 'selected')), 'requests=0 total=0, sent 0 received 0, (no selected)', 'it begins anew');
    is(asked($nginx, '/', ('') x 10), join(' ', (200) x 10), 'requests');
    is(join(' ', map { peer($nginx, $_)->{requests} } qw(a b)), '5 5', 'go to both');
    ends_well($nginx);
};

subtest 'slow_start of a server that is added' => sub {
    my $nginx = nginx("server $b;")->start;
    my ($code) = plus_call($nginx, POST => 'up/servers', qq({"server":"$a","slow_start":"10s"}));
    is($code, 201, 'one is added');
    is(asked($nginx, '/', ('') x 40), join(' ', (200) x 40), 'requests');
    # A tenth of its share is 1 of 11; after a second it is 1.9 of 11.9.
    between(peer($nginx, 'a')->{requests}, 2, 8, 'few go to it');
    is(peer($nginx, 'a')->{requests} + peer($nginx, 'b')->{requests}, 40, 'the others do not');
    is((plus_call($nginx, DELETE => 'up/servers/1'))[0], 200, 'it is removed');
    is((plus_call($nginx, POST => 'up/servers', qq({"server":"$a"})))[0], 201, 'and added without slow_start');
    is((plus_call($nginx, DELETE => 'up'))[0], 204, 'reset');
    is(asked($nginx, '/', ('') x 40), join(' ', (200) x 40), 'requests');
    is(join(' ', map { peer($nginx, $_)->{requests} } qw(a b)), '20 20', 'it has its share');
    ends_well($nginx);
};

done_testing();
