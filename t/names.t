# Servers that are names: their addresses come and go, by nginx's resolver for changes at run
# time, and by nginx itself for "resolve" in the configuration.

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

my $names = NameServer->start;
my $port = NginxRunner::free_port();
my $resolver = 'resolver 127.0.0.1:' . $names->port . ' valid=1s ipv6=off; resolver_timeout 1s;';

my $backends = join '', map { "server { listen 127.0.0.$_:$port; return 200 \"$_\\n\"; }\n" } 2 .. 6;

sub nginx {
    my ($http, %more) = @_;
    return NginxRunner->new(
        workers => 2, http => $backends . $http, %more,
        server => 'location /change/ { checkups_api write=on; } location /get { proxy_pass http://any; }',
    );
}

my $any = 'upstream any { checkups_cluster up$arg_c; }';

# A request to the API: its status, and what is in the body.
sub call {
    my ($nginx, $method, $path, $body) = @_;
    my $text = defined $body ? JSON::PP->new->canonical->encode($body) : '';
    my $type = defined $body ? "Content-Type: application/json\r\nContent-Length: " . length($text) . "\r\n" : '';
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or die "connect: $!";
    syswrite $socket, "$method /change/clusters/$path HTTP/1.1\r\nHost: a\r\nConnection: close\r\n$type\r\n$text";
    my $answer = $nginx->answer($socket);
    return ($answer->{code}, JSON::PP::decode_json($answer->{body}));
}

sub put { return call($_[0], PUT => 'up', { levels => [{ servers => $_[1] }], %{ $_[2] // {} } }) }

# The servers that answer, and those that do not.
sub used {
    my $nginx = shift;
    my %seen = map { $_ => 1 } $nginx->bodies('/get', 24);
    return join ' ', sort keys %seen;
}

sub becomes {
    my ($nginx, $expected, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $used;
    ok(NginxRunner::wait_until(10, sub { ($used = used($nginx)) eq $expected }), "$what: $expected") or diag("it is: $used");
    return;
}

sub error_of { return "$_[0] $_[1]{error}{code}: $_[1]{error}{text}" }

my $up = { server => "up.test:$port", weight => 2 };

subtest 'addresses come and go' => sub {
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    my $nginx = nginx("$resolver $any")->start;
    is((put($nginx, [$up]))[0], 201, 'the cluster is there');
    is(used($nginx), '2 3', 'and so are its servers, from the first request on');
    my ($code, $shown) = call($nginx, GET => 'up');
    my $server = $shown->{levels}[0]{servers}[0];
    is("$server->{server} $server->{weight}", "up.test:$port 2", 'the name is what is shown');
    ok($server->{resolve}, 'as one that is looked up');
    is((put($nginx, $shown->{levels}[0]{servers}))[0], 200, 'and what is shown is taken');
    $names->set('up.test', map { "127.0.0.$_" } 3, 4);
    becomes($nginx, '3 4', 'others');
    is((call($nginx, PATCH => "up/servers/up.test:$port", { weight => 3 }))[0], 200, 'the name is changed');
    is(used($nginx), '3 4', 'its addresses stay');
    my @servers = $nginx->servers('up');
    is(join(' ', map { $_->{weight} } @servers), '3 3', 'and have the weight');
    $names->set('up.test');
    sleep 2;
    is(used($nginx), '3 4', 'a name that is lost keeps its last addresses');
    like($nginx->log, qr/cluster "up", server "up\.test:$port": Host not found, the last known addresses stay/, 'the log says so');
    $nginx->reload;
    is(used($nginx), '3 4', 'over a reload, too');
    $names->set('up.test', '127.0.0.5');
    becomes($nginx, '5', 'it is found again');
    is((call($nginx, POST => 'up/servers', { server => "127.0.0.6:$port" }))[0], 201, 'a server beside the name');
    is(used($nginx), '5 6', 'both are used');
    is((call($nginx, DELETE => "up/servers/up.test:$port"))[0], 200, 'the name is removed');
    is(used($nginx), '6', 'and its address with it');
    $nginx->stop;
    is($nginx->bad_lines, 0, 'nothing bad is logged');
};

subtest 'services' => sub {
    $names->set('_http._tcp.svc.test', "SRV 1 1 $port a.test", "SRV 1 1 $port b.test", "SRV 2 1 $port c.test");
    $names->set("$_->[0].test", "127.0.0.$_->[1]") for ['a', 2], ['b', 3], ['c', 4];
    my $nginx = nginx("$resolver $any")->start;
    is((put($nginx, [{ server => 'svc.test', service => 'http' }]))[0], 201, 'a service');
    is(used($nginx), '2 3', 'has the servers of its best priority');
    $names->set('_http._tcp.svc.test', "SRV 2 1 $port c.test");
    becomes($nginx, '4', 'others');
    $nginx->stop;
};

subtest 'what is refused' => sub {
    $names->set('up.test', '127.0.0.2');
    $names->set('gone.test');
    my $nginx = nginx($any)->start;
    is(error_of(put($nginx, [$up])), '400 NoResolver: a server that is a name needs "resolver" in the http block of the configuration', 'without a resolver');
    $nginx->reload(http => "$backends $resolver $any");
    is(error_of(put($nginx, [{ server => 'gone.test:80' }])), '400 NameUnresolved: "gone.test:80": Host not found', 'a name that there is not');
    is((call($nginx, GET => 'up'))[0], 404, 'nothing has come of it');
    is(error_of(put($nginx, [{ server => 'up.test:80', resolve => JSON::PP::false }])),
        '400 BodyInvalid: server "up.test:80": a name is looked up again and again', 'a name that is not to be looked up');
    $nginx->stop;
};

subtest 'a start without a name server' => sub {
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    my $nginx = nginx("$resolver checkups_state state; $any");
    $nginx->{http} =~ s{checkups_state state}{'checkups_state ' . $nginx->root . '/state'}e;
    chmod 0777, $nginx->root;
    $nginx->start;
    is((put($nginx, [$up]))[0], 201, 'a cluster that is kept');
    $nginx->stop;
    $names->set('up.test');
    $nginx->start;
    is(used($nginx), '2 3', 'the last known addresses are kept with it');
    $nginx->stop;
};

subtest 'names of the configuration' => sub {
    plan skip_all => 'resolve came with nginx 1.27.3' if version_of() < 1_027_003;
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    my $block = sub { "upstream up { checkups_cluster; $_[0] server up.test:$port resolve weight=2; checkups_check tcp interval=50ms; } $any" };
    my $without = nginx($resolver . $block->(''));
    ok(!$without->try_to_start, 'without a zone nginx does not start');
    like($without->log, qr/resolving names at run time requires upstream "up" in .* to be in shared memory/, 'by an error of its own');
    my $nginx = nginx($resolver . $block->('zone up 64k;'))->start;
    becomes($nginx, '2 3', 'the servers are there');
    $names->set('up.test', map { "127.0.0.$_" } 3, 4, 5);
    becomes($nginx, '3 4 5', 'others');
    ok($nginx->wait_for_states('up', 'ok ok ok'), 'they are checked');
    my ($code, $shown) = call($nginx, GET => 'up');
    is(join(' ', map { "$_->{server} $_->{weight}" } sort { $a->{server} cmp $b->{server} } @{ $shown->{levels}[0]{servers} }),
        "127.0.0.3:$port 2 127.0.0.4:$port 2 127.0.0.5:$port 2", 'and shown');
    is(error_of(call($nginx, POST => 'up/servers', { server => "127.0.0.2:$port" })),
        '409 FollowsNginx: nginx finds the servers of this cluster, by "resolve" in its upstream', 'they are nginx\'s to change');
    is((call($nginx, PUT => 'up', { balance => 'least_conn' }))[0], 200, 'the rest is changed');
    is(used($nginx), '3 4 5', 'with the same servers');
    $names->set('up.test', map { "127.0.0.$_" } 2, 3);
    becomes($nginx, '2 3', 'they go on coming and going');
    $nginx->reload;
    is(used($nginx), '2 3', 'over a reload, too');
    is((call($nginx, GET => 'up'))[1]{balance}, 'least_conn', 'which keeps what was changed');
    $nginx->stop;
    is($nginx->bad_lines, 0, 'nothing bad is logged');
};

done_testing();
