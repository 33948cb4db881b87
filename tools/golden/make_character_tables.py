#!/usr/bin/env python3
"""Writes the tables of Sources/PIOText, a file each, from the tokenizers library: CharacterRuns,
CombiningClasses, DecompositionKeys, DecompositionScalars and CompositionPairs.

The classes a pre-tokenizer splits by are those of the library's own Unicode version, so they are
asked of the library, character by character, and not taken from the Unicode database at hand.

    python3 tools/golden/make_character_tables.py      # needs tokenizers 0.23.3
"""

import pathlib

import tokenizers
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

OUT = pathlib.Path(__file__).resolve().parents[2] / "Sources" / "PIOText"
SCALARS = [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HEAD = """// swift-format-ignore-file
// Made by tools/golden/make_character_tables.py from tokenizers {version}; do not edit.

"""


def matching(pattern):
    split = pre_tokenizers.Split(Regex(pattern), "removed", invert=True)
    found = set()
    for i in range(0, len(SCALARS), 4096):
        for word, _ in split.pre_tokenize_str("".join(SCALARS[i : i + 4096])):
            found.update(word)
    return found


def digits():
    split = pre_tokenizers.Digits(individual_digits=True)
    found = set()
    for i in range(0, len(SCALARS), 4096):
        for word, _ in split.pre_tokenize_str("a".join(SCALARS[i : i + 4096])):
            if len(word) == 1 and word != "a":
                found.add(word)
    return found


def word_characters():
    """What an added token with single_word may not touch."""
    tokenizer = Tokenizer(models.WordLevel({"x": 0}, unk_token="x"))
    tokenizer.add_tokens([AddedToken("@@", single_word=True)])
    return {c for c in SCALARS if c != "@" and "@@" not in tokenizer.encode("@@" + c).tokens}


def class_runs():
    sets = [matching(r"\p{L}+"), matching(r"\p{N}+"), matching(r"\s+"), digits(), word_characters()]
    runs, previous = [], 0
    for c in SCALARS:
        bits = sum(1 << i for i, members in enumerate(sets) if c in members)
        if bits != previous:
            runs.append((ord(c) << 8) | bits)
            previous = bits
    return runs


def compositions():
    """Combining classes, full decompositions and primary composites, as the library has them."""
    import unicodedata

    nfd, nfc = normalizers.NFD(), normalizers.NFC()
    classes, decomposed, pairs = [], [], []
    for c in SCALARS:
        value = unicodedata.combining(c)
        if not value:
            continue
        # The library's tables may be older than Python's: does it reorder this character at all?
        low, high = "a" + c + "\u0334", "a\u0345" + c
        reorders = nfd.normalize_str(low) != low if value > 1 else nfd.normalize_str(high) != high
        if reorders:
            classes.append((ord(c) << 8) | value)
    for c in SCALARS:
        if 0xAC00 <= ord(c) < 0xAC00 + 11172:
            continue
        parts = nfd.normalize_str(c)
        if parts == c:
            continue
        decomposed.append([ord(c)] + [ord(p) for p in parts])
        if len(parts) > 1 and nfc.normalize_str(parts) == c:
            # The first half of a primary composite is what all but its last character compose to.
            first = nfc.normalize_str(parts[:-1])
            if len(first) == 1:
                pairs.append((ord(first), ord(parts[-1]), ord(c)))
    return classes, decomposed, sorted(pairs)


def write(name, comment, values):
    lines, line = [], " "
    for v in values:
        item = f" {v:#x},"
        if len(line) + len(item) > 98:
            lines.append(line)
            line = " "
        line += item
    lines.append(line)
    body = "\n".join(lines)
    text = HEAD.format(version=tokenizers.__version__)
    text += f"/// {comment}\nlet {name}: [UInt32] = [\n{body}\n]\n"
    (OUT / f"{name[0].upper()}{name[1:]}.swift").write_text(text)


def main():
    write(
        "characterRuns",
        "First scalar << 8 | class bits of every run: 1 letter, 2 number, 4 space, 8 numeric, 16 word.",
        class_runs(),
    )
    classes, decomposed, pairs = compositions()
    flat, index = [], []
    for entry in decomposed:
        index.append((entry[0] << 8) | (len(entry) - 1))
        flat += entry[1:]
    write("combiningClasses", "Scalar << 8 | canonical combining class, where not 0.", classes)
    write("decompositionKeys", "Scalar << 8 | how many scalars it decomposes to, Hangul left out.", index)
    write("decompositionScalars", "The decompositions, one after the other.", flat)
    write("compositionPairs", "First, second, composite; ascending.", [v for pair in pairs for v in pair])


main()
