"""A command, what it leaves when nothing fails, and whether another run of it ended as it may.

A verdict is one of

    same       output and files of a run in which nothing fails
    refused    exit code 1 and one line on stderr; what had been printed is the beginning of the right output
    reported   (chat, --jsonl) an error is the answer to one question, and the session goes on
    ended      a signal of Swift's runtime, where an allocation of its own failed

or, where it is none of them, a text that begins with "!". Files are always as they were before, or whole.
"""

import json
import re
import shutil
import signal

# By which Swift's libraries end a process whose allocation failed.
ABRUPT = {-signal.SIGABRT, -signal.SIGILL, -signal.SIGTRAP, -signal.SIGSEGV}
DURATION = re.compile(r"\d+(\.\d+)? (ms|s)\b|\d+:\d\d\b")
MEASURED = re.compile(r'"[a-z_]*(milliseconds|seconds|_ms|resident_bytes)"\s*:\s*[0-9.eE+-]+')


def without_times(text):
    return DURATION.sub("T", MEASURED.sub('"T":0', text))


class Scenario:
    def __init__(self, name, words, stdin=None, outputs=(), before=None):
        """`{out}` in a word is an empty folder, which `before` fills and `outputs` are written to."""
        self.name, self.words, self.stdin = name, words, stdin
        self.outputs, self.before = outputs, before

    # What is run.

    def prepare(self, folder):
        out = folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        if self.before:
            self.before(out)
        return [str(word).replace("{out}", str(out)) for word in self.words]

    def run(self, runner, folder, **options):
        words = self.prepare(folder)
        result = runner.run(folder, words, **({"stdin": self.stdin} | options))
        # Each folder has its own name.
        result.out = result.out.replace(str(folder / "out"), "{out}")
        return result

    def learn(self, runner, folder):
        """What a run leaves in which nothing fails; twice the same, or nothing can be compared."""
        self.prepare(folder)
        self.initial = self.files(folder)
        self.reference = self.run(runner, folder)
        if self.reference.code != 0:
            raise SystemExit(f"tools/check/faults: {self.name} fails by itself: {self.reference.last_words}")
        self.final = self.files(folder)
        missing = [name for name in self.outputs if name not in self.final]
        if missing:
            raise SystemExit(f"tools/check/faults: {self.name} did not write {missing[0]}")
        self.written_bytes = max([len(data) for data in self.final.values()], default=0)
        verdict = self.verdict(self.run(runner, folder), folder)
        if verdict != "same":
            raise SystemExit(f"tools/check/faults: {self.name} does not do the same twice: {verdict}")
        return self.reference

    # What is compared.

    def comparable(self, name, data):
        is_text = name.endswith((".json", ".jsonl", ".md", ".csv"))
        return without_times(data.decode(errors="replace")) if is_text else data

    def files(self, folder):
        out = folder / "out"
        return {
            name: self.comparable(name, path.read_bytes().replace(bytes(out), b"{out}"))
            for path in sorted(out.rglob("*"))
            if path.is_file() and (name := str(path.relative_to(out)))
        }

    def output(self, text):
        return without_times(text)

    def verdict(self, result, folder, may_end=False, may_leave=False):
        """may_end: by a signal of Swift's runtime. may_leave: an unfinished file, which has the name of one."""
        if result.code is None:
            return "! no end within the time limit"
        problem = self.damage(folder, may_leave)
        if problem:
            return f"! {problem}; exit code {result.code}: {result.last_words}"
        if result.code == 0:
            return self.success(result, folder)
        if result.code == 1:
            return self.refusal(result)
        if may_end and result.code in ABRUPT:
            return "ended"
        return f"! exit code {result.code}: {result.last_words}"

    def damage(self, folder, may_leave):
        found = self.files(folder)
        for name, data in found.items():
            if may_leave and name.endswith(".partial"):
                continue
            if name not in self.final and name not in self.initial:
                return f"{name} is left behind"
            if data not in (self.final.get(name), self.initial.get(name)) and not self.is_begun(name, data):
                return f"{name} is neither as before nor whole"
        gone = [name for name in self.initial if name not in found]
        return f"{gone[0]} is gone" if gone else None

    def is_begun(self, name, data):
        """Whether a file may grow, and this is its beginning."""
        return False

    def news(self, result):
        usual = self.reference.err.splitlines()
        return [line for line in result.err.splitlines() if line and line not in usual]

    def success(self, result, folder):
        found = self.files(folder)
        news = self.news(result)
        lacking = [name for name, data in self.final.items() if found.get(name) != data]
        if lacking:
            return f"! exit code 0, but {lacking[0]} is not what it should be"
        if self.output(result.out) != self.output(self.reference.out):
            return f"! exit code 0 and another output: {result.out[-200:]!r}"
        return f"! exit code 0, and on stderr: {news[-1][-200:]}" if news else "same"

    def refusal(self, result):
        news = self.news(result)
        if len(news) != 1 or not news[0].startswith("error: "):
            return f"! exit code 1 and not one line that says why: {result.err[-400:]!r}"
        if not self.is_beginning(result.out):
            return f"! refused behind another output: {result.out[-200:]!r}"
        return "refused"

    def is_beginning(self, out):
        return self.output(self.reference.out).startswith(self.output(out))


class Lines(Scenario):
    """`run --jsonl`: each line is the right answer or an error, in their order."""

    def answers(self, text):
        for line in text.splitlines():
            value = json.loads(line)
            yield "error" if list(value) == ["error"] else json.dumps([value["answer"], value["tokens"]])

    def output(self, text):
        return "\n".join(self.answers(text))

    def success(self, result, folder):
        verdict = self.compared(result.out)
        count, expected = (len(text.splitlines()) for text in (result.out, self.reference.out))
        if count != expected:
            return f"! exit code 0 and {count} lines for {expected} questions"
        return f"! exit code 0, and on stderr: {result.last_words}" if result.err else verdict

    def is_beginning(self, out):
        return not self.compared(out).startswith("!")

    def compared(self, text):
        try:
            found = list(self.answers(text))
        except (ValueError, KeyError, AttributeError):
            return f"! a line that is no answer: {text[-200:]!r}"
        for mine, right in zip(found, self.answers(self.reference.out)):
            if mine not in (right, "error"):
                return f"! another answer: {mine[-200:]}"
        return "reported" if "error" in found else "same"


class Chat(Scenario):
    """On a terminal an error is told between the answers; those behind it may lack what it was about."""

    def success(self, result, folder):
        news = self.news(result)
        if not news:
            same = result.out == self.reference.out
            return "same" if same else f"! exit code 0 and another output: {result.out[-200:]!r}"
        odd = [line for line in news if not line.startswith("error: ")]
        return f"! on stderr: {odd[0][-200:]}" if odd else "reported"

    def refusal(self, result):
        news = self.news(result)
        odd = [line for line in news if not line.startswith("error: ")]
        return f"! exit code 1, and on stderr: {result.err[-200:]!r}" if odd or not news else "refused"


class Evaluation(Scenario):
    """Answers are kept as they come: what is there of them when it ends early is whole but for the last line, and
    the next run goes on from there. Its tables have times in them: numbers with a point are not compared."""

    def output(self, text):
        # Columns are as wide as their numbers.
        return re.sub(r" +", " ", re.sub(r" *\d+\.\d+", "N", text))

    def comparable(self, name, data):
        text = without_times(data.decode(errors="replace"))
        return text if name.endswith(".jsonl") else self.output(text)

    def is_begun(self, name, data):
        if name != "report/answers.jsonl":
            return False
        lines = data.split("\n")
        return set(lines[:-1]) <= set(self.final[name].split("\n"))
