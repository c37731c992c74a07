package Backends;

# What the tests of the balancer need besides Test::Nginx:
#
# - nginx as a backend: servers A, B, C ... that fail when the request says so;
# - a client for "--- init", for what one request after another cannot show:
#   hundreds of requests, certain workers, requests that are under way;
# - small servers of our own, for protocols and faults that nginx cannot play.
#
# A test file sees all of it as main::..., from "--- init" as ::...

use strict;
use warnings;

use Exporter 'import';
use IO::Select ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Test::More ();
use Time::HiRes qw(sleep time);

our @EXPORT = qw(
    backends port_of ask routes answers connect_to workers_of wait_for server_status wait_for_status
    sick well serve silent_port read_head read_until now
);

#-- nginx as a backend ------------------------------------------------------

# Servers by letter: A listens on $TEST_NGINX_RAND_PORT_1, B on ..._2 and so on;
# a letter that is left out is a port where nobody listens. Each says its letter.
# The header "X-Do: A=503 B=close" makes them fail. What they can do:
#   503, 500, 429, 404, 403  that status, with a body of its own
#   close                    no answer, the connection is closed
#   stale                    the same, unless the request is the first on its connection
# "/requests" says the number of the request on its connection. "/health" is 200,
# and 503 between sick('A') and well('A').
#
# The headers X-Tried and X-Status, by which routes() knows the tries, are added
# to whatever has no add_header of its own.
sub backends {
    my $text = 'add_header X-Tried $upstream_addr always; add_header X-Status $upstream_status always;'
        . ' add_header X-Worker $pid always;';
    for my $letter (@_) {
        my $port = ord($letter) - ord('A') + 1;
        my $statuses = join "\n    ",
            map { qq{if (\$http_x_do ~ "$letter=$_") { return $_ "$_ from $letter"; }} }
            503, 500, 429, 404, 403;
        $text .= <<"END";

server {
    listen 127.0.0.1:\$TEST_NGINX_RAND_PORT_$port;
    access_log off;
    add_header X-Server $letter always;
    set \$do "\$connection_requests \$http_x_do";
    if (\$do ~ "$letter=close") { return 444; }
    if (\$do ~ "^(?!1 ).*$letter=stale") { return 444; }
    $statuses
    location / { return 200 $letter; }
    location /requests { return 200 $letter\$connection_requests; }
    location = /health {
        if (-f \$TEST_NGINX_SERVER_ROOT/html/$letter.sick) { return 503; }
        return 200;
    }
}
END
    }
    return $text;
}

my %letters;        # our own servers: the letter by the port

# The port of a server by its letter, or of $TEST_NGINX_RAND_PORT_n by the number.
sub port_of {
    my $which = shift;
    my ($own) = grep { $letters{$_} eq $which } keys %letters;
    return $own if $own;
    my $number = $which =~ /^\d+$/ ? $which : ord($which) - ord('A') + 1;
    return $Test::Nginx::Util::RandPorts->{"TEST_NGINX_RAND_PORT_$number"}
        // die "the block has no port $which";
}

sub letter_of {
    my $address = shift;
    return "($address)" if $address !~ /:(\d+)$/;
    my $port = $1;
    return $letters{$port} if $letters{$port};
    my $ports = $Test::Nginx::Util::RandPorts;
    my ($name) = grep { $ports->{$_} == $port } keys %$ports;
    return $name && $name =~ /_(\d+)$/ ? chr(ord('A') + $1 - 1) : "($address)";
}

sub health_file { return Test::Nginx::Util::html_dir() . "/$_[0].sick" }

sub sick {
    for my $letter (@_) { open my $out, '>', health_file($letter) or die "$letter: $!" }
    return;
}

sub well { unlink map { health_file($_) } @_; return }

#-- The client --------------------------------------------------------------

sub now { return time }

# Polls until the condition holds. This is a test of its own.
sub wait_for {
    my ($what, $condition, $seconds) = @_;
    my $deadline = time + ($seconds // 5);
    my $held;
    until ($held = $condition->()) {
        last if time > $deadline;
        sleep 0.01;
    }
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::ok($held, "waited for: $what");
}

# Opens a connection to nginx: to the port of the test, or to another one.
sub connect_to {
    my $port = shift // $Test::Nginx::Util::ServerPortForClient;
    my $socket = IO::Socket::INET->new(
        PeerAddr => '127.0.0.1', PeerPort => $port, Proto => 'tcp', Timeout => 5,
    ) or die "cannot connect to port $port: $!";
    return bless { socket => $socket, data => '' };
}

# Sends a request and returns what can be asked for the answer. The options:
# do => what the backends shall do, method, body, headers => [...], close => 1.
sub request {
    my ($self, $path, %option) = @_;
    my @headers = ('Host: localhost', @{ $option{headers} // [] });
    push @headers, "X-Do: $option{do}" if $option{do};
    push @headers, 'Connection: close' if $option{close};
    push @headers, 'Content-Length: ' . length $option{body} if defined $option{body};
    $self->say_raw(join "\r\n", ($option{method} // 'GET') . " $path HTTP/1.1", @headers, '',
        $option{body} // '');
    return $self;
}

sub say_raw {
    my ($self, $text) = @_;
    local $SIG{PIPE} = 'IGNORE';
    print { $self->{socket} } $text;
    $self->{socket}->flush;
    return $self;
}

# Reads more. False at the end, or when nothing came for five seconds.
sub more {
    my $self = shift;
    IO::Select->new($self->{socket})->can_read(5) or return 0;
    return sysread $self->{socket}, $self->{data}, 65536, length $self->{data};
}

# Takes so many bytes, or all up to the end of a text, off the front of what comes.
sub take {
    my ($self, $length) = @_;
    until (length $self->{data} >= $length) { $self->more or return '' }
    return substr $self->{data}, 0, $length, '';
}

sub take_through {
    my ($self, $text) = @_;
    my $at;
    until (($at = index $self->{data}, $text) >= 0) { $self->more or return }
    return $self->take($at + length $text);
}

# The answer to a request: code, body, headers (in lower case), tried (the
# letters of the servers that nginx tried) and worker. The code is '' where the
# connection ended without an answer.
sub answer {
    my $self = shift;
    my $head = $self->take_through("\r\n\r\n") // return { code => '', body => '', tried => '' };
    my ($status, @lines) = split /\r\n/, $head;
    my %headers = map { /^([^:]+):\s*(.*)/ ? (lc $1, $2) : () } @lines;
    my $body = '';
    if (defined(my $length = $headers{'content-length'})) {
        $body = $self->take($length);
    } elsif (($headers{'transfer-encoding'} // '') eq 'chunked') {
        while (my $size = hex(($self->take_through("\r\n") // 0) =~ s/\s+//r)) {
            $body .= $self->take($size);
            $self->take(2);
        }
        $self->take(2);
    } elsif ($status !~ / 101 /) {
        1 while $self->more;
        $body = $self->{data};
    }
    return {
        code    => $status =~ m{^HTTP/1\.1 (\d+)} ? $1 : '',
        body    => $body,
        headers => \%headers,
        tried   => join('', map { letter_of($_) } split /(?:, | : )/, $headers{'x-tried'} // ''),
        worker  => $headers{'x-worker'},
    };
}

# The end of the connection, with nothing before it.
sub at_end {
    my $self = shift;
    return !length $self->{data} && !$self->more && $self->{socket}->opened;
}

# One request on a connection of its own; port => another port.
sub ask {
    my ($path, %option) = @_;
    return connect_to($option{port})->request($path, %option, close => 1)->answer;
}

# The bodies of so many requests on as many connections, joined.
sub answers {
    my ($count, $path, %option) = @_;
    return join '', map { ask($path, %option)->{body} } 1 .. $count;
}

# The tries of so many requests: "AB 200" is one that A failed and B answered.
sub routes {
    my ($count, $path, %option) = @_;
    return join ', ',
        map { my $answer = ask($path, %option); "$answer->{tried} $answer->{code}" } 1 .. $count;
}

# Connections to so many workers, each to another one. The port must be one with
# "reuseport": only then the kernel spreads connections over idle workers.
sub workers_of {
    my ($count, $port, $path) = @_;
    my %found;
    for (1 .. 1000) {
        my $connection = connect_to($port);
        my $worker = $connection->request($path)->answer->{worker};
        $found{$worker} //= $connection;
        return map { $found{$_} } sort keys %found if keys %found == $count;
    }
    die "no connections to $count workers: only to " . join ' ', keys %found;
}

# What "status" says of a server.
sub server_status {
    my ($letter) = @_;
    my $answer = ask('/checkups/status');
    my $port = port_of($letter);
    my $status = JSON::PP::decode_json($answer->{body});
    for my $level (map { @{ $status->{$_} } } grep { /^cls:/ } sort keys %$status) {
        next if ref $level ne 'ARRAY';
        for my $server (@$level) { return $server if $server->{server} =~ /:$port$/ }
    }
    die "no server $letter in $answer->{body}";
}

# "A=ok B=err": polls until all have that status.
sub wait_for_status {
    my $wanted = shift;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return wait_for("status $wanted", sub {
        for (split ' ', $wanted) {
            my ($letter, $status) = split /=/;
            return 0 if server_status($letter)->{status} ne $status;
        }
        return 1;
    });
}

#-- Servers of our own ------------------------------------------------------

my @children;       # [pid, the write end of its lifeline]
my @silent;

# Runs a server under a letter until the test file ends, and puts its port into
# $TEST_NGINX_BACKEND_<letter>. The handler gets each connection, in a process
# of its own.
sub serve {
    my ($letter, $handler) = @_;
    my $listening = IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 64,
    ) or die "cannot listen: $!";
    name_port($letter, $listening->sockport);

    # The child ends when this process is gone, however that came about.
    pipe my $lifeline, my $held or die "pipe: $!";
    my $parent = $$;
    defined(my $pid = fork) or die "fork: $!";
    if ($pid) {
        push @children, [$pid, $held];
        return;
    }
    $SIG{$_} = 'DEFAULT' for qw(TERM INT HUP PIPE);
    $SIG{CHLD} = 'IGNORE';
    setpgrp;
    close $held;
    close $_->[1] for @children;
    open STDOUT, '>', '/dev/null';
    open STDIN, '<', '/dev/null';
    my $select = IO::Select->new($listening, $lifeline);
    eval {
        while (my @ready = $select->can_read) {
            last if grep { $_ == $lifeline } @ready;
            my $connection = $listening->accept or next;
            my $worker = fork // next;
            next if $worker;
            close $listening;
            $connection->autoflush;
            $handler->($connection);
            POSIX::_exit(0);
        }
        1;
    } or print STDERR "server $letter: $@";
    kill 'KILL', -$$ if getpgrp == $$;
    POSIX::_exit(0);
}

# A port where connections are accepted and nothing is ever answered.
sub silent_port {
    my $letter = shift;
    push @silent, IO::Socket::INET->new(
        LocalAddr => '127.0.0.1', LocalPort => 0, Proto => 'tcp', Listen => 64,
    ) || die "cannot listen: $!";
    name_port($letter, $silent[-1]->sockport);
    return;
}

sub name_port {
    my ($letter, $port) = @_;
    $letters{$port} = $letter;
    $ENV{"TEST_NGINX_BACKEND_$letter"} = $port;
    return;
}

# Reads from a connection up to what matches; undef at its end.
sub read_until {
    my ($connection, $pattern) = @_;
    my $data = '';
    until ($data =~ $pattern) {
        sysread($connection, $data, 65536, length $data) or return;
    }
    return $data;
}

sub read_head { return read_until(shift, qr/\r\n\r\n/) }

sub stop_children {
    for my $child (splice @children) {
        my ($pid, $held) = @$child;
        close $held;
        kill 'KILL', -$pid, $pid;
        waitpid $pid, 0;
    }
    return;
}

my $owner = $$;

END {
    if ($$ == $owner) {
        local $?;
        stop_children();
    }
}

1;
