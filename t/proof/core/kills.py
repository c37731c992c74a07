#!/usr/bin/env python3
"""What a worker leaves behind that is killed: nothing.

  random   workers are killed at random under load
  NAME     workers kill themselves at a point of the code (see src/shm/fault.rs) under load, while servers
           fail, checks go up and down, and the servers are changed; spaces in names are written as -
"""

import bisect
import os
import random
import re
import signal
import sys
import time

import lib
from lib import Backends, Load, Proxy, Slow, at_once, free_port, is_running, milliseconds, now, peers_of, wait_until


def exact(table, proxy, slow, what):
    """Whether the limit of 10 is exact when nothing else goes on."""
    wait_until(5, lambda: slow.current() == 0)
    time.sleep(0.2)
    slow.set_delay(0.6, 0.6)
    found, highest = {}, []
    for _ in range(3):
        slow.take_highest()
        found = at_once(proxy.port, "/only", 15)
        highest.append(slow.take_highest())
        if highest[-1] != 10 or found != {"200": 10, "502": 5}:
            break
        time.sleep(0.1)
    slow.set_delay(0.02, 0.05)
    table.row(f"{what}: 15 at once to the one server with max_conns=10, at the end", f"{found}, {highest} at once", "10 come through", found == {"200": 10, "502": 5} and set(highest) == {10})


def setup(checks, main="", stock=False):
    backends = Backends(6).start()
    slow = Slow()
    dead = [f"127.0.0.1:{free_port()}" for _ in range(20)]
    a, b, c, d, e, f = backends.addresses()
    upstreams = f"""
        upstream up {{ checkups_cluster; server {a} weight=5; server {b} weight=3; server {c}; {checks} keepalive 16; }}
        upstream bad {{ checkups_cluster; server {a}; server {b} weight=4; server {dead[0]} max_fails=0 weight=8; }}
        upstream out {{ checkups_cluster; server {c}; {' '.join(f'server {address} fail_timeout=1s;' for address in dead[1:])} }}
        upstream put {{ checkups_cluster; server {d}; server {e}; server {f}; {checks} }}
        upstream few {{ checkups_cluster; server {slow.address} max_conns=10 max_fails=0; server {d}; }}
        upstream only {{ checkups_cluster; server {slow.address} max_conns=10 max_fails=0; }}
        """
    if stock:
        upstreams = re.sub(r"upstream (\w+) { checkups_cluster;", r"upstream \1 { zone \1 64k;", upstreams)
    proxy = Proxy(
        upstreams,
        """location / { proxy_pass http://up; }
        location /bad { proxy_pass http://bad; }
        location /out { proxy_pass http://out; }
        location /put { proxy_pass http://put; }
        location /few { proxy_pass http://few; }
        location /only { proxy_pass http://only; }""",
        main=main,
    )
    return backends, slow, proxy


def kill_one(proxy):
    """Kill a worker; return the time and the ports of the clients whose requests it had, or None."""
    workers = proxy.workers()
    if not workers:
        return None
    victim = random.choice(workers)
    try:
        os.kill(victim, signal.SIGSTOP)  # so that it can be seen which connections it had
        wait_until(0.5, lambda: lib._stat(victim)[0] in ("T", None), every=0.0002)
        ports = peers_of(victim)
        time_ = now()
        os.kill(victim, signal.SIGKILL)
    except ProcessLookupError:
        return None
    return time_, ports


def kill_many(proxy, count, rate, look):
    """Load, and so many kills; call `look` now and then. Returns the record, the kills, and their time."""
    load = Load(proxy.port, 64, ("/", "/few", "/", "/few", "/put"))
    time.sleep(1)
    start, kills = now(), []
    while len(kills) < count:
        begun = now()
        killed = kill_one(proxy)
        if killed:
            kills.append(killed)
        if len(kills) % 50 == 0:
            look()
        time.sleep(max(0.0, 1 / rate - (now() - begun)) * random.uniform(0.5, 1.5))
    end = now()
    time.sleep(1)
    return load.finish(), kills, start, end


def at_random(table, sample):
    count, rate = (60, 30) if sample else (1000, 30)
    # What the machine makes of it, without the module.
    backends, slow, stock = setup("", stock=True)
    stock.start()
    record, _, start, end = kill_many(stock, count // 2, rate, lambda: None)
    stock.remove(), backends.remove(), slow.stop()
    waits = record.longest(), record.longest_gap(), record.longest_of_a_line(start, end)
    table.note(f"nginx's own round robin, {count // 2} kills: {len(record.times)} answered, {len(record.wrong)} 5xx; the three longest times below: {', '.join(map(milliseconds, waits))}")

    backends, slow, proxy = setup("checkups_check http uri=/health interval=50ms;")
    proxy.start()
    wrong = []

    def look():
        answer = insist(proxy.verify)
        if answer:
            wrong.append(answer)

    record, kills, start, end = kill_many(proxy, count, rate, look)
    name = "random kills"
    deaths = proxy.deaths()
    table.row(f"{name}: workers killed, {deaths / (end - start):.0f} a second", str(deaths), f">= {count}", deaths >= count)
    table.note(f"{len(record.times)} requests answered, {len(record.times) / (record.times[-1] - record.times[0]):.0f} a second; {len(record.workers)} workers served")
    own = record.longest(), record.longest_gap(), record.longest_of_a_line(start, end)
    whats = "from connect to answer (each worker has connections of its own)", "without any answer", "without an answer on one of the 64 connections"
    for what, figure, other in zip(whats, own, waits):
        # Where a worker is killed as soon as it is there, its connections wait for the next one: nginx's own do, too.
        limit = max(0.1, 1.5 * other)
        table.row(f"  the longest time {what}", milliseconds(figure), f"< {limit * 1000:.0f} ms", figure < limit)
    many = sum(took > 0.1 for took in record.took)
    table.note(f"answers that took more than 100 ms: {many} of {len(record.took)}")
    after = []
    for time_, _ in kills:
        later = [t for t in record.times[bisect.bisect(record.times, time_):][:1]]
        after.append(later[0] - time_ if later else 2)
    after.sort()
    table.note(f"from a kill to the next answer: median {milliseconds(after[len(after) // 2])}, longest {milliseconds(after[-1])}")
    unexplained = [
        f"a connection from port {port} was cut {milliseconds(t - max((k for k, _ in kills if k <= t), default=0))} after a kill"
        for t, port, *_ in record.cut
        if not any(k <= t < k + 1 and port in ports for k, ports in kills)
    ]
    table.row("  requests without an answer, of which not in the killed worker", f"{len(record.cut)}, {len(unexplained)}", "0 of these", not unexplained)
    table.some(unexplained)
    table.row("  other failures (5xx, answers cut, no connection)", str(len(record.wrong)), "0", not record.wrong)
    table.some([f"{time_ - start:.2f} s: {what}" for time_, what in record.wrong])
    highest = slow.take_highest()
    table.row("  the server with max_conns=10: at most at once", str(highest), "10", highest == 10)
    answer = insist(proxy.verify)
    table.row("  the zone is consistent, now and then and at the end", "; ".join({*wrong, answer} - {""}) or "yes", "yes", not wrong and not answer)
    exact(table, proxy, slow, name)
    finish(table, proxy, name)
    backends.remove(), slow.stop()


def insist(what):
    """Ask until there is an answer: a worker that was killed meanwhile gives none."""
    for _ in range(50):
        try:
            return what()
        except (OSError, ValueError, lib.http.client.HTTPException) as error:
            last = error
    raise last


def finish(table, proxy, name):
    bad = proxy.bad_lines()
    table.row(f"{name}: lines of the log that are never right", str(len(bad)), "0", not bad)
    table.some(bad)
    proxy.remove()


# By point: how many passes of it there are to one death, and how many workers we kill a second besides.
POINTS = {
    "turn": (150, 0),
    "begin": (300, 0),
    "scan": (3000, 0),
    "penalize": (60, 0),
    "eject": (3, 0),
    "observe": (30, 0),
    "reserve": (12, 0),
    "publish": (12, 0),
    "retire": (12, 0),
    "sweep": (30, 0),
    "give back": (150, 8),
}


def at_point(point):
    def part(table, sample):
        seconds = 4 if sample else 12
        passes, rate = POINTS[point]
        checks = "checkups_check http uri=/health interval=10ms;"
        # nginx sets this in the workers only.
        backends, slow, proxy = setup(checks, f'env "CHECKUPS_FAULT={point}={passes}";')
        proxy.start()
        first = proxy.process.pid
        free = insist(proxy.free)
        load = Load(proxy.port, 48, ("/", "/few", "/bad", "/put", "/out", "/few"))
        start = now()
        time.sleep(0.5)
        d, e, f = backends.addresses()[3:]
        number, puts, refused, wrong = 0, 0, [], []
        while now() - start < seconds and proxy.process.poll() is None:
            number += 1
            port = random.choice(backends.ports)
            backends.set_healthy(port, random.random() < 0.6)
            weights = [random.randint(1, 9) for _ in range(3)]
            extra = [f"127.0.0.1:{random.randrange(1, 9)}"] if number % 2 else []
            body = lib.servers(*({"server": s, "weight": w} for s, w in zip((d, e, f), weights)), *({"server": s, "down": True} for s in extra))
            try:
                answer = proxy.put("put", body)
                puts += 1
                if answer:
                    refused.append(answer)
                if number % 20 == 0:
                    answer = proxy.verify()
                    if answer:
                        wrong.append(answer)
            except (OSError, lib.http.client.HTTPException):
                pass  # the worker died
            if rate and number % 4 == 0:
                kill_one(proxy)
            time.sleep(0.02)
        end = now()
        for port in backends.ports:
            backends.set_healthy(port, True)
        record = load.finish()
        deaths = proxy.deaths()
        alive = proxy.process.poll() is None and proxy.process.pid == first
        table.row(f"at \"{point}\": deaths, one in {passes} passes, {seconds} s", str(deaths), ">= 12" if sample else ">= 36", deaths >= (12 if sample else 36))
        table.note(f"{len(record.times)} requests answered, {len(record.cut)} without an answer; {puts} PUTs answered")
        if not alive:
            table.row("  the master lives", "no", "yes", False)
        gap, longest = record.longest_gap(), record.longest()
        table.row("  the longest time without any answer; from connect to answer", f"{milliseconds(gap)}; {milliseconds(longest)}", "< 1 s", gap < 1 and longest < 1)
        line = record.longest_of_a_line(start + 0.5, end)
        table.note(f"the longest time without an answer on one connection: {milliseconds(line)}")
        table.row("  other failures (5xx, answers cut, no connection)", str(len(record.wrong)), "0", not record.wrong)
        table.some([f"{time_ - start:.2f} s: {what}" for time_, what in record.wrong])
        table.row("  PUTs that were refused", str(len(refused)), "0", not refused)
        table.some(refused)
        highest = slow.take_highest()
        table.row("  the server with max_conns=10: at most at once", str(highest), "10", highest == 10)
        answer = insist(proxy.verify)
        table.row("  the zone is consistent, now and then and at the end", "; ".join({*wrong, answer} - {""}) or "yes", "yes", not wrong and not answer)
        insist(lambda: proxy.put("put", lib.servers(d, e, f)))
        lost = free - insist(proxy.free)
        table.note(f"bytes of the zone that are not free again: {lost} ({lost / max(deaths, 1):.0f} a death)")
        proxy.settings["main"] = ""
        proxy.change()
        table.row("  a reload to workers that do not die", "done" if proxy.reload_and_wait() else "hangs", "done", len(proxy.workers()) == 4)
        exact(table, proxy, slow, f"at \"{point}\"")
        finish(table, proxy, f"at \"{point}\"")
        backends.remove(), slow.stop()

    return part


PARTS = {"random": at_random, **{point.replace(" ", "-"): at_point(point) for point in POINTS}}

if __name__ == "__main__":
    sys.exit(lib.main(__doc__, PARTS))
