package RealServers;

# Real servers for the tests of the checks: Redis, MariaDB, PostgreSQL, and a
# server of gRPC's health protocol. And what watches nginx: Prometheus, and its
# exporter for NGINX Plus.
#
#   redis('LOCKED', '--requirepass', 'x');      # listens on $TEST_NGINX_LOCKED_PORT
#   mariadb('MARIADB', sql => '...');           # 'PLAIN' tls => 0: without TLS
#   postgres('POSTGRES', sql => '...', hba => '...');
#   grpc_health('GRPC', 'server');              # with that certificate; none: without TLS
#   nobody('NOBODY');                           # a port that refuses connections
#   plus_exporter('EXPORTER', 'http://127.0.0.1:8080/api');
#   prometheus('PROMETHEUS', $port);            # scrapes what listens there
#
# Each is ready when the function returns, listens on a free port of 127.0.0.1,
# and is gone when the test file ends, with all that it wrote. None of them runs
# as root, as some refuse to.
#
# The folder $TEST_NGINX_KEYS has certificates and keys, NAME.crt and NAME.key:
#
#   ca, stranger    two authorities that do not know each other
#   server          for the name backend.test, by ca; below it:
#   expired         the same, which ended yesterday
#   other           for the name other.test
#   strange         for backend.test, by stranger
#   client          for a client, by ca
#   strange_client  the same by stranger

use strict;
use warnings;

use Exporter 'import';
use File::Temp ();
use FindBin ();
use POSIX ();
use Socket;

use NginxRunner ();

our @EXPORT = qw(keys_of_tests redis mariadb postgres grpc_health nobody plus_exporter prometheus);

my $scratch = File::Temp->newdir('checkups-real.XXXXXX', TMPDIR => 1);
chmod 0755, "$scratch";
my $owner = $$;
my @running;        # [process, the signal that ends it]
my @held;           # sockets

# Who the servers run as: [user, group], nothing where we are not root.
my $as = $> == 0 ? [(getpwnam 'nobody')[2, 3]] : undef;

#-- Certificates -----------------------------------------------------------

sub shell {
    my ($what, $command) = @_;
    my $said = `$command 2>&1`;
    die "$what: $said" if $?;
    return;
}

my $keys;

sub keys_of_tests {
    return $keys if $keys;
    $keys = folder('keys');
    $ENV{TEST_NGINX_KEYS} = $keys;
    my $new_key = '-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes';
    for my $name ('ca', 'stranger') {
        shell('openssl', "openssl req -x509 $new_key -days 2 -subj '/CN=$name of the tests'"
            . " -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign"
            . " -keyout $keys/$name.key -out $keys/$name.crt");
    }
    my $number = 1;
    for (
        ['server', 'backend.test', 'ca', 2], ['expired', 'backend.test', 'ca', -1], ['other', 'other.test', 'ca', 2],
        ['strange', 'backend.test', 'stranger', 2],
        ['client', 'client.test', 'ca', 2], ['strange_client', 'client.test', 'stranger', 2],
    ) {
        my ($name, $host, $authority, $days) = @$_;
        $number++;
        shell('openssl', "openssl req -new $new_key -subj /CN=$host -keyout $keys/$name.key -out $keys/$name.csr"
            . " && echo subjectAltName=DNS:$host >$keys/$name.ext"
            . " && openssl x509 -req -in $keys/$name.csr -CA $keys/$authority.crt -CAkey $keys/$authority.key"
            . " -set_serial $number -days $days -extfile $keys/$name.ext -out $keys/$name.crt");
    }
    # They are of no worth; each server reads them as whoever it is.
    chmod 0644, glob "$keys/*";
    return $keys;
}

# A copy of a key of our own, where a server insists on that.
sub own_key {
    my ($name, $folder) = @_;
    my $copy = "$folder/$name.key";
    open my $out, '>', $copy or die "$copy: $!";
    print $out NginxRunner::slurp(keys_of_tests() . "/$name.key");
    close $out or die "$copy: $!";
    chmod 0600, $copy;
    chown @$as, $copy if $as;
    return $copy;
}

#-- Processes --------------------------------------------------------------

sub folder {
    my $path = "$scratch/$_[0]";
    mkdir $path, 0755 or die "$path: $!";
    chown @$as, $path if $as;
    return $path;
}

sub write_to {
    my ($path, $text) = @_;
    open my $out, '>', $path or die "$path: $!";
    print $out $text;
    close $out or die "$path: $!";
    return $path;
}

# What becomes of a child: the command, as nobody, in a group of its own.
sub become {
    my ($folder, $input, @command) = @_;
    POSIX::setpgid(0, 0);
    delete local $ENV{NGINX};
    local $ENV{LC_ALL} = 'C';
    open STDIN, '<', $input or POSIX::_exit(126);
    open STDOUT, '>>', "$folder/said" or POSIX::_exit(126);
    open STDERR, '>&', \*STDOUT or POSIX::_exit(126);
    chdir $folder or POSIX::_exit(126);
    if ($as) {
        $) = "$as->[1] $as->[1]";
        POSIX::setgid($as->[1]);
        POSIX::setuid($as->[0]) or POSIX::_exit(126);
    }
    no warnings 'exec';
    exec { $command[0] } @command;
    POSIX::_exit(127);
}

sub begin {
    my ($folder, $input, @command) = @_;
    defined(my $pid = fork) or die "fork: $!";
    become($folder, $input, @command) if !$pid;
    POSIX::setpgid($pid, $pid);
    NginxRunner::guardian_knows("+$pid");
    return $pid;
}

# Runs a command to its end, which has to be a good one.
sub run {
    my ($folder, $input, @command) = @_;
    my $pid = begin($folder, $input, @command);
    my $gone = NginxRunner::wait_until(60, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    my $status = $?;
    kill KILL => -$pid if !$gone;
    NginxRunner::guardian_knows("-$pid");
    die "$command[0] failed: ", NginxRunner::slurp("$folder/said") if !$gone || $status;
    return;
}

# Starts a server, and waits until it says that it is ready. What it is started
# by depends on the port, which somebody else may take at any moment: then it is
# started once more, with another one.
sub serve {
    my ($name, %as) = @_;
    my $folder = $as{folder};
    my $said = '';
    for (1 .. 3) {
        my $port = NginxRunner::free_port();
        unlink "$folder/said";
        my $pid = begin($folder, '/dev/null', $as{command}->($port));
        my $server = [$pid, $as{signal} // 'KILL'];
        push @running, $server;
        my $ready = NginxRunner::wait_until(30, sub {
            $said = NginxRunner::slurp("$folder/said");
            return $said =~ $as{ready} || !NginxRunner::is_running($pid);
        });
        if ($ready && $said =~ $as{ready}) {
            ## no critic (RequireLocalizedPunctuationVars): it is read by Test::Nginx
            $ENV{"TEST_NGINX_${name}_PORT"} = $port;
            return $port;
        }
        end($server);
        @running = grep { $_ != $server } @running;
        last if $said !~ /in use|bind/i;
    }
    die "$name did not start: $said";
}

sub end {
    my ($pid, $signal) = @{ $_[0] };
    kill $signal => $pid;
    my $gone = NginxRunner::wait_until(5, sub { waitpid($pid, POSIX::WNOHANG()) == $pid });
    kill KILL => -$pid;
    waitpid $pid, 0 if !$gone;
    NginxRunner::guardian_knows("-$pid");
    return;
}

#-- The servers ------------------------------------------------------------

# More options are those of the command line: '--requirepass', 'x'.
sub redis {
    my ($name, @options) = @_;
    my $folder = folder($name);
    my $keys = keys_of_tests();
    return serve($name, folder => $folder, ready => qr/Ready to accept connections/, command => sub {
        my $port = shift;
        my @port = grep({ $_ eq '--tls' } @options)
            ? ('--port', 0, '--tls-port', $port, '--tls-cert-file', "$keys/server.crt", '--tls-key-file',
                "$keys/server.key", '--tls-ca-cert-file', "$keys/ca.crt", '--tls-auth-clients', 'optional')
            : ('--port', $port);
        return ('redis-server', @port, '--bind', '127.0.0.1', '--dir', $folder, '--save', '',
            grep { $_ ne '--tls' } @options);
    });
}

# sql => what is done at first; tls => 0: without TLS. InnoDB is left out, as it
# takes time to start and nothing here needs it.
sub mariadb {
    my ($name, %option) = @_;
    my $folder = folder($name);
    my @common = ('--no-defaults', "--datadir=$folder/data", '--skip-innodb', '--default-storage-engine=Aria',
        '--debug-no-sync', '--skip-name-resolve');
    my $sql = write_to("$folder/sql", $option{sql} // '');
    run($folder, '/dev/null', 'mariadb-install-db', @common, '--auth-root-authentication-method=normal', '--skip-test-db');
    my $keys = keys_of_tests();
    my @tls = ($option{tls} // 1)
        ? ("--ssl-cert=$keys/server.crt", "--ssl-key=$keys/server.key", "--ssl-ca=$keys/ca.crt") : '--skip-ssl';
    my ($server) = grep { -x } map { "$_/mariadbd" } split(/:/, $ENV{PATH}), '/usr/sbin', '/usr/libexec';
    return serve($name, folder => $folder, ready => qr/ready for connections/, command => sub {
        my $port = shift;
        # A check without a user leaves after the greeting, which counts as an error of the connection.
        return ($server // 'mariadbd', @common, @tls, "--port=$port", '--bind-address=127.0.0.1', "--socket=$folder/socket",
            "--init-file=$sql", '--max-connect-errors=1000000', '--performance-schema=off',
            @{ $option{options} // [] });
    });
}

# sql => statements, one a line; hba => lines of pg_hba.conf; tls => 0.
sub postgres {
    my ($name, %option) = @_;
    my $folder = folder($name);
    my $keys = keys_of_tests();
    my ($programs) = grep { -x "$_/postgres" } (reverse sort glob '/usr/lib/postgresql/*/bin'), split /:/, $ENV{PATH};
    $programs // die "there is no PostgreSQL\n";
    run($folder, '/dev/null', "$programs/initdb", '-D', "$folder/data", '-U', 'admin', '--auth=trust', '--no-sync',
        '-E', 'UTF8', '--locale=C');
    my $sql = write_to("$folder/sql", $option{sql} // '');
    run($folder, $sql, "$programs/postgres", '--single', '-F', '-D', "$folder/data", 'postgres');
    my $statements = NginxRunner::slurp("$folder/said");
    die $statements if $statements =~ /ERROR:/;
    my $hba = write_to("$folder/hba", $option{hba} // "host all all 127.0.0.1/32 trust\n");
    my @tls = ($option{tls} // 1)
        ? map { ('-c', $_) } 'ssl=on', "ssl_cert_file=$keys/server.crt", 'ssl_key_file=' . own_key('server', $folder)
        : ();
    # By SIGQUIT it ends at once, and leaves no shared memory behind.
    return serve($name, folder => $folder, ready => qr/ready to accept connections/, signal => 'QUIT', command => sub {
        my $port = shift;
        return ("$programs/postgres", '-D', "$folder/data", '-p', $port, '-F', map({ ('-c', $_) }
            'listen_addresses=127.0.0.1', 'unix_socket_directories=', "hba_file=$hba", 'shared_buffers=1MB',
            'autovacuum=off', @{ $option{options} // [] }), @tls);
    });
}

my $python;

# The certificate by its name; then the authority of the clients, if they need one.
sub grpc_health {
    my ($name, $certificate, $clients) = @_;
    my $keys = keys_of_tests();
    if (!$python) {
        $python = `sh '$FindBin::Bin/../build/grpc.sh'`;
        die "there is no Python with gRPC\n" if $?;
        chomp $python;
    }
    my @tls = $certificate && $certificate ne 'without' ? map({ "$keys/$certificate.$_" } 'crt', 'key') : ();
    push @tls, "$keys/$clients.crt" if $clients;
    return serve($name, folder => folder($name), ready => qr/^ready/m, command => sub {
        my $port = shift;
        $port .= 'without' if ($certificate // '') eq 'without';
        return ($python, "$FindBin::Bin/lib/grpc_server.py", $port, @tls);
    });
}

# What it asks has to be there already.
sub plus_exporter {
    my ($name, $uri) = @_;
    need('prometheus-nginx-exporter');
    return serve($name, folder => folder($name), signal => 'TERM', ready => qr/successfully started/, command => sub {
        my $port = shift;
        return ('prometheus-nginx-exporter', '-nginx.plus', "-nginx.scrape-uri=$uri",
            "-web.listen-address=127.0.0.1:$port");
    });
}

sub prometheus {
    my ($name, $target) = @_;
    need('prometheus');
    my $folder = folder($name);
    my $config = write_to("$folder/config", <<"END");
scrape_configs:
  - job_name: nginx
    scrape_interval: 1s
    static_configs:
      - targets: ["127.0.0.1:$target"]
END
    return serve($name, folder => $folder, signal => 'TERM', ready => qr/ready to receive web requests/, command => sub {
        my $port = shift;
        return ('prometheus', "--config.file=$config", "--storage.tsdb.path=$folder/data",
            "--web.listen-address=127.0.0.1:$port");
    });
}

sub need {
    my $program = shift;
    return if grep { -x "$_/$program" } split /:/, $ENV{PATH};
    die "there is no $program\n";
}

# The port is bound, so that nobody else can take it, but there is no listening.
sub nobody {
    my $name = shift;
    for (1 .. 100) {
        my $port = NginxRunner::free_port();
        socket my $socket, AF_INET, SOCK_STREAM, 0 or die "socket: $!";
        bind $socket, pack_sockaddr_in($port, INADDR_LOOPBACK) or next;
        push @held, $socket;
        $ENV{"TEST_NGINX_${name}_PORT"} = $port;
        return $port;
    }
    die "no port is free\n";
}

END {
    if ($$ == $owner) {
        local ($?, $@, $!);
        end($_) for splice @running;
    }
}

1;
