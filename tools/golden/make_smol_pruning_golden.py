#!/usr/bin/env python3
"""Writes what PyTorch's automatic differentiation says of SmolVLM's visual rows, and what each method keeps.

    tools/golden/make_smol_pruning_golden.py

As make_saliency_golden.py, in the same form, for images in tiles with text between them:
Tests/Golden/saliency/smol.json and smol.bin. Text between tiles is never cut and ranks nowhere. VisionZip takes each tile
through the tower alone; a token's rank is the mean over its patches of the attention that they receive, what is merged are
the joined patches.
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from make_model_golden import FOLDER, ROOT, Model
from make_saliency_golden import Decoder, Golden, highest, tail
from make_zip_golden import shares


class SmolDecoder(Decoder):
    """Rows of the whole prompt, the tokens of images among them."""

    def __init__(self, model, ids, inputs, expanded, zips=None):
        self.model, self.zips, self.lm = model, [], model.model.model.text_model
        with torch.no_grad():
            model.model.model.get_image_features(**inputs)
            features = model.features
        whole, owner, image = [], [], 0
        for token in ids:
            if token == model.image_token:
                whole += expanded[image]
                owner += [image] * len(expanded[image])
                image += 1
            else:
                whole.append(token)
                owner.append(None)
        visual = [row for row, token in enumerate(whole) if token == model.image_token]
        assert len(visual) == len(features)
        of_image = [[row for row in visual if owner[row] == one] for one in range(image)]
        self.counts = [len(rows) for rows in of_image]
        kept = [list(range(count)) for count in self.counts]
        rows = dict(zip(visual, features.double()))
        if zips:
            assert image == 1
            one = zipped(model, inputs["pixel_values"][0], zips["count"])
            self.zips, kept = [one], [one["tokens"]]
            rows = dict(zip([of_image[0][token] for token in one["tokens"]], one["features"].double()))
        self.lm.double()
        model.model.lm_head.double()
        left = [row for row in range(len(whole)) if row in rows or whole[row] != model.image_token]
        table = self.lm.embed_tokens.weight
        self.hidden = torch.stack([rows.get(row, table[whole[row]]) for row in left]).detach()
        self.positions = torch.tensor(left)
        place = {row: index for index, row in enumerate(left)}
        self.images = [
            [place[of_image[one][token]] for token in kept[one]] for one in range(image)
        ]
        self.origins = kept
        self.text_count = owner[::-1].index(image - 1)
        self.tokens = self.counts[0]


    def text_start(self):
        """What ends an image is a part of it."""
        return len(self.hidden) - self.text_count


@torch.no_grad()
def zipped(model, tiles, count):
    """VisionZip of one image's tiles: rows, which tokens they are, what was merged."""
    smol = model.model.model
    config = smol.config
    factor = config.scale_factor
    per = config.vision_config.image_size // config.vision_config.patch_size // factor
    tokens, features, merged, scores = [], [], [], []
    for tile, share in enumerate(shares(count, [per * per] * len(tiles))):
        first = tile * per * per
        inputs = []
        attention = smol.vision_model.encoder.layers[-1].self_attn
        hook = attention.register_forward_pre_hook(
            lambda _m, args, kwargs: inputs.append(kwargs.get("hidden_states", args and args[0])),
            with_kwargs=True,
        )
        out = smol.vision_model(tiles[tile][None], output_attentions=True)
        hook.remove()
        received = out.attentions[-1][0].mean(1).sum(0)
        keys = attention.k_proj(inputs[0])[0]
        metric = keys.view(len(keys), config.vision_config.num_attention_heads, -1).mean(1)
        groups = [
            [(line * factor + i) * per * factor + column * factor + j for i in range(factor) for j in range(factor)]
            for line in range(per)
            for column in range(per)
        ]
        score = torch.stack([received[group].mean() for group in groups])
        metric = F.normalize(torch.stack([metric[group].mean(0) for group in groups]), dim=-1)
        joined = torch.stack([out.last_hidden_state[0][group].flatten() for group in groups])
        scores.append(score if share else torch.zeros(len(score)))
        if not share:
            continue
        dominant = highest(score, max(1, (share * 27 + 16) // 32))
        rest = [i for i in range(len(score)) if i not in dominant]
        contextual = share - len(dominant)
        targets = rest[:: max(1, len(rest) // contextual)][:contextual] if contextual else []
        members = {target: [] for target in targets}
        for i in rest:
            if targets and i not in members:
                members[targets[(metric[targets] @ metric[i]).argmax().item()]].append(i)
        for i in sorted(dominant + targets):
            row = joined[i]
            if members.get(i):
                row = row + joined[members[i]].mean(0)
                sources = [first + source for source in members[i]]
                merged.append({"target": first + i, "sources": sources})
            tokens.append(first + i)
            features.append(smol.connector.modality_projection(row))
    return {
        "tokens": tokens, "features": torch.stack(features), "merged": merged,
        "scores": torch.cat(scores), "full": False,
    }  # fmt: skip


class SmolGolden(Golden):
    def decoder(self, model, images, ids, zips):
        expanded = [model.inputs("<image>", [image])[0] for image in images]
        _, inputs = model.inputs("<image>" * len(images), images)
        return SmolDecoder(model, ids, inputs, expanded, zips)

    def write(self, folder):
        text = ",\n".join(f"  {json.dumps(case)}" for case in self.cases)
        (folder / "smol.json").write_text(f"[\n{text}\n]\n")
        np.concatenate(self.values).tofile(folder / "smol.bin")


def main():
    golden = SmolGolden()
    for name, keep in [("smol-shuffle-4", 14), ("smol-shuffle-3", 20), ("smol-plain-markers", 12)]:
        place = f"Tests/Golden/checkpoints/{name}"
        model = Model(FOLDER / name)
        model.model.set_attn_implementation("eager")
        one, wide = [f"{place}/square.png"], [f"{place}/wide.png"]
        image = model.image_token

        def prompt(count):
            return [1, *tail(model, 3), image, *tail(model, count)]

        golden.add(name, place, one, prompt(7), f"1:{keep}")
        golden.add(name, place, wide, prompt(6), f"0:{keep // 2},1:4", threshold=0.3)
        golden.add(name, place, one, prompt(9), f"1:{keep}", positions="compact", threshold=0.5)
        ids = [1, image, *tail(model, 3), image, *tail(model, 7)]
        golden.add(name, place, wide + one, ids, f"0:{2 * keep},1:{keep}")
        for method in ["fastv", "dart", "divprune"]:
            golden.add(name, place, one, prompt(6), f"1:{keep}", method=method)
        options = {"patch_score": "received"}
        golden.add(name, place, one, prompt(6), f"0:{keep}", method="visionzip", **options)
        golden.add(name, place, wide, prompt(6), f"0:{keep // 2}", method="visionzip", **options)
        golden.add(
            name, place, one, prompt(6), f"0:{keep},1:5", method="visionzip+pio", **options
        )
    golden.write(ROOT / "Tests/Golden/saliency")


if __name__ == "__main__":
    main()
