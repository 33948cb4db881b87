"""The ways in which things go wrong: calls, surroundings, files, signals, numbers, kills."""

import collections
import contextlib
import errno
import itertools
import os
import random
import resource
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import commands
import numbers_that_are_not as numbers
import piom

ONCE, FROM_THERE_ON = 1, 0
SHORT = 0
# How each call may fail: an errno, or with half of the bytes.
WAYS = {
    "open": [(errno.EMFILE, ONCE), (errno.EACCES, ONCE), (errno.ENFILE, FROM_THERE_ON)],
    "stat": [(errno.EIO, ONCE), (errno.ENOMEM, FROM_THERE_ON)],
    "access": [(errno.EACCES, ONCE)],
    "list": [(errno.EMFILE, ONCE), (errno.EACCES, FROM_THERE_ON)],
    "seek": [(errno.EIO, ONCE)],
    "read": [
        (errno.EIO, ONCE), (errno.EINTR, ONCE), (SHORT, ONCE), (SHORT, FROM_THERE_ON), (errno.EIO, FROM_THERE_ON)
    ],
    "write": [
        (errno.ENOSPC, ONCE), (errno.EINTR, ONCE), (SHORT, ONCE), (SHORT, FROM_THERE_ON), (errno.EIO, FROM_THERE_ON)
    ],
    "sync": [(errno.EIO, ONCE), (errno.ENOSPC, FROM_THERE_ON)],
    "name": [(errno.EACCES, ONCE), (errno.EROFS, FROM_THERE_ON)],
    "unlink": [(errno.EACCES, ONCE)],
    "truncate": [(errno.EIO, ONCE)],
    "space": [(errno.EIO, ONCE)],
    "map": [(errno.ENOMEM, ONCE), (errno.ENODEV, FROM_THERE_ON)],
    "advise": [(errno.EINVAL, ONCE), (errno.EAGAIN, ONCE), (errno.EIO, ONCE), (errno.ENOMEM, FROM_THERE_ON)],
    "lock": [(errno.ENOMEM, ONCE), (errno.EPERM, FROM_THERE_ON)],
    "hold": [(errno.EINTR, ONCE), (errno.ENOLCK, ONCE), (errno.EWOULDBLOCK, FROM_THERE_ON)],
    "thread": [(errno.EAGAIN, ONCE), (errno.EAGAIN, FROM_THERE_ON)],
    "affinity": [(errno.EINVAL, ONCE), (errno.EPERM, FROM_THERE_ON)],
    "allocate-own": [(errno.ENOMEM, ONCE), (errno.ENOMEM, FROM_THERE_ON)],
    "allocate-swift": [(errno.ENOMEM, ONCE)],
    "allocate-other": [(errno.ENOMEM, ONCE), (errno.ENOMEM, FROM_THERE_ON)],
}  # fmt: skip
ENVIRONMENTS = {
    "an empty environment": {},
    "a Turkish locale": {"LC_ALL": "tr_TR.UTF-8", "LANG": "tr_TR.UTF-8"},
    "a locale with decimal commas": {"LC_ALL": "de_DE.UTF-8"},
    "a locale that is not there": {"LC_ALL": "xx_XX.KOI8-Q", "LANGUAGE": "??"},
    "no home, an odd time zone": {"HOME": "/nonexistent", "TMPDIR": "/nonexistent", "TZ": "Nowhere/None"},
    "a large environment": {f"ODD_{i}": "x" * 1000 for i in range(100)},
    "OpenBLAS asked for 64 threads": {"OPENBLAS_NUM_THREADS": "64", "OMP_NUM_THREADS": "64"},
}
ANY_WAY = ("same", "refused", "reported")


class Tally:
    """How many runs of each part ended in which way; what is wrong is printed at once."""

    KINDS = ["same", "answered", "refused", "reported", "ended", "missed", "wrong"]

    def __init__(self):
        self.lock = threading.Lock()
        self.table = collections.defaultdict(collections.Counter)

    def add(self, part, verdict, repeat):
        with self.lock:
            self.table[part]["wrong" if verdict.startswith("!") else verdict] += 1
            if verdict.startswith("!"):
                print(f"WRONG {part}: {verdict[2:]}\n      {repeat}", flush=True)

    @property
    def run_count(self):
        return sum(sum(counts.values()) for counts in self.table.values())

    @property
    def wrong_count(self):
        return sum(counts["wrong"] for counts in self.table.values())

    def print(self):
        print("\n| what | runs | " + " | ".join(self.KINDS) + " |")
        print("| --- |" + " ---: |" * (len(self.KINDS) + 1))
        for part, counts in self.table.items():
            cells = [str(counts[kind] or "") for kind in self.KINDS]
            print(f"| {part} | {sum(counts.values())} | " + " | ".join(cells) + " |")


class Parts:
    def __init__(self, options, runner, scenarios, work, tally):
        self.options, self.runner, self.work, self.tally = options, runner, work, tally
        self.scenarios = scenarios
        self.named = {scenario.name: scenario for scenario in scenarios}
        self.random = random.Random(options.seed)
        self.copies = itertools.count()

    def each(self, function, items):
        """`function(folder, *item)` for all items, two at a time, each in a folder of its own."""
        workers = 2
        free = [Path(tempfile.mkdtemp(dir=self.work)) for _ in range(workers)]

        def call(item):
            folder = free.pop()
            try:
                function(folder, *item)
            finally:
                free.append(folder)

        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(call, items))

    def note(self, part, scenario, verdict, how="", allowed=None):
        if allowed and verdict not in allowed and not verdict.startswith("!"):
            verdict = f"! {verdict}, where it should be {' or '.join(allowed)}"
        self.tally.add(part, verdict, f"{how} {scenario.name}: pioedge {' '.join(map(str, scenario.words))}")

    # A call that fails.

    def calls(self):
        items = []
        for scenario in self.scenarios:
            counts = scenario.reference.counts
            points = [
                (scenario, f"{call}:{index}:{often}:{way}", call)
                for call, ways in WAYS.items()
                for way, often in ways
                for index in spread(counts[call], self.options.points)
            ]
            items += self.few_of_each_call(points) if self.options.quick else points
        self.each(self.one_call, items)

    def few_of_each_call(self, points):
        self.random.shuffle(points)
        seen = collections.Counter()
        for point in points:
            seen[point[2]] += 1
            if seen[point[2]] <= 2:
                yield point

    def one_call(self, folder, scenario, fault, call):
        result = scenario.run(self.runner, folder, faults={"FAULTS_FAIL": fault})
        ends = call == "allocate-swift"
        verdict = scenario.verdict(result, folder, may_end=ends, may_leave=ends or call == "unlink")
        # OpenBLAS ends the process itself, with a crash or lines of its own, where its own memory is not granted.
        if call == "allocate-other" and scenario.name == "float" and verdict.startswith("! exit code"):
            verdict = "ended"
        # Threads take turns: this run had fewer calls.
        if result.failures == 0 and verdict == "same":
            verdict = "missed"
        self.note(f"{call} fails", scenario, verdict, f"FAULTS_FAIL={fault}")

    # What a process finds around it.

    def surroundings(self):
        self.each(self.one_surrounding, [(scenario,) for scenario in self.scenarios])
        if "run" in self.named:
            self.odd_input(self.named["run"])

    def one_surrounding(self, folder, scenario):
        def check(label, allowed, **options):
            result = scenario.run(self.runner, folder, **options)
            self.note(label, scenario, scenario.verdict(result, folder), allowed=allowed)

        for label, environment in ENVIRONMENTS.items():
            check(label, ["same"], environment=environment)
        for seed in range(2 if self.options.quick else 20):
            check("clocks that jump", ["same"], faults={"FAULTS_CLOCK": str(seed)})
        for step in [2000] if self.options.quick else [20000, 2000, 500]:
            check("calls interrupted all the time", ["same"], faults={"FAULTS_ALARM": str(step)})
        for count in range(3, 12, 4 if self.options.quick else 1):
            check("few file descriptors", ANY_WAY, faults={"FAULTS_FILES": str(count)})
        # A process that finds a standard stream closed opens its next file there.
        must_fail = ["refused"] if scenario.reference.out else ["same"]
        check("stdout closed", must_fail, preexec_fn=lambda: os.close(1))
        with open("/dev/full", "wb") as full:
            check("stdout full", must_fail, stdout=full)
        check("stderr closed", ["same"], preexec_fn=lambda: os.close(2))
        if scenario.stdin is None:
            check("stdin closed", ["same"], preexec_fn=lambda: os.close(0))
            self.all_closed(folder, scenario)

    def all_closed(self, folder, scenario):
        result = scenario.run(self.runner, folder, preexec_fn=lambda: os.closerange(0, 3))
        expected = 1 if scenario.reference.out else 0
        problem = scenario.damage(folder, may_leave=False)
        if not problem and result.code != expected:
            problem = f"exit code {result.code}, not {expected}"
        self.note("all three closed", scenario, f"! {problem}" if problem else "refused" if expected else "same")

    def odd_input(self, scenario):
        folder = Path(tempfile.mkdtemp(dir=self.work))
        model = scenario.words[1]
        for label, path, words in [
            ("stdin is a folder", "/", ["run", model]),
            ("stdin is a folder", "/", ["run", model, "--jsonl"]),
            ("stdin is empty", "/dev/null", ["run", model]),
            ("stdin has no end", "/dev/zero", ["run", model]),
        ]:
            descriptor = os.open(path, os.O_RDONLY)
            result = self.runner.run(folder, words, stdin=descriptor)
            os.close(descriptor)
            good = result.code == 1 and result.err.count("\n") == 1 and result.err.startswith("error: ")
            verdict = "refused" if good else f"! exit code {result.code}: {result.err[-300:]!r}"
            self.tally.add(label, verdict, f"pioedge {' '.join(map(str, words))} < {path}")

    # Files that change while they are in use, and disks that are full.

    def files(self):
        changes = {"cut short": self.cut, "replaced": replace, "grown": grow, "removed": remove}
        times = 3 if self.options.quick else 60
        self.each(
            self.one_change,
            [
                (self.named[name], what, label, change)
                for name in ("streaming", "run")
                if name in self.named
                for what in ("model", "image")
                for label, change in changes.items()
                for _ in range(times)
            ],
        )
        for name in ("convert", "replace", "explain"):
            if name in self.named:
                self.full(self.named[name])

    def cut(self, path):
        os.truncate(path, self.random.randrange(path.stat().st_size))

    def one_change(self, folder, scenario, what, label, change):
        words = scenario.prepare(folder)
        index = 1 if what == "model" else words.index("--image") + 1
        # A name of its own: what comes late may not change the next run's.
        copy = folder / f"copy-{next(self.copies)}-{Path(words[index]).name}"
        shutil.copy(words[index], copy)
        words[index] = str(copy)
        delay = self.random.random() * scenario.seconds

        def during(process):
            time.sleep(delay)
            with contextlib.suppress(FileNotFoundError):
                change(copy)

        result = self.runner.run(folder, words, during=during)
        copy.unlink(missing_ok=True)
        self.note(
            f"{what} {label}, {scenario.name}", scenario, scenario.verdict(result, folder), f"after {delay:.3f} s"
        )

    def full(self, scenario):
        folder = Path(tempfile.mkdtemp(dir=self.work))
        for share in (0, 0.3, 0.6, 0.9, 0.99):
            size = int(share * scenario.written_bytes)

            def limit(size=size):
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

            result = scenario.run(self.runner, folder, preexec_fn=limit)
            self.note(
                f"the size of files limited, {scenario.name}", scenario, scenario.verdict(result, folder),
                f"{share:.0%} of what is needed:", ["refused"],
            )  # fmt: skip
            words = scenario.prepare(folder)
            kept = scenario.files(folder)
            out = folder / "out"
            size = max(1, size // 4096) * 4096 + 8192 * len(kept)
            mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", out]
            if subprocess.run(mount, stderr=subprocess.DEVNULL).returncode != 0:
                print("a full disk was not tried: this user may not mount one", flush=True)
                continue
            try:
                if scenario.before:
                    scenario.before(out)
                result = self.runner.run(folder, words)
                verdict = scenario.verdict(result, folder)
            finally:
                subprocess.run(["umount", out], check=True)
            self.note(
                f"a full disk, {scenario.name}", scenario, verdict, f"{share:.0%} of what is needed:", ["refused"]
            )

    # Signals.

    def signals(self):
        names = ["convert", "run", "streaming", "lines", "chat", "eval", "explain"]
        times = 1 if self.options.quick else 12
        self.each(
            self.one_signal,
            [
                (self.named[name], number)
                for name in names
                if name in self.named
                for number in ENDING + HARMLESS
                for _ in range(times)
            ],
        )

    def one_signal(self, folder, scenario, number):
        delay = self.random.random() * scenario.seconds

        def during(process):
            time.sleep(delay)
            send(process, number)
            if number == signal.SIGSTOP:
                time.sleep(0.05)
                send(process, signal.SIGCONT)

        result = scenario.run(self.runner, folder, during=during)
        if result.code == -number and number in ENDING:
            problem = scenario.damage(folder, may_leave=False)
            verdict = f"! {problem}" if problem else "ended"
        else:
            verdict = scenario.verdict(result, folder)
        self.note(
            f"a signal: {number.name}", scenario, verdict, f"after {delay:.3f} s:", ["same", "ended", "refused"]
        )

    # Numbers that are none.

    def numbers(self):
        if "run" not in self.named:
            return
        times = 60 if self.options.quick else 3000
        model = Path(self.named["run"].words[1])
        tensors = piom.Model(model).tensors
        self.each(self.one_number, [(model, self.random.choice(tensors), index) for index in range(times)])
        self.each(self.one_checkpoint, [(index,) for index in range(max(12, times // 20))])
        ways = itertools.product(numbers.PICTURES, commands.WAYS_TO_RUN)
        self.each(self.one_picture, [(model, *way) for way in list(ways)[:: 16 if self.options.quick else 1]])

    def one_number(self, folder, model, tensor, index):
        """A file whose weights or scales are damaged: an error of one line, or an answer."""
        chance = random.Random(f"{self.options.seed} {index}")
        label, pattern = chance.choice(list(PATTERNS.items()))
        copy = folder / "damaged.piom"
        shutil.copy(model, copy)
        share = chance.choice(["one", "many", "all"])
        with open(copy, "r+b") as file:
            damage(file, tensor, pattern, share, chance)
        words = ["run", copy, "--image", chance.choice(commands.IMAGE_FILES), commands.QUESTION, *commands.FEW]
        words += chance.choice(commands.WAYS_TO_RUN)
        verdict, repeat = self.answered(folder, words)
        self.tally.add(f"weights: {label}", verdict, f"number {index}: {share} of {tensor.name}: {repeat}")

    def answered(self, folder, words):
        """An answer or an error of one line, and how to repeat it."""
        result = self.runner.run(folder, words)
        lines = result.err.splitlines()
        refused = result.code == 1 and len(lines) == 1 and lines[0].startswith("error: ")
        verdict = "answered" if result.code == 0 and not lines else "refused" if refused else ""
        if not verdict:
            verdict = f"! exit code {result.code}: {result.last_words}"
        return verdict, f"--seed {self.options.seed}: {' '.join(map(str, words))}"

    def one_checkpoint(self, folder, index):
        """A checkpoint with numbers that are none is refused; with others it is converted, and the model answers."""
        chance = random.Random(f"{self.options.seed} checkpoint {index}")
        label, pattern = chance.choice(list(numbers.HALVES.items()))
        checkpoint, model = folder / "checkpoint", folder / "from-checkpoint.piom"
        shutil.rmtree(checkpoint, ignore_errors=True)
        shutil.copytree(commands.tool.DEMO, checkpoint)
        name = numbers.damage(checkpoint / "model.safetensors", pattern, chance)
        kind = chance.choice(["int4", "int8", "f32"])
        convert = ["convert", checkpoint, model, "--weights", kind, "--force"]
        verdict, repeat = self.answered(folder, convert)
        if verdict == "answered" and label in numbers.NONE:
            verdict = "! converted, with numbers that are none"
        elif verdict == "answered":
            verdict, repeat = self.answered(
                folder, ["run", model, "--image", commands.SQUARE, commands.QUESTION, *commands.FEW]
            )
        self.tally.add(f"checkpoint: {label}", verdict, f"number {index}, {name}: {repeat}")

    def one_picture(self, folder, model, picture, way):
        """Whatever a picture shows, the answer is one."""
        path = folder / "picture.png"
        path.write_bytes(numbers.PICTURES[picture]())
        words = ["run", model, "--image", path, commands.QUESTION, *commands.FEW, *way]
        verdict, repeat = self.answered(folder, words)
        if verdict == "refused":
            verdict = "! refused"
        self.tally.add(f"picture: {picture}", verdict, repeat)

    # Killed.

    def kills(self):
        for name, times in [("convert", self.options.kills), ("eval", self.options.kills // 10)]:
            if name not in self.named:
                continue
            scenario = self.named[name]
            folder = Path(tempfile.mkdtemp(dir=self.work))
            for index in range(times):
                self.one_kill(folder, scenario, named=index % 2 == 1)
                self.goes_on(folder, scenario)

    def one_kill(self, folder, scenario, named):
        delay = self.random.random() * scenario.seconds
        faults = {"FAULTS_NAMED": "1"} if named else {}

        def during(process):
            time.sleep(delay)
            send(process, signal.SIGKILL)

        result = scenario.run(self.runner, folder, during=during, faults=faults)
        problem = scenario.damage(folder, may_leave=named)
        if result.code not in (0, -signal.SIGKILL):
            problem = f"exit code {result.code}: {result.last_words}"
        label = f"killed, {scenario.name}" + (", a file system that has no nameless files" if named else "")
        verdict = f"! {problem}" if problem else "same" if result.code == 0 else "ended"
        self.note(label, scenario, verdict, f"after {delay:.3f} s:")

    def goes_on(self, folder, scenario):
        """The next run, in the same folder, leaves what it should and nothing else."""
        words = [str(word).replace("{out}", str(folder / "out")) for word in scenario.words]
        if scenario.name == "convert":
            words.append("--force")
        result = self.runner.run(folder, words)
        found = scenario.files(folder)
        odd = [name for name in {**found, **scenario.final} if found.get(name) != scenario.final.get(name)]
        good = result.code == 0 and not odd
        verdict = "same" if good else f"! {odd}, exit code {result.code}: {result.last_words}"
        self.note(f"the run behind a killed one, {scenario.name}", scenario, verdict)


ENDING = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGALRM, signal.SIGBUS]
HARMLESS = [signal.SIGSTOP, signal.SIGWINCH, signal.SIGURG, signal.SIGCHLD]


# Halves of two bytes, as f16 and as the upper half of f32.
PATTERNS = {
    "NaN": b"\x00\x7e\xc0\x7f",
    "infinities": b"\x00\x7c\x80\xff",
    "the largest numbers": b"\xff\x7b\x7f\x7f",
    "the largest, negative": b"\xff\xfb\x7f\xff",
    "denormals": b"\x01\x00\x01\x80",
    "zeros": bytes(4),
    "any bits": None,
}


def damage(file, tensor, pattern, share, chance):
    data = bytearray(tensor.data)
    if share == "all":
        places = range(0, len(data) - 3, 4)
    else:
        count = 1 if share == "one" else 1 + len(data) // 1000
        places = [chance.randrange(len(data) // 4) * 4 for _ in range(count)]
    for place in places:
        data[place : place + 4] = pattern or chance.randbytes(4)
    file.seek(tensor.offset)
    file.write(data)


def send(process, number):
    try:
        process.send_signal(number)
    except ProcessLookupError:
        pass


def spread(count, most):
    """Up to `most` numbers of 1...count, the first and the last among them."""
    if count <= most:
        return range(1, count + 1)
    return sorted({1 + round(i * (count - 1) / (most - 1)) for i in range(most)})


def replace(path):
    other = path.with_suffix(".other")
    other.write_bytes(b"another file" * 1000)
    other.rename(path)


def grow(path):
    with open(path, "ab") as file:
        file.write(bytes(100_000))


def remove(path):
    path.unlink()
