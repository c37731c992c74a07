package Holding;

# Requests that stay under way for as long as a test likes, by the hundred.
#
#   holding_servers(qw(X Y Z));             # $TEST_NGINX_BACKEND_X and so on are their ports
#   my $letters = hold('/', @connections);  # begins a request on each: "XYZ", their servers
#   let_go(@connections);                   # ends them
#
# The servers, which are one process, say their letter. A request that upgrades its connection
# stays under way until the client says "bye"; nginx passes such requests on with
# $Holding::proxying in its configuration. The connections are those of Backends.

use strict;
use warnings;

use Exporter 'import';
use IO::Select ();
use IO::Socket::INET ();
use POSIX ();

use Backends ();

our @EXPORT = qw(holding_servers hold let_go);

our $proxying = <<'END';
    map $http_upgrade $connection_header { '' ''; default upgrade; }
    proxy_http_version 1.1;
    proxy_set_header Connection $connection_header;
    proxy_set_header Upgrade $http_upgrade;
END

#-- The side of the test ---------------------------------------------------

my ($pid, $lifeline);
my $owner = $$;

sub holding_servers {
    my %servers;        # by the listening socket
    for my $letter (@_) {
        my $listening = IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 511,
        ) or die "cannot listen: $!";
        $servers{$listening} = { letter => $letter, listening => $listening };
        Backends::name_port($letter, $listening->sockport);
    }
    # The process ends when this one is gone, however that came about.
    pipe my $end, $lifeline or die "pipe: $!";
    defined($pid = fork) or die "fork: $!";
    return if $pid;
    close $lifeline;
    $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP);
    $SIG{PIPE} = 'IGNORE';
    open STDOUT, '>', '/dev/null';
    open STDIN, '<', '/dev/null';
    eval { play($end, %servers); 1 } or print STDERR "holding servers: $@";
    POSIX::_exit(0);
}

# Begins requests that stay under way, on all these connections at the same time. Returns the
# letters of their servers, and "-" for each that got an answer of another kind.
sub hold {
    my ($path, @connections) = @_;
    $_->request($path, headers => ['Upgrade: hold']) for @connections;
    return join '', map { $_->answer->{headers}{'x-holds'} // '-' } @connections;
}

# Ends them: as many "x" as have come to their end. nginx is done with a request when its
# connection is closed.
sub let_go { return join '', map { $_->say_raw('bye')->at_end ? 'x' : '?' } @_ }

END {
    if ($pid && $$ == $owner) {
        local $?;
        close $lifeline;
        waitpid $pid, 0;
    }
}

#-- The process ------------------------------------------------------------

sub play {
    my ($end, %servers) = @_;
    my $select = IO::Select->new($end, map { $_->{listening} } values %servers);
    my %clients;        # by the connection
    while (my @ready = $select->can_read) {
        for my $socket (@ready) {
            return if $socket == $end;
            if (my $server = $servers{$socket}) {
                my $accepted = $server->{listening}->accept or next;
                $clients{$accepted} = { letter => $server->{letter}, text => '' };
                $select->add($accepted);
                next;
            }
            my $client = $clients{$socket};
            my $came = sysread $socket, $client->{text}, 65536, length $client->{text};
            next if $came && goes_on($client, $socket);
            delete $clients{$socket};
            $select->remove($socket);
            close $socket;
        }
    }
    return;
}

# Does what has come from a client. False at the end.
sub goes_on {
    my ($client, $socket) = @_;
    my $letter = $client->{letter};
    while (!$client->{held} && $client->{text} =~ s/\A(.*?\r\n)\r\n//s) {
        $client->{held} = $1 =~ /^Upgrade:/mi;
        syswrite $socket, $client->{held}
            ? "HTTP/1.1 101 Held\r\nConnection: upgrade\r\nUpgrade: hold\r\nX-Holds: $letter\r\n\r\n"
            : "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n$letter";
    }
    return !$client->{held} || $client->{text} !~ /bye/;
}

1;
