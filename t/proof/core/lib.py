"""What the proofs of the shared core have in common: nginx, servers behind it, load, and the table.

The environment says what is tested: NGINX (the binary) and MODULE (the module, built with the feature
`development`); without them it is objs/development.
"""

import argparse
import array
import asyncio
import atexit
import ctypes
import http.client
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
NGINX = os.path.abspath(os.environ.pop("NGINX", None) or f"{ROOT}/objs/development/nginx")  # not for nginx: sockets to inherit
MODULE = os.path.abspath(os.environ.get("MODULE") or f"{ROOT}/objs/development/ngx_http_checkups_module.so")
HOST = "127.0.0.1"
PATIENCE = 10  # seconds for an answer

_context = multiprocessing.get_context("fork")
_libc = ctypes.CDLL(None, use_errno=True)
_running = []
_used_ports = set()

now = time.monotonic


def wait_until(seconds, condition, every=0.005):
    """Wait until the condition holds; return its value, or None after so many seconds."""
    deadline = now() + seconds
    while True:
        value = condition()
        if value:
            return value
        if now() > deadline:
            return None
        time.sleep(every)


def free_port():
    """A port that is free, and not of the range for outgoing connections."""
    while True:
        port = random.randrange(10000, 32000)
        if port in _used_ports:
            continue
        _used_ports.add(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            return port


def ask(port, path, method="GET", body=None, timeout=PATIENCE):
    """One request over a new connection: the status and the body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        type_ = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, body, {"Connection": "close", **type_})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def servers(*all_of_them):
    """The body of a PUT: one level of servers, each an address or a dictionary."""
    level = [server if isinstance(server, dict) else {"server": server} for server in all_of_them]
    return json.dumps({"levels": [{"servers": level}]})


# Processes


def _end_with_parent():
    _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _stat(pid):
    """The state, the parent and the session of a process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            fields = stat.read().rpartition(") ")[2].split()
    except OSError:
        return None, None, None
    return fields[0], int(fields[1]), int(fields[3])


def is_running(pid):
    """Whether a process runs. A zombie does not: who waits for it is another matter."""
    return _stat(pid)[0] not in (None, "Z", "X")


def peers_of(pid):
    """The ports of the clients that a process has connections with, by what it has open."""
    pidfd = os.pidfd_open(pid)
    found = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            copy = _libc.syscall(438, pidfd, int(name), 0)  # pidfd_getfd
            if copy < 0:
                continue
            try:
                with socket.socket(fileno=copy) as connection:
                    if connection.family == socket.AF_INET:
                        found.add(connection.getpeername()[1])
            except OSError:
                pass  # not a socket, or not a connected one
    except OSError:
        pass
    finally:
        os.close(pidfd)
    return found


class Nginx:
    """An nginx with a prefix of its own. `text` may name {root}."""

    def __init__(self, text, workers=1, main="", module=True, connections=2048):
        self.root = tempfile.mkdtemp(prefix="checkups-core.")
        os.chmod(self.root, 0o755)
        os.mkdir(f"{self.root}/logs")
        self.workers_wanted = workers
        self.settings = {"main": main, "module": module, "connections": connections}
        self.process = None
        self.log_path = f"{self.root}/logs/error.log"
        self.configure(text)

    def configure(self, text, workers=None):
        """Write the configuration."""
        if workers is not None:
            self.workers_wanted = workers
        settings = self.settings
        temp = " ".join(f"{kind}_temp_path {self.root}/{kind}_temp;" for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi"))
        path = f"{self.root}/nginx.conf"
        with open(f"{path}.new", "w", encoding="ascii") as out:
            out.write(
                f"""{f'load_module {MODULE};' if settings['module'] else ''}
                daemon off;
                worker_processes {self.workers_wanted};
                worker_rlimit_nofile {4 * settings['connections'] + 100};
                error_log {self.log_path} notice;
                pid {self.root}/logs/nginx.pid;
                {'user root;' if os.geteuid() == 0 else ''}
                {settings['main']}
                events {{ worker_connections {settings['connections']}; }}
                http {{ access_log off; client_body_buffer_size 1m; client_max_body_size 1m; {temp} {text} }}
                """
            )
        os.rename(f"{path}.new", path)

    def start(self):
        command = [NGINX, "-e", self.log_path, "-p", f"{self.root}/", "-c", f"{self.root}/nginx.conf"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True, preexec_fn=_end_with_parent,
        )
        _running.append(self)
        ready = wait_until(10, lambda: self.process.poll() is not None or len(self.workers()) >= self.workers_wanted)
        if not ready or self.process.poll() is not None:
            raise RuntimeError(f"nginx did not start: {self.log()[-3000:]}")
        return self

    def workers(self):
        """The ids of the processes that the master started, the oldest first."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                state, parent, _ = _stat(entry)
                if parent == self.process.pid and state not in ("Z", "X"):
                    found.append(int(entry))
        return sorted(found)

    def reload(self):
        self.process.send_signal(signal.SIGHUP)

    def reload_and_wait(self, limit=20):
        """Reload, and wait until the workers of before are gone; return whether they are."""
        before = self.workers()
        self.reload()
        return wait_until(limit, lambda: not any(map(is_running, before)) and len(self.workers()) == self.workers_wanted)

    def stop(self, number=signal.SIGTERM, limit=5):
        """End all of its processes; return whether they ended by themselves."""
        if self.process is None:
            return True
        if self.process.poll() is None:
            self.process.send_signal(number)
        wait_until(limit, lambda: self.process.poll() is not None)
        left = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and _stat(pid)[2] == self.process.pid]
        left = [pid for pid in left if _stat(pid)[0] not in ("Z", "X") or pid == self.process.pid]
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.process.wait()
        self.process = None
        if self in _running:
            _running.remove(self)
        return not left

    def remove(self):
        self.stop()
        if not os.environ.get("KEEP"):
            shutil.rmtree(self.root, ignore_errors=True)

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as log:
                return log.read()
        except OSError:
            return ""

    def deaths(self):
        """How many of its workers died by SIGKILL."""
        return self.log().count("exited on signal 9")

    def bad_lines(self, expected=("exited on signal 9", "was locked by")):
        """Lines of the log that are never right."""
        bad = ("[alert]", "[crit]", "[emerg]", "panicked at", "exited on signal", "exited with")
        return [
            line for line in self.log().splitlines()
            if any(word in line for word in bad) and not any(word in line for word in ("exited on signal 9", *expected, "exited with code 0"))
        ]


class Proxy(Nginx):
    """An nginx with the module. `upstreams` and `locations` are text; the port is `port`."""

    def __init__(self, upstreams, locations, zone="4m", workers=4, listen="reuseport", **settings):
        self.port = free_port()
        self.parts = {"upstreams": upstreams, "locations": locations, "zone": zone, "listen": listen}
        super().__init__(self.text(), workers=workers, **settings)

    def text(self):
        parts = self.parts
        return f"""checkups_zone checkups:{parts['zone']};
            {parts['upstreams']}
            proxy_next_upstream error timeout;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            add_header X-Worker $pid always;
            add_header X-Tried $upstream_addr always;
            server {{
                listen {HOST}:{self.port} backlog=4096 {parts['listen']};
                {parts['locations']}
                location /api/ {{ checkups_api write=on; }}
            }}"""

    def change(self, workers=None, **parts):
        """Write the configuration with some parts changed."""
        self.parts.update(parts)
        self.configure(self.text(), workers)

    def status(self):
        return json.loads(ask(self.port, "/api/status")[1])

    def server(self, cluster, address):
        """What the status says of a server."""
        levels = self.status()[f"cls:{cluster}"]
        return next((server for level in levels for server in level if server["server"] == f"{cluster}:{address}"), None)

    def free(self):
        """The free bytes of the zone, once what was replaced has been freed."""
        values = []

        def settled():
            values.append(self.status()["zone"]["free"])
            return len(values) > 8 and len(set(values[-8:])) == 1

        wait_until(10, settled, every=0.3)
        return values[-1]

    def verify(self):
        """What is wrong in the zone; empty: nothing."""
        status, text = ask(self.port, "/api/verify")
        return "" if status == 200 else f"{status} {text}"

    def put(self, cluster, body):
        status, text = ask(self.port, f"/api/clusters/{cluster}", "PUT", body)
        return "" if status in (200, 201) else f"{status} {text}"


class Backends(Nginx):
    """One nginx without the module that is many servers, each on a port of its own. Each answers with its
    port; its checks can be made to fail."""

    def __init__(self, count):
        self.ports = [free_port() for _ in range(count)]
        listen = " ".join(f"listen {HOST}:{port} backlog=4096;" for port in self.ports)
        super().__init__(
            f"""server {{
                {listen}
                keepalive_requests 10000000;
                root {{root}};
                location / {{ return 200 $server_port; }}
                location = /500 {{ return 500; }}
                location = /health {{ if (-f $document_root/down.$server_port) {{ return 503; }} return 200 up; }}
            }}""",
            module=False, connections=8192,
        )

    def configure(self, text, workers=None):
        super().configure(text.replace("{root}", self.root), workers)

    def addresses(self):
        return [f"{HOST}:{port}" for port in self.ports]

    def set_healthy(self, port, healthy):
        path = f"{self.root}/down.{port}"
        if not healthy:
            with open(path, "w", encoding="ascii"):
                pass
        elif os.path.exists(path):
            os.unlink(path)


class Slow:
    """A server that answers after a time between two limits, and counts how many requests it has at once.
    A request is over when it was answered, or its connection was closed. It also takes upgrades, which
    stay open until the client closes."""

    def __init__(self, least=0.02, most=0.05):
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.counts = _context.Array("q", 3)  # now, at most, in all
        self.limits = _context.Array("d", [least, most])
        ready = _context.Event()
        self.process = _context.Process(target=self._run, args=(ready,), daemon=True)
        self.process.start()
        _running.append(self)
        ready.wait(5)

    def set_delay(self, least, most):
        self.limits[:] = [least, most]

    def current(self):
        return self.counts[0]

    def total(self):
        return self.counts[2]

    def take_highest(self):
        """The most requests at once since the last call."""
        with self.counts.get_lock():
            highest, self.counts[1] = self.counts[1], self.counts[0]
        return highest

    def stop(self):
        if self in _running:
            _running.remove(self)
        self.process.kill()
        self.process.join()

    def _run(self, ready):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_with_parent()
        slow = self

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport, self.timer, self.buffer, self.upgraded = transport, None, b"", False

            def data_received(self, data):
                if self.upgraded:
                    self.transport.write(data)
                    return
                self.buffer += data
                head, end, _ = self.buffer.partition(b"\r\n\r\n")
                if not end:
                    return
                self.buffer = b""
                if b"\r\nupgrade:" in head.lower():
                    self.upgraded = True
                    self.transport.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
                    return
                with slow.counts.get_lock():
                    slow.counts[0] += 1
                    slow.counts[1] = max(slow.counts[0], slow.counts[1])
                    slow.counts[2] += 1
                self.timer = loop.call_later(random.uniform(*slow.limits), self.answer)

            def over(self):
                if self.timer:
                    self.timer.cancel()
                    self.timer = None
                    with slow.counts.get_lock():
                        slow.counts[0] -= 1

            def answer(self):
                self.over()
                body = str(slow.port).encode()
                self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))

            def eof_received(self):
                self.over()

            def connection_lost(self, _):
                self.over()

        loop = asyncio.new_event_loop()
        loop.run_until_complete(loop.create_server(Protocol, HOST, self.port, backlog=4096, reuse_address=True))
        ready.set()
        loop.run_forever()


# Load


class Load:
    """A client with so many connections at work at once, in a process of its own.

    Each connection asks for one of `paths` (by turns), and then for the next: over a new connection, or over
    the same as long as it is kept. X-Request is different in each request.
    """

    def __init__(self, port, connections=64, paths=("/",), keep=False, pause=0.0):
        self.ending = _context.Event()
        self.results, theirs = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_run_load, args=(port, connections, paths, keep, pause, self.ending, theirs), daemon=True)
        self.process.start()
        theirs.close()
        _running.append(self)

    def finish(self):
        """End it; return the Record."""
        self.ending.set()
        record = self.results.recv() if self.results.poll(30) else None
        self.stop()
        if record is None:
            raise RuntimeError("the client does not end")
        return record

    def stop(self):
        if self in _running:
            _running.remove(self)
        self.process.join(1)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


class Record:
    """What came of the requests."""

    def __init__(self):
        self.times = array.array("d")  # of the successes
        self.took = array.array("d")
        self.lines = array.array("H")  # which connection had it
        self.served = {}  # by server
        self.served_lately = {}  # by server: the last time
        self.workers = {}  # by worker: the first success
        self.cut = []  # time, our port, the number of requests on the connection before, its X-Request: no answer
        self.wrong = []  # time, what: an answer that is none of those wanted
        self.closed = 0  # kept connections that were closed while nothing was asked

    def longest_gap(self):
        """Between two successes."""
        times = sorted(self.times)
        return max((b - a for a, b in zip(times, times[1:])), default=0.0)

    def longest(self):
        return max(self.took, default=0.0)

    def longest_of_a_line(self, start, end):
        """The longest time without a success on any of the connections."""
        last, longest = {}, 0.0
        for time_, line in zip(self.times, self.lines):
            if start <= time_ <= end:
                longest = max(longest, time_ - last.get(line, start))
                last[line] = time_
        return max([longest, *(end - time_ for time_ in last.values())])


class _Line:
    """One connection after another."""

    def __init__(self, client, number):
        self.client, self.number, self.turn = client, number, number
        self.timer = None
        self.open()

    def open(self):
        client = self.client
        self.since = now()
        self.asked = 0
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.local, self.idle, self.buffer = 0, False, b""
        try:
            self.socket.connect((HOST, client.port))
        except OSError as error:
            client.record.wrong.append((now(), f"connect: {error!r}"))
            self.socket.close()
            client.loop.call_later(0.01, self.open)
            return
        self.local = self.socket.getsockname()[1]
        self.socket.setblocking(False)
        client.loop.add_reader(self.socket, self.readable)
        self.ask()

    def ask(self):
        client = self.client
        if self.asked:
            self.since = now()
        self.buffer = b""
        path = client.paths[self.turn % len(client.paths)]
        self.turn += 1
        self.idle = False
        client.requests += 1
        self.request = f"{os.getpid()}-{client.requests}"
        try:
            self.socket.send(b"GET %s HTTP/1.1\r\nHost: localhost\r\nX-Request: %s\r\n\r\n" % (path, self.request.encode()))
        except OSError as error:
            self.cut(error)

    def close(self):
        self.client.loop.remove_reader(self.socket)
        self.socket.close()

    def cut(self, error):
        record = self.client.record
        if self.idle:
            record.closed += 1
            self.timer.cancel()
            self.close()
            self.open()
            return
        record.cut.append((now(), self.local, self.asked, self.request))
        if self.buffer:
            record.wrong.append((now(), "an answer was cut"))
        elif not isinstance(error, (type(None), ConnectionResetError, BrokenPipeError)):
            record.wrong.append((now(), repr(error)))
        self.close()
        self.open()

    def readable(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.cut(error)
            return
        if not data:
            self.cut(None)
            return
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        if len(body) < int(fields.get(b"Content-Length", 0)):
            return
        client, time_ = self.client, now()
        record = client.record
        if lines[0].startswith(b"HTTP/1.1 200"):
            record.times.append(time_)
            record.took.append(time_ - self.since)
            record.lines.append(self.number)
            record.served[body] = record.served.get(body, 0) + 1
            record.served_lately[body] = time_
            record.workers.setdefault(fields.get(b"X-Worker"), time_)
        else:
            tried = fields.get(b"X-Tried", b"").decode()
            record.wrong.append((time_, f"{lines[0].decode()}, tried {tried}, took {time_ - self.since:.3f} s"))
        self.asked += 1
        kept = client.keep and fields.get(b"Connection") != b"close"
        if not kept:
            self.close()
        self.buffer = b""
        if client.pause:
            self.idle = kept
            self.timer = client.loop.call_later(client.pause * random.uniform(0.5, 1.5), self.ask if kept else self.open)
        elif kept:
            self.ask()
        else:
            self.open()


class _Client:
    def __init__(self, port, connections, paths, keep, pause):
        self.port, self.keep, self.pause = port, keep, pause
        self.paths = [path.encode() for path in paths]
        self.record = Record()
        self.requests = 0
        self.loop = asyncio.new_event_loop()
        self.lines = [_Line(self, number) for number in range(connections)]

    async def run(self, ending):
        while not ending.is_set():
            await asyncio.sleep(0.02)
            for line in self.lines:
                if now() - line.since > PATIENCE + self.pause * 2:
                    self.record.wrong.append((now(), f"no answer for {PATIENCE} s"))
                    if line.timer:
                        line.timer.cancel()
                    line.close()
                    line.open()


def _run_load(port, connections, paths, keep, pause, ending, results):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _end_with_parent()
    client = _Client(port, connections, paths, keep, pause)
    client.loop.run_until_complete(client.run(ending))
    results.send(client.record)
    results.close()


def at_once(port, path, count, timeout=PATIENCE):
    """So many requests at once, each over a new connection: how often each status came."""

    async def one():
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(HOST, port), timeout)
            writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            data = await asyncio.wait_for(reader.read(), timeout)
            writer.close()
            return data.split(b" ")[1].decode() if data else "cut"
        except (OSError, asyncio.TimeoutError) as error:
            return type(error).__name__

    async def all_of_them():
        return await asyncio.gather(*(one() for _ in range(count)))

    found = asyncio.run(all_of_them())
    return {status: found.count(status) for status in sorted(set(found))}


# The table


class Table:
    """Claim, figure, limit, and whether that holds."""

    def __init__(self):
        self.failed = 0

    def row(self, claim, figure, limit, holds):
        self.failed += not holds
        print(f"{claim:<88} {figure:<36} {limit:<16} {'PASS' if holds else 'FAIL'}", flush=True)

    def note(self, text):
        print(f"    {text}", flush=True)

    def some(self, lines, most=4):
        for line in lines[:most]:
            self.note(line)
        if len(lines) > most:
            self.note(f"... {len(lines)} in all")


def milliseconds(seconds):
    return f"{seconds * 1000:.1f} ms"


def main(description, parts):
    """Run the parts (functions of the table and of whether it is a sample) that the command line asks for."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", action="store_true", help="the version of a few seconds")
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in parts]
    if unknown:
        parser.error(f"no such part: {unknown[0]} (there are {', '.join(parts)})")
    for path in (NGINX, MODULE):
        if not os.path.exists(path):
            parser.error(f"{path} is not there")
    version = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr.strip().split(": ")[-1]
    print(f"{os.path.basename(sys.argv[0])}{' --sample' if options.sample else ''} under {version}", flush=True)
    table, start = Table(), now()
    for part in options.parts or parts:
        parts[part](table, options.sample)
    took = f"after {now() - start:.0f} s"
    print(f"{table.failed} FAILED {took}" if table.failed else f"all passed {took}")
    return 1 if table.failed else 0


@atexit.register
def _cleanup():
    if _context.current_process().name == "MainProcess":
        for running in list(_running):
            running.stop()


for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, lambda number, frame: sys.exit(128 + number))
