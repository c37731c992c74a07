package PlayedServers;

# For files that run nginx by NginxRunner and have its servers played by
# NginxBackend: the servers by short names, in what is written and in what is seen.
#
#   servers(a => '200 wait:503 hang | 200', b => '200');    # checks | requests
#   my $nginx = NginxRunner->new(http => upstream(up => 'server @a; server @b;'))->start;
#   is_deeply([known($nginx, 'up')], ['a ok 0', 'b ok 0'], '...');

use strict;
use warnings;

use Exporter 'import';
use NginxBackend;
use NginxRunner;
use Test::More;

our @EXPORT = qw(backend servers address upstream known now_known checked release logged ends_well);

my $backend = NginxBackend->start;
my %address;

sub backend { return $backend }
sub address { return $address{ $_[0] } // die "no server '$_[0]'\n" }

# Servers by these names: name => "words for checks | words for requests".
sub servers {
    my %words = @_;
    $backend->forget;
    %address = ();
    for my $name (sort keys %words) {
        my ($checks, $requests) = map { [split] } split /\|/, $words{$name};
        $address{$name} = $backend->add($name, checks => $checks // [], requests => $requests // []);
    }
    return;
}

# An upstream block. "@a" stands for the address of server a; the parameters of
# checkups_cluster may be given.
sub upstream {
    my ($name, $text, $parameters) = @_;
    $text =~ s/\@(\w+)/$address{$1} \/\/ die "no server '$1'\n"/ge;
    return "upstream $name { checkups_cluster " . ($parameters // '') . "; $text }\n";
}

# What "status" says of the servers of a cluster: "a err 2 status 503", and no
# more than the name and the state where they are not checked. The levels are in
# their order, or in that of their names where they have names.
sub known {
    my ($nginx, $cluster) = @_;
    my $levels = $nginx->status->{"cls:$cluster"} // return;
    my @levels = ref $levels eq 'ARRAY' ? @$levels : map { $levels->{$_} } sort keys %$levels;
    my %name = map { $address{$_} => $_ } keys %address;
    return map {
        my $server = $_;
        join ' ', $name{ $server->{server} =~ s/\A\Q$cluster\E://r }, $server->{status},
            grep { defined } @$server{qw(fail_num msg)};
    } map { @$_ } @levels;
}

# Waits until that is so: a test of its own.
sub now_known {
    my ($nginx, $cluster, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my @known;
    wait_until(10, sub { @known = known($nginx, $cluster); "@known" eq "@expected" });
    return is_deeply(\@known, \@expected, "the status is: @expected");
}

# Waits until so many checks have come: a => 2, b => 1, 'a/healthz' => 1.
sub checked {
    my %count = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    for my $name (sort keys %count) {
        ok($backend->wait_for($name, $count{$name}), "$count{$name} checks of $name have come");
    }
    return;
}

# Waits until a check of the server waits for an answer, the last of so many,
# and gives it.
sub release {
    my ($name, $count) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok($backend->wait_for($name, $count), "check $count of $name is under way");
    $backend->release($name);
    return;
}

# What checkups has logged, behind so many bytes: "[notice] TEXT", with names for
# addresses, and without what nginx adds of a request.
sub logged {
    my ($nginx, $from) = @_;
    my @lines = map { / (\[\w+\]) .*?checkups: (.*)/ ? "$1 $2" : () } split /\n/, $nginx->log($from);
    for my $line (@lines) {
        $line =~ s/"\Q$address{$_}\E"/$_/ for keys %address;
        $line =~ s/(?: while [^,]*)?, client: .*//;
    }
    return @lines;
}

sub ends_well {
    my ($nginx, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    my $took = $nginx->stop;
    ok(defined $took, 'nginx stops');
    my @bad = grep { my $line = $_; !grep { $line =~ $_ } @expected } $nginx->bad_lines;
    is_deeply(\@bad, [], 'no crash, panic or alert');
    return;
}

1;
