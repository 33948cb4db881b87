"""What the virtual board found, held against what this machine answers; see tools/check/board.

Prints a table in Markdown. Exit code 1: something is not as it should be; each is a line on stderr.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
IMAGE = ROOT / "tools/demo/images/scene-0014-640x480.png"
QUESTION = "Describe the image."
# As in guest.
SMALL = "--context 64 --max-tokens 48 --kv int8 --codec-memory 1MiB --max-image-pixels 1000000".split()
# Random weights: a question whose first tokens are not by a hair those of another rounding.
LARGE = ["Name a colour.", "--json", "--context", "64", "--max-tokens", "2"]
MIB = 1 << 20


def read(path):
    """What a start found, by name; a line that the power cut short is none."""
    found = {}
    for line in path.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        found[entry["name"]] = entry
    return found


class Expected:
    """The right answers: this machine's."""

    def __init__(self, pioedge, large, work):
        model = work / "expected.piom"
        model.unlink(missing_ok=True)
        self.pioedge = pioedge
        self.run("convert", ROOT / "tools/demo/checkpoint", model, "--weights", "int4", "--json")
        self.digest = hashlib.sha256(model.read_bytes()).hexdigest()
        ask = ["run", model, "--image", IMAGE, QUESTION, "--json"]
        self.full = self.run(*ask)["tokens"]
        self.pruned = self.run(*ask, "--visual-tokens", "64")["tokens"]
        self.small = self.run(*ask, *SMALL)["tokens"]
        self.large = self.run("run", large, *LARGE)["tokens"]
        if self.run("run", large, *LARGE, PIOEDGE_ISA="scalar")["tokens"] != self.large:
            sys.exit("this machine's own kernels choose different tokens: another question is needed")

    def run(self, *words, **environment):
        command = [str(word) for word in (self.pioedge, *words)]
        done = subprocess.run(
            command, check=True, text=True, stdout=subprocess.PIPE, env=os.environ | environment
        )
        return json.loads(done.stdout)


class Judge:
    def __init__(self, expected):
        self.expected = expected
        self.problems = []
        self.rows = []

    def hold(self, start, what, holds):
        if not holds:
            self.problems.append(f"{start}: {what}")

    def answer(self, start, name, report, tokens):
        """A report of `run --json`: the tokens, and the peak below what was planned."""
        self.hold(start, f"{name}: other tokens than on this machine", report["tokens"] == tokens)
        memory = report["memory"]
        peak, plan = memory["peak_resident_bytes"], memory["planned_peak_bytes"]
        self.hold(start, f"{name}: the peak {peak} is above the plan, {plan}", peak <= plan)
        self.rows.append([start, name, f"{peak / MIB:.1f}", f"{plan / MIB:.1f}", "", "", ""])

    def plain(self, start, found):
        for name, tokens in [
            ("answer", self.expected.full), ("pruned", self.expected.pruned), ("huge-always", self.expected.full),
            ("huge-madvise", self.expected.full),
        ]:
            if self.ended(start, found, name):
                self.answer(start, name, found[name]["found"], tokens)
        if self.ended(start, found, "convert") and self.ended(start, found, "digest"):
            same = found["digest"]["found"] == self.expected.digest
            self.hold(start, "the converted file has other bytes than on this machine", same)

    def ended(self, start, found, name):
        entry = found.get(name)
        self.hold(start, f"{name} was not tried", entry is not None)
        if entry is None:
            return False
        self.hold(start, f"{name} ended with {entry['code']}: {entry['found']}", entry["code"] == 0)
        return entry["code"] == 0

    def grouped(self, start, found, name, tokens):
        """An answer inside a control group: the kernel ended nothing, and the group stayed below its limit."""
        if not self.ended(start, found, name):
            return
        group = found[name]["found"]
        self.hold(start, f"{name}: the kernel ended a process", group["oom_kill"] == 0)
        self.hold(start, f"{name}: exit code {group['group_code']}: {group['error']}", group["group_code"] == 0)
        if group["report"]:
            self.answer(start, name, group["report"], tokens)
            limit = "" if group["limit"] == "max" else f"{int(group['limit']) / MIB:.1f}"
            self.rows[-1][4:] = [limit, f"{group['peak'] / MIB:.1f}", f"{group['swap_peak'] / MIB:.1f}"]

    def too_small(self, start, found):
        """Half of what is needed: refused, by one line, and not by the kernel."""
        if not self.ended(start, found, "below"):
            return
        group = found["below"]["found"]
        refused = group["group_code"] == 1 and group["oom_kill"] == 0 and group["error"].startswith("error: ")
        self.hold(start, f"below: not refused: {group}", refused)

    def board(self, start, found):
        self.hold(start, f"it did not come to its end; the last is {list(found)[-1:]}", "end" in found)
        self.plain(start, found)
        for name in ("capped-0", "capped-1", "auto"):
            self.grouped(start, found, name, self.expected.small)
        self.grouped(start, found, "zram", self.expected.full)
        if found.get("zram", {}).get("code") == 0:
            self.hold(start, "zram: nothing was swapped", found["zram"]["found"]["swap_peak"] > 0)
        self.too_small(start, found)
        if start.endswith("1G"):
            for name in ("large", "large-auto"):
                self.grouped(start, found, name, self.expected.large)

    def power(self, start, found):
        self.hold(start, "the board did not come back", "end" in found)
        files = [entry for name, entry in found.items() if name.startswith("cut-")]
        for entry in files:
            self.hold(start, f"{entry['name']}: not whole: {entry['found']}", entry["code"] == 0)
        count = int(found.get("cut", {}).get("found", -1))
        self.hold(start, f"{count} files, {len(files)} of them models", count == len(files))
        return len(files)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name in ("--pioedge", "--large", "--work"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("found", type=Path, nargs="+")
    options = parser.parse_args()
    judge = Judge(Expected(options.pioedge, options.large, options.work))
    whole = []
    for path in options.found:
        found = read(path)
        if path.stem.startswith("power-"):
            whole.append(judge.power(path.stem, found))
            continue
        if machine := found.get("machine", {}).get("found"):
            print(
                f"- {path.stem}: Linux {machine['kernel']}, pages of {machine['page_bytes'] >> 10} KiB,"
                f" {machine['memory_bytes'] / MIB:.0f} MiB, {machine['cgroup']}, {machine['systemd']};"
                f" disk: {machine['disk']}"
            )
            judge.hold(path.stem, "swap is on from the start", machine["swaps"] == 0)
        judge.board(path.stem, found)
    print("\n| start | what | peak, MiB | planned | MemoryMax | group's peak | in zram |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for row in judge.rows:
        print("| " + " | ".join(row) + " |")
    if whole and sum(whole) == 0:
        judge.problems.append("power cuts: none came behind a finished conversion, so nothing was tried")
    if whole:
        print(f"\n{len(whole)} power cuts: {sum(whole)} files, each whole")
    for problem in judge.problems:
        print(problem, file=sys.stderr)
    print(f"\n{len(judge.problems)} problems")
    sys.exit(1 if judge.problems else 0)


main()
