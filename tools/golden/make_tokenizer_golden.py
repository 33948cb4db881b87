#!/usr/bin/env python3
"""Writes Tests/Golden/tokenizers: small tokenizers and what the tokenizers library does with them.

    python3 tools/golden/make_tokenizer_golden.py     # needs tokenizers 0.23.3, transformers 5.23

texts.json holds the texts; <name>/tokenizer.json a tokenizer of at most 500 pieces trained here;
<name>/golden.json its ids (two digits of base 32 each) and decodings. The demo's tokenizer is read from tools/demo/checkpoint.
"""

import json
import pathlib
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "Tests" / "Golden" / "tokenizers"
DEMO = ROOT / "tools" / "demo" / "checkpoint" / "tokenizer.json"

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MODERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|NUMBERS| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = MODERN.replace("NUMBERS", r"\p{N}{1,3}")
QWEN2 = MODERN.replace("NUMBERS", r"\p{N}")

CORPUS = [
    "The quick brown fox jumps over the lazy dog. There are three red circles to the left of it.",
    "What is the colour of the square? It's blue, isn't it? They're 12 or 345 or 6789 of them.",
    "How many triangles do you see in the picture? I'll say two; we've counted them twice.",
    "def add(a, b):\n    return a + b\n\nfor i in range(10):\n\tprint(add(i, 2 * i))\n",
    "Größe, Maß, naïve café, œuvre, señor, jalapeño, crème brûlée. Zażółć gęślą jaźń.",
    "Это предложение на русском языке. Ещё одно, и ещё одно.",
    "图片里有几个红色的圆形？三个。这是一个测试。日本語のテキストもあります。",
    "هذا نص باللغة العربية. نعم، ثلاثة دوائر.",
    "한국어 문장도 있습니다. 그림에 무엇이 있나요?",
    "Hello   world  !\r\n\r\nNew   paragraph here.    End.",
]

PIECES = [
    "a", "I", "the", "The", "red circle", "square", "isn't", "IT'S", "we'Ll", "they'RE", "'s", "'S",
    "'ſ", "'", "''", "'t", "'ll", "'l", "'v", "x'm", "don’t", "1", "12", "123", "1234", "3.14159",
    "1,000,000", "½", "²", "Ⅷ", "٣٤٥", "一二三", " ", "  ", "   ", "\t", "\t\t", "\n", "\n\n", "\r\n",
    "\r", " \n", "\n ", " \n \n ", "\u00a0", "\u2003", "\u3000", "\u200b", "\u200d", "\ufeff", "\u0085",
    "é", "e\u0301", "ñ", "n\u0303", "Å", "\u212b", "A\u030a", "ﬁ", "ǆ", "ß", "İ", "ı", "Ω", "\u2126",
    "q\u0307\u0323", "q\u0323\u0307", "\u0344", "\u1e9b\u0323", "a\u0315\u0300\u05ae\u0062",
    "한국", "\u1112\u1161\u11ab", "\u1112\u1161", "각", "\uac00\u11a8", "图片", "日本語", "ガ", "か\u3099",
    "\uf900", "\U0002f800", "العربية", "لا", "שלום", "हिन्दी", "ไทย", "தமிழ்", "བོད", "ქართული",
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🇩🇪", "🏳️‍🌈", "❤️", "🦆🦆", "\U0001f9ff", "𝔘𝔫𝔦", "𐍈", "\U0010ffff", "\ue000",
    ".", "...", "?!", "(a+b)*c", "{\"k\": [1, 2]}", "<b>", "</s>", "<s>", "<unk>", "<pad>", "<image>",
    "<image>\n", " <image> ", "<|eot|>", "<|x|>", "<|x|>y", "<|", "|>", "<0x41>", "<0x0A>", "<0xE4>",
    "[MASK]", " [MASK] ", "[mask]", "word", "words", "sword", " word ", "-word-", "word\u0301", "▁",
    "▁▁", "▁the", "_", "__init__", "foo_bar", "fooBar", "C++", "a\\b", "https://example.org/a?b=1#c",
    "me@example.com", "#tag", "$5.00", "50%", "©®™", "→←", "“quoted”", "—", "…", "\x00", "\x01\x7f",
    "    return x", "if (a && b) {", "}", ";", "0x1F", "1e-5", "user:", "ASSISTANT:", "USER: ",
    "ab", "abab", "ababab", "foo", " foo", "foo ", "foofoo", "naïve", "NAI\u0308VE", "nai\u0308ve",
]


def texts():
    rng = random.Random(20240601)
    out = ["", *PIECES, *CORPUS]
    for _ in range(620):
        count = rng.choice([2, 2, 3, 3, 4, 5, 6])
        out.append(rng.choice(["", "", " "]).join(rng.choice(PIECES) for _ in range(count)))
    scalars = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    for _ in range(150):
        limit = rng.choice([0x80, 0x250, 0x3000, 0x10000, 0x20000, 0x110000])
        pool = [c for c in (rng.choice(scalars) for _ in range(60)) if c < limit] or [97]
        out.append("".join(chr(c) for c in pool[: rng.randint(1, 8)]))
    for _ in range(130):
        words = " ".join(CORPUS).split(" ")
        start = rng.randrange(len(words) - 8)
        out.append(" ".join(words[start : start + rng.randint(1, 8)]))
    out += [" " * 40 + "x", "a" * 100, "ab" * 40, "\n" * 20, "é" * 30, "😀" * 12, "1" * 25, "the " * 20]
    seen = set()
    return [t for t in out if not (t in seen or seen.add(t))]


def train(tokenizer, size, specials, alphabet):
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=specials, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 3, trainer)
    return tokenizer


def byte_level(pre, size=420, **options):
    tokenizer = Tokenizer(models.BPE(**options))
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    return train(tokenizer, size, ["<|eot|>"], pre_tokenizers.ByteLevel.alphabet())


def split(pattern):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def template(begin, id_, end=None, end_id=None):
    ids = [(begin, id_)] + ([(end, end_id)] if end else [])
    return processors.TemplateProcessing(
        single=f"{begin} $A" + (f" {end}" if end else ""), special_tokens=ids
    )


def gpt2():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    tokenizer.add_tokens(
        [
            AddedToken("[MASK]", lstrip=True, normalized=False),
            AddedToken("<|x|>", rstrip=True, normalized=True),
            AddedToken("word", single_word=True),
            AddedToken("<|x|>y", normalized=True),
            AddedToken("foofoo", lstrip=True, rstrip=True),
            AddedToken("图片", normalized=False),
        ]
    )
    return tokenizer


def gpt2_prefix():
    tokenizer = byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True), size=330)
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<image>", lstrip=True)])
    ids = tokenizer.get_vocab()
    tokenizer.post_processor = template("<s>", ids["<s>"], "</s>", ids["</s>"])
    return tokenizer


def llama3():
    tokenizer = byte_level(split(LLAMA3), ignore_merges=True)
    tokenizer.add_special_tokens(["<s>", "<image>"])
    tokenizer.post_processor = processors.Sequence(
        [processors.ByteLevel(trim_offsets=True), template("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


def qwen2():
    tokenizer = byte_level(split(QWEN2), size=400)
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken("naïve", normalized=True), AddedToken("ﬁ", normalized=False)])
    return tokenizer


def digits():
    pre = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    return byte_level(pre, size=350)


def digit_runs():
    pre = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex(GPT2), "removed", invert=True),
            pre_tokenizers.ByteLevel(False, use_regex=False),
        ]
    )
    tokenizer = byte_level(pre, size=330)
    # Without some of its bytes: what is no piece is unknown, alone or fused.
    saved = json.loads(tokenizer.to_str())
    for missing in ["Ã", "ð", "Ģ"]:
        pieces = [p for p in saved["model"]["vocab"] if missing in p]
        for p in pieces:
            del saved["model"]["vocab"][p]
    kept = saved["model"]["vocab"]
    saved["model"]["merges"] = [m for m in saved["model"]["merges"] if "".join(m) in kept]
    saved["model"]["unk_token"] = "<|eot|>"
    return Tokenizer.from_str(json.dumps(saved))


def space_mark_decoder():
    return decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(content=" ", left=1, right=0),
        ]
    )


def characters(size, fallback, **options):
    specials = ["<unk>", "<s>", "</s>"]
    if fallback:
        specials += [f"<0x{b:02X}>" for b in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=fallback, **options))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "always", split=True)
    train(tokenizer, size, specials, [])
    saved = json.loads(tokenizer.to_str())
    saved["added_tokens"] = [t for t in saved["added_tokens"] if t["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.post_processor = template("<s>", 1)
    return tokenizer


def llama2():
    tokenizer = characters(490, True, fuse_unk=True)
    tokenizer.pre_tokenizer = None
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    tokenizer.decoder = space_mark_decoder()
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False)])
    tokenizer.add_tokens([AddedToken("foo", normalized=True), AddedToken("[MASK]", lstrip=True)])
    tokenizer.add_special_tokens([AddedToken("sword", normalized=True)])
    return tokenizer


def metaspace_first():
    tokenizer = characters(470, True, fuse_unk=True, ignore_merges=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "first", split=False)
    tokenizer.decoder = space_mark_decoder()
    tokenizer.add_tokens([AddedToken("<|x|>", rstrip=True), AddedToken("word", single_word=True)])
    return tokenizer


def metaspace_always():
    tokenizer = characters(300, False, fuse_unk=True)
    tokenizer.decoder = decoders.Metaspace("▁", "always", split=True)
    tokenizer.add_tokens([AddedToken("foo bar", lstrip=True), "[MASK]"])
    return tokenizer


def metaspace_never():
    """Some bytes have no piece: an unknown character then waits behind byte pieces."""
    tokenizer = characters(470, True, fuse_unk=False)
    saved = json.loads(tokenizer.to_str())
    for byte in ["<0xF0>", "<0xCC>"]:
        del saved["model"]["vocab"][byte]
    tokenizer = Tokenizer.from_str(json.dumps(saved))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", "never", split=True)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    return tokenizer


def packed(ids):
    digits = "0123456789abcdefghijklmnopqrstuv"
    return "".join(digits[i // 32] + digits[i % 32] for i in ids)


def golden(tokenizer, all_texts):
    ids, decoded = [], {}
    for i, text in enumerate(all_texts):
        found = tokenizer.encode(text, add_special_tokens=True).ids
        ids.append(packed(found))
        back = tokenizer.decode(found, skip_special_tokens=True)
        if back != text:
            decoded[str(i)] = back
    bare = [packed(tokenizer.encode(t, add_special_tokens=False).ids) for t in all_texts[:20]]
    rng = random.Random(7)
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    byte_ids = [i for i in range(size + 3) if (tokenizer.id_to_token(i) or "").startswith("<0x")]
    sequences = []
    for k in range(150):
        pool = byte_ids if byte_ids and k % 3 == 0 else range(size + 3)
        picked = [rng.choice(pool) for _ in range(rng.randint(0, 7))]
        sequences.append(
            [packed(picked), tokenizer.decode(picked), tokenizer.decode(picked, skip_special_tokens=False)]
        )
    return {"ids": ids, "decoded": decoded, "bare": bare, "sequences": sequences}


def fnv(values):
    h = 0xCBF29CE484222325
    for value in values:
        h = ((h ^ value) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def all_characters():
    """Word lengths (bytes) of a probe of every scalar, and NFC of every scalar, as hashes."""
    scalars = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
    steps = {
        "gpt2": pre_tokenizers.Split(Regex(GPT2), "isolated"),
        "llama3": pre_tokenizers.Split(Regex(LLAMA3), "isolated"),
        "qwen2": pre_tokenizers.Split(Regex(QWEN2), "isolated"),
        "eachDigit": pre_tokenizers.Digits(individual_digits=True),
        "digitRuns": pre_tokenizers.Digits(individual_digits=False),
    }
    out = {}
    for name, step in steps.items():
        lengths = []
        for c in scalars:
            probe = f"x{c}1{c}{c} {c}!{c}\n'{c} "
            lengths += [len(w.encode()) for w, _ in step.pre_tokenize_str(probe)]
        out[name] = fnv(lengths)
    nfc = normalizers.NFC()
    composed = bytearray()
    for c in scalars:
        composed += nfc.normalize_str(f"a{c}\u0301\u0323{c}\u0338\n").encode()
    out["nfc"] = fnv(composed)
    return out


MAKERS = [
    gpt2, gpt2_prefix, llama3, qwen2, digits, digit_runs, llama2, metaspace_first,
    metaspace_always, metaspace_never,
]


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n")


def main():
    all_texts = texts()
    assert len(all_texts) >= 1000, len(all_texts)
    write(OUT / "texts.json", all_texts)
    write(OUT / "characters.json", all_characters())
    for maker in MAKERS:
        tokenizer = maker()
        saved = json.loads(tokenizer.to_str())
        write(OUT / maker.__name__ / "tokenizer.json", saved)
        # What is saved is what counts: ids of a loaded tokenizer.
        tokenizer = Tokenizer.from_str(json.dumps(saved))
        assert tokenizer.get_vocab_size() <= 500, maker.__name__
        write(OUT / maker.__name__ / "golden.json", golden(tokenizer, all_texts))
    write(OUT / "demo" / "golden.json", golden(Tokenizer.from_file(str(DEMO)), all_texts))


if __name__ == "__main__":
    main()
