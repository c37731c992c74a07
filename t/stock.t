# Upstreams that nginx balances, without zone: a server that fails its check gets
# no more requests, in no worker, and gets its share again when it passes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use StockMethods;
use Test::More;

each_method('');

done_testing();
