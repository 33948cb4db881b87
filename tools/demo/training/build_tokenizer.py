"""Learns the byte-fallback BPE of the demo and writes it in the layout of Llama 2's tokenizer.json.

    python -m training.build_tokenizer --out work/tokenizer.json

Printed words and numbers are left out of the text it learns from, so that they stay split into
single characters and the model has to spell what it reads.
"""

import argparse
import json
import string
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from questions import make_questions
from scenes import make_scene

# Words of everyday questions, so that those are no row of single letters.
EVERYDAY = """the of and to in a is that it was for on are as with they be at this have from or one
had by word but not what all were we when your can said there use an each which she do how their if
will up other about out many then them these so some her would make like him into time has look two
more write go see number no way could people my than first water been call who its now find long
down day did get come made may part over new sound take only little work know place year live me
back give most very after thing our just name good sentence man think say great where help through
much before line right too mean old any same tell boy follow came want show also around form three
small set put end does another well large must big even such because turn here why ask went men
read need land different home us move try kind hand picture again change off play spell air away
animal house point page letter mother answer found study still learn should world hello please
thanks dog cat car tree person bird image photo color colour shape object left right above below
top bottom center middle next near background gray pink brown light dark bright text number letters
digits sign count total single word phrase describe briefly Answer the question using a single word
or phrase. Please describe the picture. Which one is it? Are there any? Do you see it? What is
this? Who are you? Where are the objects? Can you read it? Tell me about the scene. Count the
shapes.""".replace("\n", " ")
WHOLE_WORDS = ["▁USER", "▁ASSISTANT", "▁Yes", "▁No"]
BASE = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)]


def corpus(scene_count, seed):
    rng = np.random.default_rng(seed)
    for _ in range(scene_count):
        scene = make_scene(rng)
        for _, question, answer in make_questions(scene, rng, 14):
            yield f"{question} {answer.replace(scene.text, '') if scene.text else answer}"
    for _ in range(3):
        yield EVERYDAY


def learn_pieces(size):
    """The vocabulary and the merges."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace("▁", "never"),
            pre_tokenizers.Punctuation(),
            pre_tokenizers.Digits(True),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size - sum(len(word) - 1 for word in WHOLE_WORDS),
        special_tokens=BASE,
        initial_alphabet=sorted(set(string.printable) - set(string.whitespace)) + ["▁"],
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(corpus(700, seed=77), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    vocab = model["vocab"]
    merges = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in model["merges"]]
    # Words that must be one piece, as chains of merges from the left.
    for word in WHOLE_WORDS + ["▁" + digit for digit in string.digits]:
        for end in range(2, len(word) + 1):
            if word[:end] not in vocab and len(vocab) < size:
                vocab[word[:end]] = len(vocab)
            if word[:end] in vocab and (word[: end - 1], word[end - 1]) not in merges:
                merges.append((word[: end - 1], word[end - 1]))
    return vocab, merges


def llama_layout(vocab, merges):
    """The tokenizer.json: a leading ▁, no pre-tokenizer, the begin token in front."""

    def special(index, content):
        flags = dict.fromkeys(["single_word", "lstrip", "rstrip", "normalized"], False)
        return {"id": index, "content": content, **flags, "special": True}

    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    a, b = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    names = BASE[:3] + ["<image>", "<pad>"]
    ids = [0, 1, 2, len(vocab), len(vocab) + 1]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [special(index, name) for index, name in zip(ids, names)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [begin, a],
            "pair": [begin, a, b],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": {
            "type": "Sequence",
            "decoders": [
                {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
                {"type": "ByteFallback"},
                {"type": "Fuse"},
                {"type": "Strip", "content": " ", "start": 1, "stop": 0},
            ],
        },
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": [list(merge) for merge in merges],
        },
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default="work/tokenizer.json")
    parser.add_argument("--size", type=int, default=1000, help="pieces at most")
    arguments = parser.parse_args()
    vocab, merges = learn_pieces(arguments.size)
    layout = llama_layout(vocab, merges)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(layout, ensure_ascii=False, indent=1))
    print(f"{len(vocab)} pieces, {len(merges)} merges: {arguments.out}")


if __name__ == "__main__":
    main()
