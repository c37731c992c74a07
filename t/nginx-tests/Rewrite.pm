package Rewrite;

# Puts "checkups_cluster;" first into the upstream blocks of a configuration that name no balancing
# method. Text in, text out: no file, no nginx. What it does is in rewrite.t.

use strict;
use warnings;

use Exporter 'import';

our @EXPORT_OK = qw(rewrite);

# Whoever is named in a block balances it.
my %method = map { $_ => 1 }
    qw(fair hash ip_hash least_conn least_time random url_hash);

# rewrite(TEXT, IN_HTTP) is the new text, and what became of each block: [WHAT, NAME], where WHAT is
#   given    it has checkups_cluster now
#   method   it names a balancing method, and is as it was
#   ours     it had it already
#   resolve  its servers are resolved while nginx runs, which checkups_cluster refuses: as it was
# IN_HTTP says whether upstream blocks at the top of the text are those of http, as in a file that
# http includes. Those of stream are never touched.
sub rewrite {
    my ($text, $in_http) = @_;
    my (@open, @words, @blocks);

    # The words of the directives, as nginx's ngx_conf_read_token() finds them.
    pos($text) = 0;
    while (pos($text) < length $text) {
        if ($text =~ /\G(?:\s+|#[^\n]*)/gc) {
            next;
        }
        elsif ($text =~ /\G;/gc) {
            _directive($open[-1], @words) if @open;
            @words = ();
        }
        elsif ($text =~ /\G\{/gc) {
            my $in = join ' ', map { $_->{words}[0] // '' } @open;
            my $is_upstream = @words == 2 && $words[0] eq 'upstream'
                && ($in eq 'http' || $in_http && $in eq '');
            push @open, { words => [@words], at => pos $text, upstream => $is_upstream, as => 'given' };
            @words = ();
        }
        elsif ($text =~ /\G\}/gc) {
            my $block = pop @open;
            push @blocks, $block if $block && $block->{upstream};
            @words = ();
        }
        elsif ($text =~ /\G"((?:[^"\\]|\\.)*)"?/gcs || $text =~ /\G'((?:[^'\\]|\\.)*)'?/gcs) {
            push @words, $1;
        }
        elsif ($text =~ /\G((?:\$\{|\\.|[^\s;{])+)/gcs) {
            push @words, $1;
        }
        else {
            pos($text)++;
        }
    }

    # From the last to the first, so that the places stay right. In the same line, so that the numbers
    # of the lines do.
    for my $block (sort { $b->{at} <=> $a->{at} } grep { $_->{as} eq 'given' } @blocks) {
        substr $text, $block->{at}, 0, ' checkups_cluster;';
    }
    return $text, map { [$_->{as}, $_->{words}[1]] } sort { $a->{at} <=> $b->{at} } @blocks;
}

sub _directive {
    my ($block, $name, $address, @parameters) = @_;
    return unless $block->{upstream} && defined $name;
    if ($method{$name} || $name eq 'checkups_cluster') {
        $block->{as} = $method{$name} ? 'method' : 'ours';
    }
    elsif ($name eq 'server' && $block->{as} eq 'given'
        && grep { /^(?:resolve$|service=)/ } @parameters)
    {
        $block->{as} = 'resolve';
    }
    return;
}

1;
