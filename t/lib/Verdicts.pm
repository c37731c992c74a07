package Verdicts;

# Tables of checks and what they have to find out, for the files of Test::Nginx:
#
#   --- verdicts
#   REDIS: redis => ok
#   LOCKED: redis password=wrong => err redis: WRONGPASS invalid username-password pair or user
#   2: https ssl_verify=off => err ~timed out
#
# A line is a server, a check, and the state and message that the status has to
# show in the end; behind "~" stands a pattern for the message. REDIS is the
# server on $TEST_NGINX_REDIS_PORT, 2 that on $TEST_NGINX_RAND_PORT_2. Each line
# is an upstream of its own, v1 and so on, with protected=off, so that a server
# that fails is err although there is no other. Parameters with blanks in them
# are in quotes as a whole, as in nginx.
#
# What the log says of each server has to be the same. Nothing of the word
# "sesame", which all passwords of the tests have in them, may be in the log, in
# the status, or in what the API tells of the clusters.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET ();
use JSON::PP ();
use NginxRunner ();
use Test::Nginx::Socket;

our @EXPORT = qw(fetch state_of servers_of states_are verdicts_are keeps_secrets log_text);

add_block_preprocessor(sub {
    my $block = shift;
    my $upstreams = '';
    for my $line (table($block)) {
        my $address = address($line->{server});
        my $slow = $line->{check} =~ /\b(?:interval|timeout)=/ ? '' : 'interval=100ms timeout=10s';
        $upstreams .= "upstream $line->{name} { checkups_cluster protected=off; server $address;"
            . " checkups_check $line->{check} $slow; }\n";
    }
    $block->set_value(http_config => $upstreams . ($block->http_config // '')) if $upstreams;
    $block->set_value(config => 'location /api/ { checkups_api; }') if !defined $block->config;
    return if defined $block->request || defined $block->must_die;
    # The block is over when its --- init is.
    $block->set_value(request => 'GET /api/status');
    $block->set_value(response_body_unlike => 'sesame');
    my $init = $block->init // '';
    $block->set_value(init => "main::verdicts_are(\$block); $init") if $upstreams;
});

sub table {
    my $block = shift;
    my $text = $block->verdicts // return;
    my $number = 0;
    return map {
        /^(\w+): (.*?) => (\w+)(?: (.*))?$/ or die "no line of verdicts: $_\n";
        { name => 'v' . ++$number, server => $1, check => $2, state => $3, message => $4, line => $_ }
    } grep { /\S/ && !/^#/ } split /\n/, $text;
}

sub address {
    my $server = shift;
    return '127.0.0.1:$TEST_NGINX_' . ($server =~ /^\d+$/ ? "RAND_PORT_$server" : "${server}_PORT");
}

# The body of the answer to a request.
sub fetch {
    my $path = shift;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port(), Timeout => 10) or return '';
    print $socket "GET $path HTTP/1.0\r\n\r\n";
    my ($body) = do { local $/ = undef; readline $socket } =~ /\r\n\r\n(.*?)\n?\z/s;
    return $body // '';
}

# What the status says of the servers of a cluster.
sub servers_of {
    my $cluster = shift;
    my $levels = JSON::PP->new->utf8->decode(fetch('/api/status'))->{"cls:$cluster"} // return;
    return map { @$_ } @$levels;
}

sub state_of {
    my $server = shift;
    return join ' ', grep { defined } @$server{qw(status msg)};
}

# Waits until the servers of a cluster are in these states: "ok", "err connection refused",
# "err ~^mysql: .*".
sub states_are {
    my ($cluster, @wanted) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @servers;
    my $right = sub {
        @servers = servers_of($cluster);
        return @servers == @wanted && !grep { !is_in($servers[$_], split / /, $wanted[$_], 2) } 0 .. $#wanted;
    };
    return ok(NginxRunner::wait_until(15, $right), "the servers of $cluster are: " . join ', ', @wanted)
        || diag('they are: ', join ', ', map { state_of($_) } @servers);
}

# Whether a server has this state and message, as they are written in a table.
sub is_in {
    my ($server, $state, $message) = @_;
    return $server->{status} eq $state && fits($server->{msg}, $message);
}

sub fits {
    my ($message, $wanted) = @_;
    return !defined $message if !defined $wanted;
    return defined $message && ($wanted =~ /^~(.*)/ ? $message =~ /$1/ : $message eq $wanted);
}

sub log_text { return NginxRunner::slurp($Test::Nginx::Util::ErrLogFile) }

sub verdicts_are {
    my $block = shift;
    my @lines = table($block);
    my %status;
    NginxRunner::wait_until(15, sub {
        my $body = fetch('/api/status') or return 0;
        %status = %{ JSON::PP->new->utf8->decode($body) };
        # Not the first verdict that is right: one that is not ends it as well.
        return !grep { my $server = $status{"cls:$_->{name}"}[0][0]; $server->{status} eq 'unchecked' } @lines;
    });
    my $log = log_text();
    for my $line (@lines) {
        my $server = $status{"cls:$line->{name}"}[0][0];
        ok(is_in($server, @$line{'state', 'message'}), $line->{line}) or diag('it is: ', state_of($server));
        Test::More::note('it is: ', state_of($server)) if ($line->{message} // '') =~ /^~/;
        my @logged = $log =~ /checkups: cluster "$line->{name}", server "[^"]+": from (.*)/g;
        my $good = $line->{state} eq 'ok' ? !@logged
            : @logged == 1 && $logged[0] =~ /^unchecked to $line->{state}: (.*)/ && fits($1, $line->{message});
        ok($good, "the log of $line->{name}") or diag(join "\n", @logged);
    }
    keeps_secrets(map { $_->{name} } @lines);
    return;
}

# Nobody tells a password, or what it is made of.
sub keeps_secrets {
    my @told = (['the log', log_text()], map { [$_, fetch($_)] }
        '/api/status', '/api/clusters/', map { "/api/clusters/$_" } @_);
    my @empty = map { $_->[0] } grep { !length $_->[1] && $_->[0] ne 'the log' } @told;
    is("@empty", '', 'the API tells what there is');
    my @telling = map { $_->[0] } grep { $_->[1] =~ /sesame/i } @told;
    is("@telling", '', 'no password is told');
    return;
}

1;
