# Tests of the fallback itself, against any nginx and without our module: good
# expectations pass, and each kind of bad one makes the test file fail. Every
# case is a small test file that a child perl runs on a server root of its own.

use strict;
use warnings;

use FindBin ();
use File::Spec ();
use File::Temp ();
use Test::More;
use Time::HiRes qw(sleep time);

my $nginx = $ENV{TEST_NGINX_BINARY} || 'nginx';
plan skip_all => "$nginx does not run" if system "$nginx -v >/dev/null 2>&1";

# An outer run's settings (modules, HUP mode, valgrind) are not for us.
delete $ENV{$_} for grep { /^TEST_NGINX_/ && !/_BINARY$|_LD_PRELOAD$/ } keys %ENV;

my $library = File::Spec->rel2abs("$FindBin::Bin/..");
my $dir = File::Temp->newdir;
my $root = "$dir/servroot";
$ENV{TEST_NGINX_SERVROOT} = $root;
$ENV{TEST_NGINX_BINARY} = $nginx;

# Runs a test file that consists of the header and the blocks; returns its exit
# code and all it printed.
sub run_file {
    my ($blocks, %option) = @_;
    my $file = "$dir/case.t";
    open my $out, '>', $file or die "$file: $!";
    print $out "use Test::Nginx::Socket ", $option{plan} // "'no_plan'", ";\n",
        $option{head} // '', "\n", $option{run} // 'run_tests();', "\n__DATA__\n\n$blocks\n";
    close $out;
    local @ENV{keys %{ $option{env} }} = values %{ $option{env} } if $option{env};
    my $output = `$^X -I'$library' '$file' 2>&1`;
    return ($? >> 8 || $?, $output);
}

# Processes that have a file below our directory open, or are started in it.
sub leftovers {
    my @found;
    for my $process (grep { !m{/(?:self|thread-self|$$)$} } glob '/proc/[0-9]*') {
        my @links = map { readlink($_) // '' } glob "$process/fd/*";
        push @found, $process =~ /(\d+)/ if grep { index($_, "$dir/") == 0 } @links;
    }
    return @found;
}

sub passes {
    my ($name, $blocks, %option) = @_;
    my ($exit, $output) = run_file($blocks, %option);
    my $good = is($exit, 0, "$name: exit code 0");
    $good &&= like($output, $_, "$name: output matches $_") for @{ $option{like} // [] };
    $good &&= unlike($output, qr/^not ok|WARNING|uninitialized| line \d+\.$/m, "$name: no complaints");
    diag($output) unless $good;
    return $output;
}

# $failed is a pattern for the names of the tests that must fail, all of them.
sub fails {
    my ($name, $failed, $blocks, %option) = @_;
    my ($exit, $output) = run_file($blocks, %option);
    my @failed = $output =~ /^not ok \d+ - (.*)/mg;
    my $good = isnt($exit, 0, "$name: exit code is not 0");
    $good &&= ok(@failed && !grep({ !/$failed/ } @failed), "$name: only that test fails");
    diag($output) unless $good;
    return $output;
}

#-- Building requests, without nginx ----------------------------------------

{
    local @INC = ($library, @INC);
    require Test::Nginx::Socket;
    no warnings 'once';
    my $build = sub { [Test::Nginx::Socket::build_request('test', @_)] };
    my $default = "Host: localhost\r\nConnection: close\r\n";

    is_deeply($build->(['GET'], undef, 'close'), ["GET / HTTP/1.1\r\n$default\r\n"],
        'a method alone');
    is_deeply($build->(["  PUT  /a HTTP/1.0\nbody \n"], "# no\nx:1\nhost: b", 'close'),
        ["PUT /a HTTP/1.0\r\nConnection: close\r\nx: 1\r\nhost: b\r\nContent-Length: 4\r\n\r\nbody"],
        'given headers, and a body without the white space around it');
    is_deeply($build->(["POST /a\n3\r\nabc\r\n0\r\n\r\n"], 'Transfer-Encoding: chunked', 'close'),
        ["POST /a HTTP/1.1\r\n${default}Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"],
        'a chunked body is sent as it is');
    is_deeply($build->(['PO', "ST /users\nna", 'me=', 'foo'], undef, 'close'),
        ['PO', "ST /users HTTP/1.1\r\n${default}Content-Length: 8\r\n\r\nna", 'me=', 'foo'],
        'packets are cut where the test cuts them');
    is_deeply([Test::Nginx::Socket::decode_chunked("3\r\nabc\r\nA \r\n0123456789\r\n0\r\n\r\nrest", 0)],
        ['abc0123456789', 'rest'], 'chunks');
    for my $broken ("3\r\nab", "3\r\nabcd\r\n", "3\r\nabc\r\n", "0\r\n", 'x', '') {
        (my $shown = $broken) =~ s/\r\n/|/g;
        ok(!defined((Test::Nginx::Socket::decode_chunked($broken, 0))[0]), "broken chunks '$shown'");
    }
    my %seconds = ('100ms' => 0.1, '2s' => 2, '1.5' => 1.5);
    is(Test::Nginx::Util::parse_time($_), $seconds{$_}, "time $_") for sort keys %seconds;
}

#-- Good expectations -------------------------------------------------------

my $good = <<'END';
=== TEST 1: body, headers and logs
--- config
    location = /t {
        add_header X-Foo bar;
        add_header X-Two 1;
        add_header X-Two 2;
        return 200 "hello $arg_a\n";
    }
--- request
GET /t?a=3
--- response_body
hello 3
--- response_headers
X-Foo: bar
X-Two: 1, 2
! X-None
--- access_log
GET /t?a=3
--- no_access_log
GET /other
--- no_error_log
[error]

=== TEST 2: missing file
--- config
--- request
# a comment
GET /none
--- error_code: 404
--- error_code_like: ^4
--- error_log eval
["No such file", qr/open\(\) ".*none" failed/]
--- grep_error_log eval: qr/No such \w+/
--- grep_error_log_out eval
["No such file\n", qr/^No such file\n$/]

=== TEST 3: an array of requests, headers and expectations
--- config
    location = /a { return 200 "a $http_x_a\n"; }
    location = /b { return 201 "b $http_x_a\n"; }
--- request eval
["GET /a", "GET /b HTTP/1.0"]
--- more_headers eval
["X-A: 1", "X-A: 2"]
--- error_code eval
[200, 201]
--- response_body eval
["a 1\n", qr/^b 2$/]

=== TEST 4: pipelined
--- config
    location = /a { return 200 "a $TEST_NGINX_SERVER_PORT\n"; }
    location = /b { return 200 "b $http_connection\n"; }
--- pipelined_requests eval
["GET /a", "GET /b"]
--- response_body eval
["a \$ServerPort\n", "b close\n"]

=== TEST 5: packets through an upstream on a free port
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        location / { return 200 "$request_method $content_length $server_port\n"; }
    }
--- config
    location = /p { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- request eval
[["POST /p\nna", { value => "me=f", delay_before => 0.02 }, "oo"]]
--- response_body
POST 8 $TEST_NGINX_RAND_PORT_1

=== TEST 6: HEAD and user files
--- config
--- user_files
>>> a.txt 198001171935.33
content
>>> dir/b.txt
--- request
HEAD /a.txt
--- response_headers
Content-Length: 8
Last-Modified: Thu, 17 Jan 1980 19:35:33 GMT
--- response_body:

=== TEST 7: no configuration of its own
--- request
GET /dir/b.txt
--- response_body:

=== TEST 8: the connection is closed without a response
--- config
    location = /x { return 444; }
--- request
GET /x
--- error_code:

=== TEST 9: abort
--- config
    location = /slow { proxy_pass http://127.0.0.1:$TEST_NGINX_RAND_PORT_1; }
--- http_config
    server {
        listen 127.0.0.1:$TEST_NGINX_RAND_PORT_1;
        location / { root html; limit_rate 10; }
    }
--- request
GET /slow
--- timeout: 100ms
--- abort
--- ignore_response

=== TEST 10: raw request in pieces
--- config
--- raw_request eval
["GET / HT", "TP/1.0\r\n", "\r\n"]
--- raw_request_middle_delay: 0.01
--- response_body_like: It works
--- response_body_unlike: nginx
--- response_headers_like
Content-Length: \d+

=== TEST 11: must die
--- config
    nonsense;
--- must_die: 1
--- error_log
unknown directive "nonsense"

=== TEST 12: skipped
--- config
    nonsense;
--- skip_nginx: 3: > 0.1.0
--- request
GET /

=== TEST 13: skipped by code
--- config
    nonsense;
--- skip_eval: 1: $Test::Nginx::Util::NginxVersion > 0
--- request
GET /

=== TEST 14: not skipped, and init runs once
--- config
--- skip_nginx: 2: < 0.1.0
--- init
open my $out, '>>', html_dir() . '/init.txt' or die $!;
print $out $name =~ /TEST 14/ ? "init\n" : "no name\n";
close $out;
--- request
GET /init.txt
--- response_body
init

=== TEST 15: the log of the shutdown
--- config
--- request
GET /
--- shutdown_error_log
exit
--- no_shutdown_error_log
nonsense

=== TEST 16: not run
--- SKIP
--- config
    nonsense;
--- request
GET /
END

my $head = 'repeat_each(2); no_shuffle();';
my $output = passes('good blocks', $good, head => $head, like => [qr/^1\.\.84$/m]);
passes('the same, shuffled but TEST 7', $good =~ s/=== TEST 7.*?(?==== TEST 8)//sr,
    head => 'no_long_string(); master_on(); workers(2);');
passes('the same in HUP mode', $good, head => 'no_shuffle(); use_hup();', like => [qr/^1\.\.43$/m]);

passes('settings', <<'END', plan => 'tests => 7', head => <<'HEAD', run => <<'RUN', env => { VAR => 'x' });
=== TEST 1:
--- config
    location = / { return 200 "ok $default\n"; }
--- request
GET /
--- response_body
ok by the preprocessor
--- ONLY

=== TEST 2:
--- config
    nonsense;
--- request
GET /
END
our $done;
no_root_location(); no_diag_on_only(); log_level('info'); workers(2); worker_connections(32);
timeout(2); master_on(); server_name('example.com'); env_to_nginx('VAR', 'B=1 2');
add_block_preprocessor(sub {
    $_[0]->set_value('http_config', 'map $host $default { default "by the preprocessor"; }');
});
add_cleanup_handler(sub { pass('cleanup handler') if !$done++ });
is(blocks() * repeat_each(), 1, 'blocks and repetitions');
HEAD
run_tests();
open my $in, '<', server_root() . '/conf/nginx.conf' or die $!;
my $conf = do { local $/; <$in> };
like($conf, qr/^\s*\Q$_\E/m, $_) for 'worker_processes  2;', "env 'B=1 2';", "server_name     'example.com';";
RUN

passes('a reload that fails', <<'END', head => 'no_shuffle(); use_hup();');
=== TEST 1: before
--- config
    location = /a { return 200 old; }
--- request
GET /a
--- response_body: old

=== TEST 2: refused
--- config
    nonsense;
--- reload_fails
--- request
GET /a
--- response_body: old
--- error_log
unknown directive "nonsense"

=== TEST 3: after
--- config
    location = /a { return 200 new; }
--- request
GET /a
--- response_body: new
--- no_error_log
[emerg]
END

#-- Bad expectations --------------------------------------------------------

my $block = "=== TEST 1: bad\n--- config\n--- request\nGET /\n";
my $log = 'open my $log, ">>", $Test::Nginx::Util::ErrLogFile or die $!; print $log';

like(fails('wrong body', qr/response_body/, "$block--- response_body: nonsense"),
    qr/got: .*It works.*expected: .*nonsense.*end of .*error\.log/s, 'what came and the log are shown');
fails('wrong pattern for the body', qr/response_body_like/, "$block--- response_body_like: nonsense");
fails('wrong header', qr/header Content-Length/, "$block--- response_headers\nContent-Length: 1");
fails('missing header', qr/header X-None/, "$block--- response_headers\nX-None: 1");
fails('unwanted header', qr/header Server/, "$block--- response_headers\n! Server");
fails('wrong code', qr/status code/, "$block--- error_code: 404");
fails('missing line in error.log', qr/pattern "nonsense" matches/, "$block--- error_log\nnonsense");
fails('unwanted line in error.log', qr/pattern "unwanted" does not/,
    "$block--- init: $log \"unwanted\\n\";\n--- no_error_log\nunwanted\nnonsense");
fails('wrong grep_error_log_out', qr/grep_error_log_out/,
    "$block--- grep_error_log: nonsense\n--- grep_error_log_out\nnonsense");
fails('missing line in access.log', qr/nonsense/, "$block--- access_log\nGET /nonsense");
fails('missing line at shutdown', qr/nonsense/, "$block--- shutdown_error_log\nnonsense");
fails('must_die with a right configuration', qr/die as expected/,
    "=== TEST 1: bad\n--- config\n--- must_die");
fails('must_die with another exit code', qr/exit code/,
    "=== TEST 1: bad\n--- config\n    nonsense;\n--- must_die: 2");
fails('no end of the response', qr/timed out/,
    "=== TEST 1: bad\n--- config\n--- timeout: 0.1\n"
    . "--- raw_request eval: \"GET / HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n\"");
fails('a reload that is refused', qr/failed to reload|TEST 2/,
    "=== TEST 1: good\n--- config\n--- request\nGET /\n\n"
    . "=== TEST 2: bad\n--- config\n    nonsense;\n--- request\nGET /\n--- error_code: 404",
    head => 'no_shuffle(); use_hup();');
fails('a reload that should have failed', qr/should have failed/, "$block\n$block--- reload_fails",
    head => 'no_shuffle(); use_hup();');

my $bad_line = qr/no crash, panic or alert/;
for my $line ('[alert] 1#1: x', "thread 'main' panicked at x", 'Assertion `x\' failed.') {
    my $written = "$block--- init: $log q{$line}, qq{\\n};\n";
    fails("'$line' in error.log", $bad_line, $written);
    passes("'$line' that is expected", "$written--- error_log\n$line");
}
fails('an [alert] while nginx stops', $bad_line, $block,
    head => "add_cleanup_handler(sub { $log qq{[alert] at the end\\n} });");

my $killed = "=== TEST 1: killed worker\n--- config\n--- init\nmy (\$worker) = "
    . "nginx_pids(parent => running_pid());\nkill KILL => \$worker;\n"
    . "wait_until(2, sub { read_file(\$ErrLogFile) =~ /exited on signal/ });\n--- request\nGET /\n";
fails('a killed worker', $bad_line, $killed, head => 'master_on();');
passes('a killed worker that is expected', "$killed--- error_log\nexited on signal 9",
    head => 'master_on();');

my ($exit, $said) = run_file("=== TEST 1: bad\n--- config\n    nonsense;\n--- request\nGET /");
is($exit, 255, 'a configuration that nginx refuses ends the run');
like($said, qr/unknown directive "nonsense".*Bail out!/s, 'and the reason is shown');
($exit) = run_file("$block--- tcp_listen: 1234");
is($exit, 255, 'an unsupported section ends the run');
($exit) = run_file("$block--- request eval\n['GET /', 'GET /']\n--- error_code: 200");
is($exit, 255, 'several requests with an expectation that is no array end the run');

#-- Stopping ----------------------------------------------------------------

is_deeply([leftovers()], [], 'no process is left behind');

# A test file that was killed leaves nginx running; the next one stops it. And
# orphans of a killed master must not keep the port.
run_file($block, head => 'master_on();', env => { TEST_NGINX_NO_CLEAN => 1 });
isnt(scalar leftovers(), 0, 'TEST_NGINX_NO_CLEAN leaves nginx running');
passes('a stale nginx is stopped', $block);
is_deeply([leftovers()], [], 'and nothing is left behind');

my ($code, $killed_master) = run_file($block, head => 'master_on(); workers(2);',
    run => 'run_tests(); kill KILL => Test::Nginx::Util::running_pid();');
is($code, 0, 'a file that kills the master');
like($killed_master, qr/killing orphans/, 'its workers are found');
is_deeply([leftovers()], [], 'and stopped');

my $start = time;
passes('ten blocks', $block x 10, like => [qr/^1\.\.10$/m]);
cmp_ok((time - $start) / 10, '<', 0.4, 'a block takes well under half a second');

done_testing();
