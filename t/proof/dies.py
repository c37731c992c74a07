#!/usr/bin/env python3
"""A server dies under load: what clients lose by it, and how soon it is out of use.

Usage: t/proof/dies.py [--sample] [--rounds N] [DEATH ...]

Three proxies of 4 workers each have the same three servers: `stock` is nginx's round robin without
checks, `checked` the same with checkups_check, and `cluster` has checkups_cluster and checkups_check.
All have a zone and the same max_fails. Each is asked by GET, which nginx retries, and by POST, which
it does not once the request was sent, at a steady rate over many connections, all at the same time:
they live through the same death. The DEATHs are

  killed    SIGKILL, connections are refused from then on
  hanging   SIGSTOP, connections are accepted and nothing comes
  failing   checks are answered with 500, requests as before

and later the server returns. What is judged:

  GET   no more are lost than stock nginx loses in the same rounds.
  POST  likewise, but for chance: what is lost is what happens to be at the server when it dies, or comes
        until it is out of use. Where two proxies lose alike, each request that is lost may have been that
        of one or of the other. It fails where a part as large as that of the proxy with checks would
        then come by chance less than once in 10,000 times.
  After the verdict is in the log, no request that begins comes to the server.
  The time from the death to the verdict in the log: interval + timeout + 100 ms at the most. Rounds in
        which this process itself was held up for longer than 50 ms until then are made again: the same
        may have happened to worker 0.
  After its return it has its third of the requests again, once the check has passed and nginx's own
        fail_timeout is over (which nginx counts in whole seconds).

Each line is a claim, the figure that was measured, the limit, and whether that holds; the exit status
is 1 where one does not. --sample is one round of each death.

Environment: NGINX and MODULE are the paths of the binary and the module, BUILD what to call them.
"""

import math
import os
import random
import re
import statistics
import sys
import time
from collections import namedtuple
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
sys.dont_write_bytecode = True

from command import Command, short  # noqa: E402
from processes import HOST, Nginx, free_port, now, remove  # noqa: E402
from steady import Backend, Steady  # noqa: E402

INTERVAL, TIMEOUT, LEEWAY = 1, 0.5, 0.1  # seconds
HELD_UP = 0.05  # seconds
FAIL_TIMEOUT = 1  # seconds
DELAY = 0.05  # seconds: what makes requests be at a server when it dies
CONNECTIONS, EVERY = 256, 0.8  # of each method to each proxy; seconds
CHANCE = 1e-4
KINDS = ("stock", "checked", "cluster")
METHODS = ("GET", "POST")

# What all three have besides; `patience` is for how long nginx waits for an answer, in ms.
Setting = namedtuple("Setting", "words patience upstream location zone")
SETTINGS = (
    (Setting("nginx waits 2 s", 2000, "", "", True), ("killed", "hanging", "failing")),
    (Setting("nginx waits 300 ms", 300, "", "", True), ("hanging",)),
    (
        Setting("keepalive", 2000, "keepalive 64;", 'proxy_http_version 1.1; proxy_set_header Connection "";', True),
        ("killed", "hanging"),
    ),
    (Setting("no zone", 2000, "", "", False), ("killed", "hanging")),
)
# For how long it is dead, and how long its return is looked at, in seconds. What waits for a hanging
# server that returns is not lost: it has to be dead until nginx has given up what came before the verdict.
DEAD, RETURNED = 4, 4
SAMPLE = Setting("nginx waits 1 s", 1000, "", "", True)
SAMPLE_TIMES = {"killed": (1.8, 2.7), "hanging": (2.8, 2.7), "failing": (1.8, 1.8)}

BEGIN = {"killed": Backend.kill, "hanging": Backend.hang, "failing": Backend.fail_checks}
END = {"killed": Backend.start, "hanging": Backend.go_on, "failing": Backend.pass_checks}

# What came of one proxy in one round. Times are in seconds since the death, or None.
Result = namedtuple("Result", "asked lost longest tries late out share")


class Log:
    """When which verdicts about a server have come to the log of a proxy."""

    def __init__(self, proxy, address):
        self.path = f"{proxy.root}/logs/error.log"
        self.read = os.path.getsize(self.path)
        self.pattern = re.compile(rf'server "{re.escape(address)}": from \w+ to (\w+)')
        self.seen = {}  # by the new state: the first time

    def look(self):
        if os.path.getsize(self.path) == self.read:
            return
        time = now()
        with open(self.path, "rb") as log:
            log.seek(self.read)
            text = log.read()
        whole = text[: text.rfind(b"\n") + 1]
        self.read += len(whole)
        for state in self.pattern.findall(whole.decode(errors="replace")):
            self.seen.setdefault(state, time)


def watch(logs, until):
    """Look into the logs every other millisecond; return by when this was held up, and for how long."""
    gaps, last = [], now()
    while last < until:
        time.sleep(0.002)
        time_now = now()
        if time_now - last > HELD_UP:
            gaps.append((last, time_now - last))
        last = time_now
        for log in logs:
            log.look()
    return gaps


def proxy(kind, setting, servers):
    port = free_port()
    lines = " ".join(f"server {server.address} max_fails=1 fail_timeout={FAIL_TIMEOUT}s;" for server in servers)
    block = {
        "stock": "zone up 256k;" if setting.zone else "",
        "checked": "zone up 256k;" if setting.zone else "",
        "cluster": "checkups_cluster;",
    }[kind]
    check = f"checkups_check http uri=/check interval={INTERVAL}s timeout={round(TIMEOUT * 1000)}ms;"
    nginx = Nginx(
        f"""{'' if kind == "stock" else "checkups_zone checkups:4m;"}
        keepalive_requests 1000000;
        upstream up {{ {block} {lines} {setting.upstream} {'' if kind == "stock" else check} }}
        server {{
            listen {HOST}:{port} backlog=4096;
            location / {{
                proxy_pass http://up;
                proxy_connect_timeout {setting.patience}ms;
                proxy_read_timeout {setting.patience}ms;
                add_header X-Tried $upstream_addr always;
                {setting.location}
            }}
        }}""",
        workers=4,
        connections=4096,
        module=kind != "stock",
    )
    nginx.port, nginx.kind = port, kind
    return nginx.start()


def result(kind, record, victim, died, returned, log):
    everything = [one for method in METHODS for one in record[method]]
    out = log.seen.get("err") if log else None
    back = log.seen.get("ok", math.inf) if log else 0
    # Requests that were at work on it have made nginx's time out of use begin anew, unless they never fail.
    passive = FAIL_TIMEOUT + 1 if any(len(one.tried) > 1 or one.failure for one in everything) else 0
    again = max(returned + passive, back) + 0.1
    served = [one.tried[-1] for one in everything if one.at >= again and one.tried]
    return Result(
        {method: len(record[method]) for method in METHODS},
        {method: [(one.at - died, one.failure) for one in record[method] if one.failure] for method in METHODS},
        max((one.took for one in record["GET"]), default=0),
        sum(died <= one.at < returned and victim.address in one.tried for one in everything),
        sum(out < one.at < returned and victim.address in one.tried for one in everything) if out else None,
        out and out - died,
        served.count(victim.address) / len(served) if served else None,
    )


def one_round(death, proxies, servers, victim, dead, returned_for):
    """The results by kind, and by when and for how long this process was held up."""
    load = Steady([nginx.port for nginx in proxies], METHODS, CONNECTIONS, EVERY)
    time.sleep(0.3 + random.random() * INTERVAL)
    logs = {nginx.kind: Log(nginx, victim.address) for nginx in proxies if nginx.kind != "stock"}
    died = now()
    BEGIN[death](victim)
    gaps = watch(logs.values(), died + dead)
    returned = now()
    END[death](victim)
    watch(logs.values(), returned + returned_for)
    records = load.stop()
    results = {
        nginx.kind: result(
            nginx.kind, {m: records[nginx.port, m] for m in METHODS}, victim, died, returned, logs.get(nginx.kind)
        )
        for nginx in proxies
    }
    outs = [one.out for one in results.values() if one.out is not None]
    held_up = max((length for at, length in gaps if at - died <= max(outs, default=dead)), default=0)
    return results, held_up


def no_more(lost, lost_by_stock):
    """Whether the former is no larger than the latter, but for chance."""
    both = lost + lost_by_stock
    return sum(math.comb(both, k) for k in range(lost, both + 1)) / 2**both >= CHANCE


def times(seconds):
    return "never" if seconds is None else f"{seconds / INTERVAL:.2f}"


def judge(table, death, setting, rounds):
    """The rows of one death. `rounds` are the results by kind, and whether the times count."""
    print(f"{death}, {setting.words}: {len(rounds)} round{'s' * (len(rounds) > 1)}")
    sums = {}
    for kind in KINDS:
        results = [results[kind] for results, _ in rounds]
        for method in METHODS:
            lost = [one for result in results for one in result.lost[method]]
            sums[kind, method] = len(lost)
            figure = f"{len(lost)} of {sum(result.asked[method] for result in results)}"
            stock = sums["stock", method]
            if kind == "stock":
                limit, holds = "", None
            elif method == "GET":
                limit, holds = f"<= {stock}", len(lost) <= stock
            else:
                limit, holds = f"{stock}, but for chance", no_more(len(lost), stock)
            table.row(f"{kind}: {method} requests lost", figure, limit, holds)
            if holds is False or (method == "GET" and lost):
                for at, what in lost[:5]:
                    table.note(f"{at * 1000:.0f} ms after the death: {what}")
        longest = max(result.longest for result in results)
        tries = sum(result.tries for result in results)
        table.note(f"{tries} requests came to it before its return, the longest GET took {longest:.2f} s")
        if kind != "stock":
            late = [result.late for result in results]
            known = None not in late
            table.row(f"{kind}: begun after the verdict, came to it", str(sum(late)) if known else "no verdict", "0", known and sum(late) == 0)
            outs = [results[kind].out for results, counts in rounds if counts]
            if not outs:
                table.row(f"{kind}: out of use after", "the machine was held up", "", None)
            elif None in outs:
                table.row(f"{kind}: out of use after", "never", "", False)
            else:
                limit = INTERVAL + TIMEOUT + LEEWAY
                low, middle, high = (times(of(outs)) for of in (min, statistics.median, max))
                figure = f"{low} to {high} (median {middle}) intervals" if len(outs) > 1 else f"{middle} intervals"
                table.row(f"{kind}: out of use after", figure, f"<= {times(limit)}", max(outs) <= limit)
        shares = [result.share for result in results]
        known = None not in shares
        figure = f"{min(shares):.1%} to {max(shares):.1%}" if known else "no request"
        good = known and all(abs(share - 1 / 3) < 0.03 for share in shares)
        table.row(f"{kind}: its share after its return", figure, "" if kind == "stock" else "33.3% +- 3", None if kind == "stock" else good)


def main():
    command = Command(__doc__, BEGIN, 46, 40, 22, of="death")
    command.add_sample()
    command.add("--rounds", type=int, default=6, help="of each death under each setting; --sample: 1")
    options = command.options()
    command.begin(short("a server dies", options))
    table, sample = command.table, options.sample
    wanted = 1 if sample else options.rounds
    for setting, deaths in ((SAMPLE, tuple(BEGIN)),) if sample else SETTINGS:
        deaths = [death for death in deaths if death in (options.parts or BEGIN)]
        if not deaths:
            continue
        servers = [Backend(DELAY) for _ in range(3)]
        proxies = [proxy(kind, setting, servers) for kind in KINDS]
        # The first checks of all servers are over within an interval.
        time.sleep(INTERVAL + 0.1)
        for death in deaths:
            dead, returned_for = SAMPLE_TIMES[death] if sample else (DEAD, RETURNED)
            rounds, again = [], 0
            while len(rounds) < wanted:
                results, held_up = one_round(death, proxies, servers, servers[len(rounds) % 3], dead, returned_for)
                counts = held_up <= HELD_UP
                if not counts and not sample and again < wanted:
                    again += 1
                    table.note(f"{death}, {setting.words}: held up for {held_up * 1000:.0f} ms, the round is made again")
                    continue
                rounds.append((results, counts))
            judge(table, death, setting, rounds)
        for nginx in proxies:
            bad = nginx.bad_lines()
            if bad:
                table.row(f"{nginx.kind}: lines that are never right", str(len(bad)), "0", False)
                table.note(bad[0])
        remove(*proxies)
        for server in servers:
            server.kill()
    return command.end()


if __name__ == "__main__":
    sys.exit(main())
