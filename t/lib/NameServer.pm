package NameServer;

# A name server for the tests: what it answers is said while it runs.
#
#   my $names = NameServer->start;
#   $names->set('up.test' => '127.0.0.2', '127.0.0.3');     # nothing: the name is not there
#   "resolver 127.0.0.1:" . $names->port . " valid=1s ipv6=off;"
#
# It knows A records and, as set('_http._tcp.up.test' => 'SRV 10 1 80 a.test'), SRV records.

use strict;
use warnings;

use IO::Socket::INET ();
use JSON::PP ();
use NginxRunner ();
use POSIX ();

sub start {
    my $class = shift;
    my $socket;
    for (1 .. 100) {
        $socket = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => NginxRunner::free_port(), Proto => 'udp') and last;
    }
    $socket or die "no port is free\n";
    my $directory = File::Temp->newdir('checkups-d.XXXXXX', TMPDIR => 1);
    my $self = bless { owner => $$, names => {}, port => $socket->sockport, directory => $directory, file => "$directory/names" }, $class;
    $self->set;
    my $test = $$;
    defined($self->{pid} = fork) or die "fork: $!";
    if (!$self->{pid}) {
        while (getppid == $test) {
            vec(my $bits = '', fileno $socket, 1) = 1;
            next if !select $bits, undef, undef, 0.5;
            my $from = $socket->recv(my $query, 512) // next;
            my $answer = answer($query, $self->{file}) // next;
            $socket->send($answer, 0, $from);
        }
        POSIX::_exit(0);
    }
    return $self;
}

sub port { return $_[0]{port} }

# Sets what a name has.
sub set {
    my ($self, $name, @records) = @_;
    $self->{names}{$name} = \@records if defined $name;
    open my $out, '>', "$self->{file}.new" or die "names: $!";
    print $out JSON::PP::encode_json($self->{names});
    close $out or die "names: $!";
    rename "$self->{file}.new", $self->{file} or die "names: $!";
    return;
}

sub labels { return join('', map { pack 'C/a', $_ } split /\./, $_[0]) . "\0" }

sub answer {
    my ($query, $file) = @_;
    my ($id, $flags, $questions) = unpack 'nnn', $query;
    my ($at, @labels) = (12);
    while (my $length = unpack 'C', substr $query, $at, 1) {
        push @labels, substr $query, $at + 1, $length;
        $at += 1 + $length;
    }
    my ($type) = unpack 'n', substr $query, $at + 1, 2;
    my $question = substr $query, 12, $at + 5 - 12;
    open my $in, '<', $file or return;
    my $names = JSON::PP::decode_json(do { local $/ = undef; readline $in });
    my $records = $names->{ lc join '.', @labels };
    my $known = $records && @$records;
    my @answers;
    for my $record (@{ $records // [] }) {
        my ($kind, @words) = split ' ', $record;
        if ($kind eq 'SRV') {
            next if $type != 33;
            my $target = labels(pop @words);
            push @answers, pack('nnnNn/a', 0xc00c, 33, 1, 1, pack('nnn', @words) . $target);
        } else {
            push @answers, pack('nnnNn/a', 0xc00c, 1, 1, 1, pack 'C4', split /\./, $kind) if $type == 1;
        }
    }
    return pack('nnnnnn', $id, $known ? 0x8180 : 0x8183, 1, scalar @answers, 0, 0) . $question . join '', @answers;
}

sub DESTROY {
    my $self = shift;
    return if $self->{owner} != $$ || !$self->{pid};
    local $?;
    kill KILL => $self->{pid};
    waitpid $self->{pid}, 0;
    return;
}

1;
