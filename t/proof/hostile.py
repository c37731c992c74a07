#!/usr/bin/env python3
"""What hostile servers (t/lib/hostile.py) cost worker 0: descriptors, memory, and time at a stretch.

Usage: t/proof/hostile.py [--probes N] [GROUP ...]

So many probes are made of all groups together, 10,000 unless said otherwise. A group is how the names
of the servers begin; with one name that server alone is tried. Each line is a claim, the figure that
was measured, the limit, and whether that holds; the exit status is 1 where one does not.

The turns of worker 0's loop are measured within nginx, by t/proof/lib/loops.c. What counts is their
processor time: by the clock, a turn has in it what else the machine did meanwhile. nginx runs on one
processor, and the servers on the others, where there are more than one.

Environment: NGINX and MODULE are the paths of the binary and the module.
"""

import mmap
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "lib"), str(HERE.parent / "lib")]
sys.dont_write_bytecode = True

import hostile as servers  # noqa: E402
from command import Command  # noqa: E402
from processes import Nginx, free_port, get, now, remove, wait_until  # noqa: E402

MOST_MEMORY = 32 << 20  # more than before the first check, bytes
LONGEST_TURN = 20  # milliseconds of processor time
TIMEOUT = 200  # milliseconds
INTERVAL = 50  # milliseconds

CHECKS = {
    "http": "http",
    "body": "http match=needle",
    "tls": "https ssl_verify=off",
    "tcp": "tcp expect=needle",
    "grpc": "grpc",
    "redis": "redis",
    "mysql": "mysql user=mon password=x ssl=off",
    "postgres": "postgres user=mon password=x ssl=off",
    "postgres_tls": "postgres user=mon password=x ssl_verify=off",
}


class Hostile:
    """t/lib/hostile.py with these servers."""

    def __init__(self, names, cpus):
        self.process = subprocess.Popen(
            [sys.executable, servers.__file__, *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
        self.ports = self._pairs()

    def _pairs(self):
        return {name: int(number) for name, _, number in (word.partition("=") for word in self.process.stdout.readline().split())}

    def ask(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def count(self):
        self.process.stdin.write("count\n")
        self.process.stdin.flush()
        return sum(self._pairs().values())

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Turns:
    """What loops.c has measured."""

    FORMAT = struct.Struct("7Q")

    def __init__(self, folder):
        self.library = f"{folder}/loops.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", self.library, HERE / "lib/loops.c", "-ldl"], check=True)
        self.path = f"{folder}/turns"
        Path(self.path).write_bytes(bytes(self.FORMAT.size))
        with open(self.path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), self.FORMAT.size)

    def forget(self):
        self.memory[:] = bytes(self.FORMAT.size)

    def longest(self):
        """The number of turns; the longest by the clock and in processor time, ms; how many over 20 ms."""
        count, wall, cpu, *over = self.FORMAT.unpack(self.memory[:])
        return count, wall / 1e6, cpu / 1e6, over[2]


def group_of(name):
    """The longest group that the name of a server begins with."""
    return max((group for group in CHECKS if name.startswith(f"{group}_")), key=len)


def memory(worker):
    """What of a process is in memory, in bytes."""
    with open(f"/proc/{worker}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


def fewest_descriptors(worker, seconds, enough=0):
    """The fewest of some moments: what is between two checks."""
    fewest, until = 1 << 30, now() + seconds
    while now() < until and fewest > enough:
        fewest = min(fewest, len(os.listdir(f"/proc/{worker}/fd")))
        time.sleep(0.001)
    return fewest


def prove(table, group, names, probes, turns, cpus):
    hostile = Hostile(names, cpus[1:] or cpus)
    port = free_port()
    upstreams = "".join(
        f"upstream {name} {{ checkups_cluster protected=off; server 127.0.0.1:{hostile.ports[name]};"
        f" checkups_check {CHECKS[group]} interval={INTERVAL}ms timeout={TIMEOUT}ms; }}\n"
        for name in names
    )
    proxy = Nginx(
        "checkups_zone checkups:16m; checkups_match needle { status 200; body ~ needle; }"
        f"{upstreams} server {{ listen 127.0.0.1:{port}; location /api/ {{ checkups_api; }} }}",
        main=f"worker_cpu_affinity {1 << cpus[0]:b};",
    )
    environment = {"LD_PRELOAD": turns.library, "LOOPS_FILE": turns.path}
    os.environ.update(environment)
    try:
        proxy.start()
    finally:
        for name in environment:
            del os.environ[name]
    (worker,) = proxy.workers()

    def refused():
        return get(port, "/api/status")[1].count('"msg":"connection refused"') == len(names)

    if not wait_until(20, refused, every=0.1):
        table.row(f"{group}: at first all refuse", "not so", "", False)
    descriptors = fewest_descriptors(worker, 1)
    before = memory(worker)
    turns.forget()

    hostile.ask("listen")
    began = now()
    highest, made = before, 0
    while made < probes and now() - began < 60 + probes / 20:
        time.sleep(0.05)
        highest = max(highest, memory(worker))
        made = hostile.count()
    seconds = now() - began
    count, wall, cpu, over = turns.longest()
    hostile.ask("refuse")
    left = fewest_descriptors(worker, 5, descriptors)

    table.row(f"{group}, {len(names)} servers: probes", f"{made} in {seconds:.1f} s", f">= {probes}", made >= probes)
    table.row("  descriptors of worker 0", f"{descriptors}, then {left}", "the same", left <= descriptors)
    figure = f"{before / (1 << 20):.1f} MB, then {highest / (1 << 20):.1f} at most"
    table.row("  memory of worker 0", figure, f"< +{MOST_MEMORY >> 20} MB", highest - before < MOST_MEMORY)
    figure = f"{cpu:.1f} ms, {wall:.1f} by the clock"
    table.row("  its longest turn", figure, f"< {LONGEST_TURN} ms", cpu < LONGEST_TURN)
    if over:
        table.note(f"{over} of {count} turns took longer than 20 ms")
    if proxy.workers() != [worker]:
        table.row("  worker 0 is the same", "another one", "", False)
    bad = proxy.bad_lines()
    if bad:
        table.row("  lines that are never right", str(len(bad)), "0", False)
        for line in bad[:3]:
            table.note(line)
    remove(proxy)
    hostile.end()
    return made


def main():
    command = Command(__doc__, (), 44, 34, 22)
    command.add("--probes", type=int, default=10_000, help="of all groups together")
    command.add("groups", nargs="*", metavar="GROUP", help=", ".join(CHECKS))
    options = command.options()
    groups = {}
    for name in servers.CASES:
        groups.setdefault(group_of(name), []).append(name)
    wanted = options.groups or list(groups)
    unknown = [word for word in wanted if word not in groups and word not in servers.CASES]
    if unknown:
        command.parser.error(f"no such group or server: {unknown[0]}")
    chosen = [(group_of(word), [word]) if word in servers.CASES else (word, groups[word]) for word in wanted]

    cpus = sorted(os.sched_getaffinity(0))
    folder = tempfile.mkdtemp(prefix="checkups-hostile.")
    os.chmod(folder, 0o755)
    made = 0
    try:
        turns = Turns(folder)
        everyone = sum(len(names) for _, names in chosen)
        for group, names in chosen:
            made += prove(command.table, group, names, -(-options.probes * len(names) // everyone), turns, cpus)
    finally:
        shutil.rmtree(folder)
    return command.end(f"{made} probes, ")


if __name__ == "__main__":
    sys.exit(main())
