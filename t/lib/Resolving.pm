package Resolving;

# For the tests of upstreams whose servers come and go as names are resolved.
#
# The servers are addresses 127.0.0.N of the same nginx, all with one port, N from
# 2 to 6. A file says which of them fails its check.

use strict;
use warnings;

use Exporter 'import';
use NameServer;
use NginxRunner;
use StockWorkers;
use Test::More;

our @EXPORT = qw(need_resolve resolving name_server port_of_all fails which known_now becomes);

sub need_resolve {
    plan skip_all => 'resolve came with nginx 1.27.3' if version_of() < 1_027_003;
    return;
}

my ($names, $port);

sub name_server { return $names //= NameServer->start }
sub port_of_all { return $port //= NginxRunner::free_port() }

# nginx with an upstream "up" of this text.
sub resolving {
    my ($text, %more) = @_;
    my $nginx = NginxRunner->new(workers => 4, %more);
    my ($root, $all) = ($nginx->root, port_of_all());
    my $servers = join '', map { <<"END" } 2 .. 6;
        server {
            listen 127.0.0.$_:$all;
            location / { return 200 "$_\n"; }
            location /check { if (-f $root/fails_$_) { return 503; } return 200; }
        }
END
    $nginx->{servers} = 'resolver 127.0.0.1:' . name_server()->port . " valid=1s ipv6=off; resolver_timeout 1s; $servers";
    $nginx->{http} = $nginx->{servers} . "upstream up { $text }";
    $nginx->{server} = locations();
    return $nginx->start;
}

sub fails {
    my ($nginx, %fails) = @_;
    for my $number (sort keys %fails) {
        my $file = $nginx->root . "/fails_$number";
        if ($fails{$number}) { open my $out, '>', $file or die "$file: $!" }
        elsif (-f $file) { unlink $file or die "$file: $!" }
    }
    return;
}

sub which { return join ' ', sort keys %{ { @_ } } }

# The servers of the status, in the order of their numbers: "2 ok, 3 err".
sub known_now {
    my $nginx = shift;
    my %known = map { $_->{server} =~ /127\.0\.0\.(\d+):/ ? ($1 => $_->{status}) : () } $nginx->servers('up');
    return join ', ', map { "$_ $known{$_}" } sort keys %known;
}

sub becomes {
    my ($nginx, $expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $known;
    return ok(wait_until(10, sub { ($known = known_now($nginx)) eq $expected }), "the status is: $expected")
        || diag("it is: $known");
}

1;
