#!/usr/bin/env python3
"""Show checkups at work: a proxy, three backends of weights 5/1/1, and steady traffic.

One backend is stopped and started again, over and over, while a table shows which server gets which
share of the requests and what checkups says of it. `make demo` builds what is needed and runs this.

Environment:
    NGINX         the nginx program             (default: objs/nginx)
    MODULE        the checkups module           (default: objs/ngx_http_checkups_module.so)
    DEMO_PORT     port of the proxy             (default: 8080)
    DEMO_SECONDS  end after so many seconds     (default: run until Ctrl-C)

Exit: 0 no client request failed; 1 one did, or the demo could not show what it should; 2 bad settings.
"""

import collections
import errno
import http.client
import os
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True  # no __pycache__ beside the sources
from client import RATE, SHORT, WINDOW, Traffic, read_status
from processes import HOST, DemoError, Nginx, free_ports, listen_error

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WEIGHTS = (5, 1, 1)
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
TICK = 0.2  # seconds between two looks at the status, and two drawings
PATIENCE = 10.0  # seconds to wait for a change that should take one or two
ROW = "{:<16}{:>6}{:>8}{:>10}{:>9}  {:<10}{}"  # 80 columns hold it

Settings = collections.namedtuple("Settings", "nginx module port seconds")


def read_settings(env):
    """Return the Settings that the environment asks for, or raise DemoError."""
    nginx = os.path.abspath(env.get("NGINX") or os.path.join(ROOT, "objs/nginx"))
    module = os.path.abspath(env.get("MODULE") or os.path.join(ROOT, "objs/ngx_http_checkups_module.so"))
    for name, path in (("NGINX", nginx), ("MODULE", module)):
        if not os.path.isfile(path):
            raise DemoError(f"there is no file {path} ({name}); `make module` builds it", 2)
    port = number(env, "DEMO_PORT", int, 8080, 65535)
    seconds = number(env, "DEMO_SECONDS", float, None, 1e9)
    return Settings(nginx, module, port, seconds)


def number(env, name, kind, default, most):
    """Return the number in an environment variable; unset or empty means the default."""
    if not env.get(name):
        return default
    try:
        value = kind(env[name])
    except ValueError:
        raise DemoError(f"{name}={env[name]} is not a number", 2) from None
    if not 0 < value <= most:
        raise DemoError(f"{name}={env[name]} must be more than 0 and at most {most:.0f}", 2)
    return value


def require_free(port):
    """Raise DemoError if the proxy cannot listen on the port."""
    error = listen_error(port)
    if error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        other = port + 1 if 1023 < port < 65535 else 8081
        raise DemoError(f"port {port} on {HOST} {why}; set DEMO_PORT to another one, "
                        f"for example: DEMO_PORT={other} make demo", 2)


class Screen:
    """Draws in place on a terminal; elsewhere it prints the table now and then, and events as lines."""

    def __init__(self):
        self.live = sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self.height = 0
        self.next_table = 0.0

    def event(self, line):
        """Tell of an event; on a terminal, the drawing holds the last ones."""
        if not self.live:
            print(line, flush=True)

    def draw(self, head, table, events):
        """Show the state."""
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            lines = head + table + events
            up = f"\x1b[{self.height}A" if self.height else ""
            print(up + "".join(line[:width] + "\x1b[K\n" for line in lines), end="\x1b[J", flush=True)
            self.height = len(lines)
        elif time.monotonic() >= self.next_table:
            self.next_table = time.monotonic() + 3
            print("\n".join(table), flush=True)


class Demo:
    """The proxy, its backends, the client, and the phases that the user sees."""

    def __init__(self, settings, folder, signals):
        self.settings = settings
        self.signals = signals
        self.screen = Screen()
        ports = free_ports(len(WEIGHTS), settings.port)
        self.weights = {f"{HOST}:{port}": weight for port, weight in zip(ports, WEIGHTS)}
        self.backends = {
            f"{HOST}:{port}": Nginx(settings.nginx, os.path.join(folder, f"backend-{port}"), "backend.conf.in", port)
            for port in ports}
        words = {"MODULE": settings.module, "USER": "user root;" if os.geteuid() == 0 else ""}
        for i, (port, weight) in enumerate(zip(ports, WEIGHTS), 1):
            words.update({f"PORT{i}": port, f"WEIGHT{i}": weight})
        self.proxy = Nginx(settings.nginx, os.path.join(folder, "proxy"), "proxy.conf.in", settings.port, **words)
        self.everyone = [*self.backends.values(), self.proxy]
        self.traffic = Traffic(settings.port, self.backends)
        self.pace = min(5.0, (settings.seconds or 60.0) / 5)  # how long a phase lasts at least
        self.began = time.monotonic()
        self.phase = "starting"
        self.status = {}
        self.status_error = None
        self.events = collections.deque(maxlen=8)
        self.cycles = 0

    def run(self):
        """Run until the time is over or a signal came; return why it failed, or None.

        It leaves no process behind in any case.
        """
        try:
            for nginx in self.everyone:
                nginx.start()
                nginx.wait_until_ready()
            self.traffic.start()
            phases = self.phases()
            while not self.over():
                time.sleep(TICK)
                self.look()
                next(phases)
                self.draw()
            self.traffic.finish()
            return self.failure()
        finally:
            self.close()

    def close(self):
        """End the client first, so that it sees no end of the proxy; then every nginx."""
        self.traffic.finish()
        for nginx in reversed(self.everyone):
            nginx.close()

    def over(self):
        """Tell whether it is time to end."""
        return self.signals or self.age() >= (self.settings.seconds or float("inf"))

    def age(self):
        """Return the seconds since the demo began."""
        return time.monotonic() - self.began

    def look(self):
        """See what checkups says, and that everybody who should be there still is."""
        for nginx in self.everyone:
            nginx.require_alive()
        if not self.traffic.is_alive():
            raise DemoError("the client thread ended by itself; its error is above")
        try:
            self.status, error = read_status(self.settings.port), None
        except (ValueError, LookupError, TypeError, AttributeError, OSError, http.client.HTTPException) as problem:
            self.status, error = {}, f"the status cannot be read: {problem!r}"
        if error and error != self.status_error:
            self.event(error)
        self.status_error = error

    def health(self, server):
        """Return the server's state as checkups reports it."""
        return self.status.get(server, {}).get("status") or "?"

    def event(self, text):
        """Remember and show an event."""
        self.events.append(f"{self.age():6.1f} s  {text}")
        self.screen.event(self.events[-1])

    def enter(self, phase):
        """Begin a phase."""
        self.phase = phase
        self.screen.event(f"phase: {phase}")

    def phases(self):
        """The play, for ever; at each yield the main loop looks and draws."""
        heaviest = max(self.weights, key=self.weights.get)
        while True:
            self.enter("all servers run")
            yield from self.watch({})
            gone = yield from self.show_stop(heaviest)
            back = yield from self.show_start(heaviest)
            self.cycles += gone and back

    def watch(self, conditions):
        """Stay in a phase until its conditions have come about, and for the pace at least.

        A condition has a name and a function, which is given the seconds since the phase began and returns
        the text of an event once there is one. Returns False if one of them did not come about in time.
        """
        began = time.monotonic()
        waiting = dict(conditions)
        while waiting or time.monotonic() < began + self.pace:
            after = time.monotonic() - began
            for name, condition in list(waiting.items()):
                text = condition(after)
                if text:
                    self.event(text)
                    del waiting[name]
            if waiting and after > PATIENCE:
                self.event(f"not seen within {PATIENCE:.0f} s: {', '.join(waiting)}")
                return False
            yield
        return True

    def show_stop(self, server):
        """Stop a server; see its share go to the others, and its check fail."""
        traffic = self.traffic
        self.enter(f"{server} is stopped")
        made, failed, retried, stopped = traffic.made, traffic.failed, traffic.retried, time.monotonic()
        self.backends[server].kill()
        self.event(f"stopped {server} (kill -9)")

        def share_gone(_):
            left = traffic.left(server, made, stopped)
            return left and (f"its share is 0 after {left - stopped:.2f} s; requests moved to others: "
                             f"{traffic.retried - retried}, failed: {traffic.failed - failed}")

        return (yield from self.watch({"share at 0": share_gone, "marked err": self.marked(server, "err")}))

    def show_start(self, server):
        """Start a server again; see its check pass, and its share come back."""
        self.enter(f"{server} is started again")
        self.backends[server].start()
        self.event(f"started {server} again")

        def share_back(after):
            share = self.traffic.share(server, SHORT)
            return share >= 0.9 * self.due(server) and f"its share is back at {share:.0f} % after {after:.2f} s"

        return (yield from self.watch({"marked ok": self.marked(server, "ok"), "share back": share_back}))

    def marked(self, server, state):
        """Return the condition that checkups reports the server in this state."""
        return lambda after: self.health(server) == state and f"checkups marks it {state} after {after:.2f} s"

    def due(self, server):
        """Return the share that the server's weight deserves while all run, in percent."""
        return 100 * self.weights[server] / sum(WEIGHTS)

    def draw(self):
        """Show everything."""
        limit = f" of {self.settings.seconds:g} s" if self.settings.seconds else " s (Ctrl-C ends)"
        head = ["", f"{self.age():.0f}{limit}, phase: {self.phase}"]
        empty = [""] * (self.events.maxlen - len(self.events))  # so that the drawing keeps its height
        self.screen.draw(head, self.table(), ["", "events:", *self.events, *empty])

    def table(self):
        """Return the lines of the table and of the totals."""
        lines = ["", ROW.format("server", "weight", "due", f"last {WINDOW}", f"last {SHORT}",
                                "health", "last message")]
        for server, weight in self.weights.items():
            long, short = (f"{self.traffic.share(server, count):.1f} %" for count in (WINDOW, SHORT))
            message = self.status.get(server, {}).get("msg") or "-"
            lines.append(ROW.format(server, weight, f"{self.due(server):.1f} %", long, short,
                                    self.health(server), message))
        return lines + [self.totals()]

    def totals(self):
        """Return the line that counts the requests."""
        traffic = self.traffic
        return (f"{traffic.made} requests, {traffic.failed} failed, {traffic.retried} moved to another server, "
                f"{traffic.per_second():.0f} requests/s")

    def failure(self):
        """Return why the demo failed, in a sentence, or None."""
        traffic, seconds = self.traffic, self.settings.seconds
        if traffic.failed:
            return (f"{traffic.failed} of {traffic.made} client requests failed, the first one so: "
                    f"{traffic.first_failure}. The end of the proxy's log:\n{self.proxy.last_words()}")
        if self.signals:
            return None
        if not traffic.made:
            return "no client request was made"
        if seconds is not None and seconds >= 15 and not self.cycles:
            return f"in {seconds:g} s, no full stop and start of a server was seen"
        return None


def note_signals():
    """Return a list that grows by each signal that asks for the end.

    The main loop looks at it, so that no start and no clean-up is cut in half.
    """
    came = []
    for which in ENDING:
        signal.signal(which, lambda number, _: came.append(number))
    return came


def introduce(settings):
    """Say what goes on, what to try and how to end it."""
    url = f"http://{HOST}:{settings.port}"
    weights = "/".join(map(str, WEIGHTS))
    end = f"It ends by itself after {settings.seconds:g} s" if settings.seconds else "It runs until you end it"
    print(f"""checkups demo: a proxy with 2 workers on {url}/
and three backends, weights {weights}. A client sends {RATE} requests per second;
the heaviest backend is stopped and started again.
{end}; Ctrl-C ends it and all that it started.
Try, in another terminal:
  curl -i {url}/
  curl {url}/_checkups/status""", flush=True)


def play():
    """Run the demo; return its exit code, or raise DemoError."""
    signals = note_signals()
    settings = read_settings(os.environ)
    require_free(settings.port)
    introduce(settings)
    with tempfile.TemporaryDirectory(prefix="checkups-demo-") as folder:
        demo = Demo(settings, folder, signals)
        failure = demo.run()
    print(f"\n{demo.age():.1f} s: {demo.totals()}; full stops and starts: {demo.cycles}")
    if failure:
        raise DemoError(failure)
    print("No client request failed.")
    return 0


def main():
    """Run the demo and turn its errors into a message and an exit code."""
    try:
        return play()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails, too
        return 1
    finally:
        for which in ENDING:  # all is cleaned up: a second Ctrl-C shall not change the exit code
            signal.signal(which, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main())
