"""A byte-level BPE tokenizer of any size, in the manner of GPT-2: pieces of English letters."""

import itertools
import json
import string

SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
IMAGE = SPECIAL.index("<image>")
# What SmolVLM's prompts have besides.
MARKERS = ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<global-img>"]
MARKERS += [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
# What Qwen-VL's have.
QWEN = ["<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
QWEN_TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or "
    "'image_url' in content %}{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}"
    "Picture {{ image_count.value }}: {% endif %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}"
    "Video {{ video_count.value }}: {% endif %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
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


# By family: the tokens of its prompts, its template, what begins and what ends a text.
KINDS = {
    None: ([], TEMPLATE, "<s>", "</s>"),
    "smol": (MARKERS, SMOL_TEMPLATE, "<|im_start|>", "<end_of_utterance>"),
    "qwen": (QWEN, QWEN_TEMPLATE, "<s>", "<|im_end|>"),
}


def write(folder, vocabulary, kind=None):
    """`tokenizer.json` and what stands beside it, with exactly `vocabulary` tokens."""
    markers, template, begin_text, end_text = KINDS[kind]
    names = SPECIAL + markers
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
    roles = {"unk_token": "<unk>", "bos_token": begin_text, "eos_token": end_text, "pad_token": "<pad>"}
    configuration = roles | {"tokenizer_class": "PreTrainedTokenizerFast", "add_bos_token": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(configuration, indent=2))
    (folder / "chat_template.jinja").write_text(template)
