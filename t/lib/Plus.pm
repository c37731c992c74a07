package Plus;

# A client of the API of NGINX Plus for "--- init", besides Backends and Changing. The
# API is at /c/, with write=on.
#
# plus() shows an answer on one line. A server is "3 {B} weight=2 down=true": its id,
# its address, and what is not as it is by default; members that are missing are named.
# An array of servers is "0 {A}; 1 {B}", a refusal "404 UpstreamNotFound: upstream not
# found".

use strict;
use warnings;

use Backends;
use Changing ();
use Exporter 'import';
use JSON::PP ();
use Test::More ();

our @EXPORT = qw(plus plus_at servers_of peers_of refuses_plus);

my $json = JSON::PP->new->canonical->allow_nonref;
my $error = qr{\A\{"error":\{"status":(\d+),"text":"((?:[^"\\]|\\.)+)","code":"(\w+)"\},"request_id":"[0-9a-f]{32}","href":"https://nginx\.org/en/docs/http/ngx_http_api_module\.html"\}\z};

# What a server has at least, in the order in which it is written.
my @always = (
    [weight => '1'], [max_conns => '0'], [max_fails => '1'], [fail_timeout => '"10s"'], [slow_start => '"0s"'],
    [route => '""'], [backup => 'false'], [down => 'false'],
);

sub server_line {
    my $server = shift;
    my @shown = grep { defined } $server->{id}, $server->{server};
    push @shown, 'an id that is no number' if $json->encode($server->{id}) !~ /\A\d+\z/;
    my %left = %$server;
    delete @left{qw(id server)};
    for my $member (@always) {
        my ($name, $default) = @$member;
        my $value = delete $left{$name};
        push @shown, defined $value ? $json->encode($value) eq $default ? () : "$name=" . plain($value) : "(no $name)";
    }
    push @shown, map { "$_=" . plain($left{$_}) } sort keys %left;
    return Changing::text_of(join ' ', @shown);
}

# Text without its quotes.
sub plain { return $json->encode($_[0]) =~ s/\A"(.*)"\z/$1/r }

# An answer on one line.
sub line {
    my $answer = shift;
    my ($code, $body) = @$answer{qw(code body)};
    return $code if $body eq '' && $code eq '204';
    my $type = $answer->{headers}{'content-type'} // '';
    return "$code, of type $type: $body" if $type ne 'application/json';
    if ($code >= 400) {
        my ($status, $text, $name) = $body =~ $error or return "$code, of another shape: $body";
        return "$code, but it says $status" if $status != $code;
        return Changing::text_of("$code $name: " . $json->decode(qq("$text")));
    }
    my $said = $json->decode($body);
    return "$code " . join '; ', map { server_line($_) } @$said if ref $said eq 'ARRAY' && !grep { ref ne 'HASH' } @$said;
    return "$code " . server_line($said) if ref $said eq 'HASH' && exists $said->{server};
    return "$code " . Changing::text_of($json->encode($said));
}

# A request to a whole path; headers => [...], type => another type, or undef for none.
sub plus_at {
    my ($method, $path, $body, %option) = @_;
    my $type = exists $option{type} ? $option{type} : 'application/json';
    my @headers = @{ $option{headers} // [] };
    push @headers, "Content-Type: $type" if defined $type && defined $body;
    return ask($path, method => $method, headers => \@headers, defined $body ? (body => Changing::filled($body)) : ());
}

# The same below http/upstreams/, as one line.
sub plus {
    my ($method, $path, $body, %option) = @_;
    return line(plus_at($method, "/c/9/http/upstreams/$path", $body, %option));
}

sub servers_of { return plus(GET => "$_[0]/servers") =~ s/\A200 ?//r }

# The peers of an upstream.
sub peers_of {
    my $answer = plus_at(GET => "/c/9/http/upstreams/$_[0]");
    return @{ $json->decode($answer->{body})->{peers} };
}

# Has requests refused: pairs of [METHOD, PATH, BODY, OPTION => ...], and what plus() shows then,
# wholly or up to the text. Nothing is changed by any of them.
sub refuses_plus {
    my $before = Changing::whole('');
    while (my ($request, $expected) = splice @_, 0, 2) {
        my ($method, $path, $body) = @$request;
        my $name = substr "$method $path " . ($body // ''), 0, 120;
        local $Test::Builder::Level = $Test::Builder::Level + 1;
        my $shown = plus(@$request);
        $shown =~ s/:.*//s if !ref $expected && $expected !~ /:/;
        ref $expected ? Test::More::like($shown, $expected, $name) : Test::More::is($shown, $expected, $name);
        Test::More::is(Changing::whole(''), $before, "nothing changed: $name");
    }
    return;
}

1;
