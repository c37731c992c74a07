# What README.md says is executed, and what docs/reference.md says is compared with the sources.
#
# In README.md, "nginx" blocks are configurations, and "console" blocks are commands, each after
# "$ ", with what they print. The commands run one after another in one shell, in a folder that looks
# like the project's after `make module`: objs/ holds the nginx and the module under test. Only the
# ports are others. What varies from run to run (times, process ids, lengths, the numbers of versions) may
# differ, all else must be as it is written. "sh" blocks are not executed.

use strict;
use warnings;

use Cwd ();
use File::Basename qw(dirname);
use File::Temp ();
use IO::Select ();
use IO::Socket::INET ();
use JSON::PP ();
use Test::More;
use Time::HiRes qw(sleep time);

# To nginx, a variable of this name is a list of inherited sockets.
delete $ENV{NGINX};

my $root = Cwd::abs_path(dirname(__FILE__) . '/..');
my $nginx = Cwd::abs_path($ENV{TEST_NGINX_BINARY} || "$root/objs/nginx");
my $module = (split ' ', $ENV{TEST_NGINX_LOAD_MODULES} || "$root/objs/ngx_http_checkups_module.so")[0];
$module = Cwd::abs_path($module);

# How long a command may take, and for how long it is repeated where it shows what the checks do.
my $COMMAND_SECONDS = 60;
my $REPEAT_SECONDS = 20;

my $pages = {map { $_ => read_file("$root/$_") } qw(README.md CONTRIBUTING.md CHANGELOG.md docs/reference.md docs/tools.md)};

my $folder = File::Temp->newdir('checkups-readme.XXXXXX', TMPDIR => 1);
chmod 0755, $folder or die "$folder: $!";    # the workers may run as nobody
mkdir "$folder/objs" or die "$folder/objs: $!";
symlink $nginx, "$folder/objs/nginx" or die "objs/nginx: $!";
symlink $module, "$folder/objs/ngx_http_checkups_module.so" or die "the module: $!";

my $shell;
END { local $?; clean_up() }
$SIG{$_} = sub { exit 1 } for qw(HUP INT TERM);

the_readme_works();
the_reference_is_complete();
the_tables_are_right();
its_examples_are_accepted();
the_pages_name_what_there_is();
done_testing();

#-- README.md ------------------------------------------------------------------

sub the_readme_works {
    my @blocks = fenced($pages->{'README.md'});
    my @whole = grep { $_->{language} eq 'nginx' && $_->{text} =~ /^events /m } @blocks;
    is(scalar @whole, 1, 'README.md has one complete configuration') or return;

    my %port = free_ports($whole[0]{text} =~ /127\.0\.0\.1:(\d+)/g);
    my ($path) = $pages->{'README.md'} =~ /save it as `([^`]+)`/;
    ok($path, 'README.md says where to save the configuration') or return;
    write_file("$folder/$path", unprivileged(translated($whole[0]{text}, %port)));

    my $test = run_nginx('-t', '-c', $path);
    is($test->{status}, 0, 'nginx accepts the configuration') or diag($test->{output});
    unlike($test->{output}, qr/\[(?:warn|alert|emerg)\]/, '... and has nothing to say against it');

    $shell = start_shell();
    for my $step (map { steps($_) } grep { $_->{language} eq 'console' } @blocks) {
        my ($got, @differences);
        my $deadline = time + $REPEAT_SECONDS;
        do {
            sleep 0.3 if @differences;
            $got = translated(run_in_shell(translated($step->{command}, %port)), reverse %port);
            @differences = differences($got, $step->{output});
        } while (@differences && time < $deadline && $step->{command} =~ m{/status|error\.log});
        ok(!@differences, "README.md:$step->{line}: $step->{command}")
            or diag(join "\n", @differences, 'The output was:', $got);
    }

    my ($pid_file) = $whole[0]{text} =~ /^pid\s+(\S+);/m;
    my $gone = wait_for(10, sub { !-e "$folder/$pid_file" });
    ok($gone, 'the commands of README.md leave no nginx behind');
    my @alerts = grep { /\[(?:alert|emerg|crit)\]|panicked/ } split /^/, read_file("$folder/objs/error.log");
    is("@alerts", '', 'the error log has no alert');
}

# What is different in what a command printed. Both texts are JSON, an HTTP response, or lines.
sub differences {
    my ($got, $expected) = @_;
    if ($expected =~ /\A[\[{]/) {
        return json_differences($got, $expected);
    }
    if ($expected =~ m{\AHTTP/}) {
        s/\r\n/\n/g for $got, $expected;
        my ($got_head, $got_body) = split /\n\n/, $got, 2;
        my ($head, $body) = split /\n\n/, $expected, 2;
        return (
            text_differences(headers($got_head // ''), headers($head)),
            json_differences($got_body // '', $body),
        );
    }
    return text_differences($got, $expected);
}

# Headers whose value depends on the build, the time or the ports.
sub headers {
    my $head = shift;
    $head =~ s/^(Server|Date|Content-Length): \K.+/.../mg;
    $head =~ s/^ETag: \K"\d+"/"VERSION"/mg;
    return $head;
}

sub text_differences {
    my ($got, $expected) = map { s/\s+\z//r } map { without_chance($_) } @_;
    return $got eq $expected ? () : ("got:\n$got\nexpected:\n$expected");
}

sub json_differences {
    my ($got, $expected) = @_;
    my @found;
    my @keys = map { join ' ', keys_of($_) } $got, $expected;
    push @found, "got the keys:      $keys[0]\nexpected the keys: $keys[1]" if $keys[0] ne $keys[1];
    my @texts;
    for my $text ($got, $expected) {
        my $value = eval { JSON::PP->new->decode($text) };
        return (@found, "no JSON: $@\n$text") unless defined $value;
        push @texts, without_chance(JSON::PP->new->canonical->encode($value));
    }
    push @found, "got:      $texts[0]\nexpected: $texts[1]" if $texts[0] ne $texts[1];
    return @found;
}

# The keys in the order in which they are written.
sub keys_of { return shift =~ /"([^"]+)":/g }

# The text without what is another in each run.
sub without_chance {
    my $text = shift;
    $text =~ s/\d{4}([-\/])\d\d\1\d\d \d\d:\d\d:\d\d/TIME/g;
    $text =~ s/\b\d+#\d+:/PID:/g;
    $text =~ s/"[0-9a-f]{32}"/"ID"/g;
    $text =~ s/"pid":\K\d+/PID/g;
    $text =~ s/"version":\K[1-9]\d*/VERSION/g;
    $text =~ s/"fail_num":\K[1-9]\d*/SOME/g;    # it rises with every check
    return $text;
}

#-- docs/reference.md ----------------------------------------------------------

sub the_reference_is_complete {
    my $reference = $pages->{'docs/reference.md'};

    my $table = read_file("$root/src/http/directives.rs");
    my @directives = $table =~ /ngx_string!\("(\w+)"\)/g;
    cmp_ok(scalar @directives, '>', 0, 'directives.rs has directives');
    my @sections = $reference =~ /^### (checkups_\w+)$/mg;
    is("@{[sort @sections]}", "@{[sort @directives]}", 'each directive has a section in reference.md, and no other');
    for my $name (@sections) {
        my $text = section($reference, $name);
        like($text, qr/^> Syntax: \*\*$name\*\*/m, "$name: there is its syntax");
        like($text, qr/^> Default: \S/m, "$name: there is its default");
        like($text, qr/^> Context: (?:http|upstream|location)\b/m, "$name: there is its context");
    }

    my $parser = read_file("$root/src/logic/directive/check.rs");
    my ($taken) = $parser =~ /^    fn take\(.*?\n(.*?)^    \}$/ms;
    my %parameters = map { $_ => 1 } ($taken // '') =~ /^            "(\w+)" => /mg;
    delete @parameters{qw(mandatory persistent)};     # words without a value
    cmp_ok(scalar keys %parameters, '>', 0, 'check.rs has parameters of checks');
    my @rows = section($reference, 'checkups_check') =~ /^\| (`[^|]*) \|/mg;
    my %described = map { $_ => 1 } map { /`(\w+)=/g } @rows;
    is("@{[sort keys %described]}", "@{[sort keys %parameters]}", 'checkups_check: each parameter is in the tables, and no other');

    # What stands for a value in the sources is a word in capitals here.
    my $lines = section($reference, 'Log lines');
    for my $line (log_lines()) {
        my $pattern = join '(?:[A-Z]+|the zone is full)', map { quotemeta } split /\{[^}]*\}/, $line, -1;
        ok($lines =~ /`$pattern`/, "reference.md has the log line: $line");
    }

    my %status = reverse read_file("$root/src/logic/api.rs") =~ /\(\s*([45]\d\d),\s*"(\w+)",/g;
    cmp_ok(scalar keys %status, '>', 20, 'api.rs has codes of errors');
    for my $name (sort keys %status) {
        my $status = $status{$name};
        like(section($reference, 'API'), qr/^\| $status \| `$name` \|/m, "reference.md has the API error $name");
    }

    # What README.md shows was compared with the real answers above.
    my @outputs = map { $_->{output} =~ s{\AHTTP/.*?\n\n}{}sr } map { steps($_) }
        grep { $_->{language} eq 'console' } fenced($pages->{'README.md'});
    my %shown = map { shape(JSON::PP->new->decode($_)) => 1 } grep { /\A[\[{]/ } @outputs;
    for my $example (grep { $_->{language} eq 'json' } fenced($reference)) {
        my $shape = shape(JSON::PP->new->decode($example->{text}));
        ok($shown{$shape}, "reference.md:$example->{line}: the JSON has the shape of one in README.md");
    }
}

# A JSON value without its values: the keys, the types, and what kinds of members an array has.
sub shape {
    my $value = shift;
    if (ref $value eq 'HASH') {
        return '{' . join(',', map { "$_:" . shape($value->{$_}) } sort keys %$value) . '}';
    }
    if (ref $value eq 'ARRAY') {
        my %kinds = map { shape($_) => 1 } @$value;
        return '[' . join('|', sort keys %kinds) . ']';
    }
    return JSON::PP::is_bool($value) ? 'boolean' : defined $value ? 'scalar' : 'null';
}

# The defaults and ranges in the tables, against those that nginx has.
sub the_tables_are_right {
    my ($port) = (free_ports(1))[1];
    write_file("$folder/objs/part.conf", part(<<"END"));
upstream x { checkups_cluster; server 127.0.0.1:1; checkups_check http; }
server { listen 127.0.0.1:$port; location /api/ { checkups_api; } }
END
    my $started = run_nginx('-c', 'objs/part.conf');
    is($started->{status}, 0, 'nginx starts with nothing but defaults') or diag($started->{output});
    my $cluster = eval { JSON::PP->new->decode(`curl -s http://127.0.0.1:$port/api/clusters/x`) } || {};
    my ($server, $check) = ($cluster->{levels}[0]{servers}[0], $cluster->{checks}[0]);

    my $checks = section($pages->{'docs/reference.md'}, 'checkups_check');
    # Of the table that has defaults.
    while ($checks =~ /^\| `(\w+)=[^|]*\| (\S+) \|[^|]*\|[^|]*\|$/mg) {
        is($check->{$1}, $2, "reference.md: the default of $1 is $2");
    }
    my $servers = section($pages->{'docs/reference.md'}, 'Servers');
    while ($servers =~ /^\| `(\w+)=[^|]*\| (\S+) \|/mg) {
        is($server->{$1}, $2, "reference.md: the default of $1 is $2");
    }

    while ($checks =~ /^\| `(\w+)=[^|]*\|[^|]*\| (\w+ to \w+) \|/mg) {
        my ($parameter, $range) = ($1, $2);
        write_file("$folder/objs/wrong.conf", part(
            "upstream x { checkups_cluster; server 127.0.0.1:1; checkups_check http $parameter=-1; }"));
        my $output = run_nginx('-t', '-c', 'objs/wrong.conf')->{output};
        like($output, qr/\[emerg\] .*\bfrom $range\b/, "reference.md: the range of $parameter is $range");
    }
}

# The texts of all that is written to the log at run time, as the sources have them.
sub log_lines {
    my @found;
    for my $file (glob "$root/src/upstream/*.rs $root/src/nginx/guard.rs $root/src/nginx/task.rs") {
        my $source = read_file($file);
        while ($source =~ /format_args!\(\s*"((?:[^"\\]|\\.)*)"/gs) {
            my $line = $1;
            $line =~ s/\\\n\s*//g;
            $line =~ s/\\"/"/g;
            push @found, $line if $line =~ s/\{[^}]*\}//gr =~ /[a-z]/ && $line !~ /\{error\}\z/;
        }
        # Errors that are logged as they are, or behind the name of the zone.
        if ($file =~ /configuration\.rs\z/) {
            while ($source =~ /#\[error\(\s*"((?:[^"\\]|\\.)*)"/gs) {
                my $line = $1;
                $line =~ s/\\\n\s*//g;
                $line =~ s/\\"/"/g;
                push @found, "zone \"{name}\" of {size} bytes: $line";
            }
        }
    }
    return map { s/^\{error\}/no connection to spare/r } @found;
}

sub its_examples_are_accepted {
    my @examples = grep { $_->{language} eq 'nginx' } fenced($pages->{'docs/reference.md'});
    cmp_ok(scalar @examples, '>', 0, 'reference.md has examples');
    my $upstream = 'upstream x { checkups_cluster; server 127.0.0.1:1; %s }';
    my %wrapped = (
        checkups_check   => $upstream,
        checkups_zone    => '%s',
        checkups_match   => '%s',
        checkups_state   => '%s',
        checkups_check_define => '%s',
        map              => 'resolver 127.0.0.1; %s',
        location         => "server { listen 127.0.0.1:" . (free_ports(1))[1] . '; %s }',
        upstream         => '%s',
    );
    for my $example (@examples) {
        my ($word) = $example->{text} =~ /(\w+)/;
        my $name = "reference.md:$example->{line}: the example of $word";
        my $wrap = $wrapped{$word};
        ok($wrap, "$name stands in a place that this test knows") or next;
        my $http = sprintf $wrap, $example->{text};
        write_file("$folder/objs/example.conf", part($http));
        my $test = run_nginx('-t', '-c', 'objs/example.conf');
        is($test->{status}, 0, "$name is accepted") or diag($test->{output});
    }
}

# A configuration of this part of `http {}`.
sub part {
    my $http = shift;
    return unprivileged(<<"END");
load_module objs/ngx_http_checkups_module.so;
pid         objs/part.pid;
error_log   objs/part.log notice;
events {}
http {
    access_log off;
    $http
}
END
}

#-- All pages --------------------------------------------------------------------

sub the_pages_name_what_there_is {
    my $makefile = read_file("$root/Makefile");
    my %target = map { $_ => 1 } $makefile =~ /^([a-z][a-z-]*):/mg;
    my $settings = join '', $makefile, map { read_file($_) } glob "$root/build/*.sh $root/demo/*.py";

    for my $page (sort keys %$pages) {
        my $text = $pages->{$page};
        my @code = map { $_->{text} } grep { $_->{language} =~ /^(?:sh|console)\z/ } fenced($text);
        push @code, without_fences($text) =~ /`([^`\n]+)`/g;
        for my $command (map { split /\n|&&|\|\||[;|]/ } @code) {
            $command =~ s/\s#.*//;
            my ($before, $arguments) = $command =~ /^(?:\$ )?\s*((?:[A-Z_]+=\S*\s+)*)make\b(.*)/ or next;
            for my $word (split ' ', "$before $arguments") {
                if ($word =~ /^([A-Z_]+)=/) {
                    like($settings, qr/\b$1\b/, "$page: $1 of '$command' is known");
                }
                elsif ($word =~ /^[a-z][a-z-]*\z/) {
                    ok($target{$word}, "$page: make $word exists");
                }
            }
        }
        links_of($page, $text);
    }

    my ($rust) = read_file("$root/Cargo.toml") =~ /^rust-version *= *"([\d.]+)"/m;
    like($pages->{'README.md'}, qr/\bRust \Q$rust\E or later/, "README.md names the oldest Rust, $rust");
    my ($vendored) = read_file("$root/Cargo.lock") =~ /^name = "nginx-src"\nversion = "[^"+]*\+([\d.]+)"/m;
    like($pages->{'README.md'}, qr/\Q$vendored\E/, "README.md names the nginx that is built, $vendored");
    my ($version) = read_file("$root/Cargo.toml") =~ /^version *= *"([\d.]+)"/m;
    like($pages->{'docs/reference.md'}, qr{^User-Agent: checkups/\Q$version\E$}m, "reference.md names the version, $version");
}

# Each link to a file or a heading of ours has a target.
sub links_of {
    my ($page, $text) = @_;
    for my $link (without_fences($text) =~ /\]\(([^)\s]+)\)/g) {
        next if $link =~ m{^https?://};
        my ($file, $anchor) = split /#/, $link, 2;
        my $path = $file eq '' ? $page : dirname($page) . "/$file";
        if (!-e "$root/$path") {
            fail("$page: the link to $link has a target");
            next;
        }
        next unless defined $anchor;
        my %anchors = map { anchor($_) => 1 } without_fences(read_file("$root/$path")) =~ /^#+ (.+)$/mg;
        ok($anchors{$anchor}, "$page: the link to $link has a heading");
    }
}

# As GitHub makes it.
sub anchor {
    my $heading = lc shift;
    $heading =~ s/[^\w\- ]//g;
    return $heading =~ tr/ /-/r;
}

#-- Markdown -----------------------------------------------------------------------

# The fenced blocks of a page: the language, the text, and the number of the first line.
sub fenced {
    my $page = shift;
    my (@blocks, $open);
    my $number = 0;
    for my $line (split /^/, $page) {
        $number++;
        if ($open && $line =~ /^```\s*$/) { undef $open }
        elsif ($open) { $open->{text} .= $line }
        elsif ($line =~ /^```(\w*)\s*$/) {
            $open = {language => $1, text => '', line => $number + 1};
            push @blocks, $open;
        }
    }
    die "a fenced block is not closed\n" if $open;
    return @blocks;
}

sub without_fences { return shift =~ s/^```.*?^```$//gmsr }

# The commands of a console block, each with what it prints.
sub steps {
    my $block = shift;
    my @steps;
    my $number = $block->{line};
    for my $line (split /^/, $block->{text}) {
        if ($line =~ /^\$ (.*)/) { push @steps, {command => $1, output => '', line => $number} }
        elsif (@steps) { $steps[-1]{output} .= $line }
        else { die "line $number: a console block begins with a command\n" }
        $number++;
    }
    return @steps;
}

# A section without its subsections.
sub section {
    my ($page, $heading) = @_;
    my ($text) = without_fences($page) =~ /^#+ \Q$heading\E\n(.*?)(?=^#|\z)/ms;
    return $text // '';
}

#-- Processes ------------------------------------------------------------------------

# One shell for all commands, so that `$!` and the like work.
sub start_shell {
    pipe my $their_input, my $input or die "pipe: $!";
    pipe my $output, my $their_output or die "pipe: $!";
    my $pid = fork // die "fork: $!";
    if (!$pid) {
        setpgrp;    # to be ended with all that it started
        chdir $folder or die "$folder: $!";
        open STDIN, '<&', $their_input or die "stdin: $!";
        open STDOUT, '>&', $their_output or die "stdout: $!";
        open STDERR, '>&', $their_output or die "stderr: $!";
        close $_ for $their_input, $input, $output, $their_output;
        exec '/bin/sh' or die "sh: $!";
    }
    $input->autoflush(1);
    return {pid => $pid, input => $input, output => $output};
}

# What a command prints.
sub run_in_shell {
    my $command = shift;
    my $mark = 'end-of-command-' . int rand 1e9;
    print { $shell->{input} } "$command\nprintf '\\n%s\\n' $mark\n";
    my $text = '';
    my $select = IO::Select->new($shell->{output});
    my $deadline = time + $COMMAND_SECONDS;
    until ($text =~ s/\n\Q$mark\E\n\z//) {
        my $left = $deadline - time;
        return "$text\n(no end after $COMMAND_SECONDS s)" if $left <= 0 || !$select->can_read($left);
        sysread $shell->{output}, $text, 65536, length $text or return "$text\n(the shell ended)";
    }
    return $text;
}

sub run_nginx {
    my $output = do {
        open my $pipe, '-|', "cd '$folder' && exec objs/nginx -p '$folder' @_ 2>&1" or die "nginx: $!";
        local $/;
        my $text = <$pipe> // '';
        close $pipe;
        $text;
    };
    return {status => $?, output => $output};
}

sub clean_up {
    for my $file (grep { -s } glob "$folder/objs/*.pid") {
        my ($pid) = read_file($file) =~ /^(\d+)/ or next;
        kill 'TERM', $pid;
        wait_for(5, sub { !is_running($pid) }) or kill 'KILL', $pid;
    }
    return unless $shell;
    kill 'TERM', -$shell->{pid};
    waitpid $shell->{pid}, 0;
    undef $shell;
}

# A zombie counts as gone: who should collect it may be slow.
sub is_running {
    my $pid = shift;
    open my $stat, '<', "/proc/$pid/stat" or return 0;
    return (<$stat> // '') =~ /\) [^ZX] /;
}

sub wait_for {
    my ($seconds, $condition) = @_;
    my $deadline = time + $seconds;
    until ($condition->()) {
        return 0 if time > $deadline;
        sleep 0.02;
    }
    return 1;
}

#-- Small helpers ------------------------------------------------------------------------

# For each of these ports one on which nobody listens, below those that the kernel gives to
# outgoing connections, and in the same order: what the README sorts stays sorted.
sub free_ports {
    my %wanted = map { $_ => 1 } @_;
    my %free;
    for (1 .. 1000 * keys %wanted) {
        last if keys %free == keys %wanted;
        my $port = 10000 + int rand 22000;
        IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 1, ReuseAddr => 1) or next;
        $free{$port} = 1;
    }
    die "no free port\n" if keys %free < keys %wanted;
    my %port;
    @port{sort { $a <=> $b } keys %wanted} = sort { $a <=> $b } keys %free;
    return %port;
}

sub translated {
    my ($text, %port) = @_;
    my $ports = join '|', keys %port;
    return $text =~ s/(?<![\d#])($ports)(?![\d#])/$port{$1}/gr;
}

# Where nginx does not run as root, Debian's cannot write to its own folders.
sub unprivileged {
    my $text = shift;
    return $text if $> == 0;
    my $paths = join '', map { "    ${_}_temp_path objs/$_;\n" } qw(client_body proxy fastcgi uwsgi scgi);
    return $text =~ s/^http \{\n\K/$paths/mr;
}

sub read_file {
    my $path = shift;
    open my $file, '<', $path or die "$path: $!\n";
    local $/;
    return scalar <$file>;
}

sub write_file {
    my ($path, $text) = @_;
    open my $file, '>', $path or die "$path: $!\n";
    print $file $text;
    close $file or die "$path: $!\n";
}
