#!/usr/bin/env python3
"""Writes what PyTorch's automatic differentiation says of Qwen-VL's visual rows, and what each method keeps.

    tools/golden/make_qwen_pruning_golden.py

As make_saliency_golden.py, in the same form, for images at their own shape, whose rows stand at three positions (M-RoPE):
Tests/Golden/saliency/qwen.json and qwen.bin. A row that stays keeps its positions, and the text behind an image those
that the whole image leaves it. What Qwen3-VL adds behind its first layers goes to the token that a row is.
"""

import json

import numpy as np
import torch
from make_model_golden import FOLDER, ROOT, Model
from make_saliency_golden import Decoder, Golden, norm_in_any_precision, tail
from transformers.models.llama import modeling_llama
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
from transformers.models.qwen2_vl import modeling_qwen2_vl
from transformers.models.qwen3_vl import modeling_qwen3_vl

modeling_qwen2_vl.Qwen2VLRMSNorm.forward = norm_in_any_precision
modeling_qwen3_vl.Qwen3VLTextRMSNorm.forward = norm_in_any_precision


class QwenDecoder(Decoder):
    """Rows with three positions each, as the model's own rule gives them."""

    def __init__(self, model, ids, inputs, grids):
        self.model, self.zips, self.lm = model, [], model.model.model.language_model
        with torch.no_grad():
            packed = model.model.model.get_image_features(**inputs, return_dict=True)
            features = torch.cat(list(packed.pooler_output)).double()
            levels = getattr(packed, "deepstack_features", None) or []
            # (layer, image, token)
            self.added = [[image.double() for image in level] for level in levels]
        counts = [int(grid.prod()) // 4 for grid in grids]
        self.lm.double()
        model.model.lm_head.double()
        whole, self.images, at = [], [], 0
        for token in ids:
            if token == model.image_token:
                count = counts[len(self.images)]
                self.images.append(list(range(len(whole), len(whole) + count)))
                whole += [token] * count
            else:
                whole.append(token)
        rows = []
        for token in whole:
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
        self.positions = positions[:, 0].T.contiguous()  # (rows, 3)
        self.origins = [list(range(count)) for count in counts]
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


class QwenGolden(Golden):
    def decoder(self, model, images, ids, zips):
        _, inputs = model.inputs("<|image_pad|>" * len(images), images)
        # The tower is done before the decoder's norms lose their detour through f32.
        return QwenDecoder(model, ids, inputs, inputs["image_grid_thw"])

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
        if name == "qwen3-deepstack":
            golden.add(name, place, one, prompt(5), "1:14,2:5", proxy_block="current")
        for case in golden.cases:
            case["patch_score"] = "received"
    golden.write(ROOT / "Tests/Golden/saliency")


if __name__ == "__main__":
    main()
