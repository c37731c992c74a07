"""The nginx processes of the demo, and their ports."""

import ctypes
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
HOST = "127.0.0.1"
START_SECONDS = 10  # an nginx that does not listen after so long is given up
PR_SET_PDEATHSIG = 1


class DemoError(Exception):
    """Something that ends the demo, in a sentence for the user."""

    def __init__(self, message, exit_code=1):
        super().__init__(message)
        self.exit_code = exit_code


def listen_error(port):
    """Return the OSError that listening on the port gives, or None if nginx will be able to."""
    with socket.socket() as probe:
        # As nginx does; otherwise connections of an earlier demo in TIME_WAIT look like a port in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError as error:
            return error
    return None


def free_ports(count, taken):
    """Return free ports below the range that the kernel hands to outgoing connections.

    From that range, a connection could be given the port of a backend while that one is stopped.
    """
    free = (port for port in random.sample(range(20000, 32000), 1000)
            if port != taken and listen_error(port) is None)
    found = list(itertools.islice(free, count))
    if len(found) < count:
        raise DemoError(f"there are no {count} free ports between 20000 and 32000 on {HOST}")
    return found


def die_with_parent(parent, libc=ctypes.CDLL(None) if sys.platform == "linux" else None):
    """In a new child: be terminated when the demo dies, even by SIGKILL.

    This runs between fork and exec while the client thread exists, so it does next to nothing.
    """
    if libc:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


class Nginx:
    """One nginx, started as a child in its own session, so that Ctrl-C reaches only the demo."""

    def __init__(self, program, folder, template, port, **words):
        self.port = port
        self.process = None
        conf = os.path.join(folder, "nginx.conf")
        self.log = os.path.join(folder, "error.log")  # its stderr, and error_log in the templates
        self.command = [program, "-p", folder + "/", "-e", "stderr", "-c", conf]
        os.mkdir(folder)
        with open(os.path.join(HERE, template), encoding="utf-8") as file:
            text = file.read()
        for word, value in dict(words, PORT=port).items():
            text = text.replace(f"@{word}@", str(value))
        with open(conf, "w", encoding="utf-8") as file:
            file.write(text)

    def start(self):
        """Start it. Only the main thread may: the parent-death signal follows the starting thread."""
        parent = os.getpid()
        env = {name: value for name, value in os.environ.items() if name != "NGINX"}  # to nginx: inherited sockets
        try:
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
                    start_new_session=True, preexec_fn=lambda: die_with_parent(parent))
        except OSError as error:
            raise DemoError(f"{self.command[0]} cannot be started: {error.strerror}") from None

    def wait_until_ready(self):
        """Return once it accepts connections; raise DemoError with its output if it does not."""
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            self.require_alive()
            try:
                socket.create_connection((HOST, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.02)
        raise DemoError(f"nginx does not listen on {HOST}:{self.port} after {START_SECONDS} s:\n{self.last_words()}")

    def require_alive(self):
        """Raise DemoError if it ended though nobody stopped it."""
        if self.process and self.process.poll() is not None:
            raise DemoError(f"the nginx on {HOST}:{self.port} ended by itself "
                            f"(status {self.process.returncode}):\n{self.last_words()}")

    def last_words(self):
        """Return the end of its log."""
        with open(self.log, encoding="utf-8", errors="replace") as file:
            lines = file.read().splitlines()[-10:]
        return "\n".join("  " + line for line in lines) or "  (it wrote nothing)"

    def kill(self):
        """Stop it the hard way, with no chance to say good-bye to the proxy."""
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self):
        """End it and its workers, whatever its state."""
        process, self.process = self.process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=3)
        except subprocess.TimeoutExpired:
            pass
        try:
            os.killpg(process.pid, signal.SIGKILL)  # its session: the master, and workers it left behind
        except OSError:
            pass  # the usual case: nothing is left
        process.wait()
