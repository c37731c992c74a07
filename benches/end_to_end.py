#!/usr/bin/env python3
"""checkups beside nginx's own round robin with `zone`, and beside an upstream of one server.

Three proxies of the same nginx binary, one worker each, over the same backends with kept connections.
They get the same load in turn, round by round; what counts are the ratios. Beside that, the
instructions of a pick by callgrind. Prints a table, and writes it to benches/RESULTS.md.

    make bench                      everything
    benches/end_to_end.py --rounds 3 --seconds 1 --servers 3,1000

Environment: NGINX and MODULE, default objs/nginx and objs/ngx_http_checkups_module.so.
"""

import argparse
import datetime
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
# nginx takes a variable of this name for its inherited sockets.
NGINX = str(pathlib.Path(os.environ.pop("NGINX", ROOT / "objs/nginx")).resolve())
MODULE = str(pathlib.Path(os.environ.get("MODULE", ROOT / "objs/ngx_http_checkups_module.so")).resolve())
USER = "user root;" if os.geteuid() == 0 else ""
PROXY_CPU, LOAD_CPU = 0, 1


def free_port():
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return sock.getsockname()[1]


class Nginx:
    """An nginx of its own, in a folder of its own."""

    def __init__(self, folder, name, main, http):
        self.folder = folder / name
        (self.folder / "logs").mkdir(parents=True)
        (self.folder / "nginx.conf").write_text(
            f"{main}\n{USER} daemon off; error_log logs/error.log error; pid logs/nginx.pid;\n"
            "events { worker_connections 16384; }\n"
            f"http {{ access_log off; keepalive_requests 100000000; {http} }}\n"
        )
        self.command = [NGINX, "-p", str(self.folder), "-c", "nginx.conf"]
        self.process = None

    def start(self, port, prefix=()):
        self.process = subprocess.Popen([*prefix, *self.command], stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            with socket.socket() as sock:
                if sock.connect_ex(("127.0.0.1", port)) == 0:
                    return self
            time.sleep(0.02)
        log = self.folder / "logs/error.log"
        sys.exit(f"nginx did not start: {log.read_text() if log.exists() else ''}")

    def worker(self):
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def cpu_seconds(pid):
    """The time that the process was on a processor."""
    return int(pathlib.Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9


def servers(count, ports, distinct):
    """`server` lines: on 4 addresses in all, or each on one of its own; weights 1 to 10."""
    lines = []
    for index in range(count):
        host = f"127.0.{index // 250}.{index % 250 + 1}" if distinct else "127.0.0.1"
        lines.append(f"server {host}:{ports[index % len(ports)]} weight={index * 7 % 10 + 1};")
    return "\n".join(lines)


def proxies(folder, count, distinct, ports):
    """The three proxies, started; each with its port."""
    # Enough for every server: otherwise what is measured is connecting.
    keepalive = 1024 if distinct else 512
    lines = servers(count, ports, distinct)
    upstreams = {
        "checkups": f"checkups_cluster;\n{lines}",
        "nginx": f"zone u 8m;\n{lines}",
        "one server": f"server 127.0.0.1:{ports[0]};",
    }
    started = {}
    for name, upstream in upstreams.items():
        port = free_port()
        nginx = Nginx(
            folder,
            f"{name}-{count}-{distinct}",
            f"load_module {MODULE}; worker_processes 1; worker_cpu_affinity {1 << PROXY_CPU:02b};",
            f"checkups_zone checkups:64m; upstream u {{ {upstream}\nkeepalive {keepalive}; }}\n"
            f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; "
            'proxy_http_version 1.1; proxy_set_header Connection ""; } }',
        )
        started[name] = (nginx.start(port), port)
    return started


def load(port, seconds):
    """Requests a second, their number, and the 99th percentile in milliseconds, by wrk."""
    output = subprocess.run(
        ["taskset", "-c", str(LOAD_CPU), "wrk", "-t1", "-c64", f"-d{seconds}s", "--latency",
         f"http://127.0.0.1:{port}/"],
        capture_output=True, text=True, check=True,
    ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"requests failed:\n{output}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", output)[1])
    requests = int(re.search(r"(\d+) requests in", output)[1])
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", output).groups()
    return rate, requests, float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def compare(folder, count, distinct, ports, rounds, seconds):
    """The medians of the ratios of checkups to the others, and the figures of each."""
    started = proxies(folder, count, distinct, ports)
    figures = {name: [] for name in started}
    try:
        for name, (_, port) in started.items():
            load(port, 1)
        for _ in range(rounds):
            for name, (nginx, port) in started.items():
                pid = nginx.worker()
                before = cpu_seconds(pid)
                rate, requests, p99 = load(port, seconds)
                cpu = (cpu_seconds(pid) - before) / requests * 1000
                figures[name].append((rate, cpu, p99))
    finally:
        for nginx, _ in started.values():
            nginx.stop()
    median = {
        name: [statistics.median(column) for column in zip(*rows)] for name, rows in figures.items()
    }

    def ratio(other, column):
        pairs = zip(figures["checkups"], figures[other])
        return statistics.median(ours[column] / theirs[column] for ours, theirs in pairs)

    return median, ratio


# What is called for a request before its tries, for each try, and at its end.
HOOKS = {"init": "balancer::init_peer", "get": "upstream::peer::get", "free": "upstream::peer::free"}


def instructions(folder, count, ports, method="round_robin", requests=200):
    """Instructions of the hooks of one pick, callees included, by callgrind; one process, nothing fails.

    The difference between two runs: what is made once, as a ring is, does not count.
    """
    few, many = (called(folder, count, ports, method, number) for number in (10, 10 + requests))
    return {hook: (many[hook] - few[hook]) / requests for hook in HOOKS}


def called(folder, count, ports, method, requests):
    port = free_port()
    nginx = Nginx(
        folder,
        f"callgrind-{method.split()[0]}-{count}-{requests}",
        f"load_module {MODULE}; master_process off;",
        f"checkups_zone checkups:64m; upstream u {{ checkups_cluster; checkups_balance {method};\n"
        f"{servers(count, ports, True)} }}\n"
        f"server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://u; }} }}",
    )
    out = nginx.folder / "callgrind.out"
    prefix = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}"]
    nginx.start(port, prefix)
    for number in range(requests):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(f"GET /{number} HTTP/1.0\r\n\r\n".encode())
            while sock.recv(4096):
                pass
    nginx.stop()
    lines = subprocess.run(
        ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--tree=caller", str(out)],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()
    found = {}
    for hook, name in HOOKS.items():
        call = re.compile(rf"^\s*([\d,]+) \(.*\*.*{name}\b")
        matches = [call.match(line) for line in lines]
        if not any(matches):
            sys.exit(f"callgrind did not see {name}")
        found[hook] = max(int(match[1].replace(",", "")) for match in matches if match)
    return found


def version(*command):
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return (result.stdout + result.stderr).strip().splitlines()[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--servers", default="3,100,1000")
    parser.add_argument("--picks", default="3,100,1000,10000")
    options = parser.parse_args()
    for tool in ("wrk", "valgrind", "taskset"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing; `make packages` installs it")

    folder = pathlib.Path(tempfile.mkdtemp(prefix="checkups-bench-"))
    folder.chmod(0o755)
    ports = [free_port() for _ in range(4)]
    listens = " ".join(f"listen 0.0.0.0:{port};" for port in ports)
    backend = Nginx(
        folder, "backend",
        f"worker_processes 1; worker_cpu_affinity {1 << LOAD_CPU:02b};",
        f"keepalive_timeout 600; server {{ {listens} location / {{ return 200 ok; }} }}",
    ).start(ports[0])
    lines = [
        "# Results",
        "",
        f"{datetime.date.today()}, {os.cpu_count()} processors, {version(NGINX, '-v')}, "
        f"checkups {re.search('version = .(.*).$', (ROOT / 'Cargo.toml').read_text(), re.M)[1]}, "
        f"{version('wrk', '-v').split(' Copyright')[0]}, {version('valgrind', '--version')}.",
        f"`make bench`: {options.rounds} rounds of {options.seconds} s each, alternating; one worker, 64 client "
        "connections, connections to the backends are kept.",
        "Ratios are medians over the rounds, checkups to the other. The machine is shared: read the ratios.",
        "",
        "| servers | addresses | CPU a request to nginx's round robin with zone | CPU to one server | requests/s to "
        "nginx's | p99 to nginx's | ms CPU per 1000 requests: checkups, nginx, one |",
        "|---|---|---|---|---|---|---|",
    ]
    try:
        for count in map(int, options.servers.split(",")):
            for distinct in (False, True):
                median, ratio = compare(folder, count, distinct, ports, options.rounds, options.seconds)
                cpus = ", ".join(f"{median[name][1] * 1000:.1f}" for name in ("checkups", "nginx", "one server"))
                lines.append(
                    f"| {count} | {'distinct' if distinct else '4'} | {ratio('nginx', 1):.3f} | "
                    f"{ratio('one server', 1):.3f} | {ratio('nginx', 0):.3f} | {ratio('nginx', 2):.2f} | {cpus} |"
                )
                print(lines[-1], flush=True)
        lines += ["", "Instructions of a pick (callgrind, one process, distinct addresses, weights 1 to 10, nothing "
                  "failing), all that it calls included: what is done once a request (the key of a hash), once a "
                  "try, and at its end, where it is counted:", "", "| method | servers | request | try | end |",
                  "|---|---|---|---|---|"]
        methods = [("round_robin", count) for count in options.picks.split(",")]
        methods += [(method, "1000") for method in ("hash $request_uri", "random two", "least_conn")]
        for method, count in methods:
            figures = instructions(folder, int(count), ports, method)
            init, get, free = (f"{figures[hook]:.0f}" for hook in ("init", "get", "free"))
            lines.append(f"| {method} | {count} | {init} | {get} | {free} |")
            print(lines[-1], flush=True)
    finally:
        backend.stop()
        shutil.rmtree(folder, ignore_errors=True)
    text = "\n".join(lines) + "\n"
    results = ROOT / "benches/RESULTS.md"
    # What others have measured stands below.
    others = results.read_text().partition("\n## ")[1:] if results.exists() else ()
    results.write_text(text + "".join(others))
    print(text)


if __name__ == "__main__":
    main()
