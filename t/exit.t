# The end of workers while checks are under way: it is prompt, clean, and says
# nothing of the servers.
#
# A server that hangs keeps its check under way for 30 s. How long an end takes
# depends on what else the machine does, so the shortest of three counts.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(min);
use NginxBackend;
use NginxRunner;
use Test::More;

my $most = 0.2;     # seconds
my $backend = NginxBackend->start;

# An nginx with checks under way: 20 that wait for an answer, the last two of them
# over unix sockets, and 5 for a connection.
sub with_checks {
    my %as = @_;
    $backend->forget;
    my @hanging = map {
        $backend->add("hang$_", kind => $_ > 18 ? 'unix' : 'inet', checks => ['hang'], requests => ['wait:200']);
    } 1 .. 20;
    my @full    = map { $backend->add("full$_", state => 'full') } 1 .. 5;
    my $servers = join ' ', map { "server $_;" } @hanging, @full;
    my $nginx = NginxRunner->new(
        http => "upstream up { checkups_cluster; $servers checkups_check http interval=50ms timeout=30s; }",
        server => 'location /get { proxy_pass http://up; }', %as,
    )->start;
    ok(wait_until(5, sub { $backend->all_open == 20 }), 'the checks are under way');
    return $nginx;
}

# The processes whose checks are under way.
sub probers {
    my %pids = map { $_ => 1 } map { @{ $backend->seen($_)->{peers} } } 'hang19', 'hang20';
    return keys %pids;
}

sub is_clean {
    my $nginx = shift;
    is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
    is_deeply([grep { /open socket/ } split /\n/, $nginx->log], [], 'no socket is left');
    is_deeply([$nginx->notices], [], 'nothing is said of the servers');
    return;
}

for my $case (
    [QUIT => 'on', 1], [TERM => 'on', 1], [QUIT => 'on', 4], [TERM => 'on', 4], [QUIT => 'off', 1], [TERM => 'off', 1],
) {
    my ($signal, $master, $workers) = @$case;
    my $what = $master eq 'on' ? "$workers workers" : 'a single process';
    subtest "$signal, $what" => sub {
        my @took;
        for (1 .. 3) {
            my $nginx = with_checks(master => $master, workers => $workers);
            push @took, $nginx->stop($signal) // 99;
            is($nginx->{status}, 0, 'nginx exits with 0');
            ok(wait_until(2, sub { $backend->all_open == 0 }), 'its connections are closed');
            is_clean($nginx);
            last if $took[-1] < $most;
        }
        cmp_ok(min(@took), '<', $most, 'it takes less than 200 ms') or diag("@took");
    };
}

# As on a reload, by nginx itself: 100 ms after the new workers were started.
subtest 'HUP' => sub {
    my @took;
    for (1 .. 3) {
        my $nginx = with_checks(workers => 2);
        my ($old) = probers();
        is($old, ($nginx->workers)[0], 'worker 0 makes them');
        my $start = now();
        $nginx->signal('HUP');
        my $gone = wait_until(10, sub { !is_running($old) });
        push @took, $gone ? now() - $start : 99;
        ok(wait_until(5, sub { $nginx->workers == 2 }), 'there are new workers');
        ok(wait_until(5, sub { $backend->all_open == 20 }), 'with new checks, and the old ones are closed');
        is_clean($nginx);
        $nginx->stop;
        last if $took[-1] < 0.4;
    }
    cmp_ok(min(@took), '<', 0.4, 'the old worker 0 exits within 400 ms') or diag("@took");
};

# A request keeps its worker, but not the checks.
for my $signal ('QUIT', 'HUP') {
    subtest "$signal, with a request under way" => sub {
        my $nginx = with_checks();
        my ($old) = $nginx->workers;
        my $client = $nginx->send_request('/get');
        ok(wait_until(5, sub { @{ $backend->seen('hang1')->{requests} } == 1 }), 'a request is under way');

        $nginx->signal($signal);
        my $start = now();
        my $rounds = $signal eq 'QUIT' ? 1 : 2;
        my $closed = wait_until(5, sub {
            return $backend->all_open == ($signal eq 'QUIT' ? 0 : 20) && $backend->count('hang20') == $rounds;
        });
        my $took = now() - $start;
        ok($closed, 'the old worker has closed its checks');
        cmp_ok($took, '<', 1, '... at once');
        ok(is_running($old), '... and goes on with the request');

        if ($signal eq 'HUP') {
            my @probers = probers();
            is(scalar @probers, 1, 'one worker makes checks');
            isnt($probers[0], $old, '... not the old one');
        }
        $backend->release('hang1');
        my $answer = $nginx->answer($client);
        is("$answer->{code} $answer->{body}", "200 hang1\n", 'the request has got its answer');
        ok(wait_until(2, sub { !is_running($old) }), 'then the worker is gone');
        $nginx->stop;
        is_clean($nginx);
    };
}

# What a check has found is not lost with the worker, and what it has not found
# yet is not made up.
subtest 'no verdict from an exit' => sub {
    $backend->forget;
    my @addresses = ($backend->add('a', checks => [qw(200 hang)]), $backend->add('b', checks => [qw(503 hang)]),
        $backend->add('c', checks => ['hang']));
    my $servers = join ' ', map { "server $_;" } @addresses;
    my $nginx = NginxRunner->new(
        http => "upstream up { checkups_cluster; $servers checkups_check http interval=20ms timeout=30s; }")->start;
    $backend->wait_for($_, 2) for 'a', 'b';
    $backend->wait_for('c', 1);
    is($nginx->states('up'), 'ok err unchecked', 'three states');
    my $before = $nginx->status->{'cls:up'};
    for my $number (1 .. 5) {
        ok($nginx->reload, 'a reload');
        ok($backend->wait_for('c', 1 + $number), 'the checks are under way again');
        is_deeply($nginx->status->{'cls:up'}, $before, 'nothing has changed');
    }
    $nginx->stop;
    is_deeply([$nginx->notices], [qq(cluster "up", server "$addresses[1]": from unchecked to err: status 503)],
        'nor was it logged');
};

done_testing();
