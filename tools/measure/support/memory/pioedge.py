"""The built `pioedge`, and what the kernel says of it while it runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
DEMO = ROOT / "tools/demo/checkpoint"
MIB = 1 << 20


def add_option(parser):
    parser.add_argument("--pioedge", type=Path, help="default: built in release mode first")


def built(path):
    """`path`, or the release build of this tree, made where it is missing."""
    if path:
        return path.resolve()
    command = ["swift", "build", "-c", "release"]
    subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
    shown = subprocess.run(
        [*command, "--show-bin-path"], cwd=ROOT, check=True, text=True, stdout=subprocess.PIPE
    )
    return Path(shown.stdout.strip()) / "pioedge"


def convert(pioedge, checkpoint, model):
    """`model`, made from `checkpoint` as int4 where it is not there yet."""
    if not model.exists():
        model.parent.mkdir(parents=True, exist_ok=True)
        command = [pioedge, "convert", checkpoint, model, "--weights", "int4", "--force"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return model


def plan(pioedge, model, *options):
    """`pioedge plan --json`; it fits or not."""
    command = [pioedge, "plan", model, "--json", *map(str, options)]
    found = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if not found.stdout:
        sys.exit(f"{' '.join(map(str, command))}: {found.stderr.strip()}")
    return json.loads(found.stdout)


def bytes_of(text):
    """`256MiB`, `1.5GiB`, plain bytes: as the command line takes them."""
    for unit, factor in [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1), ("", 1)]:
        if text.endswith(unit):
            return round(float(text[: len(text) - len(unit)]) * factor)


def number(path, field):
    """The number behind `field:` in a file of /proc."""
    for line in Path(path).read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise KeyError(field)


def peak_bytes(pid):
    """The most that was ever resident, file-backed pages included."""
    return number(f"/proc/{pid}/status", "VmHWM") * 1024


def resident_bytes(pid):
    """What is resident now, page by page: the sum in /proc/PID/status lags behind by some pages a thread."""
    return number(f"/proc/{pid}/smaps_rollup", "Rss") * 1024


def read_bytes(pid):
    """What the process has had read from the disk since it began, all threads together."""
    return number(f"/proc/{pid}/io", "read_bytes")


class Session:
    """`pioedge run --jsonl`: a line in, a line out. `launch` starts the command as subprocess.Popen does."""

    def __init__(self, pioedge, model, *options, launch=subprocess.Popen):
        command = [pioedge, "run", model, "--jsonl", *options]
        self.process = launch(
            [str(word) for word in command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = self.process.pid

    def ask(self, prompt, image=None):
        """The answer's report; the process waits for the next line afterwards."""
        line = {"prompt": prompt} | ({"image": str(image)} if image else {})
        try:
            self.process.stdin.write(json.dumps(line) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass
        answer = self.process.stdout.readline()
        if not answer:
            raise Died(self.process.wait(), self.process.stderr.read().strip())
        report = json.loads(answer)
        if "error" in report:
            raise Died(None, report["error"])
        return report

    def close(self):
        """Ends it; the exit code."""
        self.process.stdin.close()
        self.process.stdout.read()
        self.process.stderr.read()
        return self.process.wait()


class Died(Exception):
    """The tool ended, or said an error."""

    def __init__(self, code, message):
        super().__init__(f"exit code {code}: {message}" if code is not None else message)


def machine():
    """What a table of measurements must name."""
    cpu = next(
        (
            line.split(":", 1)[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith(("model name", "Model"))
        ),
        os.uname().machine,
    )
    memory = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    return {
        "cpu": cpu,
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": memory,
        "kernel": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}",
    }
