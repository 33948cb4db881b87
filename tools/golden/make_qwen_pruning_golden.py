#!/usr/bin/env python3
"""Writes what PyTorch's automatic differentiation says of Qwen-VL's visual rows, and what each method keeps.

    tools/golden/make_qwen_pruning_golden.py

As make_saliency_golden.py, in the same form, for images at their own shape, whose rows stand at three positions (M-RoPE):
Tests/Golden/saliency/qwen.json and qwen.bin. A row that stays keeps its positions, and the text behind an image those
that the whole image leaves it. What the encoder drops it merges over output tokens, by the attention that their patches
receive. What Qwen3-VL adds behind its first layers goes to the token that a row is.
"""

import json
import sys

import numpy as np
import torch
from make_model_golden import FOLDER, ROOT, Model
from make_saliency_golden import Decoder, Golden, highest_first, norm_in_any_precision, tail
from transformers.models.llama import modeling_llama
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl
from transformers.vision_utils import get_vision_window_index

modeling_qwen2_vl.Qwen2VLRMSNorm.forward = norm_in_any_precision
modeling_qwen3_vl.Qwen3VLTextRMSNorm.forward = norm_in_any_precision


class QwenDecoder(Decoder):
    """Rows with three positions each, as the model's own rule gives them."""

    def __init__(self, model, ids, inputs, grids, zips):
        self.model, self.zips, self.lm = model, [], model.model.model.language_model
        attention = received(model, inputs, grids) if zips else None
        with torch.no_grad():
            packed = model.model.model.get_image_features(**inputs, return_dict=True)
            features = torch.cat(list(packed.pooler_output)).double()
            levels = getattr(packed, "deepstack_features", None) or []
            # (layer, image, token)
            self.added = [[image.double() for image in level] for level in levels]
        counts = [int(grid.prod()) // 4 for grid in grids]
        places = [list(range(count)) for count in counts]
        if zips:
            parts = features.split(counts)
            shares = in_proportion(zips["count"], counts)
            for image, (rows, share) in enumerate(zip(parts, shares)):
                self.zips.append(zipped(attention[image], rows, share, grids[image], zips))
            places = [one["tokens"] for one in self.zips]
            features = torch.cat(
                [one["merge"](rows)[one["tokens"]] for one, rows in zip(self.zips, parts)]
            )
            self.added = [
                [one["merge"](rows) for one, rows in zip(self.zips, level)] for level in self.added
            ]
        self.lm.double()
        model.model.lm_head.double()
        # All rows, and which of them the encoder hands over.
        whole, left, self.images, at = [], [], [], 0
        for token in ids:
            if token == model.image_token:
                count = counts[len(self.images)]
                kept = places[len(self.images)]
                self.images.append(list(range(len(left), len(left) + len(kept))))
                left += [len(whole) + place for place in kept]
                whole += [token] * count
            else:
                left.append(len(whole))
                whole.append(token)
        rows = []
        for token in [whole[row] for row in left]:
            if token == model.image_token:
                rows.append(features[at])
                at += 1
            else:
                rows.append(self.lm.embed_tokens.weight[token])
        self.hidden = torch.stack(rows).detach()
        tokens = torch.tensor([whole])
        positions, _ = model.model.model.get_rope_index(
            tokens, (tokens == model.image_token).long(), image_grid_thw=grids
        )
        self.positions = positions[:, 0].T[left].contiguous()  # (rows, 3)
        self.origins = [list(place) for place in places]
        self.tokens = counts[0]

    def rotary(self, x):
        return self.lm.rotary_emb(x, self.positions.T[:, None])

    def run(self, layer, hidden):
        count = len(hidden)
        mask = torch.full((count, count), float("-inf"), dtype=hidden.dtype).triu(1)[None, None]
        output = layer(
            hidden[None],
            attention_mask=mask,
            position_ids=self.positions.T[:, None],
            position_embeddings=tuple(part.to(hidden.dtype) for part in self.rotary(hidden[None])),
        )
        return (output[0] if isinstance(output, tuple) else output)[0]

    def add_behind(self, index):
        if index < len(self.added):
            self.hidden = self.hidden.clone()
            for image, rows in enumerate(self.images):
                self.hidden[rows] += self.added[index][image][self.origins[image]]

    def queries_and_keys(self, layer, hidden):
        attention = layer.self_attn
        dim = attention.head_dim
        x = layer.input_layernorm(hidden)
        q = attention.q_proj(x).view(len(x), -1, dim)
        k = attention.k_proj(x).view(len(x), -1, dim)
        if hasattr(attention, "q_norm"):
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, k = q.transpose(0, 1), k.transpose(0, 1)
        cos, sin = (part[0].to(x.dtype) for part in self.rotary(x[None]))
        return modeling_llama.apply_rotary_pos_emb(q[None], k[None], cos[None], sin[None])


def received(model, inputs, grids):
    """For each image the attention that its tokens receive in two layers of the tower that attend to all."""
    tower = model.model.model.visual
    count = len(tower.blocks)
    full = getattr(tower, "fullatt_block_indexes", None)
    layers = (min(full), max(full)) if full else (max(0, count // 4 - 1), count - 1)
    module = sys.modules[type(tower).__module__]
    plain, seen = module.eager_attention_forward, {}

    def watched(attention, *arguments, **options):
        output, weights = plain(attention, *arguments, **options)
        seen.setdefault(id(attention), []).append(weights[0])
        return output, weights

    module.eager_attention_forward = watched
    found, at = [], 0
    for grid in grids:
        patches = int(grid.prod())
        seen.clear()
        with torch.no_grad():
            pixels = inputs["pixel_values"][at : at + patches]
            model.model.model.get_image_features(pixel_values=pixels, image_grid_thw=grid[None])
        at += patches
        order = torch.arange(patches // 4)
        if full:
            config = tower.config
            order, _ = get_vision_window_index(
                grid[None], spatial_merge_size=2, window_size=config.window_size,
                patch_size=config.patch_size,
            )  # fmt: skip
        scores = []
        for layer in layers:
            (weights,) = seen[id(tower.blocks[layer].attn)]  # (heads, queries, patches)
            tokens = weights.mean(1).sum(0).view(-1, 4).mean(1)
            scores.append(tokens[torch.argsort(order)])
        found.append(scores)
    module.eager_attention_forward = plain
    return found


def in_proportion(count, sizes):
    total, seen, shares = sum(sizes), 0, []
    for size in sizes:
        seen += size
        shares.append((count * seen + total // 2) // total - sum(shares))
    return shares


def zipped(scores, rows, count, grid, zips):
    """Which of an image's tokens are handed over, and what is merged into them."""
    local, last = scores
    lines, columns = int(grid[1]) // 2, int(grid[2]) // 2
    if zips["windows"]:
        kept, half = [], count // 2
        windows = [
            [r * columns + c for r in range(top, min(top + 4, lines)) for c in range(left, min(left + 4, columns))]
            for top in range(0, lines, 4)
            for left in range(0, columns, 4)
        ]  # fmt: skip
        shares = in_proportion(half, [len(window) for window in windows])
        for window, share in zip(windows, shares):
            kept += [window[i] for i in highest_first(local[window], share)]
        rest = [i for i in range(len(last)) if i not in kept]
        targets = sorted(kept + [rest[i] for i in highest_first(last[rest], count - half)])
        kept = targets
    else:
        dominant = highest_first(last, max(1, (count * 27 + 16) // 32))
        rest = [i for i in range(len(last)) if i not in dominant]
        contextual = count - len(dominant)
        targets = rest[:: max(1, len(rest) // contextual)][:contextual] if contextual else []
        kept = sorted(dominant + targets)
    unit = torch.nn.functional.normalize(rows.float(), dim=-1)
    members = {target: [] for target in targets}
    for i in range(len(rows)):
        if i not in kept and targets:
            members[targets[(unit[targets] @ unit[i]).argmax().item()]].append(i)

    def merge(rows):
        out = rows.clone()
        for target, others in members.items():
            if others and zips["windows"]:
                out[target] = rows[[target, *others]].mean(0)
            elif others:
                out[target] = rows[target] + rows[others].mean(0)
        return out

    merged = [{"target": t, "sources": m} for t, m in sorted(members.items()) if m]
    return {
        "tokens": kept, "merge": merge, "merged": merged, "scores": last, "full": False,
        "tokens_before": len(rows),
    }  # fmt: skip


class QwenGolden(Golden):
    def decoder(self, model, images, ids, zips):
        _, inputs = model.inputs("<|image_pad|>" * len(images), images)
        # The tower is done before the decoder's norms lose their detour through f32.
        return QwenDecoder(model, ids, inputs, inputs["image_grid_thw"], zips)

    def write(self, folder):
        text = ",\n".join(f"  {json.dumps(case)}" for case in self.cases)
        (folder / "qwen.json").write_text(f"[\n{text}\n]\n")
        np.concatenate(self.values).tofile(folder / "qwen.bin")


def main():
    golden = QwenGolden()
    for name in ["qwen2-flat", "qwen25-windows", "qwen3-deepstack"]:
        place = f"Tests/Golden/checkpoints/{name}"
        model = Model(FOLDER / name)
        if name == "qwen25-windows":
            for layer in model.model.model.language_model.layers:
                for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                    norm.forward = norm_in_any_precision.__get__(norm)
            norm = model.model.model.language_model.norm
            norm.forward = norm_in_any_precision.__get__(norm)
        one, wide = [f"{place}/square.png"], [f"{place}/wide.png"]
        image = model.image_token

        def prompt(count):
            return [1, *tail(model, 3), image, *tail(model, count)]

        golden.add(name, place, one, prompt(7), "1:8")
        golden.add(name, place, wide, prompt(6), "0:9,1:4", threshold=0.3)
        golden.add(name, place, one, prompt(9), "1:6", threshold=0.5, proxy_rows="last2")
        ids = [1, image, *tail(model, 3), image, *tail(model, 7)]
        golden.add(name, place, wide + one, ids, "0:30,1:14")
        for method in ["fastv", "dart", "divprune"]:
            golden.add(name, place, one, prompt(6), "1:10", method=method)
        golden.add(name, place, one, prompt(6), "0:11", method="visionzip")
        golden.add(name, place, one, prompt(6), "0:12", method="windowzip")
        golden.add(name, place, wide + one, ids, "0:30", method="windowzip")
        golden.add(name, place, wide, prompt(7), "0:14,1:6", method="windowzip+pio")
        golden.add(name, place, one, prompt(7), "0:13,1:5", method="visionzip+pio")
        if name == "qwen3-deepstack":
            golden.add(name, place, one, prompt(5), "1:14,2:5", proxy_block="current")
        for case in golden.cases:
            case["patch_score"] = "received"
    golden.write(ROOT / "Tests/Golden/saliency")


if __name__ == "__main__":
    main()
