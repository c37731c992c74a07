# Every file of nginx-conf/ passes `nginx -t` as it is, and does what it says.
#
# Nothing here needs Test::Nginx. TEST_NGINX_BINARY and TEST_NGINX_LOAD_MODULES
# say what is under test, as in the other files.

use strict;
use warnings;

use File::Basename qw(basename);
use File::Temp ();
use FindBin ();
use IO::Select ();
use IO::Socket::INET ();
use Test::More;
use Time::HiRes qw(sleep time);

my $root = "$FindBin::Bin/..";
my $nginx = $ENV{TEST_NGINX_BINARY} || "$root/objs/nginx";
my ($module, @other_modules) = split ' ', $ENV{TEST_NGINX_LOAD_MODULES} || "$root/objs/ngx_http_checkups_module.so";
my ($version) = `$nginx -v 2>&1` =~ m{nginx\S*/(\d+\.\d+\.\d+)} or BAIL_OUT("$nginx does not run");
my $preload = $ENV{TEST_NGINX_LD_PRELOAD} ? "LD_PRELOAD='$ENV{TEST_NGINX_LD_PRELOAD}' " : '';

# What each file is about.
#   ready     what the status shows when all checks have been made
#   requests  pairs of a path, or of an array of it and headers, and the body that it must get, or the
#             head where the status is not 200
#   backend   a protocol that nginx has no server for: its ports, and a sub that takes what came over
#             a connection, and returns the answer and whether to close; nothing if it is incomplete
#   check     code after the requests; it gets the ports that stand in for those of the file
my %files = (
    'http.conf' => {
        ready    => '"ok".*"ok"',
        requests => ['/' => "server 1\n", '/' => "server 2\n", '/_checkups/' => '[4,5,6,7,8,9]'],
    },
    'tcp.conf' => {
        ready    => '"ok".*"ok"',
        requests => ['/' => "server 1\n", '/' => "server 2\n"],
    },
    'checks.conf' => {
        ready    => '"cls:app":.*"ok".*"ok".*"err".*body does not match.*"cls:plain":.*"ok".*"ok"',
        requests => [
            (map { ('/' => qr/^server [12]$/, '/plain' => qr/^server [12]$/) } 1 .. 4),
        ],
    },
    'backup.conf' => {
        ready    => '"err".*"err".*\],\[.*"ok"',
        requests => [('/' => "backup\n") x 3],
    },
    'weights-and-limits.conf' => {
        requests => [map { ('/' => "server $_\n") } 1, 1, 2, 1, 3, 1, 1],
    },
    'retries.conf' => {
        requests => [map { ('/' => "server $_\n") } 2, 3, 2, 3],
    },
    'tls.conf' => {
        ready    => '"ok".*"ok"',
        requests => [('/' => qr/^TLSv1\.[23]$/) x 3],
    },
    'unix-sockets.conf' => {
        ready    => '"ok".*"ok"',
        requests => ['/' => "server 1\n", '/' => "server 2\n"],
    },
    'fastcgi.conf' => {
        ready    => '"ok".*"ok"',
        backend  => [[9000, 9001], \&answer_fastcgi],
        requests => ['/index.php?a=b' => "GET a=b /srv/www/index.php\n"],
    },
    'uwsgi.conf' => {
        ready    => '"ok".*"ok"',
        backend  => [[9000, 9001], \&answer_uwsgi],
        requests => ['/x?a=b' => "GET a=b /x\n"],
    },
    'memcached.conf' => {
        ready    => '"ok".*"ok"',
        backend  => [[11211, 11212], \&answer_memcached],
        requests => [('/key' => 'the value') x 3],
    },
    'grpc.conf' => { check => \&check_grpc },
    'levels.conf' => {
        ready    => '"dc1":\[.*"ok".*"ok".*"ok".*"dc2":\[.*"ok".*"dc3":\[.*"ok"',
        requests => [
            '/' => "dc1\n",
            ['/', 'Cookie: dc=dc2,dc1'] => "dc2\n",
            ['/', 'Cookie: dc=3']       => "dc3\n",
            ['/', 'Cookie: dc=mars,dc2'] => "dc2\n",
            ['/', 'Cookie: dc=mars']    => qr{\AHTTP/1.1 502 },
            ['/', 'Cookie: dc=']        => "dc1\n",
            '/_checkups/clusters/app/select?order=dc3' => qr/\A\{"cluster":"app","level":"dc3","server":"[\d.:]+"\}\z/,
            '/report' => "dc2\n",
        ],
    },
    'level-from.conf' => {
        ready    => '"main":\[.*"ok".*"ok".*"cloud":\[.*"ok".*"spare":\[.*"ok"',
        requests => [
            (map { ('/' => "main, server $_\n", '/old/' => "main, server $_\n") } 1, 2, 1),
            '/?level=spare'       => "spare\n",
            '/?level=cloud,spare' => "cloud\n",
        ],
    },
    'hash.conf' => { ready => '"ok".*"ok".*"ok"', check => \&check_hash },
    'connections.conf' => {
        ready    => '"ok".*"ok"',
        requests => ['/' => "server 1\n", '/' => "server 2\n", ('/many/' => qr/\Aserver [123]\n\z/) x 5],
        check    => \&check_connections,
    },
    'protected.conf' => {
        ready    => '(?=.*"cls:app":\[\[[^]]*"unstable"[^]]*"err"[^]]*"err")(?=.*"cls:shop":\[\[[^]]*"err"[^]]*"err")',
        requests => [('/' => "server 1\n") x 3, '/shop/' => qr{\AHTTP/1.1 503 }],
    },
    'stock.conf' => {
        ready    => '"cls:app":\[\[[^]]*"ok"[^]]*"err"[^]]*\],\[[^]]*"ok"',
        requests => [('/' => "server 1\n") x 3, '/other/' => "server 2\n"],
    },
    'slow-start-and-drain.conf' => {
        ready    => '"ok".*"ok".*"ok"',
        requests => ['/' => "server 1\n", '/' => "server 2\n", '/' => "server 1\n", '/' => "server 2\n"],
        check    => \&check_slow_start,
    },
    'failures.conf' => {
        requests => [
            '/' => qr{\AHTTP/1.1 500 },
            '/' => "server 2\n",
            '/' => qr{\AHTTP/1.1 500 },
            ('/' => "server 2\n") x 3,
        ],
        check => \&check_feedback,
    },
    'timeouts.conf' => {
        requests => [('/' => "server 2\n") x 2, '/reports/' => "server 1\n", '/reports/' => "server 2\n"],
    },
    'runtime.conf' => { requests => [('/' => "server 1\n") x 2], check => \&check_runtime },
    'tools.conf' => {
        requests => [
            ('/' => qr/^server [12]$/) x 4,
            '/api' => '[4,5,6,7,8,9]',
            '/api/9/http/upstreams?fields=' => '["app"]',
            '/api/8/http/upstreams/app' => qr/^\{"peers":\[\{"id":0,.*"state":"up",.*"requests":2,.*\{"id":1,.*"requests":2,.*"zone":"checkups"\}$/,
            '/api/9/http/upstreams/app/servers/' => qr/^\[\{"id":0,.*"backup":false,"down":false\}\]$/,
        ],
    },
    'variables.conf' => { ready => '"ok".*"ok"', check => \&check_variables },
);

is_deeply([sort map { basename $_ } glob "$root/nginx-conf/*"], [sort keys %files],
    'all files of nginx-conf/ are tested, and nothing else');

my ($dir, $backend);        # of the file that is being tested

for my $file (sort keys %files) {
    subtest $file => sub { test_file($file, $files{$file}) };
}
done_testing();

END { stop() }

sub test_file {
    my ($file, $about) = @_;
    my $text = read_file("$root/nginx-conf/$file") or return fail("$file is there");

    # As in a fresh clone after `make module`.
    $dir = File::Temp->newdir('checkups-conf.XXXXXX', TMPDIR => 1);
    chmod 0755, $dir;       # for workers that run as nobody
    mkdir "$dir/$_" or die "$dir/$_: $!" for qw(objs nginx-conf);
    symlink $module, "$dir/objs/ngx_http_checkups_module.so" or die "symlink: $!";
    write_file($file, $text);
    my $said = `$preload$nginx -p $dir -t -c nginx-conf/$file 2>&1`;
    is($?, 0, 'nginx -t is content');
    is(join('', grep { !/\Q[alert] could not open error log file\E/ } $said =~ /^.*\n/mg),
        "nginx: the configuration file $dir/nginx-conf/$file syntax is ok\n"
        . "nginx: configuration file $dir/nginx-conf/$file test is successful\n", 'and has nothing to say');

    my %port;
    $text =~ s/(?:\b127\.0\.0\.1:|check_port=)\K(\d+)/$port{$1} ||= free_port()/ge;
    $text =~ s{/tmp/checkups-}{$dir/}g;
    write_file($file, $text);
    start_backend([@port{ @{ $about->{backend}[0] } }], $about->{backend}[1]) if $about->{backend};
    if (!is(system("$preload$nginx -p $dir -c nginx-conf/$file 2>$dir/objs/stderr.txt"), 0, 'nginx starts')) {
        diag(read_file("$dir/objs/stderr.txt"));
        stop();
        return;
    }

    if (my $ready = $about->{ready}) {
        my $status;
        ok(wait_until(sub { ($status = get($port{8080}, '/_checkups/status')) =~ /$ready/ }), 'the checks are made')
            or diag($status);
    }
    my @requests = @{ $about->{requests} // [] };
    while (my ($path, $wanted) = splice @requests, 0, 2) {
        ($path, my @headers) = ref $path ? @$path : $path;
        my ($body, $name) = (get($port{8080}, $path, @headers), join ', ', "GET $path", @headers);
        ref $wanted ? like($body, $wanted, $name) : is($body, $wanted, $name);
    }
    $about->{check}->(\%port) if $about->{check};

    ok(stop(), 'nginx quits');
    my $log = read_file("$dir/objs/error.log");
    like($log, qr/\[notice\]/, 'there is a log');
    unlike($log, qr/\[(?:alert|crit|emerg)\]|panicked|exited on signal/, 'without alerts');
    is_deeply([map { basename $_ } glob "$dir/*"], ['nginx-conf', 'objs'], 'nothing is written outside of objs/');
}

#-- nginx -------------------------------------------------------------------

# Quits nginx and the stand-ins. True if nginx ended by itself.
sub stop {
    my $quits = 1;
    if ($dir && -s "$dir/objs/nginx.pid") {
        my ($pid) = read_file("$dir/objs/nginx.pid") =~ /(\d+)/;
        kill QUIT => $pid;
        $quits = wait_until(sub { !-e "$dir/objs/nginx.pid" });
        kill TERM => $pid unless $quits;
    }
    if ($backend) {
        kill TERM => $backend;
        local $?;
        waitpid $backend, 0;
        undef $backend;
    }
    return $quits;
}

sub write_file {
    my ($file, $text) = @_;
    my $modules = join '', map { "load_module $_;\n" } @other_modules;
    # The word was another before nginx 1.25.1.
    if (version_number($version) < version_number('1.25.1') && $text =~ s/^ *http2 on;.*\n//mg) {
        $text =~ s/(listen [^;]*);/$1 http2;/g;
    }
    open my $out, '>', "$dir/nginx-conf/$file" or die "$file: $!";
    print $out $modules, $text;
    close $out or die "$file: $!";
}

sub read_file {
    open my $in, '<', shift or return '';
    local $/;
    return <$in> // '';
}

sub version_number { return sprintf '%d%03d%03d', split /\./, shift }

# Not of the range from which the kernel takes the ports of clients.
sub free_port {
    while (1) {
        my $port = 10000 + int rand 22000;
        return $port if IO::Socket::INET->new(
            LocalAddr => '127.0.0.1', LocalPort => $port, Proto => 'tcp', Listen => 1, ReuseAddr => 1);
    }
}

sub wait_until {
    my $condition = shift;
    my $end = time + 5;
    until ($condition->()) {
        return 0 if time > $end;
        sleep 0.01;
    }
    return 1;
}

#-- Clients -----------------------------------------------------------------

# The body, or the head where the status is not 200.
sub get {
    my ($port, $path, @headers) = @_;
    return answer(asked($port, 'GET', $path, '', @headers));
}

sub post_json {
    my ($port, $path, $json) = @_;
    return answer(asked($port, 'POST', $path, $json, 'Content-Type: application/json', 'Content-Length: ' . length $json));
}

# The connection on which the request was sent.
sub asked {
    my ($port, $method, $path, $body, @headers) = @_;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $port, Timeout => 3) or return;
    print $socket join "\r\n", "$method $path HTTP/1.1", 'Host: localhost', 'Connection: close', @headers, '', $body;
    return $socket;
}

sub answer {
    my $socket = shift or return "cannot connect: $!";
    my $response = do { local $/; <$socket> } // '';
    my ($head, $body) = split /\r\n\r\n/, $response, 2;
    return $head =~ m{\AHTTP/1.1 200 } ? dechunked($head, $body) : $head;
}

sub dechunked {
    my ($head, $body) = @_;
    return $body unless $head =~ /^Transfer-Encoding: chunked/mi;
    my $whole = '';
    $whole .= substr $body, 0, hex $1, '' while $body =~ s/\A(?:\r\n)?([0-9a-f]+)\r\n//i && hex $1;
    return $whole;
}

# A path goes to the same server each time, which is the one that `select` names, and all servers have
# their share.
sub check_hash {
    my $port = shift->{8080};
    my (%count, @other);
    for my $path (map { "/$_" } 1 .. 60) {
        my ($server, $again) = map { get($port, $path) =~ s/\n\z//r } 1, 2;
        my $selected = get($port, "/_checkups/clusters/cache/select?key=$path");
        my $wanted = qq({"cluster":"cache","level":1,"server":"$server"});
        push @other, "$path: $server, $again, $selected" if $again ne $server || $selected ne $wanted;
        $count{$server}++;
    }
    is_deeply(\@other, [], 'a path goes to one server');
    is(scalar keys %count, 3, 'each of the three servers gets some of 60 paths') or diag(explain(\%count));
}

# As long as one server is at work on a request, the other one gets all that come.
sub check_connections {
    my $port = shift->{8080};
    my $slow = asked($port, 'GET', '/slow', '');
    is(get($port, '/'), "server 2\n", 'GET / beside a slow request') for 1 .. 3;
    close $slow;
}

sub check_slow_start {
    my $port = shift;
    my $server = "127.0.0.1:$port->{8081}";
    my $feedback = "/_checkups/clusters/app/servers/$server/feedback";
    is(post_json($port->{8080}, $feedback, '{"failed":true}'),
        qq({"server":"$server","available":false}), 'the server is out of use');
    is(get($port->{8080}, '/'), "server 2\n", 'GET / while it is') for 1 .. 3;
    is(post_json($port->{8080}, $feedback, '{"failed":false}'),
        qq({"server":"$server","available":true}), 'the server is back');
    my %count;
    $count{ get($port->{8080}, '/') }++ for 1 .. 22;
    is_deeply([sort keys %count], ["server 1\n", "server 2\n"], 'it gets requests again');
    cmp_ok($count{"server 1\n"}, '<=', 4, '... few of them, for it starts slowly');
}

sub check_feedback {
    my $port = shift;
    my $server = "127.0.0.1:$port->{8081}";
    is(post_json($port->{8080}, "/_checkups/clusters/app/servers/$server/feedback", '{"failed":false}'),
        qq({"server":"$server","available":true}), 'the server is available at once');
    my @answers = sort map { get($port->{8080}, '/') } 1, 2;
    like($answers[0], qr{\AHTTP/1.1 500 }, 'one of two requests goes to it');
    is($answers[1], "server 2\n", '... and the other one does not');
}

# A server more, a cluster more, and one server less; the directory has both clusters.
sub check_runtime {
    my $port = shift;
    my ($first, $second, $shop) = map { "127.0.0.1:$port->{$_}" } 8081, 8082, 8083;
    my $api = '/_checkups/clusters';
    my $json = 'Content-Type: application/json';
    my $send = sub {
        my ($method, $path, $body) = @_;
        answer(asked($port->{8080}, $method, "$api/$path", $body, $json, 'Content-Length: ' . length $body));
    };
    like($send->(POST => 'app/servers', qq({"server": "$second"})), qr{\AHTTP/1.1 201 }, 'a server is added');
    is_deeply([sort map { get($port->{8080}, '/') } 1, 2], ["server 1\n", "server 2\n"], 'it gets requests');
    my $shop_says = sub { answer(asked($port->{8080}, 'GET', 'http://shop.example.com/', '')) };
    like($shop_says->(), qr{\AHTTP/1.1 502 }, 'there is no shop');
    like($send->(PUT => 'shop', qq({"levels": [{"servers": [{"server": "$shop"}]}], "checks": ["up"]})),
        qr{\AHTTP/1.1 201 }, 'a cluster is made');
    is($shop_says->(), "shop\n", 'it gets requests');
    like($send->(PATCH => "app/servers/$first", '{"drain": true}'), qr{"path":"levels/1/servers/\Q$first\E/drain"},
        'a server is drained');
    is(get($port->{8080}, '/'), "server 2\n", 'it gets no more requests') for 1 .. 3;
    is_deeply([map { basename $_ } glob "$dir/objs/clusters/*"], ['app.json', 'shop.json'], 'all of it is kept');
}

sub check_variables {
    my $port = shift;
    is(get($port->{8080}, '/a'), "backup\n", 'GET /a');
    is(get($port->{8080}, '/b'), "backup\n", 'GET /b');
    for my $media (8083, 8084, 8083) {
        like(get($port->{8080}, '/media/film?x=y'),
            qr{\AHTTP/1.1 307 .*^Location: http://127\.0\.0\.1:$port->{$media}/media/film\?x=y\r?$}ms,
            "the client is sent to the server of the port $media");
    }
    my ($first, $second) = map { "127.0.0.1:$port->{$_}" } 8081, 8082;
    my $log = read_file("$dir/objs/access.log");
    for my $line (
        qq("GET /a HTTP/1.1" 200 cluster=app, app level=1, 2 server=$first, $second tries=1, 2),
        qq("GET /b HTTP/1.1" 200 cluster=app level=2 server=$second tries=1),
        qq("GET /media/film?x=y HTTP/1.1" 307 cluster=- level=- server=- tries=-),
    ) {
        like($log, qr/^127\.0\.0\.1 \Q$line\E$/m, "the access log has: $line");
    }
}

sub check_grpc {
    my $port = shift->{8080};
    SKIP: {
        skip 'curl has no HTTP/2', 2 unless `curl --version 2>/dev/null` =~ /^Features:.*\bHTTP2\b/m;
        my $curl = "curl -sS -i --max-time 5 --http2-prior-knowledge -H 'TE: trailers' -H 'Content-Type: application/grpc'"
            . " --data-binary '' http://127.0.0.1:$port";
        my $status;
        wait_until(sub { ($status = `$curl/_checkups/status -X GET 2>&1`) =~ /"ok".*"ok"/ });
        like($status, qr/"ok".*"ok"/, 'the checks are made');
        my $response = `$curl/a.B/C 2>&1`;
        like($response, qr/\AHTTP\/2 200 .*\ncontent-type: application\/grpc\r\n.*\ngrpc-status: 12\r\n/s, 'POST /a.B/C');
    }
}

#-- Stand-ins for servers that are not nginx ----------------------------------

sub start_backend {
    my ($ports, $answer) = @_;
    my @listening = map {
        IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $_, Proto => 'tcp', Listen => 64, ReuseAddr => 1)
            or die "cannot listen on $_: $!"
    } @$ports;
    my $parent = $$;
    defined($backend = fork) or die "fork: $!";
    return if $backend;

    # The child; it does not outlive its parent for long.
    my (%received, %listening);
    $listening{$_} = 1 for @listening;
    my $select = IO::Select->new(@listening);
    while (getppid() == $parent) {
        for my $socket ($select->can_read(1)) {
            if ($listening{$socket}) {
                $select->add($socket->accept // next);
                next;
            }
            my $count = sysread $socket, $received{$socket}, 65536, length($received{$socket} //= '');
            my ($response, $close) = $count ? $answer->(\$received{$socket}) : ('', 1);
            syswrite $socket, $response if defined $response && length $response;
            next unless $close;
            delete $received{$socket};
            $select->remove($socket);
            close $socket;
        }
    }
    require POSIX;
    POSIX::_exit(0);
}

sub answer_fastcgi {
    my $data = ${ $_[0] };
    my ($params, $over) = ('', 0);
    while (length $data >= 8) {
        my ($type, $length, $padding) = (unpack 'CCnnCC', $data)[1, 3, 4];
        last if length $data < 8 + $length + $padding;
        $params .= substr $data, 8, $length if $type == 4;
        $over = 1 if $type == 5 && $length == 0;
        substr $data, 0, 8 + $length + $padding, '';
    }
    return unless $over;

    my %param;
    my $size = sub {
        my $first = ord $params;
        return unpack 'C', substr $params, 0, 1, '' if $first < 128;
        return 0x7fffffff & unpack 'N', substr $params, 0, 4, '';
    };
    while (length $params) {
        my ($name, $value) = ($size->(), $size->());
        $name = substr $params, 0, $name, '';
        $param{$name} = substr $params, 0, $value, '';
    }
    my $body = "Content-Type: text/plain\r\n\r\n$param{REQUEST_METHOD} $param{QUERY_STRING} $param{SCRIPT_FILENAME}\n";
    my $record = sub { pack('CCnnCC', 1, $_[0], 1, length $_[1], 0, 0) . $_[1] };
    return ($record->(6, $body) . $record->(6, '') . $record->(3, "\0" x 8), 1);
}

sub answer_uwsgi {
    my $data = ${ $_[0] };
    return if length $data < 4;
    my $length = unpack 'xv', $data;
    return if length $data < 4 + $length;
    my %param = unpack '(v/a v/a)*', substr $data, 4, $length;
    my $body = "$param{REQUEST_METHOD} $param{QUERY_STRING} $param{PATH_INFO}\n";
    return ("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n$body", 1);
}

sub answer_memcached {
    my $data = shift;
    $$data =~ s/\Aget (\S+) *\r\n// or return;
    return ("VALUE $1 0 9\r\nthe value\r\nEND\r\n", 0);
}
