# Debian's Go client of the API of NGINX Plus (version 8): what each call of it does, and returns.
#
# The servers are played by t/lib/NginxBackend.pm, the calls are made by t/lib/go_client/main.go.
# Where a list of answers ends in "hang", no check of the server comes to an end any more.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use GoClient;
use JSON::PP ();
use NginxBackend;
use NginxRunner;
use Test::More;

my $lacks = GoClient->lacks;
plan skip_all => "not a Debian, and $lacks" if $lacks;

my $backend = NginxBackend->start;
my $json = JSON::PP->new->canonical->allow_nonref;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $time = qr/\A20\d\d-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-6]\d\.\d{3}Z\z/;

my ($nginx, $go, %address, %name);

#-- nginx -------------------------------------------------------------------

# Servers a to h. Where it is said how they answer, by words for checks | words for requests.
sub servers {
    my %words = @_;
    $backend->forget;
    %address = map {
        my ($checks, $requests) = map { [split] } split /\|/, $words{$_} // '';
        $_ => $backend->add($_, checks => $checks // [], requests => $requests // []);
    } 'a' .. 'h';
    %name = reverse %address;
    return;
}

# Upstream "up" with these lines.
sub http { return "upstream up { checkups_cluster; $_[0] }\n" =~ s/\@(\w)\b/$address{$1}/gr }

# Runs nginx so, and a client for it; more => other blocks, servers => how they answer.
sub begin {
    my ($lines, %as) = @_;
    servers(%{ $as{servers} // {} });
    my $more = ($as{more} // '') =~ s/\@(\w)\b/$address{$1}/gr;
    my $server = 'location / { proxy_pass http://up; } location /plus { checkups_api write=on; } location /read { checkups_api; }';
    $nginx = NginxRunner->new(workers => 2, http => http($lines) . $more, server => $server)->start;
    $go = GoClient->start;
    my ($failed) = $go->call(NewNginxClient => uri('plus'));
    die "no client: $failed\n" if defined $failed;
    return;
}

sub uri { return 'http://127.0.0.1:' . $nginx->port . "/$_[0]" }

sub ends_well {
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop, 'nginx stops');
    is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
    return;
}

# The version of the upstream, which is another one after each change, by the API of checkups.
sub version {
    my $answer = $nginx->get('/plus/clusters/up');
    die "no version: $answer->{code} $answer->{body}\n" if $answer->{code} ne '200';
    return $json->decode($answer->{body})->{version};
}

# Who answers so many requests, in the order of the alphabet.
sub sorted { return join '', sort $nginx->bodies('/', shift) }

#-- Calls -------------------------------------------------------------------

# Has the client make a call, which has to go well. Returns what it returns.
sub calls {
    my @call = @_;
    my ($failed, @results) = $go->call(@call);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($failed, undef, "$call[0] goes well");
    return wantarray ? @results : $results[0];
}

# Has it make a call that has to fail with this text, and to change nothing.
sub fails {
    my ($text, @call) = @_;
    my $before = $nginx->get('/plus/clusters')->{body};
    my ($failed) = $go->call(@call);
    my $name = $json->encode(\@call);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(defined $failed ? $failed =~ s/request_id=[0-9a-f]{32};/request_id=ID;/r : undef, $text, "$name fails");
    is($nginx->get('/plus/clusters')->{body}, $before, 'and changes nothing');
    return;
}

# How the client tells of an answer that is an error.
sub refusal {
    my ($wanted, $status, $code, $text) = @_;
    return "expected $wanted response, got $status. error.status=$status; error.text=$text; error.code=$code; request_id=ID; "
        . 'href=https://nginx.org/en/docs/http/ngx_http_api_module.html';
}

sub not_got     { return refusal(200, @_) }
sub not_created { return refusal(201, @_) }
sub not_patched { return 'failed to complete patch request: ' . refusal(200, @_) }
sub not_deleted { return 'failed to complete delete request: ' . refusal(200, @_) }

# What is wanted of a server, by its name here or its address.
sub wanted {
    my ($name, %members) = @_;
    return { server => $address{$name} // $name, %members };
}

# What the client has to know of a server, in all of its fields.
sub server {
    my ($id, $name, %fields) = @_;
    return {
        ID => $id, Server => $address{$name} // $name, Weight => 1, MaxConns => 0, MaxFails => 1, FailTimeout => '10s',
        SlowStart => '0s', Route => '', Backup => $false, Down => $false, Drain => $false, Service => '', %fields,
    };
}

# The servers of an upstream have to be these.
sub servers_are {
    my ($servers, $name, $upstream) = @_;
    my @got = $go->call(GetHTTPServers => $upstream // 'up');
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply(\@got, [undef, $servers], $name) or diag($json->encode(\@got));
    return;
}

# UpdateHTTPServers has to add, delete and update these.
sub updates {
    my ($wanted, $name, @lists) = @_;
    my ($failed, @got) = $go->call(UpdateHTTPServers => 'up', $wanted);
    my @servers = map { [map { $name{ $_->{Server} } // $_->{Server} } @{ $_ // [] }] } @got;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($failed, undef, $name);
    is_deeply(\@servers, \@lists, "$name: added, deleted, updated");
    return;
}

# The same once more: there is nothing left to do.
sub updates_nothing {
    my $wanted = shift;
    my $before = version();
    my @got = $go->call(UpdateHTTPServers => 'up', $wanted);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is_deeply(\@got, [(undef) x 4], 'once more: nothing is added, deleted or updated') or diag($json->encode(\@got));
    is(version(), $before, 'and nothing has changed');
    return;
}

# What the client has to know of a peer, without its codes, bytes and times.
sub peer {
    my ($name, %fields) = @_;
    my $none = { Responses1xx => 0, Responses2xx => 0, Responses3xx => 0, Responses4xx => 0, Responses5xx => 0, Total => 0 };
    return {
        ID => 0, Server => $address{$name}, Name => $address{$name}, Service => '', Backup => $false, Weight => 1, State => 'up',
        Active => 0, SSL => { Handshakes => 0, HandshakesFailed => 0, SessionReuses => 0 }, MaxConns => 0, Requests => 0,
        Responses => $none, Fails => 0, Unavail => 0, HealthChecks => { Checks => 0, Fails => 0, Unhealthy => 0, LastPassed => $false },
        Downtime => 0, Downstart => '', %fields,
    };
}

# The peers of the upstream, each as the values of these fields.
sub peers {
    my @fields = @_;
    return map { join ' ', @$_{@fields} } @{ calls('GetUpstreams')->{up}{Peers} };
}

#-- Tests -------------------------------------------------------------------

subtest 'versions' => sub {
    begin('server @a;');
    for my $location ('plus', 'plus/', 'read') {
        calls(NewNginxClient => uri($location));
        servers_are([server(0, 'a')], "version 8 at /$location");
    }
    for my $version (4 .. 8) {
        calls(NewNginxClientWithVersion => uri('plus'), $version);
        servers_are([server(0, 'a')], "version $version");
        is(calls('GetUpstreams')->{up}{Peers}[0]{Server}, $address{a}, 'its upstreams');
        is(calls('GetStats')->{NginxInfo}{ParentProcessID}, $nginx->pid, 'its figures');
    }
    ends_well();
};

subtest 'CheckIfUpstreamExists' => sub {
    begin('server @a;', more => 'upstream plain { server @b; } upstream x-1.example { checkups_cluster; server @b; }');
    calls(CheckIfUpstreamExists => 'up');
    calls(CheckIfUpstreamExists => 'x-1.example');
    # The one is none, the other is left to nginx.
    for my $name ('no', 'plain') {
        fails("failed to get the HTTP servers of upstream $name: " . not_got(404, 'UpstreamNotFound', 'upstream not found'),
            CheckIfUpstreamExists => $name);
    }
    ends_well();
};

subtest 'GetHTTPServers: all of each' => sub {
    begin(<<'END');
        server @a weight=5 max_conns=7 max_fails=0 fail_timeout=1m30s;
        server @b down;
        server unix:/tmp/no.socket;
        server [::1]:81 fail_timeout=5s;
        server @c;
        server @d backup weight=2;
        checkups_server @b slow_start=30s;
        checkups_server @c drain;
END
    servers_are([
        server(0, 'a', Weight => 5, MaxConns => 7, MaxFails => 0, FailTimeout => '90s'),
        server(1, 'b', Down => $true, SlowStart => '30s'),
        server(2, 'unix:/tmp/no.socket'),
        server(3, '[::1]:81', FailTimeout => '5s'),
        server(4, 'c', Drain => $true),
        server(5, 'd', Backup => $true, Weight => 2),
    ], 'the servers');
    ends_well();
};

subtest 'AddHTTPServer' => sub {
    begin('server @a;');
    calls(AddHTTPServer => 'up', wanted('b'));
    servers_are([server(0, 'a'), server(1, 'b')], 'as it is by default');
    is(sorted(6), 'aaabbb', 'it gets requests');

    my %all = (
        max_conns => 321, max_fails => 21, fail_timeout => '21s', slow_start => '12s', weight => 10, route => 'test', backup => $true,
        down => $true,
    );
    my %shown = (
        MaxConns => 321, MaxFails => 21, FailTimeout => '21s', SlowStart => '12s', Weight => 10, Route => 'test', Backup => $true,
        Down => $true,
    );
    calls(AddHTTPServer => 'up', wanted('c', %all));
    servers_are([server(0, 'a'), server(1, 'b'), server(2, 'c', %shown)], 'all that can be said comes back');
    calls(AddHTTPServer => 'up', wanted('d', %all, backup => $false, down => $false, drain => $true));
    my @four = (
        server(0, 'a'), server(1, 'b'), server(3, 'd', %shown, Backup => $false, Down => $false, Drain => $true), server(2, 'c', %shown),
    );
    servers_are(\@four, 'backups come last');
    is(sorted(6), 'aaabbb', 'neither of these gets requests');

    fails("failed to add $address{b} server to up upstream: server already exists", AddHTTPServer => 'up', wanted('b'));
    fails("failed to add $address{c} server to up upstream: server already exists", AddHTTPServer => 'up', wanted('c', weight => 2));
    servers_are(\@four, 'nothing has come of that');

    calls(AddHTTPServer => 'up', wanted('127.0.0.9', down => $true));
    servers_are([@four[0 .. 2], server(4, '127.0.0.9:80', Down => $true), $four[3]], 'without a port it has 80');
    fails('failed to add 127.0.0.9:80 server to up upstream: server already exists', AddHTTPServer => 'up', wanted('127.0.0.9:80'));
    fails('failed to add 127.0.0.9 server to up upstream: '
        . not_created(409, 'EntryExists', 'the upstream has this server already'), AddHTTPServer => 'up', wanted('127.0.0.9'));
    ends_well();
};

subtest 'AddHTTPServer: the first backup' => sub {
    begin('server @a;');
    calls(AddHTTPServer => 'up', wanted('b', backup => $true));
    servers_are([server(0, 'a'), server(1, 'b', Backup => $true)], 'it is there');
    is(sorted(4), 'aaaa', 'without requests');
    calls(UpdateHTTPServer => 'up', wanted('a', down => $true));
    is(sorted(4), 'bbbb', 'but where the other one is down');
    ends_well();
};

subtest 'AddHTTPServer: what is refused' => sub {
    begin('server @a;');
    fails("failed to add $address{b} server to no upstream: error getting id of server $address{b} of upstream no: "
        . 'failed to get the HTTP servers of upstream no: ' . not_got(404, 'UpstreamNotFound', 'upstream not found'),
        AddHTTPServer => 'no', wanted('b'));
    fails("failed to add $address{b} server to up upstream: "
        . not_created(400, 'UpstreamConfFormatError', 'unknown parameter "id"'), AddHTTPServer => 'up', wanted('b', id => 5));
    my %codes = (
        UpstreamBadWeight => wanted('b', weight => 0), UpstreamBadMaxConns => wanted('b', max_conns => -1),
        UpstreamBadMaxFails => wanted('b', max_fails => -1), UpstreamBadFailTimeout => wanted('b', fail_timeout => 'x'),
        UpstreamBadSlowStart => wanted('b', slow_start => '-1s'), UpstreamBadRoute => wanted('b', route => 'x' x 33),
        UpstreamBadAddress => wanted('127.0.0.1:99999'), UpstreamConfNoResolver => wanted('name.test:80'),
    );
    for my $code (sort keys %codes) {
        my ($failed) = $go->call(AddHTTPServer => 'up', $codes{$code});
        like($failed, qr/: expected 201 response, got 400\. error\.status=400; error\.text=[^;]+; error\.code=$code; /, $code);
    }
    servers_are([server(0, 'a')], 'nothing has come of these');
    ends_well();
};

subtest 'without write=on' => sub {
    begin('server @a;');
    calls(NewNginxClient => uri('read'));
    calls(CheckIfUpstreamExists => 'up');
    my @disabled = (405, 'MethodDisabled', 'method is disabled: checkups_api has no write=on');
    fails("failed to add $address{b} server to up upstream: " . not_created(@disabled), AddHTTPServer => 'up', wanted('b'));
    fails("failed to update $address{a} server to up upstream: " . not_patched(@disabled), UpdateHTTPServer => 'up', wanted('a'));
    fails("failed to remove $address{a} server from up upstream: " . not_deleted(@disabled), DeleteHTTPServer => 'up', $address{a});
    is_deeply([$go->call(UpdateHTTPServers => 'up', [wanted('a')])], [(undef) x 4], 'to want what there is goes well');
    ends_well();
};

subtest 'UpdateHTTPServer' => sub {
    begin('server @a; server @b weight=2 max_fails=5; server @c backup;');
    my @servers = (server(0, 'a', Weight => 3), server(1, 'b', Weight => 2, MaxFails => 5), server(2, 'c', Backup => $true));
    calls(UpdateHTTPServer => 'up', wanted('a', weight => 3));
    servers_are(\@servers, 'number 0');
    calls(UpdateHTTPServer => 'up',
        wanted('b', id => 1, max_conns => 9, max_fails => 0, fail_timeout => '1m', slow_start => '5s', route => 'x'));
    my %shown = (Weight => 2, MaxConns => 9, MaxFails => 0, FailTimeout => '60s', SlowStart => '5s', Route => 'x');
    servers_are([$servers[0], server(1, 'b', %shown), $servers[2]], 'what is said is changed, and nothing else');
    calls(UpdateHTTPServer => 'up', wanted('c', id => 2, weight => 4));
    $servers[2] = server(2, 'c', Backup => $true, Weight => 4);
    servers_are([$servers[0], server(1, 'b', %shown), $servers[2]], 'a backup');
    my $version = version();
    calls(UpdateHTTPServer => 'up', wanted('a', weight => 3));
    is(version(), $version, 'what is so already is no change');

    calls(UpdateHTTPServer => 'up', wanted('a', down => $true));
    is(sorted(4), 'bbbb', 'down');
    calls(UpdateHTTPServer => 'up', wanted('a', down => $false));
    calls(UpdateHTTPServer => 'up', wanted('b', id => 1, drain => $true));
    is(sorted(4), 'aaaa', 'drained');
    # The client cannot say that it ends.
    calls(UpdateHTTPServer => 'up', wanted('b', id => 1, drain => $false));
    servers_are([$servers[0], server(1, 'b', %shown, Drain => $true), $servers[2]], 'and still is');
    calls(UpdateHTTPServer => 'up', wanted('d', id => 1, weight => 3));
    @servers = ($servers[0], server(1, 'd', %shown, Weight => 3, Drain => $true), $servers[2]);
    servers_are(\@servers, 'another address: it is the same server');

    my $update = "failed to update $address{e} server to";
    fails("$update up upstream: " . not_patched(404, 'UpstreamServerNotFound', 'server with ID "7" does not exist'),
        UpdateHTTPServer => 'up', wanted('e', id => 7));
    fails("$update no upstream: " . not_patched(404, 'UpstreamNotFound', 'upstream not found'),
        UpdateHTTPServer => 'no', wanted('e', id => 1));
    fails("failed to update $address{a} server to up upstream: "
        . not_patched(409, 'EntryExists', 'the upstream has this server already'), UpdateHTTPServer => 'up', wanted('a', id => 1));
    fails("failed to update $address{a} server to up upstream: "
        . not_patched(400, 'UpstreamConfFormatError', '"backup" of a server cannot be changed'),
        UpdateHTTPServer => 'up', wanted('a', backup => $true));
    servers_are(\@servers, 'nothing has come of these');
    ends_well();
};

subtest 'DeleteHTTPServer' => sub {
    begin('server @a; server @b; server @c; server @d backup;');
    calls(DeleteHTTPServer => 'up', $address{b});
    servers_are([server(0, 'a'), server(2, 'c'), server(3, 'd', Backup => $true)], 'the others keep their numbers');
    calls(DeleteHTTPServer => 'up', $address{a});
    servers_are([server(2, 'c'), server(3, 'd', Backup => $true)], 'number 0');
    is(sorted(4), 'cccc', 'one is left, and a backup');
    fails("failed to remove $address{a} server from up upstream: server doesn't exist", DeleteHTTPServer => 'up', $address{a});
    fails("failed to remove $address{a} server from  no upstream: error getting id of server $address{a} of upstream no: "
        . 'failed to get the HTTP servers of upstream no: ' . not_got(404, 'UpstreamNotFound', 'upstream not found'),
        DeleteHTTPServer => 'no', $address{a});
    calls(DeleteHTTPServer => 'up', $address{c});
    servers_are([server(3, 'd', Backup => $true)], 'a backup is left');
    is(sorted(4), 'dddd', 'which gets the requests');

    calls(DeleteHTTPServer => 'up', $address{d});
    servers_are([], 'none is left');
    is_deeply([$nginx->bodies('/', 1)], [502], 'a request has nowhere to go');
    calls(CheckIfUpstreamExists => 'up');
    is_deeply([peers('ID')], [], 'it has no peers');
    calls(AddHTTPServer => 'up', wanted('a'));
    servers_are([server(4, 'a')], 'a number is never given again');
    is(sorted(2), 'aa', 'requests');
    calls(DeleteHTTPServer => 'up', $address{a});
    calls(AddHTTPServer => 'up', wanted('b', backup => $true));
    servers_are([server(5, 'b', Backup => $true)], 'a backup can be the only one');
    is(sorted(2), 'bb', 'requests');
    ends_well();
};

subtest 'UpdateHTTPServers' => sub {
    begin('server @a; server @b weight=5; server @c;');
    # What is left out is the default where the client compares, and is not sent.
    my @wanted = (wanted('a'), wanted('b'), wanted('c'));
    updates(\@wanted, 'a weight that is left out', [], [], ['b']);
    servers_are([server(0, 'a'), server(1, 'b', Weight => 5), server(2, 'c')], 'stays as it is');
    @wanted = (wanted('a'), wanted('b', weight => 1), wanted('c'));
    updates(\@wanted, 'a weight that is said', [], [], ['b']);
    servers_are([server(0, 'a'), server(1, 'b'), server(2, 'c')], 'is changed');
    updates_nothing(\@wanted);

    @wanted = (wanted('c', weight => 2), wanted('d', max_conns => 4), wanted('e'));
    updates(\@wanted, 'all at once', ['d', 'e'], ['a', 'b'], ['c']);
    servers_are([server(2, 'c', Weight => 2), server(3, 'd', MaxConns => 4), server(4, 'e')], 'so it has become');
    updates_nothing(\@wanted);
    updates_nothing([reverse @wanted]);
    is(sorted(8), 'ccccddee', 'requests');

    my @strange = ('127.0.0.9:80', 'unix:/tmp/no.socket', '[::1]:81');
    @wanted = (map({ wanted($_, down => $true) } '127.0.0.9', @strange[1, 2]), wanted('c', weight => 2));
    updates(\@wanted, 'other addresses', \@strange, ['d', 'e'], []);
    updates_nothing(\@wanted);

    my %all = (max_conns => 321, max_fails => 21, fail_timeout => '21s', slow_start => '12s', weight => 10, route => 'test');
    @wanted = (wanted('a', %all), wanted('b', %all, backup => $true), wanted('c', %all, down => $true), wanted('d', %all, drain => $true));
    updates(\@wanted, 'all that can be said', ['a', 'b', 'd'], \@strange, ['c']);
    my %shown = (MaxConns => 321, MaxFails => 21, FailTimeout => '21s', SlowStart => '12s', Weight => 10, Route => 'test');
    servers_are([
        server(2, 'c', %shown, Down => $true), server(8, 'a', %shown), server(10, 'd', %shown, Drain => $true),
        server(9, 'b', %shown, Backup => $true),
    ], 'so it has become');
    updates_nothing(\@wanted);
    ok($nginx->reload, 'a reload');
    updates_nothing(\@wanted);

    updates([], 'none at all', [], ['c', 'a', 'd', 'b'], []);
    servers_are([], 'none is left');
    updates_nothing([]);
    updates([wanted('a')], 'one', ['a'], [], []);
    is(sorted(2), 'aa', 'requests');

    my ($failed, @lists) = $go->call(UpdateHTTPServers => 'up', [wanted('b'), wanted('c', weight => 0), wanted('d')]);
    like($failed, qr/\Afailed to update servers of up upstream: failed to add $address{c} server .* error\.code=UpstreamBadWeight; /,
        'one of several is wrong');
    is_deeply(\@lists, [(undef) x 3], 'the client stops there');
    servers_are([server(11, 'a'), server(12, 'b')], 'what came before it was made');
    ends_well();
};

subtest 'no request is lost while servers come and go' => sub {
    begin('server @a; server @b;');
    my $enough = $nginx->clients(2, '/', qr/\A[a-h]\n\z/);
    my @sets = (
        [wanted('c', weight => 3), wanted('b')], [wanted('d')],
        [wanted('a', weight => 2), wanted('d'), wanted('e', backup => $true)], [wanted('a'), wanted('b')],
    );
    my @wrong;
    for my $set ((@sets) x 40) {
        my ($failed) = $go->call(UpdateHTTPServers => 'up', [map { { weight => 1, %$_ } } @$set]);
        push @wrong, $failed if defined $failed;
    }
    my @clients = $enough->();
    is_deeply(\@wrong, [], 'each of the changes was made');
    is_deeply([map { @{ $_->[1] } } @clients], [], 'all requests were answered');
    cmp_ok($_->[0], '>', 40, "$_->[0] requests") for @clients;
    my ($failed, $servers) = $go->call(GetHTTPServers => 'up');
    is_deeply([map { $_->{Server} } @$servers], [@address{ 'a', 'b' }], 'the last ones are there') or diag($failed);
    ends_well();
};

subtest 'GetUpstreams' => sub {
    begin('server @a weight=2 max_conns=7; server @b down; server @c backup;',
        more => 'upstream other { checkups_cluster; server @d; }', servers => { a => '| 200 404 500 200' });
    is_deeply([$nginx->bodies('/', 4)], ['a', 404, 500, 'a'], 'four requests');
    my $upstreams = calls('GetUpstreams');
    my @peers = @{ delete $upstreams->{up}{Peers} };
    is_deeply([map { $_->{Server} } @{ delete $upstreams->{other}{Peers} }], [$address{d}], 'the peer of another one');
    my $upstream = { Keepalives => 0, Zombies => 0, Zone => 'checkups', Queue => { Size => 0, MaxSize => 0, Overflows => 0 } };
    is_deeply($upstreams, { up => $upstream, other => $upstream }, 'all else');

    my ($used, @unused) = @peers;
    cmp_ok(delete $used->{$_}, '>', 0, $_) for 'Sent', 'Received';
    like(delete $used->{Selected}, $time, 'Selected');
    my @times = map { delete $used->{$_} } 'HeaderTime', 'ResponseTime';
    cmp_ok($times[0], '<=', $times[1], 'HeaderTime, ResponseTime');
    my $codes = delete $used->{Responses}{Codes};
    is_deeply({ map { $codes->{$_} ? ($_ => $codes->{$_}) : () } keys %$codes },
        { HTTPOk => 2, HTTPNotFound => 1, HTTPInternalServerError => 1 }, 'Codes');
    my $responses = { Responses1xx => 0, Responses2xx => 2, Responses3xx => 0, Responses4xx => 1, Responses5xx => 1, Total => 4 };
    is_deeply($used, peer('a', Weight => 2, MaxConns => 7, Requests => 4, Responses => $responses), 'all else of it');
    for my $peer (@unused) {
        is(scalar(grep { $_ } values %{ delete $peer->{Responses}{Codes} }), 0, 'another one has no codes');
        is_deeply([delete @$peer{qw(Sent Received Selected HeaderTime ResponseTime)}], [0, 0, '', 0, 0], 'bytes and times');
    }
    is_deeply(\@unused, [peer('b', ID => 1, State => 'down'), peer('c', ID => 2, Backup => $true)], 'one that is down, and a backup');

    calls(AddHTTPServer => 'up', wanted('e', weight => 2));
    is(sorted(4), 'aaee', 'requests');
    is_deeply([peers(qw(ID State Requests))], ['0 up 6', '1 down 0', '3 up 2', '2 up 0'], 'one is added');
    calls(UpdateHTTPServer => 'up', wanted('e', id => 3, drain => $true));
    is_deeply([peers(qw(ID State))], ['0 up', '1 down', '3 draining', '2 up'], 'and drained');
    calls(DeleteHTTPServer => 'up', $address{e});
    is_deeply([peers('ID')], [0, 1, 2], 'and removed');
    ends_well();
};

subtest 'GetUpstreams: servers that are checked' => sub {
    begin('server @a; server @b; checkups_check http interval=20ms timeout=30s;', servers => { a => '200 hang', b => '503 hang' });
    ok($backend->wait_for($_, 2), "$_: a check, and another one that does not end") for 'a', 'b';
    my @peers = @{ calls('GetUpstreams')->{up}{Peers} };
    is_deeply([map { $_->{State} } @peers], ['up', 'unhealthy'], 'State');
    is_deeply([map { $_->{HealthChecks} } @peers], [
        { Checks => 1, Fails => 0, Unhealthy => 0, LastPassed => $true }, { Checks => 1, Fails => 1, Unhealthy => 1, LastPassed => $false },
    ], 'HealthChecks');
    is($peers[0]{Downstart}, '', 'one is not down');
    like($peers[1]{Downstart}, $time, 'the other one is, since');
    calls(AddHTTPServer => 'up', wanted('c'));
    ok(wait_until(10, sub { ($go->call('GetUpstreams'))[1]{up}{Peers}[2]{HealthChecks}{LastPassed} }), 'one that is added is checked');
    ends_well();
};

subtest 'GetStats' => sub {
    begin('server @a;');
    my $stats = calls('GetStats');
    # The client has one connection; first it asked for the versions, and then for nginx, caches,
    # processes, slabs and connections, before it came to http/requests.
    is_deeply(delete $stats->{Connections}, { Accepted => 1, Dropped => 0, Active => 1, Idle => 0 }, 'Connections');
    is_deeply(delete $stats->{HTTPRequests}, { Total => 7, Current => 1 }, 'HTTPRequests');

    my $info = delete $stats->{NginxInfo};
    like(delete $info->{$_}, $time, "NginxInfo: $_") for 'LoadTimestamp', 'Timestamp';
    my $process = delete $info->{ProcessID};
    is(scalar(grep { $_ == $process } $nginx->workers), 1, 'NginxInfo: the process is one of the workers');
    my ($version) = `'$ENV{TEST_NGINX_BINARY}' -v 2>&1` =~ m{nginx/(\S+)};
    my $generation = delete $info->{Generation};
    is($generation, 1, 'NginxInfo: the generation');
    is_deeply($info, { Version => $version, Build => '', Address => '127.0.0.1', ParentProcessID => $nginx->pid }, 'NginxInfo: all else');

    my $slabs = delete $stats->{Slabs};
    is_deeply([keys %$slabs], ['checkups'], 'Slabs: the zone of checkups');
    my ($pages, $slots) = @{ $slabs->{checkups} }{qw(Pages Slots)};
    cmp_ok($pages->{$_}, '>', 0, "Slabs: pages, $_") for 'Used', 'Free';
    is_deeply([sort { $a <=> $b } keys %$slots], [map { 2**$_ } 3 .. 11], 'Slabs: sizes');
    my @used = grep { $_->{Used} } values %$slots;
    cmp_ok(scalar @used, '>', 0, 'Slabs: some are in use');
    is(scalar(grep { $_->{Reqs} < $_->{Used} } @used), 0, 'Slabs: what is in use was asked for');

    my $upstreams = delete $stats->{Upstreams};
    is($upstreams->{up}{Peers}[0]{Server}, $address{a}, 'Upstreams: the server');
    is_deeply($upstreams, calls('GetUpstreams'), 'Upstreams: as they are by themselves');
    is_deeply($stats, {
        Caches => {}, HTTPLimitConnections => {}, HTTPLimitRequests => {}, LocationZones => {}, Resolvers => {}, ServerZones => {},
        Processes => { Respawned => 0 }, SSL => { Handshakes => 0, HandshakesFailed => 0, SessionReuses => 0 },
        StreamLimitConnections => undef, StreamServerZones => undef, StreamUpstreams => undef, StreamZoneSync => undef,
    }, 'all else is empty');

    ok($nginx->reload, 'a reload');
    is_deeply([$nginx->bodies('/', 3)], [('a') x 3], 'three requests');
    my $then = calls('GetStats');
    is($then->{NginxInfo}{Generation}, $generation + 1, 'the next generation');
    is(scalar(grep { $_ == $then->{NginxInfo}{ProcessID} } $nginx->workers), 1, 'the process is one of its workers');
    is($then->{Upstreams}{up}{Peers}[0]{Requests}, 3, 'the requests');
    ends_well();
};

subtest 'what there is not' => sub {
    begin('server @a;');
    is_deeply([calls("GetStream$_")], [undef], "GetStream$_: nothing") for qw(Upstreams ServerZones ZoneSync ConnectionsLimit);
    is_deeply([calls("Get$_")], [{}], "Get$_: empty")
        for qw(AllKeyValPairs Caches ServerZones LocationZones Resolvers HTTPLimitReqs HTTPConnectionsLimit);
    my ($failed) = $go->call(GetKeyValPairs => 'x');
    like($failed, qr/\Afailed to get keyvals for http\/x zone: expected 200 response, got 404\. .* error\.code=KeyvalNotFound; /, 'keyvals');
    my @nothing = (404, 'PathNotFound', 'path not found');
    my $servers = 'failed to get stream servers of upstream server up: ' . not_got(@nothing);
    fails($servers, CheckIfStreamUpstreamExists => 'up');
    fails("failed to add $address{b} stream server to up upstream: error getting id of stream server $address{b} of upstream up: $servers",
        AddStreamServer => 'up', wanted('b'));
    ends_well();
};

subtest 'an upstream that nginx balances' => sub {
    begin('server @c;', servers => { a => '200 hang', b => '503 hang' }, more =>
        'upstream old { zone old 64k; server @a weight=3; server @b; server @d backup; checkups_check http interval=20ms timeout=30s; }');
    ok($backend->wait_for($_, 2), "$_: a check, and another one that does not end") for 'a', 'b';
    my @servers = (server(0, 'a', Weight => 3), server(1, 'b'), server(2, 'd', Backup => $true));
    servers_are(\@servers, 'its servers', 'old');
    my $upstreams = calls('GetUpstreams');
    is_deeply([sort keys %$upstreams], ['old', 'up'], 'it is among the others');
    is_deeply([map { "$_->{State} $_->{HealthChecks}{Checks} $_->{HealthChecks}{Fails}" } @{ $upstreams->{old}{Peers} }[0, 1]],
        ['up 1 0', 'unhealthy 1 1'], 'with its checks');
    is_deeply([sort keys %{ calls('GetSlabs') }], ['checkups', 'old'], 'its zone');

    my @static = (400, 'UpstreamStatic', 'upstream is static');
    my $add = "failed to add $address{e} server to old upstream: " . not_created(@static);
    fails($add, AddHTTPServer => 'old', wanted('e'));
    fails("failed to update servers of old upstream: $add", UpdateHTTPServers => 'old', [wanted('e')]);
    fails("failed to update $address{a} server to old upstream: " . not_patched(@static), UpdateHTTPServer => 'old', wanted('a'));
    fails("failed to remove $address{a} server from old upstream: " . not_deleted(@static), DeleteHTTPServer => 'old', $address{a});
    servers_are(\@servers, 'it is as it was', 'old');
    my @same = (wanted('a', weight => 3), wanted('b'), wanted('d', backup => $true));
    is_deeply([$go->call(UpdateHTTPServers => 'old', \@same)], [(undef) x 4], 'to want what there is goes well');
    ends_well();
};

subtest 'reloads' => sub {
    begin('server @a; server @b;');
    calls(AddHTTPServer => 'up', wanted('c', weight => 3, route => 'c'));
    calls(AddHTTPServer => 'up', wanted('d', backup => $true));
    calls(DeleteHTTPServer => 'up', $address{a});
    calls(UpdateHTTPServer => 'up', wanted('b', id => 1, weight => 2));
    my @servers = (server(1, 'b', Weight => 2), server(2, 'c', Weight => 3, Route => 'c'), server(3, 'd', Backup => $true));
    servers_are(\@servers, 'before');
    is(sorted(5), 'bbccc', 'requests');
    for my $number (1 .. 2) {
        ok($nginx->reload, "reload $number");
        servers_are(\@servers, 'the same servers with the same numbers');
        is_deeply([peers(qw(ID Requests))], ['1 ' . 2 * $number, '2 ' . 3 * $number, '3 0'], 'and with their figures');
        is(sorted(5), 'bbccc', 'requests');
    }
    calls(AddHTTPServer => 'up', wanted('e'));
    servers_are([@servers[0, 1], server(4, 'e'), $servers[2]], 'the next number');

    # What was changed is for the lines as they were.
    ok($nginx->reload(http => http('server @a; server @f;')), 'a reload with other servers');
    my ($failed, $found) = $go->call(GetHTTPServers => 'up');
    is_deeply([map { $_->{Server} } @$found], [@address{ 'a', 'f' }], 'which are taken') or diag($failed);
    is(scalar(grep { $_->{ID} <= 4 } @$found), 0, 'with numbers that no other one had');
    ends_well();
};

done_testing();
