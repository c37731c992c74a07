package StockWorkers;

# For the tests of upstreams that nginx balances: requests to each worker of an
# nginx, over connections that are known to be its own.
#
#   my $nginx = stock(http => block(up => 'ip_hash; server @a; server @b;'));
#   my @workers = workers_of($nginx);
#   my %seen = asked(\@workers, 20);        # a => 40, b => 40: which server answered how often
#
# A request has a number, by which a hash or ip_hash of the tests selects: in the
# argument "k", and as the address of the client.

use strict;
use warnings;

use Exporter 'import';
use IO::Socket::INET ();
use NginxRunner;
use PlayedServers;
use Test::More;
use Time::HiRes qw(sleep);

our @EXPORT = qw(stock block locations version_of workers_of ask asked settled);

# An upstream without checkups_cluster. "@a" stands for the address of server a.
sub block {
    my ($name, $text) = @_;
    $text =~ s/\@(\w+)/address($1)/ge;
    return "upstream $name { $text }\n";
}

sub locations {
    return <<'END';
        keepalive_requests 1000000;
        set_real_ip_from 127.0.0.1;
        real_ip_header X-Real-IP;
        location /pid { return 200 $pid; }
        location /get { proxy_pass http://up; }
END
}

# nginx with four workers.
sub stock {
    my %as = @_;
    return NginxRunner->new(workers => 4, %as, server => locations() . ($as{server} // ''))->start;
}

# The version of nginx, to be compared as a number: 1.28.3 is 1028003.
sub version_of {
    my $said = `$ENV{TEST_NGINX_BINARY} -v 2>&1`;
    my @parts = $said =~ m{nginx/(\d+)\.(\d+)\.(\d+)} or die "no version: $said\n";
    return ($parts[0] * 1000 + $parts[1]) * 1000 + $parts[2];
}

# A connection to each worker.
sub workers_of {
    my $nginx = shift;
    my (%by_pid, @spare);
    wait_until(10, sub {
        my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or return;
        my ($code, $pid) = ask($socket, '/pid');
        if ($code ne '200' || $by_pid{$pid}) { push @spare, $socket }
        else { $by_pid{$pid} = $socket }
        return keys %by_pid == $nginx->{workers};
    }) or die 'not all workers were reached: ', join(' ', keys %by_pid), "\n";
    return map { $by_pid{$_} } sort { $a <=> $b } keys %by_pid;
}

# One request over a connection that stays. The code, the body without its newline, and the header.
sub ask {
    my ($socket, $path, @headers) = @_;
    local $SIG{PIPE} = 'IGNORE';
    syswrite $socket, join("\r\n", "GET $path HTTP/1.1", 'Host: localhost', @headers, '', '');
    my $text = '';
    my $deadline = now() + 10;
    while (1) {
        my $bits = '';
        vec($bits, fileno $socket, 1) = 1;
        my $left = $deadline - now();
        return ('no answer', '', '') if $left <= 0 || !select $bits, undef, undef, $left;
        sysread($socket, $text, 65536, length $text) or return ('closed', '', '');
        my ($code, $head, $body) = $text =~ m{\AHTTP/1\.1 (\d+)(.*?)\r\n\r\n(.*)\z}s or next;
        my ($length) = $head =~ /^Content-Length: (\d+)/mi;
        next if !defined $length || length $body < $length;
        return ($code, $body =~ s/\n//gr, $head);
    }
}

# So many requests to each worker. How often each server answered; "502" and the like where none did.
sub asked {
    my ($workers, $count, $path) = @_;
    my %seen;
    for my $socket (@$workers) {
        for my $number (1 .. $count) {
            my ($code, $body) = ask($socket, ($path // '/get') . "?k=$number", "X-Real-IP: 10.0.$number.1");
            $seen{ $code eq '200' ? $body : $code }++;
        }
    }
    return %seen;
}

# Waits until the status is as it is said, name by name: settled($nginx, a => 'err', b => 'ok').
sub settled {
    my ($nginx, %expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my %known;
    wait_until(10, sub {
        %known = map { (split)[0, 1] } known($nginx, 'up');
        return eq_hash(\%known, \%expected);
    });
    return is_deeply(\%known, \%expected, 'the status is: ' . join ', ', map { "$_ $expected{$_}" } sort keys %expected);
}

1;
