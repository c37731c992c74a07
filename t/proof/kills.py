#!/usr/bin/env python3
"""What was answered with 2xx is kept: nginx is killed, its workers are, and it is reloaded, under changes.

Usage: t/proof/kills.py [--sample] [PART ...]

The PARTs are

  kills     SIGKILL of the whole nginx at random moments under changes, then a start
  workers   SIGKILL of one worker or two at random moments under changes
  reloads   HUP at random moments under changes and requests, every tenth with a zone of another size
  writers   two writers with If-Match, also under reloads

Each writer has settings of its own, and changes them to one number after another: the weight and the
fail_timeout of one server by PATCH, all servers of a cluster at once by PUT; or it creates and deletes a
cluster. So it is known of each setting what was answered with 2xx last, and what was sent and not answered
since: one or the other has to be there, and what one change says is there as a whole. Under reloads each
change is answered, and a writer reads what it wrote before it writes again.

A process that is killed leaves what it wrote to the system: that it was written through to the disk is
not seen here.

Each line is a claim, the figure that was measured, the limit, and whether that holds; the exit status
is 1 where one does not. --sample is a short version.

Environment: NGINX and MODULE are the paths of the binary and the module, BUILD what to call them.
"""

import http.client
import json
import os
import random
import signal
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
sys.dont_write_bytecode = True

from command import run  # noqa: E402
from processes import HOST, Nginx, backend, free_port, now, remove, wait_until  # noqa: E402

CLUSTERS = ("one", "two", "three")  # are in the configuration
PUT, BORN = "put", "born"  # one is changed by PUT, one comes and goes
CONFIGURED = "what is configured"
NUMBERS = 1000  # after which they begin again
STALE = 2  # seconds: for how long an old worker may answer from a zone that was replaced


class Kept(Nginx):
    """A proxy with checkups_state, whose API writes. Its clusters have the servers `addresses`."""

    def __init__(self, addresses, workers=4):
        self.addresses, self.port = addresses, free_port()
        self.sizes, self.replaced = ["4m", "5m"], []
        servers = " ".join(f"server {address};" for address in addresses)
        blocks = " ".join(f"upstream {name} {{ checkups_cluster; {servers} }}" for name in (*CLUSTERS, PUT))
        self.text = f"""{blocks}
            server {{
                listen {HOST}:{self.port} backlog=4096;
                location /api/ {{ checkups_api write=on; }}
                location / {{ proxy_pass http://{CLUSTERS[0]}; }}
            }}"""
        super().__init__("ZONE " + self.text, workers=workers, connections=4096)
        self.path = f"{self.root}/nginx.conf"
        with open(self.path, encoding="ascii") as configuration:
            self.template = configuration.read()
        self.set_zone()

    def set_zone(self):
        """Write the configuration with a zone of another size."""
        self.sizes.reverse()
        words = f"checkups_zone checkups:{self.sizes[0]}; checkups_state {self.root}/state;"
        with open(self.path, "w", encoding="ascii") as out:
            out.write(self.template.replace("ZONE", words))

    def ask(self, method, path, body=None, headers=()):
        """One request to the API over a new connection: the status, the body, and the ETag."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            headers = {"Connection": "close", **dict(headers)}
            if body is not None:
                headers["Content-Type"] = "application/json"
                body = json.dumps(body)
            connection.request(method, f"/api/clusters/{path}", body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers.get("ETag")
        finally:
            connection.close()

    def settle(self):
        """Wait until the workers are those of the last configuration, and no others."""
        wait_until(20, lambda: len(self.workers()) == self.workers_wanted, every=0.02)
        time.sleep(0.2)
        return wait_until(20, lambda: len(self.workers()) == self.workers_wanted, every=0.02)


# How each writer writes its number: the method, the path, the body. How it reads what is there: a
# number, None where the cluster is not, or a text where there is a half.
class Patch:
    def __init__(self, cluster, address):
        self.name, self.address = cluster, address

    def request(self, number):
        return "PATCH", f"{self.name}/servers/{self.address}", {"weight": number, "fail_timeout": f"{number}s"}

    def read(self, cluster):
        servers = [server for level in cluster["levels"] for server in level["servers"]]
        return together([server for server in servers if server["server"] == self.address])


class Put:
    name = PUT

    def __init__(self, addresses):
        self.addresses = addresses

    def request(self, number):
        servers = [{"server": a, "weight": number, "fail_timeout": f"{number}s"} for a in self.addresses]
        return "PUT", self.name, {"levels": [{"servers": servers}]}

    def read(self, cluster):
        return together([server for level in cluster["levels"] for server in level["servers"]])


class Born(Put):
    """Every third number is that the cluster is not there."""

    name = BORN

    def request(self, number):
        return super().request(number) if number % 3 else ("DELETE", self.name, None)


def together(servers):
    """The number that is all of their weights and times."""
    found = {text for server in servers for text in (f"{server['weight']}s", server["fail_timeout"])}
    numbers = {seconds(text) for text in found}
    return numbers.pop() if len(numbers) == 1 else f"half: {sorted(found)}"


def seconds(text):
    """The seconds of a time, which may be written in larger units."""
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    total, digits = 0, ""
    for char in text:
        if char.isdigit():
            digits += char
        else:
            total, digits = total + int(digits or 0) * units[char], ""
    return total


class Writer:
    """Writes one number after another, until it is told to end or cannot go on."""

    def __init__(self, nginx, setting, reads=False):
        self.nginx, self.setting, self.reads = nginx, setting, reads
        self.number = 0
        self.acknowledged = None if isinstance(setting, Born) else CONFIGURED
        self.sent = []  # since then
        self.versions, self.took = [], []
        self.refused, self.unanswered, self.wrong, self.stale = [], [], [], []
        self.ending = threading.Event()
        self.thread = None

    def start(self):
        self.ending.clear()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def stop(self):
        self.ending.set()

    def join(self):
        self.thread.join()

    def run(self):
        while not self.ending.is_set():
            if self.reads:
                self.look()
            if not self.write():
                if not self.reads:
                    return
                time.sleep(0.01)

    def look(self):
        """Whether what was acknowledged is there. An old worker may know it later."""
        end, first = now() + STALE, True
        while True:
            try:
                status, body, _ = self.nginx.ask("GET", self.setting.name)
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.unanswered.append(f"GET {self.setting.name}: {error!r}")
                return
            problem = self.check(body if status == 200 else None if status == 404 else f"status {status}")
            if not problem:
                return
            if now() > end:
                self.wrong.append(problem)
                return
            if first:
                self.stale.append(now())
            first = False
            time.sleep(0.01)

    def write(self):
        number = self.number % NUMBERS + 1
        self.number += 1
        method, path, body = self.setting.request(number)
        value = number if body is not None else None
        self.sent.append(value)
        start = now()
        try:
            status, answer, tag = self.nginx.ask(method, path, body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.unanswered.append(f"{method} {path} {number}: {error!r}")
            return False
        if status in (200, 201) or (status == 404 and method == "DELETE"):
            self.acknowledged, self.sent = value, []
            self.took.append(now() - start)
            if status != 404:
                self.versions.append(answer["version"])
                if tag != f'"{answer["version"]}"':
                    self.wrong.append(f"{method} {path}: ETag {tag}, version {answer['version']}")
            return True
        # What is refused has changed nothing.
        self.sent.remove(value)
        self.refused.append(f"{method} {path} {number}: {status} {answer}")
        return False

    def check(self, cluster):
        """What is wrong with a cluster, as the API shows it; None: it is not there. A text is wrong."""
        if isinstance(cluster, str):
            return cluster
        found = None if cluster is None else self.setting.read(cluster)
        allowed = [self.acknowledged, *self.sent]
        if CONFIGURED in allowed and cluster is not None and cluster_is_configured(self.setting, cluster):
            return None
        if found in allowed:
            return None
        return f"{self.setting.name}: {found!r} is there, {self.acknowledged!r} was acknowledged, then {self.sent!r} sent"

    def take(self, cluster):
        """What is there is what counts from now on."""
        found = None if cluster is None else self.setting.read(cluster)
        if not isinstance(found, str):
            self.acknowledged, self.sent = found, []


def cluster_is_configured(setting, cluster):
    servers = [s for level in cluster["levels"] for s in level["servers"]]
    return all(
        (server["weight"], server["fail_timeout"]) == (1, "10s")
        for server in servers
        if not isinstance(setting, Patch) or server["server"] == setting.address
    )


def writers_of(nginx, reads=False):
    settings = [Patch(name, address) for name in CLUSTERS for address in nginx.addresses]
    settings += [Put(nginx.addresses), Born(nginx.addresses)]
    return [Writer(nginx, setting, reads) for setting in settings]


def look_at_all(nginx, writers, take=True):
    """What is wrong with all there is, which then is taken for right."""
    status, clusters, _ = nginx.ask("GET", "")
    if status != 200:
        return [f"GET clusters/: {status}"]
    problems = [problem for writer in writers if (problem := writer.check(clusters.get(writer.setting.name)))]
    for writer in writers if take else ():
        writer.take(clusters.get(writer.setting.name))
    return problems


def twice(writers, known):
    """Versions that were given more than once, or before to others; `known` holds all of them."""
    found = []
    for writer in writers:
        for version in writer.versions:
            if version in known:
                found.append(f"{writer.setting.name}: {version}")
            known.add(version)
        writer.versions.clear()
    return found


def complaints(nginx):
    """Lines about what could not be read, and files that were set aside."""
    words = ("is not used", "is lost", "is left out", "holds no more", "checkups_state")
    lines = [line for line in nginx.log().splitlines() if any(word in line for word in words)]
    state = f"{nginx.root}/state"
    names = os.listdir(state) if os.path.isdir(state) else []
    return lines + [name for name in names if not name.endswith((".json", ".json.tmp"))]


def speed(writers, took):
    changes = [t for writer in writers for t in writer.took]
    if not changes:
        return "none"
    return f"{len(changes)}, {len(changes) / took:.0f} a second, median {statistics.median(changes) * 1000:.1f} ms"


def kills(table, sample):
    times = 5 if sample else 200
    servers = [backend(name) for name in "AB"]  # only their addresses are needed
    nginx = Kept([server.address for server in servers]).start()
    writers = writers_of(nginx)
    wrong, known, again, unanswered, began, busy = [], set(), [], 0, now(), 0.0
    for _ in range(times):
        for writer in writers:
            writer.start()
        start = now()
        time.sleep(random.uniform(0, 0.5) ** 2 * 2)
        nginx.kill()
        busy += now() - start
        for writer in writers:
            writer.join()
            unanswered += len(writer.unanswered)
            writer.unanswered.clear()
        nginx.start()
        wrong += look_at_all(nginx, writers)
        again += twice(writers, known)
    table.none(f"nginx is killed {times} times: changes that are lost or half", wrong)
    table.none("  changes that were refused", [line for writer in writers for line in writer.refused])
    table.none("  versions that were given twice", again)
    table.none("  answers that are wrong", [line for writer in writers for line in writer.wrong])
    table.none("  files that cannot be read", complaints(nginx))
    table.none("  lines that are never right", nginx.bad_lines())
    table.row("  changes answered with 2xx", speed(writers, busy), "", None)
    table.note(f"{unanswered} requests were not answered, {now() - began:.0f} s")
    remove(nginx, *servers)


def workers(table, sample):
    times = 5 if sample else 200
    servers = [backend(name) for name in "AB"]
    nginx = Kept([server.address for server in servers]).start()
    writers = writers_of(nginx, reads=True)
    for writer in writers:
        writer.start()
    start = now()
    for _ in range(times):
        time.sleep(random.uniform(0, 0.2))
        alive = nginx.workers()
        for pid in random.sample(alive, min(len(alive), random.choice((1, 1, 2)))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    took = now() - start
    for writer in writers:
        writer.stop()
    for writer in writers:
        writer.join()
    nginx.settle()
    known = set()
    again = twice(writers, known)
    # What was not answered may be on disk, and come into use only at the next start.
    wrong = [line for writer in writers for line in writer.wrong] + look_at_all(nginx, writers, take=False)
    nginx.kill()
    nginx.start()
    wrong += look_at_all(nginx, writers)
    table.none(f"workers are killed {times} times: changes that are lost or half", wrong)
    table.none("  changes that were refused", [line for writer in writers for line in writer.refused])
    table.none("  versions that were given twice", again)
    table.none("  files that cannot be read", complaints(nginx))
    table.none("  lines that are never right", nginx.bad_lines(expected=("exited on signal 9", "was locked by")))
    longest = max(t for writer in writers for t in writer.took)
    table.row("  changes answered with 2xx", speed(writers, took), "", None)
    table.row("  the longest of them", f"{longest * 1000:.0f} ms", "< 5000 ms", longest < 5)
    table.note(f"{sum(len(w.unanswered) for w in writers)} requests were not answered, {sum(len(w.stale) for w in writers)} read late")
    remove(nginx, *servers)


class Requests(threading.Thread):
    """Clients that make one request after another, each over a new connection."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.made, self.failed, self.ending = port, 0, [], threading.Event()
        self.start()

    def run(self):
        while not self.ending.is_set():
            connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
            try:
                connection.request("GET", "/", headers={"Connection": "close"})
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    self.failed.append(f"status {answer.status}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            finally:
                connection.close()
            self.made += 1
            time.sleep(0.002)

    def stop(self):
        self.ending.set()
        self.join()


def reload_at_random(nginx, times, longest):
    for number in range(times):
        time.sleep(random.uniform(0, longest))
        if number % 10 == 9:
            nginx.set_zone()
            nginx.replaced.append(now())
        nginx.process.send_signal(signal.SIGHUP)


def reloads(table, sample):
    times = 10 if sample else 200
    servers = [backend(name).start() for name in "AB"]
    nginx = Kept([server.address for server in servers]).start()
    writers = writers_of(nginx, reads=True)
    clients = [Requests(nginx.port) for _ in range(2)]
    for writer in writers:
        writer.start()
    start = now()
    reload_at_random(nginx, times, 0.8)
    time.sleep(0.5)
    took = now() - start
    for writer in writers:
        writer.stop()
    for writer in writers:
        writer.join()
    late = [time for writer in writers for time in writer.stale]
    early = [time for time in late if not any(0 <= time - replaced < STALE for replaced in nginx.replaced)]
    for client in clients:
        client.stop()
    settled = nginx.settle()
    known = set()
    again = twice(writers, known)
    wrong = [line for writer in writers for line in writer.wrong] + look_at_all(nginx, writers)
    table.none(f"{times} reloads: changes that are lost or half", wrong)
    table.none("  changes that were read late, but where the zone was replaced", early)
    table.none("  changes that were not answered", [line for writer in writers for line in writer.unanswered])
    busy = [line for writer in writers for line in writer.refused]
    table.none("  changes that were refused but by 503", [line for line in busy if ": 503 " not in line])
    table.none("  versions that were given twice", again)
    failed = [line for client in clients for line in client.failed]
    table.none("  proxied requests that failed", failed)
    table.row("  proxied requests", str(sum(client.made for client in clients)), "", None)
    table.row("  the workers are the wanted ones in the end", "yes" if settled else "no", "yes", bool(settled))
    nginx.kill()
    nginx.start()
    table.none("  changes that are not there after a kill", look_at_all(nginx, writers))
    table.none("  files that cannot be read", complaints(nginx))
    table.none("  lines that are never right", nginx.bad_lines())
    table.row("  changes answered with 2xx", speed(writers, took), "", None)
    table.note(f"{len(busy)} changes were to be tried again, {len(late)} reads were of a zone that was replaced")
    remove(nginx, *servers)


class Adder(threading.Thread):
    """Adds 1 to a weight, so many times."""

    def __init__(self, nginx, count):
        super().__init__(daemon=True)
        self.nginx, self.count, self.retries, self.problems = nginx, count, 0, []
        self.path = f"{CLUSTERS[0]}/servers/{nginx.addresses[0]}"

    def run(self):
        done = 0
        while done < self.count and len(self.problems) < 5:
            try:
                _, server, tag = self.nginx.ask("GET", self.path)
                wanted = {"weight": server["weight"] + 1}
                status, answer, _ = self.nginx.ask("PATCH", self.path, wanted, {"If-Match": tag})
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
                self.problems.append(repr(error))
                continue
            if status == 200:
                done += 1
            elif status in (412, 503):
                self.retries += 1
            else:
                self.problems.append(f"{status} {answer}")


def writers(table, sample):
    for times in (0, 3 if sample else 40):
        count = 100 if sample else 2000
        servers = [backend(name) for name in "AB"]
        nginx = Kept([server.address for server in servers]).start()
        adders = [Adder(nginx, count) for _ in range(2)]
        for adder in adders:
            adder.start()
        reload_at_random(nginx, times, 0.8)
        for adder in adders:
            adder.join()
        nginx.settle()
        weight = nginx.ask("GET", adders[0].path)[1]["weight"]
        under = f", {times} reloads" if times else ""
        table.row(f"2 writers with If-Match add 1 {count} times{under}", str(weight), str(1 + 2 * count), weight == 1 + 2 * count)
        table.none("  answers that are wrong", [line for adder in adders for line in adder.problems])
        table.none("  lines that are never right", nginx.bad_lines())
        table.note(f"{sum(adder.retries for adder in adders)} times another was first, or a reload was under way")
        remove(nginx, *servers)


PARTS = {"kills": kills, "workers": workers, "reloads": reloads, "writers": writers}


def main():
    return run(__doc__, PARTS, "what is kept of changes", 62, 26, 10)


if __name__ == "__main__":
    sys.exit(main())
