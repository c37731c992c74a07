# Upstreams that nginx balances: what is refused at nginx -t, and what the API
# shows of them and refuses.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use NginxRunner;
use NginxSettings;
use PlayedServers;
use StockWorkers;
use Test::More;
use Versions;

my $check = 'checkups_check tcp;';
my $servers = 'server 127.0.0.1:81; server 127.0.0.2:81;';

# The lines by which a configuration is refused, without its place.
sub refused {
    my ($http, $server) = @_;
    my $nginx = NginxRunner->new(http => $http, server => $server // '');
    $nginx->write_config;
    my $root = $nginx->root;
    delete local $ENV{NGINX};
    my $said = `$ENV{TEST_NGINX_BINARY} -t -e stderr -p $root/ -c $root/nginx.conf 2>&1`;
    return $said =~ /test is successful/ ? 'it is accepted' : join ' | ', map {
        /\[emerg\] \d+#\d+: (?:checkups: )?(.*)/ || /\[emerg\] (?:checkups: )?(.*)/ ? $1 =~ s/ in \S+nginx\.conf:\d+//gr : ()
    } grep { !/\d+#\d+: .*\d+#\d+: / } split /\n/, $said;
}

sub refuses {
    my ($message, $name, @config) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return like(refused(@config), qr/\A(?:\Q$message\E(?: \| )?)+\z/, $name);
}

is(refused("upstream up { $servers $check }"), 'it is accepted', 'a plain one');
is(refused("upstream up { $servers }"), 'it is accepted', 'one without checks');
is(refused("upstream up { zone up 64k; $check hash \$uri; keepalive 4; $servers }"), 'it is accepted', 'directives in any order');
is(refused("checkups_check tcp; upstream a/b { $servers checkups_check off; }"), 'it is accepted', 'a name that does not matter');

refuses('"checkups_check" directive: upstream "a/b": invalid cluster name "a/b", it must be 1 to 128 letters, digits and the characters . _ : -; or leave it alone by "checkups_check off"',
    'a name that no cluster can have', "upstream a/b { $servers $check }");
refuses('"checkups_check" directive: upstream "a/b": invalid cluster name "a/b", it must be 1 to 128 letters, digits and the characters . _ : -; or leave it alone by "checkups_check off"',
    'where the check is inherited', "checkups_check tcp; upstream a/b { $servers }");
refuses('"checkups_check" directive: upstream "up": duplicate cluster name, it is that of the upstream as well',
    'a name that another cluster has', "upstream other { checkups_cluster up; $servers } upstream up { $servers $check }");
refuses('"checkups_check" directive: upstream "up": its checks differ in "protected=", which is about all of them together',
    'protected= twice', "upstream up { $servers checkups_check tcp protected=one; checkups_check http protected=off; }");
is(refused("upstream up { $servers checkups_check tcp protected=one; checkups_check http; }"), 'it is accepted', 'protected= once');
refuses('"checkups_server" directive: there is no server "127.0.0.3:81" in the block',
    'checkups_server of another server', "upstream up { $servers $check checkups_server 127.0.0.3:81 check=off; }");
refuses('"checkups_server" directive: it must stand together with "checkups_cluster" or "checkups_check"',
    'checkups_server without checks', "upstream up { $servers checkups_server 127.0.0.1:81 check=off; }");
refuses('"checkups_server" directive: it must stand together with "checkups_cluster"',
    'slow_start= is for clusters', "upstream up { $servers $check checkups_server 127.0.0.1:81 slow_start=5s; }");
for my $directive ('checkups_balance least_conn', 'checkups_order $arg_order', 'checkups_fail_status 500') {
    my ($name) = $directive =~ /^(\w+)/;
    refuses(qq("$name" directive: it must stand together with "checkups_cluster"), "$name is for clusters", "upstream up { $servers $check $directive; }");
}
my $select = 'nginx selects the servers of this cluster, as its upstream has no checkups_cluster';
refuses(qq("\$checkups_select_up": $select; it is that of the upstream),
    'the variable that selects', "upstream up { $servers $check }", 'location / { return 200 $checkups_select_up; }');
is(refused("upstream up { checkups_cluster; $servers }", 'location / { return 200 $checkups_select_up; }'), 'it is accepted', 'of a cluster');

subtest 'the API' => sub {
    servers(a => '200', b => '503', c => '200');
    my $nginx = stock(
        http => block(up => 'hash $uri; server @a weight=2; server @b max_fails=3; server @c down; checkups_check http interval=20ms timeout=5s protected=one;'),
        server => 'location /_api/ { checkups_api write=on; }',
    );
    settled($nginx, a => 'ok', b => 'err', c => 'unchecked');
    my $shown = $nginx->get('/api/clusters/up')->{body};
    my $servers = json_level(undef, [
        json_server(address('a'), weight => 2), json_server(address('b'), max_fails => 3), json_server(address('c'), down => 'true'),
    ]);
    my ($checks) = $shown =~ /"checks":(\[.*\])\}\z/;
    is(without_version($shown), json_cluster('up', [$servers], balance => '"nginx"', protected => '"one"', checks => $checks), 'clusters/up');
    like($checks, qr/\A\[\{"type":"http",/, 'with its checks');
    like($nginx->get('/api/clusters/')->{body}, qr/\A\{"up":\{"name":"up","version":\d+,"balance":"nginx",/, 'clusters/');
    my @status = $nginx->servers('up');
    is_deeply([map { [@$_{qw(server status msg)}] } @status], [
        ['up:' . address('a'), 'ok', JSON::PP::null()], ['up:' . address('b'), 'err', 'status 503'], ['up:' . address('c'), 'unchecked', undef],
    ], 'status') or diag(explain(\@status));

    my $answer = $nginx->get('/api/clusters/up/select');
    is($answer->{code}, 409, 'select is refused');
    like($answer->{body}, qr/"text":"\Q$select\E","code":"BalancedByNginx"/, 'in words');
    my $body = '{"failed":true}';
    my $address = address('a');
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or die "connect: $!";
    print $socket join "\r\n", "POST /_api/clusters/up/servers/$address/feedback HTTP/1.0", 'Content-Type: application/json',
        'Content-Length: ' . length $body, '', $body;
    $answer = $nginx->answer($socket);
    is($answer->{code}, 409, 'feedback is refused');
    like($answer->{body}, qr/"code":"BalancedByNginx"/, 'in words');
    ends_well($nginx);
};

done_testing();
