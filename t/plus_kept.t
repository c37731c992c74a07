# The API of NGINX Plus: numbers of servers and statistics over reloads and restarts, and
# servers that are names.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use IO::Socket::INET ();
use JSON::PP ();
use NameServer;
use NginxRunner;
use StockWorkers qw(version_of);
use Test::More;

my $json = JSON::PP->new->canonical->allow_nonref;
my $names = NameServer->start;
my $port = NginxRunner::free_port();
my $resolver = 'resolver 127.0.0.1:' . $names->port . ' valid=1s ipv6=off; resolver_timeout 1s;';
my $backends = join '', map { "server { listen 127.0.0.$_:$port; return 200 \"$_\\n\"; }\n" } 2 .. 7;
my %default = (weight => 1, max_conns => 0, max_fails => 1, fail_timeout => '"10s"', slow_start => '"0s"', route => '""', backup => 'false', down => 'false');

# Two workers, with these blocks; state => 1: with checkups_state.
sub nginx {
    my ($blocks, %as) = @_;
    my $nginx = NginxRunner->new(workers => 2, server => 'location /plus/ { checkups_api write=on; } location / { proxy_pass http://up; }', %as);
    $nginx->{http} = http($nginx, $blocks);
    return $nginx;
}

sub http {
    my ($nginx, $blocks) = @_;
    return ($nginx->{state} ? 'checkups_state ' . $nginx->root . '/state; ' : '') . $backends . $blocks;
}

sub call {
    my ($nginx, $method, $path, $body) = @_;
    my $text = $body // '';
    $text =~ s/\{(\d)\}/127.0.0.$1:$port/g;
    my $type = defined $body ? "Content-Type: application/json\r\nContent-Length: " . length($text) . "\r\n" : '';
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or die "connect: $!";
    syswrite $socket, "$method /plus/$path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n$type\r\n$text";
    my $answer = $nginx->answer($socket);
    return ($answer->{code}, eval { $json->decode($answer->{body}) } // $answer->{error} // $answer->{body});
}

# "3 {2} weight=2": the number of a server, its address, and what is not as it is by default.
sub server_line {
    my $server = shift;
    my %left = map { $_ => $json->encode($server->{$_}) } keys %$server;
    delete @left{qw(id server)};
    my @shown = map { my $value = delete $left{$_}; !defined $value ? "(no $_)" : $value eq $default{$_} ? () : "$_=$value" } sort keys %default;
    return join(' ', @$server{qw(id server)}, @shown, map { "$_=$left{$_}" } sort keys %left) =~ s/127\.0\.0\.(\d):$port/{$1}/gr =~ s/"//gr;
}

# An answer about servers, on one line.
sub plus {
    my ($code, $said) = call($_[0], $_[1], "9/http/upstreams/$_[2]", $_[3]);
    return "$code $said->{error}{code}" if ref $said eq 'HASH' && $said->{error};
    return join ' ', $code, join '; ', map { server_line($_) } ref $said eq 'ARRAY' ? @$said : $said;
}

sub servers { return plus($_[0], GET => ($_[1] // 'up') . '/servers') =~ s/\A200 ?//r }
sub without_numbers { return servers(@_) =~ s/(\A|; )\d+ /$1/gr }
sub peers { return @{ (call($_[0], GET => '9/http/upstreams/' . ($_[1] // 'up')))[1]{peers} } }

# The servers that answer.
sub used {
    my $nginx = shift;
    my %seen = map { $_ => 1 } $nginx->bodies('/', 24);
    return join ' ', sort keys %seen;
}

sub becomes {
    my ($what, $expected, $value) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $is;
    ok(NginxRunner::wait_until(10, sub { ($is = $value->()) eq $expected }), $what) or diag("it is: $is, not: $expected");
    return;
}

sub reload_with {
    my ($nginx, $blocks) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(scalar $nginx->reload(http => http($nginx, $blocks)), 'nginx reloads');
    return;
}

sub restart {
    my $nginx = shift;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop('TERM'), 'nginx stops');
    chmod 0777, $nginx->root;
    $nginx->start;
    return;
}

sub ends_well {
    my ($nginx, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop, 'nginx stops');
    is(join('', grep { my $line = $_; !grep { $line =~ $_ } @expected } $nginx->bad_lines), '', 'nothing bad is logged');
    return;
}

my $up = "upstream up { checkups_cluster; server 127.0.0.2:$port; server 127.0.0.3:$port; }";

# The changes that most of these begin with.
sub change {
    my $nginx = shift;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    is(plus($nginx, POST => 'up/servers', '{"server":"{4}","weight":2,"route":"a"}'), '201 2 {4} route=a weight=2', 'one is added');
    is(plus($nginx, POST => 'up/servers', '{"server":"{5}","backup":true,"slow_start":"3s"}'), '201 3 {5} backup=true slow_start=3s', 'and a backup');
    is(plus($nginx, DELETE => 'up/servers/0'), '200 1 {3}; 2 {4} route=a weight=2; 3 {5} backup=true slow_start=3s', 'one is removed');
    is(plus($nginx, PATCH => 'up/servers/1', '{"server":"{6}","drain":true}'), '200 1 {6} drain=true', 'one is changed');
    return;
}

my $changed = '1 {6} drain=true; 2 {4} route=a weight=2; 3 {5} backup=true slow_start=3s';

for my $state (0, 1) {
    my $kept = $state ? 'with state' : 'without state';
    subtest "a reload, $kept" => sub {
        my $nginx = nginx($up, state => $state)->start;
        change($nginx);
        reload_with($nginx, $up);
        is(servers($nginx), $changed, 'all is there, with its number');
        is(plus($nginx, POST => 'up/servers', '{"server":"{2}"}'), '201 4 {2}', 'what is removed does not get its number back');
        is(plus($nginx, DELETE => 'up/servers/4') =~ s/ .*//r, '200', 'removed again');
        reload_with($nginx, "$up upstream more { checkups_cluster; server 127.0.0.7:$port weight=3; }");
        is(servers($nginx), $changed, 'with another upstream as well');
        is(servers($nginx, 'more'), '0 {7} weight=3', 'which is there');
        is(plus($nginx, POST => 'up/servers', '{"server":"{2}"}'), '201 5 {2}', 'the number of the last one is not used again');
        is(plus($nginx, POST => 'more/servers', '{"server":"{2}"}'), '201 1 {2}', 'others have numbers of their own');
        reload_with($nginx, $up);
        is(servers($nginx), '1 {6} drain=true; 2 {4} route=a weight=2; 5 {2}; 3 {5} backup=true slow_start=3s', 'without the other one');
        like($nginx->failed_reload(http => http($nginx, "$up nonsense;")), qr/nonsense/, 'a reload fails');
        is(servers($nginx), '1 {6} drain=true; 2 {4} route=a weight=2; 5 {2}; 3 {5} backup=true slow_start=3s', 'nothing changed');
        is(plus($nginx, POST => 'up/servers', '{"server":"{3}"}'), '201 6 {3}', 'the next number');
        ends_well($nginx, qr/nonsense/);
    };

    subtest "the block changes, $kept" => sub {
        my $nginx = nginx($up, state => $state)->start;
        is(plus($nginx, POST => 'up/servers', '{"server":"{4}"}'), '201 2 {4}', 'one is added');
        reload_with($nginx, "upstream up { checkups_cluster; server 127.0.0.5:$port; server 127.0.0.3:$port weight=2; server 127.0.0.2:$port; }");
        is(servers($nginx), '3 {5}; 1 {3} weight=2; 0 {2}', 'who stays keeps its number, and a new one has a new one');
        is(plus($nginx, POST => 'up/servers', '{"server":"{4}"}'), '201 4 {4}', 'as before');
        ends_well($nginx);
    };

    subtest "a zone of another size, $kept" => sub {
        my $nginx = nginx("checkups_zone plus:2m; $up", state => $state)->start;
        change($nginx);
        is(plus($nginx, POST => 'up/servers', '{"server":"{2}"}'), '201 4 {2}', 'one is added');
        is(plus($nginx, DELETE => 'up/servers/4') =~ s/ .*//r, '200', 'and removed');
        reload_with($nginx, "checkups_zone plus:3m; $up");
        is(servers($nginx), $changed, 'all is there, with its number');
        is(plus($nginx, POST => 'up/servers', '{"server":"{2}"}'), '201 5 {2}', 'no number is used again');
        ends_well($nginx);
    };

    subtest "no server is left, $kept" => sub {
        my $nginx = nginx($up, state => $state)->start;
        is(plus($nginx, DELETE => 'up/servers/0'), '200 1 {3}', 'the one');
        is(plus($nginx, DELETE => 'up/servers/1'), '200 ', 'the other');
        is($nginx->get('/')->{code}, 502, 'requests fail');
        reload_with($nginx, $up);
        is(servers($nginx), '', 'a reload does not change that');
        is($nginx->get('/')->{code}, 502, 'requests fail');
        if ($state) {
            restart($nginx);
            is(servers($nginx), '', 'nor does a restart');
            is($nginx->get('/')->{code}, 502, 'requests fail');
        }
        like(plus($nginx, POST => 'up/servers', '{"server":"{4}"}'), qr/\A201 \d+ \{4\}\z/, 'one is added');
        is(used($nginx), '4', 'and used');
        ends_well($nginx);
    };
}

subtest 'a restart with state' => sub {
    my $nginx = nginx($up, state => 1)->start;
    change($nginx);
    restart($nginx);
    is(without_numbers($nginx), $changed =~ s/(\A|; )\d+ /$1/gr, 'all is there');
    my @numbers = map { $_->{id} } peers($nginx);
    is(scalar(keys %{{ map { $_ => 1 } @numbers }}), 3, 'with numbers of their own');
    my $before = servers($nginx);
    reload_with($nginx, $up);
    is(servers($nginx), $before, 'which stay');
    like(plus($nginx, POST => 'up/servers', '{"server":"{2}"}'), qr/\A201 \d+ \{2\}\z/, 'one is added');
    $nginx->kill_all;
    $nginx->start;
    is(without_numbers($nginx), '{6} drain=true; {4} route=a weight=2; {2}; {5} backup=true slow_start=3s', 'the same after a kill');
    is(used($nginx), '2 4', 'requests');
    $nginx->stop;
};

subtest 'a restart without state' => sub {
    my $nginx = nginx($up)->start;
    change($nginx);
    restart($nginx);
    is(servers($nginx), '0 {2}; 1 {3}', 'what is configured');
    ends_well($nginx);
};

subtest 'statistics' => sub {
    my $nginx = nginx($up)->start;
    my $counted = sub { return join ' ', map { "$_->{id}:$_->{requests}" } peers($nginx) };
    $nginx->bodies('/', 6);
    is($counted->(), '0:3 1:3', 'are counted');
    reload_with($nginx, $up);
    is($counted->(), '0:3 1:3', 'a reload keeps them');
    is(plus($nginx, PATCH => 'up/servers/0', '{"weight":2}'), '200 0 {2} weight=2', 'a server is changed');
    is($counted->(), '0:3 1:3', 'that keeps them, too');
    is(plus($nginx, POST => 'up/servers', '{"server":"{2}","backup":true}'), '201 2 {2} backup=true', 'the same address as a backup');
    is($counted->(), '0:3 1:3', 'is the same server, and counted once');
    is((call($nginx, DELETE => '9/http/upstreams/up'))[0], 204, 'they begin anew');
    is($counted->(), '0:0 1:0', 'with 0');
    $nginx->bodies('/', 3);
    is($counted->(), '0:2 1:1', 'and go on');
    ends_well($nginx);
};

subtest 'names' => sub {
    $names->set('up.test', map { "127.0.0.$_" } 3, 4);
    my $nginx = nginx("$resolver upstream up { checkups_cluster; server 127.0.0.2:$port; }")->start;
    is(plus($nginx, POST => 'up/servers', qq({"server":"up.test:$port","weight":2})), "201 1 up.test:$port weight=2", 'a name is added');
    my $of_name = "host=up.test:$port parent=1";
    like(servers($nginx), qr/\A0 \{2\}; 1 up\.test:$port weight=2; (?:2 \{3\}|2 \{4\}) weight=2 $of_name; 3 \{[34]\} weight=2 $of_name\z/, 'its addresses are behind it');
    my %number = map { $_->{server} => $_->{id} } peers($nginx);
    is(used($nginx), '2 3 4', 'and used');
    my ($three) = grep { defined } $number{"127.0.0.3:$port"};
    my ($four) = grep { defined } $number{"127.0.0.4:$port"};
    is(join(' ', sort $three, $four), '2 3', 'the peers have the same numbers');
    ok(!exists $number{"up.test:$port"}, 'the name is no peer');
    is((grep { $_->{id} == $three } peers($nginx))[0]{name}, "up.test:$port", 'but the name of its addresses');
    is(plus($nginx, GET => "up/servers/$four"), "200 $four {4} weight=2 $of_name", 'GET of an address');
    is(plus($nginx, GET => 'up/servers/1'), "200 1 up.test:$port weight=2", 'GET of the name');
    is(plus($nginx, PATCH => "up/servers/$three", '{"weight":3}'), '400 UpstreamServerImmutable', 'no PATCH of an address');
    is(plus($nginx, DELETE => "up/servers/$three"), '400 UpstreamServerImmutable', 'and no DELETE');
    is(plus($nginx, PATCH => 'up/servers/1', '{"server":"{7}"}'), '400 UpstreamServerImmutable', 'nor another address for the name');
    is(plus($nginx, POST => 'up/servers', qq({"server":"up.test:$port"})), '409 EntryExists', 'it is there');
    is(plus($nginx, PATCH => 'up/servers/1', qq({"server":"up.test:$port","weight":4})), "200 1 up.test:$port weight=4", 'the name is changed');
    is(plus($nginx, GET => "up/servers/$four"), "200 $four {4} weight=4 $of_name", 'and its addresses with it');
    $names->set('up.test', map { "127.0.0.$_" } 4, 5);
    becomes('others come and go', "0 {2}; 1 up.test:$port weight=4; 4 {5} weight=4 $of_name; $four {4} weight=4 $of_name", sub {
        my @servers = split /; /, servers($nginx);
        return join '; ', @servers[0, 1], sort { ($a =~ /\{4/ ? 1 : 0) <=> ($b =~ /\{4/ ? 1 : 0) } @servers[2 .. $#servers];
    });
    is(plus($nginx, GET => "up/servers/$three"), '404 UpstreamServerNotFound', 'one is gone');
    my $before = servers($nginx);
    $nginx->reload;
    is(servers($nginx), $before, 'a reload changes no number');
    is(plus($nginx, POST => 'up/servers', '{"server":"{6}"}'), '201 5 {6}', 'a server beside it');
    is(plus($nginx, DELETE => 'up/servers/1'), '200 0 {2}; 5 {6}', 'the name is removed, and its addresses with it');
    is(used($nginx), '2 6', 'requests');
    is(plus($nginx, POST => 'up/servers', qq({"server":"up.test:$port","backup":true,"down":true})), "201 6 up.test:$port backup=true down=true", 'the name as a backup');
    is(join(' ', map { "$_->{state}$_->{backup}" } peers($nginx)), 'up0 up0 down1 down1', 'its addresses are that, too');
    is(plus($nginx, POST => 'up/servers', '{"server":"gone.test:80"}'), '400 UpstreamBadAddress', 'a name that there is not');
    is(plus($nginx, PATCH => 'up/servers/0', qq({"server":"up.test:$port"})), '400 UpstreamBadAddress', 'an address does not become a name');
    ends_well($nginx);
};

subtest 'names with one address' => sub {
    $names->set("$_.test", '127.0.0.3') for qw(one two three);
    my $nginx = nginx("$resolver upstream up { checkups_cluster; server 127.0.0.2:$port; }")->start;
    is(plus($nginx, POST => 'up/servers', qq({"server":"$_.test:$port"})) =~ s/ .*//r, '201', "$_.test") for qw(one two three);
    my $numbers = sub { join ' ', map { my ($id, undef, %more) = split /[ =]/; "$id<" . ($more{parent} // '') } grep { /parent/ } split /; /, servers($nginx) };
    is($numbers->(), '2<1 4<3 6<5', 'their numbers');
    is(used($nginx), '2 3', 'requests');
    my $requests = sub { join ' ', map { "$_->{id}:$_->{requests}" } grep { $_->{id} >= 4 } peers($nginx) };
    my $before = $requests->();
    is(plus($nginx, DELETE => 'up/servers/1') =~ s/ .*//r, '200', 'one goes');
    is($numbers->(), '4<3 6<5', 'the others keep their numbers');
    is($requests->(), $before, 'and their statistics');
    $names->set('two.test', '127.0.0.4');
    becomes('one has another address', '7<3 6<5', $numbers);
    ends_well($nginx);
};

subtest 'services' => sub {
    $names->set('_http._tcp.svc.test', "SRV 1 1 $port a.test", "SRV 1 1 $port b.test");
    $names->set("$_->[0].test", "127.0.0.$_->[1]") for ['a', 3], ['b', 4];
    my $nginx = nginx("$resolver upstream up { checkups_cluster; server 127.0.0.2:$port; }")->start;
    is(plus($nginx, POST => 'up/servers', '{"server":"svc.test","service":"http","weight":2}'), '201 1 svc.test weight=2 service=http', 'a service');
    my @servers = split /; /, servers($nginx);
    is($servers[1], '1 svc.test weight=2 service=http', 'is listed without a port');
    is(join(' ', sort map { (split)[1] } @servers[2, 3]), '{3} {4}', 'and its addresses');
    like($servers[2], qr/ host=svc\.test parent=1/, 'are those of the name');
    is(plus($nginx, PATCH => 'up/servers/1', '{"service":"other"}'), '400 UpstreamConfFormatError', 'the service stays');
    is(plus($nginx, PATCH => 'up/servers/1', qq({"server":"svc.test$_"})), '200 1 svc.test weight=2 service=http', "its name: $_") for '', ':80';
    is(plus($nginx, PATCH => 'up/servers/1', qq({"server":"svc.test$_"})), '400 UpstreamServerImmutable', "another: $_") for ':81', ':x', ':';
    is(plus($nginx, PATCH => 'up/servers/1', '{"down":true}'), '200 1 svc.test down=true weight=2 service=http', 'the rest is changed');
    is(used($nginx), '2', 'requests');
    is(plus($nginx, POST => 'up/servers', '{"server":"svc.test","service":""}'), '400 UpstreamBadService', 'no empty service');
    is(plus($nginx, DELETE => 'up/servers/1'), '200 0 {2}', 'removed');
    ends_well($nginx);
};

subtest 'names of the configuration' => sub {
    plan skip_all => 'resolve came with nginx 1.27.3' if version_of() < 1_027_003;
    $names->set('up.test', map { "127.0.0.$_" } 3, 4);
    my $nginx = nginx("$resolver upstream up { checkups_cluster; zone up 64k; server up.test:$port resolve weight=2; }")->start;
    becomes('the servers are there', '{3} {4}', sub { join ' ', sort map { (split)[1] } split /; /, servers($nginx) });
    my ($first) = peers($nginx);
    is($first->{name}, "up.test:$port", 'the name');
    is(plus($nginx, POST => 'up/servers', '{"server":"{2}"}'), '400 UpstreamStatic', 'they are nginx\'s to change');
    is(plus($nginx, PATCH => "up/servers/$first->{id}", '{"weight":3}'), '400 UpstreamServerImmutable', 'to change');
    is(plus($nginx, DELETE => "up/servers/$first->{id}"), '400 UpstreamServerImmutable', 'and to remove');
    unlike((call($nginx, DELETE => "9/http/upstreams/up/servers/$first->{id}"))[1]{error}{text}, qr/found by a name/, 'all of them are');
    my $before = servers($nginx);
    $nginx->reload;
    becomes('the same after a reload', $before, sub { servers($nginx) });
    ends_well($nginx);
};

done_testing();
