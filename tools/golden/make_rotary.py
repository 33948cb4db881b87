#!/usr/bin/env python3
"""Writes Tests/Golden/rotary/frequencies.json: inverse frequencies and attention factors.

    tools/golden/make_rotary.py

Each case is a Llama configuration as it may stand in config.json and what transformers' own rotary
embedding makes of it.
"""

import json
from pathlib import Path

from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

TARGET = Path(__file__).resolve().parents[2] / "Tests/Golden/rotary/frequencies.json"
LLAMA3 = dict(low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)
CASES = {
    "default": {},
    "old theta": dict(rope_theta=500000.0),
    "new theta": dict(rope_parameters=dict(rope_type="default", rope_theta=1000000.0)),
    "old linear": dict(rope_scaling=dict(type="linear", factor=2.5)),
    "new linear": dict(
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)
    ),
    "llama3": dict(
        head_dim=128,
        rope_theta=500000.0,
        max_position_embeddings=131072,
        rope_scaling=dict(rope_type="llama3", factor=8.0, **LLAMA3),
    ),
    "llama3, factor 32": dict(
        max_position_embeddings=131072,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=32.0, **LLAMA3),
    ),
    "yarn": dict(
        head_dim=128,
        max_position_embeddings=131072,
        rope_scaling=dict(rope_type="yarn", factor=16.0, original_max_position_embeddings=8192),
    ),
    "yarn with mscale": dict(
        max_position_embeddings=163840,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=10000.0, factor=40.0, beta_fast=64, beta_slow=2,
            original_max_position_embeddings=4096, mscale=0.707, mscale_all_dim=1.0,
        ),
    ),
    "yarn, not truncated": dict(
        max_position_embeddings=131072,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=150000.0, factor=32.0, truncate=False,
            original_max_position_embeddings=4096,
        ),
    ),
    "yarn with attention factor": dict(
        max_position_embeddings=16384,
        rope_parameters=dict(
            rope_type="yarn", rope_theta=10000.0, factor=4.0, attention_factor=1.25,
            original_max_position_embeddings=4096,
        ),
    ),
    "yarn without original length": dict(
        max_position_embeddings=4096,
        rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0),
    ),
}


def main():
    cases = []
    for name, settings in CASES.items():
        config = LlamaConfig(
            hidden_size=256, num_attention_heads=4, intermediate_size=64, num_hidden_layers=1,
            vocab_size=64, **json.loads(json.dumps(settings)),
        )
        rotary = LlamaRotaryEmbedding(config)
        cases.append(
            dict(
                name=name,
                config=dict(hidden_size=256, num_attention_heads=4, **settings),
                head_dim=config.head_dim,
                attention_factor=float(rotary.attention_scaling),
                frequencies=[float(x) for x in rotary.inv_freq],
            )
        )
    TARGET.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    TARGET.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
