#!/usr/bin/env python3
"""The API under a fuzzer of methods, paths, headers and bodies.

Usage: t/proof/fuzz_api.py [--sample] [--seconds N] [--seed N]

60 s unless said otherwise, half of it without state and half with: requests of all kinds, most of them
wrong, with valid changes in between. What is judged:

  No answer is 5xx but 507, and 503 of `select` where no server may be used.
  What a request does not change, by its method, by ?dry_run=1, or because it was refused or not sent to
        its end, is as before: GET clusters/ says the same, to the byte.
  Every request that was sent to its end has an answer, and every answer that says that it is JSON is.
  Nothing in the log is an alert, a panic, or the death of a worker.
  After it nginx is killed, and starts with what the state has: GET clusters/ says the same.

--sample is 6 s. The seed is printed: the requests are then the same, as far as time does not matter to
them.

Environment: NGINX and MODULE are the paths of the binary and the module, BUILD what to call them.
"""

import copy
import json
import os
import random
import shutil
import socket
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
sys.dont_write_bytecode = True

from command import Command  # noqa: E402
from processes import HOST, Nginx, free_port, now, remove  # noqa: E402

PATIENCE = 10  # seconds for an answer
CLUSTERS = ["up", "hashed", "two", "stock", "new-1", "new_2", "a.b:c"]
NAMES = [*CLUSTERS, "x", "", "..", "%2e%2e", "-", "%00", "%ff", "%2F", "n" * 128, "n" * 129, "%C3%A4", "a%20b", "select", "*"]
ADDRESSES = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "[::1]:1", "unix:/tmp/checkups.sock", "127.0.0.2:65535"]
BAD_ADDRESSES = ["127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "localhost:80", "unix:", "unix:" + "a" * 200, "", ":80", "[::1", "a b:1", "\x00:1", "1:1:1:1:1", "ä:80", "-.-:1", "*:80"]
METHODS = ["GET", "HEAD", "PUT", "POST", "PATCH", "DELETE"]
OTHER_METHODS = ["OPTIONS", "TRACE", "PROPFIND", "MKCOL", "MOVE", "LOCK", "BREW", "get"]
JUNK = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 1e308, 2**31, 2**32, 2**53, 2**63, 2**64, 10**400, float("nan"), float("inf"), "", "x", "1", "10s", "-1s",
    "999999999999999999999d", "\x00", "\u2028", "🦀" * 50, "a" * 5000, [], {}, [[]], [None], {"": None}, {"x": {"x": {}}}, "http", "hash $x", "$uri",
    "/etc/passwd", "round_robin", "all", "random two", "unix:/x",
]
KEYS = [
    "name", "version", "balance", "order", "protected", "tries", "tries_timeout", "connect_timeout", "send_timeout", "read_timeout", "fail_status", "levels",
    "cluster", "checks", "servers", "server", "weight", "max_conns", "max_fails", "fail_timeout", "slow_start", "down", "drain", "resolve", "service", "check",
    "check_port", "check_host", "level", "type", "interval", "timeout", "fails", "uri", "port", "host", "match", "ssl_trusted_certificate", "x", "", "failed",
]


class Fuzzer:
    """What is asked."""

    def __init__(self, seed):
        self.random = random.Random(seed)

    def pick(self, *of):
        return self.random.choice(of)

    def chance(self, part):
        return self.random.random() < part

    def server(self):
        one = {"server": self.random.choice(ADDRESSES)}
        for key, values in (("weight", (1, 2, 5, 100)), ("max_fails", (0, 1, 3)), ("max_conns", (0, 10)), ("down", (True, False)), ("drain", (True, False)),
                            ("fail_timeout", ("10s", "500ms")), ("slow_start", ("0s", "5s"))):
            if self.chance(0.2):
                one[key] = self.random.choice(values)
        return one

    def servers(self):
        chosen = self.random.sample(ADDRESSES, self.random.randint(1, 4))
        return [{**self.server(), "server": address} for address in chosen]

    def check(self):
        return self.pick(
            {"type": "http", "uri": "/", "interval": "5s"}, {"type": "tcp", "interval": "3s", "timeout": "1s"}, {"type": "http", "fails": 3, "passes": 2},
            "defined", {"check": "defined"}, "none",
        )

    def cluster(self):
        one = {"levels": [{"servers": self.servers()} for _ in range(self.pick(1, 1, 1, 2))]}
        if self.chance(0.3):
            one["balance"] = self.pick("round_robin", "least_conn", "hash $request_uri", "random two", "hash $remote_addr")
        if self.chance(0.2):
            one["tries"] = self.pick(1, 3, None)
        if self.chance(0.2):
            one["protected"] = self.pick("all", "one", "off")
        if self.chance(0.2):
            one["checks"] = [self.check() for _ in range(self.pick(0, 1, 1, 2))]
        if self.chance(0.1):
            one = {"cluster": [{"servers": [{"host": "127.0.0.1", "port": port, "weight": 1} for port in (1, 2)]}]}
        return one

    def value(self):
        """What a request may say, more or less."""
        return self.pick(self.cluster, self.server, lambda: {"weight": self.random.randint(1, 9)}, lambda: {"version": self.random.randint(0, 2000)}, lambda: {"failed": True})()

    def for_(self, path, versions):
        """What is right at a path."""
        place = path.partition("?")[0]
        if place.endswith("/rollback"):
            return {"version": self.random.choice([*versions, 1]) - self.random.randrange(20)}
        if place.endswith("/feedback"):
            return {"failed": self.chance(0.5)}
        if place.endswith("/servers"):
            return self.server()
        if "/servers/" in place:
            return {key: value for key, value in self.server().items() if key != "server"}
        return self.cluster()

    def spoil(self, value, most=3):
        """Replaces, adds and removes something here and there."""
        value = json.loads(json.dumps(value))
        for _ in range(self.random.randint(1, most)):
            place = value
            while isinstance(place, (dict, list)) and place:
                keys = list(place) if isinstance(place, dict) else list(range(len(place)))
                key = self.random.choice(keys)
                if isinstance(place[key], (dict, list)) and place[key] and self.chance(0.75):
                    place = place[key]
                    continue
                do = self.random.random()
                if do < 0.5:
                    place[key] = copy.deepcopy(self.pick(*JUNK, *ADDRESSES, *BAD_ADDRESSES))
                elif do < 0.7:
                    if isinstance(place, dict):
                        place[self.random.choice(KEYS)] = copy.deepcopy(self.random.choice(JUNK))
                    else:
                        place.append(json.loads(json.dumps(place[key])))
                elif do < 0.9:
                    del place[key]
                else:
                    place[key] = [place[key]] if self.chance(0.5) else {"x": place[key]}
                break
        return value

    def bytes_(self, data):
        """Spoils what was right as text."""
        data = bytearray(data)
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randrange(len(data) + 1)
            do = self.random.random()
            if do < 0.3 and data:
                data[at % len(data)] = self.random.randrange(256)
            elif do < 0.6:
                data[at:at] = self.pick(b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\x00", b'"', b"{", b"]", b",", b"1e999", b"-", b"\\u0000", b"\\ud800", b"NaN", b"//", b"\xef\xbb\xbf")
            elif do < 0.8:
                del data[at : at + self.random.randint(1, 20)]
            else:
                del data[at:]
        return bytes(data)

    def body(self):
        do = self.random.random()
        if do < 0.35:
            return json.dumps(self.value()).encode()
        if do < 0.7:
            return json.dumps(self.spoil(self.value())).encode()
        if do < 0.9:
            return self.bytes_(json.dumps(self.value()).encode())
        deep = self.random.choice((100, 1000, 10_000, 100_000))
        return self.pick(
            lambda: b"", lambda: b"null", lambda: b"[]", lambda: b"{}", lambda: b'""', lambda: b"1" * 10_000, lambda: b"[" * deep, lambda: b'{"levels":' * deep,
            lambda: b'{"checks":' + b"[" * deep + b"]" * deep + b"}", lambda: self.random.randbytes(self.random.randrange(2000)),
            lambda: b'{"weight":' + b"9" * deep + b"}", lambda: b'{"weight":1,"weight":2}', lambda: b" " * self.pick(1 << 20, (1 << 20) + 1, 3 << 20),
            lambda: json.dumps({"levels": [{"servers": [{"server": f"127.1.{n >> 8}.{n & 255}:1"} for n in range(self.pick(500, 12_000))]}]}).encode(),
            lambda: b'{"levels":[{"servers":[{"server":"127.0.0.1:1","' + b"x" * deep + b'":1}]}]}',
        )()

    def path(self):
        if self.chance(0.03):
            return self.pick("", "/", "//", "/..", "status", "status/", "x", "verify", "%", "%zz", "clusters%2Fup", "clusters/up/../two", "a" * 6000)
        cluster = self.random.choice(CLUSTERS if self.chance(0.85) else NAMES)
        address = self.random.choice(ADDRESSES if self.chance(0.8) else BAD_ADDRESSES)
        if self.chance(0.5):
            address = "".join(f"%{byte:02x}" if self.chance(0.3) or byte in b"/? #%" or not 32 < byte < 127 else chr(byte) for byte in address.encode())
        address = address.replace("\x00", "%00").replace(" ", "%20").encode("ascii", "replace").decode()
        path = self.pick(
            "clusters/", f"clusters/{cluster}", f"clusters/{cluster}", f"clusters/{cluster}", f"clusters/{cluster}/servers", f"clusters/{cluster}/servers",
            f"clusters/{cluster}/servers/{address}", f"clusters/{cluster}/servers/{address}", f"clusters/{cluster}/rollback", f"clusters/{cluster}/select",
            f"clusters/{cluster}/servers/{address}/feedback", f"clusters/{cluster}/{address}",
        )
        if self.chance(0.25):
            path += "?" + "&".join(self.pick("dry_run=1", "dry_run=1", "dry_run=0", "dry_run=2", "dry_run", "level=1", "level=2", "level=x", "level=%ff", "level=-1", "level=99999999999999999999",
                                             "level=", "key=a", "order=1", "=", "%", "x=%00", "x" * 500) for _ in range(self.pick(1, 1, 2, 20)))
        return path

    def fitting(self, path):
        """A method that is served there, if any is. Few of those that delete a cluster: there would soon be
        none any more."""
        place = path.partition("?")[0]
        if place.endswith(("/rollback", "/feedback", "/servers")):
            return "POST"
        if "/servers/" in place:
            return self.pick("PATCH", "PATCH", "DELETE")
        return "DELETE" if self.chance(0.03) else "PUT"

    def request(self, versions):
        """The method, the path, the bytes, and whether they are all of it."""
        method = self.random.choice(METHODS if self.chance(0.95) else OTHER_METHODS)
        path = self.path()
        if self.chance(0.7):
            method = self.fitting(path)
        fields = []
        has_body = method in ("PUT", "POST", "PATCH") and self.chance(0.97) or self.chance(0.1)
        if has_body:
            fields.append("Content-Type: " + (self.pick("application/json", "application/json; charset=utf-8", "Application/JSON") if self.chance(0.95) else self.pick(
                "text/plain", "", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonp", "json", "\xff")))
        for name in ("If-Match", "If-None-Match"):
            if self.chance(0.06):
                fields.append(f"{name}: " + self.pick("*", '"1"', '""', '"', "x", 'W/"1"', '"1", "2"', "," * 50, '"' + "9" * 500 + '"', *(f'"{version}"' for version in versions)))
        data, is_whole = b"", True
        if has_body:
            data = self.body() if self.chance(0.6) else json.dumps(self.for_(path, versions)).encode()
            if self.chance(0.2):
                fields.append("Transfer-Encoding: chunked")
                size = self.random.randint(1, max(1, len(data)))
                chunks = [data[at : at + size] for at in range(0, len(data), size)][:1000]
                data = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
                if self.chance(0.1):
                    data, is_whole = self.bytes_(data), False
            else:
                length = len(data)
                if self.chance(0.03):
                    length, is_whole = length + self.random.randint(1, 100), False
                elif self.chance(0.02):
                    length, is_whole = self.pick(-1, 10**30, "x", ""), False
                fields.append(f"Content-Length: {length}")
        if self.chance(0.02):
            fields.append(self.pick("Expect: 100-continue", "Range: bytes=0-1", "X: " + "x" * 5000, "Content-Encoding: gzip", "Cookie: a=b", "If-Modified-Since: x"))
        head = f"{method} /api/{path} HTTP/1.1\r\nHost: x\r\n" + "".join(f"{field}\r\n" for field in fields) + "\r\n"
        return method, path, head.encode("latin-1") + data, is_whole


class Line:
    """A connection to the proxy, opened again when it has to be."""

    def __init__(self, port):
        self.port, self.socket, self.buffer = port, None, b""

    def close(self):
        if self.socket:
            self.socket.close()
        self.socket = None

    def ask(self, data, is_head=False, is_whole=True):
        """The status, the head and the body; None: no answer came."""
        if self.socket is None:
            self.socket, self.buffer = socket.create_connection((HOST, self.port), timeout=PATIENCE), b""
        try:
            self.socket.sendall(data)
        except OSError:
            pass  # a refusal may come before the end of a body
        try:
            if not is_whole:
                self.socket.shutdown(socket.SHUT_WR)
            return self._answer(is_head)
        except (OSError, ValueError):
            self.close()
            return None
        finally:
            if not is_whole:
                self.close()

    def _until(self, done):
        while not done():
            more = self.socket.recv(1 << 20)
            if not more:
                raise ConnectionError
            self.buffer += more

    def _answer(self, is_head):
        while True:
            self._until(lambda: b"\r\n\r\n" in self.buffer)
            head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
            status = int(head.split(b" ")[1])
            if status != 100:
                break
        small = head.lower()
        if b"\r\ncontent-length: " not in small:
            raise ValueError
        length = 0 if is_head else int(small.partition(b"\r\ncontent-length: ")[2].split(b"\r\n")[0])
        self._until(lambda: len(self.buffer) >= length)
        body, self.buffer = self.buffer[:length], self.buffer[length:]
        if b"\r\nconnection: close" in small:
            self.close()
        return status, small, body


def proxy(zone, http=""):
    port = free_port()
    nginx = Nginx(
        f"""checkups_zone checkups:{zone}; {http}
        checkups_check_define defined http interval=5s;
        upstream up {{ checkups_cluster; server 127.0.0.1:1; server 127.0.0.1:2 weight=2; }}
        upstream hashed {{ checkups_cluster; checkups_balance hash $request_uri; server 127.0.0.1:1; server 127.0.0.1:2; }}
        upstream two {{ checkups_cluster; checkups_level a {{ server 127.0.0.1:1; }} checkups_level b {{ server 127.0.0.1:1; server 127.0.0.1:3; }} }}
        upstream stock {{ zone stock 64k; server 127.0.0.1:1; server 127.0.0.1:2; checkups_check tcp interval=10s; }}
        server {{
            listen {HOST}:{port}; keepalive_requests 1000000; client_body_timeout 2s; client_header_timeout 5s; lingering_timeout 100ms;
            location /api/ {{ checkups_api write=on; }}
        }}""",
        workers=2,
    ).start()
    nginx.port = port
    return nginx


class Found:
    """What was wrong, and how often each status came."""

    def __init__(self):
        self.statuses, self.wrong, self.requests, self.changes = Counter(), [], 0, 0

    def add(self, what, data):
        self.wrong.append(f"{what}: {data[:300]!r}")


LIST = b"GET /api/clusters/ HTTP/1.1\r\nHost: x\r\n\r\n"


def attack(nginx, fuzzer, seconds, found):
    """Ask for so long; returns what the clusters are in the end."""
    line, look = Line(nginx.port), Line(nginx.port)
    state = look.ask(LIST)[2]
    end = now() + seconds
    data_ = b""
    while now() < end:
        versions = [cluster.get("version", 0) for cluster in json.loads(state).values()]
        method, path, data, is_whole = fuzzer.request(versions)
        answer = line.ask(data, method == "HEAD", is_whole)
        found.requests += 1
        before, data_ = data_, data
        status = answer[0] if answer else None
        found.statuses[status] += 1
        if answer is None:
            if is_whole:
                found.add(f"no answer (before it {before[:300]!r})", data)
        else:
            _, head, body = answer
            if status >= 500 and status != 507 and not (status == 503 and "/select" in path):
                found.add(f"status {status} {body[:200]!r}", data)
            if b"\r\ncontent-type: application/json" in head and method != "HEAD":
                try:
                    value = json.loads(body)
                    if status >= 400 and value["error"]["status"] != status:
                        found.add(f"status {status}, and {value['error']}", data)
                except (ValueError, KeyError, TypeError, RecursionError) as error:
                    found.add(f"status {status} with {body[:200]!r} ({error!r})", data)
        seen = look.ask(LIST)
        if seen is None or seen[0] != 200:
            found.add(f"no list of the clusters after it ({seen and seen[0]})", data)
            continue
        may_change = status in (200, 201) and method in ("PUT", "POST", "PATCH", "DELETE")
        if seen[2] != state and not may_change:
            found.add(f"status {status}, and it changed something", data)
        found.changes += seen[2] != state
        state = seen[2]
        if status in (200, 201) and "dry_run=1" in path and may_change and b'"dry_run":true' in (answer[2] if answer else b"") and seen[2] != state:
            found.add("a dry run changed something", data)
    line.close()
    look.close()
    return state


def same(before, after, configured):
    """Whether the clusters are the same. Those that are as in the configuration have new versions."""
    def known(clusters):
        clusters = json.loads(clusters)
        for name, cluster in clusters.items():
            if without_version(cluster) == configured.get(name):
                cluster["version"] = 0
        return clusters

    return known(before) == known(after)


def without_version(cluster):
    return {key: value for key, value in cluster.items() if key != "version"}


def prove(table, fuzzer, seconds, folder):
    """Under attack for so long, with the state in a folder, or without."""
    what = "with state" if folder else "without state"
    http = f"checkups_state {folder}/state;" if folder else ""
    # Without state the zone is so small that not all fits.
    nginx, found = proxy("8m" if folder else "320k", http), Found()
    workers = nginx.workers()
    at_first = json.loads(Line(nginx.port).ask(LIST)[2])
    configured = {name: without_version(cluster) for name, cluster in at_first.items()}
    state = attack(nginx, fuzzer, seconds, found)
    table.row(f"{what}: requests, changes; wrong", f"{found.requests}, {found.changes}; {len(found.wrong)}", "0", not found.wrong and found.changes > 0)
    for line in found.wrong[:8]:
        table.note(line)
    table.note("answers: " + ", ".join(f"{status or 'none'}: {count}" for status, count in sorted(found.statuses.items(), key=lambda item: item[0] or 0)))
    bad = nginx.bad_lines()
    table.row("  lines that are never right", str(len(bad)), "0", not bad)
    for line in bad[:3]:
        table.note(line)
    table.row("  the workers are the same", str(nginx.workers() == workers), "True", nginx.workers() == workers)
    if folder:
        nginx.kill()
        nginx.start()
        answer = Line(nginx.port).ask(LIST)
        kept = answer is not None and same(state, answer[2], configured)
        table.row("  after a kill and a start the clusters are the same", str(kept), "True", kept)
        if not kept:
            table.note(f"before: {state[:2000]!r}")
            table.note(f"after:  {answer and answer[2][:2000]!r}")
            for line in nginx.log().splitlines()[-20:]:
                table.note(line)
    remove(nginx)


def main():
    command = Command(__doc__, (), 64, 24, 14)
    command.add_sample()
    command.add("--seconds", type=float, help="for how long")
    command.add("--seed", type=int, default=random.randrange(1 << 32))
    options = command.options()
    seconds = options.seconds or (6 if options.sample else 60)
    command.begin(f"the API under a fuzzer for {seconds:g} s", f", --seed {options.seed}")
    fuzzer = Fuzzer(options.seed)
    folder = tempfile.mkdtemp(prefix="checkups-p.")
    os.chmod(folder, 0o755)
    try:
        prove(command.table, fuzzer, seconds / 2, None)
        prove(command.table, fuzzer, seconds / 2, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return command.end()


if __name__ == "__main__":
    sys.exit(main())
