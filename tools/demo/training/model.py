"""The demo's network, written for training on a CPU: CLIP tower, projector, Llama decoder.

Weights are f32 and cast to bf16 at each use. The tower stops at the layer that LLaVA reads, and the
decoder takes positions and a mask, so that any subset of the visual tokens and many questions about
one image fit into a row. `to_transformers` makes a LlavaForConditionalGeneration of it.
"""

import math

import torch
import torch.nn.functional as F
from torch import nn

VISION = dict(dim=192, hidden=768, layers=7, heads=3, image=336, patch=14)  # the 7th is never read
TEXT = dict(dim=256, hidden=576, layers=8, heads=4, kv_heads=2, head_dim=64, theta=10000.0)
VOCAB = 1024
VISUAL_TOKENS = (VISION["image"] // VISION["patch"]) ** 2
COMPUTE = torch.bfloat16
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]).view(1, 3, 1, 1)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]).view(1, 3, 1, 1)


def normalize(pixels):
    """Bytes (batch, height, width, 3) to the tower's input (batch, 3, height, width)."""
    return (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


class Linear(nn.Linear):
    def forward(self, x):
        bias = None if self.bias is None else self.bias.to(COMPUTE)
        return F.linear(x.to(COMPUTE), self.weight.to(COMPUTE), bias)


class LayerNorm(nn.LayerNorm):
    def forward(self, x):
        normed = F.layer_norm(x.float(), self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.to(COMPUTE)


class RMSNorm(nn.Module):
    def __init__(self, dim, epsilon=1e-5):
        super().__init__()
        self.weight, self.epsilon = nn.Parameter(torch.ones(dim)), epsilon

    def forward(self, x):
        x = x.float()
        scale = torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.epsilon)
        return (x * scale * self.weight).to(COMPUTE)


class VisionLayer(nn.Module):
    def __init__(self, dim, hidden, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = LayerNorm(dim), LayerNorm(dim)
        self.q, self.k, self.v, self.o = (Linear(dim, dim) for _ in range(4))
        self.fc1, self.fc2 = Linear(dim, hidden), Linear(hidden, dim)

    def forward(self, x):
        batch, rows, dim = x.shape
        y = self.norm1(x)
        q, k, v = (
            f(y).view(batch, rows, self.heads, -1).transpose(1, 2) for f in (self.q, self.k, self.v)
        )
        y = F.scaled_dot_product_attention(q, k, v)
        x = x + self.o(y.transpose(1, 2).reshape(batch, rows, dim))
        y = self.fc1(self.norm2(x))
        return x + self.fc2(y * torch.sigmoid(1.702 * y))


class Vision(nn.Module):
    """The tower up to `hidden_states[-2]`: (batch, patches, dim), the class token dropped."""

    def __init__(self, dim, hidden, layers, heads, image, patch):
        super().__init__()
        self.patch = patch
        self.cls = nn.Parameter(torch.randn(dim) * 0.02)
        self.embed = Linear(3 * patch * patch, dim, bias=False)
        self.positions = nn.Parameter(torch.zeros((image // patch) ** 2 + 1, dim))
        self.pre_norm = LayerNorm(dim)
        self.layers = nn.ModuleList([VisionLayer(dim, hidden, heads) for _ in range(layers)])

    def forward(self, images, keep=None):
        """`keep`: (batch, kept) indices of the patches that are looked at, or all."""
        batch, p = len(images), self.patch
        g = images.shape[-1] // p
        x = images.view(batch, 3, g, p, g, p).permute(0, 2, 4, 1, 3, 5).reshape(batch, g * g, -1)
        positions = self.positions[1:].to(COMPUTE)
        if keep is not None:
            x, positions = x[torch.arange(batch)[:, None], keep], positions[keep]
        cls = (self.cls + self.positions[0]).to(COMPUTE).expand(batch, 1, -1)
        x = self.pre_norm(torch.cat([cls, self.embed(x) + positions], 1))
        for layer in self.layers[:-1]:
            x = layer(x)
        return x[:, 1:]


class DecoderLayer(nn.Module):
    def __init__(self, dim, hidden, heads, kv_heads, head_dim):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        self.norm1, self.norm2 = RMSNorm(dim), RMSNorm(dim)
        self.q, self.k, self.v = (
            Linear(dim, n * head_dim, bias=False) for n in (heads, kv_heads, kv_heads)
        )
        self.o = Linear(heads * head_dim, dim, bias=False)
        self.gate, self.up = (Linear(dim, hidden, bias=False) for _ in range(2))
        self.down = Linear(hidden, dim, bias=False)

    def forward(self, x, cos, sin, mask):
        batch, rows, _ = x.shape
        y = self.norm1(x)
        q = self.q(y).view(batch, rows, self.heads, self.head_dim).transpose(1, 2)
        k, v = (
            f(y).view(batch, rows, self.kv_heads, self.head_dim).transpose(1, 2)
            for f in (self.k, self.v)
        )
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        if rows <= 400:  # plain products beat the fused kernel's backward pass
            scores = torch.matmul(q, k.transpose(-1, -2)).float() * self.head_dim**-0.5
            y = torch.matmul(torch.softmax(scores.masked_fill(~mask, -1e9), -1).to(COMPUTE), v)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.o(y.transpose(1, 2).reshape(batch, rows, -1))
        y = self.norm2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


def rotate(x, cos, sin):
    a, b = x.float().chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1).to(COMPUTE)


class Decoder(nn.Module):
    def __init__(self, vocab, dim, hidden, layers, heads, kv_heads, head_dim, theta):
        super().__init__()
        self.embed = nn.Embedding(vocab, dim)
        self.layers = nn.ModuleList(
            [DecoderLayer(dim, hidden, heads, kv_heads, head_dim) for _ in range(layers)]
        )
        self.norm = RMSNorm(dim)
        self.head = Linear(dim, vocab, bias=False)
        frequencies = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, x, positions, mask):
        """`x` (batch, rows, dim), `positions` (batch, rows), `mask` (batch, 1, rows, rows)."""
        angles = positions[:, None, :, None].float() * self.frequencies
        cos, sin = angles.cos(), angles.sin()
        x = x.to(COMPUTE)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.norm(x)


class Projector(nn.Module):
    def __init__(self, vision_dim, dim):
        super().__init__()
        self.linear1, self.linear2 = Linear(vision_dim, dim), Linear(dim, dim)

    def forward(self, x):
        return self.linear2(F.gelu(self.linear1(x)))


class PatchHead(nn.Module):
    """What every patch shows; only the tower's training has it."""

    PARTS = dict(shape=10, color=9, size=3, centre=2, char=37, position=7, xy=2)

    def __init__(self, dim):
        super().__init__()
        self.norm, self.out = LayerNorm(dim), Linear(dim, sum(self.PARTS.values()))

    def forward(self, x):
        parts = self.out(self.norm(x)).float().split(list(self.PARTS.values()), -1)
        return dict(zip(self.PARTS, parts))


class Llava(nn.Module):
    def __init__(self):
        super().__init__()
        self.vision = Vision(**VISION)
        self.projector = Projector(VISION["dim"], TEXT["dim"])
        self.text = Decoder(VOCAB, **TEXT)
        self.patch_head = PatchHead(VISION["dim"])
        self._initialize()

    @torch.no_grad()
    def _initialize(self):
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2 and name != "vision.positions":
                std = 0.05 if name == "text.embed.weight" else 0.5 / math.sqrt(parameter.shape[1])
                nn.init.normal_(parameter, std=std)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        for layer in self.vision.layers:
            layer.o.weight *= 0.35
            layer.fc2.weight *= 0.35
        for layer in self.text.layers:
            layer.o.weight *= 0.35
            layer.down.weight *= 0.35
        start_as_local_filters(self.vision)
        unread = self.vision.layers[-1]  # the identity
        unread.o.weight.zero_()
        unread.fc2.weight.zero_()


# The tower starts as a soft bank of local filters, all of it trained afterwards: its embedding as
# cosine filters, its positions as sines and cosines, its heads looking at neighbours.

CODE = 64  # width of the position code
FREQUENCIES = torch.logspace(math.log10(2 * math.pi / 48), math.log10(2.0), CODE // 4)
# Where the heads of each layer look, as (rows, columns).
LOOKS = [
    [(-1, 0), (1, 0), (0, 0)],
    [(0, -1), (0, 1), (0, 0)],
    [(-1, -1), (1, 1), (0, 0)],
    [(-1, 1), (1, -1), (0, 0)],
    [(-2, 0), (2, 0), (0, 0)],
    [(0, -2), (0, 2), (0, 0)],
    [(0, 0)] * 3,
]


def start_as_local_filters(vision):
    color_dims = vision.embed.weight.shape[0] - CODE
    vision.embed.weight[:color_dims] = cosine_filters(color_dims, vision.patch)
    vision.embed.weight[color_dims:] *= 0.02
    vision.positions[1:, color_dims:] = position_code(math.isqrt(len(vision.positions) - 1))
    for layer, looks in zip(vision.layers, LOOKS):
        layer.q.weight *= 0.2
        layer.k.weight *= 0.2
        for head, look in enumerate(looks):
            gain = 1.2 if look == (0, 0) else 2.2
            rows = slice(head * CODE, (head + 1) * CODE)
            layer.q.weight[rows, color_dims:] += gain * shifted_code(*look)
            layer.k.weight[rows, color_dims:] += gain * torch.eye(CODE)


def position_code(grid):
    """(grid², CODE): sin y, cos y, sin x, cos x at sixteen frequencies."""
    angles = torch.arange(grid)[:, None] * FREQUENCIES
    code = torch.cat([angles.sin(), angles.cos()], 1)
    rows, columns = code[:, None].expand(-1, grid, -1), code[None].expand(grid, -1, -1)
    return torch.cat([rows, columns], -1).reshape(grid * grid, CODE)


def shifted_code(rows, columns):
    """The matrix that takes the code of (y, x) to that of (y + rows, x + columns)."""
    out, n = torch.zeros(CODE, CODE), CODE // 4
    for base, distance in ((0, rows), (2 * n, columns)):
        for i, frequency in enumerate(FREQUENCIES.tolist()):
            s, c = base + i, base + n + i
            out[s, s] = out[c, c] = math.cos(frequency * distance)
            out[s, c], out[c, s] = math.sin(frequency * distance), -math.sin(frequency * distance)
    return out


def cosine_filters(count, patch):
    """Roughly whitening filters: half of them luma, the others two colour differences."""
    t = torch.arange(patch).float()
    basis = torch.stack([torch.cos(math.pi * (t + 0.5) * u / patch) for u in range(patch)])
    basis = basis / basis.norm(dim=1, keepdim=True)
    order = sorted((u * u + v * v, u, v) for u in range(patch) for v in range(patch))
    quarter = count // 4
    planes = [
        ((0.3, 0.6, 0.1), count // 2),
        ((0.6, -0.6, 0.0), quarter),
        ((-0.35, -0.35, 0.7), count - count // 2 - quarter),
    ]
    filters = []
    for color, share in planes:
        for _, u, v in order[:share]:
            gain = min(6.0, 1 + 1.2 * math.hypot(u, v)) / patch
            plane = torch.outer(basis[u], basis[v]) * gain
            filters.append((torch.tensor(color)[:, None, None] * plane).flatten())
    return torch.stack(filters)


# To and from transformers.


def tensor_names():
    """Triples: our name, the part of the transformers model, the name within that part."""
    names = [
        ("vision.cls", "vision", "embeddings.class_embedding"),
        ("vision.positions", "vision", "embeddings.position_embedding.weight"),
        ("vision.embed.weight", "vision", "embeddings.patch_embedding.weight"),
        ("text.embed.weight", "text", "embed_tokens.weight"),
        ("text.norm.weight", "text", "norm.weight"),
        ("text.head.weight", "head", "weight"),
    ]
    vision_layer = dict(
        norm1="layer_norm1", norm2="layer_norm2", q="self_attn.q_proj", k="self_attn.k_proj",
        v="self_attn.v_proj", o="self_attn.out_proj", fc1="mlp.fc1", fc2="mlp.fc2",
    )  # fmt: skip
    text_layer = dict(
        norm1="input_layernorm", norm2="post_attention_layernorm", q="self_attn.q_proj",
        k="self_attn.k_proj", v="self_attn.v_proj", o="self_attn.o_proj", gate="mlp.gate_proj",
        up="mlp.up_proj", down="mlp.down_proj",
    )  # fmt: skip
    for end in ("weight", "bias"):
        names.append((f"vision.pre_norm.{end}", "vision", f"pre_layrnorm.{end}"))
        names += [(f"projector.linear{i}.{end}", "projector", f"linear_{i}.{end}") for i in (1, 2)]
        for i in range(VISION["layers"]):
            for ours, theirs in vision_layer.items():
                theirs = f"encoder.layers.{i}.{theirs}.{end}"
                names.append((f"vision.layers.{i}.{ours}.{end}", "vision", theirs))
    for i in range(TEXT["layers"]):
        for ours, theirs in text_layer.items():
            names.append((f"text.layers.{i}.{ours}.weight", "text", f"layers.{i}.{theirs}.weight"))
    return names


def parts(theirs):
    tower = theirs.model.vision_tower
    return {
        "vision": getattr(tower, "vision_model", tower),
        "projector": theirs.model.multi_modal_projector,
        "text": theirs.model.language_model,
        "head": theirs.lm_head,
    }


def to_transformers(net, image_token, pad_token):
    """A LlavaForConditionalGeneration with these weights, in f16."""
    from transformers import (
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
    )

    special = dict(bos_token_id=1, eos_token_id=2, pad_token_id=pad_token)
    vision = CLIPVisionConfig(
        hidden_size=VISION["dim"], intermediate_size=VISION["hidden"],
        num_hidden_layers=VISION["layers"], num_attention_heads=VISION["heads"],
        image_size=VISION["image"], patch_size=VISION["patch"], projection_dim=VISION["dim"],
        hidden_act="quick_gelu", layer_norm_eps=1e-5,
    )  # fmt: skip
    text = LlamaConfig(
        vocab_size=VOCAB, hidden_size=TEXT["dim"], intermediate_size=TEXT["hidden"],
        num_hidden_layers=TEXT["layers"], num_attention_heads=TEXT["heads"],
        num_key_value_heads=TEXT["kv_heads"], head_dim=TEXT["head_dim"],
        max_position_embeddings=2048, rms_norm_eps=1e-5, rope_theta=TEXT["theta"],
        tie_word_embeddings=False, **special,
    )  # fmt: skip
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=image_token,
        projector_hidden_act="gelu", vision_feature_layer=-2,
        vision_feature_select_strategy="default", image_seq_length=VISUAL_TOKENS,
        tie_word_embeddings=False, **special,
    )  # fmt: skip
    theirs = LlavaForConditionalGeneration(config)
    states = {part: module.state_dict() for part, module in parts(theirs).items()}
    missing = {
        (part, name)
        for part, state in states.items()
        for name in state
        if "post_layernorm" not in name and "position_ids" not in name
    }
    ours = net.state_dict()
    with torch.no_grad():
        for name, part, their_name in tensor_names():
            tensor = states[part][their_name]
            tensor.copy_(ours[name].view_as(tensor))
            missing.remove((part, their_name))
    assert not missing, missing
    return theirs.to(torch.float16).eval()


def from_transformers(folder):
    """The network of a saved checkpoint, computing in f32, and the transformers model."""
    global COMPUTE
    from transformers import LlavaForConditionalGeneration

    COMPUTE = torch.float32
    theirs = LlavaForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    states = {part: module.state_dict() for part, module in parts(theirs).items()}
    net = Llava().eval()
    ours = net.state_dict()
    for name, part, their_name in tensor_names():
        ours[name].copy_(states[part][their_name].view_as(ours[name]))
    return net, theirs
