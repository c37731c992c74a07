"""A client that asks at a steady rate over many connections, and a backend that takes its time.

Both are processes of their own. Unlike the client of load.py this one does not ask the more often the
faster the answers come: what several proxies lose can be compared, since all of them are asked the same.
"""

import ctypes
import heapq
import multiprocessing
import os
import random
import selectors
import signal
import socket
from collections import deque, namedtuple

from processes import HOST, free_port, now

PATIENCE = 10  # seconds for an answer

_context = multiprocessing.get_context("fork")
_libc = ctypes.CDLL(None)

# When the request was sent, how many seconds its answer took, what went wrong (None: nothing), and the
# servers that the proxy tried, which it has to tell in X-Tried.
Asked = namedtuple("Asked", "at took failure tried")


def _in_child(work, *arguments):
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    work(*arguments)
    os._exit(0)  # what the parent has to clean up is not ours


def _process(work, *arguments):
    process = _context.Process(target=_in_child, args=(work, *arguments), daemon=True)
    process.start()
    return process


class Steady:
    """So many connections to each of the ports and methods, each of which asks once in `every` seconds."""

    def __init__(self, ports, methods, connections, every):
        self.ending = _context.Event()
        self.results, theirs = _context.Pipe(duplex=False)
        self.process = _process(_ask, ports, methods, connections, every, self.ending, theirs)
        theirs.close()

    def stop(self):
        """Send nothing more, wait for the answers, and return lists of Asked by port and method."""
        self.ending.set()
        records = self.results.recv()
        self.process.join()
        return {key: [Asked(*one) for one in asked] for key, asked in records.items()}


class _Connection:
    """Over it one request is made after the other, none before its time."""

    def __init__(self, selector, port, method, records):
        self.selector, self.port, self.records = selector, port, records
        body = b"Content-Length: 5\r\n\r\nhello" if method == "POST" else b"\r\n"
        self.request = f"{method} / HTTP/1.1\r\nHost: localhost\r\n".encode() + body
        self.socket, self.sent = None, None

    def ask(self):
        self.sent, self.buffer = now(), b""
        try:
            if self.socket is None:
                self.socket = socket.create_connection((HOST, self.port), timeout=PATIENCE)
                self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.socket.setblocking(False)
                self.selector.register(self.socket, selectors.EVENT_READ, self)
            self.socket.send(self.request)
        except OSError as error:
            self.failed(repr(error))

    def failed(self, what):
        self.close()
        self.ended(what, ())

    def close(self):
        if self.socket is not None:
            self.selector.unregister(self.socket)
            self.socket.close()
            self.socket = None

    def ended(self, failure, tried):
        self.records.append((self.sent, now() - self.sent, failure, tried))
        self.sent = None

    def readable(self):
        try:
            data = self.socket.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.failed(repr(error))
            return
        if self.sent is None:  # the proxy closes a connection that is not used
            self.close()
            return
        if not data:
            self.failed("the answer was cut" if self.buffer else "closed instead of an answer")
            return
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        lines = head.split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines[1:] if b": " in line)
        if len(body) < int(fields.get(b"content-length", 0)):
            return
        status = lines[0].split(b" ")[1].decode()
        tried = fields.get(b"x-tried", b"").decode().replace(" : ", ", ").split(", ")
        if fields.get(b"connection") == b"close":
            self.close()
        self.ended(None if status == "200" else f"status {status}", tuple(filter(None, tried)))


def _ask(ports, methods, connections, every, ending, results):
    selector = selectors.DefaultSelector()
    records = {(port, method): [] for port in ports for method in methods}
    start = now()
    turns = []  # when whose turn is
    for (port, method), asked in records.items():
        for number in range(connections):
            one = _Connection(selector, port, method, asked)
            heapq.heappush(turns, (start + every * (number + random.random()) / connections, id(one), one))
    everyone = [one for _, _, one in turns]
    looked = start
    while True:
        time = now()
        if ending.is_set() and all(one.sent is None for one in everyone):
            break
        while not ending.is_set() and turns[0][0] <= time:
            due, number, one = turns[0]
            # Who still waits for an answer lets the turn pass.
            if one.sent is None:
                one.ask()
            heapq.heapreplace(turns, (max(due + every, now() - every), number, one))
        wait = 0.05 if ending.is_set() else min(0.05, max(0, turns[0][0] - now()))
        for key, _ in selector.select(wait):
            key.data.readable()
        if time - looked > 1:
            looked = time
            for one in everyone:
                if one.sent is not None and time - one.sent > PATIENCE:
                    one.failed("no answer")
    results.send(records)
    results.close()


class Backend:
    """A server that answers after a delay. What is asked for as /check it answers at once."""

    def __init__(self, delay):
        self.delay = delay
        self.port = free_port()
        self.address = f"{HOST}:{self.port}"
        self.process = None
        self.start()

    def start(self):
        listening = socket.create_server((HOST, self.port), backlog=4096)
        self.process = _process(_serve, listening, self.delay)
        listening.close()

    def signal(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        self.process.kill()
        self.process.join()

    def hang(self):
        self.signal(signal.SIGSTOP)

    def go_on(self):
        self.signal(signal.SIGCONT)

    def fail_checks(self):
        self.signal(signal.SIGUSR1)

    def pass_checks(self):
        self.signal(signal.SIGUSR2)


def _serve(listening, delay):
    state = {"check": b"200 OK"}
    signal.signal(signal.SIGUSR1, lambda number, frame: state.update(check=b"500 Failed"))
    signal.signal(signal.SIGUSR2, lambda number, frame: state.update(check=b"200 OK"))
    listening.setblocking(False)
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    buffers = {}  # what has come of a request, by the socket
    answers = deque()  # when to answer on which socket what, and whether it stays open; in the order of time

    def close(connection):
        selector.unregister(connection)
        del buffers[connection]
        connection.close()

    def answer(connection, status, stays):
        head = b"HTTP/1.1 " + status + b"\r\nContent-Length: 3\r\n"
        try:
            connection.send(head + (b"\r\n" if stays else b"Connection: close\r\n\r\n") + b"ok\n")
        except OSError:
            stays = False
        if not stays:
            close(connection)

    def read(connection):
        try:
            data = connection.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            close(connection)
            return
        buffers[connection] += data
        head, end, body = buffers[connection].partition(b"\r\n\r\n")
        small = head.lower()
        if not end or (b"\r\ncontent-length: 5" in small and len(body) < 5):
            return
        buffers[connection] = b""
        stays = b" http/1.1" in small and b"\r\nconnection: close" not in small
        if b" /check " in head:
            answer(connection, state["check"], stays)
        else:
            answers.append((now() + delay, connection, stays))

    while True:
        wait = max(0, answers[0][0] - now()) if answers else None
        for key, _ in selector.select(wait):
            if key.fileobj is not listening:
                read(key.fileobj)
                continue
            for _ in range(64):
                try:
                    connection, _ = listening.accept()
                except OSError:
                    break
                connection.setblocking(False)
                buffers[connection] = b""
                selector.register(connection, selectors.EVENT_READ)
        time = now()
        while answers and answers[0][0] <= time:
            _, connection, stays = answers.popleft()
            if connection in buffers:
                answer(connection, b"200 OK", stays)
