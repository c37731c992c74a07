package Versions;

# For the tests that compare whole clusters: each has a version, which is another in every run.
#
#   add_block_preprocessor(sub { any_version($_[0]) });

use strict;
use warnings;

use Exporter 'import';

our @EXPORT = qw(any_version);

# Has the expected bodies with clusters in them, which are written without versions, be met by any
# versions.
sub any_version {
    my $block = shift;
    my ($exact, $like) = ($block->response_body, $block->response_body_like);
    if (defined $exact && grep { /"balance":/ } ref $exact eq 'ARRAY' ? @$exact : $exact) {
        my @patterns = map { with_version('\A' . quotemeta($_) . '\z') } ref $exact eq 'ARRAY' ? @$exact : $exact;
        delete $block->{response_body};
        $block->set_value(response_body_like => ref $exact eq 'ARRAY' ? \@patterns : $patterns[0]);
    } elsif (defined $like) {
        my @patterns = map { with_version("$_") } ref $like eq 'ARRAY' ? @$like : $like;
        $block->set_value(response_body_like => ref $like eq 'ARRAY' ? \@patterns : $patterns[0]);
    }
    return;
}

sub with_version {
    my $pattern = shift;
    $pattern =~ s/(\\"name\\"\\:\\"[^"]*\\"\\,)(\\"balance\\")/$1\\"version\\":[1-9][0-9]*,$2/g;
    return $pattern;
}

1;
