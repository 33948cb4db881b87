#!/usr/bin/env python3
"""Writes what VisionZip makes of images in tiles: Tests/Golden/pruning/tiles.json and tiles.bin.

    tools/golden/make_zip_golden.py

Every tile goes through transformers' tower alone and hands over its share of the rows: attention
ranks the patches, those of padding take no part, the rest are merged by their keys, all as
`zipped` of make_saliency_golden.py does it for an image of one tile. Then the rows are put in the image's
order, with `image_newline` behind each line that has one. Each case names the checkpoint, the
image, `count` (rows, ends of lines not counted), `score`, the `tokens` of the rows in order (−1: a class token, −2: the
end of a line) and where the features (rows, dim) stand.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from make_model_golden import FOLDER, ROOT, Model
from make_saliency_golden import highest
from PIL import Image
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_next.modeling_llava_next import unpad_image

CASES = [(shape, count, score) for shape in ("square", "flat", "wide") for count in (9, 24) for score in ("cls", "received")]


def shares(count, sizes):
    """As many each, where a tile has so many; what is left over goes to the first that have more."""
    level = max(n for n in range(count + 1) if sum(min(n, size) for size in sizes) <= count)
    given = [min(level, size) for size in sizes]
    for tile, size in enumerate(sizes):
        if size > level and sum(given) < count:
            given[tile] += 1
    return given


def reduced(llava, pixels, count, score, places):
    """[(token or None for the class token, features)] of one tile; places: patch → token, or None."""
    tower = getattr(llava.vision_tower, "vision_model", llava.vision_tower)
    out = tower(pixels[None], output_hidden_states=True, output_attentions=True)
    index = llava.config.vision_feature_layer % len(out.hidden_states)
    features, attention = out.hidden_states[index][0], out.attentions[index - 1][0]
    layer = tower.encoder.layers[index - 1]
    keys = layer.self_attn.k_proj(layer.layer_norm1(out.hidden_states[index - 1]))[0]
    metric = F.normalize(keys.view(len(keys), attention.shape[0], -1).mean(1), dim=-1)[1:]
    ranks = (attention[:, 0] if score == "cls" else attention.mean(1)).sum(0)[1:].clone()
    seen = [patch for patch, token in enumerate(places) if token is not None]
    ranks[[patch for patch in range(len(places)) if patch not in seen]] = float("-inf")
    keeps = score == "cls"
    dominant = highest(ranks, min(len(seen), max(1, (count * 27 + 16) // 32) - keeps))
    rest = [patch for patch in seen if patch not in dominant]
    contextual = count - keeps - len(dominant)
    targets = rest[:: max(1, len(rest) // contextual)][:contextual] if contextual else []
    rows = {patch: features[patch + 1] for patch in dominant + targets}
    members = {target: [] for target in targets}
    for patch in rest:
        if targets and patch not in members:
            members[targets[(metric[targets] @ metric[patch]).argmax().item()]].append(patch)
    for target in targets:
        if members[target]:
            rows[target] = rows[target] + features[[m + 1 for m in members[target]]].mean(0)
    found = [(None, features[0])] if keeps else []
    return found + [(places[patch], rows[patch]) for patch in sorted(rows)]


@torch.no_grad()
def case(model, path, count, score):
    llava = model.model.model
    config = llava.config
    _, pixels = model.inputs("<image>", [path])
    side = config.vision_config.image_size
    per = side // config.vision_config.patch_size
    width, height = Image.open(path).size
    best = select_best_resolution((height, width), config.image_grid_pinpoints)
    lines, columns = best[0] // side * per, best[1] // side * per
    left = unpad_image(torch.arange(lines * columns).view(1, lines, columns), (height, width))[0]
    length = left.shape[1]
    token = {place: per * per + i for i, place in enumerate(left.flatten().tolist())}
    places = [list(range(per * per))]
    for row in range(best[0] // side):
        for column in range(best[1] // side):
            places.append(
                [
                    token.get((row * per + y) * columns + column * per + x)
                    for y in range(per)
                    for x in range(per)
                ]
            )
    given = shares(count, [sum(one is not None for one in tile) for tile in places])
    rows = []
    for tile, share in enumerate(given):
        if share:
            for found, feature in reduced(llava, pixels["pixel_values"][0][tile], share, score, places[tile]):
                key = found if found is not None else -1 if tile == 0 else per * per - 0.5
                rows.append((key, -1 if found is None else found, feature))
    rows.sort(key=lambda row: row[0])
    tokens, features = [], []
    for index, (key, one, feature) in enumerate(rows):
        tokens.append(one)
        features.append(llava.multi_modal_projector(feature[None])[0])
        following = rows[index + 1][1] if index + 1 < len(rows) else None
        if one >= per * per:
            line = (one - per * per) // length
            if following is None or (following - per * per) // length != line:
                tokens.append(-2)
                features.append(llava.image_newline)
    return tokens, torch.stack(features)


def main():
    torch.set_num_threads(1)
    cases, values, offset = [], [], 0
    for name in ["next-vicuna", "next-mistral-window"]:
        model = Model(FOLDER / name)
        model.model.set_attn_implementation("eager")
        for shape, count, score in CASES:
            path = f"Tests/Golden/checkpoints/{name}/{shape}.png"
            if (name, shape, count) == ("next-vicuna", "flat", 24):
                continue  # as many as it has
            tokens, features = case(model, ROOT / path, count, score)
            values.append(features.numpy().astype("<f4").ravel())
            cases.append(
                {
                    "checkpoint": f"Tests/Golden/checkpoints/{name}", "image": path, "count": count,
                    "score": score, "tokens": tokens,
                    "features": {"offset": offset, "shape": list(features.shape)},
                }
            )  # fmt: skip
            offset += features.numel()
    folder = ROOT / "Tests/Golden/pruning"
    text = ",\n".join(f"  {json.dumps(one)}" for one in cases)
    (folder / "tiles.json").write_text(f"[\n{text}\n]\n")
    np.concatenate(values).tofile(folder / "tiles.bin")


if __name__ == "__main__":
    main()
