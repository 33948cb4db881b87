#!/usr/bin/env python3
"""Writes the greedy answers of transformers to questions about the demo's images.

    tools/golden/make_demo_answers.py                      Tests/Golden/answers/demo.jsonl
    tools/golden/make_demo_answers.py --questions DIR/questions.jsonl --images DIR \\
        --limit 200 --out answers.jsonl                    for questions of make-eval

One line a question: {image, prompt, answer, tokens}. The prompt is the raw text; tokens end with the
end token. The demo checkpoint runs in f32 with eager attention, after its own processor.
"""

import argparse
import json
import sys
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoProcessor, LlavaForConditionalGeneration
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "tools/demo"
sys.path.insert(0, str(DEMO))
from questions import prompt  # noqa: E402


@torch.no_grad()
def answers(lines, images):
    """Yields a result a question."""
    processor = AutoProcessor.from_pretrained(DEMO / "checkpoint")
    model = LlavaForConditionalGeneration.from_pretrained(
        DEMO / "checkpoint", dtype=torch.float32, attn_implementation="eager"
    ).eval()
    for line in lines:
        image = Image.open(images / line["image"]).convert("RGB")
        text = prompt(line["question"])
        inputs = processor(images=image, text=text, return_tensors="pt")
        output = model.generate(**inputs, max_new_tokens=64, do_sample=False)
        tokens = output[0, inputs["input_ids"].shape[1] :].tolist()
        answer = processor.decode(tokens, skip_special_tokens=True).strip()
        yield {"image": line["image"], "prompt": text, "answer": answer, "tokens": tokens}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=Path, default=DEMO / "questions.jsonl")
    parser.add_argument("--images", type=Path, default=DEMO / "images")
    parser.add_argument("--out", type=Path, default=ROOT / "Tests/Golden/answers/demo.jsonl")
    parser.add_argument("--limit", type=int, help="only the first so many questions")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    lines = [json.loads(line) for line in arguments.questions.read_text().splitlines()]
    lines = lines[: arguments.limit]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    right = 0
    with open(arguments.out, "w") as file:
        for line, result in zip(lines, answers(lines, arguments.images)):
            right += result["answer"] == line["answer"]
            file.write(json.dumps(result) + "\n")
    print(f"{len(lines)} answers, {right} of them right: {arguments.out}")


if __name__ == "__main__":
    main()
