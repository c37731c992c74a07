package Test::Nginx::Socket;

# A stand-in for Test::Nginx::Socket (openresty/test-nginx) for machines that
# do not have it: see ../../README.md. This file holds the HTTP client and the
# checks, Test::Nginx::Util everything around the nginx process.
#
# Test::Base brings blocks, filters, ONLY, LAST and SKIP. "-base" in lower
# case inherits without the source filter that rewrites subs.

use strict;
use warnings;

use Test::Base -base;
use Test::Nginx::Util;

use IO::Select ();
use IO::Socket::INET ();
use List::Util qw(any);
use Time::HiRes qw(sleep);

our @EXPORT = qw(
    plan run_tests run_test repeat_each worker_connections
    workers master_on master_off master_process_enabled log_level no_shuffle
    no_root_location no_long_string use_hup timeout server_name server_addr
    server_port server_port_for_client server_root html_dir env_to_nginx
    is_str check_accum_error_log add_block_preprocessor add_cleanup_handler
    add_test_cleanup_handler bail_out
);

$Test::Nginx::Util::RunTestHelper         = \&run_requests;
$Test::Nginx::Util::CheckErrorLog         = \&check_error_log;
$Test::Nginx::Util::CheckShutdownErrorLog = \&check_shutdown_error_log;

*patterns     = \&Test::Nginx::Util::patterns;
*line_matches = \&Test::Nginx::Util::line_matches;

sub expand { return expand_env_in_text($_[0], $_[1]->name, $Test::Nginx::Util::RandPorts) }

#-- Building requests ------------------------------------------------------

# Splits "METHOD [url [version]]" and the body after that line. What comes
# back is a list of [length in the source, text to send], in order; the header
# is inserted, so its length in the source is 0.
sub request_pieces {
    my ($name, $text, $headers) = @_;
    my ($line, $body) = $text =~ /\A([^\n]*\n?)(.*)\z/s;
    my $word = qr/(\S+)([ ]*)/;
    my ($before, $method, $gap1, $url, $gap2, $version, $gap3, $eol) =
        $line =~ /^(\s*)$word(?:$word)?(?:$word)?(\s*)$/
        or bail_out("$name - bad request line: '$line'");

    my $sent_body = $body;
    if (length $body && !$headers->{chunked} && $headers->{text} !~ /^Content-Length:/m) {
        # The newline that ends the section is no part of the body.
        $sent_body =~ s/^\s+|\s+$//g;
        $headers->{text} .= 'Content-Length: ' . length($sent_body) . "\r\n";
    }
    return (
        [length $before, ''],
        [length $method, "$method "],            [length $gap1, ''],
        [length($url // ''), ($url // '/') . ' '], [length($gap2 // ''), ''],
        [length($version // ''), ($version // 'HTTP/1.1') . "\r\n"],
        [length($gap3 // '') + length $eol, ''],
        [0, "$headers->{text}\r\n"],
        [length $body, $sent_body],
    );
}

# --- more_headers, with Host and Connection put before them if not given.
sub request_headers {
    my ($more, $connection) = @_;
    my ($given, $chunked) = ('', 0);
    for my $line (grep { !/^\s*#/ } split /\n+/, $more // '') {
        my ($key, $value) = split /:\s*/, $line, 2;
        $value //= '';
        $value =~ s/\r\z//;
        $chunked = 1 if lc $key eq 'transfer-encoding' && $value eq 'chunked';
        $given .= "$key: $value\r\n";
    }
    my $default = '';
    $default .= 'Host: ' . server_name() . "\r\n" if $given !~ /^Host:/mi;
    $default .= "Connection: $connection\r\n" if $given !~ /^Connection/mi;
    return { text => $default . $given, chunked => $chunked };
}

# Where a position in the source text comes to lie in the request to send.
sub sent_position {
    my ($position, $pieces) = @_;
    my $sent = 0;
    for my $piece (@$pieces) {
        my ($length, $text) = @$piece;
        if ($position < $length) {
            return $sent + ($position < length $text ? $position : length $text);
        }
        $position -= $length;
        $sent += length $text;
    }
    return $sent;
}

# Turns a request, given as one string or cut into packets, into what is sent.
# The cuts stay where the author made them: in front of the same character.
sub build_request {
    my ($name, $packets, $more, $connection) = @_;
    my $source = join '', @$packets;
    bail_out("$name - the request is empty") unless length $source;
    my @pieces = request_pieces($name, $source, request_headers($more, $connection));
    my $request = join '', map { $_->[1] } @pieces;

    my ($position, $start, @sent) = (0, 0);
    for my $packet (@$packets) {
        $position += length $packet;
        my $end = sent_position($position, \@pieces);
        push @sent, substr $request, $start, $end - $start;
        $start = $end;
    }
    return @sent;
}

# The element for one request of a section that may be an array. With several
# requests an expectation must be one, as in the real library.
sub indexed {
    my ($block, $value, $index, $need_array) = @_;
    return $value->[$need_array ? $index : 0] if ref $value eq 'ARRAY';
    bail_out($block->name . ' - several requests need arrays of expectations') if $need_array;
    return $value;
}

sub more_headers_for {
    my ($block, $index) = @_;
    my $more = $block->more_headers;
    return $more unless ref $more eq 'ARRAY';
    return $more->[$index] // bail_out($block->name . " - no --- more_headers for request $index");
}

# The requests of a block: each is a list of packets { value, delay_before }.
sub requests_of {
    my $block = shift;
    my $name = $block->name;

    if (defined(my $raw = $block->raw_request)) {
        return [map { { value => $_ } } ref $raw ? @$raw : $raw];
    }
    if (my $pipelined = $block->pipelined_requests) {
        ref $pipelined eq 'ARRAY' or bail_out("$name - --- pipelined_requests must be an array");
        my $all = '';
        for my $i (0 .. $#$pipelined) {
            my $connection = $i < $#$pipelined ? 'keep-alive' : 'close';
            my $source = expand($pipelined->[$i], $block);
            $all .= join '', build_request($name, [$source], more_headers_for($block, $i), $connection);
        }
        return [{ value => $all }];
    }
    my $request = $block->request // bail_out("$name - no --- request");
    if (!ref $request) {
        # Comments may stand in front of the request line.
        1 while $request =~ s/\A(?:\s+|#[^\n]*(?:\n|\z))//;
        $request = [$request];
    }
    my @requests;
    for my $i (0 .. $#$request) {
        my @packets = map { ref $_ ? $_ : { value => $_ } }
            ref $request->[$i] ? @{ $request->[$i] } : $request->[$i];
        my @sent = build_request($name, [map { $_->{value} } @packets],
            more_headers_for($block, $i), 'close');
        push @requests, [map { { %{ $packets[$_] }, value => $sent[$_] } } 0 .. $#packets];
    }
    return @requests;
}

#-- The client -------------------------------------------------------------

# nginx's sockets are bound by now, except under valgrind, where it may need
# seconds; and a dead nginx is not worth waiting for.
sub connect_to_nginx {
    my ($block, $timeout) = @_;
    my ($socket, $error);
    wait_until($Test::Nginx::Util::UseValgrind ? 60 : 10, sub {
        $socket = IO::Socket::INET->new(
            PeerAddr => server_addr(), PeerPort => server_port_for_client(),
            Proto => 'tcp', Timeout => $timeout,
        );
        $error = $!;
        return $socket || !running_pid();
    });
    if (!$socket) {
        fail($block->name . ' - cannot connect to nginx'
            . (running_pid() ? ": $error" : ', which is not running'));
        return;
    }
    $socket->blocking(0);
    return $socket;
}

# Sends as much as the socket takes. False when nothing is left to send.
sub send_some {
    my ($socket, $packets, $state) = @_;
    while (@$packets) {
        if (!defined $state->{offset}) {
            my $delay = $packets->[0]{delay_before} // $state->{delay};
            sleep $delay if $delay && $state->{sent};
            $state->{offset} = 0;
        }
        my $value = $packets->[0]{value};
        if ($state->{offset} >= length $value) {
            shift @$packets;
            $state->{sent} = 1;         # no delay before the first packet
            undef $state->{offset};
            next;
        }
        my $count = syswrite $socket, $value, length($value) - $state->{offset}, $state->{offset};
        if (!defined $count) {
            return 1 if $!{EAGAIN} || $!{EINTR};
            warn "write failed: $!\n";
            $state->{response} = "write failed: $!" unless length $state->{response};
            return 0;
        }
        $state->{offset} += $count;
    }
    return 0;
}

# Reads what is there. False at the end of the connection.
sub read_some {
    my ($socket, $state) = @_;
    while (1) {
        my $count = sysread $socket, $state->{response}, 65536, length $state->{response};
        next if $count;
        return 0 if defined $count;
        return 1 if $!{EAGAIN} || $!{EINTR};
        warn "WARNING: cannot read the response: $!\n";
        return 0;
    }
}

# Sends the packets of a request and reads until nginx closes the connection,
# or until nothing happened for the timeout. Returns all that came.
sub exchange {
    my ($block, $request) = @_;
    my $timeout = parse_time(scalar $block->timeout) // timeout();
    my $socket = connect_to_nginx($block, $timeout) or return '';
    local $SIG{PIPE} = 'IGNORE';
    my @packets = @$request;
    my $state = { response => '', delay => scalar $block->raw_request_middle_delay };
    my $select = IO::Select->new($socket);
    my $sending = 1;

    while (1) {
        $! = 0;
        my ($readable, $writable) =
            IO::Select->select($select, $sending ? $select : undef, undef, $timeout);
        if (!$readable) {
            next if $!{EINTR};
            fail($block->name . " - the client timed out after $timeout s") unless defined $block->abort;
            last;
        }
        last if @$readable && !read_some($socket, $state);
        if ($sending && @$writable) {
            $sending = send_some($socket, \@packets, $state);
            # --- shutdown: close the sending side, as an HTTP/1.0 client might.
            if (!$sending && defined(my $how = $block->shutdown)) {
                shutdown $socket, $how =~ /\d/ ? $how : 1;
            }
        }
    }
    close $socket;
    sleep 0.005 if defined $block->abort;       # nginx should notice first
    return $state->{response};
}

#-- Responses --------------------------------------------------------------

# Takes the first response off the text. Returns it, or undef if its chunks
# are broken, and what follows it. No status line gives the code ''.
sub parse_response {
    my ($block, $raw, $is_head) = @_;
    my %res = (code => '', fields => [], raw_headers => '', content => '');
    $res{raw_headers} = $1 if $raw =~ /\A(.*?\r\n)\r\n/s;
    my ($head, $rest) = $raw =~ /\A(.*?)\r?\n\r?\n(.*)\z/s ? ($1, $2) : ($raw, '');
    my ($status, @lines) = split /\r?\n/, $head;
    $res{code} = $1 if ($status // '') =~ /^\S+\s+(\d+)(?:\s|$)/;
    for my $line (@lines) {
        if ($line =~ /^([^\s:]+)[ \t]*: ?(.*)/) { push @{ $res{fields} }, [lc $1, $2] }
        elsif ($line =~ /^[ \t]/ && @{ $res{fields} }) { $res{fields}[-1][1] .= "\n$line" }
    }
    $res{content} = $rest;
    return (\%res, '') if $res{code} eq '304' || $res{code} eq '101';

    my $length = header(\%res, 'Content-Length');
    if ((header(\%res, 'Transfer-Encoding') // '') eq 'chunked') {
        my ($body, $left) = decode_chunked($rest, defined header(\%res, 'Trailer'));
        if (!defined $body) {
            fail($block->name . " - bad chunked body: $left");
            return (undef, '');
        }
        $res{content} = $body;
        return (\%res, $left);
    }
    return (\%res, '') unless defined $length && $length =~ /^\d+$/;
    warn 'WARNING: ', $block->name, " - the response is truncated: $length bytes expected, got ",
        length $rest, "\n" if length $rest < $length && !$is_head;
    $res{content} = substr $rest, 0, $length;
    return (\%res, length $rest > $length ? substr $rest, $length : '');
}

# All values of a field, joined. The real library's HTTP::Response reads "_"
# in the name that is asked for as "-".
sub header {
    my ($res, $name) = @_;
    ($name = lc $name) =~ tr/_/-/;
    my @values = map { $_->[1] } grep { $_->[0] eq $name } @{ $res->{fields} };
    return @values ? join ', ', @values : undef;
}

# Returns the body and what follows it; or undef and what is wrong.
sub decode_chunked {
    my ($raw, $has_trailer) = @_;
    my $body = '';
    pos($raw) = 0;
    while ($raw =~ /\G[ \t]*([0-9A-Fa-f]+)[ \t]*\r\n/gc) {
        my ($length, $at) = (hex $1, pos $raw);
        if ($length == 0) {
            if ($has_trailer) { $raw =~ /\G(?:[^\r\n]+\r\n)+/gc }
            return (undef, 'no CRLF after the last chunk') unless $raw =~ /\G\r\n/gc;
            return ($body, substr $raw, pos $raw);
        }
        return (undef, 'a chunk is cut short') if length $raw < $at + $length + 2;
        $body .= substr $raw, $at, $length;
        pos($raw) = $at + $length;
        return (undef, 'no CRLF after a chunk') unless $raw =~ /\G\r\n/gc;
    }
    return (undef, pos $raw < length $raw ? 'not a chunk: ' . substr($raw, pos $raw, 40) : 'no last chunk');
}

#-- Checks of a response ---------------------------------------------------

sub check_error_code {
    my ($block, $res, $at) = @_;
    my $name = $block->name . ' - status code ok';
    my $code = $res ? $res->{code} : '';
    if (defined(my $like = $block->error_code_like)) {
        my $pattern = indexed($block, $like, @$at{qw(index need_array)});
        return like($code, qr/$pattern/sm, $name);
    }
    my $expected = $block->error_code;
    $expected = defined $expected ? indexed($block, $expected, @$at{qw(index need_array)}) : 200;
    is($code, $expected, $name);
}

# "Name: value" lines; "! Name" is a header that must not come (undef).
sub parse_headers {
    my %headers;
    for my $line (split /\n/, shift // '') {
        $line =~ s/^\s+|\s+$//g;
        next unless length $line;
        if ($line =~ s/^!\s*//) { $headers{$line} = undef; next }
        my ($key, $value) = split /\s*:\s*/, $line, 2;
        $headers{$key} = $value // '';
    }
    return \%headers;
}

sub replace_ports {
    my $text = shift;
    $text =~ s/\$ServerPort\b/server_port()/ge;
    $text =~ s/\$ServerPortForClient\b/server_port_for_client()/ge;
    return $text;
}

sub check_response_headers {
    my ($block, $res, $at) = @_;
    my $name = $block->name;
    my $exact = defined $block->response_headers;
    my $section = $exact ? $block->response_headers : $block->response_headers_like;
    return unless defined $section;
    my $expected = parse_headers(indexed($block, $section, @$at{qw(index need_array)}));
    for my $key (sort keys %$expected) {
        my $want = $expected->{$key};
        my $got = $res ? header($res, $key) // '' : '';
        if (!$exact) {
            $want //= '';
            like($got, qr/^$want$/, "$name - header $key like ok");
        } elsif (defined $want) {
            is($got, replace_ports($want), "$name - header $key ok");
        } else {
            unlike($res ? $res->{raw_headers} : '', qr/^\s*\Q$key\E\s*:/m,
                "$name - header $key not present in the raw headers");
        }
    }
}

sub check_response_body {
    my ($block, $res, $at) = @_;
    my $name = $block->name;
    my $content = $res ? $res->{content} : undef;
    my $number = "(repeated req $at->{repeat}, req $at->{index})";
    my %like = (response_body_like => \&like, response_body_unlike => \&unlike);

    if (defined $block->response_body) {
        my $expected = indexed($block, $block->response_body, @$at{qw(index need_array)});
        $expected = expand(replace_ports($expected), $block) if defined $expected && !ref $expected;
        is_str($content, $expected, "$name - response_body - response is expected $number");
    } elsif (my ($section) = grep { defined $block->$_ } sort keys %like) {
        my $pattern = replace_ports(indexed($block, $block->$section, @$at{qw(index need_array)}));
        my $summary = trim($content) // '';
        $like{$section}->($content, qr/$pattern/s, "$name - $section - response is expected ($summary)");
    }
}

#-- Checks of the logs -----------------------------------------------------

# One test for each pattern of the section, as in the real library. $dry keeps
# the number of tests where the log cannot tell.
sub check_present {
    my ($block, $section, $lines, $log, $dry) = @_;
    for my $pattern (patterns(scalar $block->$section)) {
        my $name = $block->name . qq{ - pattern "$pattern" matches a line in $log};
        SKIP: {
            skip("$name: not known in this mode", 1) if $dry;
            ok((any { line_matches($_, $pattern) } @$lines), $name);
        }
    }
}

sub check_absent {
    my ($block, $section, $lines, $log, $dry) = @_;
    for my $pattern (patterns(scalar $block->$section)) {
        my $name = $block->name . qq{ - pattern "$pattern" does not match a line in $log};
        SKIP: {
            skip("$name: not known in this mode", 1) if $dry;
            my @found = grep { line_matches($_, $pattern) } @$lines;
            ok(!@found, $name) or diag(@found > 10 ? @found[0 .. 9] : @found);
        }
    }
}

# What --- grep_error_log cuts out of the lines, against grep_error_log_out.
# An array means one element for each repeated request.
sub check_grep_error_log {
    my ($block, $lines, $repeat) = @_;
    my $name = $block->name;
    my ($pattern, $expected) = (scalar $block->grep_error_log, scalar $block->grep_error_log_out);
    return unless defined $pattern || defined $expected;
    bail_out("$name - grep_error_log and grep_error_log_out need each other")
        unless defined $pattern && defined $expected;
    $expected = expand($expected, $block);
    ($pattern, $expected) = map { ref $_ eq 'ARRAY' ? $_->[$repeat] : $_ } $pattern, $expected;
    return unless defined $pattern;

    $pattern = qr/\Q$pattern\E/ unless ref $pattern;
    my $found = join '', map { "$_\n" } grep { !/\n/ }
        map { $_ =~ $pattern ? substr($_, $-[0], $+[0] - $-[0]) : () } @$lines;
    is_str($found, $expected, "$name - grep_error_log_out (req $repeat)");
}

# All that the error log of one request is checked for. The lines are read
# once: what is new since the check before this one.
sub check_error_log {
    my ($block, $repeat) = @_;
    my $lines = error_log_data();
    check_grep_error_log($block, $lines, $repeat);
    check_present($block, 'error_log', $lines, "error.log (req $repeat)");
    check_absent($block, 'no_error_log', $lines, "error.log (req $repeat)");
    Test::Nginx::Util::report_bad_lines($block, $lines);
}

# After the nginx of the block has been stopped; not possible after a reload.
sub check_shutdown_error_log {
    my ($block, $dry) = @_;
    my $lines = error_log_data('settled');
    check_present($block, 'shutdown_error_log', $lines, 'error.log', $dry);
    check_absent($block, 'no_shutdown_error_log', $lines, 'error.log', $dry);
    Test::Nginx::Util::report_bad_lines($block, $lines);
}

sub check_access_log {
    my ($block, $repeat) = @_;
    return unless defined $block->access_log || defined $block->no_access_log;
    my $lines = access_log_data();
    check_present($block, 'access_log', $lines, "access.log (req $repeat)");
    check_absent($block, 'no_access_log', $lines, "access.log (req $repeat)");
}

#-- A block's requests -----------------------------------------------------

sub check_response {
    my ($block, $res, $at) = @_;
    check_error_code($block, $res, $at);
    check_response_headers($block, $res, $at);
    check_response_body($block, $res, $at);
}

sub failures { return scalar grep { !$_ } Test::More->builder->summary }

# Called for each repetition of a block, with nginx running.
sub run_requests {
    my ($block, $repeat) = @_;
    my $name = $block->name;
    my $failed = failures();
    my @requests  = requests_of($block);
    my $pipelined = $block->pipelined_requests;
    my $responses = $pipelined ? @$pipelined : 1;
    my $checked   = !defined $block->ignore_response;
    my $at = { index => 0, repeat => $repeat, need_array => $pipelined || @requests > 1 };

    for my $request (@requests) {
        my $is_head = join('', map { $_->{value} } @$request) =~ /^\s*HEAD\s/;
        my $raw = exchange($block, $request);
        print STDERR "# response: [$raw]\n" if verbose();
        for (1 .. $responses) {
            if ($checked) {
                (my $res, $raw) = parse_response($block, $raw, $is_head);
                check_response($block, $res, $at);
            }
            sleep $block->wait if $block->wait;
            check_error_log($block, $repeat);
            check_access_log($block, $repeat) if $checked;
            $at->{index}++;
        }
        warn "WARNING: $name - extra bytes after the response: '$raw'\n" if $checked && length $raw;
    }
    diag(log_tail()) if failures() > $failed;
}

1;
