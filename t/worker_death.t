# Workers that are killed: checks go on within a second, what is known of the
# servers stays, and nothing that a dead worker held is lost for the others.
#
# Server h hangs, and listens on a unix socket, which tells what process has the
# connection: the worker that makes the checks.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use List::Util qw(max min);
use NginxBackend;
use NginxRunner;
use Test::More;
use Time::HiRes qw(sleep);

my $backend = NginxBackend->start;
my %address;

sub servers {
    my %words = @_;
    $backend->forget;
    for my $name (sort keys %words) {
        my ($checks, $requests) = map { [split] } split /\|/, $words{$name};
        $address{$name} = $backend->add($name, kind => $name eq 'h' ? 'unix' : 'inet', checks => $checks // [], requests => $requests // []);
    }
    return;
}

# a is checked every 20 ms, b has failed, h hangs.
sub with_checks {
    my %as = @_;
    servers(a => '200', b => '503 503 hang', h => 'hang');
    my $nginx = NginxRunner->new(
        http => "upstream up {
            checkups_cluster;
            server $address{a}; server $address{b} weight=3; server $address{h} backup;
            checkups_check http interval=20ms timeout=30s;
        }",
        server => 'location /get { proxy_pass http://up; }', %as,
    )->start;
    ok($backend->wait_for('a', 3) && $backend->wait_for('b', 3) && $backend->wait_for('h', 1), 'checks are made');
    is($nginx->states('up'), 'ok err unchecked', 'the states');
    return $nginx;
}

# One that was killed may not be known to be gone yet.
sub probers { return grep { is_running($_) } @{ $backend->seen('h')->{peers} } }

sub prober { return wait_until(5, sub { (probers())[0] }) }

# Kills workers, and waits until there are as many as before.
sub murder {
    my ($nginx, @pids) = @_;
    my %dead = map { $_ => 1 } @pids;
    $nginx->signal('KILL', $_) for @pids;
    return wait_until(5, sub {
        my @workers = $nginx->workers;
        return @workers == $nginx->{workers} && !grep { $dead{$_} } @workers;
    });
}

sub all_alive {
    my $nginx = shift;
    my %all = map { ("worker-$_" => 'alive') } 0 .. $nginx->{workers} - 1;
    ok(wait_until(3, sub { eq_hash($nginx->status->{config_timer}, \%all) }), 'config_timer shows all alive')
        or diag(explain($nginx->status->{config_timer}));
    ok($nginx->status->{checkup_timer_alive}, 'and that checks are made');
    return;
}

sub ends_well {
    my $nginx = shift;
    ok(defined $nginx->stop, 'nginx stops');
    my @bad = grep { !/exited on signal 9$/ } $nginx->bad_lines;
    is_deeply(\@bad, [], 'no crash, panic or alert but those deaths');
    is_deeply([grep { /no slot/ } $nginx->notices], [], 'each worker found its slot');
    return;
}

subtest 'the worker that makes the checks' => sub {
    my @took;
    for (1 .. 3) {
        my $nginx = with_checks(workers => 4);
        my $before = $nginx->status;
        my $old = prober();
        is($old, min($nginx->workers), 'worker 0 makes the checks');
        $nginx->signal('KILL', $old);
        my $killed = now();
        # What a gets may still be of the dead one; h has its check.
        my $next = wait_until(5, sub { $backend->seen('h')->{checks}[1] });
        push @took, defined $next ? $next - $killed : 99;
        ok(wait_until(5, sub { $nginx->workers == 4 }), 'there are four workers again');
        is_deeply($nginx->status->{$_}, $before->{$_}, "$_ is the same") for qw(cls:up start_time shd_config_version);
        is_deeply([$nginx->bodies('/get', 3)], ['a', 'a', 'a'], 'b is out of use');
        my $new = prober();
        isnt($new, $old, 'another process makes the checks');
        is_deeply([probers()], [$new], 'only one does');
        all_alive($nginx);
        is_deeply([$nginx->notices], [qq(cluster "up", server "$address{b}": from unchecked to err: status 503)],
            'nothing changed, so nothing was logged');
        ends_well($nginx);
        last if $took[-1] < 1;
    }
    note("from the death to the next check: @took s");
    cmp_ok(min(@took), '<', 1, 'the next check comes within a second') or diag("@took");
};

subtest 'another worker' => sub {
    my $nginx = with_checks(workers => 4);
    my $prober = prober();
    my $count = $backend->count('a');
    for my $pid (grep { $_ != $prober } $nginx->workers) {
        ok(murder($nginx, $pid), 'it is replaced');
    }
    is(prober(), $prober, 'the same worker makes the checks');
    ok($backend->wait_for('a', $count + 10), 'they go on');
    is($nginx->states('up'), 'ok err unchecked', 'the states');
    is_deeply([$nginx->bodies('/get', 3)], ['a', 'a', 'a'], 'b is out of use');
    all_alive($nginx);
    ends_well($nginx);
};

subtest 'all workers at once' => sub {
    my $nginx = with_checks(workers => 3);
    for (1 .. 3) {
        my $count = $backend->count('a');
        ok(murder($nginx, $nginx->workers), 'they are replaced');
        ok($backend->wait_for('a', $count + 5), 'checks go on');
        is($nginx->states('up'), 'ok err unchecked', 'the states');
        is_deeply([$nginx->bodies('/get', 3)], ['a', 'a', 'a'], 'b is out of use');
    }
    all_alive($nginx);
    ends_well($nginx);
};

# Every third is the one that makes the checks. Meanwhile there are requests, which
# may be lost with the worker that serves them, but with no other.
subtest 'thirty deaths' => sub {
    my $nginx = with_checks(workers => 3);
    my ($replaced, @wrong) = (0);
    for my $number (1 .. 30) {
        my @workers = $nginx->workers;
        my $pid = $number % 3 ? $workers[$number % 2 - 2] : prober();
        my @clients = map { $nginx->send_request('/get') } 1 .. 3;
        $replaced++ if murder($nginx, $pid);
        push @wrong, grep { $_ ne 'a' } $nginx->bodies('/get', 3);
        $nginx->answer($_) for @clients;
    }
    is($replaced, 30, 'each is replaced');
    is_deeply(\@wrong, [], 'requests after each are answered');
    my $count = $backend->count('a');
    ok($backend->wait_for('a', $count + 10), 'checks go on');
    is($nginx->states('up'), 'ok err unchecked', 'the states');
    is(scalar(probers()), 1, 'one worker makes them');
    all_alive($nginx);
    ok($nginx->reload, 'a reload is done');
    is($nginx->states('up'), 'ok err unchecked', 'the states');
    all_alive($nginx);
    ends_well($nginx);
};

# The rotation is shared: a death does not disturb it.
subtest 'the order' => sub {
    servers(A => '', B => '', C => '');
    my $nginx = NginxRunner->new(workers => 2, http => "upstream up {
        checkups_cluster; server $address{A}; server $address{B} weight=2; server $address{C} weight=3; }",
        server => 'location /get { proxy_pass http://up; }')->start;
    my $order = '';
    for (1 .. 4) {
        $order .= join '', $nginx->bodies('/get', 3);
        ok(murder($nginx, ($nginx->workers)[$_ % 2]), 'a worker is replaced');
    }
    is($order, 'CBACBCCBACBC', 'the order is as if none had died');
    ends_well($nginx);
};

# Requests that a dead worker had on a server are no requests any more.
subtest 'max_conns' => sub {
    servers(a => '| wait:200 wait:200 200', b => '');
    my $nginx = NginxRunner->new(workers => 2, http => "upstream up {
        checkups_cluster; server $address{a} max_conns=2; server $address{b} backup; }",
        server => 'location /get { proxy_pass http://up; }')->start;
    my @clients = map { $nginx->send_request('/get') } 1 .. 2;
    ok(wait_until(5, sub { @{ $backend->seen('a')->{requests} } == 2 }), 'two requests are under way');
    is_deeply([$nginx->bodies('/get', 2)], ['b', 'b'], 'there may be no more');
    ok(murder($nginx, $nginx->workers), 'their workers die');
    ok(wait_until(3, sub { join('', $nginx->bodies('/get', 1)) eq 'a' }), 'there may be others again');
    undef @clients;
    ends_well($nginx);
};

subtest 'a death between two reloads' => sub {
    my $nginx = with_checks(workers => 2);
    my $before = $nginx->status->{'cls:up'};
    for (1 .. 3) {
        ok(murder($nginx, prober()), 'worker 0 is replaced');
        ok($nginx->reload, 'a reload is done');
        is_deeply($nginx->status->{'cls:up'}, $before, 'what was known is known');
        ok(prober(), 'checks are made');
    }
    all_alive($nginx);
    ends_well($nginx);
};

# Not dead, but as good as. The kernel may wake that one for a new connection, and
# then nobody else: so a request may have to be made again.
subtest 'a worker that stands still' => sub {
    my $nginx = with_checks(workers => 2);
    my $patiently = sub {
        my $what = shift;
        return wait_until(10, sub { my $answer = eval { $what->() }; $answer ? [$answer] : undef })->[0];
    };
    my $status = sub { return $patiently->(sub { $nginx->status(timeout => 0.5) }) };
    my $pid = prober();
    $nginx->signal('STOP', $pid);
    ok(wait_until(8, sub { !$status->()->{checkup_timer_alive} }), 'nobody makes checks, and the status says so');
    ok(wait_until(8, sub { $status->()->{config_timer}{'worker-0'} eq 'dead' }), 'worker 0 counts as dead');
    is($status->()->{config_timer}{'worker-1'}, 'alive', 'worker 1 does not');
    my $body = $patiently->(sub { my $answer = $nginx->get('/get', timeout => 0.5); $answer->{code} && $answer->{body} });
    is($body, "a\n", 'and serves');
    $nginx->signal('CONT', $pid);
    all_alive($nginx);
    my $count = $backend->count('a');
    ok($backend->wait_for('a', $count + 5), 'checks go on');
    ends_well($nginx);
};

subtest 'a single process' => sub {
    servers(a => '200', b => '503', c => '503 200');
    my $nginx = NginxRunner->new(master => 'off', http => "upstream up {
            checkups_cluster;
            server $address{a}; server $address{b}; server $address{c};
            checkups_check http interval=20ms;
        }", server => 'location /get { proxy_pass http://up; }')->start;
    ok($nginx->wait_for_states(up => 'ok err ok'), 'checks are made');
    is_deeply([sort map { $nginx->bodies('/get', 1) } 1 .. 4], ['a', 'a', 'c', 'c'], 'b is out of use');
    is_deeply($nginx->status->{config_timer}, { 'worker-0' => 'alive' }, 'it counts as worker 0');
    ok($nginx->status->{checkup_timer_alive}, 'that makes checks');
    ends_well($nginx);
};

done_testing();
