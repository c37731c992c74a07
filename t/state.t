# What was changed at run time is kept: over reloads, restarts and upgrades, with
# checkups_state on disk, and until the block in the configuration changes.

use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Fcntl qw(:flock);
use IO::Socket::INET ();
use JSON::PP ();
use NginxRunner;
use Test::More;
use Time::HiRes qw(sleep);

my $json = JSON::PP->new->canonical;
my $up = 'upstream up { checkups_cluster; server 127.0.0.1:1; server 127.0.0.1:2 weight=2 max_fails=3; }';

# Two workers, with checkups_state unless there is `state`, and these blocks.
sub nginx {
    my ($blocks, %as) = @_;
    my $nginx = NginxRunner->new(workers => 2, server => 'location /change/ { checkups_api write=on; }', %as);
    $nginx->{http} = http($nginx, $blocks);
    return $nginx;
}

sub state { return $_[0]->root . '/state' }
sub http { return 'checkups_state ' . state($_[0]) . "; $_[1]" }

sub send_change {
    my ($nginx, $method, $path, $body, @headers) = @_;
    my $text = defined $body ? $json->encode($body) : '';
    push @headers, 'Content-Type: application/json', 'Content-Length: ' . length $text if defined $body;
    my $socket = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $nginx->port) or die "connect: $!";
    syswrite $socket, join "\r\n", "$method /change/clusters/$path HTTP/1.1", 'Host: a', 'Connection: close', @headers, '', $text;
    return $socket;
}

# A request to the API: its status, and what is in the body.
sub call {
    my ($nginx, @request) = @_;
    my $answer = $nginx->answer(send_change($nginx, @request));
    return ($answer->{code}, eval { $json->decode($answer->{body}) } // $answer->{error} // $answer->{body});
}

# A change that is made: its version.
sub change {
    my ($code, $answer) = call(@_);
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    like($code, qr/\A20[01]\z/, "$_[1] $_[2]") or diag(explain($answer));
    return $answer->{version};
}

sub patch { return change($_[0], PATCH => "up/servers/127.0.0.1:$_[1]", { weight => $_[2] }) }
sub one_server { return { levels => [{ servers => [{ server => "127.0.0.1:$_[0]" }] }] } }

# The servers of a cluster, as "1 2*3" by port and weight; the status where it is none.
sub servers {
    my ($nginx, $name) = (@_, 'up');
    my ($code, $cluster) = call($nginx, GET => $name);
    return $code if $code != 200;
    return join ' ', map { ($_->{server} =~ s/.*://r) . ($_->{weight} == 1 ? '' : "*$_->{weight}") }
        map { @{ $_->{servers} } } @{ $cluster->{levels} };
}

sub version { return (call($_[0], GET => $_[1] // 'up'))[1]{version} }

sub files {
    my $nginx = shift;
    opendir my $in, state($nginx) or return 'none';
    return join ' ', sort grep { !/^\./ } readdir $in;
}

sub contents { return NginxRunner::slurp(state($_[0]) . "/$_[1]") }

sub write_file {
    my ($nginx, $name, $text) = @_;
    open my $out, '>', state($nginx) . "/$name" or die "$name: $!";
    print $out $text;
    close $out or die "$name: $!";
    return;
}

sub restart {
    my $nginx = shift;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop('TERM'), 'nginx stops');
    $nginx->start;
    return;
}

# Reloads, and has other blocks.
sub reload_with {
    my ($nginx, $blocks) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(scalar $nginx->reload(http => http($nginx, $blocks)), 'nginx reloads');
    return;
}

# Restarts, and has other blocks.
sub restart_with {
    my ($nginx, $blocks) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    $nginx->{http} = http($nginx, $blocks);
    return restart($nginx);
}

# nginx -t: the status and what it says.
sub tested {
    my $nginx = shift;
    $nginx->write_config;
    my ($root, $binary) = ($nginx->root, $nginx->{binary});
    delete local $ENV{NGINX};
    my $said = `$binary -t -e $root/logs/test.log -p $root/ -c $root/nginx.conf 2>&1`;
    return ($? >> 8, $said);
}

sub ends_well {
    my ($nginx, @expected) = @_;
    local $Test::Builder::Level = $Test::Builder::Level + 1;
    ok(defined $nginx->stop, 'nginx stops');
    my @bad = grep { my $line = $_; !grep { $line =~ $_ } @expected } $nginx->bad_lines;
    is_deeply(\@bad, [], 'no crash, panic or alert');
    return;
}

subtest 'the directory is made as those of nginx are, and nginx -t makes none' => sub {
    my $group = getgrgid((getpwnam 'nobody')[3]) // 'nogroup';
    my $nginx = nginx($up, $> == 0 ? (user => "user nobody $group;") : ());
    my ($status, $said) = tested($nginx);
    is($status, 0, 'the configuration is good') or diag($said);
    is(files($nginx), 'none', 'there is no directory yet');
    $nginx->start;
    my @stat = stat state($nginx);
    is(sprintf('%o', $stat[2] & 07777), '700', 'its mode');
    is($stat[4], $> == 0 ? scalar getpwnam 'nobody' : $>, 'its owner');
    is(files($nginx), '', 'nothing is in it');
    patch($nginx, 1, 5);
    is(files($nginx), 'up.json', 'but what was changed');
    is(sprintf('%o', (stat state($nginx) . '/up.json')[2] & 07777), '600', 'the mode of the file');
    restart($nginx);
    is(servers($nginx), '1*5 2*2', 'it is read again');
    ends_well($nginx);
};

subtest 'changes are there after a restart and a reload' => sub {
    my $nginx = nginx("$up upstream other { checkups_cluster; server 127.0.0.1:3; }")->start;
    my %versions;
    my $remember = sub { ok(!$versions{ $_[0] }++, "version $_[0] is new") };
    $remember->(version($nginx));
    $remember->(patch($nginx, 1, 5));
    my $before = patch($nginx, 2, 7);
    $remember->($before);
    $remember->(change($nginx, PUT => 'born', one_server(4)));
    $remember->(change($nginx, DELETE => 'other'));
    my $shown = (call($nginx, GET => ''))[1];
    for my $how ('restart', 'reload', 'restart') {
        $how eq 'reload' ? ok(scalar $nginx->reload, 'nginx reloads') : restart($nginx);
        is_deeply((call($nginx, GET => ''))[1], $shown, "all is as it was after a $how, versions too") for 1 .. 4;
    }
    is_deeply([sort keys %$shown], ['born', 'up'], 'what was deleted is not there');
    is(version($nginx), $before, 'the version is the same');
    $remember->(patch($nginx, 1, 9));
    restart($nginx);
    $remember->(patch($nginx, 1, 10));
    my ($code, $answer) = call($nginx, POST => 'up/rollback', { version => $before });
    is($code, 200, 'a rollback to what was before the restarts') or diag(explain($answer));
    $remember->($answer->{version});
    is(servers($nginx), '1*5 2*7', 'it is as it was then');
    change($nginx, DELETE => 'born');
    restart($nginx);
    is(servers($nginx, 'born'), 404, 'what came to be at run time and was deleted stays so');
    $remember->(change($nginx, PUT => 'born', one_server(5)));
    is(files($nginx), 'born.json other.json up.json', 'the files');
    ends_well($nginx);
};

subtest 'an upgrade of nginx by USR2' => sub {
    my $nginx = nginx($up);
    $nginx->write_config;
    my ($root, $binary) = ($nginx->root, $nginx->{binary});
    my $text = NginxRunner::slurp("$root/nginx.conf");
    # nginx ignores USR2 while the process is there that it was started by.
    $text =~ s/daemon off;/daemon on;/;
    open my $out, '>', "$root/nginx.conf" or die "nginx.conf: $!";
    print $out $text;
    close $out or die "nginx.conf: $!";
    my $pid = sub { my ($is) = NginxRunner::slurp("$root/logs/nginx.pid" . ($_[0] // '')) =~ /(\d+)/; return $is };
    delete local $ENV{NGINX};
    is(system($binary, '-e', "$root/logs/error.log", '-p', "$root/", '-c', "$root/nginx.conf"), 0, 'nginx starts');
    my $old = wait_until(10, $pid) or return;
    NginxRunner::guardian_knows("+$old");
    my $version = patch($nginx, 1, 5);
    kill USR2 => $old;
    my $new = wait_until(10, sub { my $is = $pid->(); $is && $is != $old && $pid->('.oldbin') && $is });
    ok($new, 'there is another nginx') or return kill QUIT => $old;
    NginxRunner::guardian_knows("+$new");
    kill QUIT => $old;
    ok(wait_until(10, sub { !is_running($old) }), 'the old one ends');
    NginxRunner::guardian_knows("-$old");
    is(servers($nginx), '1*5 2*2', 'the new one has what was changed');
    is(version($nginx), $version, '... in the same version');
    cmp_ok(patch($nginx, 1, 6), '>', $version, '... and another version for what is changed');
    kill QUIT => $new;
    ok(wait_until(10, sub { !is_running($new) }), 'the new one ends');
    NginxRunner::guardian_knows("-$new");
    is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
};

subtest 'another nginx has written a newer file' => sub {
    my $nginx = nginx($up)->start;
    patch($nginx, 1, 5);
    # The versions of an nginx begin by the second of its start.
    my $second = time;
    wait_until(5, sub { time > $second + 1 });
    my $other = nginx($up);
    $other->{http} = $nginx->{http};
    $other->start;
    is(servers($other), '1*5 2*2', 'another nginx has what was changed');
    patch($other, 1, 6);
    my ($code, $body) = call($nginx, PATCH => 'up/servers/127.0.0.1:1', { weight => 7 });
    is("$code $body->{error}{code}: $body->{error}{text}", '507 StateNotKept: another nginx has written newer settings of this cluster', 'the first one does not undo it');
    is(servers($nginx), '1*5 2*2', 'and is as it was');
    $nginx->reload;
    is(servers($nginx), '1*6 2*2', 'a reload takes up what is newer');
    patch($nginx, 1, 7);
    is(servers($nginx), '1*7 2*2', 'then it is changed again');
    ends_well($_) for $other, $nginx;
};

subtest 'what cannot be read is kept aside' => sub {
    my $nginx = nginx($up)->start;
    patch($nginx, 1, 5);
    ok(defined $nginx->stop('TERM'), 'nginx stops');
    my $good = contents($nginx, 'up.json');
    my $newer = $good =~ s/"checkups_state":1/"checkups_state":99/r;
    for my $case (
        ['no text'      => 'up.json', "\xff\xfe\0", 'it is no file of checkups_state'],
        ['nothing'      => 'up.json', '', 'it is no file of checkups_state'],
        ['other JSON'   => 'up.json', "{\"a\":1}\n{}\n", 'it is no file of checkups_state'],
        ['half of it'   => 'up.json', substr($good, 0, length($good) / 2), 'it is damaged'],
        ['another byte' => 'up.json', $good =~ s/"weight":5/"weight":6/r, 'it is damaged'],
        ['newer'        => 'up.json', $newer, 'it has format 99, this version of the module knows format 1'],
        ['of another'   => 'other.json', $good, 'it is about the cluster "up"'],
        ['no name'      => 'a b.json', $good, 'its name is not that of a cluster'],
    ) {
        my ($what, $file, $text, $why) = @$case;
        unlink glob state($nginx) . '/*';
        unlink state($nginx) . "/a b.json$_" for '', '.damaged';
        write_file($nginx, $file, $text);
        my ($status, $said) = tested($nginx);
        is($status, 0, "$what: the configuration is good");
        like($said, qr/checkups_state: "\Q$file\E" is not used: \Q$why\E/, '... nginx -t says it');
        is(files($nginx), $file, '... and leaves it');
        my $from = length $nginx->log;
        $nginx->start;
        is(servers($nginx), '1 2*2', '... nginx starts from the configuration');
        like($nginx->log($from), qr/\[error\] .*checkups_state: "\Q$file\E" is not used: \Q$why\E/, '... and says it');
        is(files($nginx), "$file.damaged", '... it is kept aside');
        is(contents($nginx, "$file.damaged"), $text, '... as it was');
        patch($nginx, 1, 8);
        ok(defined $nginx->stop('TERM'), 'nginx stops');
        $nginx->start;
        is(servers($nginx), '1*8 2*2', '... changes are kept as before');
        ok(defined $nginx->stop('TERM'), 'nginx stops');
    }
    is_deeply([$nginx->bad_lines], [], 'no crash, panic or alert');
};

subtest 'a block that changes wins, one that is written differently does not' => sub {
    my $nginx = nginx($up)->start;
    patch($nginx, 1, 5);
    my $same = "upstream up {\n  # a comment\n  checkups_cluster;\n\n  server 127.0.0.1:1 weight=1;\n"
        . "  server 127.0.0.1:2 max_fails=3 weight=2 fail_timeout=10s;\n}";
    for my $way (\&reload_with, \&restart_with) {
        $way->($nginx, $same);
        is(servers($nginx), '1*5 2*2', 'the same, written differently');
        $way->($nginx, $up);
        is(servers($nginx), '1*5 2*2', '... and as before');
    }
    my $other = $up =~ s/127.0.0.1:1;/127.0.0.1:1 weight=3;/r;
    for my $way (\&reload_with, \&restart_with) {
        my $file = contents($nginx, 'up.json');
        my $from = length $nginx->log;
        $way->($nginx, $other);
        is(servers($nginx), '1*3 2*2', 'another weight: the block counts');
        is(scalar(grep { $_ eq 'cluster "up": what was changed at run time holds no more: its block in the configuration has changed' }
            $nginx->notices($from)), 1, '... it is logged');
        is(files($nginx), 'up.json.old', '... the file is kept aside');
        is(contents($nginx, 'up.json.old'), $file, '... as it was');
        $way->($nginx, $up);
        is(servers($nginx), '1 2*2', '... what was changed does not come back');
        patch($nginx, 1, 5);
    }
    ends_well($nginx);
};

subtest 'blocks that are deleted, removed and added' => sub {
    my $other = 'upstream other { checkups_cluster; server 127.0.0.1:3; }';
    for my $way (\&reload_with, \&restart_with) {
        my $nginx = nginx("$up $other")->start;
        change($nginx, DELETE => 'other');
        is(servers($nginx, 'other'), 404, 'it is deleted');
        $way->($nginx, "$up upstream other { checkups_cluster; server 127.0.0.1:3 weight=1; }") for 1 .. 2;
        is(servers($nginx, 'other'), 404, '... and stays so');
        $way->($nginx, "$up upstream other { checkups_cluster; server 127.0.0.1:4; }");
        is(servers($nginx, 'other'), '4', '... until its block changes');

        patch($nginx, 1, 5);
        $way->($nginx, $other);
        is(servers($nginx), 404, 'a block that is removed');
        like($nginx->log, qr/cluster "up": what was changed at run time holds no more: its block is not in the configuration any more/, '... is told of');
        $way->($nginx, "$up $other");
        is(servers($nginx), '1 2*2', '... when it is there again, it counts');

        change($nginx, PUT => 'born', one_server(5));
        $way->($nginx, "$up upstream born { checkups_cluster; server 127.0.0.1:6; }");
        is(servers($nginx, 'born'), '6', 'a block for what came to be at run time');
        like($nginx->log, qr/cluster "born": what was changed at run time holds no more: it is in the configuration now/, '... is told of');
        $way->($nginx, $up);
        is(servers($nginx, 'born'), 404, '... and that does not come back');
        ends_well($nginx);
    }
};

subtest 'another size of the zone' => sub {
    for my $with (1, 0) {
        my $nginx = nginx($up);
        my $http = $with ? $nginx->{http} : $up;
        $nginx->{http} = $http;
        $nginx->start;
        my $version = patch($nginx, 1, 5);
        change($nginx, PUT => 'born', one_server(4));
        for my $size ('1m', '2m') {
            ok(scalar $nginx->reload(http => "checkups_zone checkups:$size; $http"), "now it has $size");
            is(servers($nginx), '1*5 2*2', '... what was changed is there');
            is(version($nginx), $version, '... in the same version');
            is(servers($nginx, 'born'), '4', '... so is what came to be');
        }
        cmp_ok(patch($nginx, 1, 6), '>', $version, '... versions go on');
        change($nginx, POST => 'up/rollback', { version => $version });
        is(servers($nginx), '1*5 2*2', '... so do earlier ones');
        ends_well($nginx);
    }
};

subtest 'checkups_state is added while nginx runs' => sub {
    my $nginx = nginx($up);
    my $with = $nginx->{http};
    $nginx->{http} = $up;
    $nginx->start;
    patch($nginx, 1, 5);
    change($nginx, PUT => 'born', one_server(4));
    ok(scalar $nginx->reload, 'nginx reloads');
    is(servers($nginx), '1*5 2*2', 'a reload keeps what was changed');
    ok(scalar $nginx->reload(http => $with), 'it gets a directory');
    is(files($nginx), 'born.json up.json', 'what was changed before is in it');
    restart($nginx);
    is(join(' | ', servers($nginx), servers($nginx, 'born')), '1*5 2*2 | 4', 'a restart keeps it');
    ends_well($nginx);
};

subtest 'what cannot be written changes nothing' => sub {
    my $nginx = nginx($up)->start;
    my $version = patch($nginx, 1, 5);
    my $file = contents($nginx, 'up.json');
    mkdir state($nginx) . '/up.json.tmp' or die "mkdir: $!";
    for my $request (
        [PATCH => 'up/servers/127.0.0.1:1', { weight => 6 }],
        [PUT => 'up', one_server(4)],
        [POST => 'up/servers', { server => '127.0.0.1:9' }],
        [DELETE => 'up/servers/127.0.0.1:2'],
        [DELETE => 'up'],
    ) {
        my ($code, $answer) = call($nginx, @$request);
        is("$code $answer->{error}{code}", '507 StateNotKept', "$request->[0] $request->[1]");
        like($answer->{error}{text}, qr/up\.json\.tmp/, '... says of what file');
        is(servers($nginx), '1*5 2*2', '... nothing is changed') for 1 .. 4;
        is(version($nginx), $version, '... nor is the version');
        is(contents($nginx, 'up.json'), $file, '... nor the file');
    }
    is((call($nginx, PUT => 'born', one_server(4)))[0], 201, 'another cluster is created');
    rmdir state($nginx) . '/up.json.tmp' or die "rmdir: $!";
    cmp_ok(patch($nginx, 1, 7), '>', $version, 'it can be changed again');
    restart($nginx);
    is(join(' | ', servers($nginx), servers($nginx, 'born')), '1*7 2*2 | 4', 'and that is kept');
    ends_well($nginx);
};

subtest 'a full disk' => sub {
    my $nginx = nginx($up);
    mkdir state($nginx), 0700 or die "mkdir: $!";
    my $mounted = $> == 0 && system('mount -t tmpfs -o size=64k,mode=700 tmpfs ' . state($nginx) . ' 2>/dev/null') == 0;
    plan skip_all => 'nothing can be mounted' if !$mounted;
    $nginx->start;
    my $version = patch($nginx, 1, 5);
    open my $out, '>:unix', state($nginx) . '/filler' or die "filler: $!";
    1 while syswrite $out, 'x' x 4096;
    close $out;
    my $file = contents($nginx, 'up.json');
    my ($code, $answer) = call($nginx, PATCH => 'up/servers/127.0.0.1:1', { weight => 6 });
    is("$code $answer->{error}{code}", '507 StateNotKept', 'a change is refused');
    like($answer->{error}{text}, qr/No space left on device/, '... and it is said why');
    is(servers($nginx), '1*5 2*2', '... nothing is changed') for 1 .. 4;
    is(version($nginx), $version, '... nor is the version');
    is(contents($nginx, 'up.json'), $file, '... nor the file');
    is(files($nginx), 'filler up.json', '... and nothing is left');
    unlink state($nginx) . '/filler';
    patch($nginx, 1, 7);
    restart($nginx);
    is(servers($nginx), '1*7 2*2', 'with room it is kept');
    ends_well($nginx);
    is(system('umount ' . state($nginx)), 0, 'it is unmounted');
};

# Has all that writes wait, until the result is dropped.
sub hold {
    open my $directory, '<', state(shift) or die "open: $!";
    flock $directory, LOCK_EX or die "flock: $!";
    return $directory;
}

# The workers that wait for it.
sub waiting {
    my $nginx = shift;
    my %waits = map { /-> FLOCK\s+\S+\s+\S+\s+(\d+)/ ? ($1 => 1) : () } split /\n/, NginxRunner::slurp('/proc/locks');
    return grep { $waits{$_} } $nginx->workers;
}

subtest 'a reload while a change is being written' => sub {
    my $nginx = nginx($up)->start;
    patch($nginx, 1, 5);
    my $held = hold($nginx);
    my $socket = send_change($nginx, PATCH => 'up/servers/127.0.0.1:1', { weight => 6 });
    my $begun = wait_until(5, sub { waiting($nginx) });
    plan skip_all => 'the system does not tell who waits' if !$begun;
    my $from = length $nginx->log;
    my @old = $nginx->workers;
    $nginx->signal('HUP');
    my $start = now();
    is(servers($nginx), '1*5 2*2', 'requests are answered meanwhile') for 1 .. 4;
    cmp_ok(now() - $start, '<', 2, '... at once');
    sleep 0.3;
    close $held;
    is($nginx->answer($socket)->{code}, 200, 'the change is made');
    my %old = map { $_ => 1 } @old;
    ok(wait_until(10, sub { my @now = $nginx->workers; @now == 2 && !grep { $old{$_} } @now }), 'so is the reload');
    is(servers($nginx), '1*6 2*2', '... and it has the change');
    patch($nginx, 1, 7);
    ends_well($nginx);
};

subtest 'a worker is killed while it writes' => sub {
    my $nginx = nginx($up)->start;
    my $version = patch($nginx, 1, 5);
    for my $round (1 .. 3) {
        my $held = hold($nginx);
        my $socket = send_change($nginx, PATCH => 'up/servers/127.0.0.1:1', { weight => 60 });
        my ($worker) = @{ wait_until(5, sub { my @all = waiting($nginx); @all ? \@all : undef }) // [] };
        plan skip_all => 'the system does not tell who waits' if !$worker;
        $nginx->signal('KILL', $worker);
        is($nginx->answer($socket)->{code}, 0, 'the change is not answered');
        close $held;
        my $start = now();
        my $next = patch($nginx, 2, 10 + $round);
        cmp_ok(now() - $start, '<', 2, 'another worker changes something at once');
        cmp_ok($next, '>', $version, '... by a newer version');
        $version = $next;
        is(servers($nginx), '1*5 2*' . (10 + $round), 'what was not answered is not there');
        ok(wait_until(5, sub { $nginx->workers == 2 }), 'there are two workers again');
    }
    restart($nginx);
    is(servers($nginx), '1*5 2*13', 'nor is it after a restart');
    is(files($nginx), 'up.json', 'and nothing is left of it');
    ends_well($nginx, qr/exited on signal 9$/);
};

done_testing();
