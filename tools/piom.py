#!/usr/bin/env python3
"""A reader of .piom model files, written from formats/PIOM.md alone: numpy and mmap.

It shares no code with the Swift reader, so that a test can hold the two against each other.

    python3 tools/piom.py inspect FILE [--verify] [--json]
    python3 tools/piom.py dump FILE TENSOR >numbers.f32
"""

import argparse
import json
import math
import mmap
import struct
import sys

try:
    import numpy as np
except ImportError:
    sys.exit("tools/piom.py needs numpy: python3 -m pip install numpy, or apt install python3-numpy")

MASK = (1 << 64) - 1
KINDS = ["f32", "f16", "bf16", "int8", "int4", "int4Affine"]
LAYOUTS = ["rows", "blocks16"]
SECTIONS = ["embedding", "visionEmbedding", "visionLayer", "projector", "decoderLayer", "head", "deepstack"]
INTEGER, FLOAT, STRING, INTEGERS, FLOATS, STRINGS = range(1, 7)

# Key: (name, type). The names are those of formats/PIOM.md, section 5.
KEYS = {
    0x0001: ("text.dim", INTEGER),
    0x0002: ("text.hidden_dim", INTEGER),
    0x0003: ("text.layer_count", INTEGER),
    0x0004: ("text.head_count", INTEGER),
    0x0005: ("text.kv_head_count", INTEGER),
    0x0006: ("text.head_dim", INTEGER),
    0x0007: ("text.vocab_size", INTEGER),
    0x0008: ("text.max_positions", INTEGER),
    0x0009: ("text.rms_norm_epsilon", FLOAT),
    0x000A: ("text.rope_theta", FLOAT),
    0x000B: ("text.rope_scaling", INTEGER),
    0x000C: ("text.rope_attention_factor", FLOAT),
    0x000D: ("text.query_key_value_bias", INTEGER),
    0x000E: ("text.attention_output_bias", INTEGER),
    0x000F: ("text.mlp_bias", INTEGER),
    0x0010: ("text.tied_head", INTEGER),
    0x0011: ("text.sliding_window", INTEGER),
    0x0012: ("text.rope_sections", INTEGERS),
    0x0013: ("text.rope_interleaves", INTEGER),
    0x0014: ("text.query_key_norm", INTEGER),
    0x0101: ("vision.image_size", INTEGER),
    0x0102: ("vision.patch_size", INTEGER),
    0x0103: ("vision.dim", INTEGER),
    0x0104: ("vision.hidden_dim", INTEGER),
    0x0105: ("vision.layer_count", INTEGER),
    0x0106: ("vision.head_count", INTEGER),
    0x0107: ("vision.layer_norm_epsilon", FLOAT),
    0x0108: ("vision.activation", INTEGER),
    0x0109: ("vision.drops_class_token", INTEGER),
    0x010A: ("projector.hidden_dim", INTEGER),
    0x010B: ("projector.activation", INTEGER),
    0x010C: ("projector.bias", INTEGER),
    0x010D: ("projector.shuffle", INTEGER),
    0x010E: ("vision.merge", INTEGER),
    0x010F: ("vision.window", INTEGER),
    0x0110: ("vision.full_layers", INTEGERS),
    0x0111: ("vision.positions_per_side", INTEGER),
    0x0112: ("vision.deepstack_layers", INTEGERS),
    0x0181: ("image.fit", INTEGER),
    0x0182: ("image.filter", INTEGER),
    0x0183: ("image.resize_to", INTEGER),
    0x0184: ("image.rescale_factor", FLOAT),
    0x0185: ("image.mean", FLOATS),
    0x0186: ("image.std", FLOATS),
    0x0187: ("image.pad_color", INTEGER),
    0x0188: ("image.resolutions", INTEGERS),
    0x0189: ("image.longest_edge", INTEGER),
    0x018A: ("image.splits", INTEGER),
    0x018B: ("image.markers", INTEGERS),
    0x018C: ("image.least_pixels", INTEGER),
    0x018D: ("image.most_pixels", INTEGER),
    0x0201: ("prompt.name", STRING),
    0x0202: ("prompt.system_prefix", STRING),
    0x0203: ("prompt.system_suffix", STRING),
    0x0204: ("prompt.default_system", STRING),
    0x0205: ("prompt.user_prefix", STRING),
    0x0206: ("prompt.user_suffix", STRING),
    0x0207: ("prompt.assistant_prefix", STRING),
    0x0208: ("prompt.assistant_suffix", STRING),
    0x0209: ("prompt.image_part", STRING),
    0x020A: ("prompt.adds_begin_token", INTEGER),
    0x020B: ("prompt.text_prefix", STRING),
    0x020C: ("prompt.bare_text_prefix", STRING),
    0x020D: ("prompt.conversation_prefix", STRING),
    0x0301: ("tokens.begin", INTEGER),
    0x0302: ("tokens.end", INTEGERS),
    0x0303: ("tokens.image", INTEGER),
    0x8001: ("provenance.converter", STRING),
    0x8002: ("provenance.recipe", STRING),
    0x8003: ("provenance.sources", STRINGS),
}


class Damaged(Exception):
    """What is wrong with a file, in one line."""


def need(condition, problem):
    if not condition:
        raise Damaged(problem)


def round_up(value, alignment):
    return -(-value // alignment) * alignment


def xxh64(data, seed=0):
    """XXH64. Products that do not depend on each other are numpy's, the chains are Python's."""
    p1, p2, p3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
    p4, p5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5

    def rotate(x, count):
        return (x << count | x >> (64 - count)) & MASK

    def mix(word):
        return rotate(word * p2 & MASK, 31) * p1 & MASK

    view = memoryview(data)
    size, stripes = len(view), len(view) // 32
    if size >= 32:
        lanes = [(seed + p1 + p2) & MASK, (seed + p2) & MASK, seed, (seed - p1) & MASK]
        for start in range(0, stripes, 1 << 15):
            count = min(1 << 15, stripes - start)
            words = np.frombuffer(view, "<u8", 4 * count, 32 * start).reshape(count, 4)
            products = words * np.uint64(p2)
            for lane in range(4):
                x = lanes[lane]
                for product in products[:, lane].tolist():
                    x = (x + product) & MASK
                    x = ((x << 31 | x >> 33) & MASK) * p1 & MASK
                lanes[lane] = x
        a, b, c, d = lanes
        value = (rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18)) & MASK
        for lane in lanes:
            value = ((value ^ mix(lane)) * p1 + p4) & MASK
    else:
        value = (seed + p5) & MASK
    value = (value + size) & MASK
    tail = bytes(view[32 * stripes :])
    while len(tail) >= 8:
        word = int.from_bytes(tail[:8], "little")
        value = (rotate(value ^ mix(word), 27) * p1 + p4) & MASK
        tail = tail[8:]
    if len(tail) >= 4:
        word = int.from_bytes(tail[:4], "little")
        value = (rotate(value ^ word * p1 & MASK, 23) * p2 + p3) & MASK
        tail = tail[4:]
    for byte in tail:
        value = rotate(value ^ byte * p5 & MASK, 11) * p1 & MASK
    value = (value ^ value >> 33) * p2 & MASK
    value = (value ^ value >> 29) * p3 & MASK
    return value ^ value >> 32


class Tensor:
    """A directory entry and the bytes it points to."""

    def __init__(self, name, fields, data):
        self.name = name
        self.offset, self.byte_count, self.checksum, self.rows, self.columns = fields[:5]
        kind, layout, self.group, _, section, self.section_index, _ = fields[5:]
        need(kind < len(KINDS), f"tensor {name}: unknown kind {kind}")
        need(layout < len(LAYOUTS), f"tensor {name}: unknown layout {layout}")
        need(section < len(SECTIONS), f"tensor {name}: unknown section {section}")
        self.kind, self.layout, self.section = KINDS[kind], LAYOUTS[layout], SECTIONS[section]
        need(self.byte_count == self.expected_byte_count(), f"tensor {name}: wrong size")
        self._data = data

    def expected_byte_count(self):
        """The size that kind, layout, group and shape ask for; None where there is no such thing."""
        if self.rows < 1 or self.columns < 1:
            return None
        if self.kind in ("f32", "f16", "bf16"):
            if self.layout != "rows" or self.group != 0:
                return None
            return self.rows * self.columns * (4 if self.kind == "f32" else 2)
        if self.group not in (32, 64, 128):
            return None
        groups = -(-self.columns // self.group)
        if self.layout == "rows":
            return self.rows * groups * (self.group + 2) if self.kind == "int8" else None
        block = {"int8": 16, "int4": 8, "int4Affine": 8}[self.kind] * self.group
        block += 64 if self.kind == "int4Affine" else 32
        return -(-self.rows // 16) * groups * block

    @property
    def data(self):
        """The stored bytes, a view of the mapping."""
        return self._data[self.offset : self.offset + self.byte_count]

    def array(self):
        """The numbers as f32 (rows, columns); damaged scales may make them NaN or infinite."""
        with np.errstate(all="ignore"):
            return self._numbers()

    def _numbers(self):
        raw = np.frombuffer(self.data, np.uint8)
        if self.kind == "f32":
            values = raw.view("<f4").astype(np.float32)
        elif self.kind == "f16":
            values = raw.view("<f2").astype(np.float32)
        elif self.kind == "bf16":
            values = (raw.view("<u2").astype(np.uint32) << 16).view(np.float32)
        elif self.layout == "rows":
            return self._int8_rows(raw)
        else:
            return self._blocks(raw)
        return values.reshape(self.rows, self.columns)

    def _int8_rows(self, raw):
        groups = -(-self.columns // self.group)
        rows = raw.reshape(self.rows, groups * (self.group + 2))
        codes = rows[:, : groups * self.group].astype(np.float32) - 128
        scales = np.ascontiguousarray(rows[:, groups * self.group :]).view("<f2")
        scales = scales.astype(np.float32).repeat(self.group, axis=1)
        return (codes * scales)[:, : self.columns]

    def _blocks(self, raw):
        row_blocks, groups = -(-self.rows // 16), -(-self.columns // self.group)
        blocks = raw.reshape(row_blocks, groups, -1)
        subs = self.group // 32
        if self.kind == "int8":
            size = 512 * subs
            codes = blocks[..., :size].reshape(row_blocks, groups, subs, 8, 16, 4)
        else:
            size = 256 * subs
            packed = blocks[..., :size].reshape(row_blocks, groups, subs, 4, 16, 4)
            codes = np.concatenate([packed & 15, packed >> 4], axis=3)
        # (row block, group, sub-block, j, row, i): the column is 32 sub-block + 4 j + i.
        codes = codes.transpose(0, 4, 1, 2, 3, 5).astype(np.float32)
        codes = codes.reshape(row_blocks * 16, groups, self.group)

        def per_row(start):
            halves = np.ascontiguousarray(blocks[..., start : start + 32]).view("<f2")
            halves = halves.astype(np.float32).transpose(0, 2, 1)
            return halves.reshape(row_blocks * 16, groups, 1)

        scales = per_row(size)
        if self.kind == "int4Affine":
            # One rounding, as fmaf: the product of a code and an f16 is exact in f64.
            exact = codes.astype(np.float64) * scales + per_row(size + 32).astype(np.float64)
            values = exact.astype(np.float32)
        else:
            values = (codes - (128 if self.kind == "int8" else 8)) * scales
        return values.reshape(row_blocks * 16, -1)[: self.rows, : self.columns]


# Feature bits of the header that have a number, and those of them that this reader supports.
SUPPORTED = 0b1111
FEATURES = {
    0: "SmolVLM (Idefics3)",
    1: "Qwen2-VL",
    2: "Qwen2.5-VL",
    3: "Qwen3-VL",
    16: "activations of more than 8 bits",
}


def feature_names(bits):
    names = [name for bit, name in FEATURES.items() if bits >> bit & 1]
    rest = bits & ~sum(1 << bit for bit in FEATURES)
    if rest:
        names.append(f"unknown features (bits 0x{rest:x})")
    return " and ".join(names)


class Model:
    """A .piom file, mapped read-only; raises Damaged where it breaks the format's rules."""

    def __init__(self, path):
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            need(size >= 64, f"header is truncated: {size} of 64 bytes")
            self._map = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        self.byte_count = size
        header = bytes(self._map[:64])
        magic, mark, version, features, length, tensors, names, metadata, tokenizer = struct.unpack(
            "<4sHHQQIIII", header[:40]
        )
        tokenizer_checksum, directory_checksum, header_checksum = struct.unpack("<QQQ", header[40:])
        need(magic == b"PIOM", "not a .piom file")
        need(mark == 0x0102, "not little-endian")
        need(version == 1, f"format version {version} is not supported, only 1")
        need(xxh64(header[:56]) == header_checksum, "header is damaged")
        missing = features & ~SUPPORTED
        need(missing == 0, f"needs support for {feature_names(missing)}, which this reader lacks")
        need(length == size, f"file has {size} bytes, needed {length}")
        self.version = version
        names_start = 64 + 48 * tensors
        metadata_start = round_up(names_start + names, 8)
        metadata_end = metadata_start + metadata
        tokenizer_start = round_up(metadata_end, 64)
        data_start = round_up(tokenizer_start + tokenizer, 65536)
        need(data_start < size, "the first part is longer than the file")
        need(xxh64(self._map[64:metadata_end]) == directory_checksum, "directory is damaged")
        self._need_zeros(names_start + names, metadata_start)
        self._need_zeros(metadata_end, tokenizer_start)
        self._need_zeros(tokenizer_start + tokenizer, data_start)
        self.tokenizer = self._map[tokenizer_start : tokenizer_start + tokenizer]
        need(xxh64(self.tokenizer) == tokenizer_checksum, "tokenizer is damaged")
        self.metadata = self._read_metadata(bytes(self._map[metadata_start:metadata_end]))
        family = 1 if "image.longest_edge" in self.metadata else 0
        if "vision.merge" in self.metadata:
            family = 4 if "vision.window" in self.metadata else 2
            if "vision.positions_per_side" in self.metadata and family == 2:
                family = 8
        need(features == family, f"features are {features}, not those of the model")
        self.tensors = self._read_directory(tensors, bytes(self._map[names_start : names_start + names]))
        self.by_name = {tensor.name: tensor for tensor in self.tensors}
        need(len(self.by_name) == len(self.tensors), "two tensors have one name")
        self._check_places(data_start)

    def __getitem__(self, name):
        return self.by_name[name].array()

    def _need_zeros(self, start, end):
        need(not any(self._map[start:end]), f"padding at {start}...{end} is not zero")

    @staticmethod
    def _read_metadata(data):
        values, offset, last = {}, 0, -1
        while offset < len(data):
            need(offset + 8 <= len(data), "metadata is truncated")
            key, kind, size = struct.unpack_from("<HHI", data, offset)
            need(key > last, f"metadata key 0x{key:x} is out of order")
            value = data[offset + 8 : offset + 8 + size]
            offset += 8 + round_up(size, 8)
            need(len(value) == size and offset <= len(data), "metadata is truncated")
            last = key
            if key not in KEYS:
                need(key >= 0x8000, f"unknown metadata key 0x{key:x}")
                continue
            name, needed = KEYS[key]
            need(kind == needed, f"metadata {name}: type {kind}, needed {needed}")
            values[name] = Model._value(kind, value)
        return values

    @staticmethod
    def _value(kind, data):
        if kind in (INTEGER, INTEGERS):
            list_ = [number for (number,) in struct.iter_unpack("<q", data)]
            return list_[0] if kind == INTEGER else list_
        if kind in (FLOAT, FLOATS):
            list_ = [number for (number,) in struct.iter_unpack("<f", data)]
            return list_[0] if kind == FLOAT else list_
        if kind == STRING:
            return data.decode("utf-8")
        strings, offset = [], 0
        while offset < len(data):
            (size,) = struct.unpack_from("<I", data, offset)
            strings.append(data[offset + 4 : offset + 4 + size].decode("utf-8"))
            offset += 4 + size
        return strings

    def _read_directory(self, count, names):
        tensors, position = [], 0
        for index in range(count):
            fields = struct.unpack_from("<QQQIIBBHHHII", self._map, 64 + 48 * index)
            name = names[position : position + fields[8]].decode("ascii")
            position += fields[8]
            tensors.append(Tensor(name, fields, self._map))
        need(position == len(names), "the names do not fill their place")
        return tensors

    def _check_places(self, end):
        section = None
        for tensor in self.tensors:
            here = (tensor.section, tensor.section_index)
            offset = round_up(end, 64 if here == section else 65536)
            need(tensor.offset == offset, f"tensor {tensor.name}: offset is not {offset}")
            section, end = here, offset + tensor.byte_count
        need(end == self.byte_count, f"file has {self.byte_count} bytes, tensors end at {end}")

    def verify(self):
        """Checks every tensor's checksum and the zeros between tensors."""
        end = None
        for tensor in self.tensors:
            if end is not None:
                self._need_zeros(end, tensor.offset)
            need(xxh64(tensor.data) == tensor.checksum, f"tensor {tensor.name} is damaged")
            end = tensor.offset + tensor.byte_count

    def summary(self):
        """Everything but the tensors' numbers, ready for JSON."""
        return {
            "version": self.version,
            "byte_count": self.byte_count,
            "tokenizer_byte_count": len(self.tokenizer),
            "metadata": self.metadata,
            "tensors": [
                {
                    "name": tensor.name,
                    "rows": tensor.rows,
                    "columns": tensor.columns,
                    "kind": tensor.kind,
                    "layout": tensor.layout,
                    "group": tensor.group,
                    "section": tensor.section,
                    "section_index": tensor.section_index,
                    "offset": tensor.offset,
                    "byte_count": tensor.byte_count,
                    "checksum": f"{tensor.checksum:016x}",
                }
                for tensor in self.tensors
            ],
        }


def inspect(options):
    model = Model(options.file)
    if options.verify:
        model.verify()
    if options.json:
        print(json.dumps(model.summary() | {"verified": options.verify}, ensure_ascii=False))
        return
    for name, value in model.metadata.items():
        print(f"{name:32} {json.dumps(value, ensure_ascii=False)}")
    for tensor in model.tensors:
        shape = f"{tensor.rows} x {tensor.columns}"
        encoding = f"{tensor.kind} {tensor.layout}" + (f" {tensor.group}" if tensor.group else "")
        print(f"{tensor.name:44} {shape:>16} {encoding:20} {tensor.byte_count:>12}")
    weights = math.fsum(tensor.rows * tensor.columns for tensor in model.tensors)
    bits = 8 * math.fsum(tensor.byte_count for tensor in model.tensors) / weights
    print(f"{model.byte_count} bytes, {weights:.0f} weights, {bits:.2f} bits a weight")
    if options.verify:
        print("every checksum is right")


def dump(options):
    model = Model(options.file)
    need(options.tensor in model.by_name, f"there is no tensor {options.tensor}")
    sys.stdout.buffer.write(model[options.tensor].astype("<f4").tobytes())


def main():
    parser = argparse.ArgumentParser(description="Reads .piom model files.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("inspect", help="shows what is in a file")
    command.add_argument("file")
    command.add_argument("--verify", action="store_true", help="checks the tensors' checksums too")
    command.add_argument("--json", action="store_true", help="prints one JSON object")
    command.set_defaults(run=inspect)
    command = commands.add_parser("dump", help="writes a tensor's numbers, f32, row by row")
    command.add_argument("file")
    command.add_argument("tensor")
    command.set_defaults(run=dump)
    options = parser.parse_args()
    try:
        options.run(options)
    except (Damaged, OSError, UnicodeDecodeError, struct.error) as error:
        sys.exit(f"piom.py: {error}")


if __name__ == "__main__":
    main()
