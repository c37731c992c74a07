package NginxBackend;

# Servers for the tests of the checks. One process plays all of them: it does
# what it is told with each check and each request, and remembers when what
# came.
#
#   my $backend = NginxBackend->start;
#   $backend->add('a', checks => [qw(200 503 hang)]);   # returns "127.0.0.1:PORT"
#   $backend->wait_for('a', 3);                         # the third check has come
#
# A check is an HTTP request with the User-Agent of checkups, or with a header
# X-Check; anything else is a request. Each takes the next word of its list; the
# last one is for all that follow. So a list that ends in "hang" stops the checks
# of a server (where their timeout is long), and what is known of it stays as it is:
#
#   200       an answer of this status, whose body is the name of the server
#   200:300   the same after 300 ms
#   wait:200  the same when the test calls release()
#   hang      nothing at all           close     the end of the connection
#   reset     a TCP reset              half      the end within the header
#   garbage   no HTTP                  interim   a 100 before the 200
#   split     a 200 in three pieces    trickle   a header line without an end
#   endless   a 200 with a body without an end
#   error     the first line of a 200, then a reset
#   keep:200  a 200 after which the connection stays open for the next check
#   brief:200 the same, and 5 ms later the end of the connection
#   say:x     the answer of the name x (see below), and the connection stays open
#   shut:x    the same, then the end of the connection
#
# Answers are texts in pieces that are sent 20 ms apart.
#
# A word that begins with a slash begins a list of its own, for the checks of that
# path: "503 /a 200 503". What is said below of a server can be asked of a path of
# it, too: wait_for('a/a', 3), release('a/a').
#
# A server listens, or is bound without listening ("refuse"), so that connects
# are refused and yet nobody else can take the port, or listens with a queue
# that is full ("full"), so that connects hang.
#
# A server that "talks" does not wait for HTTP: a connection is a check, and gets its
# answer when the first bytes have come. There "greet:x" says x before that, and
# "close" closes at once.
#
# Any server tells what its checks were: GET /_last is the last one's text, and
# GET /_count how many there were.

use strict;
use warnings;

use Fcntl qw(F_GETFL F_SETFL O_NONBLOCK);
use File::Temp ();
use IO::Select ();
use JSON::PP ();
use POSIX ();
use Socket;
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

sub now { return clock_gettime(CLOCK_MONOTONIC) }

#-- The side of the test ---------------------------------------------------

sub start {
    my $class = shift;
    my $self = bless { owner => $$, directory => File::Temp->newdir('checkups-b.XXXXXX', TMPDIR => 1) }, $class;
    chmod 0755, $self->{directory};
    socketpair(my $ours, my $theirs, AF_UNIX, SOCK_STREAM, PF_UNSPEC) or die "socketpair: $!";
    $_->autoflush(1) for $ours, $theirs;
    defined($self->{pid} = fork) or die "fork: $!";
    if (!$self->{pid}) {
        close $ours;
        # The END blocks and destructors of the test are not ours.
        eval { NginxBackend::Process->new($theirs, "$self->{directory}")->run; 1 } or print STDERR "backend: $@";
        POSIX::_exit(0);
    }
    close $theirs;
    $self->{control} = $ours;
    return $self;
}

sub call {
    my ($self, @words) = @_;
    print { $self->{control} } JSON::PP::encode_json(\@words), "\n";
    my $answer = readline $self->{control};
    defined $answer or die "the backend is gone\n";
    $answer = JSON::PP::decode_json($answer);
    die "backend: $answer->{error}\n" if $answer->{error};
    return $answer->{result};
}

# kind: inet (default), inet6 or unix; state: listen (default), refuse or full;
# checks, requests: lists of words.
sub add       { my ($self, $name, %as) = @_; return $self->call(add => $name, \%as) }
sub checks    { my ($self, $name, @words) = @_; return $self->call(script => $name, 'checks', @words) }
sub requests  { my ($self, $name, @words) = @_; return $self->call(script => $name, 'requests', @words) }
sub state     { my ($self, $name, $state) = @_; return $self->call(state => $name, $state) }
sub answers   { my ($self, %pieces) = @_; return $self->call(answers => \%pieces) }
sub release   { my ($self, $name) = @_; return $self->call(release => $name) }
sub forget    { my $self = shift; return $self->call('forget') }

# What came to a server: accepted (connections), silent (connections that ended
# without a byte), checks and requests (times of arrival, monotonic seconds),
# open (connections with a check on them), peers (of a unix socket: the processes
# that these are of), last (the text of the last check), targets and hosts (the
# request lines and the Host headers of all checks). Of a path ("a/b") the checks are
# only those of it.
sub seen { my ($self, $name) = @_; return $self->call(seen => $name) }

# The connections with checks to a server, in the order in which they came: how many checks there
# were on it, when it came (opened), the address (from) and the port of its other end, what was sent
# over it (the first 64 kB), and how it ended: closed, reset, by us, or not at all.
sub connections { my ($self, $name) = @_; return @{ $self->call(connections => $name) } }

# How many connections with a check there are, to all servers.
sub all_open { my $self = shift; return $self->call('all_open') }

sub count { my ($self, $name) = @_; return scalar @{ $self->seen($name)->{checks} } }

# Waits until so many checks have come.
sub wait_for {
    my ($self, $name, $count, $seconds) = @_;
    return $self->wait_until($seconds, sub { $self->count($name) >= $count });
}

# Waits until so many connections have come.
sub wait_for_connections {
    my ($self, $name, $count, $seconds) = @_;
    return $self->wait_until($seconds, sub { $self->seen($name)->{accepted} >= $count });
}

sub wait_until {
    my ($self, $seconds, $condition) = @_;
    my $deadline = now() + ($seconds // 10);
    until ($condition->()) {
        return 0 if now() > $deadline;
        sleep 0.005;
    }
    return 1;
}

# For files of Test::Nginx: the section "--- backend" has one server a line,
#
#   name [inet6|unix] [refuse|full] [talks]: words for checks | words for requests
#
# whose address is $TEST_NGINX_BACKEND_NAME, and the port $TEST_NGINX_PORT_NAME, by
# another name $TEST_NGINX_NAME_PORT. The section "--- answers" has one answer a line,
#
#   name: HTTP/1.1 200 OK\r\nX: \x41\r\n | \r\n
#
# where blanks with a bar between them separate the pieces.
sub prepare_block {
    my ($self, $block) = @_;
    $self->forget;
    if (defined(my $answers = $block->answers)) {
        $self->answers(map { /^(\w+): ?(.*)/s ? ($1, [map { unescape($_) } split / \| /, $2]) : () } split /\n/, $answers);
    }
    my $text = $block->backend // return;
    for my $line (grep { /\S/ } split /\n/, $text) {
        my ($head, $words) = split /:/, $line, 2;
        my ($name, @kind) = split ' ', $head;
        my ($checks, $requests) = map { [split] } split /\|/, $words // '';
        my %as = (checks => $checks // [], requests => $requests // []);
        for my $word (@kind) {
            $as{ $word eq 'talks' ? 'talks' : $word =~ /^(?:refuse|full)$/ ? 'state' : 'kind' } = $word;
        }
        my $address = $self->add($name, %as);
        ## no critic (RequireLocalizedPunctuationVars): it is read by Test::Nginx
        $ENV{ 'TEST_NGINX_BACKEND_' . uc $name } = $address;
        $ENV{"TEST_NGINX_$_"} = $address =~ /:(\d+)\z/ ? $1 : undef for 'PORT_' . uc $name, uc($name) . '_PORT';
    }
    return;
}

sub unescape {
    my $text = shift;
    my %byte = (r => "\r", n => "\n", '\\' => '\\');
    return $text =~ s/\\(?:x([0-9a-f]{2})|([rn\\]))/defined $1 ? chr hex $1 : $byte{$2}/ger;
}

sub stop {
    my $self = shift;
    return if !$self->{pid} || $self->{owner} != $$;
    shutdown $self->{control}, 2;   # the end of the process, also where another one has a copy
    close $self->{control};
    my $deadline = now() + 2;
    my $gone;
    sleep 0.005 until ($gone = waitpid $self->{pid}, POSIX::WNOHANG()) || now() > $deadline;
    if (!$gone) {
        kill KILL => $self->{pid};
        waitpid $self->{pid}, 0;
    }
    delete $self->{pid};
    return;
}

sub DESTROY { local ($?, $@, $!); $_[0]->stop; return }

#-- The process ------------------------------------------------------------

package NginxBackend::Process;

use Errno qw(EAGAIN ECONNRESET EINPROGRESS EINTR EWOULDBLOCK);
use Socket;
use Time::HiRes ();

my $queue_length = 511;
my %used;

sub new {
    my ($class, $control, $directory) = @_;
    return bless {
        control => $control, directory => $directory, buffer => '',
        servers => {}, connections => {}, timers => [], answers => {},
    }, $class;
}

# Until the test closes the other end of the control socket.
sub run {
    my $self = shift;
    local $SIG{PIPE} = 'IGNORE';
    local @SIG{qw(INT HUP)} = ('IGNORE', 'IGNORE');
    while (1) {
        my %sockets = map { fileno($_) => $_ } $self->{control},
            (grep { defined } map { $_->{state} eq 'listen' ? $_->{socket} : undef } values %{ $self->{servers} }),
            (map { $_->{socket} } values %{ $self->{connections} });
        my $bits = '';
        vec($bits, $_, 1) = 1 for keys %sockets;
        my ($due) = sort { $a <=> $b } map { $_->[0] } @{ $self->{timers} };
        my $wait = defined $due ? $due - NginxBackend::now() : undef;
        $wait = 0 if defined $wait && $wait < 0;
        my $count = select my $ready = $bits, undef, undef, $wait;
        if ($count > 0) {
            # What is asked of us is answered by all that has come until then.
            for my $number (grep { vec $ready, $_, 1 } keys %sockets) {
                next if $number == fileno $self->{control};
                if (my $connection = $self->{connections}{$number}) { $self->arrived($connection) }
                else { $self->accept($_) for grep { $_->{socket} && fileno $_->{socket} == $number } values %{ $self->{servers} } }
            }
            vec($ready, fileno $self->{control}, 1) && !$self->obey and return;
        }
        my @due = grep { $_->[0] <= NginxBackend::now() } @{ $self->{timers} };
        $self->{timers} = [grep { my $timer = $_; !grep { $_ == $timer } @due } @{ $self->{timers} }] if @due;
        $_->[1]->() for @due;
    }
}

sub later {
    my ($self, $seconds, $code) = @_;
    push @{ $self->{timers} }, [NginxBackend::now() + $seconds, $code];
    return;
}

sub obey {
    my $self = shift;
    my $count = sysread $self->{control}, $self->{buffer}, 65536, length $self->{buffer};
    return 0 unless $count;
    while ($self->{buffer} =~ s/\A(.*)\n//) {
        my ($verb, @words) = @{ JSON::PP::decode_json($1) };
        my $method = "do_$verb";
        my $result = eval { $self->$method(@words) };
        my $answer = $@ ? { error => "$verb @words: $@" } : { result => $result };
        print { $self->{control} } JSON::PP::encode_json($answer), "\n";
    }
    return 1;
}

sub server {
    my ($self, $name) = @_;
    return $self->{servers}{ $name =~ s{/.*}{}r } // die "no server '$name'";
}

# What the checks of a server do, or of a path of it: "a", "a/b".
sub script {
    my ($self, $name) = @_;
    my $server = $self->server($name);
    return $name =~ m{(/.*)} ? $server->{paths}{$1} //= { words => [], times => [], waiting => [] } : $server->{checks};
}

sub do_add {
    my ($self, $name, $as) = @_;
    die "'$name' is there already" if $self->{servers}{$name};
    my $server = {
        name => $name, kind => $as->{kind} // 'inet', state => '', talks => $as->{talks}, history => [],
        checks => { words => [], times => [], waiting => [] }, paths => {},
        requests => { words => $as->{requests} // [], times => [], waiting => [] },
        accepted => 0, silent => 0, last => '', targets => [], hosts => [],
    };
    $self->{servers}{$name} = $server;
    $self->do_script($name, 'checks', @{ $as->{checks} // [] });
    $self->bind($server);
    $self->do_state($name, $as->{state} // 'listen');
    return $server->{text};
}

# Ports of the kernel's range for outgoing connections would be taken sooner or
# later by one of those.
sub bind {
    my ($self, $server) = @_;
    my %families = (inet => AF_INET, inet6 => AF_INET6, unix => AF_UNIX);
    my $family = $families{ $server->{kind} } // die "no such kind: $server->{kind}";
    for (1 .. 1000) {
        socket my $socket, $family, SOCK_STREAM, 0 or die "socket: $!";
        setsockopt $socket, SOL_SOCKET, SO_REUSEADDR, 1 or die "setsockopt: $!";
        my $address = $server->{address};
        if (!defined $address) {
            my $port = 10000 + int rand 22000;
            next if $used{$port}++;
            if ($server->{kind} eq 'inet') {
                $server->{text} = "127.0.0.1:$port";
                $address = pack_sockaddr_in($port, INADDR_LOOPBACK);
            } elsif ($server->{kind} eq 'inet6') {
                $server->{text} = "[::1]:$port";
                $address = pack_sockaddr_in6($port, Socket::IN6ADDR_LOOPBACK);
            } else {
                $server->{text} = "unix:$self->{directory}/$server->{name}-$port.sock";
                $address = pack_sockaddr_un($server->{text} =~ s/^unix://r);
            }
        }
        unlink $server->{text} =~ s/^unix://r if $server->{kind} eq 'unix';
        if (!CORE::bind $socket, $address) {
            die "bind: $!" if defined $server->{address};
            next;
        }
        $server->{address} = $address;
        $server->{socket} = $socket;
        chmod 0666, $server->{text} =~ s/^unix://r if $server->{kind} eq 'unix';
        return;
    }
    die "no port is free";
}

sub do_state {
    my ($self, $name, $state) = @_;
    my $server = $self->server($name);
    return if $state eq $server->{state};
    if ($server->{state}) {                         # a socket cannot stop to listen
        close $server->{socket};
        delete $server->{fillers};
        $self->bind($server);
    }
    $server->{state} = $state;
    if ($state eq 'listen') {
        listen $server->{socket}, $queue_length or die "listen: $!";
        $server->{socket}->blocking(0);
    } elsif ($state eq 'full') {
        listen $server->{socket}, 0 or die "listen: $!";
        $self->fill($server);
    } elsif ($state ne 'refuse') {
        die "no such state";
    }
    return;
}

# Connects until a connect hangs: then the next ones do, too.
sub fill {
    my ($self, $server) = @_;
    for (1 .. 20) {
        socket my $socket, sockaddr_family($server->{address}), SOCK_STREAM, 0 or die "socket: $!";
        $socket->blocking(0);
        push @{ $server->{fillers} }, $socket;
        next if connect $socket, $server->{address};
        return if $! == EAGAIN;                     # a unix socket
        die "connect: $!" if $! != EINPROGRESS;
        my $bits = '';
        vec($bits, fileno $socket, 1) = 1;
        return if !select undef, $bits, undef, 0.05;
    }
    die "the queue does not fill up";
}

sub do_script {
    my ($self, $name, $what, @words) = @_;
    if ($what ne 'checks') {
        $self->server($name)->{$what}{words} = \@words;
        return;
    }
    my %lists = @words && $words[0] =~ m{^/} ? () : ($name => []);
    for my $word (@words) {
        if ($word =~ m{^/}) { $lists{ $name = $name =~ s{/.*}{}r . $word } = [] }
        else { push @{ $lists{$name} }, $word }
    }
    $self->script($_)->{words} = $lists{$_} for keys %lists;
    return;
}

sub do_answers {
    my ($self, $pieces) = @_;
    $self->{answers} = $pieces;
    return;
}

sub do_connections {
    my ($self, $name) = @_;
    my @told = qw(checks opened from port sent end);
    return [map { my $connection = $_; +{ map { $_ => $connection->{$_} } @told } } @{ $self->server($name)->{history} }];
}

sub do_release {
    my ($self, $name) = @_;
    my $server = $self->server($name);
    my @of = $name =~ m{/} ? $self->script($name) : ($server->{requests}, $server->{checks}, values %{ $server->{paths} });
    $_->() for map { splice @{ $_->{waiting} } } @of;
    return;
}

sub do_seen {
    my ($self, $name) = @_;
    my $server = $self->server($name);
    my @open = grep { $_->{server} == $server && $_->{check} } values %{ $self->{connections} };
    return {
        (map { $_ => $server->{$_} } qw(accepted silent last targets hosts)),
        checks => $self->script($name)->{times}, requests => $server->{requests}{times},
        open => scalar @open, peers => [map { peer($_->{socket}) } $server->{kind} eq 'unix' ? @open : ()],
    };
}

# The process at the other end.
sub peer { return unpack 'l', getsockopt shift, SOL_SOCKET, SO_PEERCRED }

sub do_all_open { my $self = shift; return scalar grep { $_->{check} } values %{ $self->{connections} } }

sub do_forget {
    my $self = shift;
    $self->close_connection($_) for values %{ $self->{connections} };
    $self->{servers} = {};
    $self->{timers} = [];
    $self->{answers} = {};
    return;
}

sub accept {
    my ($self, $server) = @_;
    while (my $address = CORE::accept my $socket, $server->{socket}) {
        $socket->blocking(0);
        $server->{accepted}++;
        my $connection = {
            socket => $socket, server => $server, text => '', checks => 0, sent => '', opened => NginxBackend::now(),
        };
        @$connection{qw(from port)} = end_of($address);
        $self->{connections}{ fileno $socket } = $connection;
        $self->greet($connection) if $server->{talks};
    }
    return;
}

# The text and the port of an internet address.
sub end_of {
    my $address = shift;
    my $family = sockaddr_family($address);
    my ($port, $ip) = $family == AF_INET ? unpack_sockaddr_in($address) : $family == AF_INET6 ? unpack_sockaddr_in6($address) : return;
    return (Socket::inet_ntop($family, $ip), $port);
}

sub close_connection {
    my ($self, $connection) = @_;
    $connection->{closed} = 1;
    $connection->{end} //= 'by us';
    delete $self->{connections}{ fileno $connection->{socket} } if fileno $connection->{socket};
    close $connection->{socket};
    return;
}

sub arrived {
    my ($self, $connection) = @_;
    my $server = $connection->{server};
    my $count = sysread $connection->{socket}, $connection->{text}, 65536, length $connection->{text};
    if (!$count) {
        return if !defined $count && ($! == EAGAIN || $! == EWOULDBLOCK || $! == EINTR);
        $connection->{end} = defined $count ? 'closed' : $! == ECONNRESET ? 'reset' : "$!";
        $server->{silent}++ if !length "$connection->{sent}$connection->{text}";
        return $self->close_connection($connection);
    }
    $connection->{sent} .= substr $connection->{text}, -$count if length $connection->{sent} < 65536;
    return if $connection->{answered};
    if ($server->{talks}) {
        $connection->{answered} = 1;
        $server->{last} = $connection->{text};
        return $self->answer_by($connection, $connection->{word}, $server->{checks});
    }
    my ($head, $body) = $connection->{text} =~ /\A(.*?\r\n\r\n)(.*)\z/s or return;
    return if $head =~ /^Content-Length: (\d+)/mi && length $body < $1;
    $connection->{answered} = 1;
    my ($target) = $connection->{text} =~ /\A\S+ (\S+)/;
    if ($connection->{check}) {
        # One that is kept, whatever the name of the client.
    } elsif ($connection->{text} !~ /^User-Agent: checkups\//m && $connection->{text} !~ /^X-Check:/m) {
        $target //= '';
        return $self->reply($connection, 200, $server->{last}) if $target eq '/_last';
        return $self->reply($connection, 200, @{ $server->{checks}{times} } . "\n") if $target eq '/_count';
        return $self->answer($connection, $server->{requests});
    }
    push @{ $server->{history} }, $connection if !$connection->{check};
    $connection->{check} = 1;
    $connection->{checks}++;
    $server->{last} = $connection->{text};
    push @{ $server->{targets} }, $connection->{text} =~ /\A(.*)\r\n/;
    push @{ $server->{hosts} }, $connection->{text} =~ /^Host: (.*)\r\n/mi;
    my $of_path = $server->{paths}{ $target // '' };
    push @{ $server->{checks}{times} }, NginxBackend::now() if $of_path;
    return $self->answer($connection, $of_path // $server->{checks});
}

# The word for the next one of a list, which has come now.
sub next_word {
    my $script = shift;
    my @words = @{ $script->{words} } ? @{ $script->{words} } : ('200');
    my $number = @{ $script->{times} };
    push @{ $script->{times} }, NginxBackend::now();
    return $words[$number < @words ? $number : -1];
}

# The first of a connection where the server does not wait for HTTP.
sub greet {
    my ($self, $connection) = @_;
    my $server = $connection->{server};
    push @{ $server->{history} }, $connection;
    @$connection{qw(check checks word)} = (1, 1, next_word($server->{checks}));
    return $self->close_connection($connection) if $connection->{word} eq 'close';
    my ($name) = $connection->{word} =~ /^greet:(.*)/ or return;
    $connection->{word} = 'hang';
    return $self->say($connection, @{ $self->{answers}{$name} // die "no answer '$name'" });
}

sub answer {
    my ($self, $connection, $script) = @_;
    return $self->answer_by($connection, next_word($script), $script);
}

sub answer_by {
    my ($self, $connection, $words, $script) = @_;
    my ($word, $argument) = split /:/, $words;
    my $name = $connection->{server}{name};
    if ($word eq 'wait') {
        push @{ $script->{waiting} }, sub { $self->reply($connection, $argument, "$name\n") };
        return;
    }
    if ($word =~ /^(?:say|shut|keep|brief)$/) {
        my $method = "answer_$word";
        return $self->$method($connection, $argument);
    }
    return $self->later($argument / 1000, sub { $self->reply($connection, $word, "$name\n") }) if $argument;
    return $self->reply($connection, $word, "$name\n") if $word =~ /^\d+$/;
    my $method = "answer_$word";
    return $self->$method($connection);
}

sub put {
    my ($self, $connection, $text) = @_;
    return 0 if $connection->{closed};
    return defined syswrite $connection->{socket}, $text;
}

sub reply {
    my ($self, $connection, $status, $body) = @_;
    my $more = $status =~ /^3/ ? "Location: /elsewhere\r\n" : '';
    my $length = length $body;
    return if $connection->{closed};
    $self->put($connection,
        "HTTP/1.1 $status X\r\nContent-Length: $length\r\n${more}Connection: close\r\n\r\n$body");
    return $self->close_connection($connection);
}

# Sends the pieces, and then goes on with the next check or the end. A long one
# has to be read by the checker, or we wait here.
sub say {
    my ($self, $connection, $piece, @left) = @_;
    return if $connection->{closed};
    my $socket = $connection->{socket};
    $socket->blocking(1);
    my $sent = $self->put($connection, $piece);
    $socket->blocking(0);
    $sent or return;
    return $self->later(0.02, sub { $self->say($connection, @left) }) if @left;
    return $self->close_connection($connection) if $connection->{last};
    $connection->{text} = '';
    $connection->{answered} = 0;
    return;
}

sub answer_say {
    my ($self, $connection, $name) = @_;
    return $self->say($connection, @{ $self->{answers}{$name} // die "no answer '$name'" });
}

sub answer_shut {
    my ($self, $connection, $name) = @_;
    $connection->{last} = 1;
    return $self->answer_say($connection, $name);
}

sub answer_keep {
    my ($self, $connection, $status) = @_;
    my $body = "$connection->{server}{name}\n";
    my $head = "HTTP/1.1 $status X\r\nContent-Length: " . length($body) . "\r\n\r\n";
    return $self->say($connection, $connection->{text} =~ /\AHEAD / ? $head : "$head$body");
}

sub answer_brief {
    my ($self, $connection, $status) = @_;
    $self->answer_keep($connection, $status);
    return $self->later(0.005, sub { $connection->{closed} or $self->close_connection($connection) });
}

sub answer_hang  { return }
sub answer_close { my ($self, $connection) = @_; return $self->close_connection($connection) }

sub answer_reset {
    my ($self, $connection) = @_;
    setsockopt $connection->{socket}, SOL_SOCKET, SO_LINGER, pack 'ii', 1, 0;
    return $self->close_connection($connection);
}

sub answer_half {
    my ($self, $connection) = @_;
    $self->put($connection, "HTTP/1.1 200 OK\r\nContent-Le");
    return $self->close_connection($connection);
}

sub answer_error {
    my ($self, $connection) = @_;
    $self->put($connection, "HTTP/1.1 200 OK\r\n");
    return $self->later(0.02, sub { $connection->{closed} or $self->answer_reset($connection) });
}

# The connection stays: the checker has to see by itself what that is.
sub answer_garbage { my ($self, $connection) = @_; $self->put($connection, "SSH-2.0-OpenSSH_9.2\r\n"); return }

sub answer_interim {
    my ($self, $connection) = @_;
    $self->put($connection, "HTTP/1.1 100 Continue\r\n\r\n");
    return $self->later(0.02, sub { $self->put($connection, "HTTP/1.1 200 OK\r\n\r\n") });
}

sub answer_split {
    my ($self, $connection, @left) = @_;
    @left = ('HTTP/1.', "1 200 OK\r\nX: y\r", "\n\r\n") if !@left;
    $self->put($connection, shift @left);
    return @left ? $self->later(0.02, sub { $self->answer_split($connection, @left) }) : undef;
}

sub answer_trickle {
    my ($self, $connection, $sent) = @_;
    $self->put($connection, $sent ? 'x' : "HTTP/1.1 200 OK\r\nX: ") or return;
    return $self->later(0.02, sub { $self->answer_trickle($connection, 1) });
}

sub answer_endless {
    my ($self, $connection, $sent) = @_;
    $self->put($connection, $sent ? 'x' x 100 : "HTTP/1.1 200 OK\r\n\r\n") or return;
    return $self->later(0.02, sub { $self->answer_endless($connection, 1) });
}

1;
