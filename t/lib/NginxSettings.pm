package NginxSettings;

# What clusters/NAME of the API answers, for tests that want all of it. What is
# not said has its default; what is said is JSON.
#
#   json_cluster('up', [json_level('dc1', [json_server('127.0.0.1:80', weight => 5)], tries => 2)], balance => '"least_conn"')

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(json_server json_level json_cluster);

my @server = (weight => 1, max_fails => 1, fail_timeout => '"10s"', max_conns => 0, slow_start => '"0s"',
    down => 'false', drain => 'false');
my @limits = (tries => 'null', tries_timeout => 'null');
my @cluster = (balance => '"round_robin"', order => 'null', protected => '"all"', @limits,
    connect_timeout => 'null', send_timeout => 'null', read_timeout => 'null', fail_status => '[]');

# The fields in the order of the defaults.
sub fields {
    my ($defaults, %as) = @_;
    my @fields;
    for (my $index = 0; $index < @$defaults; $index += 2) {
        my ($name, $default) = @$defaults[$index, $index + 1];
        push @fields, qq("$name":) . (delete $as{$name} // $default);
    }
    die "there is no such field: ", sort keys %as if %as;
    return @fields;
}

sub object { return '{' . join(',', @_) . '}' }

sub json_server {
    my ($address, %as) = @_;
    return object(qq("server":"$address"), fields(\@server, %as));
}

sub json_level {
    my ($name, $servers, %as) = @_;
    $name = defined $name ? qq("$name") : 'null';
    return object(qq("name":$name), fields(\@limits, %as), '"servers":[' . join(',', @$servers) . ']');
}

sub json_cluster {
    my ($name, $levels, %as) = @_;
    my $checks = delete $as{checks} // '[]';
    return object(qq("name":"$name"), fields(\@cluster, %as), '"levels":[' . join(',', @$levels) . ']', qq("checks":$checks));
}

1;
