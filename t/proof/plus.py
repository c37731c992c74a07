#!/usr/bin/env python3
"""Four clients add and remove servers at once, by the API of NGINX Plus: what is answered is what there is.

Usage: t/proof/plus.py [--sample] [--seed NUMBER] [PART ...]

The PARTs are runs of 1,000 POST and DELETE in random order:

  plain   without checkups_state; nginx is reloaded in the midst
  state   the same with checkups_state; at the end nginx is killed and started, too
  more    with checkups_state; the configuration of the reload has another upstream
  bare    the same without checkups_state
  often   with checkups_state; from the midst on nginx is reloaded again and again, and has another
          upstream each second time

Each client has addresses of its own, of which it knows at any time which are there, under which ids and
how they are set; and there are addresses that all of them fight for. For those the times of all requests
and replies are kept. An answer counts as right where there is an order of the changes, each between its
request and its reply, in which it had to be given: 201 only where the address was not there, 409 only
where it may have been, 200 only once for an id, 404 only where somebody else removed it.

The settings of a server that is added are random, and the reply has to say all of them. Two more clients
ask for what the upstream serves, all the time.

Each line is a claim, the figure that was measured, the limit, and whether that holds; the exit status
is 1 where one does not. Each is made five times. --sample is a short version: two of the runs, once.

Environment: NGINX and MODULE are the paths of the binary and the module, BUILD what to call them.
"""

import http.client
import json
import random
import signal
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "lib"))
sys.dont_write_bytecode = True

from command import Command, short  # noqa: E402
from processes import HOST, Nginx, free_port, get, now, remove, wait_until  # noqa: E402

CHANGES = 1000
CLIENTS, OWN, SHARED = 4, 20, 6
STAY = 2  # servers of the configuration, which nobody removes
VERSIONS = range(4, 10)
REPLACED = "this worker is being replaced by one of a newer configuration"
PAUSE = 0.006  # seconds at most, so that there are changes before, during and after the reload
PATIENCE = 20  # seconds for all that is to be tried again
DEFAULTS = {
    "weight": 1,
    "max_conns": 0,
    "max_fails": 1,
    "fail_timeout": "10s",
    "slow_start": "0s",
    "route": "",
    "backup": False,
    "down": False,
}


class Servers(Nginx):
    """So many addresses, served by one nginx."""

    def __init__(self, count):
        self.port = free_port()
        self.addresses = [f"127.79.{n // 250}.{1 + n % 250}:{self.port}" for n in range(count)]
        listen = " ".join(f"listen {address} backlog=1024;" for address in self.addresses)
        super().__init__(f"server {{ {listen} location / {{ return 200 ok; }} }}", module=False, connections=4096)


class Changed(Nginx):
    """A proxy whose upstream "up" is changed."""

    def __init__(self, addresses, has_state):
        self.port = free_port()
        lines = " ".join(f"server {address};" for address in addresses)
        super().__init__(
            f"""STATE checkups_zone checkups:8m;
            upstream up {{ checkups_cluster; {lines} }}
            MORE
            server {{
                listen {HOST}:{self.port} backlog=4096;
                location /api {{ checkups_api write=on; }}
                location / {{ proxy_pass http://up; }}
            }}""",
            workers=4,
            connections=4096,
        )
        self.path = f"{self.root}/nginx.conf"
        self.state = f"checkups_state {self.root}/state;" if has_state else ""
        with open(self.path, encoding="ascii") as configuration:
            self.template = configuration.read()
        self.set_more("")

    def set_more(self, text):
        """Write the configuration with this text besides."""
        with open(self.path, "w", encoding="ascii") as out:
            out.write(self.template.replace("STATE", self.state).replace("MORE", text))

    def ask(self, method, path, body=None):
        """One request over a connection of its own: the status, what the body says, and the headers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=20)
        try:
            headers = {"Connection": "close"}
            if body is not None:
                headers["Content-Type"] = "application/json"
                body = json.dumps(body)
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers
        finally:
            connection.close()

    def servers(self, name="up", version=9):
        status, servers, _ = self.ask("GET", f"/api/{version}/http/upstreams/{name}/servers")
        if status != 200:
            raise RuntimeError(f"the servers of {name}: {status} {servers}")
        return servers

    def reload(self):
        """Reload; return whether the workers are new ones, and no others, after a while."""
        before = set(self.workers())
        self.process.send_signal(signal.SIGHUP)

        def replaced():
            workers = set(self.workers())
            return len(workers) == self.workers_wanted and not workers & before

        return bool(wait_until(PATIENCE, replaced, every=0.02))


class Change:
    """A change of one of the addresses that all fight for, when it was asked for and answered, and the
    server that was added."""

    def __init__(self, address, id_, sent, replied, server=None):
        self.address, self.id, self.sent, self.replied, self.server = address, id_, sent, replied, server


class Run:
    """What all clients of a run share."""

    def __init__(self, nginx, shared, changes):
        self.nginx, self.shared, self.left = nginx, shared, changes
        self.lock = threading.Lock()
        self.known = {}  # what was added, by its id: the address
        self.candidates = []  # ids of shared addresses, of which some are gone
        self.added, self.removed, self.exists, self.missing = [], [], [], []
        self.problems = []
        self.reused = []
        self.statuses = Counter()
        self.reloading = []  # from when until when a reload was under way
        self.put_off = []

    def take_turn(self):
        """Whether there is another change to make."""
        with self.lock:
            self.left -= 1
            return self.left >= 0

    def wrong(self, text):
        with self.lock:
            self.problems.append(text)

    def is_reloading(self, sent, replied):
        return any(start <= replied and sent <= end for start, end in self.reloading)

    def new_id(self, id_, address):
        with self.lock:
            if id_ in self.known:
                self.reused.append(f"{id_}: for {address}, before for {self.known[id_]}")
            self.known[id_] = address


class Client(threading.Thread):
    """Adds and removes, until there were enough changes."""

    def __init__(self, run, number, own, stay, seed):
        super().__init__(daemon=True)
        self.run_, self.nginx, self.number = run, run.nginx, number
        self.random = random.Random(f"{seed} {number}")
        self.absent, self.present, self.stay = list(own), {}, stay
        self.own = set(own)

    def run(self):
        try:
            while self.run_.take_turn():
                self.change()
                time.sleep(self.random.uniform(0, PAUSE))
        except Exception as error:  # a client that ends early is a failure, whatever it was
            self.run_.wrong(f"client {self.number} ended: {error!r}")

    def change(self):
        if self.random.random() < 0.3:
            self.fight()
        elif self.absent and (not self.present or self.random.random() < 0.5):
            self.add_own()
        else:
            self.remove_own()

    def ask(self, method, path, body=None):
        """What was answered, when it was asked for, and when the answer came. What is put off is repeated."""
        end = now() + PATIENCE
        # Some clients write a slash at the end, and some do not.
        path = f"/api/{self.random.choice(VERSIONS)}/http/upstreams/up/servers{path}{self.random.choice(('', '/'))}"
        while True:
            sent = now()
            status, answer, headers = self.nginx.ask(method, path, body)
            replied = now()
            code = answer["error"]["code"] if status >= 400 else ""
            with self.run_.lock:
                self.run_.statuses[f"{method} {status} {code}".strip()] += 1
            if status >= 400:
                self.check_error(status, answer, headers)
            if (status, code) != (503, "TryAgain"):
                return status, code, answer, sent, replied
            with self.run_.lock:
                self.run_.put_off.append((sent, replied, answer["error"]["text"]))
            if now() > end:
                raise RuntimeError(f"{method} {path} is put off for {PATIENCE} s")
            time.sleep(0.02)

    def check_error(self, status, answer, headers):
        error = answer["error"]
        if error["status"] != status or not error["text"] or len(answer["request_id"]) != 32 or "href" not in answer:
            self.run_.wrong(f"an error of another shape: {answer}")
        if status == 503 and headers.get("Retry-After") != "1":
            self.run_.wrong(f"no Retry-After: {answer}")

    def settings(self, address):
        """Random settings of a server: what is sent, and how it is to be shown."""
        sent = {"server": address}
        choices = {
            "weight": self.random.randint(1, 9),
            "max_conns": self.random.randint(0, 500),
            "max_fails": self.random.randint(0, 5),
            "fail_timeout": f"{self.random.randint(1, 59)}s",
            "slow_start": f"{self.random.randint(0, 59)}s",
            "route": self.random.choice(("", "a", "b" * 32)),
            "backup": False,
            "down": self.random.random() < 0.5,
        }
        sent.update((name, value) for name, value in choices.items() if self.random.random() < 0.4)
        return sent, {**DEFAULTS, **sent}

    def add(self, address):
        sent, shown = self.settings(address)
        status, code, answer, start, end = self.ask("POST", "", sent)
        if status == 201:
            self.run_.new_id(answer["id"], address)
            if answer != {"id": answer["id"], **shown}:
                self.run_.wrong(f"POST {sent}: the answer is {answer}")
        return status, code, answer, start, end

    def add_own(self):
        address = self.absent.pop(self.random.randrange(len(self.absent)))
        status, _, answer, _, _ = self.add(address)
        if status == 201:
            self.present[answer["id"]] = answer
        else:
            self.absent.append(address)
            self.run_.wrong(f"POST {address}: {status} {answer}")
        if self.random.random() < 0.2:
            self.look("GET", self.ask("GET", "")[2])

    def remove_own(self):
        id_ = self.random.choice(list(self.present))
        server = self.present.pop(id_)
        status, _, answer, _, _ = self.ask("DELETE", f"/{id_}")
        self.absent.append(server["server"])
        if status == 200:
            self.look(f"DELETE {id_}", answer)
        else:
            self.run_.wrong(f"DELETE {id_} {server['server']}: {status} {answer}")
        if self.random.random() < 0.2:
            status, code, answer, _, _ = self.ask("GET", f"/{id_}")
            if (status, code) != (404, "UpstreamServerNotFound"):
                self.run_.wrong(f"GET of {id_}, which was removed: {status} {answer}")

    def look(self, what, servers):
        """A list of all servers: it has the own ones, as they have to be, and those that stay."""
        own = {server["id"]: server for server in servers if server["server"] in self.own}
        if own != self.present:
            different = [id_ for id_ in own.keys() | self.present.keys() if own.get(id_) != self.present.get(id_)]
            self.run_.wrong(f"{what}: the list is wrong in {[(own.get(i), self.present.get(i)) for i in different][:3]}")
        if servers[: len(self.stay)] != self.stay:
            self.run_.wrong(f"{what}: those of the configuration are {servers[: len(self.stay)]}")
        if len({server["id"] for server in servers}) != len(servers):
            self.run_.wrong(f"{what}: two have one id")

    def fight(self):
        run = self.run_
        with run.lock:
            recent = run.candidates[-2 * SHARED :]
        if not recent or self.random.random() < 0.5:
            address = self.random.choice(run.shared)
            status, code, answer, sent, replied = self.add(address)
            change = Change(address, answer.get("id"), sent, replied, answer)
            with run.lock:
                if status == 201:
                    run.added.append(change)
                    run.candidates.append(answer["id"])
                elif (status, code) == (409, "EntryExists"):
                    run.exists.append(change)
                else:
                    run.problems.append(f"POST {address}: {status} {answer}")
            return
        id_ = self.random.choice(recent)
        status, code, answer, sent, replied = self.ask("DELETE", f"/{id_}")
        change = Change(None, id_, sent, replied)
        if status == 200:
            self.look(f"DELETE {id_}", answer)
            if any(server["id"] == id_ for server in answer):
                run.wrong(f"DELETE {id_}: it is among those that remain")
        with run.lock:
            if status == 200:
                run.removed.append(change)
            elif (status, code) == (404, "UpstreamServerNotFound"):
                run.missing.append(change)
            else:
                run.problems.append(f"DELETE {id_}: {status} {answer}")


def judge_fights(run):
    """Answers about the shared addresses that no order of the changes explains, and the servers that are left."""
    wrong = []
    removed = defaultdict(list)
    for change in run.removed:
        removed[change.id].append(change)
    wrong += [f"DELETE {id_}: 200 for {len(changes)}" for id_, changes in removed.items() if len(changes) > 1]
    by_address = defaultdict(list)
    for change in run.added:
        by_address[change.address].append(change)
    end = float("inf")

    def gone(id_):
        """From when it may have been gone, and from when it was."""
        changes = removed.get(id_)
        return (changes[0].sent, changes[0].replied) if changes else (end, end)

    for address, changes in by_address.items():
        # Of those that were there at once for certain one should have been refused.
        for one in changes:
            for other in changes:
                if one.id < other.id and max(one.replied, other.replied) < min(gone(one.id)[0], gone(other.id)[0]):
                    wrong.append(f"{address}: {one.id} and {other.id} are there at once")
    for change in run.exists:
        others = by_address[change.address]
        if not any(other.sent < change.replied and gone(other.id)[1] > change.sent for other in others):
            wrong.append(f"POST {change.address}: 409 where it is not there")
    for change in run.missing:
        if not gone(change.id)[0] < change.replied:
            wrong.append(f"DELETE {change.id}: 404 where nobody removed it")
    return wrong, {change.id: change.server for change in run.added if change.id not in removed}


class Requests(threading.Thread):
    """A client of what is proxied, each request over a connection of its own."""

    def __init__(self, port):
        super().__init__(daemon=True)
        self.port, self.made, self.failed, self.ending = port, 0, [], threading.Event()
        self.start()

    def run(self):
        while not self.ending.is_set():
            try:
                status, body = get(self.port, "/", timeout=20)
                if (status, body) != (200, "ok"):
                    self.failed.append(f"status {status}")
            except (OSError, http.client.HTTPException) as error:
                self.failed.append(repr(error))
            self.made += 1
            time.sleep(0.005)

    def stop(self):
        self.ending.set()
        self.join()


def made(nginx, addresses):
    """What nginx shows of servers of the configuration."""
    return [{"id": id_, "server": address, **DEFAULTS} for id_, address in enumerate(addresses)]


def one_run(table, seed, has_state, has_more, is_often=False):
    backends = Servers(STAY + CLIENTS * OWN + SHARED).start()
    addresses = list(backends.addresses)
    stay, shared = addresses[:STAY], addresses[STAY : STAY + SHARED]
    own = [addresses[STAY + SHARED + n :: CLIENTS] for n in range(CLIENTS)]
    nginx = Changed(stay, has_state).start()
    run = Run(nginx, shared, CHANGES)
    configured = made(nginx, stay)
    problems = [] if nginx.servers() == configured else [f"at first: {nginx.servers()}"]
    run.known.update((server["id"], server["server"]) for server in configured)
    clients = [Client(run, n, own[n], configured, seed) for n in range(CLIENTS)]
    asking = [Requests(nginx.port) for _ in range(2)]

    start = now()
    for client in clients:
        client.start()
    wait_until(60, lambda: run.left <= CHANGES / 2 or not any(client.is_alive() for client in clients), every=0.001)
    another = f"upstream more {{ checkups_cluster; server {stay[0]} weight=3; }}"
    left, are_settled = run.left, []
    while True:
        nginx.set_more(another if has_more and len(are_settled) % 2 == 0 else "")
        run.reloading.append((now(), float("inf")))
        are_settled.append(nginx.reload())
        run.reloading[-1] = (run.reloading[-1][0], now())
        if len(are_settled) == 1:
            after = max(run.left, 0)
        if not is_often or not any(client.is_alive() for client in clients):
            break
    for client in clients:
        client.join()
    took = now() - start
    if is_often and len(are_settled) % 2 == 0:
        nginx.set_more(another)
        nginx.reload()

    wrong, alive = judge_fights(run)
    expected = {server["id"]: server for client in clients for server in client.present.values()}
    expected.update((server["id"], server) for server in configured)
    expected.update(alive)

    def compare(when):
        """What is wrong with all that is there now."""
        listed = nginx.servers()
        found = {server["id"]: server for server in listed}
        ids = [id_ for id_ in found.keys() | expected.keys() if found.get(id_) != expected.get(id_)]
        different = [f"{when}: id {id_} should be {expected.get(id_)}, is {found.get(id_)}" for id_ in ids]
        if len(found) != len(listed):
            different.append(f"{when}: two have one id")
        return different

    # Each worker is asked by one of so many connections.
    problems += [line for _ in range(20) for line in compare("at the end")]
    listed = nginx.servers()
    for version in VERSIONS:
        if nginx.servers(version=version) != listed:
            problems.append(f"version {version} has another list")
    peers = nginx.ask("GET", "/api/9/http/upstreams/up/")[1]["peers"]
    if [(peer["id"], peer["server"]) for peer in peers] != [(server["id"], server["server"]) for server in listed]:
        problems.append("the peers are others than the servers")
    native = nginx.ask("GET", "/api/clusters/up/servers")[1]
    if sorted(server["server"] for server in native) != sorted(server["server"] for server in listed):
        problems.append("the clusters of checkups have another list")
    if has_more:
        more = [{**made(nginx, stay[:1])[0], "weight": 3}]
        if nginx.servers("more") != more:
            problems.append(f"the other upstream has {nginx.servers('more')}")
        status, answer, _ = nginx.ask("POST", "/api/9/http/upstreams/more/servers/", {"server": stay[1]})
        if (status, answer.get("id")) != (201, 1):
            problems.append(f"POST to the other upstream: {status} {answer}")
    nginx.reload()
    problems += compare("after a reload at rest")
    if nginx.servers() != listed:
        problems.append("after a reload at rest the list is another one")

    # What is added now is as new as what was added before.
    status, answer, _ = nginx.ask("POST", "/api/9/http/upstreams/up/servers/", {"server": f"127.78.0.1:{backends.port}", "down": True})
    if status == 201:
        run.new_id(answer["id"], answer["server"])
    else:
        problems.append(f"POST at the end: {status} {answer}")
    for client in asking:
        client.stop()
    before = nginx.servers()
    bad = nginx.bad_lines()
    lost = []
    if has_state:
        nginx.kill()
        nginx.start()
        bare = [{name: value for name, value in server.items() if name != "id"} for server in before]
        lost = [server for server in nginx.servers() if {n: v for n, v in server.items() if n != "id"} not in bare]
        lost += [server for server in before if server["server"] not in [s["server"] for s in nginx.servers()]]

    name = f"{'with' if has_state else 'without'} state"
    name += f", {len(are_settled)} reloads" if is_often else ", another upstream" if has_more else ""
    table.none(f"{CHANGES} changes, {name}: what is not right", problems)
    table.none("  answers that are wrong", run.problems)
    table.none("  answers about shared addresses that no order explains", wrong)
    table.none("  ids that were given twice", run.reused)
    put_off = [
        f"{text}, {sent - run.reloading[0][0]:.3f} s after the first reload began"
        for sent, replied, text in run.put_off
        if text != REPLACED or not run.is_reloading(sent, replied)
    ]
    table.none("  changes that were put off, but for the reload", put_off)
    table.row("  changes during the first reload, and after", f"{left - after}, {after}", "> 0", left > after > 0)
    table.row("  the workers are the new ones", "yes" if all(are_settled) else "no", "yes", all(are_settled))
    if has_state:
        table.none("  servers that are lost or different after a kill", lost)
    failed = [line for client in asking for line in client.failed]
    table.none("  proxied requests that failed", failed)
    table.none("  lines that are never right", bad)
    table.row("  changes a second", f"{CHANGES / took:.0f}", "", None)
    table.note(", ".join(f"{word}: {count}" for word, count in sorted(run.statuses.items())))
    there = f"{len(expected)} servers at the end, {len(alive)} of them fought for, highest id {max(run.known)}"
    table.note(f"{sum(client.made for client in asking)} proxied requests, {there}")
    remove(nginx, backends)


def plain(table, seed):
    one_run(table, seed, has_state=False, has_more=False)


def state(table, seed):
    one_run(table, seed, has_state=True, has_more=False)


def more(table, seed):
    one_run(table, seed, has_state=True, has_more=True)


def bare(table, seed):
    one_run(table, seed, has_state=False, has_more=True)


def often(table, seed):
    one_run(table, seed, has_state=True, has_more=True, is_often=True)


PARTS = {"plain": plain, "state": state, "more": more, "bare": bare, "often": often}
SAMPLE = ("plain", "more")


def main():
    command = Command(__doc__, PARTS, 62, 26, 10)
    command.add_sample()
    command.add("--seed", type=int, default=random.randrange(1 << 32), help="of what is random")
    options = command.options()
    command.begin(short("many clients of the API of NGINX Plus", options), f", --seed {options.seed}")
    for number in range(1 if options.sample else 5):
        for part in options.parts or (SAMPLE if options.sample else PARTS):
            PARTS[part](command.table, f"{options.seed} {number} {part}")
    return command.end()


if __name__ == "__main__":
    sys.exit(main())
