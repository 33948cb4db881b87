"""Shapes of real models by name, and the tensors that a checkpoint of one has."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Vision:
    """A CLIP vision tower; ViT-L/14-336 unless said otherwise."""

    layers: int = 24
    dim: int = 1024
    hidden: int = 4096
    heads: int = 16
    image: int = 336
    patch: int = 14
    # LLaVA-NeXT: an image is cut into tiles at one of its resolutions.
    tiled: bool = False

    @property
    def positions(self):
        return (self.image // self.patch) ** 2 + 1

    @property
    def resolutions(self):
        grids = [(1, 2), (2, 1), (2, 2), (3, 1), (1, 3)]
        return [[lines * self.image, columns * self.image] for lines, columns in grids]


@dataclass(frozen=True)
class Smol:
    """A SigLIP vision tower, whose patches are joined `shuffle` × `shuffle`, on tiles of an image."""

    layers: int
    dim: int
    hidden: int
    heads: int
    image: int
    patch: int
    shuffle: int
    longest_edge: int

    @property
    def positions(self):
        return (self.image // self.patch) ** 2

    @property
    def tokens(self):
        return self.positions // self.shuffle**2


@dataclass(frozen=True)
class Qwen:
    """The vision tower of Qwen2-VL, or with windows of Qwen2.5-VL, for images at their own shape."""

    layers: int
    dim: int
    hidden: int
    heads: int
    windows: bool
    patch: int = 14
    merge: int = 2


@dataclass(frozen=True)
class Qwen3(Qwen):
    """The vision tower of Qwen3-VL: learned places, and connectors behind some layers."""

    positions: int = 48
    deepstack: tuple = ()


@dataclass(frozen=True)
class Shape:
    """A Llama decoder, with a vision tower or alone."""

    layers: int
    dim: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int = 32_000
    positions: int = 4096
    tied: bool = False
    vision: Vision | Smol | Qwen | Qwen3 | None = None
    theta: float = 10_000

    @property
    def head_dim(self):
        return self.dim // self.heads

    def with_layers(self, layers):
        return replace(self, layers=layers)


SIGLIP_BASE = Smol(12, 768, 3072, 12, 512, 16, 4, 2048)
SIGLIP_SO400M = Smol(27, 1152, 4304, 16, 384, 14, 3, 1536)

SHAPES = {
    "tinyllama-1.1b-vitl": Shape(22, 2048, 5632, 32, 4, vision=Vision()),
    "cap-2gib": Shape(28, 3072, 8192, 24, 8, vision=Vision()),
    "llava-7b": Shape(32, 4096, 11008, 32, 32, vision=Vision()),
    "tinyllama-1.1b-next": Shape(22, 2048, 5632, 32, 4, vision=Vision(tiled=True)),
    "llava-next-7b": Shape(32, 4096, 11008, 32, 32, vision=Vision(tiled=True)),
    "llava-13b": Shape(40, 5120, 13824, 40, 40, vision=Vision()),
    "smollm2-135m-vitb": Shape(
        30, 576, 1536, 9, 3, vocabulary=49_152, tied=True,
        vision=Vision(12, 768, 3072, 12, 224, 16)),
    "smollm2-360m-vitl": Shape(
        32, 960, 2560, 15, 5, vocabulary=49_152, tied=True, vision=Vision()),
    "tinyllama-1.1b": Shape(22, 2048, 5632, 32, 4),
    "llama-160m": Shape(12, 768, 3072, 12, 12),
    "smollm2-135m": Shape(30, 576, 1536, 9, 3, vocabulary=49_152, tied=True),
    "smolvlm2-256m": Shape(
        30, 576, 1536, 9, 3, vocabulary=49_280, positions=8192, vision=SIGLIP_BASE, theta=100_000),
    "smolvlm2-500m": Shape(
        32, 960, 2560, 15, 5, vocabulary=49_280, positions=8192, vision=SIGLIP_BASE, theta=100_000),
    "smolvlm2-2.2b": Shape(
        24, 2048, 8192, 32, 32, vocabulary=49_280, positions=8192, vision=SIGLIP_SO400M, theta=130_000),
    "qwen2-vl-2b": Shape(
        28, 1536, 8960, 12, 2, vocabulary=151_936, positions=32_768, tied=True,
        vision=Qwen(32, 1280, 5120, 16, windows=False), theta=1_000_000),
    "qwen2.5-vl-3b": Shape(
        36, 2048, 11008, 16, 2, vocabulary=151_936, positions=128_000, tied=True,
        vision=Qwen(32, 1280, 3420, 16, windows=True), theta=1_000_000),
    "qwen3-vl-2b": Shape(
        28, 2048, 6144, 16, 8, vocabulary=151_936, positions=262_144, tied=True,
        vision=Qwen3(24, 1024, 4096, 16, windows=False, patch=16, deepstack=(5, 11, 17)),
        theta=5_000_000),
    # For tests of the tools themselves.
    "tiny": Shape(3, 64, 160, 4, 2, 512, 512, vision=Vision(3, 48, 96, 3, 56, 14)),
    "tiny-smol": Shape(3, 64, 160, 4, 2, 512, 1024, vision=Smol(3, 48, 96, 2, 46, 5, 3, 138)),
    "tiny-qwen": Shape(
        3, 64, 160, 2, 1, 512, 4096, tied=True, vision=Qwen(3, 48, 96, 3, windows=True, patch=6)),
    "tiny-qwen3": Shape(
        3, 64, 160, 2, 1, 512, 4096, tied=True,
        vision=Qwen3(3, 48, 96, 3, windows=False, patch=6, positions=7, deepstack=(0, 1))),
    "tiny-next": Shape(4, 64, 160, 4, 2, 512, 512, vision=Vision(3, 48, 96, 3, 56, 14, tiled=True)),
}


def tensors(shape):
    """(name, shape, spread) of every tensor, as the published LLaVA and Llama files name them.

    Spread: the standard deviation of a weight, chosen so that activations keep the size they have
    in a trained model; ("norm",): about one.
    """
    if isinstance(shape.vision, Smol):
        yield from smol(shape)
        return
    if isinstance(shape.vision, Qwen3):
        yield from qwen3(shape)
        return
    if isinstance(shape.vision, Qwen):
        yield from qwen(shape)
        return
    prefix = "language_model." if shape.vision else ""
    yield f"{prefix}model.embed_tokens.weight", (shape.vocabulary, shape.dim), 0.02
    for layer in range(shape.layers):
        yield from decoder_layer(f"{prefix}model.layers.{layer}.", shape)
    yield f"{prefix}model.norm.weight", (shape.dim,), "norm"
    if not shape.tied:
        yield f"{prefix}lm_head.weight", (shape.vocabulary, shape.dim), 3 / shape.dim**0.5
    if shape.vision:
        yield from vision_tower("vision_tower.vision_model.", shape.vision)
        yield from linear("multi_modal_projector.linear_1", shape.dim, shape.vision.dim, bias=True)
        yield from linear("multi_modal_projector.linear_2", shape.dim, shape.dim, bias=True)
        if shape.vision.tiled:
            yield "image_newline", (shape.dim,), 0.02


def qwen(shape):
    """As the published Qwen2-VL and Qwen2.5-VL files name them."""
    vision = shape.vision
    yield "model.embed_tokens.weight", (shape.vocabulary, shape.dim), 0.02
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    for layer in range(shape.layers):
        prefix = f"model.layers.{layer}."
        yield from decoder_layer(prefix, shape)
        for part, rows in [("q", queries), ("k", keys), ("v", keys)]:
            yield f"{prefix}self_attn.{part}_proj.bias", (rows,), 0.02
    yield "model.norm.weight", (shape.dim,), "norm"
    if not shape.tied:
        yield "lm_head.weight", (shape.vocabulary, shape.dim), 3 / shape.dim**0.5
    patch = (vision.dim, 3, 2, vision.patch, vision.patch)
    yield "visual.patch_embed.proj.weight", patch, 1 / (6 * vision.patch**2) ** 0.5

    def norm(name):
        yield f"{name}.weight", (vision.dim,), "norm"
        if not vision.windows:
            yield f"{name}.bias", (vision.dim,), 0.02

    for layer in range(vision.layers):
        name = f"visual.blocks.{layer}."
        yield from norm(f"{name}norm1")
        yield from linear(f"{name}attn.qkv", 3 * vision.dim, vision.dim, bias=True)
        yield from linear(f"{name}attn.proj", vision.dim, vision.dim, bias=True)
        yield from norm(f"{name}norm2")
        up, down = ("up_proj", "down_proj") if vision.windows else ("fc1", "fc2")
        if vision.windows:
            yield from linear(f"{name}mlp.gate_proj", vision.hidden, vision.dim, bias=True)
        yield from linear(f"{name}mlp.{up}", vision.hidden, vision.dim, bias=True)
        yield from linear(f"{name}mlp.{down}", vision.dim, vision.hidden, bias=True)
    merged = vision.merge**2 * vision.dim
    yield from norm("visual.merger.ln_q")
    yield from linear("visual.merger.mlp.0", merged, merged, bias=True)
    yield from linear("visual.merger.mlp.2", shape.dim, merged, bias=True)


def qwen3(shape):
    """As the published Qwen3-VL files name them."""
    vision, text, tower = shape.vision, "model.language_model.", "model.visual."
    yield f"{text}embed_tokens.weight", (shape.vocabulary, shape.dim), 0.02
    for layer in range(shape.layers):
        prefix = f"{text}layers.{layer}."
        yield from decoder_layer(prefix, shape)
        for part in ["q_norm", "k_norm"]:
            yield f"{prefix}self_attn.{part}.weight", (shape.head_dim,), "norm"
    yield f"{text}norm.weight", (shape.dim,), "norm"
    if not shape.tied:
        yield "lm_head.weight", (shape.vocabulary, shape.dim), 3 / shape.dim**0.5
    patch = (vision.dim, 3, 2, vision.patch, vision.patch)
    yield f"{tower}patch_embed.proj.weight", patch, 1 / (6 * vision.patch**2) ** 0.5
    yield f"{tower}patch_embed.proj.bias", (vision.dim,), 0.02
    yield f"{tower}pos_embed.weight", (vision.positions**2, vision.dim), 0.02
    for layer in range(vision.layers):
        name = f"{tower}blocks.{layer}."
        yield from layer_norm(f"{name}norm1", vision.dim)
        yield from linear(f"{name}attn.qkv", 3 * vision.dim, vision.dim, bias=True)
        yield from linear(f"{name}attn.proj", vision.dim, vision.dim, bias=True)
        yield from layer_norm(f"{name}norm2", vision.dim)
        yield from linear(f"{name}mlp.linear_fc1", vision.hidden, vision.dim, bias=True)
        yield from linear(f"{name}mlp.linear_fc2", vision.dim, vision.hidden, bias=True)
    merged = vision.merge**2 * vision.dim
    mergers = [("merger", vision.dim)]
    mergers += [(f"deepstack_merger_list.{index}", merged) for index in range(len(vision.deepstack))]
    for name, normed in mergers:
        yield from layer_norm(f"{tower}{name}.norm", normed)
        yield from linear(f"{tower}{name}.linear_fc1", merged, merged, bias=True)
        yield from linear(f"{tower}{name}.linear_fc2", shape.dim, merged, bias=True)


def smol(shape):
    """As the published SmolVLM files name them."""
    vision, text = shape.vision, "model.text_model."
    yield f"{text}embed_tokens.weight", (shape.vocabulary, shape.dim), 0.02
    for layer in range(shape.layers):
        yield from decoder_layer(f"{text}layers.{layer}.", shape)
    yield f"{text}norm.weight", (shape.dim,), "norm"
    yield "lm_head.weight", (shape.vocabulary, shape.dim), 3 / shape.dim**0.5
    tower = "model.vision_model."
    patch = (vision.dim, 3, vision.patch, vision.patch)
    yield f"{tower}embeddings.patch_embedding.weight", patch, 1 / (3 * vision.patch**2) ** 0.5
    yield f"{tower}embeddings.patch_embedding.bias", (vision.dim,), 0.02
    yield f"{tower}embeddings.position_embedding.weight", (vision.positions, vision.dim), 0.02
    yield from vision_layers(tower, vision)
    yield from layer_norm(f"{tower}post_layernorm", vision.dim)
    joined = vision.shuffle**2 * vision.dim
    yield from linear("model.connector.modality_projection.proj", shape.dim, joined)


def linear(name, rows, columns, bias=False, gain=1.0):
    yield f"{name}.weight", (rows, columns), gain / columns**0.5
    if bias:
        yield f"{name}.bias", (rows,), 0.02


def layer_norm(name, dim):
    yield f"{name}.weight", (dim,), "norm"
    yield f"{name}.bias", (dim,), 0.02


def decoder_layer(prefix, shape):
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    yield f"{prefix}input_layernorm.weight", (shape.dim,), "norm"
    yield from linear(f"{prefix}self_attn.q_proj", queries, shape.dim, gain=1.5)
    yield from linear(f"{prefix}self_attn.k_proj", keys, shape.dim, gain=1.5)
    yield from linear(f"{prefix}self_attn.v_proj", keys, shape.dim)
    yield from linear(f"{prefix}self_attn.o_proj", shape.dim, queries)
    yield f"{prefix}post_attention_layernorm.weight", (shape.dim,), "norm"
    yield from linear(f"{prefix}mlp.gate_proj", shape.hidden, shape.dim)
    yield from linear(f"{prefix}mlp.up_proj", shape.hidden, shape.dim)
    yield from linear(f"{prefix}mlp.down_proj", shape.dim, shape.hidden)


def vision_tower(prefix, vision):
    yield f"{prefix}embeddings.class_embedding", (vision.dim,), 0.02
    patch = (vision.dim, 3, vision.patch, vision.patch)
    yield f"{prefix}embeddings.patch_embedding.weight", patch, 1 / (3 * vision.patch**2) ** 0.5
    yield f"{prefix}embeddings.position_embedding.weight", (vision.positions, vision.dim), 0.02
    yield from layer_norm(f"{prefix}pre_layrnorm", vision.dim)
    yield from vision_layers(prefix, vision)
    yield from layer_norm(f"{prefix}post_layernorm", vision.dim)


def vision_layers(prefix, vision):
    for layer in range(vision.layers):
        name = f"{prefix}encoder.layers.{layer}."
        yield from layer_norm(f"{name}layer_norm1", vision.dim)
        for part in ["q_proj", "k_proj", "v_proj", "out_proj"]:
            yield from linear(f"{name}self_attn.{part}", vision.dim, vision.dim, bias=True)
        yield from layer_norm(f"{name}layer_norm2", vision.dim)
        yield from linear(f"{name}mlp.fc1", vision.hidden, vision.dim, bias=True)
        yield from linear(f"{name}mlp.fc2", vision.dim, vision.hidden, bias=True)
