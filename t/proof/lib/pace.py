"""A client that keeps so many connections, asks over each again a while after the answer, and writes
down of each request when it began, how long it took, and who was tried for it."""

import multiprocessing
import select
import signal
import socket
from array import array
from collections import deque

from processes import HOST, now

REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PATIENCE = 10  # seconds for an answer

_context = multiprocessing.get_context("fork")


class Paced:
    """The client, in a process of its own. The proxy tells the servers that it tried in X-Tried."""

    def __init__(self, port, connections, pause):
        self.ending = _context.Event()
        self.results, theirs = _context.Pipe(duplex=False)
        self.process = _context.Process(target=_run, args=(port, connections, pause, self.ending, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self):
        """Send nothing more, wait for the answers, and return the Record."""
        self.ending.set()
        record = self.results.recv() if self.results.poll(3 * PATIENCE) else None
        if record is None:
            self.process.kill()
        self.process.join()
        if record is None:
            raise RuntimeError("the client does not end")
        return record


class Record:
    """What came of the requests: of each that was answered with 200, at the same index of three arrays."""

    def __init__(self):
        self.began = array("d")
        self.took = array("d")
        self.tried = array("H")  # an index of `names`
        self.names = []
        self.failed = []  # when it began, and what went wrong

    def rate(self):
        return len(self.began) / (self.began[-1] - self.began[0]) if len(self.began) > 1 else 0.0


def _connect(port):
    connection = socket.create_connection((HOST, port), timeout=PATIENCE)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setblocking(False)
    return connection


def _work(record, port, connections, pause, ending):
    indices, epoll = {}, select.epoll()
    open_ = {}  # by descriptor: the socket
    since = {}  # by descriptor: when it has asked
    begin = now()
    # When to ask over which. At first one after the other, so that they do not stay together.
    due = deque()
    for number in range(connections):
        connection = _connect(port)
        open_[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)
        due.append((begin + pause * number / connections, connection.fileno()))

    def reopen(descriptor):
        epoll.unregister(descriptor)
        open_.pop(descriptor).close()
        connection = _connect(port)
        open_[connection.fileno()] = connection
        epoll.register(connection, select.EPOLLIN)
        return connection.fileno()

    last_look = begin
    while due or since:
        time = now()
        if ending.is_set():
            due.clear()
        while due and due[0][0] <= time:
            _, descriptor = due.popleft()
            since[descriptor] = time = now()
            try:
                open_[descriptor].send(REQUEST)
            except OSError as error:
                record.failed.append((since.pop(descriptor), repr(error)))
                due.append((time + pause, reopen(descriptor)))
        for descriptor, _ in epoll.poll(max(0.0, due[0][0] - time) if due else 0.05):
            began = since.pop(descriptor, None)
            try:
                data = open_[descriptor].recv(65536)
            except OSError as error:
                data, what = b"", repr(error)
            else:
                what = "the connection was closed instead of an answer"
            time = now()
            # Answers are so short that they come at once.
            if data.startswith(b"HTTP/1.1 200 ") and began is not None:
                start = data.find(b"X-Tried: ") + 9
                name = data[start : data.find(b"\r", start)]
                index = indices.get(name)
                if index is None:
                    index = indices[name] = len(record.names)
                    record.names.append(name.decode())
                record.began.append(began)
                record.took.append(time - began)
                record.tried.append(index)
                if b"\r\nConnection: close\r\n" in data:
                    descriptor = reopen(descriptor)
            else:
                if began is not None:
                    record.failed.append((began, data.split(b"\r\n")[0].decode(errors="replace") or what))
                descriptor = reopen(descriptor)
            if began is not None:
                due.append((time + pause, descriptor))
        if time - last_look > 1:
            last_look = time
            for descriptor in [d for d, began in since.items() if time - began > PATIENCE]:
                record.failed.append((since.pop(descriptor), "no answer"))
                due.append((time + pause, reopen(descriptor)))


def _run(port, connections, pause, ending, results):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    record = Record()
    try:
        _work(record, port, connections, pause, ending)
    except OSError as error:  # nobody listens: then no figure is to be had
        record.failed.append((now(), f"the client gave up: {error!r}"))
    results.send(record)
    results.close()
