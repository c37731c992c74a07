# The same as t/stock.t, with zone: all workers share the servers of nginx.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use StockMethods;
use Test::More;

each_method('zone up 64k;');

done_testing();
