#!/usr/bin/env python3
"""What the change of a cluster's servers while nginx runs leaves behind, and when it is seen.

  leak     many updates in a small zone, with idle workers and an open websocket
  full     updates that do not fit
  visible  after the answer no request goes to a server that was removed, in any worker
  shares   of requests, while the servers change
  retries  over servers that the configuration did not have
"""

import http.client
import json
import random
import socket
import sys
import time

import lib
from lib import HOST, Backends, Load, Proxy, Slow, ask, at_once, free_port, milliseconds, now, servers, wait_until


class Kept:
    """A kept connection, to one worker."""

    def __init__(self, port):
        self.socket = socket.create_connection((HOST, port), timeout=lib.PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, method, path, body=""):
        self.socket.sendall(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
        data = b""
        while b"\r\n\r\n" not in data:
            more = self.socket.recv(65536)
            if not more:
                raise ConnectionError("closed")
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
        while len(rest) < int(fields[b"Content-Length"]):
            rest += self.socket.recv(65536)
        return int(head.split(b" ")[1]), rest.decode(), fields

    def close(self):
        self.socket.close()



def fresh(proxy, servers):
    """The free bytes with the records of these servers made afresh: only whole pages count, so that it matters
    how the records lie in them. The settings of the ten changes before are kept, too: they are always the
    same."""
    proxy.put("up", lib.servers({"server": "127.0.0.1:9", "down": True}))
    time.sleep(2.5)  # the checks of those of before end
    settings = json.loads(servers)
    for number in range(1, 12):
        proxy.put("up", json.dumps({**settings, "tries": number}))
    proxy.put("up", json.dumps({**settings, "tries": None}))
    time.sleep(1.5)
    return proxy.free()


def finish(table, proxy, name, *others):
    answer = proxy.verify()
    table.row(f"{name}: the zone is consistent", answer or "yes", "yes", not answer)
    bad = proxy.bad_lines()
    table.row(f"{name}: lines of the log that are never right", str(len(bad)), "0", not bad)
    table.some(bad)
    proxy.remove()
    for other in others:
        other.remove() if isinstance(other, lib.Nginx) else other.stop()


def leak(table, sample):
    count, limit = (5000, 10) if sample else (1_000_000, 300)
    slow = Slow()
    backends = Backends(4).start()
    a, b, c, d = backends.addresses()
    proxy = Proxy(
        f"upstream up {{ checkups_cluster; server {a}; server {slow.address}; checkups_check tcp interval=100ms; }}",
        """location / { proxy_pass http://up; }
        location /upgrade { proxy_pass http://up; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade; proxy_read_timeout 1h; }""",
        zone="1m",
        main="worker_shutdown_timeout 5s;",
    ).start()
    first = servers(a, slow.address)

    before = fresh(proxy, first)

    kept = Kept(proxy.port)
    for _ in range(4):  # one of them goes to the server that takes it
        websocket = socket.create_connection((HOST, proxy.port), timeout=5)
        websocket.send(b"GET /upgrade HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        if b" 101 " in websocket.recv(1000):
            break
        websocket.close()
    bodies = []
    for number in range(50):
        chosen = [{"server": f"127.{random.randrange(1, 9)}.{random.randrange(1, 9)}.{place}:{random.randrange(1, 9)}", "down": True} for place in range(1, 1 + number % 10)]
        chosen += [{"server": server, "weight": random.randint(1, 20)} for server in random.sample([a, b, c, d], random.randint(1, 4))]
        bodies.append(servers(*chosen))
    start, done, refused, low = now(), 0, [], before
    while done < count and now() - start < limit:
        status, text, _ = kept.ask("PUT", "/api/clusters/up", bodies[done % 50])
        done += 1
        if status != 200:
            refused.append(f"{done}: {status} {text}")
        if done % 500 == 0:
            low = min(low, json.loads(kept.ask("GET", "/api/status")[1])["zone"]["free"])
            if done % 2000 == 0:
                status, text, _ = kept.ask("GET", "/api/verify")
                if status != 200:
                    refused.append(f"{done}: {text}")
        if done % 990 == 0:  # keepalive_requests
            kept.close()
            kept = Kept(proxy.port)
    took = now() - start
    table.row(f"{done} updates, {done / took:.0f} a second, 4 workers and a websocket: refused", str(len(refused)), "0", not refused and done >= 5000)
    table.some(refused)
    websocket.send(b"echo")
    echoed = websocket.recv(10)
    table.row("  the websocket still works", repr(echoed), "b'echo'", echoed == b"echo")
    kept.ask("PUT", "/api/clusters/up", first)
    kept.close()
    open_ = proxy.free()
    websocket.close()
    time.sleep(1)
    after = fresh(proxy, first)
    table.row("  bytes free before, after", f"{before}, {after}", "the same", before == after)
    table.note(f"with the websocket open: {open_}; the least seen meanwhile: {low}")
    finish(table, proxy, "leak", backends, slow)


def full(table, sample):
    backends = Backends(2).start()
    a, b = backends.addresses()
    proxy = Proxy(f"upstream up {{ checkups_cluster; server {a}; server {b}; checkups_check tcp interval=50ms; }}", "location / { proxy_pass http://up; }", zone="384k").start()
    before = fresh(proxy, servers(a, b))
    load = Load(proxy.port, 16)
    refused, accepted, wrong = [], 0, []
    for number in range(20 if sample else 500):
        many = [{"server": f"127.0.{random.randrange(1, 9)}.1:{port}", "down": True} for port in range(1, random.randrange(10, 900))]
        versions = proxy.server("up", a)["lastmodified"], len(proxy.status()["cls:up"][0])
        answer = proxy.put("up", servers(a, b, *many))
        if answer:
            refused.append(answer)
            if (proxy.server("up", a)["lastmodified"], len(proxy.status()["cls:up"][0])) != versions:
                wrong.append("an update that was refused changed something")
        else:
            accepted += 1
            if len(proxy.status()["cls:up"][0]) != 2 + len(many):
                wrong.append("an update that was accepted is not there")
    record = load.finish()
    answer = proxy.put("up", servers(a, b))
    time.sleep(1.5)
    answer = answer and proxy.put("up", servers(a, b))
    table.row("updates that do not fit: accepted, refused, wrong", f"{accepted}, {len(refused)}, {len(wrong)}", "some, some, 0", accepted and refused and not wrong)
    table.note(refused[0] if refused else "none was refused")
    table.some(wrong)
    bad = record.cut + record.wrong
    table.row("  requests that failed meanwhile", f"{len(bad)} of {len(record.times)}", "0", not bad)
    after = fresh(proxy, servers(a, b))
    table.row("  bytes free before, after; the last update", f"{before}, {after}; {answer or 'taken'}", "the same, taken", before == after and not answer)
    finish(table, proxy, "full", backends)


def visible(table, sample):
    backends = Backends(6).start()
    addresses = backends.addresses()
    proxy = Proxy(f"upstream up {{ checkups_cluster; server {addresses[0]}; keepalive 8; }}", "location / { proxy_pass http://up; }").start()
    late, workers, asked, spent = [], set(), 0, []
    for number in range(50 if sample else 1000):
        chosen = random.sample(addresses, random.randint(1, 5))
        begun = now()
        answer = proxy.put("up", servers(*({"server": s, "weight": random.randint(1, 9)} for s in chosen)))
        spent.append(now() - begun)
        if answer:
            late.append(answer)
        wanted = {address.split(":")[1] for address in chosen}
        for _ in range(12):
            connection = Kept(proxy.port)
            status, body, fields = connection.ask("GET", "/")
            connection.close()
            workers.add(fields[b"X-Worker"])
            asked += 1
            if body not in wanted or status != 200:
                late.append(f"update {number}: {status} {body}, wanted {sorted(wanted)}")
    table.row(f"{asked} requests on new connections after updates, in {len(workers)} workers: to a removed server", str(len(late)), "0, in 4", not late and len(workers) == 4)
    table.some(late)
    table.note(f"an update with its answer took {milliseconds(sorted(spent)[len(spent) // 2])} (median), {milliseconds(max(spent))} at most")
    finish(table, proxy, "visible", backends)


def shares(table, sample):
    backends = Backends(5).start()
    weights = [7, 5, 3, 2, 1]
    updates, each = (200, 40) if sample else (1000, 60)
    chosen = [{"server": s, "weight": w} for s, w in zip(backends.addresses(), weights)]
    proxy = Proxy(f"upstream up {{ checkups_cluster; server {backends.addresses()[0]}; keepalive 16; }}", "location / { proxy_pass http://up; }").start()
    proxy.put("up", servers(*chosen))
    served, kept, change = {}, [Kept(proxy.port) for _ in range(8)], Kept(proxy.port)
    asked = 0
    for number in range(updates):
        extra = [{"server": f"127.0.0.1:{port}", "down": True, "weight": random.randint(1, 50)} for port in random.sample(range(1, 9), random.randrange(3))]
        body = chosen[:]
        for one in extra:
            body.insert(random.randrange(len(body) + 1), one)
        status, text, _ = change.ask("PUT", "/api/clusters/up", servers(*body))
        assert status == 200, text
        for _ in range(random.randrange(2 * each)):
            # A new connection now and then: those that are kept stay with their workers.
            one = asked % len(kept)
            status, text, _ = kept[one].ask("GET", "/")
            served[text] = served.get(text, 0) + 1
            asked += 1
            if asked % 300 == 0:
                for old in kept:
                    old.close()
                kept = [Kept(proxy.port) for _ in range(8)]
        if number % 900 == 899:
            change.close()
            change = Kept(proxy.port)
    off = []
    for port, weight in zip(backends.ports, weights):
        share = served.get(str(port), 0) / asked
        off.append(abs(share / (weight / sum(weights)) - 1))
    table.row(f"{asked} requests between {updates} updates: the share furthest from its weight", f"{max(off) * 100:.2f} %", "<= 2 %", max(off) <= 0.02)
    table.note(", ".join(f"{w}: {served.get(str(p), 0)}" for p, w in zip(backends.ports, weights)))
    finish(table, proxy, "shares", backends)


def retries(table, sample):
    backends = Backends(3).start()
    a, b, c = backends.addresses()
    dead = [f"{HOST}:{free_port()}" for _ in range(3)]
    proxy = Proxy(f"upstream up {{ checkups_cluster; server {a}; }}", "location / { proxy_pass http://up; }").start()
    proxy.put("up", servers(*({"server": s, "max_fails": 0, "weight": 5} for s in dead), a, b))
    found = {}
    for _ in range(40):
        status = ask(proxy.port, "/")[0]
        found[status] = found.get(status, 0) + 1
    table.row("3 of 5 servers are dead, the configuration had 1: answers", str(found), "all 200", set(found) == {200})
    proxy.remove()

    # A server whose time out of use ends while a request is at another: the one that works must still be tried.
    with socket.create_server((HOST, 0), backlog=1000) as hanging:
        hangs = f"{HOST}:{hanging.getsockname()[1]}"
        for kind in ("zone up 64k;", "checkups_cluster;"):
            proxy = Proxy(
                f"upstream up {{ {kind} server {dead[0]} weight=100 fail_timeout=1s; server {hangs} weight=100 max_fails=0; server {a} max_fails=0; }}",
                "location / { proxy_pass http://up; proxy_read_timeout 300ms; }", workers=1,
            ).start()
            load = Load(proxy.port, 4, pause=0.1)
            time.sleep(5)
            record = load.finish()
            own = kind.startswith("zone")
            table.row(f"servers come back while a request is at another, {'nginx own' if own else 'checkups'}: 5xx", f"{len(record.wrong)} of {len(record.times)}", "(to compare)" if own else "0", own or not record.wrong)
            table.some([what for _, what in record.wrong], 2)
            proxy.remove()
    backends.remove()


PARTS = {"leak": leak, "full": full, "visible": visible, "shares": shares, "retries": retries}

if __name__ == "__main__":
    sys.exit(lib.main(__doc__, PARTS))
