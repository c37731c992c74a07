# Upstreams that nginx balances: how soon a verdict counts, what of nginx keeps its
# meaning, and what happens over reloads and deaths of workers.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use PlayedServers;
use StockWorkers;
use Test::More;
use Time::HiRes qw(sleep);

my $check = 'checkups_check http interval=20ms timeout=30s;';
my %zones = ('without zone' => '', 'with zone' => 'zone up 64k;');

# Runs the same without and with a zone, which is $_[0].
sub both {
    my ($name, $test) = @_;
    for my $zone (sort keys %zones) {
        subtest "$name, $zone" => sub { $test->($zones{$zone}) };
    }
    return;
}

sub which { return join ' ', sort keys %{ { @_ } } }

sub counted { return scalar @{ backend->seen($_[0])->{requests} } }

both 'within one interval' => sub {
    my $zone = shift;
    my $interval = 0.3;
    servers(map { $_ => '200' } 'a', 'b');
    my $nginx = stock(http => block(up => "$zone server \@a; server \@b; checkups_check http interval=300ms timeout=5s;"));
    my @workers = workers_of($nginx);
    settled($nginx, a => 'ok', b => 'ok');
    my $enough = $nginx->clients(4, '/get', qr/^[ab]$/m);
    my $start = backend->seen('a')->{checks}[-1];
    backend->checks(a => '503');
    sleep 3 * $interval;
    my %lost = map { $_ => 1 } grep { $_ ne 'a' && $_ ne 'b' } keys %{ { asked(\@workers, 20) } };
    is_deeply([keys %lost], [], 'all requests are answered');
    my ($made, @failed) = (0);
    for my $client ($enough->()) {
        $made += $client->[0];
        push @failed, @{ $client->[1] };
    }
    is_deeply(\@failed, [], 'those of other clients, too');
    my $seen = backend->seen('a');
    my $failed_at = $seen->{checks}[-1];
    my ($first) = grep { $_ > $start + 0.001 } @{ $seen->{checks} };
    cmp_ok($seen->{requests}[-1] - $first, '<', $interval, "of $made none came to it later than an interval after its check");
    cmp_ok($failed_at, '>', $first, 'it is checked on');
    ends_well($nginx);
};

both 'what the operator has put down' => sub {
    my $zone = shift;
    servers(map { $_ => '200' } 'a', 'b', 'c');
    my $nginx = stock(http => block(up => "$zone server \@a down; server \@b; server \@c; $check"));
    my @workers = workers_of($nginx);
    settled($nginx, a => 'unchecked', b => 'ok', c => 'ok');
    is(which(asked(\@workers, 10)), 'b c', 'is not used');
    backend->checks(b => '503');
    settled($nginx, a => 'unchecked', b => 'err', c => 'ok');
    is(which(asked(\@workers, 10)), 'c', 'nor where another fails');
    backend->checks(c => '503');
    settled($nginx, a => 'unchecked', b => 'unstable', c => 'unstable');
    is(which(asked(\@workers, 10)), 'b c', 'nor where all others fail');
    backend->checks($_ => '200') for 'b', 'c';
    settled($nginx, a => 'unchecked', b => 'ok', c => 'ok');
    is(which(asked(\@workers, 10)), 'b c', 'nor where they come back');
    is(backend->count('a'), 0, 'it is not checked');
    ends_well($nginx);
};

for my $method ('', 'least_conn;') {
    both 'backup' . ($method && ", $method") => sub {
        my $zone = shift;
        servers(map { $_ => '200' } 'a', 'b', 'c');
        my $nginx = stock(http => block(up => "$method $zone server \@a; server \@b; server \@c backup; $check"));
        my @workers = workers_of($nginx);
        settled($nginx, map { $_ => 'ok' } 'a', 'b', 'c');
        is(which(asked(\@workers, 10)), 'a b', 'the backup is not used');
        backend->checks(a => '503');
        settled($nginx, a => 'err', b => 'ok', c => 'ok');
        is(which(asked(\@workers, 10)), 'b', 'nor where one fails');
        backend->checks(b => '503');
        settled($nginx, a => 'err', b => 'err', c => 'ok');
        is(which(asked(\@workers, 10)), 'c', 'it is where both fail');
        backend->checks(c => '503');
        settled($nginx, map { $_ => 'unstable' } 'a', 'b', 'c');
        is(which(asked(\@workers, 10)), 'a b', 'where all fail the others come first');
        backend->checks(a => '200');
        settled($nginx, a => 'ok', b => 'err', c => 'err');
        is(which(asked(\@workers, 10)), 'a', 'and back');
        ends_well($nginx);
    };
}

# A request that may not go to another server has the answer of the last one; one
# that finds no other has nginx's 502. So the answer tells how many there may be.
both 'how many servers a request may try' => sub {
    my $zone = shift;
    servers(a => '200 | 503', b => '200 | 503', c => '200 | 503');
    my $nginx = stock(
        http => block(up => "$zone server \@a max_fails=0; server \@b max_fails=0; server \@c max_fails=0; $check"),
        server => 'proxy_next_upstream http_503; location /tried { proxy_pass http://up; add_header X-Addr $upstream_addr always; }',
    );
    my @workers = workers_of($nginx);
    my $tried = sub {
        my @seen;
        for my $worker (@workers) {
            my ($code, undef, $head) = ask($worker, '/tried');
            my ($addresses) = $head =~ /^X-Addr: (.*?)\r?$/m;
            push @seen, "$code " . scalar(split /, /, $addresses // '');
        }
        return join ', ', @seen;
    };
    settled($nginx, map { $_ => 'ok' } 'a', 'b', 'c');
    is($tried->(), join(', ', ('503 3') x 4), 'all three');
    for my $round (1 .. 3) {
        backend->checks(a => '500');
        settled($nginx, a => 'err', b => 'ok', c => 'ok');
        is($tried->(), join(', ', ('503 2') x 4), 'two');
        backend->checks(b => '500');
        settled($nginx, a => 'err', b => 'err', c => 'ok');
        is($tried->(), join(', ', ('503 1') x 4), 'one');
        backend->checks($_ => '200') for 'a', 'b';
        settled($nginx, map { $_ => 'ok' } 'a', 'b', 'c');
        is($tried->(), join(', ', ('503 3') x 4), 'and all three again');
    }
    ends_well($nginx);
};

both 'protected=' => sub {
    my $zone = shift;
    for my $case (['all', 'unstable unstable', 'a b'], ['one', 'unstable err', 'a'], ['off', 'err err', '502']) {
        my ($protected, $states, $answers) = @$case;
        servers(a => '200 200 200 wait:503 hang', b => 'wait:503 hang');
        my $nginx = stock(http => block(up => "$zone server \@a; server \@b; checkups_check http interval=20ms timeout=30s protected=$protected;"));
        my @workers = workers_of($nginx);
        release(b => 1);
        settled($nginx, a => 'ok', b => 'err');
        release(a => 4);
        my ($of_a, $of_b) = split ' ', $states;
        now_known($nginx, up => "a $of_a 1 status 503", "b $of_b 1 status 503");
        is(which(asked(\@workers, 4)), $answers, "protected=$protected: $answers");
        ends_well($nginx);
    }
};

both 'a single server' => sub {
    my $zone = shift;
    servers(a => '200', b => '200');
    my $nginx = stock(http => block(up => "$zone server \@a; $check"));
    my @workers = workers_of($nginx);
    settled($nginx, a => 'ok');
    is(which(asked(\@workers, 4)), 'a', 'is used');
    backend->checks(a => '503');
    settled($nginx, a => 'unstable');
    is(which(asked(\@workers, 4)), 'a', 'and when it fails, too');
    ends_well($nginx);

    servers(a => '200', b => '200');
    $nginx = stock(http => block(up => "$zone server \@a; server \@b backup; $check"));
    @workers = workers_of($nginx);
    settled($nginx, a => 'ok', b => 'ok');
    is(which(asked(\@workers, 4)), 'a', 'a single one with a backup is used');
    backend->checks(a => '503');
    settled($nginx, a => 'err', b => 'ok');
    is(which(asked(\@workers, 4)), 'b', 'and when it fails, the backup is');
    ends_well($nginx);
};

# Equal addresses are checked once, and are out of use together.
both 'equal addresses, and other families' => sub {
    my $zone = shift;
    servers(a => '200', b => '200');
    my $unix = backend->add('u', kind => 'unix', checks => ['200']);
    my $nginx = stock(http => block(up => "$zone server \@a; server \@a weight=2; server \@b; server $unix; $check"));
    my @workers = workers_of($nginx);
    ok($nginx->wait_for_states(up => 'ok ok ok ok'), 'all pass');
    is(which(asked(\@workers, 20)), 'a b u', 'all are used');
    backend->checks(a => '503');
    ok($nginx->wait_for_states(up => 'err err ok ok'), 'both lines fail');
    is(which(asked(\@workers, 20)), 'b u', 'both are out of use');
    backend->checks(u => '503');
    ok($nginx->wait_for_states(up => 'err err ok err'), 'the unix socket as well');
    is(which(asked(\@workers, 20)), 'b', 'it is out of use');
    backend->checks($_ => '200') for 'a', 'u';
    ok($nginx->wait_for_states(up => 'ok ok ok ok'), 'all pass again');
    is(which(asked(\@workers, 20)), 'a b u', 'all are used again');
    ends_well($nginx);
};

both 'mandatory: nothing before the first passed check' => sub {
    my $zone = shift;
    servers(a => 'wait:200 200', b => 'wait:200 200');
    my $nginx = stock(http => block(up => "$zone server \@a; server \@b; checkups_check http interval=20ms timeout=30s mandatory;"));
    my @workers = workers_of($nginx);
    settled($nginx, a => 'checking', b => 'checking');
    is(which(asked(\@workers, 4)), '502', 'none is used');
    release(b => 1);
    settled($nginx, a => 'checking', b => 'ok');
    is(which(asked(\@workers, 4)), 'b', 'the one that has passed');
    release(a => 1);
    settled($nginx, a => 'ok', b => 'ok');
    is(which(asked(\@workers, 4)), 'a b', 'both');
    ends_well($nginx);
};

# The servers are locations of the same nginx, so that they keep connections. A file says which fails.
for my $order ('keepalive 8; least_conn;', 'least_conn; keepalive 8;', 'keepalive 8;') {
    both "kept connections, $order" => sub {
        my $zone = shift;
        servers();
        my %port = map { $_ => NginxRunner::free_port() } 'a', 'b';
        my $servers = join '', map { <<"END" } sort keys %port;
            server {
                listen 127.0.0.1:$port{$_};
                location / { return 200 "$_\\n"; }
                location /check { if (-f fails_$_) { return 503; } return 200; }
            }
END
        my $nginx = NginxRunner->new(workers => 4);
        my $root = $nginx->root;
        $servers =~ s/-f fails/-f $root\/fails/g;
        $nginx->{http} = "$servers upstream up {
            $zone $order server 127.0.0.1:$port{a}; server 127.0.0.1:$port{b};
            checkups_check http uri=/check interval=20ms;
        }";
        $nginx->{server} = locations()
            . 'location /kept { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection ""; }';
        $nginx->start;
        my @workers = workers_of($nginx);
        ok($nginx->wait_for_states(up => 'ok ok'), 'both pass');
        is(which(asked(\@workers, 6, '/kept')), 'a b', 'both are used');
        { open my $fails, '>', "$root/fails_a" or die "fails_a: $!" }
        ok($nginx->wait_for_states(up => 'err ok'), 'one fails');
        is(which(asked(\@workers, 6, '/kept')), 'b', 'it gets nothing over connections that are there');
        unlink "$root/fails_a" or die "fails_a: $!";
        ok($nginx->wait_for_states(up => 'ok ok'), 'it passes');
        is(which(asked(\@workers, 6, '/kept')), 'a b', 'both are used again');
        ends_well($nginx);
    };
}

both 'a reload keeps what is known' => sub {
    my $zone = shift;
    servers(a => '503 hang', b => '200', c => '200');
    my $nginx = stock(http => block(up => "least_conn; $zone server \@a; server \@b; $check"));
    settled($nginx, a => 'err', b => 'ok');
    for my $round (1 .. 3) {
        is(scalar(my @new = $nginx->reload), 4, 'four new workers');
        is(which(asked([workers_of($nginx)], 10)), 'b', 'one that has failed stays out of use');
    }
    $nginx->reload(http => block(up => "$zone server \@c; server \@b; server \@a; $check"));
    is(which(asked([workers_of($nginx)], 10)), 'b c', 'where the block is another one, too');
    is(counted('a'), 0, 'nothing came to it');
    $nginx->reload(http => block(up => "$zone server \@a; server \@b; checkups_check off;"));
    is(which(asked([workers_of($nginx)], 10)), 'a b', 'without checks it is used');
    ends_well($nginx);
};

both 'from nginx to checkups and back' => sub {
    my $zone = shift;
    servers(a => '503 hang', b => '200');
    my $nginx = stock(http => block(up => "$zone server \@a; server \@b; $check"));
    settled($nginx, a => 'err', b => 'ok');
    $nginx->reload(http => block(up => "checkups_cluster; server \@a; server \@b; $check"));
    is(which(asked([workers_of($nginx)], 10)), 'b', 'what has failed is out of use with checkups_cluster');
    $nginx->reload(http => block(up => "$zone server \@a; server \@b; $check"));
    is(which(asked([workers_of($nginx)], 10)), 'b', 'and without it');
    ends_well($nginx);
};

both 'deaths of workers' => sub {
    my $zone = shift;
    servers(a => '200', b => '200');
    my $nginx = stock(http => block(up => "$zone server \@a; server \@b; $check"));
    settled($nginx, a => 'ok', b => 'ok');
    backend->checks(a => '503');
    settled($nginx, a => 'err', b => 'ok');
    for my $pid ($nginx->workers) {
        $nginx->signal('KILL', $pid);
        ok(wait_until(5, sub { my @now = $nginx->workers; @now == 4 && !grep { $_ == $pid } @now }), 'there is another worker');
        is(which(asked([workers_of($nginx)], 10)), 'b', 'it knows what has failed');
    }
    # One of them made the checks.
    backend->checks(a => '200');
    settled($nginx, a => 'ok', b => 'ok');
    is(which(asked([workers_of($nginx)], 10)), 'a b', 'what passes is used');
    backend->checks(b => '503');
    settled($nginx, a => 'ok', b => 'err');
    is(which(asked([workers_of($nginx)], 10)), 'a', 'and what fails is not');
    ends_well($nginx, qr/exited on signal 9$/);
};

# A client with the cookie of a server.
both 'sticky' => sub {
    my $zone = shift;
    plan skip_all => 'sticky came with nginx 1.29.6' if version_of() < 1_029_006;
    for my $line ('server @a', 'server @a drain') {
        servers(map { $_ => '200' } 'a', 'b', 'c');
        my $text = "$zone sticky cookie srv; server \@b; server \@c; $check";
        my $nginx = stock(http => block(up => "server \@a; $text"));
        my @workers = workers_of($nginx);
        settled($nginx, map { $_ => 'ok' } 'a', 'b', 'c');
        my $cookie;
        for my $number (1 .. 20) {
            my (undef, $body, $head) = ask($workers[0], '/get');
            ($cookie) = $head =~ /^Set-Cookie: (srv=\w+)/m if $body eq 'a';
        }
        ok($cookie, 'there is a cookie of a');
        my $stuck = sub { return join ' ', map { (ask($_, '/get', "Cookie: $cookie"))[1] } @workers, @workers };
        is($stuck->(), 'a a a a a a a a', 'with it the requests go to a');
        if ($line =~ /drain/) {
            $nginx->reload(http => block(up => "$line; $text"));
            @workers = workers_of($nginx);
            is(which(asked(\@workers, 6)), 'b c', 'without it they do not, while it is drained');
            is($stuck->(), 'a a a a a a a a', 'with it they do');
        }
        backend->checks(a => '503');
        settled($nginx, a => 'err', b => 'ok', c => 'ok');
        unlike($stuck->(), qr/a|\s\s/, 'one that fails is left all the same');
        backend->checks(a => '200');
        settled($nginx, map { $_ => 'ok' } 'a', 'b', 'c');
        is($stuck->(), 'a a a a a a a a', 'and they go back');
        is(which(asked(\@workers, 6)), 'b c', 'drained as before') if $line =~ /drain/;
        ends_well($nginx);
    }
};

subtest 'the default of the http block' => sub {
    servers(map { $_ => '200' } 'a', 'b', 'c', 'd');
    my $nginx = stock(
        http => "checkups_check http interval=20ms timeout=30s;" . block(up => 'server @a; server @b;')
            . block(off => 'server @c; checkups_check off;') . block(cluster => 'checkups_cluster; server @a; server @d;'),
        server => 'location /off { proxy_pass http://off; } location /implicit { proxy_pass http://' . address('c') . '; }',
    );
    settled($nginx, a => 'ok', b => 'ok');
    is($nginx->states('cluster'), 'ok ok', 'with checkups_cluster, too') if $nginx->wait_for_states(cluster => 'ok ok');
    is(backend->count('c'), 0, 'off is off, and what proxy_pass makes an upstream of is not checked');
    is_deeply([$nginx->servers('off')], [], 'nor is it in the status');
    backend->checks(a => '503');
    settled($nginx, a => 'err', b => 'ok');
    is(which(asked([workers_of($nginx)], 4)), 'b', 'it is as if it stood in the upstream');
    is_deeply([$nginx->bodies('/implicit', 2), $nginx->bodies('/off', 2)], [('c') x 4], 'the others work');
    ends_well($nginx);
};

subtest 'two upstreams with the same servers' => sub {
    servers(map { $_ => '200' } 'a', 'b', 'c');
    my $nginx = stock(
        http => join('', map { block($_ => "zone both 128k; server \@a; server \@b; server \@c; $check") } 'up', 'other'),
        server => 'location /other { proxy_pass http://other; } location /more { proxy_pass http://up; }',
    );
    my @workers = workers_of($nginx);
    settled($nginx, map { $_ => 'ok' } 'a', 'b', 'c');
    backend->checks(b => '503');
    settled($nginx, a => 'ok', b => 'err', c => 'ok');
    ok($nginx->wait_for_states(other => 'ok err ok'), 'the other knows it, too');
    is(which(asked(\@workers, 9, $_)), 'a c', "$_: not the one that fails") for '/get', '/more', '/other';
    ends_well($nginx);
};

subtest 'checkups_server' => sub {
    servers(map { $_ => '200' } 'a', 'b', 'c');
    my $port = (split /:/, address('c'))[1];
    my $nginx = stock(http => block(up => "server \@a; server \@b; $check checkups_server \@a check_port=$port check_host=x.y; checkups_server \@b check=off;"));
    settled($nginx, a => 'ok', b => 'unchecked');
    like(backend->seen('c')->{last}, qr/^Host: x\.y\r$/m, 'another port, and another host');
    is(backend->count($_), 0, "$_ itself is not checked") for 'a', 'b';
    backend->checks(c => '503');
    settled($nginx, a => 'err', b => 'unchecked');
    is(which(asked([workers_of($nginx)], 4)), 'b', 'one that is not checked is used');
    ends_well($nginx);
};

done_testing();
