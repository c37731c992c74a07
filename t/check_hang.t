# A thousand servers, one of which hangs: what is known of the others is known as
# early as where none does.
#
# Two nginx do the same at the same time, one with the server that hangs and one
# without. Both ask a third one, which plays all servers, and whose log has when what
# came. What is compared are the times of the checks of each server, and how long it
# takes until all of them are known to have failed, and to work again.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Fcntl qw(SEEK_SET);
use IO::Socket::INET;
use List::Util qw(max min sum);
use NginxRunner;
use Test::More;
use Time::HiRes qw(sleep time);

my $servers = 1000;
my $interval = 2;       # seconds
my $tolerance = 0.15;   # by how much one may be later than the other, in seconds

# The servers listen on addresses of their own: 127.1.0.1 and so on.
my $port = NginxRunner::free_port();
my @addresses = map { sprintf '127.1.%d.%d', int $_ / 250, 1 + $_ % 250 } 0 .. $servers - 1;

# One that accepts connections, and never says anything.
my $silent = IO::Socket::INET->new(LocalAddr => '127.2.0.1', LocalPort => $port, Listen => 511) or die "listen: $!";

my $played = NginxRunner->new(
    worker_connections => 8192, log_level => 'error', server => '',
    http => q(log_format arrival '$msec $http_host $server_addr';) . ' server { access_log ' . 'logs/arrivals arrival;'
        . join('', map { "listen $_:$port;" } @addresses) . 'location / { if (-f $document_root/broken) { return 503; } return 200; } }',
)->start;
my $broken = $played->root . '/html/broken';
mkdir $played->root . '/html' or die "mkdir: $!";

sub start {
    my ($host, @more) = @_;
    my $all = join ' ', map { "server $_:$port;" } @more, @addresses;
    return NginxRunner->new(
        worker_connections => 8192,
        http => "checkups_zone checkups:16m; upstream up { checkups_cluster; $all checkups_check http host=$host interval=${interval}s timeout=5s; }",
    )->start;
}

# The quantile of so many parts of a thousand.
sub quantile {
    my ($part, @numbers) = @_;
    @numbers = sort { $a <=> $b } @numbers;
    return $numbers[min($#numbers, int(@numbers * $part / 1000))];
}

# The times at which the checks came to each server, by the host that they asked for.
sub arrivals {
    my %times;
    open my $in, '<', $played->root . '/logs/arrivals' or return {};
    while (my $line = <$in>) {
        my ($time, $host, $address) = $line =~ /^(\S+) (\S+) (\S+)$/ or next;
        push @{ $times{$host}{$address} }, $time;
    }
    return \%times;
}

# When so many servers have changed their state: "status 503" or "check passed" is the
# end of the line. Times since the start, by nginx.
sub changes {
    my ($end, $seconds, @nginx) = @_;
    my $start = time;
    my @seen = map { { log => $_->root . '/logs/error.log', at => -s $_->root . '/logs/error.log', times => [], rest => '' } } @nginx;
    my $deadline = $start + $seconds;
    return sub {
        while (time < $deadline && grep { @{ $_->{times} } < $servers } @seen) {
            for my $one (@seen) {
                open my $in, '<', $one->{log} or die "error.log: $!";
                seek $in, $one->{at}, SEEK_SET;
                my $text = do { local $/ = undef; readline $in } // '';
                $one->{at} += length $text;
                my $now = time - $start;
                $one->{rest} .= $text;
                while ($one->{rest} =~ s/\A(.*)\n//) {
                    push @{ $one->{times} }, $now if $1 =~ /, server "127\.1\.\S+": from \w+ to \w+: \Q$end\E$/;
                }
            }
            sleep 0.01;
        }
        return map { $_->{times} } @seen;
    };
}

# What is wrong with the one that has the server that hangs, next to the other: what it
# is about, and what it is.
sub compare {
    my ($what, $with, $without) = @_;
    my @wrong;
    for my $part (500, 950, 990, 999) {
        my ($one, $other) = map { quantile($part, @$_) } $with, $without;
        push @wrong, ["$what, the first $part of 1000", sprintf '%.3f s and not %.3f s', $one, $other] if $one > $other + $tolerance;
    }
    note(sprintf '%s: %s with, %s without', $what, map { my $of = $_; join ' ', map { sprintf '%.3f', quantile($_, @$of) } 500, 950, 990, 999 } $with, $without);
    return @wrong;
}

sub measured {
    unlink $broken;
    my ($with, $without) = (start('with', '127.2.0.1'), start('without'));
    my $rounds = sub {
        my $count = shift;
        return wait_until(20, sub {
            my $times = arrivals();
            2 * $servers == grep { @$_ >= $count } map { values %{ $times->{$_} // {} } } 'with', 'without';
        });
    };
    my @wrong;
    $rounds->(3) or push @wrong, ['checks', 'no three rounds come'];
    my $times = arrivals();
    my %gaps = map {
        my $host = $_;
        # From the second check on they are an interval apart.
        ($host => [map { $_->[2] - $_->[1] } values %{ $times->{$host} }]);
    } 'with', 'without';
    push @wrong, compare('from one check to the next', @gaps{'with', 'without'});
    # The first round: how long after the first check of all.
    my %first = map {
        my $host = $_;
        my @first = map { $_->[0] } values %{ $times->{$host} };
        my $start = min(@first);
        ($host => [map { $_ - $start } @first]);
    } 'with', 'without';
    push @wrong, compare('the first round', @first{'with', 'without'});

    for my $change ([1, 'status 503', 'until all have failed'], [0, 'check passed', 'until all work']) {
        my ($breaks, $end, $what) = @$change;
        my $seen = changes($end, 20, $with, $without);
        if ($breaks) { open my $out, '>', $broken or die "broken: $!" }
        else { unlink $broken }
        my @times = $seen->();
        push @wrong, map { @$_ == $servers ? () : [$what, "only @{[scalar @$_]} lines"] } @times;
        push @wrong, compare($what, @times);
    }
    my @hanging = $with->servers('up');
    push @wrong, ['the one that hangs', $hanging[0]{status}] if $hanging[0]{status} ne 'err';
    for my $nginx ($with, $without) {
        $nginx->stop;
        is_deeply([$nginx->bad_lines], [], 'no crash and no alert');
    }
    open my $empty, '>', $played->root . '/logs/arrivals' or die "arrivals: $!";
    return @wrong;
}

# What the machine was busy with comes sooner or later, and to either: what is wrong is
# wrong each time.
my (%wrong, @all);
for my $round (1 .. 5) {
    my %found = map { ($_->[0] => $_->[1]) } measured();
    push @all, \%found;
    %wrong = map { ($_ => 1) } grep { $round == 1 || $wrong{$_} } keys %found;
    last if !%wrong;
}
is_deeply([sort keys %wrong], [], 'one that hangs makes nobody else late') or diag(explain(\@all));
$played->stop;
is_deeply([$played->bad_lines], [], 'no crash and no alert');

done_testing();
