# Prometheus' exporter for NGINX Plus: what it makes of the API, to the number.
#
# The servers are played by t/lib/NginxBackend.pm. Where a list of answers ends in
# "hang", no check of the server comes to an end any more: its figures stay.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Backends ();
use File::Temp ();
use JSON::PP ();
use NginxBackend;
use NginxRunner;
use RealServers;
use Test::More;

my $backend = NginxBackend->start;
my %address;

# Servers by these names: name => "words for checks | words for requests".
sub servers {
    my %words = @_;
    $backend->forget;
    %address = ();
    for my $name (sort keys %words) {
        my ($checks, $requests) = map { [split] } split /\|/, $words{$name};
        $address{$name} = $backend->add($name, checks => $checks // [], requests => $requests // []);
    }
    return;
}

sub addressed { return $_[0] =~ s/\@(\w+)/$address{$1}/gr }

my $server = 'location / { proxy_pass http://up; } location /plus { checkups_api write=on; }';
my $number = 0;

# nginx with this upstream, and the port of an exporter that watches it.
sub watched {
    my ($upstream, %as) = @_;
    my $nginx = NginxRunner->new(
        server => $server, http => addressed("upstream up { checkups_cluster; $upstream }\n"), %as,
    )->start;
    return ($nginx, plus_exporter('EXPORTER_' . ++$number, uri($nginx)));
}

sub uri { return 'http://127.0.0.1:' . $_[0]->port . '/plus' }

sub change {
    my ($nginx, $method, $path, $body) = @_;
    my $answer = Backends::ask("/plus/$path", port => $nginx->port, method => $method, body => addressed($body // ''));
    return "$answer->{code} $answer->{body}";
}

sub metrics_text {
    my $port = shift;
    my $answer = Backends::ask('/metrics', port => $port);
    die "no metrics: $answer->{code} $answer->{body}\n" if $answer->{code} ne '200';
    return $answer->{body};
}

# What the exporter says, with the value of the label "code" behind the name: of nginx, of the
# upstream, and of its servers by their names here. "nginxplus_", "upstream_" and "server_" are
# left out.
sub metrics {
    my %name = map { $address{$_} => $_ } keys %address;
    my $said = { nginx => {}, upstream => {}, servers => {} };
    for my $line (split /\n/, metrics_text(shift)) {
        my ($metric, $labels, $value) = $line =~ /\Anginxplus_(\w+)(?:\{(.*)\})? (\S+)\z/ or next;
        my %labels = ($labels // '') =~ /(\w+)="([^"]*)"/g;
        my $of = $metric !~ s/\Aupstream_// ? $said->{nginx}
            : $metric !~ s/\Aserver_// ? $said->{upstream}
            : $said->{servers}{ $name{ $labels{server} } // $labels{server} } //= {};
        $of->{ join ' ', $metric, $labels{code} // () } = $value + 0;
    }
    return $said;
}

# Waits until the metrics of a server have these values.
sub wait_for_metrics {
    my ($port, $name, %wanted) = @_;
    my $last = {};
    my $held = wait_until(10, sub {
        $last = metrics($port)->{servers}{$name} // {};
        return !grep { ($last->{$_} // 'none') != $wanted{$_} } keys %wanted;
    });
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($held, "$name: " . join ', ', map { "$_ $wanted{$_}" } sort keys %wanted)
        or diag(join ', ', map { "$_ " . ($last->{$_} // 'none') } sort keys %wanted);
    return;
}

sub requests {
    my $servers = metrics(shift)->{servers};
    return { map { $_ => $servers->{$_}{requests} } keys %$servers };
}

# The exit status of "promtool check metrics", and the lines that it says.
sub promtool {
    my $text = shift;
    my $input = File::Temp->new;
    print $input $text;
    close $input or die "close: $!";
    my @said = `promtool check metrics 2>&1 <$input`;
    return ($? >> 8, @said);
}

# The value that Prometheus has for a query, "" where it has none.
sub answer_of {
    my ($port, $query) = @_;
    my $escaped = $query =~ s/([^\w.~-])/sprintf '%%%02X', ord $1/ger;
    my $answer = Backends::ask("/api/v1/query?query=$escaped", port => $port);
    my $result = JSON::PP::decode_json($answer->{body})->{data}{result} // [];
    return @$result == 1 ? $result->[0]{value}[1] : '';
}

sub ends_well {
    my $nginx = shift;
    ok(defined $nginx->stop, 'nginx stops');
    is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
    return;
}

subtest 'the figures of two servers' => sub {
    servers(
        a => '200 200 hang | 200 200 201 404 503 404',
        b => '200 503 200 hang | 200 500 close',
    );
    my ($nginx, $port) = watched(
        'server @a weight=2 max_conns=7; server @b max_fails=0; checkups_check http interval=20ms timeout=30s fails=2;',
        workers => 2);
    ok($backend->wait_for('a', 3) && $backend->wait_for('b', 4), 'the checks have come');
    # The last request of b is made once more, to a.
    my %codes;
    $codes{ $nginx->get('/')->{code} }++ for 1 .. 8;
    is_deeply(\%codes, { 200 => 3, 201 => 1, 404 => 2, 500 => 1, 503 => 1 }, 'what the clients got');

    my $metrics = metrics($port);
    my %shown = %{ $metrics->{servers} };
    is_deeply($metrics->{upstream}, { keepalives => 0, zombies => 0 }, 'nginx does not tell');
    is_deeply([sort keys %shown], ['a', 'b'], 'two servers');
    for my $name ('a', 'b') {
        my $figures = $shown{$name};
        cmp_ok(delete $figures->{$_}, '>', 0, "$name: $_") for qw(sent received);
        # Of a server on this machine they may well be 0.
        my @times = map { delete $figures->{$_} } qw(header_time response_time);
        cmp_ok($times[0], '<=', $times[1], "$name: the header comes before the end");
        cmp_ok($times[1], '<', 5000, "$name: times are in milliseconds");
    }
    my @classes = map { "responses ${_}xx" } 1 .. 5;
    my %common = (
        state => 1, active => 0, unavail => 0, health_checks_unhealthy => 0,
        ssl_handshakes => 0, ssl_handshakes_failed => 0, ssl_session_reuses => 0, map { $_ => 0 } @classes,
    );
    # The exporter has a line for each code that it knows.
    for my $figures (@shown{ 'a', 'b' }) {
        delete $figures->{$_} for grep { /^responses_codes/ && !$figures->{$_} } keys %$figures;
    }
    is_deeply($shown{a}, {
        %common, limit => 7, requests => 6, fails => 0, health_checks_checks => 2, health_checks_fails => 0,
        'responses 2xx' => 3, 'responses 4xx' => 2, 'responses 5xx' => 1,
        'responses_codes 200' => 2, 'responses_codes 201' => 1, 'responses_codes 404' => 2, 'responses_codes 503' => 1,
    }, 'all that is said of a');
    is_deeply($shown{b}, {
        %common, limit => 0, requests => 3, fails => 1, health_checks_checks => 3, health_checks_fails => 1,
        'responses 2xx' => 1, 'responses 5xx' => 1, 'responses_codes 200' => 1, 'responses_codes 500' => 1,
    }, 'all that is said of b');

    ok($nginx->reload, 'a reload');
    my $after = metrics($port)->{servers};
    my @kept = ('requests', 'responses 2xx', 'fails', 'health_checks_checks', 'health_checks_fails');
    is_deeply({ map { $_ => $after->{$_}{requests} } keys %$after }, { a => 6, b => 3 }, 'requests are counted on');
    is_deeply([@{ $after->{$_} }{@kept}], [@{ $shown{$_} }{@kept}], "$_: all else, too") for 'a', 'b';
    ends_well($nginx);
};

subtest 'the states' => sub {
    servers(
        up        => '200 hang | 200',
        draining  => '200 hang | 200',
        down      => '200 hang | 200',
        unavail   => '200 hang | close',
        checking  => 'hang | 200',
        unhealthy => '503 hang | 200',
    );
    my ($nginx, $port) = watched(
        'server @up; server @draining; server @down down; server @unavail max_fails=1 fail_timeout=1h;'
        . ' server @checking; server @unhealthy; checkups_check http interval=20ms timeout=30s mandatory;');
    ok($backend->wait_for($_, 2), "$_: checked") for qw(up draining unavail unhealthy);
    ok($backend->wait_for('checking', 1), 'checking: a check is under way');
    like(change($nginx, PATCH => '8/http/upstreams/up/servers/1', '{"drain":true}'), qr/\A200 /, 'one is drained');
    is_deeply([$nginx->bodies('/', 6)], [('up') x 6], 'one works');

    my $shown = metrics($port)->{servers};
    my %states = (up => 1, draining => 2, down => 3, unavail => 4, checking => 5, unhealthy => 6);
    is_deeply({ map { $_ => $shown->{$_}{state} } keys %states }, \%states, 'each has its own');
    is_deeply({ map { $_ => $shown->{$_}{requests} } keys %states },
        { (map { $_ => 0 } keys %states), up => 6, unavail => 1 }, 'requests');
    is_deeply([@{ $shown->{unavail} }{qw(fails unavail)}], [1, 1], 'one failed, and was out of use from then on');
    is_deeply([@{ $shown->{unhealthy} }{qw(health_checks_checks health_checks_fails health_checks_unhealthy)}], [1, 1, 1],
        'one has failed its check');
    is_deeply([grep { /health_checks/ } keys %{ $shown->{checking} }], [],
        'no check of another one has come to its end: then the exporter leaves these out');
    ends_well($nginx);
};

subtest 'requests that are under way' => sub {
    servers(a => '| wait:200');
    my ($nginx, $port) = watched('server @a;');
    my @clients = map { $nginx->send_request('/') } 1 .. 3;
    wait_for_metrics($port, 'a', active => 3, requests => 3, 'responses 2xx' => 0);
    $backend->release('a');
    is_deeply([map { $nginx->answer($_)->{code} } @clients], [200, 200, 200], 'they end');
    wait_for_metrics($port, 'a', active => 0, requests => 3, 'responses 2xx' => 3);
    ends_well($nginx);
};

# The exporter has one connection, which it keeps, and makes the same requests each time.
subtest 'the figures of nginx' => sub {
    servers(a => '| 200');
    my ($nginx, $port) = watched('server @a;');
    my $first = metrics($port)->{nginx};
    is($first->{up}, 1, 'nginx is there');
    is($first->{connections_active}, 1, 'the exporter itself is a connection');
    is($first->{http_requests_current}, 1, 'with a request');
    is($first->{$_}, 0, $_) for qw(connections_dropped connections_idle ssl_handshakes ssl_handshakes_failed ssl_session_reuses);
    my $own = metrics($port)->{nginx}{http_requests_total} - $first->{http_requests_total};
    cmp_ok($own, '>', 0, 'its requests are counted');

    my @idle = map { Backends::connect_to($nginx->port)->request('/') } 1 .. 5;
    is(join(' ', map { $_->answer->{code} } @idle), '200 200 200 200 200', 'five requests, each on its own connection');
    my $then = metrics($port)->{nginx};
    is_deeply($then, {
        %$first, connections_accepted => $first->{connections_accepted} + 5, connections_idle => 5,
        http_requests_total => $first->{http_requests_total} + 2 * $own + 5,
    }, 'they are counted, and nothing else');
    undef @idle;
    ok(wait_until(10, sub { metrics($port)->{nginx}{connections_idle} == 0 }), 'the five are closed');
    ends_well($nginx);
};

subtest 'servers come and go, and so does nginx' => sub {
    servers(a => '| 200', b => '| 200');
    my ($nginx, $port) = watched('server @a;');
    is_deeply([$nginx->bodies('/', 2)], ['a', 'a'], 'two requests');
    like(change($nginx, POST => '8/http/upstreams/up/servers/', '{"server":"@b"}'), qr/\A201 /, 'a server is added');
    is_deeply([sort $nginx->bodies('/', 2)], ['a', 'b'], 'two more');
    is_deeply(requests($port), { a => 3, b => 1 }, 'both are watched');
    like(change($nginx, DELETE => '8/http/upstreams/up/servers/0'), qr/\A200 /, 'the other one is removed');
    is_deeply(requests($port), { b => 1 }, 'one is left, with its figures');
    like(change($nginx, DELETE => '8/http/upstreams/up'), qr/\A204 /, 'a reset');
    is_deeply(requests($port), { b => 0 }, 'they begin anew');

    ends_well($nginx);
    is_deeply(metrics($port), { nginx => { up => 0 }, upstream => {}, servers => {} }, 'nginx is not there');
    $nginx->start;
    is(metrics($port)->{nginx}{up}, 1, 'nginx is there again');
    is_deeply(requests($port), { a => 0 }, 'as it is configured');
    ends_well($nginx);
};

subtest 'an upstream that nginx balances' => sub {
    servers(a => '200 200 hang | 200', b => '503 hang | 200');
    my ($nginx, $port) = watched('', http => addressed(
        'upstream up { zone up 64k; server @a; server @b; checkups_check http interval=20ms timeout=30s; }'));
    ok($backend->wait_for('a', 3) && $backend->wait_for('b', 2), 'the checks have come');
    my $shown = metrics($port)->{servers};
    is_deeply([@{ $shown->{a} }{qw(state health_checks_checks health_checks_fails)}], [1, 2, 0], 'a is up');
    is_deeply([@{ $shown->{b} }{qw(state health_checks_checks health_checks_fails health_checks_unhealthy)}], [6, 1, 1, 1],
        'b is unhealthy');
    ends_well($nginx);
};

# promtool has a word on names, and then ends with 3: these are the exporter's, whatever it watches.
subtest 'promtool and Prometheus take it' => sub {
    servers(a => '200 hang | 200 404', b => '503 hang | 200');
    my ($nginx, $port) = watched('server @a; server @b; checkups_check http interval=20ms timeout=30s;');
    ok($backend->wait_for('a', 2) && $backend->wait_for('b', 2), 'the checks have come');
    is_deeply([$nginx->bodies('/', 2)], ['a', '404'], 'two requests');

    my $text = metrics_text($port);
    my ($status, @said) = promtool($text);
    is($status, @said ? 3 : 0, 'promtool has read it') or diag(@said);
    is_deeply([grep { !/\Anginxplus_\w+ counter metrics should have "_total" suffix\n\z/ } @said], [],
        'and would only have other names');
    ($status) = promtool("$text\nnginxplus_up 1 1 1 1\n");
    is($status, 1, 'it does not take anything');

    my $prometheus = prometheus('PROMETHEUS', $port);
    my %wanted = (
        'up{job="nginx"}' => 1, nginxplus_up => 1,
        'sum(nginxplus_upstream_server_requests{upstream="up"})' => 2,
        qq(nginxplus_upstream_server_requests{server="$address{a}"}) => 2,
        qq(nginxplus_upstream_server_responses{server="$address{a}",code="4xx"}) => 1,
        'count(nginxplus_upstream_server_state == 6)' => 1,
    );
    for my $query (sort keys %wanted) {
        my $found;
        wait_until(10, sub { ($found = answer_of($prometheus, $query)) eq $wanted{$query} });
        is($found, $wanted{$query}, "Prometheus knows: $query");
    }
    ends_well($nginx);
};

done_testing();
