"""The client of the demo: steady requests, and a reader of the status."""

import collections
import http.client
import json
import threading
import time

from processes import HOST

RATE = 200  # requests per second
WINDOW = 700  # so many requests are remembered
SHORT = 70  # ten rounds of 5+1+1: enough to tell that a share has moved


def http_get(port, path, timeout):
    """GET over a new connection; return the status, the X-Server header and the body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.getheader("X-Server", ""), answer.read().decode("utf-8", "replace")
    finally:
        connection.close()


class Traffic(threading.Thread):
    """The client: RATE requests per second, each one accounted for."""

    def __init__(self, port, servers):
        super().__init__(daemon=True)
        self.port = port
        self.servers = servers
        self.lock = threading.Lock()
        self.ending = threading.Event()
        self.made = self.failed = self.retried = 0
        self.first_failure = None
        self.recent = collections.deque(maxlen=WINDOW)  # (time, the server that answered or None)
        self.last_try = {server: (0, 0.0) for server in servers}  # number of the request, time

    def run(self):
        """Send requests until told to end."""
        due = time.monotonic()
        while not self.ending.is_set():
            self.record(*self.request())
            due = max(due + 1 / RATE, time.monotonic() - 0.25)  # after a delay, catch up a little at most
            self.ending.wait(max(0.0, due - time.monotonic()))

    def request(self):
        """Make one request; return the server that answered, the servers tried, and what went wrong."""
        try:
            status, header, body = http_get(self.port, "/", timeout=10)
        except (OSError, http.client.HTTPException) as error:
            return None, [], repr(error)
        tried = header.replace(" : ", ", ").split(", ")
        if status == 200 and body.strip() in self.servers:
            return body.strip(), tried, None
        return None, tried, f"status {status}, tried {header or 'no server'}"

    def record(self, server, tried, failure):
        """Count one request."""
        now = time.monotonic()
        with self.lock:
            self.made += 1
            self.retried += len(tried) > 1
            if failure:
                self.failed += 1
                self.first_failure = self.first_failure or failure
            self.recent.append((now, server))
            for address in tried:
                self.last_try[address] = (self.made, now)

    def share(self, server, count):
        """Return the server's share of the last `count` requests, in percent."""
        with self.lock:
            answered = [by for _, by in self.recent][-count:]
        return 100 * answered.count(server) / max(1, len(answered))

    def per_second(self):
        """Return the rate over the last requests."""
        with self.lock:
            times = [when for when, _ in self.recent]
        return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0

    def left(self, server, number, when):
        """Return when the proxy last tried the server, once SHORT requests in a row have not been
        sent there; else None. `number` and `when` are those of the stop: no answer is before it."""
        with self.lock:
            last = max(self.last_try[server], (number, when))
            return last[1] if self.made - last[0] >= SHORT else None

    def finish(self):
        """Let the request in flight end, and send no more."""
        self.ending.set()
        if self.is_alive():
            self.join()


def read_status(port):
    """Return what checkups says: {address: its entry in the status}, or raise ValueError or OSError."""
    status, _, body = http_get(port, "/_checkups/status", timeout=2)
    if status != 200:
        raise ValueError(f"/_checkups/status answers {status}")
    cluster = json.loads(body).get("cls:demo", [])
    levels = cluster.values() if isinstance(cluster, dict) else cluster
    return {entry["server"].partition(":")[2]: entry for level in levels for entry in level}
