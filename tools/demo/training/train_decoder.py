"""Second stage: projector and decoder learn to answer; the vision tower stands still.

    python -m training.train_decoder --minutes 120 --work work

A row is one image and about a dozen questions, which do not see one another. Features of past
images are kept, so that each is encoded once and asked about several times. At first only a part
of the visual tokens takes part, at their own positions: rows are shorter, and the model learns to
do with fewer.
"""

import multiprocessing
import os

import numpy as np
import torch
import torch.nn.functional as F

from questions import FAMILIES, make_questions
from scenes import make_scene
from training.codec import END, Codec
from training.labels import patch_labels
from training.loop import end_with_parent, parse_arguments, start_ranks, train
from training.model import COMPUTE, VISUAL_TOKENS, Llava, normalize
from training.optimizer import make_optimizers

CACHED_IMAGES = 2400
# From which share of the time on how many times --visual-tokens take part; then all of them.
SCHEDULE = [(0.4, 1), (0.6, 2), (0.75, 3)]


def choose_patches(labels, count, rng):
    """So many of the patches: centres and characters, then items, then background."""
    if count >= VISUAL_TOKENS:
        return np.arange(VISUAL_TOKENS)
    interest = rng.random(VISUAL_TOKENS)
    interest[labels["owner"] > 0] += 0.55
    interest[labels["char"] > 0] += 5
    interest[labels["centre"] > 0] += 9
    return np.sort(np.argpartition(-interest, count)[:count])


def pack(questions, codec, rng, length, chained):
    """Packs turns into `length` tokens: (token, weight, segment, position, family) of each.

    Segments do not see one another; a chained row is one conversation, in a single segment.
    """
    rows, used = [], 0
    for index, (family, question, answer) in enumerate(questions):
        first = index == 0 or not chained
        asked = codec.ids(f"\n{question} ASSISTANT:" if first else f"USER: {question} ASSISTANT:")
        if first and rng.random() < 0.1:
            asked = asked[1:]  # as from a runtime that puts no ▁ in front
        answered = codec.ids(answer) + [END]
        count = len(asked) + len(answered)
        if len(rows) + count > length:
            continue
        weights = [0.0] * len(asked) + [len(answered) ** -0.5] * len(answered)
        start, segment = (used, 1) if chained else (0, index + 1)
        for offset, (token, weight) in enumerate(zip(asked + answered, weights)):
            rows.append((token, weight, segment, start + offset, FAMILIES.index(family)))
        used += count
    return rows + [(END, 0.0, -1, 0, -1)] * (length - len(rows))


def draw_batches(queue, arguments, tokens_now):
    """A process that draws new scenes and asks about them and about past ones."""
    end_with_parent()
    rng = np.random.default_rng([arguments.seed, int.from_bytes(os.urandom(4), "big")])
    codec = Codec(arguments.tokenizer)
    new_count = max(1, arguments.batch // (1 + arguments.replay))
    kept, next_slot = [], 0
    while True:
        count = tokens_now.value
        images, where = [], []
        for _ in range(new_count):
            scene = make_scene(rng)
            labels = patch_labels(scene)
            images.append(scene.image)
            scene.image = scene.owners = None
            if next_slot == len(kept):
                kept.append(None)
            kept[next_slot] = (scene, labels)
            where.append(next_slot)
            next_slot = (next_slot + 1) % CACHED_IMAGES
        chosen = where + rng.integers(0, len(kept), arguments.batch - new_count).tolist()
        rows, patches = [], []
        for slot in chosen:
            scene, labels = kept[slot]
            questions = make_questions(scene, rng, 14)
            rows.append(pack(questions, codec, rng, arguments.text_tokens, rng.random() < 0.12))
            patches.append(choose_patches(labels, count, rng))
        columns = [np.array([[entry[i] for entry in row] for row in rows]) for i in range(5)]
        queue.put((np.stack(images), np.array(where), np.array(chosen), np.stack(patches), columns))


def metrics_of(logits, tokens, answered, families):
    """The share of answers per family whose every token is the arg-max."""
    right = logits.argmax(-1) == tokens[answered]
    ends = (tokens.eq(END) & answered).long()
    answer = torch.arange(len(tokens))[:, None] * 1000 + ends.cumsum(1) - ends
    distinct, index = answer[answered].unique(return_inverse=True)
    whole = torch.ones(len(distinct)).scatter_reduce(0, index, right.float(), "amin")
    family = torch.zeros(len(distinct), dtype=torch.long).scatter(0, index, families[answered])
    return {
        name: whole[family == i].mean().item()
        for i, name in enumerate(FAMILIES)
        if (family == i).any()
    }


def main():
    arguments = parse_arguments(
        __doc__.splitlines()[0],
        tokenizer=("work/tokenizer.json", "from training.build_tokenizer"),
        visual_tokens=(128, "how many take part at first"),
        text_tokens=(176, "of a row"),
        replay=(3, "cached images per new one"),
    )
    start_ranks(arguments, "decoder")
    net = Llava()
    net.load_state_dict(torch.load(arguments.work / "vision.pt")["net"])
    flat = ("text.embed.weight", "text.head.weight")
    named = [(n, p) for n, p in net.named_parameters() if n.startswith(("projector.", "text."))]
    optimizers = make_optimizers(
        [
            ([(n, p) for n, p in named if n not in flat], 1.0),
            ([(n, p) for n, p in named if n in flat], 0.35),
        ]
    )
    queue = multiprocessing.Queue(4)
    tokens_now = multiprocessing.Value("i", arguments.visual_tokens)
    multiprocessing.Process(
        target=draw_batches, args=(queue, arguments, tokens_now), daemon=True
    ).start()
    features = torch.zeros(CACHED_IMAGES, VISUAL_TOKENS, net.vision.cls.numel(), dtype=COMPUTE)
    prefix = torch.tensor(Codec(arguments.tokenizer).prefix)

    def step(share, want_metrics):
        factor = next((factor for end, factor in SCHEDULE if share < end), VISUAL_TOKENS)
        tokens_now.value = min(VISUAL_TOKENS, factor * arguments.visual_tokens)
        images, where, chosen, patches, columns = queue.get()
        tokens, weights, segments, positions, families = map(torch.from_numpy, columns)
        patches = torch.from_numpy(patches)
        with torch.no_grad():
            features[torch.from_numpy(where)] = net.vision(normalize(images))
        visible = features[torch.from_numpy(chosen)[:, None], patches]
        batch, seen = len(tokens), len(prefix) + patches.shape[1]
        x = torch.cat(
            [
                net.text.embed(prefix).to(COMPUTE).expand(batch, -1, -1),
                net.projector(visible),
                net.text.embed(tokens).to(COMPUTE),
            ],
            1,
        )
        position = torch.cat(
            [
                torch.arange(len(prefix)).expand(batch, -1),
                patches + len(prefix),
                positions + len(prefix) + VISUAL_TOKENS,
            ],
            1,
        )
        segment = torch.cat([torch.zeros(batch, seen, dtype=torch.long), segments], 1)
        rows = segment.shape[1]
        together = (segment[:, None] == 0) | (segment[:, None] == segment[:, :, None])
        mask = together & torch.ones(rows, rows).tril().bool()
        before = net.text(x, position, mask[:, None])[:, seen - 1 : -1]
        answered = weights > 0
        logits = net.text.head(before[answered]).float()
        each = F.cross_entropy(logits, tokens[answered], reduction="none")
        loss = (each * weights[answered]).sum() / weights[answered].sum()
        metrics = metrics_of(logits, tokens, answered, families) if want_metrics else {}
        return loss, metrics

    train(arguments, "decoder", net, optimizers, step)


if __name__ == "__main__":
    main()
