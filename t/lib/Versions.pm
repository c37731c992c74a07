package Versions;

# For the tests that compare whole clusters: each has a version, which is another in every run. What
# is expected is written without versions.
#
#   add_block_preprocessor(sub { any_version($_[0]) });
#   is(without_version($body), json_cluster('up', [$level]), 'clusters/up');

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(any_version without_version);

# Has the expected bodies with clusters in them be met by any versions.
sub any_version {
    my $block = shift;
    # In a list, a section that is not there would be nothing at all.
    my ($exact, $like) = (scalar $block->response_body, scalar $block->response_body_like);
    if (defined $exact && grep { /"balance":/ } listed($exact)) {
        my @patterns = map { with_version('\A' . quotemeta(expanded($_)) . '\z') } listed($exact);
        delete $block->{response_body};
        $block->set_value(response_body_like => ref $exact eq 'ARRAY' ? \@patterns : $patterns[0]);
    } elsif (defined $like) {
        my @patterns = map { with_version("$_") } listed($like);
        $block->set_value(response_body_like => ref $like eq 'ARRAY' ? \@patterns : $patterns[0]);
    }
    return;
}

# The answer of clusters/NAME without the version, which it must have.
sub without_version {
    my $body = shift;
    $body =~ s/\A(\{"name":"[^"]*",)"version":[1-9][0-9]*,/$1/ or return "there is no version in $body";
    return $body;
}

sub listed { return ref $_[0] eq 'ARRAY' ? @{ $_[0] } : $_[0] }

# Test::Nginx does that in bodies, and not in patterns.
sub expanded { return $_[0] =~ s{\$TEST_NGINX_SERVER_ROOT\b}{$ENV{TEST_NGINX_SERVER_ROOT}}gr }

# By quotemeta or by hand: the quotes may have backslashes before them, and the colons and commas.
sub with_version {
    my $pattern = shift;
    $pattern =~ s/(\\?"name\\?"\\?:\\?"[^"]*"\\?,)(\\?"balance\\?")/$1"version":[1-9][0-9]*,$2/g;
    return $pattern;
}

1;
