"""How a proof is called, what it says first, and what last."""

import argparse
import os
import subprocess

from processes import MODULE, NGINX, now
from table import Table


class Command:
    """`description` is the text of --help, `parts` are the names that may be given, `of` is what one is called,
    and `widths` those of the table."""

    def __init__(self, description, parts, *widths, of="part"):
        self.parts, self.of = parts, of
        self.table, self.start = Table(*widths), now()
        self.parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
        if parts:
            self.parser.add_argument("parts", nargs="*", metavar=of.upper(), help=", ".join(parts))

    def add(self, *names, **how):
        self.parser.add_argument(*names, **how)

    def add_sample(self):
        self.add("--sample", action="store_true", help="the short version")

    def options(self):
        """What is asked for; ends the process where that cannot be."""
        options = self.parser.parse_args()
        unknown = [part for part in options.parts if part not in self.parts] if self.parts else []
        if unknown:
            self.parser.error(f"no such {self.of}: {unknown[0]} (there are {', '.join(self.parts)})")
        for name, path in (("NGINX", NGINX), ("MODULE", MODULE)):
            if not path or not os.path.isabs(path) or not os.path.exists(path):
                self.parser.error(f"{name} must be an absolute path (`make proof` sets it), not {path!r}")
        return options

    def begin(self, what, more=""):
        version = subprocess.run([NGINX, "-v"], capture_output=True, text=True, check=True).stderr.strip().split(": ")[-1]
        print(f"{what} under {version} ({os.environ.get('BUILD', 'this build')}){more}", flush=True)

    def end(self, more=""):
        """Says what came of it. Returns the exit status."""
        took = f"{more}after {now() - self.start:.0f} s"
        print(f"{self.table.failed} FAILED {took}" if self.table.failed else f"all passed {took}")
        return 1 if self.table.failed else 0


def short(what, options):
    return f"{what} (sample)" if options.sample else what


def run(description, parts, what, *widths):
    """A proof that is its parts, one after another. Returns the exit status."""
    command = Command(description, parts, *widths)
    command.add_sample()
    options = command.options()
    command.begin(short(what, options))
    for part in options.parts or parts:
        parts[part](command.table, options.sample)
    return command.end()
