package OverCheckups;

# Loaded before a file of nginx-tests: perl -It/nginx-tests -MOverCheckups FILE. It changes the Test::Nginx
# of that suite (not the one of CPAN). The environment says how:
#
#   OVER_CHECKUPS_SUITE    the folder of nginx-tests
#   OVER_CHECKUPS_REPORT   where there is one, upstream blocks get checkups_cluster as they are written, and
#                          this file gets a line for each: what became of it, the file, the name (Rewrite.pm)

use strict;
use warnings;

use Rewrite qw(rewrite);

my $suite  = delete $ENV{OVER_CHECKUPS_SUITE} or die "OVER_CHECKUPS_SUITE is not set\n";
my $report = delete $ENV{OVER_CHECKUPS_REPORT};

# By its path: @INC may have another.
my $library = "$suite/lib/Test/Nginx.pm";
require $library;
$INC{'Test/Nginx.pm'} = $library;
Test::Nginx->can('write_file_expand') or die "$library is not that of nginx-tests\n";

_wrap('new', sub {
    my ($original, @arguments) = @_;
    my $self = $original->(@arguments);
    $self->{_configure_args} = _configure_arguments();
    return $self;
});

# write_file_expand() ends in it as well.
_wrap('write_file', sub {
    my ($original, $self, $name, $content) = @_;
    if (defined $report) {
        ($content, my @blocks) = rewrite($content, $name ne 'nginx.conf' && $name =~ /\.conf\z/);
        _say(map { "$_->[0] $name $_->[1]" } grep { $_->[0] ne 'ours' } @blocks);
    }
    return $original->($self, $name, $content);
});

# memcached does not start as root, unless told who to be.
_wrap('run_daemon', sub {
    my ($original, $self, $code, @arguments) = @_;
    push @arguments, '-u', 'nobody' if $> == 0 && $code eq 'memcached' && !grep { $_ eq '-u' } @arguments;
    return $original->($self, $code, @arguments);
});

# What nginx was built with, less the dynamic modules that are not installed: the suite would load
# each one that is named there.
sub _configure_arguments {
    my $arguments = `$Test::Nginx::NGINX -V 2>&1`;
    my $modules   = $ENV{TEST_NGINX_MODULES} // $Test::Nginx::NGINX =~ s{[^/]*\z}{}r;
    $arguments =~ s{--with-(\S+?)(?:_module)?=dynamic}{
        -e "$modules/ngx_$1_module.so" || -e "$modules/ngx_$1_filter_module.so" ? $& : ''
    }ge;
    return $arguments;
}

sub _say {
    my (@lines) = @_;
    open my $file, '>>', $report or die "$report: $!\n";
    print {$file} map { "$_\n" } @lines;
    close $file or die "$report: $!\n";
    return;
}

sub _wrap {
    my ($name, $code) = @_;
    my $original = Test::Nginx->can($name) or die "$library has no $name()\n";
    no strict 'refs';
    no warnings qw(redefine prototype);
    *{"Test::Nginx::$name"} = sub { return $code->($original, @_) };
    return;
}

1;
