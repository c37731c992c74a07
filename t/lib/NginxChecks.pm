package NginxChecks;

# What the blocks of t/check_http.t and t/check_tcp.t do besides their requests.
# The servers are played by NginxBackend, which explains "--- backend". The
# functions are for "--- init", where nginx runs: call them as main::NAME there.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET ();
use NginxBackend;
use Test::More ();
use Test::Nginx::Socket;

our @EXPORT = qw(backend no_ipv6 checked connected get status_is history_until went_through logged log_is
    log_is_in_some_order states);

my $backend = NginxBackend->start;
my $no_ipv6 = !-e '/proc/net/if_inet6' || !eval { $backend->add('six', kind => 'inet6') };
add_block_preprocessor(sub { $backend->prepare_block(shift) });

sub backend { return $backend }
sub no_ipv6 { return $no_ipv6 }

# Waits until so many checks have come to these servers.
sub checked {
    my %count = @_;
    for my $name (sort keys %count) {
        ok($backend->wait_for($name, $count{$name}), "$count{$name} checks of $name have come");
    }
    return;
}

# Waits until so many connections have come to these servers.
sub connected {
    my %count = @_;
    for my $name (sort keys %count) {
        ok($backend->wait_for_connections($name, $count{$name}), "$count{$name} connections to $name");
    }
    return;
}

# The body of the answer to a request of our own, without the newline at its end.
sub get {
    my $path = shift;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => server_port()) or return '';
    print $socket "GET $path HTTP/1.0\r\n\r\n";
    my ($body) = do { local $/ = undef; readline $socket } =~ /\r\n\r\n(.*?)\n?\z/s;
    return $body // '';
}

# Waits until the status is that of a pattern, or of states(@_).
sub status_is {
    my $pattern = ref $_[0] ? $_[0] : states(@_);
    my $body = '';
    ok($backend->wait_until(10, sub { ($body = get('/api/status')) =~ $pattern }), 'the status is as it should be')
        or diag("$body\nis not: @_");
    return;
}

# What the first server of the status was like, "status fail_num", one element
# for each time it was something else, until it is $end.
sub history_until {
    my $end = shift;
    my @history = ('');
    $backend->wait_until(10, sub {
        my ($state, $fails) = get('/api/status') =~ /"status":"(\w+)"(?:,"fail_num":(\d+))?/;
        $state = join ' ', $state, $fails // ();
        push @history, $state if $state ne $history[-1];
        return $state eq $end;
    });
    return @history[1 .. $#history];
}

# Of these some may have been missed, but nothing else was seen, and the last was.
sub went_through {
    my ($history, @allowed) = @_;
    my @left = @allowed;
    for my $state (@$history) {
        shift @left while @left && $left[0] ne $state;
    }
    ok(@left == 1, "the status went through: @allowed") or diag(Test::More::explain($history));
    return;
}

# What checkups has logged so far: a line as `a: TEXT` where it is a notice of
# server a of cluster "up", as `TEXT` where it is one of that cluster; else whole.
sub logged {
    open my $log, '<', $Test::Nginx::Util::ErrLogFile or die "no error.log: $!";
    my @lines = map { / (\[\w+\]) [^ ]+ checkups: (.*)/ ? "$1 $2" : () } readline $log;
    for my $line (@lines) {
        for my $name (grep { $ENV{"TEST_NGINX_BACKEND_\U$_"} } 'a' .. 'i') {
            $line =~ s/"\Q$ENV{"TEST_NGINX_BACKEND_\U$name"}\E"/$name/;
        }
        $line =~ s/^\[notice\] cluster "up"(?:, server|:) //;
    }
    return @lines;
}

sub log_is { return is_deeply([logged()], \@_, 'the log is as it should be') || diag(Test::More::explain([logged()])) }

# For lines of servers that do not wait for each other.
sub log_is_in_some_order {
    my @logged = sort { $a cmp $b } logged();
    return is_deeply(\@logged, [sort { $a cmp $b } @_], 'the log is as it should be') || diag(Test::More::explain(\@logged));
}

# A pattern for the state of all servers of cluster "up", whose level is the
# first of the status: each as "status fail_num message", the latter two as far
# as there are any. The number may be a pattern.
sub states {
    my $servers = join ',', map {
        my ($state, $fails, $message) = split / /, $_, 3;
        my $checked = '';
        if (defined $fails) {
            $message = defined $message ? qq("\Q$message\E") : 'null';
            $checked = qq(,"fail_num":$fails,"lastmodified":"[-0-9]{10} [:0-9]{8}","msg":$message);
        }
        qq(\\{"server":"up:[^"]+","status":"$state"$checked,"weight":1,"max_fails":1,"fail_timeout":10\\})
    } @_;
    return qr/\A\{"cls:up":\[\[$servers\]\],/;
}

1;
