package Test::Nginx::Util;

# The half of the fallback that knows no HTTP: the settings, the server root,
# nginx.conf, and the life of the nginx process. Test::Nginx::Socket is the
# other half. Linux only: processes are looked up in /proc.
#
# The package has the name it has in the real library because test files
# reach for variables such as $Test::Nginx::Util::ServerPort, and because
# the code of "--- init" and "--- skip_eval" is evaluated in this package.

use strict;
use warnings;

use Exporter 'import';
use File::Find ();
use File::Glob qw(bsd_glob);
use File::Path qw(make_path remove_tree);
use File::Spec ();
use IO::Socket::INET ();
use List::Util qw(any shuffle);
use POSIX qw(WNOHANG);
use Time::HiRes qw(sleep time);
use Test::LongString;
use Test::More ();

our @EXPORT = qw(
    expand_env_in_text bail_out trim verbose run_test run_tests eval_section
    is_str is_running no_long_string no_shuffle no_root_location use_hup
    master_on master_off master_process_enabled check_accum_error_log
    add_block_preprocessor add_cleanup_handler add_test_cleanup_handler
    env_to_nginx html_dir server_root
    error_log_data access_log_data log_tail running_pid wait_until parse_time
    server_name server_addr server_port server_port_for_client timeout
    repeat_each worker_connections workers log_level
);

#-- Settings ---------------------------------------------------------------

our $Verbose     = $ENV{TEST_NGINX_VERBOSE};
our $NginxBinary = $ENV{TEST_NGINX_BINARY} || 'nginx';
our $UseHup      = $ENV{TEST_NGINX_USE_HUP};
our $UseValgrind = $ENV{TEST_NGINX_USE_VALGRIND};
our $LoadModules = $ENV{TEST_NGINX_LOAD_MODULES};
our $NoShuffle   = $ENV{TEST_NGINX_NO_SHUFFLE} || 0;
our $Timeout     = $ENV{TEST_NGINX_TIMEOUT} || 3;
our $LogLevel    = $ENV{TEST_NGINX_LOG_LEVEL} || 'debug';
our $MasterProcessEnabled = $ENV{TEST_NGINX_MASTER_PROCESS} || 'off';
our $TestNginxSleep       = $ENV{TEST_NGINX_SLEEP} || 0.015;

our ($RepeatEach, $Workers, $WorkerConnections) = (1, 1, 64);
our ($ServerAddr, $ServerName) = ('127.0.0.1', 'localhost');
our ($NoLongString, $NoRootLocation, $CheckAccumErrLog);
our (@EnvToNginx, @BlockPreprocessors, @CleanupHandlers, @TestCleanupHandlers);

# Ports that were handed out by this process, so that none comes twice.
our %UsedPorts;

# The real library's default port is 1984. A free one cannot collide with a
# second checkout under test. The environment variable is set at once, or a
# test file's own `$ENV{TEST_NGINX_SERVER_PORT} ||= 1984` would contradict it.
our $ServerPort = !$ENV{TEST_NGINX_RANDOMIZE}
    && ($ENV{TEST_NGINX_SERVER_PORT} || $ENV{TEST_NGINX_PORT}) || gen_rand_port();
our $ServerPortForClient = $ENV{TEST_NGINX_CLIENT_PORT} || $ServerPort;
$ENV{TEST_NGINX_SERVER_PORT} = $ServerPort;

our $ServRoot = File::Spec->rel2abs(
    $ENV{TEST_NGINX_RANDOMIZE} ? "t/servroot_$ServerPort"
                               : $ENV{TEST_NGINX_SERVROOT} || 't/servroot');
$ENV{TEST_NGINX_SERVER_ROOT} = $ServRoot;

our $LogDir     = "$ServRoot/logs";
our $HtmlDir    = "$ServRoot/html";
our $ConfDir    = "$ServRoot/conf";
our $ConfFile   = "$ConfDir/nginx.conf";
our $ErrLogFile = "$LogDir/error.log";
our $AccLogFile = "$LogDir/access.log";
our $PidFile    = "$LogDir/nginx.pid";
my $StderrFile  = "$LogDir/stderr.txt";    # what nginx says while it starts

# What a block leaves behind for the next one.
our ($NginxVersion, $PrevBlock, $HaveConfig);
our $RandPorts    = {};                 # $TEST_NGINX_RAND_PORT_n of this block
our $ErrLogFilePos = 0;                 # how much of error.log has been checked
our $ChildPid;                          # nginx in the foreground (valgrind)
my $NginxV;                             # output of nginx -V
my ($Launched, $Started);               # we have tried to run nginx; it did run
my $MainPid = $$;                       # forked children must not clean up

# Set by Test::Nginx::Socket; this package must not depend on that one.
our ($RunTestHelper, $CheckErrorLog, $CheckShutdownErrorLog);

# Sections of the real library that change what a block means and that are not
# implemented here. To ignore one would let a test pass that tests nothing.
my @Unsupported = qw(
    http2 http3 curl curl_error curl_options stap stap_out tcp_listen udp_listen
    todo todo_nginx skip_nginx2 skip_openssl skip_slave post_setup_server_root
    error_log_file server_name server_addr_for_client raw_response_headers_like
    raw_response_headers_unlike request_eval response_body_eval response_body_filters
    response_body_json_sort charset write_resp_body_file http09
);

our $BadLine = qr/\bpanicked at\b|exited on signal|\[alert\]|\bAssertion\b|ERROR: AddressSanitizer/;

# Functions that set with an argument and get without one.
my %property = (
    server_name => \$ServerName, server_addr => \$ServerAddr, timeout => \$Timeout,
    server_port => \$ServerPort, server_port_for_client => \$ServerPortForClient,
    repeat_each => \$RepeatEach, workers => \$Workers, log_level => \$LogLevel,
    worker_connections => \$WorkerConnections,
);
while (my ($name, $var) = each %property) {
    no strict 'refs';
    *$name = sub (@) { $$var = shift if @_; return $$var };
}

sub no_long_string ()        { $NoLongString = 1 }
sub no_shuffle ()            { $NoShuffle = 1 }
sub no_root_location ()      { $NoRootLocation = 1 }
sub use_hup ()               { $UseHup = 1 }
sub check_accum_error_log () { $CheckAccumErrLog = 1 }
sub master_on ()             { $MasterProcessEnabled = 'on' }
sub master_off ()            { $MasterProcessEnabled = 'off' }
sub html_dir ()              { $HtmlDir }
sub server_root ()           { $ServRoot }
sub verbose                  { $Verbose }

sub master_process_enabled (@) {
    $MasterProcessEnabled = shift() ? 'on' : 'off' if @_;
    return $MasterProcessEnabled;
}

# As in the real library the handler added last is the first to run.
sub add_block_preprocessor (&)   { unshift @BlockPreprocessors, shift }
sub add_cleanup_handler ($)      { unshift @CleanupHandlers, shift }
sub add_test_cleanup_handler ($) { unshift @TestCleanupHandlers, shift }

sub env_to_nginx (@) {
    for my $var (@_) {
        die "env_to_nginx: bad value: $var\n" if $var !~ /^[A-Za-z_]/ || $var =~ /\n/;
        push @EnvToNginx, $var;
    }
}

#-- Small helpers ----------------------------------------------------------

sub vlog { warn '# ', @_, "\n" if $Verbose; return }

sub bail_out (@) {
    cleanup();
    Test::More::BAIL_OUT(join '', @_);
}

sub trim ($) {
    my $text = shift // return undef;
    $text =~ s/^\s+|\s+$//g;
    return join ' ', split /\s+/, $text;
}

# "100ms", "2s" and "2" to seconds.
sub parse_time ($) {
    my $time = shift // return undef;
    return $1 / 1000 if $time =~ /^(.*\d)ms$/;
    return $time =~ /^(.*\d)s$/ ? $1 : $time;
}

sub is_str (@) {
    my ($got, $expected, $desc) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return Test::More::like($got, $expected, $desc) if ref $expected eq 'Regexp';
    return Test::More::is($got, $expected, $desc) if $NoLongString;
    return is_string($got, $expected, $desc);
}

# Polls until the condition holds or the time is over.
sub wait_until {
    my ($seconds, $condition) = @_;
    my $deadline = time + $seconds;
    until ($condition->()) {
        return 0 if time > $deadline;
        sleep 0.005;
    }
    return 1;
}

sub read_file {
    my ($path, $from) = @_;
    open my $in, '<', $path or return;
    seek $in, $from, 0 if $from;
    local $/;
    return scalar(<$in>) // '';
}

# A port on which nobody listens. Ports of the kernel's own range for outgoing
# connections (from 32768 on) would sooner or later be taken before nginx binds.
sub gen_rand_port {
    for (1 .. 1000) {
        my $port = 10000 + int rand 22000;
        next if $UsedPorts{$port};
        IO::Socket::INET->new(LocalPort => $port, Proto => 'tcp', Listen => 1, ReuseAddr => 1)
            or next;
        $UsedPorts{$port} = 1;
        return $port;
    }
    bail_out('no free port found');
}

# Replaces $TEST_NGINX_* in the sections where the real library does so; a
# $TEST_NGINX_RAND_PORT_n is a free port that is the same throughout a block.
sub expand_env_in_text ($$$) {
    my ($text, $name, $rand_ports) = @_;
    return $text if !defined $text || ref $text;
    $text =~ s{\$(TEST_NGINX_RAND_PORT_[0-9]+)}{$rand_ports->{$1} ||= gen_rand_port()}ge;
    $text =~ s{\$(TEST_NGINX_[A-Z0-9_]+)}{
        $ENV{$1} // bail_out("$name - no environment variable $1")
    }ge;
    return $text;
}

sub expanded {
    my ($block, $section) = @_;
    return expand_env_in_text(scalar $block->$section, $block->name, $RandPorts) // '';
}

# Runs a section that holds Perl code; $block and $name are in its scope.
sub eval_section {
    my ($block, $section, $code) = @_;
    my $name = $block->name;
    my $value = eval $code;
    bail_out("$name - $section failed: $@") if $@;
    return $value;
}

#-- Logs -------------------------------------------------------------------

# The lines of error.log since the last call. nginx runs its log phase after
# the client has got the response, hence the short sleep.
sub error_log_data {
    my $settled = shift;
    sleep $TestNginxSleep * 3 unless $settled;
    my $new = read_file($ErrLogFile, $CheckAccumErrLog ? 0 : $ErrLogFilePos) // return [];
    $ErrLogFilePos += length $new unless $CheckAccumErrLog;
    return [split /^/, $new];
}

sub access_log_data {
    sleep $TestNginxSleep * 3;
    my $text = read_file($AccLogFile) // die "cannot read $AccLogFile: $!";
    return [split /^/, $text];
}

# For diagnostics: the end of the error log without nginx's debug messages,
# some of which have several lines.
sub log_tail {
    my $log = read_file($ErrLogFile) // '';
    my @lines = grep { !/\[debug\]/ && (m{^\d{4}/} || /$BadLine/) } split /^/, $log;
    splice @lines, 0, @lines - 20 if @lines > 20;
    return join '', "the end of $ErrLogFile:\n", @lines;
}

#-- Processes --------------------------------------------------------------

# A zombie counts as gone: init may be slow to collect a daemonized nginx.
sub is_running ($) {
    my $pid = shift;
    return kill(0, $pid) && (read_file("/proc/$pid/stat") // '') =~ /\) [^ZX] /;
}

sub command_line { return read_file('/proc/' . shift() . '/cmdline') // '' }

# Pids of nginx processes; $which is 'parent' or 'group', with the id of that.
sub nginx_pids {
    my ($which, $id) = @_;
    my @found;
    for my $stat (glob '/proc/[0-9]*/stat') {
        my ($pid, $state, $parent, $group) =
            (read_file($stat) // '') =~ /^(\d+) \(.*\) (\S) (\d+) (\d+)/s or next;
        next if $state eq 'Z' || ($which eq 'parent' ? $parent : $group) != $id;
        push @found, $pid if command_line($pid) =~ /nginx/;
    }
    return @found;
}

# The pid in a pid file if that process is an nginx of this server root. The
# check matters: after a crash the number may belong to anybody.
sub running_pid {
    my ($pid) = (read_file(shift // $PidFile) // '') =~ /^(\d+)/ or return;
    return is_running($pid) && index(command_line($pid), "$ServRoot/") >= 0 ? $pid : undef;
}

# Repeats the signal: nginx handles one that comes before it waits for events
# only when the next event comes.
sub signal_until_gone {
    my ($signal, $pid, $seconds) = @_;
    my $deadline = time + $seconds;
    my $gone = sub { waitpid($pid, WNOHANG); return !is_running($pid) };
    while (time < $deadline) {
        vlog("sending $signal to $pid");
        kill $signal, $pid;
        return 1 if wait_until(0.3, $gone);
    }
    return 0;
}

# Stops one nginx: gracefully, then not, and its orphans too. A master that was
# killed or that panicked leaves workers which still listen on our port.
sub stop_process {
    my ($pid, $name) = @_;
    my @steps = ([TERM => 1], [KILL => 1]);
    unshift @steps, [QUIT => $ChildPid ? 10 * $Timeout : $Timeout]
        unless $ENV{TEST_NGINX_FAST_SHUTDOWN};
    for my $step (@steps) {
        my ($signal, $seconds) = @$step;
        last if signal_until_gone($signal, $pid, $seconds);
        warn "WARNING: $name - nginx (pid $pid) does not exit on SIG$signal\n";
    }
    stop_orphans($pid, $name);
}

# nginx calls setsid(), so that its workers are in the group of the master.
sub stop_orphans {
    my ($group, $name) = @_;
    return unless kill 0, -$group;
    my @orphans = nginx_pids(group => $group) or return;
    warn "WARNING: $name - killing orphans of nginx $group: @orphans\n";
    kill 'KILL', @orphans;
    wait_until(1, sub { !any { is_running($_) } @orphans });
}

# Whatever runs on our server root: of this process, of an earlier one that
# crashed, and the old master of a binary upgrade.
sub stop_nginx {
    my $name = shift;
    for my $file ($PidFile, "$PidFile.oldbin") {
        my ($recorded) = (read_file($file) // '') =~ /^(\d+)/ or next;
        if (running_pid($file)) { stop_process($recorded, $name) }
        elsif (!is_running($recorded)) { stop_orphans($recorded, $name) }
        unlink $file;
    }
    if ($ChildPid) {
        stop_process($ChildPid, $name) if is_running($ChildPid);
        waitpid $ChildPid, 0;
        undef $ChildPid;
    }
}

sub shell_command {
    my $preload = $ENV{TEST_NGINX_LD_PRELOAD};
    my $command = $NginxBinary;
    # Without -e (nginx 1.19.5) nginx first opens the log it was compiled with.
    $command .= " -e '$ErrLogFile'" if $NginxVersion >= 1.019005;
    $command .= " -p '$ServRoot/' -c '$ConfFile'";
    if ($UseValgrind) {
        my $options = $UseValgrind;
        $options = '--tool=memcheck --leak-check=full --keep-debuginfo=yes'
            . ' --show-possibly-lost=no --num-callers=100 --gen-suppressions=all'
            . (-f 'valgrind.suppress' ? ' --suppressions=valgrind.suppress' : '')
            if $UseValgrind =~ /^\d+$/;
        return "exec valgrind -q $options $command >/dev/null";
    }
    return ($preload ? "LD_PRELOAD='$preload' " : '') . "exec $command >/dev/null 2>'$StderrFile'";
}

# A panic while the configuration is read goes to stderr. What nginx itself
# writes there is in error.log too.
sub startup_panics { return [grep { !/^nginx: / } split /^/, read_file($StderrFile) // ''] }

# Runs nginx and returns its wait status. In the usual case it daemonizes, and
# then its sockets are bound when the command returns: no request is needed to
# find out, which would leave traces in the logs and shift connection numbers.
sub launch {
    my $command = shell_command();
    vlog($command);
    $Launched = 1;
    return system $command unless $UseValgrind;

    defined($ChildPid = fork) or bail_out("cannot fork: $!");
    if (!$ChildPid) {
        setpgrp;
        exec $command or POSIX::_exit(127);
    }
    return 0;
}

sub start_nginx {
    my $block = shift;
    my $name = $block->name;
    warn "$name\n" if $UseValgrind;     # its reports do not say whose they are
    my $status = launch();
    wait_until($UseValgrind ? 60 : 5, sub { -s $PidFile || $ChildPid && !is_running($ChildPid) })
        unless $status;
    if ($status || !-s $PidFile) {
        Test::More::diag(read_file($StderrFile) // '', log_tail());
        bail_out("$name - cannot start nginx (wait status $status)");
    }
    # The pid file is there before the workers are.
    my $wanted = $MasterProcessEnabled ne 'on' ? 0 : $Workers =~ /^\d+$/ ? $Workers : 1;
    wait_until(2, sub { nginx_pids(parent => running_pid() // return 1) >= $wanted }) if $wanted;
    $Started = 1;
    report_bad_lines($block, startup_panics());
}

# Reloads and waits until the workers of the old configuration are gone, so
# that no request of this block can be answered by one of them.
sub reload_nginx {
    my ($pid, $block) = @_;
    my $name = $block->name;
    my %old = map { $_ => 1 } nginx_pids(parent => $pid);
    my $replaced = sub {
        return 0 if any { is_running($_) } keys %old;
        return any { !$old{$_} } nginx_pids(parent => $pid);
    };
    kill 'USR1', $pid;                  # the logs were removed: open new ones
    wait_until(1, sub { -e $ErrLogFile });
    kill 'HUP', $pid;

    # nginx tries to bind for 2.5 s before it gives up; other errors are final.
    my $refused = sub { (read_file($ErrLogFile) // '') =~ /\[emerg\](?!.*\bbind\(\) to)/ };
    my $fails = defined $block->reload_fails;
    wait_until($fails ? 0.3 : $Timeout + 3, sub { $replaced->() || $refused->() });
    my $done = wait_until(0.3, $replaced);
    if ($fails) {
        Test::More::fail("$name - the reload should have failed") if $done;
    } elsif (!$done) {
        if (any { command_line($_) =~ /shutting down/ } keys %old) {
            warn "WARNING: $name - old workers are still busy\n";
        } else {
            Test::More::fail("$name - failed to reload the configuration");
        }
    }
}

#-- The server root --------------------------------------------------------

# Removes only what we know to be ours: TEST_NGINX_SERVROOT may be mis-set. In
# HUP mode the directories stay, and so do sockets and keys that are in use.
sub setup_server_root {
    my $name = shift;
    remove_tree($ConfDir, bsd_glob("$ServRoot/*_temp"), bsd_glob("$ServRoot/*_cache"));
    if ($UseHup && $Started) {
        File::Find::find({ no_chdir => 1, wanted => sub {
            unlink $_ unless -d $_ or /(?:\bnginx\.pid|\.sock|\.crt|\.key)$/;
        } }, $ServRoot);
    } else {
        remove_tree($LogDir, $HtmlDir, "$ServRoot/cache");
        !-d $ServRoot || rmdir $ServRoot
            or bail_out("$name - cannot remove $ServRoot (not empty?): $!");
    }
    make_path($LogDir, $HtmlDir, $ConfDir);
    write_file("$HtmlDir/index.html", '<html><head><title>It works!</title></head>'
        . '<body>It works!</body></html>');
}

sub write_file {
    my ($path, $text) = @_;
    open my $out, '>:raw', $path or bail_out("cannot write $path: $!");
    print $out $text;
    close $out or bail_out("cannot write $path: $!");
}

# ">>> name [date]" lines, each followed by the content; or an array of
# [name, content, date]. The date has the form of touch -t, in GMT.
sub write_user_files {
    my $block = shift;
    my $files = $block->user_files or return;
    if (!ref $files) {
        my (undef, @parts) = split /^>>>[ \t]+(\S+)(?:[ \t]+(.+?))?[ \t]*\n/m, "\n$files";
        $files = [];
        while (my ($name, $date, $body) = splice @parts, 0, 3) {
            push @$files, [$name, $body, $date];
        }
    }
    for my $file (@$files) {
        my ($path, $body, $date) = @$file;
        $path = "$HtmlDir/$path" if $path !~ m{^/};
        make_path($path =~ m{^(.*)/}s);
        write_file($path, expand_env_in_text($body, $block->name, $RandPorts) // '');
        next unless $date;
        local $ENV{TZ} = 'GMT';
        system('touch', '-t', $date, $path) == 0 or bail_out("cannot set the date of $path");
    }
}

# The temporary paths that Debian compiles in are not ours to write.
sub temp_paths {
    my $http_config = shift;
    my @paths;
    for my $kind (qw(client_body proxy fastcgi scgi uwsgi)) {
        next if $NginxV =~ /--without-http_${kind}_module/ || $http_config =~ /\b${kind}_temp_path\b/;
        push @paths, "${kind}_temp_path $ServRoot/${kind}_temp;";
    }
    return "@paths";
}

sub server_block {
    my $config = shift;
    my $root_location = $NoRootLocation ? '' : <<"END";
        location / {
            root $HtmlDir;
            index index.html index.htm;
        }
END
    return <<"END";
    server {
        listen          $ServerPort;
        server_name     '$ServerName';
        client_max_body_size 30M;

$config

$root_location    }
END
}

sub write_config_file {
    my ($block, $config) = @_;
    my %text = map { $_ => expanded($block, $_) } qw(main_config http_config post_main_config);
    master_on() if $UseHup;             # reloading needs a master process
    my $daemon  = $UseValgrind ? 'off' : 'on';
    # As root nginx would make its workers "nobody", who cannot write our logs.
    my $user    = $> == 0 ? 'user root;' : '';
    my $modules = join '', map { "load_module $_;\n" } split ' ', $LoadModules // '';
    my $env     = join '', map { "env $_;\n" } qw(LD_PRELOAD LD_LIBRARY_PATH ASAN_OPTIONS),
        map { /\s/ ? "'$_'" : $_ } @EnvToNginx;

    write_file($ConfFile, join '', <<"END", server_block($config), <<"END2");
${modules}worker_processes  $Workers;
daemon $daemon;
master_process $MasterProcessEnabled;
error_log $ErrLogFile $LogLevel;
pid       $PidFile;
$env$user

$text{main_config}

http {
    access_log $AccLogFile;
    ${\temp_paths($text{http_config})}
    default_type text/plain;
    keepalive_timeout  68000ms;

$text{http_config}
END
}

$text{post_main_config}

events {
    accept_mutex off;
    worker_connections  $WorkerConnections;
}
END2
}

sub prepare_server_root {
    my ($block, $config) = @_;
    setup_server_root($block->name);
    $ErrLogFilePos = 0;
    write_user_files($block);
    write_config_file($block, $config);
}

#-- Skipping ---------------------------------------------------------------

# Versions as the real library writes them: 1.28.3 is 1.028003.
sub canon_version { return sprintf '%d.%03d%03d', @_ }

sub get_nginx_version {
    $NginxV = `$NginxBinary -V 2>&1`;
    bail_out("cannot run $NginxBinary -V: ", $NginxV // $!) if !defined $NginxV || $?;
    $NginxV =~ m{\w/(\d+)\.(\d+)\.(\d+)} or bail_out("$NginxBinary -V shows no version: $NginxV");
    return canon_version($1, $2, $3);
}

my %compare = (
    '<' => sub { $_[0] < $_[1] },  '<=' => sub { $_[0] <= $_[1] },
    '>' => sub { $_[0] > $_[1] },  '>=' => sub { $_[0] >= $_[1] },
);

# The number of tests to skip and the reason, or nothing. For skip_eval:
# "number: Perl code", for skip_nginx: "number: < 1.28.0", then perhaps ": reason".
sub skip_spec {
    my $block = shift;
    if (defined(my $spec = $block->skip_eval)) {
        my ($number, $code) = $spec =~ /^\s*(\d+)\s*:\s*(.*)/s
            or bail_out($block->name, " - invalid --- skip_eval: $spec");
        return ($number, 'skip_eval') if eval_section($block, 'skip_eval', $code);
    }
    if (defined(my $spec = $block->skip_nginx)) {
        my ($number, $operator, $version, $reason) =
            $spec =~ /^\s*(\d+)\s*:\s*([<>]=?)\s*(\d+\.\d+\.\d+)\s*(?::\s*(.*?)\s*)?$/
            or bail_out($block->name, " - invalid --- skip_nginx: $spec");
        return ($number, $reason || "nginx version $operator $version")
            if $compare{$operator}->($NginxVersion, canon_version(split /\./, $version));
    }
    return;
}

#-- Lines that are never right ---------------------------------------------

# The patterns of a section such as error_log: one a line, or an eval'd array
# or regular expression.
sub patterns {
    my $section = shift // return;
    return grep { defined } @$section if ref $section eq 'ARRAY';
    return ref $section ? $section : split /\n+/, $section;
}

sub line_matches {
    my ($line, $pattern) = @_;
    return ref $pattern && $line =~ $pattern || index($line, $pattern) >= 0;
}

# A crash, a panic or an [alert] fails the block in whose time it is found,
# unless one of the block's own sections speaks of that very line. (The real
# library fails for assertions only, and warns of the rest.)
sub report_bad_lines {
    my ($block, $lines) = @_;
    my @bad = grep { /$BadLine/ } @$lines or return;
    my @known = map { patterns(scalar $block->$_) }
        qw(error_log shutdown_error_log grep_error_log no_error_log no_shutdown_error_log);
    @bad = grep { my $line = $_; !any { line_matches($line, $_) } @known } @bad or return;
    Test::More::fail($block->name . ' - no crash, panic or alert in error.log');
    Test::More::diag(@bad > 20 ? @bad[0 .. 19] : @bad);
}

#-- Running blocks ---------------------------------------------------------

# The block before this one is finished only when its nginx has been stopped.
sub check_prev_block {
    my $block = $PrevBlock or return;
    undef $PrevBlock;
    $CheckShutdownErrorLog->($block, $UseHup || $ENV{TEST_NGINX_NO_CLEAN});
}

# Gets nginx to run with the block's configuration.
sub bring_up {
    my ($block, $config) = @_;
    my $pid = $UseHup && $Started ? running_pid() : undef;
    stop_nginx($block->name) unless $pid;
    check_prev_block();
    prepare_server_root($block, $config);
    $pid ? reload_nginx($pid, $block) : start_nginx($block);
}

# nginx has to refuse the configuration; a number asks for that exit code.
sub run_must_die {
    my ($block, $config) = @_;
    local ($UseHup, $UseValgrind);
    my $name = $block->name;
    stop_nginx($name);
    check_prev_block();
    prepare_server_root($block, $config);
    for my $i (0 .. $RepeatEach - 1) {
        my $status = launch();
        my $wanted = $block->must_die;
        if (my $signal = $status & 127) {
            Test::More::fail("$name - nginx was killed by signal $signal");
        } elsif ($wanted =~ /^\d+$/) {
            Test::More::is($status >> 8, $wanted, "$name - die with the expected exit code");
        } else {
            Test::More::isnt($status, 0, "$name - die as expected");
        }
        $CheckErrorLog->($block, $i);
        report_bad_lines($block, startup_panics());
        next if $status;
        wait_until(2, sub { -s $PidFile });
        stop_nginx($name);
    }
}

sub run_test ($) {
    my $block = shift;
    return if defined $block->SKIP;
    my $name = $block->name;
    my ($unknown) = grep { defined $block->$_ } @Unsupported;
    bail_out("$name - --- $unknown is not supported by t/fallback") if $unknown;
    $RandPorts = {};
    local $LogLevel = $block->log_level || $LogLevel;
    my $config = expand_env_in_text(scalar $block->config, $name, $RandPorts);
    bail_out("$name - no --- config, here or in a block before") unless defined $config || $HaveConfig;

    my ($skip_count, $skip_reason) = skip_spec($block);
    if (defined $config && !defined $skip_count) {      # else nginx runs on as it is
        $HaveConfig = 1;
        if (defined $block->must_die) {
            run_must_die($block, $config);
            $PrevBlock = $block;
            return;
        }
        bring_up($block, $config);
    }
    if (my $code = $block->init) { eval_section($block, 'init', $code) }

    $ErrLogFilePos = 0;
    for my $i (0 .. $RepeatEach - 1) {
        write_user_files($block) if $i;
        SKIP: {
            Test::More::skip("$name - $skip_reason", $skip_count) if defined $skip_count;
            $RunTestHelper->($block, $i);
        }
    }
    $PrevBlock = $block unless defined $skip_count;
}

sub run_tests () {
    $NginxVersion = get_nginx_version();
    $ENV{TEST_NGINX_SERVER_PORT} = $ServerPort;     # server_port() may have changed it
    for my $block ($NoShuffle ? Test::Base::blocks() : shuffle Test::Base::blocks()) {
        $_->($block) for @BlockPreprocessors;
        $block->set_value(name => "$0 " . $block->name);
        run_test($block);
        $_->($block) for @TestCleanupHandlers;
    }
    cleanup();
}

# Runs at the end of run_tests() and again at END, as in the real library.
sub cleanup { $_->() for @CleanupHandlers; return }

# Without these END would not run, and nginx would stay.
for my $signal (qw(INT TERM HUP)) {
    $SIG{$signal} //= sub { exit 1 };
}

# Compiled after Test::More, so that this runs before its END counts the tests.
END {
    if ($$ == $MainPid) {
        local $?;
        cleanup();
        stop_nginx('END') if $Launched && ($UseValgrind || !$ENV{TEST_NGINX_NO_CLEAN});
        check_prev_block();
        remove_tree($ServRoot) if $ENV{TEST_NGINX_RANDOMIZE} && $Launched;
    }
}

1;
