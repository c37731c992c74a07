package GoClient;

# Debian's nginx-plus-go-client, as programs in Go use it. t/lib/go_client/main.go is built with it,
# and makes the calls that it is told to, in a process of its own.
#
#   my $go = GoClient->start;
#   my ($error) = $go->call(NewNginxClient => 'http://127.0.0.1:8080/api');
#   my ($error, $servers) = $go->call(GetHTTPServers => 'up');
#
# A call returns the text of its error, or undef, and then all else that it returns: structures by the
# names of their fields in Go.

use strict;
use warnings;

use File::Temp ();
use FindBin ();
use IO::Select ();
use JSON::PP ();
use POSIX ();

use NginxRunner ();

my $sources = '/usr/share/gocode';
my $json = JSON::PP->new->canonical->allow_nonref;
my $owner = $$;
my @running;
my $folder;         # of the program

# What is not here of what it takes to build the program, or nothing. On Debian there is no way
# around it, as build/packages.sh installs it.
sub lacks {
    my ($go) = grep { -x "$_/go" } split /:/, $ENV{PATH};
    my $lacks = !$go ? 'there is no go'
        : !-d "$sources/src/github.com/nginxinc/nginx-plus-go-client" ? "there is no nginx-plus-go-client in $sources" : return;
    die "$lacks (Debian: golang-go golang-github-nginxinc-nginx-plus-go-client-dev)\n"
        if -e '/etc/debian_version' && grep { -x "$_/dpkg-query" } split /:/, $ENV{PATH};
    return $lacks;
}

sub program {
    return "$folder/client" if $folder;
    my $new = File::Temp->newdir('checkups-go.XXXXXX', TMPDIR => 1);
    local @ENV{qw(GO111MODULE GOPATH GOCACHE GOFLAGS GOENV)} = ('off', $sources, "$new/cache", '', 'off');
    my $said = `go build -o '$new/client' '$FindBin::Bin/lib/go_client/main.go' 2>&1`;
    die "go build: $said" if $?;
    $folder = $new;
    return "$folder/client";
}

sub start {
    my $class = shift;
    my $program = program();
    pipe my $calls, my $to or die "pipe: $!";
    pipe my $from, my $answers or die "pipe: $!";
    defined(my $pid = fork) or die "fork: $!";
    if (!$pid) {
        POSIX::setpgid(0, 0);
        open STDIN, '<&', $calls or POSIX::_exit(126);
        open STDOUT, '>&', $answers or POSIX::_exit(126);
        delete local @ENV{qw(http_proxy HTTP_PROXY)};
        no warnings 'exec';
        exec { $program } $program;
        POSIX::_exit(127);
    }
    NginxRunner::guardian_knows("+$pid");
    $to->autoflush(1);
    my $self = bless { pid => $pid, to => $to, from => $from, said => '' }, $class;
    push @running, $self;
    return $self;
}

sub call {
    my ($self, @words) = @_;
    local $SIG{PIPE} = 'IGNORE';
    print { $self->{to} } $json->encode(\@words), "\n";
    my $answer = $json->decode($self->next_line // die "the client is gone, or hangs in $words[0]\n");
    return ($answer->{error}, @{ $answer->{results} });
}

sub next_line {
    my $self = shift;
    my $from = IO::Select->new($self->{from});
    my $end;
    until (($end = index $self->{said}, "\n") >= 0) {
        # The client itself waits for each answer for 10 seconds.
        return if !$from->can_read(60) || !sysread $self->{from}, $self->{said}, 65536, length $self->{said};
    }
    return substr $self->{said}, 0, $end + 1, '';
}

END {
    if ($$ == $owner) {
        local ($?, $@, $!);
        for my $client (splice @running) {
            kill KILL => $client->{pid};
            waitpid $client->{pid}, 0;
            NginxRunner::guardian_knows("-$client->{pid}");
        }
    }
}

1;
