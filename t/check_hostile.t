#!/usr/bin/perl

# Servers that do what no good one does (t/lib/hostile.py) get a verdict within
# the timeout, and cost worker 0 next to nothing: no descriptor is lost, the memory
# stays within a cap, requests are answered meanwhile, and a good server of the
# same upstream stays ok.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Hostile;
use NginxRunner;
use RealServers;
use Test::More;
use Time::HiRes ();

my $most_memory = 32 << 20;     # more than before, bytes
my $longest_wait = 0.2;         # of a request to worker 0, seconds: this machine may have other work
my $timeout = 1;                # of the checks, seconds: a good server has to make it on a busy machine

my $keys = keys_of_tests();
my $redis = redis('REDIS');
my $mariadb = mariadb('MARIADB', sql => "CREATE USER 'mon'\@'127.0.0.1' IDENTIFIED BY 'sesame';\n");
my $postgres = postgres('POSTGRES', sql => "CREATE ROLE mon LOGIN PASSWORD 'sesame'\n");
my $grpc = grpc_health('GRPC');

my $http = NginxRunner::free_port();
my $https = NginxRunner::free_port();
my $servers = <<"END";
    checkups_match needle { status 200; body ~ needle; }
    server { listen 127.0.0.1:$http; return 200 "a needle\n"; }
    server {
        listen 127.0.0.1:$https ssl;
        ssl_certificate $keys/server.crt;
        ssl_certificate_key $keys/server.key;
        return 200;
    }
END

# By how the names of the cases begin: the check, and a server that passes it.
my @groups = (
    http         => ['http', $http],
    body         => ['http match=needle', $http],
    tls          => ['https ssl_verify=off', $https],
    tcp          => ['tcp "send=GET / HTTP/1.0\r\n\r\n" expect=needle', $http],
    grpc         => ['grpc', $grpc],
    redis        => ['redis', $redis],
    mysql        => ['mysql user=mon password=sesame ssl=off', $mariadb],
    'postgres(?!_tls)' => ['postgres user=mon password=sesame database=postgres ssl=off', $postgres],
    postgres_tls => ['postgres user=mon password=sesame database=postgres ssl_verify=off', $postgres],
);
# The library for HTTP/2 takes it that there are no settings; what comes is right otherwise.
my %passes = map { $_ => 1 } 'http_slow', 'grpc_no_settings';

sub descriptors { return scalar(() = glob "/proc/$_[0]/fd/*") }
sub memory { return NginxRunner::slurp("/proc/$_[0]/status") =~ /^VmRSS:\s+(\d+) kB/m ? $1 * 1024 : 0 }

# The fewest of some moments: what is between two checks.
sub fewest_descriptors {
    my ($worker, $tries, $enough) = @_;
    my $fewest;
    for (1 .. $tries) {
        my $now = descriptors($worker);
        $fewest = $now if !defined $fewest || $now < $fewest;
        last if defined $enough && $fewest <= $enough;
        Time::HiRes::sleep(0.005);
    }
    return $fewest;
}

# The states by the names of the cases: [hostile, good].
sub states_of {
    my ($nginx, @cases) = @_;
    my $status = $nginx->status;
    return map { $_ => $status->{"cls:$_"}[0] } @cases;
}

while (my ($start, $check) = splice @groups, 0, 2) {
    my ($words, $good) = @$check;
    my @cases = Hostile::cases($start);
    subtest "$start: " . @cases . ' servers' => sub {
        my $hostile = Hostile->start(@cases);
        my $upstreams = join '', map { <<"END" } @cases;
    upstream $_ {
        checkups_cluster protected=off;
        server 127.0.0.1:${\ $hostile->port($_)};
        server 127.0.0.1:$good;
        checkups_check $words interval=150ms timeout=${\ ($timeout * 1000)}ms;
    }
END
        my $nginx = NginxRunner->new(http => "$servers$upstreams", server => 'location = /ping { return 200; }')->start;
        my ($worker) = $nginx->workers;
        my %states;
        my $refused = NginxRunner::wait_until(10, sub {
            %states = states_of($nginx, @cases);
            return !grep { ($_->[0]{msg} // '') ne 'connection refused' || $_->[1]{status} ne 'ok' } values %states;
        });
        ok($refused, 'at first they refuse connections') or diag(explain(\%states));
        my $descriptors = fewest_descriptors($worker, 40);
        my $memory = memory($worker);

        $hostile->ask('listen');
        my $began = NginxRunner::now();
        my $most = 0;
        my $longest = 0;
        my $requests = 0;
        my $judged;
        my %late = map { $_ => 1 } @cases;
        until ($requests >= 300 && !%late && NginxRunner::now() - $began > 1 || NginxRunner::now() - $began > 6) {
            my $sent = NginxRunner::now();
            my $answer = $nginx->get('/ping');
            my $took = NginxRunner::now() - $sent;
            $longest = $took if $took > $longest;
            is($answer->{code}, 200, 'a request') if $answer->{code} != 200;
            # Without a pause this and nginx would take the processors from the good servers.
            Time::HiRes::sleep(0.002);
            next if ++$requests % 20;
            my $now = memory($worker);
            $most = $now if $now > $most;
            next if !%late;
            %states = states_of($nginx, keys %late);
            for my $case (keys %late) {
                my $server = $states{$case}[0];
                delete $late{$case}
                    if $passes{$case} ? $server->{status} eq 'ok' : ($server->{msg} // 'connection refused') ne 'connection refused';
            }
            $judged = NginxRunner::now() - $began if !%late;
        }
        is(join(' ', sort keys %late), '', 'each has a verdict of its own');
        # The interval, the timeout, and what the machine takes for all of them at the same time.
        cmp_ok($judged // 99, '<', 0.15 + $timeout + 2, 'within the timeout');

        %states = states_of($nginx, @cases);
        for my $case (@cases) {
            my ($bad, $good) = @{ $states{$case} };
            my $wanted = $passes{$case} ? 'ok' : 'err';
            is("$bad->{status} $good->{status}", "$wanted ok", "$case: " . ($bad->{msg} // 'nothing is said'));
            ok(length $bad->{msg}, "$case: it is said why") if $wanted eq 'err';
        }
        my @fallen = $nginx->log =~ /server "127\.0\.0\.1:$good": from ok to .*/g;
        is("@fallen", '', 'which was so all the time');
        cmp_ok($longest, '<', $longest_wait, sprintf 'the longest of %d requests took %.1f ms', $requests, $longest * 1000);

        my $count = $hostile->count;
        $hostile->ask('refuse');
        my $left = fewest_descriptors($worker, 1000, $descriptors);
        cmp_ok($left, '<=', $descriptors, "no descriptor is lost over $count checks");
        cmp_ok($most - $memory, '<', $most_memory,
            sprintf 'memory: %.1f MB, then %.1f at most', map { $_ / (1 << 20) } $memory, $most);
        is(join(' ', $nginx->workers), $worker, 'worker 0 is still the same');
        ok(defined $nginx->stop, 'nginx stops');
        is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
    };
}

done_testing();
