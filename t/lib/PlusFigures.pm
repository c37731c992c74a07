package PlusFigures;

# What the API of NGINX Plus says of the servers that CountedServers plays, on one line.
# The API is at /plus/, with write=on.
#
#   my $nginx = figures_nginx("server $a;", workers => 4)->start;
#   counted($nginx, 'a');       # "requests=4 total=3 2xx=3 200=3 fails=1 unavail=1"
#   bytes($nginx, 'a');         # "sent 100 received 200"

use strict;
use warnings;

use CountedServers;
use Exporter 'import';
use IO::Socket::INET ();
use JSON::PP ();
use NginxRunner;
use Test::More;

our @EXPORT = qw(figures_nginx plus_call peer counted bytes members becomes between ends_well);

my $json = JSON::PP->new->canonical->allow_nonref;

# Two workers, and upstream "up" with these lines; http, server: more text.
sub figures_nginx {
    my ($lines, %as) = @_;
    begin_traffic();
    my $server = <<'END' . (delete $as{server} // '');
        keepalive_requests 1000000;
        client_max_body_size 0;
        location /plus/ { checkups_api write=on; }
        location /pid { return 200 $pid; }
        location / { proxy_pass http://up; }
END
    my $http = (delete $as{block} // "upstream up { checkups_cluster; $lines }\n") . (delete $as{http} // '');
    return NginxRunner->new(workers => 2, http => $http, server => $server, %as);
}

# The code of an answer of the API, and what it says.
sub plus_call {
    my ($nginx, $method, $path, $body) = @_;
    my ($code, $said) = finish(begin($nginx, "/plus/9/http/upstreams/$path", method => $method, defined $body ? (body => $body) : ()));
    return ($code, eval { $json->decode($said) } // $said);
}

# A server of an upstream, by its name here or its address.
sub peer {
    my ($nginx, $name, $upstream) = @_;
    my $server = $name =~ /:/ ? $name : server_at($name);
    my ($code, $said) = plus_call($nginx, GET => $upstream // 'up');
    my ($peer) = grep { $_->{server} eq $server } @{ ref $said ? $said->{peers} // [] : [] };
    return $peer // die "no server $server: $code " . $json->encode($said) . "\n";
}

# What was counted; but for the requests and the total, what is 0 is left out.
sub counted {
    my $peer = ref $_[0] eq 'HASH' ? $_[0] : peer(@_);
    my ($responses, @shown) = $peer->{responses};
    my @classes = map { [$_, $responses->{$_}] } map { "${_}xx" } 1 .. 5;
    my @codes = map { [$_, $responses->{codes}{$_}] } sort keys %{ $responses->{codes} };
    my @failures = map { [$_, $peer->{$_}] } qw(fails unavail);
    for ([requests => $peer->{requests}], [total => $responses->{total}], @classes, @codes, @failures) {
        my ($name, $count) = @$_;
        push @shown, !defined $count ? "(no $name)" : $json->encode($count) !~ /\A\d+\z/ ? "($name is no number)"
            : $count || $name =~ /\A(?:requests|total|\d\d\d|other)\z/ ? "$name=$count" : ();
    }
    return join ' ', @shown;
}

sub bytes {
    my $peer = ref $_[0] eq 'HASH' ? $_[0] : peer(@_);
    return "sent $peer->{sent} received $peer->{received}";
}

# Waits until the value is that: a test of its own.
sub becomes {
    my ($value, $expected, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $is;
    wait_until(10, sub { ($is = $value->()) eq $expected });
    return is($is, $expected, $what);
}

# What is there of these members, and which are not: "downtime=0 (no downstart)".
sub members {
    my ($peer, @names) = @_;
    return join ' ', map { exists $peer->{$_} ? "$_=$peer->{$_}" : "(no $_)" } @names;
}

# Whether a number is within bounds: a test of its own.
sub between {
    my ($number, $least, $most, $what) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    return ok(defined $number && $number >= $least && $number <= $most, $what)
        || diag('it is ' . ($number // 'nothing') . ", not $least to $most");
}

sub ends_well {
    my ($nginx, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop, 'nginx stops');
    is(join('', grep { my $line = $_; !grep { $line =~ $_ } @expected } $nginx->bad_lines), '', 'nothing bad is logged');
    return;
}

1;
