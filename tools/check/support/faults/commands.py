"""The commands that are tried, on the demo model."""

import json

import pioedge as tool
from process import Terminal
from scenario import Chat, Evaluation, Lines, Scenario

IMAGES = tool.ROOT / "tools/demo/images"
GOLDEN = tool.ROOT / "Tests/Golden"
WIDE, SQUARE = IMAGES / "scene-0014-640x480.png", IMAGES / "scene-0001-336x336.png"
JPEG = GOLDEN / "images/baseline.jpg"
QUESTION = "Describe the image."
FEW = "--max-tokens 12 --context 64 --threads 2".split()
SMALL = "--max-image-pixels 1000000 --codec-memory 1MiB --kv int8".split()
PRUNED = ["--visual-tokens", "32"]
METHODS = "pio fastv dart visionzip visionzip+pio divprune uniform random".split()
IMAGE_FILES = [SQUARE, WIDE, JPEG]
WAYS_TO_RUN = [
    [], PRUNED, ["--kv", "int8"], ["--temperature", "1", "--seed", "1"],
    *([*PRUNED, "--prune", method] for method in METHODS),
]  # fmt: skip


def make_models(runner, folder):
    """The demo as int4 and as f32, and the smallest cap under which `streaming` runs."""
    models = {kind: folder / f"{kind}.piom" for kind in ("int4", "f32")}
    for kind, path in models.items():
        words = ["convert", tool.DEMO, path, "--weights", kind]
        result = runner.run(folder, words)
        if result.code != 0:
            raise SystemExit(f"tools/check/faults: {result.last_words}")
    cap = tool.plan(runner.pioedge, models["int4"], *FEW, *SMALL, "--jsonl")["smallest_cap_bytes"]
    questions = [
        {"image": SQUARE.name, "question": QUESTION, "answer": "nothing"},
        {"image": WIDE.name, "question": "What is this?", "answer": "nothing"},
    ]
    (folder / "questions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in questions))
    return models["int4"], models["f32"], cap, folder / "questions.jsonl"


def scenarios(int4, f32, cap, questions):
    ask = ["run", int4, "--image", WIDE, QUESTION, *FEW]
    streaming = [*SMALL, "--memory-cap", cap]
    convert = ["convert", tool.DEMO, "{out}/m.piom", "--threads", "2"]
    images = (SQUARE, WIDE, JPEG)
    lines = "".join(json.dumps({"image": str(path), "prompt": QUESTION}) + "\n" for path in images)
    typed = f"{QUESTION}\n/image {WIDE}\nWhat is this?\n/reset\n{QUESTION}\n"
    return [
        Scenario("convert", convert, outputs=["m.piom"]),
        Scenario(
            "replace", [*convert, "--force"], outputs=["m.piom"],
            before=lambda out: (out / "m.piom").write_bytes(b"older"),
        ),
        Scenario(
            "gguf",
            [
                "convert", GOLDEN / "gguf/next-vicuna.gguf", "{out}/m.piom", "--mmproj",
                GOLDEN / "gguf/next-vicuna-mmproj.gguf", "--chat-template", "vicuna_v1", "--threads", "2",
            ],
            outputs=["m.piom"],
        ),
        Scenario("run", [*ask, *PRUNED]),
        Scenario("jpeg", ["run", int4, "--image", JPEG, QUESTION, *FEW]),
        Scenario("float", ["run", f32, "--image", SQUARE, QUESTION, *FEW]),
        Scenario("streaming", [*ask, *streaming]),
        Scenario("explain", [*ask, *PRUNED, "--explain", "{out}/e.png"], outputs=["e.png", "e.png.json"]),
        Lines("lines", ["run", int4, "--jsonl", *FEW, *streaming], stdin=lines.encode()),
        Chat("chat", ["run", int4, "--image", SQUARE, *FEW], stdin=Terminal(typed.encode())),
        Evaluation(
            "eval",
            [
                "eval", int4, "--questions", questions, "--images", IMAGES, *PRUNED, "--threads", "2",
                "--report", "{out}/report",
            ],
            outputs=[f"report/{name}" for name in ("answers.jsonl", "report.md", "results.csv", "results.json")],
        ),
        Scenario("inspect", ["inspect", int4, "--verify"]),
    ]  # fmt: skip
