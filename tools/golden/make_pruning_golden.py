#!/usr/bin/env python3
"""Writes what the decoders of transformers compute when visual rows are dropped between layers.

    tools/golden/make_pruning_golden.py

The layers, norms and rotary positions are those of `transformers`, called one by one; the rows are
cut here, evenly spaced, at the stages of a schedule ("1:92": behind the first layer 92 are left).
Tests/Golden/pruning/golden.json lists the cases:

    checkpoint, images, prompt    as in Tests/Golden/checkpoints
    schedule, positions           "LAYER:COUNT,…" and "original" or "compact"
    rows                          rows of every layer
    logits                        {offset, shape}: of the prompt's last position, in golden.bin (f32)
                                  (of images in tiles the ends of lines are not counted, and stay
                                  where a patch of their line does)
    greedy                        at most 6 arg-max tokens behind it, cut as in make_model_golden.py
"""

import json

import numpy as np
import torch
from make_model_golden import FOLDER, ROOT, SMALLEST_LEAD, Model

STEPS = 6
TWO = "<image> and <image>: is the ring left of the moon?"
ONE = "USER: <image>\nWhat color is the star? ASSISTANT:"
SCHEDULES = ["0:7", "1:4", "0:9,1:3"]
TILED_SCHEDULES = ["0:20", "1:9", "0:40,1:12"]


def spread(rows, keep, places):
    """`keep` of `rows`, evenly over the image: the least frac(d (x + 1/2) + y / phi), d the part that
    stays, in units of 2^-32 cut to 24 bits; ties: the earlier row."""
    density = (keep << 32) // len(rows)

    def rank(row):
        y, x = places[row]
        return (density * x + density // 2 + 2654435769 * y) % 2**32 >> 8, row

    return sorted(sorted(rows, key=rank)[:keep])


def cut(images, keep, places):
    """The rows of each image that are left: shares in proportion, by rounding the running sum.
    `places`: (line, column) of each row."""
    total = sum(len(rows) for rows in images)
    if keep >= total:
        return images
    kept, seen, given = [], 0, 0
    for rows in images:
        seen += len(rows)
        owed = (keep * seen + total // 2) // total
        kept.append(spread(rows, owed - given, places) if owed > given else [])
        given = owed
    return kept


@torch.no_grad()
def pruned_logits(model, ids, pixels, tokens, stages, compact):
    """The last position's logits of ids + tokens, and how many rows each layer had."""
    llava = model.model.model
    decoder = llava.language_model
    all_ids = torch.tensor(ids + tokens)
    hidden = decoder.embed_tokens(all_ids)
    visual = [row for row, token in enumerate(ids) if token == model.image_token]
    llava.get_image_features(**pixels)
    hidden[visual] = model.features
    side = llava.config.vision_config.image_size // llava.config.vision_config.patch_size
    places = {}
    if model.tiled:
        is_end = (model.features == llava.image_newline).all(-1).tolist()
        ends = {row for row, end in zip(visual, is_end) if end}
        whole_count = side * side
        images, all_rows = [], []
        for row in visual:
            if row == 0 or row - 1 not in visual:
                images.append([])
                all_rows.append([])
            all_rows[-1].append(row)
            if row not in ends:
                images[-1].append(row)
        in_line = {row for rows in images for row in rows[whole_count:]}
        for rows in all_rows:
            line, column = 0, 0
            for index, row in enumerate(rows):
                places[row] = divmod(index, side) if index < whole_count else (line, column)
                column += index >= whole_count
                if row in ends:
                    line, column = line + 1, 0
    else:
        per_image = len(visual) // len(pixels["pixel_values"])
        images = [visual[i : i + per_image] for i in range(0, len(visual), per_image)]
        all_rows, ends, in_line = [list(rows) for rows in images], set(), set()
        for rows in images:
            for index, row in enumerate(rows):
                # A class token stands in front of the first patch.
                index -= len(rows) - side * side
                places[row] = divmod(index, side) if index >= 0 else (0, -1)
    window = getattr(decoder.config, "sliding_window", None)
    positions = torch.arange(len(all_ids))
    counts = []
    for index, layer in enumerate(decoder.layers):
        for keep in [keep for after, keep in stages if after == index]:
            kept = cut(images, keep, places)
            if kept is images:
                continue
            stay = {row for rows in kept for row in rows}
            for rows in all_rows:
                has_token = False
                for row in rows:
                    if row in ends:
                        stay |= {row} if has_token else set()
                        has_token = False
                    has_token |= row in stay and row in in_line
            dropped = {row for rows in all_rows for row in rows} - stay
            left = [row for row in range(len(hidden)) if row not in dropped]
            place = {row: i for i, row in enumerate(left)}
            places = {place[row]: places[row] for row in places if row in place}
            images = [[place[row] for row in rows] for rows in kept]
            all_rows = [[place[row] for row in rows if row in stay] for rows in all_rows]
            ends, in_line = ({place[row] for row in rows & stay} for rows in (ends, in_line))
            hidden = hidden[left]
            positions = torch.arange(len(left)) if compact else positions[left]
        count = len(hidden)
        counts.append(count)
        mask = torch.full((count, count), float("-inf")).triu(1)[None, None]
        if window:
            mask = mask.masked_fill(positions[None, :] <= positions[:, None] - window, float("-inf"))
        rotary = decoder.rotary_emb(hidden[None], positions[None])
        output = layer(
            hidden[None],
            attention_mask=mask,
            position_ids=positions[None],
            position_embeddings=rotary,
        )
        hidden = (output[0] if isinstance(output, tuple) else output)[0]
    return model.model.lm_head(decoder.norm(hidden[-1:]))[0].float(), counts


def main():
    values, cases, offset = [], [], 0
    names = ["gqa-linear-sharded", "llama3-no-projector-bias", "mha-biases", "seven-heads-nested"]
    names += ["next-vicuna", "next-mistral-window"]
    for name in names:
        model = Model(FOLDER / name)
        place = f"Tests/Golden/checkpoints/{name}"
        shapes = [(ONE, ["exact.png"]), (TWO, ["wide.png", "exact.png"])]
        if model.tiled:
            shapes = [(ONE, ["square.png"]), (ONE, ["flat.png"]), (TWO, ["wide.png", "square.png"])]
        for prompt, images in shapes:
            images = [f"{place}/{image}" for image in images]
            ids, pixels = model.inputs(prompt, [ROOT / image for image in images])
            for schedule in TILED_SCHEDULES if model.tiled else SCHEDULES:
                stages = [tuple(map(int, stage.split(":"))) for stage in schedule.split(",")]
                for positions in ["original", "compact"]:
                    compact = positions == "compact"
                    logits, rows = pruned_logits(model, ids, pixels, [], stages, compact)
                    greedy = []
                    while len(greedy) < STEPS and model.end not in greedy:
                        last, _ = pruned_logits(model, ids, pixels, greedy, stages, compact)
                        best = last.topk(2)
                        if best.values[0] - best.values[1] < SMALLEST_LEAD:
                            break
                        greedy.append(best.indices[0].item())
                    values.append(logits.numpy().astype("<f4"))
                    cases.append(
                        {
                            "checkpoint": place,
                            "images": images,
                            "prompt": prompt,
                            "schedule": schedule,
                            "positions": positions,
                            "rows": rows,
                            "logits": {"offset": offset, "shape": [1, len(logits)]},
                            "greedy": greedy,
                        }
                    )
                    offset += len(logits)
        print(name, cases[-1]["rows"], cases[-1]["greedy"])
    folder = ROOT / "Tests/Golden/pruning"
    folder.mkdir(exist_ok=True)
    text = ",\n".join(f"  {json.dumps(case)}" for case in cases)
    (folder / "golden.json").write_text(f"[\n{text}\n]\n")
    np.concatenate(values).tofile(folder / "golden.bin")


if __name__ == "__main__":
    main()
