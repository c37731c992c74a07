package CountedServers;

# Servers that do what a request says, and count each byte that they get and send.
#
#   counted_servers(qw(a b));               # their addresses: server_at('a')
#   begin($nginx, '/', do => 'a=503 b=hang') ...
#   traffic('a');                           # "sent 100 received 200", as nginx has to see it
#   begin_traffic();                        # it is counted from here on, and nothing is released
#
# What a server does is said by the header "X-Do: a=503 b=close". Without a word for it a
# server answers 200, with its name as the body:
#
#   503        an answer of this status; without a body where the status has none
#   200:5000   with a body of so many bytes
#   101        the connection is upgraded; what comes then is sent back
#   slow       100 ms until the header, and 200 ms more until the end
#   wait       an answer when the test calls release()
#   pause      the header and the first byte of 3, the rest when the test calls release()
#   hang       nothing at all         close   the end of the connection
#   half       the end within the header
#   line:503   the line of the status, the rest when the test calls release()
#   cut        the end within the body

use strict;
use warnings;

use Backends ();
use Exporter 'import';
use Fcntl qw(O_APPEND O_CREAT O_WRONLY);
use File::Temp ();
use IO::Select ();
use IO::Socket::INET ();
use Time::HiRes qw(sleep);

our @EXPORT = qw(counted_servers server_at begin finish asked release hold_back traffic begin_traffic);

my $directory = File::Temp->newdir('checkups-s.XXXXXX', TMPDIR => 1);

#-- The side of the test ---------------------------------------------------

sub counted_servers {
    my %file = map { $_ => "$directory/$_" } @_;
    my $go = "$directory/go";
    for my $name (@_) {
        Backends::serve($name, sub {
            sysopen my $file, $file{$name}, O_WRONLY | O_APPEND | O_CREAT or die "$file{$name}: $!";
            my $self = bless { name => $name, connection => shift, file => $file, go => $go, text => '' }, __PACKAGE__;
            1 while $self->one_more;
        });
    }
    return;
}

sub server_at { return '127.0.0.1:' . Backends::port_of($_[0]) }

# Ends the waits of all servers, until hold_back().
sub release {
    open my $go, '>', "$directory/go" or die "go: $!";
    return;
}

sub hold_back { unlink "$directory/go"; return }

# The bytes that came to a server, and those that it sent.
sub traffic {
    my $name = shift;
    my %bytes = (sent => 0, received => 0);
    if (open my $file, '<', "$directory/$name") {
        while (<$file>) { /^(\w+) (\d+)$/ and $bytes{$1} += $2 }
    }
    return "sent $bytes{sent} received $bytes{received}";
}

sub begin_traffic {
    unlink glob "$directory/*";
    return;
}

# Sends a request over a connection that ends with it: do, method, body, headers.
sub begin {
    my ($nginx, $path, %option) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or die "connect: $!";
    my @headers = ('Host: localhost', @{ $option{headers} // ['Connection: close'] });
    push @headers, "X-Do: $option{do}" if $option{do};
    push @headers, 'Content-Length: ' . length $option{body} if defined $option{body};
    local $SIG{PIPE} = 'IGNORE';
    print $socket join "\r\n", ($option{method} // 'GET') . " $path HTTP/1.1", @headers, '', $option{body} // '';
    $socket->flush;
    return $socket;
}

# Reads up to the end of the connection: all is counted then. Returns the status and the body.
sub finish {
    my $socket = shift;
    my $text = '';
    1 while IO::Select->new($socket)->can_read(10) && sysread $socket, $text, 65536, length $text;
    my ($code, $body) = $text =~ m{\AHTTP/1\.1 (\d+).*?\r\n\r\n(.*)\z}s or return ('', $text);
    return ($code, $body);
}

# The statuses of requests, one after the other: asked($nginx, '/', 'a=503', 'b=404 a=hang').
sub asked {
    my ($nginx, $path, @do) = @_;
    return join ' ', map { (finish(begin($nginx, $path, do => $_)))[0] } @do;
}

#-- The side of a server: a process for each connection --------------------

sub more {
    my $self = shift;
    my $count = sysread($self->{connection}, $self->{text}, 65536, length $self->{text}) or return 0;
    syswrite $self->{file}, "sent $count\n";
    return $count;
}

# It is noted before: who has got an answer can rely on that.
sub say_it {
    my ($self, $text) = @_;
    syswrite $self->{file}, 'received ' . length($text) . "\n";
    for (my $at = 0; $at < length $text;) {
        $at += syswrite($self->{connection}, $text, length($text) - $at, $at) // return 0;
    }
    return 1;
}

# Does what one request says. False at the end of the connection.
sub one_more {
    my $self = shift;
    until ($self->{text} =~ /\r\n\r\n/) { $self->more or return 0 }
    $self->{text} =~ s/\A(.*?\r\n)\r\n//s;
    my $head = $1;
    my ($length) = $head =~ /^Content-Length: (\d+)/mi;
    until (length $self->{text} >= ($length // 0)) { $self->more or return 0 }
    substr $self->{text}, 0, $length // 0, '';
    my ($do) = $head =~ /^X-Do:.*?\b$self->{name}=(\S+)/mi;
    $self->act($do // 200, $head) or return 0;
    return $head !~ /^Connection: close/mi;
}

sub act {
    my ($self, $do, $head) = @_;
    if ($do eq 'close') { return 0 }
    if ($do eq 'hang') { return $self->more }
    if ($do eq 'half') { $self->say_it("HTTP/1.1 200 OK\r\nContent-Le"); return 0 }
    if ($do eq 'cut') { $self->say_it("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"); return 0 }
    if ($do eq '101') {
        $self->say_it("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
        while (1) {
            $self->say_it(substr $self->{text}, 0, length $self->{text}, '') if length $self->{text};
            $self->more or return 0;
        }
    }
    my $wait = sub {
        for (1 .. 1000) { return 1 if -e $self->{go}; sleep 0.01 }
        return 0;
    };
    if ($do eq 'slow') {
        sleep 0.1;
        $self->say_it("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na");
        sleep 0.2;
        return $self->say_it('bc');
    }
    if ($do eq 'pause') {
        $self->say_it("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\na");
        return $wait->() && $self->say_it('bc');
    }
    if ($do =~ /\Aline:(\d{3})\z/) {
        $self->say_it("HTTP/1.1 $1 Said\r\n");
        return $wait->() && $self->say_it("Content-Length: 0\r\n\r\n");
    }
    $wait->() || return 0 if $do eq 'wait';
    my ($status, $length) = $do =~ /\A(\d{3})(?::(\d+))?\z/ ? ($1, $2) : (200);
    my $body = defined $length ? 'x' x $length : $self->{name};
    return $self->say_it("HTTP/1.1 $status Said\r\nX-From: $self->{name}\r\n\r\n") if $status =~ /\A(?:204|304)\z/;
    my $text = "HTTP/1.1 $status Said\r\nX-From: $self->{name}\r\nContent-Length: " . length($body) . "\r\n\r\n";
    return $self->say_it($head =~ /\AHEAD / ? $text : $text . $body);
}

1;
