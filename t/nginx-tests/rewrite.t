#!/usr/bin/perl

# Which upstream blocks Rewrite.pm gives to checkups_cluster, and which not.

use strict;
use warnings;

use FindBin;
use lib $FindBin::Bin;
use Rewrite qw(rewrite);
use Test::More;

# is_rewritten(NAME, TEXT, EXPECTED TEXT, EXPECTED BLOCKS, IN_HTTP)
sub is_rewritten {
    my ($name, $text, $expected, $blocks, $in_http) = @_;
    my ($got, @blocks) = rewrite($text, $in_http);
    is($got, $expected, $name);
    is_deeply([map { "@$_" } @blocks], $blocks, "$name: the blocks");
    return;
}

is_rewritten('one line',
    'http { upstream u { server a; } }',
    'http { upstream u { checkups_cluster; server a; } }', ['given u']);

is_rewritten('several lines, and the numbers of the lines stay',
    "http {\n  upstream\n    u\n  {\n    server a;\n    keepalive 1;\n  }\n}\n",
    "http {\n  upstream\n    u\n  { checkups_cluster;\n    server a;\n    keepalive 1;\n  }\n}\n",
    ['given u']);

for my $method ('least_conn', 'ip_hash', 'hash $uri', 'random two', 'least_time header') {
    is_rewritten("not with $method",
        "http { upstream u { server a; $method; } }",
        "http { upstream u { server a; $method; } }", ['method u']);
}

is_rewritten('with sticky',
    'http { upstream u { server a; sticky cookie hash; } }',
    'http { upstream u { checkups_cluster; server a; sticky cookie hash; } }', ['given u']);

is_rewritten('what is resolved later is left to nginx',
    'http { upstream u { server a resolve; } upstream v { server b service=http resolve; }'
        . ' upstream w { server resolve; } }',
    'http { upstream u { server a resolve; } upstream v { server b service=http resolve; }'
        . ' upstream w { checkups_cluster; server resolve; } }',
    ['resolve u', 'resolve v', 'given w']);

is_rewritten('a method and resolve',
    'http { upstream u { server a resolve; hash $uri; } upstream v { hash $uri; server a resolve; } }',
    'http { upstream u { server a resolve; hash $uri; } upstream v { hash $uri; server a resolve; } }',
    ['method u', 'method v']);

is_rewritten('not in stream, nor elsewhere',
    'stream { upstream u { server a; } } http { server { upstream u { } } }',
    'stream { upstream u { server a; } } http { server { upstream u { } } }', []);

is_rewritten('comments, quotes, braces and variables in words',
    qq(http { # upstream c { }\n map \$a \$b { default "upstream d { ; "; '~*\\'{' 1; x \${y}z; }\n)
        . qq( upstream 'u' { server a; # ip_hash;\n } server { return 200 "{"; location ~ ^/\\{ { } } upstream v { } }),
    qq(http { # upstream c { }\n map \$a \$b { default "upstream d { ; "; '~*\\'{' 1; x \${y}z; }\n)
        . qq( upstream 'u' { checkups_cluster; server a; # ip_hash;\n } server { return 200 "{"; location ~ ^/\\{ { } } upstream v { checkups_cluster; } }),
    ['given u', 'given v']);

is_rewritten('nested blocks speak for themselves',
    'http { upstream u { level x { hash y; server z resolve; } server a; } }',
    'http { upstream u { checkups_cluster; level x { hash y; server z resolve; } server a; } }', ['given u']);

is_rewritten('an include in a block',
    'http { upstream u { include servers.conf; } }',
    'http { upstream u { checkups_cluster; include servers.conf; } }', ['given u']);

is_rewritten('a file that http includes',
    'upstream u { server a; }', 'upstream u { checkups_cluster; server a; }', ['given u'], 1);
is_rewritten('a file of which that is not known',
    'upstream u { server a; }', 'upstream u { server a; }', [], 0);

is_rewritten('what is no configuration', qq(some } text "; upstream {\n), qq(some } text "; upstream {\n), []);

is_rewritten('what was rewritten before, and read from the file again',
    'http { upstream u { checkups_cluster; server a; } }',
    'http { upstream u { checkups_cluster; server a; } }', ['ours u']);

done_testing();
