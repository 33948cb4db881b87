#!/usr/bin/env python3
"""Writes what PyTorch's automatic differentiation says of visual rows, and what each method keeps.

    tools/golden/make_saliency_golden.py

The decoder's layers, head and rotary positions are those of `transformers`, in f64 behind features
in f32; gradients come from torch.autograd. The selections are written down here once more, plainly,
from what the methods' papers and published code do. Tests/Golden/saliency/golden.json lists the
cases:

    checkpoint, images            as in Tests/Golden/checkpoints
    ids                           tokens; the image token stands once for each image
    method, schedule, positions, proxy_rows, proxy_block, threshold    as the options of `run`
    stages                        for each stage and image: after_layer, image, `candidates` and
                                  `kept` (the image's own tokens), `scores` {offset, shape} in
                                  golden.bin (f32), where the method ranks by a number
                                  after_layer is null in the encoder, whose stages also have
                                  `merged` [{target, sources}] and `class_token`
    rows, logits                  rows of every layer; {offset, shape}: of the last position
"""

import json

import numpy as np
import torch
import torch.nn.functional as F
from make_model_golden import FOLDER, ROOT, Model
from transformers.models.llama import modeling_llama

PROXIES = {"last4": [2, 3, 4, 5], "last2": [2, 3], "final": [1]}


def norm_in_any_precision(self, x):
    """LlamaRMSNorm without its detour through f32."""
    return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)


modeling_llama.LlamaRMSNorm.forward = norm_in_any_precision


class Decoder:
    """The layers of a checkpoint in f64, rows of embeddings to start with."""

    def __init__(self, model, ids, pixels, zips=None):
        self.model = model
        self.zips = []
        llava = model.model.model
        self.lm = llava.language_model
        with torch.no_grad():
            llava.get_image_features(pixel_values=pixels)
            features = model.features.double()
            self.tokens = len(features) // len(pixels)
            counts = [self.tokens] * len(pixels)
            if zips:
                owed = [zips["count"] * i * self.tokens for i in range(len(pixels) + 1)]
                total = self.tokens * len(pixels)
                owed = [(part + total // 2) // total for part in owed]
                counts = [b - a for a, b in zip(owed, owed[1:])]
                self.zips = [zipped(llava, pixels[i], counts[i], zips) for i in range(len(pixels))]
                features = torch.cat([one["features"] for one in self.zips]).double()
        rows, self.images, at = [], [], 0
        self.lm.double()
        model.model.lm_head.double()
        for token in ids:
            if token == model.image_token:
                per_image = counts[len(self.images)]
                self.images.append(list(range(len(rows), len(rows) + per_image)))
                rows += list(features[at : at + per_image])
                at += per_image
            else:
                rows.append(self.lm.embed_tokens.weight[token])
        self.hidden = torch.stack(rows).detach()
        self.positions = torch.arange(len(rows))
        self.origins = [list(range(self.tokens)) for _ in self.images]
        if zips:
            self.origins = [one["tokens"] for one in self.zips]
            if zips["by_place"]:
                self.positions = torch.tensor(self.places(len(rows)))

    def places(self, count):
        """Each image keeps the places of all its tokens; a class token that is none stands first."""
        places, shift = list(range(count)), 0
        for rows, tokens in zip(self.images, self.origins):
            for row, token in zip(rows, tokens):
                places[row] = rows[0] + shift + max(0, token)
            shift += self.tokens - len(rows)
            for row in range(rows[-1] + 1, count):
                places[row] = row + shift
        return places

    def run(self, layer, hidden):
        count = len(hidden)
        mask = torch.full((count, count), float("-inf"), dtype=hidden.dtype).triu(1)[None, None]
        rotary = self.lm.rotary_emb(hidden[None], self.positions[None])
        output = layer(
            hidden[None],
            attention_mask=mask,
            position_ids=self.positions[None],
            position_embeddings=tuple(part.to(hidden.dtype) for part in rotary),
        )
        return (output[0] if isinstance(output, tuple) else output)[0]

    def add_behind(self, index):
        """What the model adds to its rows behind that layer: nothing."""

    def text_start(self):
        """The first row of text behind the last image."""
        return self.images[-1][-1] + 1

    def proxies(self, rows):
        """Those of the rows that are text behind the last image; the last row if it is the only one."""
        count = len(self.hidden)
        text = count - self.text_start()
        if text == 1:
            return [count - 1]
        return [count - back for back in PROXIES[rows] if back <= text]

    def saliency(self, layer, rows):
        """The lengths of the gradients of the proxy loss, for all rows."""
        x = self.hidden.clone().requires_grad_(True)
        out = self.run(layer, x)
        logits = self.model.model.lm_head(self.lm.norm(out[self.proxies(rows)]))
        loss = F.cross_entropy(logits, logits.argmax(-1))
        (gradient,) = torch.autograd.grad(loss, x)
        return gradient.norm(dim=-1)

    def queries_and_keys(self, layer, hidden):
        """Rotated, by heads: (heads, rows, head_dim)."""
        attention = layer.self_attn
        dim = attention.head_dim
        x = layer.input_layernorm(hidden)
        q = attention.q_proj(x).view(len(x), -1, dim).transpose(0, 1)
        k = attention.k_proj(x).view(len(x), -1, dim).transpose(0, 1)
        cos, sin = (part[0].to(x.dtype) for part in self.lm.rotary_emb(x[None], self.positions[None]))
        return modeling_llama.apply_rotary_pos_emb(q[None], k[None], cos[None], sin[None])

    def attention_of_last(self, layer, hidden):
        """The mean over the heads of the attention that the last row pays."""
        q, k = self.queries_and_keys(layer, hidden)
        k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
        scores = (q[0, :, -1:] @ k[0].transpose(1, 2)) / q.shape[-1] ** 0.5
        return scores.softmax(-1).mean(0)[0]


def zipped(llava, pixels, count, zips):
    """VisionZip: the rows of one image behind the projector, which tokens they are, what was merged."""
    config = llava.config
    tower = llava.vision_tower
    tower = getattr(tower, "vision_model", tower)
    out = tower(pixels[None], output_hidden_states=True, output_attentions=True)
    index = config.vision_feature_layer % len(out.hidden_states)  # that many layers have run
    features = out.hidden_states[index][0]
    attention = out.attentions[index - 1][0]  # (heads, rows, rows)
    layer = tower.encoder.layers[index - 1]
    keys = layer.self_attn.k_proj(layer.layer_norm1(out.hidden_states[index - 1]))[0]
    heads = attention.shape[0]
    metric = F.normalize(keys.view(len(keys), heads, -1).mean(1), dim=-1)[1:]
    score = (attention[:, 0] if zips["score"] == "cls" else attention.mean(1)).sum(0)[1:]
    full = config.vision_feature_select_strategy == "full"
    keeps = full or zips["score"] == "cls"
    dominant = highest(score, (count * 27 + 16) // 32 - keeps)
    rest = [i for i in range(len(score)) if i not in dominant]
    contextual = count - keeps - len(dominant)
    targets = rest[:: max(1, len(rest) // contextual)][:contextual] if contextual else []
    members = {t: [] for t in targets}
    for i in rest:
        if i not in members and targets:
            members[targets[(metric[targets] @ metric[i]).argmax().item()]].append(i)
    merged = {}
    for t in targets:
        merged[t] = features[t + 1]
        if members[t]:
            merged[t] = merged[t] + features[[i + 1 for i in members[t]]].mean(0)
    order = dominant + targets
    if zips["by_place"]:
        order = sorted(order)
    rows = [features[0]] if keeps else []
    rows += [merged.get(i, features[i + 1]) for i in order]
    first = 1 if full else 0
    return {
        "features": llava.multi_modal_projector(torch.stack(rows)[None])[0],
        "tokens": ([first - 1] if keeps else []) + [i + first for i in order],
        "merged": [
            {"target": t + first, "sources": [i + first for i in members[t]]}
            for t in targets
            if members[t]
        ],
        "scores": score,
        "full": full,
    }


def highest(score, keep):
    order = sorted(range(len(score)), key=lambda i: (-score[i].item(), i))
    return sorted(order[:keep])


def distinct(score, rows, keep, threshold):
    """Greedy non-maximum suppression with all cosines at hand; then the best of the suppressed."""
    unit = F.normalize(rows, dim=-1)
    cosine = unit @ unit.T
    order = sorted(range(len(score)), key=lambda i: (-score[i].item(), i))
    alive, kept = [True] * len(score), []
    for i in order:
        if alive[i] and len(kept) < keep:
            kept.append(i)
            for j in range(len(score)):
                if cosine[i, j] >= threshold:
                    alive[j] = False
    for i in order:
        if len(kept) < keep and i not in kept:
            kept.append(i)
    return sorted(kept)


def diverse(rows, keep):
    """DivPrune: the largest least distance, greedily."""
    unit = F.normalize(rows, dim=-1)
    distance = 1 - unit @ unit.T
    chosen = []
    while len(chosen) < keep:
        if chosen:
            score = distance[chosen].min(0).values.clone()
            score[chosen] = -float("inf")
        else:
            score = distance.topk(2, dim=0, largest=False).values[1]
        chosen.append(score.argmax().item())
    return sorted(chosen)


def unlike_pivots(keys, text_keys, states, text_states, keep):
    """DART: pivots of the largest L1 norm, then for each the rows of the least cosine."""
    own = highest_first(keys.abs().sum(-1), min(4, keep))
    words = highest_first(text_keys.abs().sum(-1), min(4, len(text_keys)))
    kept = list(own)
    pivots = [states[i] for i in own] + [text_states[i] for i in words]
    rest = keep - len(own)
    for index, pivot in enumerate(pivots):
        quota = rest // len(pivots) + (index < rest % len(pivots))
        left = [i for i in range(len(states)) if i not in kept]
        cosine = F.cosine_similarity(pivot[None], states[left], dim=-1)
        kept += [left[i] for i in highest_first(-cosine, quota)]
    return sorted(kept)


def highest_first(score, count):
    return sorted(range(len(score)), key=lambda i: (-score[i].item(), i))[:count]


class Golden:
    def __init__(self):
        self.values, self.cases, self.offset = [], [], 0

    def decoder(self, model, images, ids, zips):
        _, inputs = model.inputs("<image>" * len(images), images)
        return Decoder(model, ids, inputs["pixel_values"], zips)

    def store(self, tensor):
        array = tensor.detach().numpy().astype("<f4")
        place = {"offset": self.offset, "shape": [1, array.size]}
        self.values.append(array)
        self.offset += array.size
        return place

    def select(self, case, decoder, scores, stage, keep):
        """Cuts every image to its share, and notes what was done."""
        total = sum(len(rows) for rows in decoder.images)
        last = decoder.text_start()
        seen = given = 0
        kept_rows = []
        for image, rows in enumerate(decoder.images):
            seen += len(rows)
            owed = (keep * seen + total // 2) // total
            share, given = owed - given, owed
            hidden = decoder.hidden[rows]
            if case["method"].endswith("pio"):
                picked = distinct(scores[rows], hidden, share, case["threshold"])
            elif case["method"] == "fastv":
                picked = highest(scores[rows], share)
            elif case["method"] == "divprune":
                picked = diverse(hidden, share)
            else:
                keys = decoder.keys if stage > 0 else decoder.hidden
                states = decoder.lm.norm(decoder.hidden)
                picked = unlike_pivots(keys[rows], keys[last:], states[rows], states[last:], share)
            note = {
                "after_layer": stage,
                "image": image,
                "candidates": decoder.origins[image],
                "kept": sorted(t for i in picked if (t := decoder.origins[image][i]) >= 0),
            }
            if scores is not None:
                note["scores"] = self.store(scores[rows])
            case["stages"].append(note)
            decoder.origins[image] = [decoder.origins[image][i] for i in picked]
            kept_rows.append([rows[i] for i in picked])
        dropped = {r for rows in decoder.images for r in rows} - {r for rows in kept_rows for r in rows}
        left = [row for row in range(len(decoder.hidden)) if row not in dropped]
        place = {row: i for i, row in enumerate(left)}
        decoder.images = [[place[row] for row in rows] for rows in kept_rows]
        decoder.hidden = decoder.hidden[left]
        compact = case["positions"] == "compact"
        decoder.positions = torch.arange(len(left)) if compact else decoder.positions[left]

    def add(self, name, checkpoint, images, ids, schedule, **options):
        case = {"checkpoint": checkpoint, "images": images, "ids": ids, "schedule": schedule}
        case |= {"method": "pio", "positions": "original", "proxy_rows": "last4"}
        case |= {"proxy_block": "next", "threshold": 0.9, "patch_score": "cls", "stages": []}
        case |= options
        model = Model(ROOT / checkpoint)
        stages = [tuple(map(int, stage.split(":"))) for stage in schedule.split(",")]
        zips = None
        if "zip" in case["method"]:
            zips = {"count": stages.pop(0)[1], "score": case["patch_score"]}
            zips["by_place"] = case["positions"] == "original"
            zips["windows"] = case["method"].startswith("windowzip")
        decoder = self.decoder(model, [ROOT / image for image in images], ids, zips)
        for image, one in enumerate(decoder.zips):
            tokens = sorted(one["tokens"])
            scores = torch.cat([torch.zeros(1), one["scores"]]) if one["full"] else one["scores"]
            case["stages"].append(
                {
                    "after_layer": None,
                    "image": image,
                    "candidates": list(range(one.get("tokens_before", decoder.tokens))),
                    "kept": [t for t in tokens if t >= 0],
                    "class_token": -1 in tokens,
                    "merged": one["merged"],
                    "scores": self.store(scores),
                }
            )
        layers, rows, before = decoder.lm.layers, [], None
        for index, layer in enumerate(layers):
            for keep in [keep for after, keep in stages if after == index]:
                probed = layers[max(0, index - 1)] if case["proxy_block"] == "current" else layer
                scores = None
                if case["method"].endswith("pio"):
                    scores = decoder.saliency(probed, case["proxy_rows"])
                elif case["method"] == "fastv":
                    source = (layer, decoder.hidden) if index == 0 else before
                    with torch.no_grad():
                        scores = decoder.attention_of_last(*source)
                elif index > 0:
                    with torch.no_grad():
                        _, keys = decoder.queries_and_keys(*before)
                    decoder.keys = keys[0].transpose(0, 1).flatten(1)
                with torch.no_grad():
                    self.select(case, decoder, scores, index, keep)
            rows.append(len(decoder.hidden))
            before = (layer, decoder.hidden)
            with torch.no_grad():
                decoder.hidden = decoder.run(layer, decoder.hidden)
                decoder.add_behind(index)
        case["rows"] = rows
        with torch.no_grad():
            logits = model.model.lm_head(decoder.lm.norm(decoder.hidden[-1]))
        case["logits"] = self.store(logits)
        self.cases.append(case)
        print(name, len(ids), schedule, options, rows)

    def write(self, folder):
        folder.mkdir(exist_ok=True)
        text = ",\n".join(f"  {json.dumps(case)}" for case in self.cases)
        (folder / "golden.json").write_text(f"[\n{text}\n]\n")
        np.concatenate(self.values).tofile(folder / "golden.bin")


def tail(model, count):
    """Text tokens, none of them special."""
    low = model.image_token + 20
    return [low + 7 * i % (model.vocab_size - low - 10) for i in range(count)]


def main():
    golden = Golden()
    names = ["gqa-linear-sharded", "llama3-no-projector-bias", "mha-biases", "seven-heads-nested"]
    names += ["one-kv-head-tied-full", "tied-attention-bias-full", "yarn-padded"]
    for name in names:
        place = f"Tests/Golden/checkpoints/{name}"
        model = Model(FOLDER / name)
        one = [f"{place}/exact.png"]
        image = model.image_token
        start = [1, *tail(model, 4)]

        def prompt(count):
            return [*start, image, *tail(model, count)]

        small = name in ("one-kv-head-tied-full", "tied-attention-bias-full", "yarn-padded")
        keep = 3 if small else 6
        golden.add(name, place, one, prompt(6), f"1:{keep}")
        golden.add(name, place, one, prompt(3), f"0:{keep}")
        golden.add(name, place, one, prompt(1), f"1:{keep}", threshold=0.5)
        options = {"proxy_rows": "last2", "proxy_block": "current", "positions": "compact"}
        golden.add(name, place, one, prompt(6), f"0:{keep},1:2", threshold=0.2, **options)
        golden.add(name, place, one, prompt(9), f"1:{keep}", proxy_rows="final")
        golden.add(name, place, one, prompt(6), f"0:{keep}", method="visionzip")
        options = {"method": "visionzip", "patch_score": "received", "positions": "compact"}
        golden.add(name, place, one, prompt(6), f"0:{keep}", **options)
        if small:
            continue
        two = [f"{place}/wide.png", f"{place}/exact.png"]
        ids = [1, image, *tail(model, 3), image, *tail(model, 7)]
        golden.add(name, place, two, ids, "0:9,1:4", threshold=0.3)
        for method in ["fastv", "dart", "divprune"]:
            golden.add(name, place, two, ids, "1:11", method=method)
            golden.add(name, place, one, prompt(6), "0:7", method=method)
        options = {"method": "visionzip+pio", "positions": "original"}
        golden.add(name, place, two, ids, "0:15,1:5", **options)
        golden.add(name, place, two, ids, "0:11,1:6", **options | {"positions": "compact"})
    place = "tools/demo/checkpoint"
    model = Model(ROOT / place)
    for scene, question, schedule, options in [
        ("scene-0002-336x336", "How many shapes are there?", "2:64", {}),
        ("scene-0005-336x336", "Is there a red circle?", "0:64", {"threshold": 0.8}),
        ("scene-0001-336x336", "What color is the square?", "1:218,3:128,4:54", {}),
        ("scene-0007-336x336", "How many circles are there?", "2:64", {"method": "fastv"}),
        (
            "scene-0003-336x336",
            "How many shapes are there?",
            "0:96,4:32",
            {"method": "visionzip+pio", "patch_score": "received"},
        ),
    ]:
        images = [f"tools/demo/images/{scene}.png"]
        text = f"USER: <image>\n{question} ASSISTANT:"
        ids = model.tokenizer(text)["input_ids"]
        golden.add("demo", place, images, ids, schedule, **options)
    golden.write(ROOT / "Tests/Golden/saliency")


if __name__ == "__main__":
    main()
