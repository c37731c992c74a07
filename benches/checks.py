#!/usr/bin/env python3
"""What a check costs, beside HAProxy: processor time per http probe.

An nginx of one worker and an HAProxy of one thread check the same servers once a second, both at the
same time and on the same processor, so that what disturbs one disturbs the other. Each has a backend
of its own, all addresses of loopback on one port, where its probes are counted. Prints a table, and
writes it into benches/RESULTS.md.

    make bench                      with the other benches
    benches/checks.py --rounds 5 --also keepalive_time=60s

Environment: NGINX and MODULE, default objs/nginx and objs/ngx_http_checkups_module.so.
"""

import argparse
import collections
import datetime
import os
import pathlib
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

from end_to_end import LOAD_CPU, MODULE, NGINX, PROXY_CPU, ROOT, Nginx, cpu_seconds, free_port, version

HEADING = "## Checks"
# Past the first round, over which both spread the servers, and past what is allocated only once.
WARM_UP = 4
TICKS = os.sysconf("SC_CLK_TCK")
TIME_WAIT = "06"

Moment = collections.namedtuple("Moment", "at probes cpu user system")


def addresses(count, port):
    return [f"127.0.{index // 250 + 1}.{index % 250 + 1}:{port}" for index in range(count)]


class Backend(Nginx):
    """What is checked: it answers on all addresses, and counts."""

    def __init__(self, folder, name):
        self.port = free_port()
        super().__init__(
            folder, name, f"worker_processes 1; worker_cpu_affinity {1 << LOAD_CPU:02b};",
            f"server {{ listen 0.0.0.0:{self.port} backlog=4096; location / {{ return 200 ok; }} "
            "location = /count { stub_status; } }",
        )
        self.start(self.port)
        # `start` may have been counted, and so is each look.
        self.own = 0
        self.own = self.probes()

    def probes(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/count") as answer:
            requests = int(answer.read().decode().splitlines()[2].split()[2]) - self.own
        self.own += 1
        return requests


class Checkups(Nginx):
    """Ours: the worker checks, the master sleeps."""

    def __init__(self, folder, name, servers, parameters=""):
        port = free_port()
        lines = "\n".join(f"server {server};" for server in servers)
        super().__init__(
            folder, name,
            f"load_module {MODULE}; worker_processes 1; worker_cpu_affinity {1 << PROXY_CPU:02b};",
            f"checkups_zone checkups:64m; upstream u {{ checkups_cluster;\n"
            f"checkups_check http uri=/ interval=1s {parameters};\n{lines} }}\n"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; }} }}",
        )
        self.start(port)
        # The master listens before it has a worker.
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        while not children.read_text():
            time.sleep(0.02)
        self.pid = self.worker()


class Haproxy:
    """HAProxy in the foreground: one process of one thread."""

    def __init__(self, folder, name, servers):
        port = free_port()
        file = folder / f"{name}.cfg"
        lines = "\n".join(f"  server s{index} {server}" for index, server in enumerate(servers))
        file.write_text(
            "global\n  nbthread 1\n  maxconn 8192\n"
            "defaults\n  mode http\n  timeout connect 5s\n  timeout client 5s\n  timeout server 5s\n"
            f"frontend f\n  bind 127.0.0.1:{port}\n  default_backend b\n"
            f"backend b\n  option httpchk GET /\n  default-server check inter 1s\n{lines}\n"
        )
        self.process = subprocess.Popen(
            ["taskset", "-c", str(PROXY_CPU), "haproxy", "-db", "-f", str(file)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        self.pid = self.process.pid
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        sys.exit("haproxy did not start")

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()


def look(checker, backend):
    fields = pathlib.Path(f"/proc/{checker.pid}/stat").read_text().rpartition(")")[2].split()
    user, system = int(fields[11]) / TICKS, int(fields[12]) / TICKS
    return Moment(time.monotonic(), backend.probes(), cpu_seconds(checker.pid), user, system)


def time_wait(backend):
    """The sockets in TIME_WAIT of this backend: at whoever checks, and at the servers."""
    port = f"{backend.port:04X}"
    lines = pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    waiting = [fields for fields in map(str.split, lines) if fields[3] == TIME_WAIT]
    return tuple(sum(fields[place].endswith(f":{port}") for fields in waiting) for place in (2, 1))


def write(lines):
    """Puts the section into the results, in place of the one before."""
    results = ROOT / "benches/RESULTS.md"
    text = results.read_text() if results.exists() else "# Results\n"
    before, _, after = text.partition(f"\n{HEADING}\n")
    others = "".join(after.partition("\n## ")[1:])
    results.write_text(before.rstrip("\n") + "\n\n" + "\n".join(lines) + "\n" + others)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--servers", type=int, default=2000)
    parser.add_argument("--also", action="append", default=[], metavar="PARAMETERS",
                        help="ours once more with these words behind checkups_check, as keepalive_time=60s")
    parser.add_argument("--dry", action="store_true", help="leave benches/RESULTS.md alone")
    options = parser.parse_args()
    for tool in ("haproxy", "taskset"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; `make packages` installs it")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkups-bench-"))
    folder.chmod(0o755)
    kinds = {"HAProxy": None, "checkups": ""} | {f"checkups, {words}": words for words in options.also}
    running = {}
    moments = {kind: [] for kind in kinds}
    try:
        for number, (kind, words) in enumerate(kinds.items()):
            backend = Backend(folder, f"backend-{number}")
            running[kind] = [backend]
            servers = addresses(options.servers, backend.port)
            if kind == "HAProxy":
                running[kind].append(Haproxy(folder, f"checker-{number}", servers))
            else:
                running[kind].append(Checkups(folder, f"checker-{number}", servers, words))
        time.sleep(WARM_UP)
        for round_ in range(options.rounds + 1):
            for kind, (backend, checker) in running.items():
                moments[kind].append(look(checker, backend))
            if round_ < options.rounds:
                time.sleep(options.seconds)
        waiting = {kind: time_wait(backend) for kind, (backend, _) in running.items()}
    finally:
        for processes in running.values():
            for process in reversed(processes):
                process.stop()
        shutil.rmtree(folder, ignore_errors=True)

    costs = {
        kind: [(b.cpu - a.cpu) / max(b.probes - a.probes, 1) * 1e6 for a, b in zip(seen, seen[1:])]
        for kind, seen in moments.items()
    }
    lines = [
        HEADING,
        "",
        f"{datetime.date.today()}, {os.cpu_count()} processors, {version(NGINX, '-v')}, "
        f"{version('haproxy', '-v').split(' 20')[0]}.",
        f"`make bench`: {options.servers} servers, `checkups_check http uri=/ interval=1s` beside `option httpchk GET /` with "
        "`check inter 1s`, one worker",
        f"and one thread, at the same time on one processor; {options.rounds} rounds of {options.seconds} s. Medians over "
        "the rounds; the ratio is to HAProxy.",
        "",
        "| | microseconds of CPU per probe | least, most | of that in user mode | probes/s | TIME_WAIT at the end: here, at the "
        "servers | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    for kind, seen in moments.items():
        first, last = seen[0], seen[-1]
        user, system = last.user - first.user, last.system - first.system
        rate = (last.probes - first.probes) / (last.at - first.at)
        ratio = statistics.median(ours / theirs for ours, theirs in zip(costs[kind], costs["HAProxy"]))
        lines.append(
            f"| {kind} | {statistics.median(costs[kind]):.1f} | {min(costs[kind]):.1f}, {max(costs[kind]):.1f} | "
            f"{user / ((user + system) or 1):.0%} | {rate:.0f} | {waiting[kind][0]}, {waiting[kind][1]} | {ratio:.2f} |"
        )
    if not options.dry:
        write(lines)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
