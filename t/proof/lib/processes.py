"""nginx processes for the proofs, and what the system knows of them."""

import atexit
import ctypes
import http.client
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

NGINX = os.environ.pop("NGINX", None)  # nginx takes it for sockets to inherit
MODULE = os.environ.get("MODULE")
HOST = "127.0.0.1"

_running = []
_used_ports = set()
_libc = ctypes.CDLL(None)


def now():
    return time.monotonic()


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


def free_port(host=HOST):
    """A port that is free, and not of the range for outgoing connections."""
    for _ in range(1000):
        port = random.randrange(10000, 32000)
        if port in _used_ports:
            continue
        _used_ports.add(port)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


def get(port, path, timeout=10):
    """One request over a new connection; return the status and the body."""
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout)
    try:
        connection.request("GET", path, headers={"Connection": "close"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def _process(pid):
    """The state and the parent of a process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            state, parent = stat.read().rpartition(") ")[2].split()[:2]
    except OSError:
        return None, None
    return state, int(parent)


def is_running(pid):
    """Whether a process runs. A zombie is gone: who waits for it is another matter."""
    return _process(pid)[0] not in (None, "Z", "X")


def _end_with_parent():
    _libc.prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


class Nginx:
    """An nginx with its own prefix. `main`, `events` and `http` are text for these contexts."""

    def __init__(self, http, main="", workers=1, connections=1024, master=True, module=True):
        self.root = tempfile.mkdtemp(prefix="checkups-p.")
        os.chmod(self.root, 0o755)
        os.mkdir(f"{self.root}/logs")
        self.workers_wanted = workers if master else 0
        temp = " ".join(
            f"{kind}_temp_path {self.root}/{kind}_temp;"
            for kind in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
        )
        with open(f"{self.root}/nginx.conf", "w", encoding="ascii") as out:
            out.write(
                f"""{f'load_module {MODULE};' if module else ''}
                daemon off;
                master_process {'on' if master else 'off'};
                worker_processes {workers};
                worker_rlimit_nofile {4 * connections + 100};
                error_log {self.root}/logs/error.log notice;
                pid {self.root}/logs/nginx.pid;
                {'user root;' if os.geteuid() == 0 else ''}
                {main}
                events {{ worker_connections {connections}; }}
                http {{ access_log off; {temp} {http} }}
                """
            )
        self.process = None

    def start(self):
        command = [NGINX, "-e", f"{self.root}/logs/error.log", "-p", f"{self.root}/", "-c", f"{self.root}/nginx.conf"]
        pid_file = f"{self.root}/logs/nginx.pid"
        try:
            os.unlink(pid_file)  # of the one before
        except OSError:
            pass
        with open(f"{self.root}/logs/stderr.txt", "wb") as stderr:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        _running.append(self)
        def ready():
            if self.process.poll() is not None:
                raise RuntimeError(f"nginx did not start: {self.log()}")
            return os.path.exists(pid_file) and os.path.getsize(pid_file) and len(self.workers()) == self.workers_wanted

        if not wait_until(20, ready, every=0.02):
            raise RuntimeError(f"nginx is not ready: {self.log()}")
        return self

    def workers(self):
        """The ids of the workers, in the order in which they were started."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                state, parent = _process(entry)
                if parent == self.process.pid and state not in ("Z", "X"):
                    found.append(int(entry))
        return sorted(found)

    def stop(self, number=signal.SIGQUIT, limit=10):
        """End it by a signal; return how long it took until all of its processes were gone."""
        if self.process is None:
            return None
        workers = self.workers()
        start = now()
        self.process.send_signal(number)
        gone = wait_until(limit, lambda: self.process.poll() is not None and not any(map(is_running, workers)))
        took = now() - start
        if not gone:
            self.kill()
        self._ended()
        return took if gone else None

    def kill(self):
        """SIGKILL to all of its processes. When they are gone so are their sockets."""
        workers = self.workers()
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        wait_until(5, lambda: not any(map(is_running, workers)), every=0.002)
        self._ended()

    def _ended(self):
        if self in _running:
            _running.remove(self)
        self.process = None

    def log(self):
        try:
            with open(f"{self.root}/logs/error.log", encoding="utf-8", errors="replace") as log:
                return log.read()
        except OSError:
            return ""

    def bad_lines(self, expected=()):
        """Lines of the log that are never right."""
        bad = ("[alert]", "[crit]", "[emerg]", "panicked at", "exited on signal")
        return [
            line
            for line in self.log().splitlines()
            if any(word in line for word in bad) and not any(word in line for word in expected)
        ]


class Proxy(Nginx):
    """A proxy with cluster "up". `upstream` is what its block says besides checkups_cluster."""

    def __init__(self, upstream, location="", http="", zone="8m", listen="", api="", **options):
        self.port = free_port()
        super().__init__(
            f"""checkups_zone checkups:{zone};
            upstream up {{ checkups_cluster; {upstream} }}
            {http}
            server {{
                listen {HOST}:{self.port} backlog=4096 {listen};
                location / {{ proxy_pass http://up; {location} }}
                location /api/ {{ checkups_api {api}; }}
            }}
            """,
            **options,
        )

    def status(self):
        status, body = get(self.port, "/api/status")
        if status != 200:
            raise RuntimeError(f"the status answers with {status}")
        return json.loads(body)

    def servers(self):
        return [server for level in self.status()["cls:up"] for server in level]

    def states(self):
        return [server["status"] for server in self.servers()]


def backend(name):
    """A server that answers with its name: one process of nginx, without the module."""
    port = free_port()
    nginx = Nginx(
        f"""server {{
            listen {HOST}:{port} backlog=4096;
            keepalive_requests 1000000;
            location / {{ return 200 {name}; }}
        }}""",
        master=False,
        module=False,
        connections=4096,
    )
    nginx.port, nginx.name, nginx.address = port, name, f"{HOST}:{port}"
    return nginx


class Hanging(threading.Thread):
    """A server that accepts connections, and never answers: on a port, or on a unix socket in a folder."""

    def __init__(self, folder=None):
        super().__init__(daemon=True)
        if folder is None:
            self.socket = socket.create_server((HOST, 0), backlog=1024)
            self.address = f"{HOST}:{self.socket.getsockname()[1]}"
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.bind(f"{folder}/hanging.sock")
            os.chmod(f"{folder}/hanging.sock", 0o666)
            self.socket.listen(1024)
            self.address = f"unix:{folder}/hanging.sock"
        self.accepted = []  # the time, and the connection
        self.start()

    def run(self):
        while True:
            connection, _ = self.socket.accept()
            self.accepted.append((now(), connection))

    def peer(self, index):
        """The process of a connection, over a unix socket."""
        credentials = self.accepted[index][1].getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        return struct.unpack("3i", credentials)[0]


@atexit.register
def _cleanup():
    for nginx in list(_running):
        nginx.kill()


def remove(*all_of_them):
    for nginx in all_of_them:
        if nginx.process is not None:
            nginx.stop(signal.SIGTERM)
        shutil.rmtree(nginx.root, ignore_errors=True)


for _number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(_number, lambda number, frame: sys.exit(128 + number))
