"""One run of `pioedge` with preload.c in front of the C library, a time limit, and what it said."""

import os
import pty
import struct
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

# In the order of preload.c.
CALLS = """open stat access list seek read write sync name unlink truncate space map advise lock hold thread affinity
    allocate-own allocate-swift allocate-other""".split()
TABLE_BYTES = 4 * (len(CALLS) + 1)
# What a process needs to start at all, kept where the rest of the environment is replaced.
KEPT = ("LD_LIBRARY_PATH", "PATH")


@dataclass
class Terminal:
    """A standard input: this is typed on a terminal, and then its end."""

    text: bytes


@dataclass
class Result:
    """`code` is None where the time limit ended it, negative where a signal did."""

    code: int | None
    out: str
    err: str
    counts: dict
    failures: int

    @property
    def last_words(self):
        return self.err.strip()[-300:]


class Runner:
    def __init__(self, pioedge, library, seconds):
        self.pioedge, self.library, self.seconds = pioedge, library, seconds

    def start(self, folder, words, faults=None, environment=None, **options):
        """A process; its calls are counted in the file `table` of `folder`."""
        (folder / "table").write_bytes(bytes(TABLE_BYTES))
        variables = {key: value for key, value in os.environ.items() if not key.startswith("PIOEDGE_")}
        if environment is not None:
            variables = {key: variables[key] for key in KEPT if key in variables} | environment
        variables |= {"LD_PRELOAD": str(self.library), "FAULTS_TABLE": str(folder / "table")}
        # A toolchain's backtracer answers signals, and prints pages; a board has none.
        variables["SWIFT_BACKTRACE"] = "enable=no"
        command = [str(word) for word in [self.pioedge, *words]]
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen(
            command, env=variables | (faults or {}), cwd=folder, start_new_session=True, **options
        )

    def run(self, folder, words, stdin=None, during=None, **options):
        """stdin: bytes, a Terminal or a descriptor. during: called with the process while it runs."""
        text, terminal = None, None
        if isinstance(stdin, Terminal):
            terminal, options["stdin"] = pty.openpty()
        elif isinstance(stdin, bytes):
            text, options["stdin"] = stdin, subprocess.PIPE
        elif stdin is not None:
            options["stdin"] = stdin
        process = self.start(folder, words, **options)
        if terminal is not None:
            os.close(options["stdin"])
            threading.Thread(target=type_in, args=(terminal, stdin.text), daemon=True).start()
        if during:
            threading.Thread(target=during, args=(process,), daemon=True).start()
        return self.finish(process, folder, text, terminal)

    def finish(self, process, folder, text=None, terminal=None):
        try:
            out, err = process.communicate(text, timeout=self.seconds)
            code = process.returncode
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            code = None
        finally:
            if terminal is not None:
                os.close(terminal)
        *counts, failures = struct.unpack(f"{len(CALLS) + 1}I", (folder / "table").read_bytes())
        words = [(part or b"").decode(errors="replace") for part in (out, err)]
        return Result(code, *words, dict(zip(CALLS, counts)), failures)


def type_in(terminal, text):
    try:
        os.write(terminal, text)
        os.write(terminal, b"\x04")
    except OSError:
        pass  # The process has gone.


def build_library(source: Path, folder: Path):
    library = folder / "faults.so"
    flags = "-std=gnu17 -O2 -shared -fPIC -Wall -Wextra -Werror".split()
    subprocess.run(["cc", *flags, source, "-o", library], check=True)
    return library
