#!/usr/bin/env python3
"""What a reload takes away: nothing.

  load      200 reloads under load, over new and over kept connections, next to nginx's own round robin
  state     what is known of the servers, over reloads and over a changed size of the zone
  failing   reloads that fail
  draining  workers of before that still have something to do
  deaths    workers that die while the configuration is reloaded
"""

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

import lib
from lib import HOST, Backends, Load, Proxy, Slow, ask, at_once, free_port, is_running, milliseconds, now, servers, wait_until


def clusters(status):
    return sorted(name[4:] for name in status if name.startswith("cls:"))


def finish(table, proxy, name, expected=()):
    bad = proxy.bad_lines(("was locked by", *expected))
    table.row(f"{name}: lines of the log that are never right", str(len(bad)), "0", not bad)
    table.some(bad)
    proxy.remove()


def requests_read(proxy):
    with open(f"{proxy.root}/logs/read.log", encoding="ascii") as log:
        return {line.strip() for line in log}


def load(table, sample):
    count = 10 if sample else 200
    version = subprocess.run([lib.NGINX, "-v"], capture_output=True, text=True, check=True).stderr
    has_timeout = tuple(map(int, re.search(r"nginx/(\d+)\.(\d+)\.(\d+)", version).groups())) >= (1, 27, 4)
    backends = Backends(3).start()
    a, b, c = backends.addresses()
    plain = free_port()
    listed = f"server {a} weight=5; server {b} weight=3; server {c};"
    locations = "access_log logs/read.log read; location / { proxy_pass http://up; } location /plain { proxy_pass http://plain; }"
    if has_timeout:
        locations += "location /kept { proxy_pass http://up; keepalive_min_timeout 2s; }"
    proxy = Proxy(
        f"""log_format read $http_x_request;
        upstream up {{ checkups_cluster; {listed} checkups_check http uri=/health interval=50ms; keepalive 16; }}
        upstream plain {{ zone plain 128k; {listed} keepalive 16; }}""",
        locations,
        listen="",
    ).start()
    loads = {
        "new connections, checkups": (Load(proxy.port, 16), True),
        "new connections, nginx's own": (Load(proxy.port, 8, ("/plain",)), None),
        "kept connections, checkups": (Load(proxy.port, 16, keep=True, pause=0.01), None),
        "kept connections, nginx's own": (Load(proxy.port, 16, ("/plain",), keep=True, pause=0.01), None),
    }
    if has_timeout:
        loads["kept connections, keepalive_min_timeout 2s, checkups"] = (Load(proxy.port, 16, ("/kept",), keep=True, pause=0.01), True)
    time.sleep(0.5)
    start, gone, free = now(), [], []
    for number in range(count):
        before = proxy.workers()
        proxy.reload()
        time.sleep(random.uniform(0.15, 0.4))
        gone += before
        if number % 10 == 9:
            wait_until(10, lambda: not any(map(is_running, gone)))
            gone = []
            free.append(proxy.status()["zone"]["free"])
    took = now() - start
    reloaded = proxy.log().count("signal 1 (SIGHUP) received")
    table.row(f"reloads under load, in {took:.0f} s", str(proxy.status()["shd_config_version"]), f">= {reloaded * 9 // 10}", proxy.status()["shd_config_version"] >= reloaded * 9 // 10)
    records = {name: (l.finish(), wanted) for name, (l, wanted) in loads.items()}
    # At a reload nginx closes idle connections without a look at what the client may just have sent. Such a
    # request it has never read. One that it has read is in the log, whatever became of it.
    answered = sum(len(record.times) for record, _ in records.values())
    read = wait_until(5, lambda: (ids := requests_read(proxy)) and len(ids) >= answered and ids)
    table.row("  requests that were answered, that nginx says it has read", f"{answered}, {len(read or ())}", ">= the first", bool(read))
    for name, (record, wanted) in records.items():
        made = len(record.times) + len(record.cut) + len(record.wrong)
        table.row(f"  {name}: requests without an answer", f"{len(record.cut)} of {made}", "0" if wanted else "(for comparison)", not wanted or not record.cut)
        table.row(f"  {name}: 5xx, answers cut, no connection", str(len(record.wrong)), "0", not record.wrong)
        table.some([f"{t - start:.2f} s: {what}" for t, what in record.wrong])
        if name.startswith("kept") and wanted is None:
            lost = [request for _, _, before, request in record.cut if not before or request in (read or ())]
            judged = "checkups" in name
            table.row(f"  {name}: of these read, or the first on a connection", str(len(lost)), "0" if judged else "(for comparison)", not judged or not lost)
        if not sample and "checkups" in name:
            table.note(f"longest answer {milliseconds(record.longest())}, shares {record.served}")
    table.row("  the zone is consistent", proxy.verify() or "yes", "yes", not proxy.verify())
    leak = max(free[len(free) // 2:]) - proxy.free() if free else 0
    table.row("  bytes of the zone that are not free again", str(leak), "0", leak <= 0)
    finish(table, proxy, "reloads under load")
    backends.remove()


def state(table, sample):
    backends = Backends(4).start()
    a, b, c, d = backends.addresses()
    dead = f"{HOST}:{free_port()}"
    upstreams = f"""upstream up {{ checkups_cluster; server {a}; server {b}; server {c}; checkups_check http uri=/health interval=200ms fails=3; }}
        upstream slowly {{ checkups_cluster; server {a}; server {dead}; checkups_check tcp interval=1s; }}
        upstream passive {{ checkups_cluster; server {a}; server {dead} fail_timeout=60s; }}
        upstream weights {{ checkups_cluster; server {a} weight=1; server {dead} weight=64 max_fails=0; }}"""
    locations = "location / { proxy_pass http://up; } location /passive { proxy_pass http://passive; } location /weights { proxy_pass http://weights; }"
    proxy = Proxy(upstreams, locations).start()
    backends.set_healthy(backends.ports[1], False)
    wait_until(5, lambda: (proxy.server("up", b) or {}).get("status") == "err" and (proxy.server("slowly", dead) or {}).get("status") == "err")
    for _ in range(3):
        ask(proxy.port, "/passive")
    before, failed = proxy.server("up", b), proxy.server("slowly", dead)
    sizes = ["4m", "4m", "6m", "2m", "2m"] if sample else ["4m", "4m", "6m", "2m", "2m", "5m", "4m", "4m", "1m", "8m"] * 3
    table.note(f"before: {before}")
    wrong, numbers = [], [before["fail_num"]]
    backends.set_healthy(backends.ports[1], False)
    for size in sizes:
        proxy.change(zone=size)
        watched = now()
        proxy.reload()
        seen = []
        while now() - watched < 0.8:
            seen.append((size, proxy.server("up", b), proxy.server("slowly", dead)))
        for size_, up, slowly in seen:
            if up is None or slowly is None:
                wrong.append(f"zone {size_}: gone")
                continue
            if (up["status"], up["lastmodified"]) != (before["status"], before["lastmodified"]):
                wrong.append(f"zone {size_}: {up}")
            if (slowly["status"], slowly["lastmodified"]) != (failed["status"], failed["lastmodified"]):
                wrong.append(f"zone {size_}: {slowly}")
            if up["fail_num"] < numbers[-1] - 1:
                wrong.append(f"zone {size_}: fail_num {up['fail_num']} after {numbers[-1]}")
            numbers.append(max(numbers[-1], up["fail_num"]))
        tried = lib.http.client.HTTPConnection(HOST, proxy.port, timeout=5)
        tried.request("GET", "/passive")
        header = tried.getresponse().getheader("X-Tried")
        tried.close()
        if header != a:
            wrong.append(f"zone {size}: a server that is left alone was tried: {header}")
    table.row(f"{len(sizes)} reloads, some with another size of the zone: state that was lost", str(len(wrong)), "0", not wrong)
    table.some(wrong)
    table.row("  fail_num went on from, to", f"{numbers[0]}, {numbers[-1]}", "grows", numbers[-1] > numbers[0])
    table.row("  the zone is consistent", proxy.verify() or "yes", "yes", not proxy.verify())
    finish(table, proxy, "state")
    backends.remove()


def failing(table, sample):
    backends = Backends(2).start()
    a, b = backends.addresses()
    upstreams = f"upstream up {{ checkups_cluster; server {a}; checkups_check http uri=/health interval=50ms; }}"
    locations = "location / { proxy_pass http://up; }"
    other = f"upstream up {{ checkups_cluster; server {b}; }} upstream more {{ checkups_cluster; server {a}; }}"
    with socket.create_server((HOST, 0)) as taken:
        used = taken.getsockname()[1]
        cases = {
            "a syntax error": {"upstreams": other, "locations": f"{locations} nonsense;"},
            "a port in use": {"upstreams": f"{other} server {{ listen {HOST}:{used}; }}", "locations": locations},
            "a port in use, and another size of the zone": {"upstreams": f"{other} server {{ listen {HOST}:{used}; }}", "locations": locations, "zone": "2m"},
            "a zone that is too small": {"upstreams": other + "upstream big { checkups_cluster; " + "".join(f"server 127.0.0.1:{port};" for port in range(1, 2000)) + "}", "locations": locations, "zone": "64k"},
            "no room for the servers beside those of before": {"upstreams": other + "upstream big { checkups_cluster; " + "".join(f"server 127.0.0.1:{port};" for port in range(1, 20000)) + "}", "locations": locations},
        }
        for name, change in cases.items():
            proxy = Proxy(upstreams, locations).start()
            wait_until(3, lambda: (proxy.server("up", a) or {}).get("status") == "ok")
            free, before, workers = proxy.free(), proxy.status(), proxy.workers()
            load_ = Load(proxy.port, 8)
            proxy.change(**change)
            failures = 0
            for _ in range(1 if sample else 3):
                seen = proxy.log().count("[emerg]")
                proxy.reload()
                wait_until(10, lambda: proxy.log().count("[emerg]") > seen)
                wait_until(4, lambda: "still could not bind" in proxy.log()[-2000:] if "port" in name else True)
                failures += proxy.log().count("[emerg]") > seen
            time.sleep(1)
            record = load_.finish()
            after = proxy.status()
            same = clusters(before) == clusters(after) and before["cls:up"] == after["cls:up"] and before["shd_config_version"] == after["shd_config_version"] and proxy.workers() == workers
            lost = free - proxy.free()
            bad = record.cut + record.wrong
            table.row(f"a reload that fails by {name}: changes, bytes lost, failed requests", f"{'none' if same else 'some'}, {lost}, {len(bad)} of {len(record.times)}", "none, 0, 0", same and not lost and not bad and failures)
            if not same:
                table.note(f"{before} -> {after}")
            only = {body.decode() for body in record.served}
            table.row("  requests went to the server of before", ", ".join(sorted(only)), str(backends.ports[0]), only == {str(backends.ports[0])})
            proxy.change(upstreams=upstreams, locations=locations, zone="4m")
            back = proxy.reload_and_wait()
            lost = free - proxy.free()
            table.row("  a good reload after that: bytes lost, consistent", f"{lost}, {proxy.verify() or 'yes'}", "0, yes", back and not lost and not proxy.verify())
            emergencies = [line for line in proxy.log().splitlines() if "[emerg]" in line]
            table.note(emergencies[0] if emergencies else "no [emerg] in the log")
            proxy.remove()
    backends.remove()


def draining(table, sample):
    backends = Backends(3).start()
    a, b, c = backends.addresses()
    slow = Slow(0.02, 0.05)
    up = f"upstream up {{ checkups_cluster; server {a}; server {b}; checkups_check http uri=/health interval=20ms; }}"
    gone = f"upstream gone {{ checkups_cluster; server {c}; server {b}; checkups_check http uri=/health interval=20ms; }}"
    few = f"upstream few {{ checkups_cluster; server {slow.address} max_conns=10 max_fails=0; }}"
    locations = "location / { proxy_pass http://up; } location /few { proxy_pass http://few; }"
    proxy = Proxy(f"{up} {gone} {few}", f"{locations} location /gone {{ proxy_pass http://gone; }}").start()

    # Requests that a worker of before has, and a cluster that the new configuration does not have.
    seconds = 3 if sample else 10
    for zone in ("4m", "6m"):
        slow.set_delay(seconds, seconds)
        slow.take_highest()
        requests = lib._context.Queue()
        client = lib._context.Process(target=lambda: requests.put(at_once(proxy.port, "/few", 7, seconds + 10)), daemon=True)
        client.start()
        wait_until(2, lambda: slow.current() == 7)
        old = proxy.workers()
        proxy.change(upstreams=f"{up} {few}", locations=locations, zone=zone)
        proxy.reload()
        wait_until(5, lambda: len(proxy.workers()) > 4)
        time.sleep(0.5)
        meanwhile = at_once(proxy.port, "/few", 8, seconds + 10)
        kept = clusters(proxy.status())
        found = requests.get(timeout=20)
        highest = slow.take_highest()
        name = "with another size of the zone" if zone == "6m" else "the zone as it was"
        table.row(f"7 requests of {seconds} s over a reload, {name}: answered", str(found), "all", found == {"200": 7})
        figure = f"{highest}, {meanwhile}"
        if zone == "6m":
            # The reference says so: the workers of before and after have no memory in common.
            table.note(f"8 more in the new workers, with max_conns=10, counted anew: at most at once {figure}")
        else:
            table.row("  8 more in the new workers, with max_conns=10: at most at once", figure, "10", highest == 10)
        wait_until(10, lambda: not any(map(is_running, old)))
        left = now()
        wait_until(5, lambda: "gone" not in clusters(proxy.status()))
        took = now() - left
        table.row("  a removed cluster is gone after the last old worker", f"{milliseconds(took)} (was there: {'gone' in kept})", "< 2 s", took < 2)
        table.row("  the zone is consistent", proxy.verify() or "yes", "yes", not proxy.verify())
        proxy.change(upstreams=f"{up} {gone} {few}", locations=f"{locations} location /gone {{ proxy_pass http://gone; }}")
        slow.set_delay(0.02, 0.05)
        proxy.reload_and_wait()

    # A worker of before that changes a cluster which the new configuration does not have.
    body = servers(c)
    with socket.create_connection((HOST, proxy.port)) as client:
        client.settimeout(5)
        client.send(f"PUT /api/clusters/gone HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body[:5]}".encode())
        time.sleep(0.3)
        old = proxy.workers()
        proxy.change(upstreams=f"{up} {few}", locations=locations)
        proxy.reload()
        wait_until(5, lambda: len([pid for pid in proxy.workers() if pid not in old]) == 4)
        time.sleep(1)
        client.send(body[5:].encode())
        answer = client.recv(1000).split(b"\r\n")[0].decode()
    wait_until(10, lambda: not any(map(is_running, old)))
    left = now()
    wait_until(5, lambda: "gone" not in clusters(proxy.status()))
    took = now() - left
    table.row(f"a worker of before changes a removed cluster ({answer}): it is gone after", milliseconds(took), "< 2 s", took < 2)

    # Checks that change the state of a removed cluster while the new workers start.
    stayed = 0
    times = 5 if sample else 40
    for number in range(times):
        proxy.change(upstreams=f"{up} {gone} {few}", locations=f"{locations} location /gone {{ proxy_pass http://gone; }}")
        proxy.reload_and_wait()
        time.sleep(0.1)
        proxy.change(upstreams=f"{up} {few}", locations=locations)
        old = proxy.workers()
        proxy.reload()
        start = now()
        while now() - start < 0.3:
            backends.set_healthy(backends.ports[2], random.random() < 0.5)
            time.sleep(0.004)
        wait_until(10, lambda: not any(map(is_running, old)))
        stayed += not wait_until(2, lambda: "gone" not in clusters(proxy.status()), every=0.05)
    table.row(f"{times} times a cluster is removed whose checks go up and down: it stays", str(stayed), "0", not stayed)
    table.row("  the zone is consistent", proxy.verify() or "yes", "yes", not proxy.verify())
    finish(table, proxy, "draining")
    backends.remove(), slow.stop()


def deaths(table, sample):
    """The master has to see that a worker is dead of which it could not learn yet: SIGCHLD is blocked while it
    reads a configuration."""
    backends = Backends(3).start()
    a, b, c = backends.addresses()
    dead = f"{HOST}:{free_port()}"
    for point, passes in (("scan", 300), ("publish", 4)):
        many = "".join(f"server 127.0.0.1:{port} down;" for port in range(1, 300))
        proxy = Proxy(
            f"""upstream up {{ checkups_cluster; server {a} weight=3; server {b}; server {c} weight=7; server {dead} max_fails=0 weight=9; }}
            upstream put {{ checkups_cluster; server {a}; {many} }}""",
            "location / { proxy_pass http://up; }",
            main=f"env CHECKUPS_FAULT={point}={passes};",
        ).start()
        load_ = Load(proxy.port, 32)
        seconds = 6 if sample else 30
        start = now()
        bodies = [servers(a, *({"server": f"127.0.0.1:{port}", "down": True} for port in range(1, 300 + number))) for number in range(2)]
        reloads = 0
        while now() - start < seconds:
            reloads += 1
            proxy.reload()
            until = now() + 0.25
            while now() < until:
                if point == "publish":
                    try:
                        status = ask(proxy.port, "/api/clusters/put", "PUT", bodies[reloads % 2], timeout=2)
                    except (OSError, lib.http.client.HTTPException):
                        pass
                time.sleep(0.01)
        end = now()
        record = load_.finish()
        last = end - max(record.times, default=start)
        gap = max(record.longest_gap(), last)
        version = -1
        try:
            version = ask(proxy.port, "/api/status", timeout=2)[0]
        except OSError:
            pass
        table.row(f"{reloads} reloads while {proxy.deaths()} workers die at \"{point}\": longest time without any answer", milliseconds(gap), "< 1 s", gap < 1)
        table.row("  other failures", str(len(record.wrong)), "0", not record.wrong)
        table.some([f"{t - start:.2f} s: {what}" for t, what in record.wrong])
        ok = wait_until(10, lambda: _answers(proxy))
        table.row("  it serves at the end", "yes" if ok else "no", "yes", bool(ok))
        if not ok:
            with open(f"/proc/{proxy.process.pid}/stat", encoding="ascii") as stat:
                table.note(f"the master is in state {stat.read().rpartition(') ')[2][0]}, workers: {[lib._stat(p)[0] for p in os.listdir('/proc') if p.isdigit() and lib._stat(p)[1] == proxy.process.pid]}")
        proxy.remove()
    backends.remove()


def _answers(proxy):
    try:
        return ask(proxy.port, "/", timeout=2)[0] == 200
    except (OSError, lib.http.client.HTTPException):
        return False


PARTS = {"load": load, "state": state, "failing": failing, "draining": draining, "deaths": deaths}

if __name__ == "__main__":
    sys.exit(lib.main(__doc__, PARTS))
