# When the checks are made, and by whom. All times are those of arrival at the
# server (t/lib/NginxBackend.pm).
#
# What is measured here is late when the machine is busy, so a measurement that is
# out of its tolerance is made again, four times at the most: what the scheduler does
# wrong it does wrong each time.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET;
use List::Util qw(all max min sum);
use NginxBackend;
use NginxRunner;
use Test::More;
use Time::HiRes qw(sleep);

my $backend = NginxBackend->start;

# An nginx that checks so many new servers: the words say how they answer.
# Returns it, and the names of the servers.
my $names = 'server000';
sub checking {
    my ($count, $check, %as) = @_;
    my $answers = delete $as{answers} // ['200'];
    my $kind = delete $as{kind} // 'inet';
    my @names = map { $names++ } 1 .. $count;
    my $servers = join ' ', map { 'server ' . $backend->add($_, kind => $kind, checks => $answers) . ';' } @names;
    my $nginx = NginxRunner->new(
        http => "upstream up { checkups_cluster; $servers checkups_check http $check; }",
        server => 'location /get { proxy_pass http://up; }', %as,
    );
    return ($nginx->start, @names);
}

# The times at which the checks of a server came, in milliseconds.
sub arrivals { return map { $_ * 1000 } @{ $backend->seen(shift)->{checks} } }

sub gaps { return map { $_[$_] - $_[$_ - 1] } 1 .. $#_ }

# Measures until it is right. The measurement returns what is wrong, or nothing.
sub measure {
    my ($what, $measurement) = @_;
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

sub rounded { return join ' ', map { sprintf '%.0f', $_ } @_ }

sub quiet {
    my $nginx = shift;
    my $took = $nginx->stop;
    my @bad = $nginx->bad_lines;
    return if !@bad && defined $took;
    fail('no crash and no alert');
    diag(@bad);
    return;
}

measure('the first round is spread over the interval, where that is shorter than 1 s', sub {
    my ($nginx, @names) = checking(10, 'interval=500ms');
    $backend->wait_for($names[-1], 3);
    my @first = map { (arrivals($_))[0] } @names;
    my @third = map { (arrivals($_))[2] } @names;
    quiet($nginx);
    my @wrong = grep { abs($first[$_] - $first[0] - 50 * $_) > 45 } 0 .. 9;
    # The third check of all: what is spread stays so.
    push @wrong, grep { abs($third[$_] - $third[0] - 50 * $_) > 45 } 0 .. 9;
    return @wrong ? (rounded(map { $_ - $first[0] } @first, @third)) : ();
});

measure('otherwise over 1 s, and then over the interval', sub {
    my ($nginx, @names) = checking(10, 'interval=2s');
    $backend->wait_for($names[-1], 3);
    my @times = map { [arrivals($_)] } @names;
    quiet($nginx);
    my $start = $times[0][0];
    # The first server's second check is due after the interval, the others' when it is their turn.
    my @wrong = grep {
        my ($first, $second, $third) = map { $_ - $start } @{ $times[$_] };
        abs($first - 100 * $_) > 60 || abs($second - ($_ ? 200 * $_ : 2000)) > 90
            || $_ && abs($third - $second - 2000) > 60;
    } 0 .. 9;
    return map { rounded(map { $_ - $start } @{ $times[$_] }) } @wrong;
});

measure('the interval is kept', sub {
    my ($nginx, $name) = checking(1, 'interval=100ms');
    $backend->wait_for($name, 21);
    my @gaps = gaps(arrivals($name));
    quiet($nginx);
    my $sum = sum(@gaps[0 .. 19]);
    return $sum > 1950 && $sum < 2400 && min(@gaps) > 50 && max(@gaps) < 200 ? () : rounded(@gaps);
});

measure('the shortest interval', sub {
    my ($nginx, $name) = checking(1, 'interval=10ms');
    $backend->wait_for($name, 101);
    my @gaps = gaps(arrivals($name));
    quiet($nginx);
    my $sum = sum(@gaps[0 .. 99]);
    return $sum > 950 && $sum < 1800 ? () : rounded(@gaps);
});

measure('up to the jitter is added to the interval, at random', sub {
    my ($nginx, @names) = checking(20, 'interval=100ms jitter=100ms');
    $backend->wait_for($_, 11) for @names;
    my @gaps = map { gaps((arrivals($_))[0 .. 10]) } @names;
    quiet($nginx);
    my $mean = sum(@gaps) / @gaps;
    my $early = grep { $_ < 125 } @gaps;
    my $late  = grep { $_ > 175 } @gaps;
    return min(@gaps) > 50 && max(@gaps) < 300 && abs($mean - 150) < 20 && $early > 25 && $late > 25
        ? () : "mean $mean, $early early, $late late, " . rounded(sort { $a <=> $b } @gaps);
});

# An answer takes 150 ms, the interval is 50 ms.
measure('a check that takes longer than the interval: the next one waits for it, and no longer', sub {
    my ($nginx, $name) = checking(1, 'interval=50ms timeout=1s', answers => ['200:150']);
    $backend->wait_for($name, 6);
    my @gaps = gaps(arrivals($name));
    my $open = $backend->seen($name)->{open};
    quiet($nginx);
    return $open <= 1 && min(@gaps) > 130 && max(@gaps) < 220 ? () : ("$open open", rounded(@gaps));
});

measure('... and where it times out', sub {
    my ($nginx, $name) = checking(1, 'interval=20ms timeout=150ms', answers => ['hang']);
    $backend->wait_for($name, 6);
    my @gaps = gaps(arrivals($name));
    quiet($nginx);
    return min(@gaps) > 120 && max(@gaps) < 220 ? () : rounded(@gaps);
});

measure('a server that is slow does not keep the others from being checked', sub {
    my ($nginx, @names) = checking(3, 'interval=50ms timeout=30s');
    $backend->checks($names[1], 'hang');
    $backend->wait_for($_, 15) for @names[0, 2];
    my $slow = $backend->count($names[1]);
    my @gaps = map { gaps((arrivals($_))[-8 .. -1]) } @names[0, 2];
    quiet($nginx);
    return $slow <= 2 && min(@gaps) > 20 && max(@gaps) < 130 ? () : ("$slow of the slow one", rounded(@gaps));
});

measure('of four workers one makes all checks', sub {
    my ($nginx, @names) = checking(5, 'interval=100ms', workers => 4);
    $backend->wait_for($names[-1], 11);
    my @counts = map { $backend->count($_) } @names;
    quiet($nginx);
    return !(grep { $_ < 10 || $_ > 13 } @counts) ? () : "@counts";
});

# The same by the processes that are at the other end.
{
    my ($nginx, @names) = checking(5, 'interval=50ms timeout=30s', workers => 4, kind => 'unix', answers => ['hang']);
    ok($backend->wait_for($_, 1), 'a check has come') for @names;
    my %probers = map { $_ => 1 } map { @{ $backend->seen($_)->{peers} } } @names;
    my @workers = $nginx->workers;
    is_deeply([keys %probers], [$workers[0]], 'the worker that was started first makes them all');
    is(scalar @workers, 4, 'there are four');
    quiet($nginx);
}

# Half of the connections of a worker are for requests.
{
    my ($nginx, @names) = checking(40, 'interval=20ms timeout=300ms', worker_connections => 32, answers => ['hang']);
    my $most = 0;
    my $all = wait_until(10, sub {
        $most = max($most, map { $backend->all_open } 1 .. 10);
        return all { $backend->count($_) >= 2 } @names;
    });
    ok($all, 'all servers are checked, where there are more than half as many as connections');
    cmp_ok($most, '<=', 16, 'not more than half of the connections are taken at a time');
    cmp_ok($most, '>=', 12, 'nor much less') or diag($most);
    is($nginx->get('/get')->{code}, 200, 'requests are served meanwhile');
    is($nginx->states('up'), join(' ', ('unstable') x 40), 'all have failed');
    quiet($nginx);
}

# Clients take one connection after the other, until none is left for checks. Where
# one is given back, some checks can be made and others not.
{
    my ($nginx, @names) = checking(8, 'interval=50ms', worker_connections => 16, answers => ['200:30']);
    ok($nginx->wait_for_states(up => join ' ', ('ok') x 8), 'all servers are up');
    my $checks = sub { return sum(map { $backend->count($_) } @names) };
    my @clients;
    my $none_left = wait_until(20, sub {
        push @clients, IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port);
        syswrite $clients[-1], 'GET /get HT' if $clients[-1];
        my $before = $checks->();
        sleep 0.2 + rand 0.05;          # four intervals, and not always at the same moment of one
        return $checks->() == $before;
    });
    ok($none_left, 'no check can be made where there is no connection left');
    for my $client (@clients[0 .. 2]) {
        my $before = $checks->();
        undef $client;
        ok(wait_until(10, sub { $checks->() >= $before + 20 }), 'checks are made where one is given back');
    }
    my $trouble = 'no connection to spare in this worker: checks cannot be made and give no verdict';
    my @lines = $nginx->notices;
    is_deeply([grep { $_ ne $trouble } @lines], [], 'that is all that is logged');
    ok(scalar @lines, 'and it is logged');
    cmp_ok(scalar @lines, '<=', 2, 'but not for every check that cannot be made');
    undef @clients;
    my $before = $checks->();
    ok(wait_until(10, sub { $checks->() >= $before + 20 }), 'checks go on when there are connections again');
    is($nginx->states('up'), join(' ', ('ok') x 8), 'nothing was held against the servers');
    is_deeply([grep { $_ ne $trouble } $nginx->notices], [], 'nor logged');
    $nginx->stop;
    is_deeply([grep { !/worker_connections are not enough/ } $nginx->bad_lines], [], 'no crash and no other alert');
}

done_testing();
