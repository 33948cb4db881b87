"""Holds pioedge for aarch64, run under qemu, against the one for this machine; see tools/check/arm64.

The same files, the same tokens, the same plans: what is compared is everything that a user sees and
that is said to be the same on every machine. The first difference ends it.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[4]
DEMO = ROOT / "tools/demo"
BASE = "process: code, libraries, heap"
# As in tools/check/arm64.
PROPERTIES = {
    "neoverse-n2": ",pauth-impdef=on",
    "max": ",pauth-impdef=on,sve-default-vector-length=16",
}
# A checkpoint of each further family, in Tests/Golden/checkpoints.
FAMILIES = ["next-mistral-window", "smol-shuffle-4", "smol-shuffle-3", "qwen2-flat", "qwen25-windows", "qwen3-deepstack"]
PLANS = [
    [],
    ["--stream", "on"],
    ["--stream", "off", "--kv", "int8"],
    ["--visual-tokens", "64", "--context", "256"],
    ["--threads", "4", "--images", "3", "--chat"],
]


class Tool:
    """One build of pioedge; `cpu`: emulated as that one."""

    def __init__(self, command, cpu=None):
        self.command = [str(part) for part in command]
        self.cpu = cpu

    def run(self, *arguments, text=None):
        environment = dict(os.environ)
        if self.cpu:
            environment["QEMU_CPU"] = self.cpu + PROPERTIES.get(self.cpu, "")
        command = [*self.command, *map(str, arguments)]
        result = subprocess.run(
            command, env=environment, input=text, text=True, capture_output=True)
        if result.returncode:
            sys.exit(f"{' '.join(command)}: {result.stderr.strip()}")
        return result.stdout

    def answers(self, model, questions, options=()):
        """One object a question, in one process."""
        lines = "".join(
            json.dumps({"image": str(DEMO / "images" / image), "prompt": prompt}) + "\n"
            for image, prompt in questions)
        options = ["--jsonl", "--context", 256, "--max-tokens", 48, "--threads", 2, *options]
        output = self.run("run", model, *options, text=lines)
        return [json.loads(line) for line in output.splitlines()]


def expect(same, what, here="", there=""):
    if not same:
        sys.exit(f"{what}: {there} on ARM, {here} on this machine")


def sample(count):
    """`count` of the demo's questions, evenly spread over images and kinds."""
    lines = (DEMO / "questions.jsonl").read_text().splitlines()
    questions = [json.loads(line) for line in lines]
    chosen = [questions[(2 * i + 1) * len(questions) // (2 * count)] for i in range(count)]
    return [(question["image"], question["question"]) for question in chosen]


def compare_files(here, arm, work, kind, checkpoint=DEMO / "checkpoint", family=""):
    """What they convert has the same bytes."""
    paths = [work / f"{name}-{family}{kind}.piom" for name in ["here", "arm"]]
    for tool, path in zip([here, arm], paths):
        tool.run("convert", checkpoint, path, "--weights", kind, "--force")
    expect(paths[0].read_bytes() == paths[1].read_bytes(), f"the converted file, {family}{kind}")
    print(f"convert {family or 'the demo '}--weights {kind}: the same {paths[0].stat().st_size} bytes")
    return paths[0]


def compare_families(here, arm, work):
    """Files and plans; answers of random weights hang on last bits."""
    for family in FAMILIES:
        checkpoint = ROOT / "Tests/Golden/checkpoints" / family
        model = compare_files(here, arm, work, "int4", checkpoint, f"{family} ")
        for options in [[], ["--image-tokens", "checkpoint", "--visual-tokens", "4"]]:
            mine, theirs = plan(here, model, options), plan(arm, model, options)
            expect(mine == theirs, f"{family}: plan {' '.join(options)}", mine, theirs)


def compare_answers(here, arm, model, questions, options, name):
    expected = here.answers(model, questions, options)
    found = arm.answers(model, questions, options)
    expect(len(found) == len(expected) == len(questions), "answers", len(expected), len(found))
    for question, mine, theirs in zip(questions, expected, found):
        expect("tokens" in mine and "tokens" in theirs, f"{question}", mine, theirs)
        expect(mine["tokens"] == theirs["tokens"], f"{name}, {question}", mine["answer"],
               theirs["answer"])
        expect(mine["counts"] == theirs["counts"], f"{name}: counts", mine["counts"],
               theirs["counts"])
        for key in ["kv_bytes", "working_bytes"]:
            expect(mine["memory"][key] == theirs["memory"][key], f"{name}: {key}",
                   mine["memory"][key], theirs["memory"][key])
        # What is read ahead for a next token may have come or not when an answer ends.
        read = [answer["memory"]["loaded_weight_bytes"] for answer in [mine, theirs]]
        expect(abs(read[0] - read[1]) <= 0.02 * read[0], f"{name}: bytes of weights read", *read)
    tokens = sum(len(answer["tokens"]) for answer in found)
    print(f"{name}: {len(found)} questions, the same {tokens} tokens ({found[0]['isa']})")


def compare_pruned(here, arm, model, questions, options, name):
    """Rankings are floats, whose last bits differ: a token at the edge of a cut may be another one,
    and with it a word. The counts must be the same, and nine of ten kept tokens."""
    expected, found = (tool.answers(model, questions, options) for tool in [here, arm])
    expect(len(found) == len(expected) == len(questions), "answers", len(expected), len(found))
    least, same = 1.0, 0
    for mine, theirs in zip(expected, found):
        expect(mine["counts"]["visual_tokens_average"] == theirs["counts"]["visual_tokens_average"],
               f"{name}: average", mine["counts"], theirs["counts"])
        expect(len(mine["pruning"]) == len(theirs["pruning"]) > 0, f"{name}: stages")
        for ours, other in zip(mine["pruning"], theirs["pruning"]):
            expect(len(ours["kept"]) == len(other["kept"]), f"{name}: kept tokens")
            least = min(least, len({*ours["kept"]} & {*other["kept"]}) / len(ours["kept"]))
        same += mine["tokens"] == theirs["tokens"]
    expect(least >= 0.9, f"{name}: share of the same kept tokens", 1, least)
    print(f"{name}: at least {100 * least:.0f} % of a cut's tokens the same, {same} of {len(found)} answers")


def plan(tool, model, options):
    found = json.loads(tool.run("plan", model, "--threads", 2, "--json", *options))
    base = next(part["bytes"] for part in found["parts"] if part["name"] == BASE)
    for phase in found["phases"]:
        phase["bytes"] -= base
        phase["parts"] = [part for part in phase["parts"] if part["name"] != BASE]
    found["parts"] = [part for part in found["parts"] if part["name"] != BASE]
    found["peak_bytes"] -= base
    found["smallest_cap_bytes"] -= base
    return found


def compare_plans(here, arm, model):
    for options in PLANS:
        mine, theirs = plan(here, model, options), plan(arm, model, options)
        expect(mine == theirs, f"plan {' '.join(options)}", mine, theirs)
    print(f"plan: {len(PLANS)} plans of the same bytes beside what the process takes")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--here", type=Path, required=True, help="pioedge for this machine")
    parser.add_argument("--arm", type=Path, required=True, help="pioedge for aarch64")
    parser.add_argument("--qemu", type=Path, required=True)
    parser.add_argument("--cpus", default="cortex-a76", help="for the answers; the first for all else")
    parser.add_argument("--questions", type=int, default=4)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    here = Tool([arguments.here])
    arms = [Tool([arguments.qemu, arguments.arm], cpu) for cpu in arguments.cpus.split(",")]
    questions = sample(arguments.questions)
    for kind in ["int4", "int8"]:
        model = compare_files(here, arms[0], arguments.work, kind)
        for arm in arms:
            compare_answers(here, arm, model, questions, [], f"{kind}, {arm.cpu}")
    model = arguments.work / "here-int4.piom"
    # Those with long answers.
    few = [question for question in questions if question[1].startswith("Describe")]
    arm = arms[0]
    compare_answers(here, arm, model, few, ["--stream", "on"], "int4, --stream on")
    compare_pruned(here, arm, model, few, ["--visual-tokens", 144], "int4, --visual-tokens 144")
    compare_plans(here, arm, model)
    compare_families(here, arm, arguments.work)


if __name__ == "__main__":
    main()
