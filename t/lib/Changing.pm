package Changing;

# A client of the API for "--- init", and of what is proxied meanwhile. Besides
# Backends:
#
# - change() sends a body of JSON, and shows the answer on one line, versions as
#   v1, v2 ... in the order in which they were seen;
# - settings() is what GET shows of a cluster, without its version.
#
# The API is at /c/, with write=on.

use strict;
use warnings;

use Backends;
use Exporter 'import';
use JSON::PP ();
use Test::More ();

our @EXPORT = qw(call change refused settings whole version text_of json forget server_of);

my $json = JSON::PP->new->canonical->allow_nonref;
my %seen;

sub json { return $json->encode(shift) }

# Versions are numbered anew.
sub forget { %seen = (); return }

sub shown_version {
    my $version = shift;
    $seen{$version} = "v" . (1 + keys %seen) if !$seen{$version};
    return $seen{$version};
}

# "127.0.0.1:PORT" of a server by its letter.
sub server_of { return '127.0.0.1:' . port_of(shift) }

# Puts the addresses of servers for {A}, {B} ...
sub filled {
    my $text = shift;
    $text =~ s/\{([A-H])\}/server_of($1)/ge;
    return $text;
}

# The opposite.
sub text_of {
    my $text = shift;
    for my $letter ('A' .. 'H') {
        my $port = eval { port_of($letter) } or next;
        $text =~ s/127\.0\.0\.1:$port\b/{$letter}/g;
    }
    return $text;
}

# An answer to a request below /c/clusters/; headers => [...], type => another
# type, or undef for none.
sub call {
    my ($method, $path, $body, %option) = @_;
    my $type = exists $option{type} ? $option{type} : 'application/json';
    my @headers = @{ $option{headers} // [] };
    push @headers, "Content-Type: $type" if defined $type && defined $body;
    return ask('/c/clusters/' . filled($path), method => $method, headers => \@headers,
        defined $body ? (body => filled($body)) : ());
}

# An answer on one line: "200 v2 weight: 1 -> 2". What begins with 4 or 5 is shown as
# "404 PathNotFound: path not found".
sub change {
    my ($method, $path, $body, %option) = @_;
    my $answer = call($method, $path, $body, %option);
    return "$answer->{code} $answer->{body}" if ($answer->{headers}{'content-type'} // '') ne 'application/json';
    my $said = $json->decode($answer->{body});
    if (my $error = $said->{error}) {
        return "$answer->{code}, but it says $error->{status}" if $error->{status} ne $answer->{code};
        return "no request_id: $answer->{body}" if $said->{request_id} !~ /\A[0-9a-f]{32}\z/;
        return text_of("$answer->{code} $error->{code}: $error->{text}");
    }
    my $tag = $answer->{headers}{etag} // '';
    return "another ETag: $tag" if $tag ne qq("$said->{version}");
    return join ' ', $answer->{code}, shown_version($said->{version}), ($said->{dry_run} ? '(dry)' : ()),
        join '; ', map { text_of("$_->{path}: " . $json->encode($_->{before}) . ' -> ' . $json->encode($_->{after})) }
        @{ $said->{difference} };
}

# The whole answer of GET, as JSON.
sub whole {
    my $answer = call('GET', $_[0]);
    return $answer->{code} eq '200' ? $answer->{body} : "$answer->{code}";
}

sub version { return $json->decode(whole($_[0]))->{version} }

# What GET shows of a cluster, without its version.
sub settings {
    my $shown = whole($_[0]);
    return $shown if $shown !~ /\A\{/;
    my $settings = $json->decode($shown);
    delete $settings->{version};
    return $settings;
}

# Has requests refused: pairs of [METHOD, PATH, BODY, OPTION => ...] and what change()
# shows then. What "clusters/" says is the same before and after each.
sub refused {
    my $before = whole('');
    while (my ($request, $expected) = splice @_, 0, 2) {
        my ($method, $path, $body) = @$request;
        my $name = substr "$method $path " . ($body // ''), 0, 120;
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        my $shown = change(@$request);
        ref $expected ? Test::More::like($shown, $expected, $name) : Test::More::is($shown, $expected, $name);
        Test::More::is(whole(''), $before, "nothing changed: $name");
    }
    return;
}

1;
