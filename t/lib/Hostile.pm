package Hostile;

# The servers of t/lib/hostile.py, which do what no good one does, in one process.
#
#   my $hostile = Hostile->start('http_garbage', 'http_closes');    # nobody listens yet
#   $hostile->port('http_closes');
#   $hostile->ask('listen');
#   $hostile->count;                # how many connections there were, of all
#   $hostile->ask('refuse');        # cuts the connections, and refuses new ones
#
# It ends when the object goes, or the test does.

use strict;
use warnings;

use FindBin ();
use IO::Handle ();
use POSIX ();

my $program = "$FindBin::Bin/lib/hostile.py";

# The names of the cases that begin so.
sub cases {
    my $start = shift;
    my $text = do { open my $in, '<', $program or die "$program: $!"; local $/ = undef; readline $in };
    return $text =~ /^    "(${start}_\w+)": /mg;
}

sub start {
    my ($class, @names) = @_;
    pipe my $read, my $says or die "pipe: $!";
    pipe my $hears, my $write or die "pipe: $!";
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        # The pipes of others would keep them from seeing the end of this process.
        POSIX::close($_) for grep { $_ != fileno $hears && $_ != fileno $says } 3 .. 255;
        open STDIN, '<&', $hears or POSIX::_exit(126);
        open STDOUT, '>&', $says or POSIX::_exit(126);
        no warnings 'exec';
        exec 'python3', $program, @names;
        POSIX::_exit(127);
    }
    close $hears;
    close $says;
    $write->autoflush(1);
    my $self = bless { pid => $pid, read => $read, write => $write, owner => $$ }, $class;
    my $ports = readline $read // die "$program does not start\n";
    $self->{ports} = { $ports =~ /(\w+)=(\d+)/g };
    return $self;
}

sub port { my ($self, $name) = @_; return $self->{ports}{$name} // die "no server $name\n" }

sub ask {
    my ($self, $what) = @_;
    print { $self->{write} } "$what\n";
    return readline($self->{read}) // die "hostile.py is gone\n";
}

# With a name: the connections to that server.
sub count {
    my ($self, $name) = @_;
    my %count = $self->ask('count') =~ /(\w+)=(\d+)/g;
    return $count{$name} // die "no server $name\n" if $name;
    my $all = 0;
    $all += $_ for values %count;
    return $all;
}

sub DESTROY {
    my $self = shift;
    return if $self->{owner} != $$;
    local ($?, $!);
    close $self->{write};
    close $self->{read};
    kill KILL => $self->{pid};
    waitpid $self->{pid}, 0;
    return;
}

1;
