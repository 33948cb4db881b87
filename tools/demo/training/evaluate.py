"""Exact-match accuracy per family on fresh scenes; also with the wrong image and a grey one.

    python -m training.evaluate --checkpoint checkpoint --images 300

An answer is right if each of its tokens and the end token is the arg-max after those before it:
that is when greedy decoding gives it. All questions about an image go through in one pass.
"""

import argparse
import collections
from pathlib import Path

import numpy as np
import torch

from questions import FAMILIES, make_questions
from scenes import SIDE, make_scene
from training.codec import END, Codec
from training.model import VISUAL_TOKENS, from_transformers, normalize

SEED = 50_000_000  # far above those of training


@torch.no_grad()
def features(net, image):
    return net.projector(net.vision(normalize(image[None])))[0]


@torch.no_grad()
def judge(net, codec, visual, questions):
    """Whether each question is answered right."""
    turns = [(codec.ids(f"\n{q} ASSISTANT:"), codec.ids(a) + [END]) for _, q, a in questions]
    base = len(codec.prefix) + VISUAL_TOKENS
    tokens, segments, positions = [], [0] * base, list(range(base))
    for index, (asked, answered) in enumerate(turns):
        tokens += asked + answered
        segments += [index + 1] * len(asked + answered)
        positions += range(base, base + len(asked + answered))
    embed = net.text.embed
    x = torch.cat([embed(torch.tensor(codec.prefix)), visual, embed(torch.tensor(tokens))])[None]
    segments, rows = torch.tensor(segments), len(positions)
    together = (segments[None] == 0) | (segments[None] == segments[:, None])
    mask = together & torch.ones(rows, rows).tril().bool()
    hidden = net.text(x, torch.tensor(positions)[None], mask[None, None])[0]
    verdicts, row = [], base
    for asked, answered in turns:
        row += len(asked)
        logits = net.text.head(hidden[row - 1 : row - 1 + len(answered)])
        verdicts.append(logits.argmax(-1).tolist() == answered)
        row += len(answered)
    return verdicts


def show(title, verdicts):
    families = [family for family in FAMILIES if family in verdicts]
    shown = [f"{family} {100 * np.mean(verdicts[family]):.1f}" for family in families]
    everything = [verdict for family in families for verdict in verdicts[family]]
    print(f"{title}: {', '.join(shown)}; all {100 * np.mean(everything):.1f} %", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default="checkpoint")
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--per-image", type=int, default=10)
    arguments = parser.parse_args()
    net, _ = from_transformers(arguments.checkpoint)
    codec = Codec(arguments.checkpoint / "tokenizer.json")
    rng = np.random.default_rng(SEED)
    grey = features(net, np.full((SIDE, SIDE, 3), 128, np.uint8))
    tables = {name: collections.defaultdict(list) for name in ("right", "wrong", "grey")}
    previous = grey
    for index in range(arguments.images):
        scene = make_scene(rng)
        questions = make_questions(scene, rng, arguments.per_image)
        visual = features(net, scene.image)
        shown = {"right": visual}
        if index % 4 == 1:  # blind on a quarter of the images
            shown |= {"wrong": previous, "grey": grey}
        for name, image in shown.items():
            verdicts = judge(net, codec, image, questions) if questions else []
            for (family, _, _), verdict in zip(questions, verdicts):
                tables[name][family].append(verdict)
        previous = visual
    for name, verdicts in tables.items():
        if verdicts:
            show(f"{name} image", verdicts)


if __name__ == "__main__":
    main()
