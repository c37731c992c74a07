# Trouble of the host itself is no verdict on a server: a worker that was held up, and
# one that has no descriptors left.
#
# A worker is held up by SIGSTOP. When it goes on, the timers are due before it looks
# what came meanwhile. What is measured here is late when the machine is busy, so a
# measurement that is wrong is made again, four times at the most.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use List::Util qw(all max min sum);
use NginxRunner;
use PlayedServers;
use Test::More;
use Time::HiRes qw(sleep);

my $get = 'location /get { proxy_pass http://up; }';

sub measure {
    my ($what, $measurement) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @wrong;
    for (1 .. 5) {
        my @found = $measurement->();
        return pass($what) if !@found;
        push @wrong, "@found";
    }
    fail($what);
    diag(map { "$_\n" } @wrong);
    return;
}

# The worker that makes the checks is held up for so many seconds.
sub hold_up {
    my ($nginx, $seconds) = @_;
    my ($worker) = sort { $a <=> $b } $nginx->workers;
    $nginx->signal('STOP', $worker);
    sleep $seconds;             # this is what is tested
    $nginx->signal('CONT', $worker);
    return;
}

sub held_up { return grep { /^\[warn\] this worker was held up for \d+ms: what failed meanwhile gives no verdict$/ } logged($_[0]) }

# What is wrong where nginx does not stop as it should.
sub quiet {
    my $nginx = shift;
    my $took = $nginx->stop;
    my @bad = $nginx->bad_lines;
    return (@bad, defined $took ? () : 'nginx does not stop');
}

# Whenever an answer takes 200 ms, some are under way when the worker is held up for a
# second. The timeouts end at different times before it goes on, down to the last moment.
measure('a worker that is held up has nobody fail for it', sub {
    my @timeouts = (500, 700, 900, 950, 1000);
    my @servers = map { my $timeout = $_; map { "s${timeout}x$_" } 1 .. 6 } @timeouts;
    servers((map { $_ => '200:200' } @servers), dead => '200 hang');
    my $nginx = NginxRunner->new(http => join '', map {
        my $timeout = $_;
        upstream("up$timeout" => join ' ', (map { "server \@s${timeout}x$_;" } 1 .. 6), 'server @dead;',
            "checkups_check http host=h interval=20ms timeout=${timeout}ms;")
    } @timeouts)->start;
    my $good = join ' ', ('ok') x 6, 'err';
    my $all_good = sub { all { $nginx->states("up$_") eq $good } @timeouts };
    my @wrong;
    wait_until(10, $all_good) or push @wrong, 'the servers do not get up';
    my $from = length $nginx->log;
    for (1 .. 3) {
        hold_up($nginx, 1);
        my %count = map { $_ => backend->count($_) } @servers;
        wait_until(10, sub { all { backend->count($_) >= $count{$_} + 2 } @servers }) or push @wrong, 'no more checks come';
    }
    $all_good->() or push @wrong, map { $nginx->states("up$_") } @timeouts;
    my @turned = grep { /from ok/ } logged($nginx, $from);
    my @lines = held_up($nginx);
    push @wrong, @turned, @lines == 1 ? () : "the log has it @{[scalar @lines]} times", quiet($nginx);
    return @wrong;
});

# The timer of the check is hardly late then, and no other one is.
measure('an answer that came in time is read, although the timeout is over', sub {
    servers(a => '200:200');
    my $nginx = NginxRunner->new(http => upstream(up => 'server @a; checkups_check http interval=20ms timeout=1s;'))->start;
    for my $check (2, 4, 6) {
        backend->wait_for(a => $check) or return 'no check comes';
        hold_up($nginx, 1.02);
        backend->wait_for(a => $check + 1) or return 'no further check comes';
    }
    return (logged($nginx), quiet($nginx));
});

# Each check of the server times out at a moment at which the worker is held up.
measure('but not more than two results in a row are thrown away', sub {
    servers(a => '200 200 hang', b => '200');
    my $nginx = NginxRunner->new(http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=500ms;'))->start;
    my @known;
    for my $check (3 .. 5) {
        backend->wait_for(a => $check) or return 'no check comes';
        hold_up($nginx, 0.75);
        backend->wait_for(a => $check + 1) or return 'no further check comes';
        push @known, (known($nginx, 'up'))[0];
    }
    my @lines = held_up($nginx);
    return grep { defined } (
        "@known" eq 'a ok 0 a ok 0 a err 1 timed out after 500ms' ? undef : "@known",
        @lines == 1 ? undef : "the log has it @{[scalar @lines]} times", quiet($nginx),
    );
});

measure('what passes in between begins the count anew', sub {
    servers(a => '200 hang hang 200 hang hang 200 hang', b => '200');
    my $nginx = NginxRunner->new(http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms timeout=500ms;'))->start;
    my @known;
    for my $check (2, 3, 5, 6) {
        backend->wait_for(a => $check) or return 'no check comes';
        hold_up($nginx, 0.75);
        backend->wait_for(a => $check + 1) or return 'no further check comes';
        push @known, (known($nginx, 'up'))[0];
    }
    my $missed = wait_until(10, sub { (known($nginx, 'up'))[0] =~ /^a err/ }) ? undef : 'it is not found to be dead';
    return grep { defined } "@known" eq join(' ', ('a ok 0') x 4) ? undef : "@known", $missed, quiet($nginx);
});

# Clients take one descriptor after the other, until none is left for checks.
subtest 'no descriptors' => sub {
    my @names = map { "s$_" } 1 .. 8;
    servers(map { $_ => '200' } @names);
    my $nginx = NginxRunner->new(
        main => 'worker_rlimit_nofile 40;', worker_connections => 512, server => $get,
        http => upstream(up => join ' ', (map { "server \@$_;" } @names), 'checkups_check http interval=50ms;'),
    )->start;
    ok($nginx->wait_for_states(up => join ' ', ('ok') x 8), 'all servers are up');
    my $checks = sub { return sum(map { backend->count($_) } @names) };
    my @clients;
    my $none_left = wait_until(30, sub {
        push @clients, IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port);
        syswrite $clients[-1], 'GET /get HT' if $clients[-1];
        my $before = $checks->();
        sleep 0.2;                      # four intervals
        return $checks->() == $before;
    });
    ok($none_left, 'no check can be made where there is no descriptor left');
    undef @clients;
    my $before = $checks->();
    ok(wait_until(10, sub { $checks->() >= $before + 20 }), 'checks go on when there are some again');
    is($nginx->states('up'), join(' ', ('ok') x 8), 'nothing was held against the servers');
    my @lines = grep { !/held up/ } logged($nginx);
    my $trouble = '[warn] no descriptor to spare in this worker: checks cannot be made and give no verdict';
    is_deeply(\@lines, [$trouble], 'that is all that is logged, and once');
    ends_well($nginx, qr/accept4\(\) failed \(24: /);
};

# What is dead meanwhile is found when there are connections again.
subtest 'no connections, and a server that dies meanwhile' => sub {
    servers(a => '200', b => '200');
    my $nginx = NginxRunner->new(
        worker_connections => 12, server => $get,
        http => upstream(up => 'server @a; server @b; checkups_check http interval=20ms mandatory;'),
    )->start;
    ok($nginx->wait_for_states(up => 'ok ok'), 'both are up');
    my @clients;
    ok(wait_until(30, sub {
        push @clients, IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port);
        syswrite $clients[-1], 'GET /get HT' if $clients[-1];
        my $before = backend->count('a');
        sleep 0.1;                      # five intervals
        return backend->count('a') == $before;
    }), 'no check can be made');
    backend->checks(a => '503');
    undef @clients;
    ok(wait_until(10, sub { (known($nginx, 'up'))[0] =~ /^a err \d+ status 503$/ }), 'it is found');
    like((known($nginx, 'up'))[1], qr/^b ok 0$/, 'the other one works');
    ends_well($nginx, qr/worker_connections are not enough/);
};

done_testing();
