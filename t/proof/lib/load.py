"""A client that keeps so many connections busy, and accounts for each request."""

import multiprocessing
import selectors
import socket
from array import array

from processes import HOST, now

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 10  # seconds for an answer


class Load:
    """The client, in a process of its own. The proxy has to tell the servers that it tried in X-Tried."""

    def __init__(self, port, connections=64):
        context = multiprocessing.get_context("fork")
        self.ending = context.Event()
        self.results, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_run, args=(port, connections, self.ending, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self):
        """End it, and return the Record."""
        self.ending.set()
        record = self.results.recv()
        self.process.join()
        return record


class Record:
    """What came of the requests."""

    def __init__(self):
        self.answered = 0
        self.failed = []  # the time, and what went wrong
        self.retried = 0
        self.tried = {}  # by server: the times
        self.served = {}

    def answer(self, status, tried, failure):
        time = now()
        self.answered += 1
        for server in tried:
            self.tried.setdefault(server, array("d")).append(time)
        if tried:
            self.served.setdefault(tried[-1], array("d")).append(time)
        self.retried += len(tried) > 1
        if status != b"200":
            self.failure(failure or f"status {status.decode()}, tried {', '.join(tried)}")

    def failure(self, what):
        self.failed.append((now(), what))


class _Connection:
    def __init__(self, client):
        self.client = client
        self.open()

    def open(self):
        self.buffer = b""
        self.since = now()
        self.socket = socket.create_connection((HOST, self.client.port), timeout=PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.client.selector.register(self.socket, selectors.EVENT_READ, self)
        self.ask()

    def ask(self):
        self.since = now()
        self.socket.send(REQUEST)

    def reopen(self):
        self.client.selector.unregister(self.socket)
        self.socket.close()
        self.open()

    def fail(self, what):
        self.client.record.failure(what)
        self.reopen()

    def readable(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(repr(error))
            return
        if not data:
            self.fail("the connection was closed instead of an answer" if not self.buffer else "the answer was cut")
            return
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
        if len(body) < int(fields.get(b"content-length", 0)):
            return
        tried = [server for server in fields.get(b"x-tried", b"").decode().replace(" : ", ", ").split(", ") if server]
        self.client.record.answer(lines[0].split(b" ")[1], tried, None)
        self.buffer = b""
        if fields.get(b"connection") == b"close":
            self.reopen()
        else:
            self.ask()


class _Client:
    def __init__(self, port, connections):
        self.port = port
        self.record = Record()
        self.selector = selectors.DefaultSelector()
        self.connections = [_Connection(self) for _ in range(connections)]

    def run(self, ending):
        checked = now()
        while not ending.is_set():
            for key, _ in self.selector.select(0.05):
                key.data.readable()
            if now() - checked > 1:
                checked = now()
                for connection in self.connections:
                    if checked - connection.since > PATIENCE:
                        connection.fail("no answer")
        return self.record


def _run(port, connections, ending, results):
    try:
        record = _Client(port, connections).run(ending)
    except OSError as error:  # nobody listens: then no figure is to be had
        record = Record()
        record.failure(f"the client gave up: {error!r}")
    results.send(record)
    results.close()
