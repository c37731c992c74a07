#!/usr/bin/env python3
"""Servers change under load: what requests notice of it, what it leaves behind, and how fast it is.

Usage: t/proof/updates.py [--sample] [PART ...]

  load    10,000 updates at 200 a second in a cluster of 100 servers, without state, while 64 connections
          ask 4 workers: servers are added, removed, and get other weights, by POST, DELETE, PATCH and PUT.
          In 5 rounds, in each of which a second with updates follows one without.
  effect  from the reply to an update until it is in use, in each of 4 workers
  state   how many updates a second there are with checkups_state, of one writer and of 16

What is judged of `load`: no request fails; none that begins after the reply that removed a server is sent
to it, until it is added again; the median of the p99 of the rounds with updates is at most 1.25 of that
without; the zone and the workers are as large as before; and what servers that stay get is within 2 % of
their weights, all of a weight taken together: which servers there are besides them does not matter to
that. A round has too few requests for that, as each update begins somewhere else in the order: there it
is 5 %. Where rounds fail for their p99, they are made again, twice at the most: what else runs on the
machine shows in it.

Each line is a claim, the figure that was measured, the limit, and whether that holds; the exit status
is 1 where one does not. --sample is a short version, in which times are shown, but not judged.

Environment: NGINX and MODULE are the paths of the binary and the module, BUILD what to call them.
"""

import bisect
import json
import os
import random
import select
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
sys.dont_write_bytecode = True

from command import run  # noqa: E402
from pace import Paced  # noqa: E402
from processes import HOST, Nginx, Proxy, free_port, now, remove, wait_until  # noqa: E402

SERVERS, CHANGING = 100, 20
WEIGHTS = (1, 1, 2, 5)  # of those that stay, by turns
RATE = 200  # updates a second
PAUSE = 0.02  # seconds: 64 connections then ask some 3000 times a second
KEEPALIVE = "proxy_http_version 1.1; proxy_set_header Connection \"\"; add_header X-Tried $upstream_addr always; add_header X-Worker $pid;"
MOST_RATIO, MOST_OFF, MOST_OFF_IN_ROUND, MOST_EFFECT = 1.25, 0.02, 0.05, 0.001
MOST_GROWTH = 1 << 20  # bytes of a worker


class Api:
    """A kept connection to the API of a proxy, and so to one worker."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @staticmethod
    def request(method, path, value=None):
        body = "" if value is None else json.dumps(value)
        type_ = "" if value is None else "Content-Type: application/json\r\n"
        return f"{method} /api/{path} HTTP/1.1\r\nHost: x\r\n{type_}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    def ask(self, method, path, value=None):
        """The status and the body."""
        self.socket.sendall(self.request(method, path, value))
        return self.answer()

    def answer(self):
        data = self.socket.recv(65536)
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += self._more()
        return int(head[9:12]), body.decode()

    def _more(self):
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("the API closed the connection")
        return data

    def close(self):
        self.socket.close()


def milliseconds(seconds):
    return "never" if seconds is None else f"{seconds * 1000:.2f} ms"


def body(servers):
    """The body of a PUT: one level of servers, by address and weight."""
    return {"levels": [{"servers": [{"server": address, "weight": weight} for address, weight in servers.items()]}]}


class Servers(Nginx):
    """So many addresses, served by one nginx."""

    def __init__(self, count):
        self.port = free_port()
        self.addresses = [f"127.78.{n // 250}.{1 + n % 250}:{self.port}" for n in range(count)]
        listen = " ".join(f"listen {address} backlog=1024;" for address in self.addresses)
        super().__init__(
            f"server {{ {listen} keepalive_requests 1000000000; location / {{ return 200 $server_addr:$server_port; }} }}",
            module=False,
            connections=8192,
        )


def proxy_of(servers, upstream="", main="", http="", workers=4):
    lines = " ".join(f"server {address} weight={weight};" for address, weight in servers.items())
    return Proxy(
        f"{lines} {upstream}",
        location=KEEPALIVE,
        http=f"keepalive_requests 1000000000; {http}",
        listen="reuseport",
        api="write=on",
        main=main,
        workers=workers,
        connections=4096,
    )


def memory(worker):
    """What of a process is in memory, in bytes."""
    with open(f"/proc/{worker}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def processor_time(worker):
    """In seconds."""
    with open(f"/proc/{worker}/schedstat", encoding="ascii") as stat:
        return int(stat.read().split()[0]) / 1e9


def settled_free(proxy, api, servers):
    """The free bytes of the zone with these servers, once what was replaced has been freed. The ten changes
    before are always the same, as they are kept, too."""
    first, *_ = servers
    for weight in [servers[first] + 1, servers[first]] * 6:
        api.ask("PUT", "clusters/up", body({**servers, first: weight}))
    values = []

    def settled():
        values.append(proxy.status()["zone"]["free"])
        return len(values) > 6 and len(set(values[-6:])) == 1

    wait_until(10, settled, every=0.3)
    return values[-1]


class Updates:
    """Updates of a cluster: the servers of `stay` are always there, and those of `come` are not."""

    def __init__(self, api, stay, come):
        self.api, self.stay, self.come = api, stay, come
        self.there = {address: 1 for address in come}
        self.number = 0
        self.refused = []
        self.spent = []
        self.behind = 0.0
        self.gone = {address: [] for address in come}  # from when until when it was not there

    def removed(self, addresses, time):
        for address in addresses:
            self.gone[address].append([time, float("inf")])

    def added(self, addresses, time):
        for address in addresses:
            self.gone[address][-1][1] = time

    def put(self, there):
        """The whole list, as it is to be."""
        new = [address for address in there if address not in self.there]
        old = [address for address in self.there if address not in there]
        self.added(new, now())
        self.send("PUT", "clusters/up", body({**self.stay, **there}))
        self.removed(old, now())
        self.there = dict(there)

    def send(self, method, path, value=None):
        start = now()
        status, text = self.api.ask(method, path, value)
        self.spent.append(now() - start)
        if status not in (200, 201):
            self.refused.append(f"{method} {path}: {status} {text}")

    def one(self):
        """One update, of a kind by turns."""
        kind, self.number = self.number % 8, self.number + 1
        path = "clusters/up/servers"
        absent = [address for address in self.come if address not in self.there]
        if kind in (0, 4) and len(self.there) > 2:
            address = random.choice(list(self.there))
            self.send("DELETE", f"{path}/{address}")
            self.removed([address], now())
            del self.there[address]
        elif kind in (2, 6) and absent:
            address, weight = random.choice(absent), random.randint(1, 10)
            self.added([address], now())
            self.send("POST", path, {"server": address, "weight": weight})
            self.there[address] = weight
        elif kind == 5:
            chosen = random.sample(self.come, random.randint(2, len(self.come)))
            self.put({address: random.randint(1, 10) for address in chosen})
        elif kind == 3:
            # One that stays, in what does not matter to the order.
            self.send("PATCH", f"{path}/{random.choice(list(self.stay))}", {"max_fails": 1 + self.number % 1000})
        else:
            address = random.choice(list(self.there))
            weight = 1 + (self.there[address] + random.randint(0, 8)) % 10
            self.send("PATCH", f"{path}/{address}", {"weight": weight})
            self.there[address] = weight

    def run(self, count, rate):
        start = now()
        for number in range(count):
            wait = start + number / rate - now()
            if wait > 0:
                time.sleep(wait)
            else:
                self.behind = max(self.behind, -wait)
            self.one()
        return count / (now() - start)


def late(record, updates):
    """Requests that began while a server was not there, and were sent to it nevertheless."""
    found, to_changing = [], 0
    tried = [name.replace(" : ", ", ").split(", ") for name in record.names]
    by_name = [[address for address in addresses if address in updates.gone] for addresses in tried]
    for began, took, index in zip(record.began, record.took, record.tried):
        for address in by_name[index]:
            to_changing += 1
            spans = updates.gone[address]
            place = bisect.bisect_right(spans, began, key=lambda span: span[0]) - 1
            # One that was under way when the server was added again may be sent to it.
            if place >= 0 and began + took < spans[place][1]:
                found.append((began - spans[place][0], address))
    return found, to_changing


def within(record, spans):
    """The indices of the requests that began in one of these spans of time."""
    starts = [start for start, _ in spans]
    for index, began in enumerate(record.began):
        place = bisect.bisect_right(starts, began) - 1
        if place >= 0 and began < spans[place][1]:
            yield index


def p99(took):
    return sorted(took)[len(took) * 99 // 100]


def off(counts, stay):
    """By how much the share of each weight is off, and that of the server furthest off, of those that stay."""
    everything, whole = sum(counts[address] for address in stay), sum(stay.values())
    by_weight, wanted = Counter(), Counter()
    for address, weight in stay.items():
        by_weight[weight] += counts[address]
        wanted[weight] += everything * weight / whole
    of_servers = (abs(counts[address] / (everything * weight / whole) - 1) for address, weight in stay.items())
    return {weight: by_weight[weight] / wanted[weight] - 1 for weight in sorted(wanted)}, max(of_servers)


def shown(parts):
    of_weights, of_servers = parts
    words = " ".join(f"{weight}: {part * 100:+.2f} %" for weight, part in of_weights.items())
    return f"shares by weight {words}, of a server at most {of_servers * 100:.1f} %"


def rounds(table, proxy, updates, stay, count, length, sample):
    """So many rounds with one load each, in which a second with updates follows one without. Judges what
    does not depend on time; returns the p99 of each round with and without updates."""
    figures, failed, requests, lates, changing, everyone, costs = {True: [], False: []}, [], 0, [], 0, Counter(), []
    rates, worst = [], 0
    for number in range(count):
        spans, spent = {True: [], False: []}, {True: 0, False: 0}
        client = Paced(proxy.port, 64, PAUSE)
        time.sleep(0.3)
        for second in range(2 * length):
            busy = second % 2 == number % 2
            before, start = sum(map(processor_time, proxy.workers())), now()
            if busy:
                rates.append(updates.run(RATE, RATE))
            else:
                time.sleep(1)
            spans[busy].append((start, now()))
            spent[busy] += sum(map(processor_time, proxy.workers())) - before
        record = client.stop()
        requests += len(record.began) + len(record.failed)
        failed += record.failed
        took = {}
        for busy, of_kind in spans.items():
            chosen = list(within(record, of_kind))
            took[busy] = [record.took[index] for index in chosen]
            figures[busy].append(p99(took[busy]))
            if busy:
                counts = Counter(record.names[record.tried[index]] for index in chosen)
        everyone += counts
        parts = off(counts, stay)
        worst = max(worst, *map(abs, parts[0].values()))
        found, to_changing = late(record, updates)
        lates += found
        changing += to_changing
        costs.append((spent[True] - spent[False]) / length / RATE)
        table.note(
            f"round {number + 1}: {record.rate():.0f} requests a second, p99 {milliseconds(figures[True][-1])} with updates and {milliseconds(figures[False][-1])}"
            f" without, median {milliseconds(statistics.median(took[True]))} and {milliseconds(statistics.median(took[False]))}; {shown(parts)}"
        )
    made = f"{updates.number} at {statistics.median(rates):.0f} a second"
    table.row("updates; refused", f"{made}; {len(updates.refused)}", "0", not updates.refused)
    for line in updates.refused[:3]:
        table.note(line)
    table.note(f"an update and its reply take {milliseconds(statistics.median(updates.spent))} at the median, p99 {milliseconds(p99(updates.spent))}")
    table.note(f"processor time of an update, in all workers: {statistics.median(costs) * 1e6:.0f} us")
    table.row("  requests; failed", f"{requests}; {len(failed)}", "0", not failed)
    for _, what in failed[:5]:
        table.note(what)
    table.row("  sent to a server after the reply that removed it", f"{len(lates)} of {changing}", "0", not lates and changing > 0)
    for after, address in lates[:5]:
        table.note(f"{address}, {milliseconds(after)} after the reply")
    parts = off(everyone, stay)
    furthest = max(map(abs, parts[0].values()))
    table.row("  during updates, the share of a weight that is furthest off", f"{furthest * 100:.2f} %", f"<= {MOST_OFF:.0%}", None if sample else furthest <= MOST_OFF)
    table.row("    in the round where it is furthest off", f"{worst * 100:.2f} %", f"<= {MOST_OFF_IN_ROUND:.0%}", None if sample else worst <= MOST_OFF_IN_ROUND)
    table.note(shown(parts))
    return figures


def load(table, sample):
    servers = Servers(SERVERS).start()
    addresses = servers.addresses
    come, stay = addresses[:: SERVERS // CHANGING], [a for n, a in enumerate(addresses) if n % (SERVERS // CHANGING)]
    stay = {address: WEIGHTS[n % len(WEIGHTS)] for n, address in enumerate(stay)}
    everyone = {**stay, **{address: 1 for address in come}}
    proxy = proxy_of(everyone, "keepalive 200;").start()
    api = Api(proxy.port)
    count, length = (1, 2) if sample else (5, 10)

    # What is allocated only once is there after this.
    warm = Updates(api, stay, come)
    client = Paced(proxy.port, 64, PAUSE)
    warm.run(400, RATE)
    client.stop()
    free = settled_free(proxy, api, everyone)
    sizes = [memory(worker) for worker in proxy.workers()]
    alive = proxy.workers()

    for attempt in range(1 if sample else 3):
        updates = Updates(api, stay, come)
        figures = rounds(table, proxy, updates, stay, count, length, sample)
        api.ask("PUT", "clusters/up", body(everyone))
        with_updates, without = (statistics.median(figures[busy]) for busy in (True, False))
        ratio = with_updates / without
        if ratio <= MOST_RATIO:
            break
        table.note(f"set {attempt + 1}: median p99 {milliseconds(with_updates)} with updates, {milliseconds(without)} without: {ratio:.2f}")
    table.row(
        f"  median p99 of {count} rounds with updates, {count} without",
        f"{milliseconds(with_updates)}, {milliseconds(without)}: {ratio:.2f}",
        f"<= {MOST_RATIO}",
        None if sample else ratio <= MOST_RATIO,
    )
    left = settled_free(proxy, api, everyone)
    table.row("  bytes free in the zone, before and after", f"{free}, {left}", "the same", left == free)
    grown = max(after - before for before, after in zip(sizes, map(memory, proxy.workers())))
    figure = f"{sum(sizes) / len(sizes) / 1e6:.1f} MB, {grown / 1e6:+.2f} MB at most"
    table.row("  memory of a worker, and by what it grew", figure, f"<= {MOST_GROWTH >> 20} MB", grown <= MOST_GROWTH)
    table.row("  the workers are the same", str(proxy.workers() == alive), "True", proxy.workers() == alive)
    bad = proxy.bad_lines()
    table.row("  lines that are never right", str(len(bad)), "0", not bad)
    api.close()
    remove(proxy, servers)


def effect(table, sample):
    """A server of its own tells when it was asked; a request of each worker is under way at the reply."""
    servers = Servers(2).start()
    old, new = servers.addresses
    proxy = proxy_of({old: 1}, "keepalive 8;").start()
    lines = {}
    for _ in range(500):
        connection = socket.create_connection((HOST, proxy.port), timeout=10)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        worker = _asked(connection)[1]
        if worker in lines:
            connection.close()
        else:
            lines[worker] = connection
        if len(lines) == 4:
            break
    api = Api(proxy.port)
    took, stale, refused = [], 0, 0
    poll = select.poll()
    by_descriptor = {connection.fileno(): connection for connection in lines.values()}
    for descriptor in by_descriptor:
        poll.register(descriptor, select.POLLIN)
    for number in range(100 if sample else 2000):
        wanted = (new, old)[number % 2]
        status, _ = api.ask("PUT", "clusters/up", body({wanted: 1}))
        replied = now()
        for connection in by_descriptor.values():
            connection.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        refused += status != 200
        waiting = set(by_descriptor)
        while waiting and now() - replied < 5:
            for descriptor, _ in poll.poll(1000):
                data = by_descriptor[descriptor].recv(65536)
                if data.endswith(wanted.encode()):
                    took.append(now() - replied)
                    waiting.discard(descriptor)
                else:
                    stale += 1
                    by_descriptor[descriptor].send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        if waiting:
            took.append(float("inf"))
        time.sleep(0.001)
    took.sort()
    half, most = took[len(took) // 2], took[len(took) * 99 // 100]
    updates = 100 if sample else 2000
    table.row(f"{updates} updates: requests after the reply by the list of before", f"{stale} of {len(took)}, {len(lines)} workers", "0, 4", not stale and len(lines) == 4 and not refused)
    figure = f"{milliseconds(half)}, p99 {milliseconds(most)}"
    table.row("  from the reply to the answer by the new list", figure, f"median < {MOST_EFFECT * 1000:.0f} ms", None if sample else half < MOST_EFFECT)
    bad = proxy.bad_lines()
    table.row("  lines that are never right", str(len(bad)), "0", not bad)
    api.close()
    remove(proxy, servers)


def _asked(connection):
    """One request: the body, and the worker."""
    connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    data = connection.recv(65536)
    head, _, text = data.partition(b"\r\n\r\n")
    return text, head.partition(b"X-Worker: ")[2].split(b"\r\n")[0]


def written(proxy, addresses, writers, seconds):
    """How many updates a second so many writers get done, each over its connection; and how many were refused."""
    poll, lines = select.poll(), {}
    for number in range(writers):
        api = Api(proxy.port)
        lines[api.socket.fileno()] = (api, addresses[number % len(addresses)])
        poll.register(api.socket, select.POLLIN)
    number, done, refused, asked, spent = 0, 0, 0, {}, []

    def send(descriptor):
        nonlocal number
        number += 1
        api, address = lines[descriptor]
        asked[descriptor] = now()
        api.socket.sendall(Api.request("PATCH", f"clusters/up/servers/{address}", {"max_fails": 1 + number % 100_000}))

    start = now()
    for descriptor in lines:
        send(descriptor)
    while asked and now() - start < seconds + 20:
        for descriptor, _ in poll.poll(1000):
            status, _ = lines[descriptor][0].answer()
            spent.append(now() - asked.pop(descriptor))
            done += status == 200
            refused += status != 200
            if now() - start < seconds:
                send(descriptor)
    took = now() - start
    for api, _ in lines.values():
        api.close()
    spent.sort()
    return done / took, refused + len(asked), spent[len(spent) // 2], spent[len(spent) * 99 // 100]


def state(table, sample):
    servers = {f"127.78.1.{1 + n}:9": 1 for n in range(SERVERS)}
    folder = tempfile.mkdtemp(prefix="checkups-p.")
    os.chmod(folder, 0o755)
    table.note(f"{SERVERS} servers; the state is on {_file_system(folder)}, where a file of 20 kB with fsync, rename and fsync takes {milliseconds(_kept(folder))}")
    for what, http in (("without state", ""), ("with state", f"checkups_state {folder}/state;")):
        for writers in (1, 16):
            proxy = proxy_of(servers, http=http).start()
            rate, refused, half, most = written(proxy, list(servers), writers, 1 if sample else 5)
            bad = proxy.bad_lines()
            figure = f"{rate:.0f} a second; {milliseconds(half)}, p99 {milliseconds(most)}"
            table.row(f"{what}, {writers} writer{'s' * (writers > 1)}: updates, and from request to reply", figure, "none refused", not refused and not bad)
            for line in bad[:3]:
                table.note(line)
            remove(proxy)
            shutil.rmtree(f"{folder}/state", ignore_errors=True)
    shutil.rmtree(folder)


def _file_system(folder):
    return subprocess.run(["stat", "-f", "-c", "%T", folder], capture_output=True, text=True, check=True).stdout.strip()


def _kept(folder):
    """What the disk alone takes for a file to be there for certain, at the median of 50."""
    spent = []
    directory = os.open(folder, os.O_RDONLY)
    for _ in range(50):
        start = now()
        file = os.open(f"{folder}/new", os.O_WRONLY | os.O_CREAT)
        os.write(file, bytes(20_000))
        os.fsync(file)
        os.close(file)
        os.rename(f"{folder}/new", f"{folder}/old")
        os.fsync(directory)
        spent.append(now() - start)
    os.close(directory)
    return statistics.median(spent)


PARTS = {"load": load, "effect": effect, "state": state}


def main():
    return run(__doc__, PARTS, "updates", 64, 36, 14)


if __name__ == "__main__":
    sys.exit(main())
