# Version 9 of the API of NGINX Plus, as nginx-plus-go-client v3 asks for it.
#
# What is sent here is what that client sends, request by request: its methods, paths with and
# without a slash at the end, headers, bodies with the members in its order. What it does with the
# answers is done here, too: the status that it wants, the types of the fields that it reads, how it
# compares servers. What it does not read is looked at in t/plus.t.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Backends ();
use JSON::PP ();
use NginxBackend;
use NginxRunner;
use Test::More;

my $json = JSON::PP->new->canonical->allow_nonref;
my ($true, $false) = (JSON::PP::true, JSON::PP::false);
my $backend = NginxBackend->start;
my (%address, $nginx, $connection, @sent);

#-- nginx -------------------------------------------------------------------

# The addresses of servers for @a, @b ...
sub addressed { return $_[0] =~ s/\@([a-h])\b/$address{$1}/gr }

# The opposite.
sub named {
    my $text = shift;
    for my $name (keys %address) { $text =~ s/\Q$address{$name}\E\b/\@$name/g }
    return $text;
}

# Runs nginx with upstream "up" of these lines; more => other blocks.
sub begin {
    my ($lines, %as) = @_;
    $backend->forget;
    %address = map { $_ => $backend->add($_) } 'a' .. 'h';
    my $http = addressed("upstream up { checkups_cluster; $lines }\n" . ($as{more} // ''));
    my $locations = 'location / { proxy_pass http://up; } location /plus { checkups_api write=on; } location /read { checkups_api; }'
        . ' location /slash/ { checkups_api; }';
    $nginx = NginxRunner->new(workers => 2, http => $http, server => $locations)->start;
    undef $connection;
    return;
}

sub ends_well {
    undef $connection;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop, 'nginx stops');
    is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
    return;
}

sub version { return $json->decode($nginx->get('/plus/clusters/up')->{body})->{version} }

sub sorted { return join '', sort $nginx->bodies('/', shift) }

#-- The client: requests ----------------------------------------------------

my @headers = ('User-Agent: Go-http-client/1.1', 'Accept-Encoding: gzip');

# Sends a request over the connection that the client keeps, and dies where the answer is not as it
# wants it.
sub call {
    my ($method, $path, $wanted, $body) = @_;
    push @sent, named(join ' ', $method, $path, $body // ());
    my @type = defined $body ? 'Content-Type: application/json' : ();
    $connection //= Backends::connect_to($nginx->port);
    my $answer = $connection->request("/plus/9/$path", method => $method, headers => [@headers, @type], body => $body)->answer;
    return taken($answer, $wanted);
}

sub taken {
    my ($answer, $wanted) = @_;
    die "of another type: $answer->{headers}{'content-type'}\n" if $answer->{headers}{'content-type'} ne 'application/json';
    my $said = $json->decode($answer->{body});
    return $said if $answer->{code} eq $wanted;
    die join '; ', "the error is of another shape: $answer->{body}", wrong($said, error_fields(), 'answer')
        if wrong($said, error_fields(), 'answer') || $said->{error}{status} ne $answer->{code};
    die "$answer->{code} $said->{error}{code}\n";
}

# The requests since this was called last.
sub sent { return [splice @sent] }

#-- The client: what it reads -----------------------------------------------

# The types of fields. Those of a structure have names, "*" are all of a map.
sub structure { my ($type, @fields) = @_; return map { $_ => $type } @fields }

sub error_fields {
    return { structure('string', qw(request_id href)), error => { structure('string', qw(text code)), status => 'int' } };
}

my $server = {
    structure('int', qw(id max_conns max_fails weight)), structure('bool', qw(backup down drain)),
    structure('string', qw(server fail_timeout slow_start route service)),
};
my $responses = { codes => { '*' => 'uint' }, structure('uint', qw(1xx 2xx 3xx 4xx 5xx total)) };
my $peer = {
    structure('string', qw(server service name selected downstart state)), structure('int', qw(id max_conns weight)), backup => 'bool',
    structure('uint', qw(requests sent received fails unavail active downtime header_time response_time)), responses => $responses,
    health_checks => { structure('uint', qw(checks fails unhealthy)), last_passed => 'bool' },
};
my $upstreams = { '*' => { zone => 'string', peers => [$peer], structure('int', qw(keepalive zombies)) } };
my $connections = { structure('int', qw(accepted dropped active idle)) };
my $requests = { structure('uint', qw(total current)) };
my $workers = [{ id => 'int', pid => 'uint', http => { requests => $requests }, connections => $connections }];
my %paths = (
    '' => ['string'],
    nginx => { structure('string', qw(version build address load_timestamp timestamp)), structure('uint', qw(generation pid ppid)) },
    processes => { respawned => 'int' },
    slabs => { '*' => { pages => { structure('uint', qw(used free)) }, slots => { '*' => { structure('uint', qw(used free reqs fails)) } } } },
    'http/requests' => $requests, 'http/upstreams' => $upstreams, workers => $workers,
    ssl => {}, map({ $_ => { '*' => {} } } 'resolvers', map { "http/$_" } qw(caches server_zones location_zones limit_reqs limit_conns)),
);
my %texts = (string => qr/\A"/, bool => qr/\A(?:true|false)\z/, int => qr/\A-?\d+\z/, uint => qr/\A\d+\z/);

# What of a value is of another type. What is missing, or more, is nothing to the client.
sub wrong {
    my ($value, $type, $name) = @_;
    if (!ref $type) {
        my $text = $json->encode($value);
        return $text =~ $texts{$type} ? () : "$name is $text";
    }
    return "$name is another thing" if ref $value ne ref $type;
    return map { wrong($value->[$_], $type->[0], "$name\[$_]") } 0 .. $#$value if ref $type eq 'ARRAY';
    return map { my $of = $type->{'*'} // $type->{$_}; $of ? wrong($value->{$_}, $of, "$name.$_") : () } sort keys %$value;
}

sub get {
    my ($path, $type) = @_;
    my $said = call(GET => $path, 200);
    my @wrong = wrong($said, $type, 'answer');
    die join('; ', @wrong), "\n" if @wrong;
    return $said;
}

#-- The client: calls -------------------------------------------------------

my %defaults = (
    max_conns => 0, max_fails => 1, fail_timeout => '10s', slow_start => '0s', route => '', backup => $false, down => $false, drain => $false,
    weight => 1, service => '',
);

# A server as the client sends it: what is empty is left out.
sub body_of {
    my $wanted = shift;
    my @members = qw(max_conns max_fails backup down weight server fail_timeout slow_start route service id drain);
    my @said = grep { exists $wanted->{$_} } @members;
    @said = grep { !/\A(?:id|drain|route|service)\z/ || $wanted->{$_} } @said;
    return '{' . join(',', map { qq("$_":) . $json->encode($wanted->{$_}) } @said) . '}';
}

sub get_servers { return get("http/upstreams/$_[0]/servers", [$server]) }

sub id_of {
    my ($upstream, $address) = @_;
    my ($found) = grep { $_->{server} eq $address } @{ get_servers($upstream) };
    return $found ? $found->{id} : -1;
}

sub post { my ($upstream, $wanted) = @_; return call(POST => "http/upstreams/$upstream/servers/", 201, body_of($wanted)) }

sub add_server {
    my ($upstream, $wanted) = @_;
    die "server already exists\n" if id_of($upstream, $wanted->{server}) != -1;
    return post($upstream, $wanted);
}

sub update_server {
    my ($upstream, $wanted) = @_;
    my $id = $wanted->{id} // 0;
    return call(PATCH => "http/upstreams/$upstream/servers/$id/", 200, body_of({ %$wanted, id => 0 }));
}

sub delete_server {
    my ($upstream, $address) = @_;
    my $id = id_of($upstream, $address);
    die "server not found\n" if $id == -1;
    return call(DELETE => "http/upstreams/$upstream/servers/$id/", 200);
}

# With the defaults, and without the number, two servers are the same or not.
sub parameters { my %all = (%defaults, %{ $_[0] }); delete $all{id}; return $json->encode(\%all) }

# Returns the addresses of what was added, deleted and updated, and the errors; each of these is text.
sub update_servers {
    my ($upstream, @wanted) = @_;
    my @there = @{ get_servers($upstream) };
    my (@added, @deleted, @updated, @errors, %seen);
    $_->{server} =~ /\A(?:unix:|.*:\d+\z)/ or $_ = { %$_, server => "$_->{server}:80" } for @wanted;
    $seen{ $_->{server} }{ parameters($_) }++ for @wanted;
    push @errors, map { keys %{ $seen{$_} } > 1 ? "$_: encountered duplicate server with different parameters" : () } sort keys %seen;
    my %once;
    @wanted = grep { keys %{ $seen{ $_->{server} } } == 1 && !$once{ $_->{server} }++ } @wanted;

    my $try = sub {
        my ($made, $address, $call) = @_;
        eval { $call->(); 1 } ? push @$made, $address : push @errors, "$address: " . $@ =~ s/\n//r;
    };
    my %known = map { $_->{server} => $_ } reverse @there;
    my %kept = map { $_->{server} => 1 } @wanted;
    for my $server (grep { !$known{ $_->{server} } } @wanted) { $try->(\@added, $server->{server}, sub { post($upstream, $server) }) }
    for my $server (grep { !$kept{ $_->{server} } } @there) {
        $try->(\@deleted, $server->{server}, sub { call(DELETE => "http/upstreams/$upstream/servers/$server->{id}/", 200) });
    }
    for my $server (grep { $known{ $_->{server} } && parameters($_) ne parameters($known{ $_->{server} }) } @wanted) {
        $try->(\@updated, $server->{server}, sub { update_server($upstream, { %$server, id => $known{ $server->{server} }{id} }) });
    }
    return map { named(join ' ', @$_) } \@added, \@deleted, \@updated, \@errors;
}

# What GetStats asks for, all at the same time; then for the connections.
sub get_stats {
    my @paths = sort keys %paths;
    my @clients = map { Backends::connect_to($nginx->port)->request("/plus/9/$_", headers => \@headers) } @paths;
    my %stats;
    for my $number (0 .. $#paths) {
        my $path = $paths[$number];
        $stats{$path} = taken($clients[$number]->answer, 200);
        my @wrong = wrong($stats{$path}, $paths{$path}, $path);
        die join('; ', @wrong), "\n" if @wrong;
    }
    $stats{connections} = get('connections', $connections);
    return \%stats;
}

# A call that has to fail so.
sub fails {
    my ($text, $name, $call) = @_;
    my $failed = eval { $call->(); 1 } ? 'it goes well' : $@ =~ s/\n\z//r;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is($failed, $text, $name);
    return;
}

sub wanted { my ($name, %members) = @_; return { server => $address{$name} // $name, %members } }

# A server as it has to be in an answer.
sub server {
    my ($id, $name, %members) = @_;
    my %always = %defaults;
    delete @always{qw(drain service)};
    return { id => $id, server => $address{$name} // $name, %always, %members };
}

sub servers_are {
    my ($servers, $name) = @_;
    my $got = $json->encode(get_servers('up'));
    sent();
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(named($got), named($json->encode($servers)), $name);
    return;
}

#-- Tests -------------------------------------------------------------------

subtest 'GetMaxAPIVersion, GetAvailableEndpoints' => sub {
    begin('server @a;');
    for my $endpoint ('/plus', '/plus/', '/read', '/slash/') {
        my $answer = Backends::ask($endpoint, port => $nginx->port, headers => \@headers);
        is("$answer->{code} $answer->{headers}{'content-type'} $answer->{body}", '200 application/json [4,5,6,7,8,9]', "versions at $endpoint");
    }
    my $endpoints = get('', ['string']);
    is_deeply($endpoints, [qw(nginx processes connections slabs http resolvers ssl workers)], 'there is no "stream" among the endpoints');
    ends_well();
};

subtest 'CheckIfUpstreamExists, GetHTTPServers' => sub {
    begin('server @a; server @b weight=5 max_conns=7 max_fails=0 fail_timeout=1m down; server @c backup;', more => 'upstream plain { server @b; }');
    servers_are([
        server(0, 'a'), server(1, 'b', weight => 5, max_conns => 7, max_fails => 0, fail_timeout => '60s', down => $true),
        server(2, 'c', backup => $true),
    ], 'the servers');
    fails('404 UpstreamNotFound', 'none', sub { get_servers('no') });
    fails('404 UpstreamNotFound', 'one that is left to nginx', sub { get_servers('plain') });
    is_deeply(sent(), ['GET http/upstreams/no/servers', 'GET http/upstreams/plain/servers'], 'what was sent');
    ends_well();
};

subtest 'AddHTTPServer' => sub {
    begin('server @a;');
    my %all = (
        max_conns => 321, max_fails => 64, fail_timeout => '21s', slow_start => '12s', weight => 10, route => 'test', backup => $true,
        down => $true,
    );
    is($json->encode(add_server('up', wanted('b', %all))), $json->encode(server(1, 'b', %all)), 'with all that can be said');
    is_deeply(sent(), ['GET http/upstreams/up/servers', 'POST http/upstreams/up/servers/ {"max_conns":321,"max_fails":64,'
        . '"backup":true,"down":true,"weight":10,"server":"@b","fail_timeout":"21s","slow_start":"12s","route":"test"}'], 'what was sent');
    servers_are([server(0, 'a'), server(1, 'b', %all)], 'it comes back');
    is(parameters(get_servers('up')->[1]), parameters(wanted('b', %all)), 'it is what was wanted');
    sent();

    is($json->encode(add_server('up', wanted('c'))), $json->encode(server(2, 'c')), 'as it is by default');
    is_deeply(sent(), ['GET http/upstreams/up/servers', 'POST http/upstreams/up/servers/ {"server":"@c"}'], 'what was sent');
    add_server('up', wanted('d', max_conns => 0, weight => 1, backup => $false, down => $false, drain => $true));
    is_deeply(sent()->[1], 'POST http/upstreams/up/servers/ {"max_conns":0,"backup":false,"down":false,"weight":1,"server":"@d","drain":true}',
        'defaults that are said, and drain');
    my @servers = (server(0, 'a'), server(2, 'c'), server(3, 'd', drain => $true), server(1, 'b', %all));
    servers_are(\@servers, 'backups come last');
    is(sorted(4), 'aacc', 'requests');

    fails('server already exists', 'one that is there', sub { add_server('up', wanted('c')) });
    is_deeply(sent(), ['GET http/upstreams/up/servers'], 'the client sees that itself');
    fails('409 EntryExists', 'the same without a look', sub { post('up', wanted('c')) });
    fails('400 UpstreamConfFormatError', 'with a number', sub { post('up', wanted('e', id => 5)) });
    fails('400 UpstreamBadWeight', 'a wrong weight', sub { post('up', wanted('e', weight => 0)) });
    fails('404 UpstreamNotFound', 'another upstream', sub { post('no', wanted('e')) });
    servers_are(\@servers, 'nothing has come of these');
    add_server('up', wanted('127.0.0.9', down => $true));
    is(get_servers('up')->[3]{server}, '127.0.0.9:80', 'without a port it has 80');
    ends_well();
};

subtest 'UpdateHTTPServer' => sub {
    begin('server @a; server @b weight=2;');
    # As the client's own tests do it: what was read is sent back, with a change.
    my ($first, $second) = @{ get_servers('up') };
    sent();
    my $changed = update_server('up', { %$first, slow_start => '30s' });
    is_deeply(sent(), ['PATCH http/upstreams/up/servers/0/ {"max_conns":0,"max_fails":1,"backup":false,"down":false,"weight":1,"server":"@a",'
        . '"fail_timeout":"10s","slow_start":"30s"}'], 'what was sent');
    is($json->encode($changed), $json->encode(server(0, 'a', slow_start => '30s')), 'number 0');
    update_server('up', wanted('b', id => 1, weight => 3, max_fails => 0));
    is_deeply(sent(), ['PATCH http/upstreams/up/servers/1/ {"max_fails":0,"weight":3,"server":"@b"}'], 'what is not said is not sent');
    my @servers = (server(0, 'a', slow_start => '30s'), server(1, 'b', weight => 3, max_fails => 0));
    servers_are(\@servers, 'nor changed');
    fails('404 UpstreamServerNotFound', 'a number that there is not', sub { update_server('up', { %$second, id => 2 }) });
    fails('400 UpstreamConfFormatError', 'a number in the body',
        sub { call(PATCH => 'http/upstreams/up/servers/1/', 200, body_of(wanted('b', id => 1))) });
    fails('409 EntryExists', 'the address of another one', sub { update_server('up', wanted('a', id => 1)) });
    servers_are(\@servers, 'nothing has come of these');
    update_server('up', wanted('c', id => 1, drain => $true));
    servers_are([$servers[0], server(1, 'c', weight => 3, max_fails => 0, drain => $true)], 'another address, and drain');
    is(sorted(3), 'aaa', 'requests');
    ends_well();
};

subtest 'DeleteHTTPServer' => sub {
    begin('server @a; server @b; server @c backup;');
    is($json->encode(delete_server('up', $address{a})), $json->encode([server(1, 'b'), server(2, 'c', backup => $true)]), 'number 0');
    is_deeply(sent(), ['GET http/upstreams/up/servers', 'DELETE http/upstreams/up/servers/0/'], 'what was sent');
    fails('server not found', 'once', sub { delete_server('up', $address{a}) });
    is_deeply(sent(), ['GET http/upstreams/up/servers'], 'the client sees that itself');
    fails('404 UpstreamServerNotFound', 'without a look', sub { call(DELETE => 'http/upstreams/up/servers/0/', 200) });
    delete_server('up', $address{$_}) for 'b', 'c';
    servers_are([], 'none is left');
    is_deeply([$nginx->bodies('/', 1)], [502], 'a request has nowhere to go');
    add_server('up', wanted('d'));
    servers_are([server(3, 'd')], 'one is there again');
    is(sorted(2), 'dd', 'requests');
    ends_well();
};

subtest 'UpdateHTTPServers' => sub {
    begin('server @a; server @b;');
    my $again = sub {
        my @wanted = @_;
        my $before = version();
        sent();
        is_deeply([update_servers('up', @wanted)], ['', '', '', ''], 'once more: nothing is added, deleted or updated');
        is_deeply(sent(), ['GET http/upstreams/up/servers'], 'nothing is sent but the question');
        is(version(), $before, 'and nothing has changed');
    };
    $again->(wanted('a'), wanted('b'));
    my @wanted = (wanted('b', max_conns => 5, max_fails => 6, fail_timeout => '15s', slow_start => '10s'), wanted('c'), wanted('d', weight => 2));
    is_deeply([update_servers('up', @wanted)], ['@c @d', '@a', '@b', ''], 'all at once');
    is_deeply(sent(), [
        'GET http/upstreams/up/servers', 'POST http/upstreams/up/servers/ {"server":"@c"}',
        'POST http/upstreams/up/servers/ {"weight":2,"server":"@d"}', 'DELETE http/upstreams/up/servers/0/',
        'PATCH http/upstreams/up/servers/1/ {"max_conns":5,"max_fails":6,"server":"@b","fail_timeout":"15s","slow_start":"10s"}',
    ], 'what was sent');
    servers_are([
        server(1, 'b', max_conns => 5, max_fails => 6, fail_timeout => '15s', slow_start => '10s'), server(2, 'c'), server(3, 'd', weight => 2),
    ], 'so it has become');
    $again->(@wanted);
    $again->(reverse(@wanted), $wanted[0]);
    ok($nginx->reload, 'a reload');
    undef $connection;
    $again->(@wanted);

    my %all = (max_conns => 321, max_fails => 64, fail_timeout => '21s', slow_start => '12s', weight => 10, route => 'test');
    @wanted = (
        wanted('a', %all), wanted('b', %all, backup => $true), wanted('c', %all, down => $true), wanted('e', %all, drain => $true),
        wanted('127.0.0.9', down => $true), wanted('unix:/tmp/no.socket', down => $true), wanted('[::1]:81', down => $true),
    );
    # "b" is there, and cannot become a backup: so it has to go before.
    is((update_servers('up', @wanted))[3], '@b: 400 UpstreamConfFormatError', 'all that can be said');
    update_servers('up', @wanted[0, 2 .. $#wanted]);
    is_deeply([update_servers('up', @wanted)], ['@b', '', '', ''], 'with another backup');
    $again->(@wanted);

    my @errors;
    (undef, undef, undef, $errors[0]) = update_servers('up', @wanted, wanted('f', weight => 0), wanted('g'));
    is($errors[0], '@f: 400 UpstreamBadWeight', 'one of several is wrong');
    $again->(@wanted, wanted('g'));
    (undef, undef, undef, $errors[1]) = update_servers('up', @wanted, wanted('g', weight => 2), wanted('g'));
    is($errors[1], '@g: encountered duplicate server with different parameters', 'one is wanted in two forms');
    $again->(@wanted);

    is((update_servers('up'))[3], '', 'none at all');
    servers_are([], 'none is left');
    $again->();
    ends_well();
};

subtest 'GetUpstreams' => sub {
    begin('server @a weight=2; server @b down; server @c backup;', more => 'upstream other { checkups_cluster; server @d; }');
    $backend->requests('a', '200', '404', '500', '299', '200');
    is_deeply([$nginx->bodies('/', 5)], ['a', 404, 500, 299, 'a'], 'requests');
    my $all = get('http/upstreams', $upstreams);
    is_deeply([sort keys %$all], ['other', 'up'], 'all of them');
    my %up = %{ $all->{up} };
    is_deeply([map { "$_->{id} " . named($_->{server}) . " $_->{state} $_->{requests}" } @{ delete $up{peers} }],
        ['0 @a up 5', '1 @b down 0', '2 @c up 0'], 'the peers');
    is_deeply(\%up, { keepalive => 0, zombies => 0, zone => 'checkups' }, 'all else of it');
    my $counted = { '1xx' => 0, '2xx' => 3, '3xx' => 0, '4xx' => 1, '5xx' => 1, codes => { 200 => 2, 299 => 1, 404 => 1, 500 => 1 }, total => 5 };
    is_deeply($all->{up}{peers}[0]{responses}, $counted, 'its responses');
    ends_well();
};

subtest 'GetStats' => sub {
    begin('server @a;');
    for my $round (1 .. 20) {
        my $stats = eval { get_stats() } or fail("round $round: $@");
        next if $round < 20;
        is($stats->{nginx}{ppid}, $nginx->pid, 'nginx');
        is_deeply($stats->{processes}, { respawned => 0 }, 'processes');
        is_deeply([sort keys %{ $stats->{slabs} }], ['checkups'], 'slabs');
        # Of its own round, some may have come before it, and some may be under way.
        my ($total, $current) = @{ $stats->{'http/requests'} }{qw(total current)};
        cmp_ok($total, '>', 19 * (1 + keys %paths), 'http/requests: total');
        cmp_ok($total, '<=', 20 * (1 + keys %paths), 'http/requests: no more than these');
        cmp_ok($current, '>=', 1, 'http/requests: current');
        cmp_ok($stats->{connections}{accepted}, '==', 1 + 20 * keys %paths, 'connections: accepted');
        is($stats->{connections}{dropped}, 0, 'connections: dropped');
        is_deeply([sort keys %{ $stats->{'http/upstreams'} }], ['up'], 'http/upstreams');
        is_deeply($stats->{$_}, {}, "$_: empty")
            for qw(ssl resolvers http/caches http/server_zones http/location_zones http/limit_reqs http/limit_conns);
        my @pids = map { $_->{pid} } @{ $stats->{workers} };
        is_deeply([sort { $a <=> $b } @pids], [$nginx->workers], 'workers');
        ok(!(grep { $_ eq 'stream' } @{ $stats->{''} }), 'the client does not go on to "stream"');
    }
    ends_well();
};

subtest 'GetWorkers' => sub {
    begin('server @a;');
    my $shown = get('workers', $workers);
    is_deeply([map { $_->{id} } @$shown], [0, 1], 'their numbers');
    is_deeply([sort { $a <=> $b } map { $_->{pid} } @$shown], [$nginx->workers], 'their processes');
    is_deeply([map { [@$_{qw(connections http)}] } @$shown], [([{}, { requests => {} }]) x 2], 'without figures');
    my @before = map { $_->{pid} } @$shown;
    ok($nginx->reload, 'a reload');
    undef $connection;
    $shown = get('workers', $workers);
    is_deeply([sort { $a <=> $b } map { $_->{pid} } @$shown], [$nginx->workers], 'others');
    ends_well();
};

subtest 'what there is not' => sub {
    begin('server @a;');
    fails('404 PathNotFound', $_, sub { get($_, {}) })
        for qw(stream stream/upstreams stream/server_zones stream/zone_sync stream/limit_conns stream/upstreams/up/servers stream/keyvals license);
    fails('404 KeyvalNotFound', 'GetKeyValPairs', sub { get('http/keyvals/x', {}) });
    is_deeply(get('http/keyvals', {}), {}, 'GetAllKeyValPairs');
    ends_well();
};

done_testing();
