"""A byte-level BPE tokenizer of any size, in the manner of GPT-2: pieces of English letters."""

import itertools
import json
import string

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
IMAGE = SPECIAL.index("<image>")
# What SmolVLM's prompts have besides.
MARKERS = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>"]
MARKERS += [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
SMOL_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'assistant' %}{{ ' ASSISTANT: ' }}"
    "{% else %}{{ 'USER: ' }}{% endif %}{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] if content['type'] == 'image' %}{{ '<image>\\n' }}"
    "{% endfor %}{% for content in message['content'] if content['type'] == 'text' %}"
    "{{ content['text'] }}{% endfor %}{% endif %}{% if message['role'] == 'assistant' %}{{ '</s>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"
)


def byte_characters():
    """The character that stands for each byte: itself where it prints, else one from U+0100 on."""
    prints = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = itertools.count(0x100)
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def merges(count):
    """The first `count` rules: words of two letters, then of three, and so on."""
    space = byte_characters()[0x20]
    letters = string.ascii_lowercase
    words = [*letters, space]
    rules = []
    while len(rules) < count:
        longer = [(word, letter) for word in words for letter in letters]
        rules += longer
        words = ["".join(pair) for pair in longer]
    return rules[:count]


def write(folder, vocabulary, markers=False):
    """`tokenizer.json` and what stands beside it, with exactly `vocabulary` tokens."""
    names = SPECIAL + (MARKERS if markers else [])
    rules = merges(vocabulary - len(names) - 256)
    pieces = names + byte_characters() + [a + b for a, b in rules]
    special = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    begin = {"SpecialToken": {"id": "<s>", "type_id": 0}}
    text = {"Sequence": {"id": "A", "type_id": 0}}
    state = {
        "version": "1.0",
        "added_tokens": [
            {"id": id, "content": piece, "special": True, **special}
            for id, piece in enumerate(names)
        ],
        "normalizer": None,
        "pre_tokenizer": level,
        "post_processor": None if markers else {
            "type": "TemplateProcessing",
            "single": [begin, text],
            "pair": [begin, text, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
        },
        "decoder": level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {piece: id for id, piece in enumerate(pieces)},
            "merges": [list(rule) for rule in rules],
        },
    }
    (folder / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False))
    ends = ("<|im_start|>", "<end_of_utterance>") if markers else ("<s>", "</s>")
    roles = {"unk_token": "<unk>", "bos_token": ends[0], "eos_token": ends[1], "pad_token": "<pad>"}
    configuration = roles | {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2))
    (folder / "chat_template.jinja").write_text(SMOL_TEMPLATE if markers else TEMPLATE)
