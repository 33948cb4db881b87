"""Vision towers as the peer's mmproj files: CLIP with LLaVA's projector, SmolVLM's SigLIP, and Qwen-VL's."""

import gguf
import numpy as np

from blocks import F16, add, finish

LAYER = {
    "attention_norm": "ln1", "attention.query": "attn_q", "attention.key": "attn_k",
    "attention.value": "attn_v", "attention.output": "attn_out", "mlp_norm": "ln2",
    "mlp.gate": "ffn_gate", "mlp.up": "ffn_up", "mlp.down": "ffn_down",
}  # fmt: skip
FUSED = ["attention.query", "attention.key", "attention.value"]
GELU_BY_TANH, QUICK_GELU = 1, 2


class Tower:
    """An mmproj file that grows; `kind`: F16, or None for the codes as they are."""

    def __init__(self, model, path, kind, projector, **numbers):
        self.metadata, self.tensors, self.kind = model.metadata, model.by_name, kind
        m = self.metadata
        self.layers, self.side = m["vision.layer_count"], m["vision.patch_size"]
        self.writer = writer = gguf.GGUFWriter(path, "clip")
        writer.add_type("mmproj")
        writer.add_bool("clip.has_vision_encoder", True)
        writer.add_string("clip.projector_type", projector)
        numbers = {
            "patch_size": self.side, "embedding_length": m["vision.dim"],
            "feed_forward_length": m["vision.hidden_dim"], "block_count": self.layers,
            "attention.head_count": m["vision.head_count"], "projection_dim": m["text.dim"],
        } | numbers  # fmt: skip
        for key, value in numbers.items():
            writer.add_uint32(f"clip.vision.{key}", value)
        writer.add_float32("clip.vision.attention.layer_norm_epsilon", m["vision.layer_norm_epsilon"])
        writer.add_array("clip.vision.image_mean", [float(x) for x in m["image.mean"]])
        writer.add_array("clip.vision.image_std", [float(x) for x in m["image.std"]])

    def activation(self):
        """Of the layers. The peer has no GELU by erf for them."""
        kind = self.metadata.get("vision.activation")
        if kind not in (None, GELU_BY_TANH, QUICK_GELU):
            raise SystemExit("llama.cpp has no exact GELU in its vision towers")
        if kind is None:
            self.writer.add_bool("clip.use_silu", True)
        self.writer.add_bool("clip.use_gelu", kind == GELU_BY_TANH)

    def patches(self, slices=1):
        """The convolution; with two slices in time, which we keep as their sum, the second is zero."""
        values = self.tensors["vision.patch_embedding.weight"].array()
        values = values.reshape(-1, 3, self.side, self.side).astype(np.float16)
        self.writer.add_tensor("v.patch_embd.weight", values)
        if slices == 2:
            self.writer.add_tensor("v.patch_embd.weight.1", np.zeros_like(values))
        if "vision.patch_embedding.bias" in self.tensors:
            add(self.writer, "v.patch_embd.bias", self.tensors["vision.patch_embedding.bias"])

    def positions(self):
        add(self.writer, "v.position_embd.weight", self.tensors["vision.position_embedding"])

    def put(self, theirs, *ours):
        """A weight and, where it has one, its bias; several below each other."""
        for part in ["weight", "bias"]:
            tensors = [self.tensors[f"{name}.{part}"] for name in ours if f"{name}.{part}" in self.tensors]
            if tensors:
                # Small tensors stay f32.
                add(self.writer, f"{theirs}.{part}", tensors, kind=self.kind if tensors[0].rows > 1 else None)

    def layer(self, ours, theirs, fused=False):
        """Layer `ours` of the .piom file as the peer's layer `theirs`."""
        source, target = f"vision.layers.{ours}.", f"v.blk.{theirs}."
        if fused:
            self.put(f"{target}attn_qkv", *[source + name for name in FUSED])
        for name, peer in LAYER.items():
            if not (fused and name in FUSED):
                self.put(target + peer, source + name)

    def finish(self):
        finish(self.writer)


def write_clip(model, path, kind):
    m = model.metadata
    layers = m["vision.layer_count"]
    # The peer leaves out the last layer, whose output LLaVA does not use.
    tower = Tower(
        model, path, kind, "mlp", image_size=m["vision.image_size"], block_count=layers + 1,
        projection_dim=m["projector.hidden_dim"],
    )  # fmt: skip
    tower.writer.add_bool("clip.has_llava_projector", True)
    tower.activation()
    tower.patches()
    tower.writer.add_tensor("v.class_embd", model.by_name["vision.class_embedding"].array()[0])
    tower.positions()
    tower.put("v.pre_ln", "vision.pre_norm")
    for layer in range(layers + 1):
        tower.layer(min(layer, layers - 1), layer)
    tower.put("mm.0", "projector.linear1")
    tower.put("mm.2", "projector.linear2")
    tower.finish()


def write_smol(model, path, kind):
    m = model.metadata
    numbers = {"projector.scale_factor": m["projector.shuffle"], "preproc_image_size": m["image.longest_edge"]}
    tower = Tower(model, path, kind, "idefics3", image_size=m["vision.image_size"], **numbers)
    tower.activation()
    tower.patches()
    tower.positions()
    for layer in range(tower.layers):
        tower.layer(layer, layer)
    tower.put("v.post_ln", "vision.post_norm")
    tower.put("mm.model.fc", "projector.linear")
    tower.finish()


def write_qwen(model, path, kind):
    """Qwen2-VL's, with windows Qwen2.5-VL's, with a table of positions Qwen3-VL's."""
    m = model.metadata
    patch, merge = m["vision.patch_size"], m["vision.merge"]
    windows, positions = m.get("vision.window"), m.get("vision.positions_per_side")
    projector = "qwen2.5vl_merger" if windows else "qwen3vl_merger" if positions else "qwen2vl_merger"
    # Without a table the peer wants a size too, and uses it for nothing.
    tower = Tower(
        model, path, kind, projector, image_size=positions * patch if positions else 560,
        spatial_merge_size=merge, image_min_pixels=m["image.least_pixels"],
        image_max_pixels=m["image.most_pixels"],
    )  # fmt: skip
    tower.activation()
    if windows:
        pattern = m["vision.full_layers"][0] + 1
        if m["vision.full_layers"] != list(range(pattern - 1, tower.layers, pattern)):
            raise SystemExit("llama.cpp wants every so many layers to attend to all patches")
        tower.writer.add_uint32("clip.vision.n_wa_pattern", pattern)
        tower.writer.add_uint32("clip.vision.window_size", windows * merge * patch)
    tower.patches(slices=2)
    if positions:
        tower.positions()
    for layer in range(tower.layers):
        tower.layer(layer, layer, fused=bool(positions))
    # The peer finds these by the layer behind which they are.
    deepstack = m.get("vision.deepstack_layers", [])
    for index, layer in enumerate(deepstack):
        for ours, theirs in [("norm", "norm"), ("linear1", "fc1"), ("linear2", "fc2")]:
            tower.put(f"v.deepstack.{layer}.{theirs}", f"vision.deepstack.{index}.{ours}")
    if positions:
        flags = [layer in deepstack for layer in range(tower.layers)]
        tower.writer.add_array("clip.vision.is_deepstack_layers", flags)
    tower.put("v.post_ln", "projector.norm")
    tower.put("mm.0", "projector.linear1")
    tower.put("mm.2", "projector.linear2")
    tower.finish()


WRITERS = {None: write_clip, "smol": write_smol, "qwen": write_qwen}
KINDS = {"q8_0": None, "f16": F16}
