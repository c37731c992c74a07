package NginxRunner;

# Runs nginx for the tests that need more of its life than Test::Nginx gives:
# reloads to another configuration, signals, deaths of workers.
#
#   my $nginx = NginxRunner->new(workers => 2, http => '...', server => '...');
#   $nginx->start;
#   $nginx->get('/')->{body};
#   $nginx->reload(http => '...');
#   $nginx->stop;
#
# TEST_NGINX_BINARY and TEST_NGINX_LOAD_MODULES are those of Test::Nginx. nginx is
# a child of the test (daemon off), so that its end is known at once, and leads a
# process group of its own, of which nothing is left when the test ends.

use strict;
use warnings;

use Cwd ();
use Exporter 'import';
use File::Temp ();
use IO::Socket::INET ();
use JSON::PP ();
use POSIX ();
use Test::More ();
use Time::HiRes qw(clock_gettime sleep CLOCK_MONOTONIC);

our @EXPORT = qw(now wait_until is_running);

my @running;        # all that were started and not stopped
my %used;           # ports

sub now { return clock_gettime(CLOCK_MONOTONIC) }

# Waits until the condition holds: returns its value, or nothing after so many seconds.
sub wait_until {
    my ($seconds, $condition) = @_;
    my $deadline = now() + $seconds;
    while (1) {
        my $value = $condition->();
        return $value if $value;
        return if now() > $deadline;
        sleep 0.005;
    }
}

sub slurp {
    my ($path, $from) = @_;
    open my $in, '<', $path or return '';
    seek $in, $from, 0 if $from;
    local $/ = undef;
    return scalar(readline $in) // '';
}

# The state and the parent of a process.
sub process {
    my $pid = shift;
    return slurp("/proc/$pid/stat") =~ /\) (\S) (\d+)/;
}

# A zombie is gone: who waits for it is another matter.
sub is_running {
    my ($state) = process(shift);
    return defined $state && $state !~ /[ZX]/;
}

# A port that is free, and not of the range for outgoing connections.
sub free_port {
    for (1 .. 1000) {
        my $port = 10000 + int rand 22000;
        next if $used{$port}++;
        return $port if IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1);
    }
    die "no port is free\n";
}

# workers, master (on), log_level (notice), worker_connections, user; main, events,
# http and server: text for these contexts. The server has a status at /api/.
sub new {
    my ($class, %as) = @_;
    my $self = bless {
        workers => 1, master => 'on', log_level => 'notice', worker_connections => 1024,
        main => '', events => '', http => '', server => '', %as,
        binary => Cwd::abs_path($ENV{TEST_NGINX_BINARY} // die "TEST_NGINX_BINARY is not set\n"),
        port => free_port(), owner => $$,
        root => File::Temp->newdir('checkups-n.XXXXXX', TMPDIR => 1),
    }, $class;
    chmod 0755, $self->{root};
    mkdir "$self->{root}/logs" or die "mkdir: $!";
    return $self;
}

sub port { return $_[0]{port} }
sub pid  { return $_[0]{pid} }
sub root { return "$_[0]{root}" }

sub write_config {
    my $self = shift;
    my $root = $self->root;
    my $modules = join '', map { "load_module $_;\n" } map { Cwd::abs_path($_) // $_ }
        split ' ', $ENV{TEST_NGINX_LOAD_MODULES} // '';
    my $user = $self->{user} // ($> == 0 ? 'user root;' : '');     # or the workers could not write the logs
    my $temp = join ' ', map { "${_}_temp_path $root/${_}_temp;" } qw(client_body proxy fastcgi scgi uwsgi);
    open my $out, '>', "$root/nginx.conf" or die "nginx.conf: $!";
    print $out <<"END";
$modules
daemon off;
master_process $self->{master};
worker_processes $self->{workers};
error_log $root/logs/error.log $self->{log_level};
pid $root/logs/nginx.pid;
$user
$self->{main}
events {
    worker_connections $self->{worker_connections};
    $self->{events}
}
http {
    access_log off;
    $temp
    $self->{http}
    server {
        listen 127.0.0.1:$self->{port};
        location /api/ { checkups_api; }
        $self->{server}
    }
}
END
    close $out or die "nginx.conf: $!";
    return;
}

# Starts nginx. It is ready then: it has its sockets, and its workers are there.
sub start {
    my $self = shift;
    for (1 .. 3) {
        return $self if $self->try_to_start;
        # Somebody else may have taken the port since we looked.
        last if $self->log !~ /\[emerg\].*\bbind\(\) to 127\.0\.0\.1:$self->{port} failed/;
        $self->{port} = free_port();
    }
    die 'nginx did not start: ', slurp("$self->{root}/logs/stderr.txt"), $self->log, "\n";
}

sub try_to_start {
    my $self = shift;
    $self->write_config;
    my $root = $self->root;
    my @command = ($self->{binary}, '-e', "$root/logs/error.log", '-p', "$root/", '-c', "$root/nginx.conf");
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        POSIX::setpgid(0, 0);
        delete local $ENV{NGINX};               # nginx takes it for sockets to inherit
        open STDIN, '<', '/dev/null' or POSIX::_exit(126);
        open STDOUT, '>', "$root/logs/stdout.txt" or POSIX::_exit(126);
        open STDERR, '>', "$root/logs/stderr.txt" or POSIX::_exit(126);
        no warnings 'exec';
        exec { $command[0] } @command;
        POSIX::_exit(127);
    }
    POSIX::setpgid($pid, $pid);
    @$self{qw(pid status strangers)} = ($pid, undef, {});
    push @running, $self;
    guardian_knows("+$pid");
    my $ready = wait_until(10, sub {
        return $self->reaped || (-s "$root/logs/nginx.pid" && $self->workers == $self->expected_workers);
    });
    return $ready && !$self->reaped;
}

sub expected_workers { return $_[0]{master} eq 'on' ? $_[0]{workers} : 0 }

# Whether nginx has exited.
sub reaped {
    my $self = shift;
    return 1 if defined $self->{status};
    return 0 if waitpid($self->{pid}, POSIX::WNOHANG()) != $self->{pid};
    $self->{status} = $?;
    @running = grep { $_ != $self } @running;
    guardian_knows("-$self->{pid}");
    return 1;
}

# The ids of all worker processes, also of those that are shutting down.
sub workers {
    my $self = shift;
    my $strangers = $self->{strangers} //= {};      # to look at each of them each time would take long
    my @pids;
    opendir my $proc, '/proc' or die "/proc: $!";
    for my $pid (grep { /^\d+$/ && !$strangers->{$_} } readdir $proc) {
        my ($state, $parent) = process($pid) or next;
        if ($parent != $self->{pid}) { $strangers->{$pid} = 1 }
        elsif ($state !~ /[ZX]/ && slurp("/proc/$pid/cmdline") =~ /worker process/) { push @pids, $pid }
    }
    @pids = sort { $a <=> $b } @pids;
    return @pids;
}

sub signal {
    my ($self, $signal, $pid) = @_;
    kill $signal, $pid // $self->{pid} or die "kill: $!";
    return;
}

# Reloads, with these changes to what new() was told, and waits until the new
# workers have replaced the old ones. With drain => 1 the old ones may stay.
# Returns the ids of the new ones, nothing where they do not come.
sub reload {
    my ($self, %as) = @_;
    my $drain = delete $as{drain};
    %$self = (%$self, %as);
    $self->write_config;
    my %old = map { $_ => 1 } $self->workers;
    my $from = length $self->log;
    $self->signal('HUP');
    my $new = wait_until(10, sub {
        my @workers = $self->workers;
        my @new = grep { !$old{$_} } @workers;
        return [] if $self->log($from) =~ /\[emerg\](?!.*bind\(\) to)/;
        return @new == $self->{workers} && ($drain || @new == @workers) ? \@new : undef;
    }) // [];
    return @$new;
}

# Reloads by a configuration that nginx has to refuse. Returns what was logged.
sub failed_reload {
    my ($self, %as) = @_;
    my %before = map { $_ => $self->{$_} } keys %as;
    %$self = (%$self, %as);
    $self->write_config;
    my $from = length $self->log;
    $self->signal('HUP');
    my $last = sub { return $self->log($from) =~ /\[emerg\](?! .*bind\(\) to)|still could not bind/ };
    wait_until(10, $last) or Test::More::diag('nobody refused the configuration');
    %$self = (%$self, %before);
    $self->write_config;
    return $self->log($from);
}

# Stops nginx by this signal. Returns how many seconds it took until all of its
# processes were gone, nothing where they stay.
sub stop {
    my ($self, $signal) = @_;
    return if !$self->{pid} || $self->{owner} != $$ || $self->reaped;
    my @workers = $self->workers;
    my $start = now();
    $self->signal($signal // 'QUIT');
    my $gone = wait_until(10, sub { $self->reaped && !grep { is_running($_) } @workers });
    my $took = now() - $start;
    $self->kill_all if !$gone;
    return $gone ? $took : undef;
}

sub kill_all {
    my $self = shift;
    kill KILL => -$self->{pid};
    wait_until(5, sub { $self->reaped });
    return;
}

# The error log, or what of it is behind so many bytes.
sub log {
    my ($self, $from) = @_;
    return slurp("$self->{root}/logs/error.log", $from);
}

# Lines that are never right.
sub bad_lines {
    my $self = shift;
    return grep { /\[(?:alert|crit|emerg)\]|panicked at|exited on signal|\bAssertion\b/ } split /^/, $self->log;
}

# What checkups has logged, without the time and process.
sub notices {
    my ($self, $from) = @_;
    return map { /checkups: (.*)/ ? $1 : () } split /\n/, $self->log($from);
}

# One request over a new connection. The answer has code and body, or error.
sub get {
    my ($self, $path, %as) = @_;
    my $socket = $self->send_request($path, %as) or return { code => 0, body => '', error => "connect: $!" };
    return $self->answer($socket, %as);
}

sub send_request {
    my ($self, $path, %as) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $as{port} // $self->{port}) or return;
    local $SIG{PIPE} = 'IGNORE';
    syswrite $socket, "GET $path HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    return $socket;
}

sub answer {
    my ($self, $socket, %as) = @_;
    my $text = '';
    my $deadline = now() + ($as{timeout} // 10);
    while (1) {
        my $bits = '';
        vec($bits, fileno $socket, 1) = 1;
        my $left = $deadline - now();
        return { code => 0, body => '', error => 'no answer' } if $left <= 0 || !select $bits, undef, undef, $left;
        my $count = sysread $socket, $text, 65536, length $text;
        return { code => 0, body => '', error => "read: $!" } if !defined $count;
        last if !$count;
    }
    my ($code, $head, $body) = $text =~ m{\AHTTP/1\.\d (\d+)(.*?)\r\n\r\n(.*)\z}s
        or return { code => 0, body => '', error => "cut: '$text'" };
    my ($length) = $head =~ /^Content-Length: (\d+)/mi;
    return { code => 0, body => $body, error => 'the body is cut' } if defined $length && length $body != $length;
    return { code => $code, body => $body };
}

# The bodies of so many answers, without newlines; "CODE" where it is not 200.
sub bodies {
    my ($self, $path, $count) = @_;
    return map {
        my $answer = $self->get($path);
        my $body = $answer->{body} =~ s/\n//gr;
        $answer->{code} == 200 ? $body : $answer->{error} // $answer->{code};
    } 1 .. $count;
}

# So many clients, each of which sends one request after another, on connections of their own, in the
# background. Returns what ends them, and says of each how many requests it made, and what was wrong
# with those that failed: not 200, or without a body like this.
sub clients {
    my ($self, $count, $path, $body) = @_;
    my ($root, $test) = ($self->root, $$);
    my @clients = map {
        pipe my $read, my $write or die "pipe: $!";
        defined(my $pid = fork) or die "fork: $!";
        if (!$pid) {
            close $read;
            my ($made, @failed) = (0);
            while (!-e "$root/enough" && getppid == $test && $made < 100_000) {
                my $answer = $self->get($path);
                $made++;
                push @failed, $answer->{error} // $answer->{code} if $answer->{code} != 200 || $answer->{body} !~ $body;
                sleep 0.001;
            }
            print $write JSON::PP::encode_json([$made, \@failed]);
            close $write;
            POSIX::_exit(0);
        }
        close $write;
        [$pid, $read];
    } 1 .. $count;
    return sub {
        open my $enough, '>', "$root/enough" or die "enough: $!";
        return map {
            my ($pid, $read) = @$_;
            my $said = JSON::PP::decode_json(do { local $/ = undef; readline $read });
            waitpid $pid, 0;
            $said;
        } @clients;
    };
}

sub status {
    my ($self, %as) = @_;
    my $answer = $self->get('/api/status', %as);
    die "no status: ", $answer->{error} // $answer->{code}, "\n" if $answer->{code} != 200;
    return JSON::PP::decode_json($answer->{body});
}

# The servers of a cluster, level after level; nothing where there is none.
sub servers {
    my ($self, $cluster) = @_;
    my $levels = $self->status->{"cls:$cluster"} // return;
    return map { ref $_ eq 'ARRAY' ? @$_ : () } @$levels;
}

# The states of the servers of a cluster: "ok err ok".
sub states {
    my ($self, $cluster) = @_;
    return join ' ', map { $_->{status} } $self->servers($cluster);
}

sub wait_for_states {
    my ($self, $cluster, $states, $seconds) = @_;
    my $last = '';
    my $reached = wait_until($seconds // 10, sub { ($last = $self->states($cluster)) eq $states });
    Test::More::diag("the states are $last, not $states") if !$reached;
    return $reached;
}

# A process that ends what we have started where we die without ending it.
my $guardian;

sub guardian_knows {
    my $line = shift;
    if (!$guardian) {
        pipe my $read, $guardian or die "pipe: $!";
        $guardian->autoflush(1);
        defined(my $pid = fork) or die "fork: $!";
        if (!$pid) {
            POSIX::setpgid(0, 0);       # what ends the test must not end this
            close $guardian;
            open STDOUT, '>', '/dev/null';
            my %pids;
            while (my $known = readline $read) {
                my ($sign, $nginx) = $known =~ /^([+-])(\d+)$/ or next;
                $sign eq '+' ? $pids{$nginx}++ : delete $pids{$nginx};
            }
            kill TERM => keys %pids;
            wait_until(2, sub { !grep { is_running($_) } keys %pids });
            kill KILL => map { -$_ } keys %pids;
            POSIX::_exit(0);
        }
        close $read;
    }
    print $guardian "$line\n";
    return;
}

# Without these END would not run, and nginx would stay until the guardian sees to it.
for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} //= sub { exit 1 };
}

END {
    local $?;
    for my $nginx (grep { $_->{owner} == $$ } @running) {
        $nginx->stop('TERM');
    }
}

1;
