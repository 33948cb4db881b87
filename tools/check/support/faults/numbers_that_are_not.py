"""Numbers that a checkpoint should not have, and pictures of any content."""

import json
import random
import struct
import zlib

# Of 16 bits, as the demo's checkpoint has them.
HALVES = {
    "NaN": b"\x00\x7e",
    "an infinity": b"\x00\x7c",
    "the negative infinity": b"\x00\xfc",
    "the largest number": b"\xff\x7b",
    "a denormal": b"\x01\x00",
    "zero": b"\x00\x00",
}
NONE = ("NaN", "an infinity", "the negative infinity")


def damage(path, pattern, chance):
    """Writes `pattern` into a tensor that the model has: one number of it, a row's worth, or all."""
    data = bytearray(path.read_bytes())
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8 : 8 + size])
    # The last layer of the vision tower is not used.
    names = [name for name in header if name.startswith("language_model.") or name.startswith("multi_modal")]
    name = chance.choice(names)
    start, end = (8 + size + offset for offset in header[name]["data_offsets"])
    share = chance.choice([1, 64, (end - start) // 2])
    for _ in range(share) if share < 100 else [None]:
        place = start + 2 * chance.randrange((end - start) // 2)
        data[place : place + 2] = pattern
    if share >= 100:
        data[start:end] = pattern * share
    path.write_bytes(data)
    return name


def png(width, height, depth, kind, row):
    """A PNG of rows that `row` makes from their number."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(row(y)) for y in range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


GREY, COLOUR, WITH_ALPHA = 0, 2, 6
noise = random.Random(1).randbytes
PICTURES = {
    "black": lambda: png(64, 64, 8, COLOUR, lambda y: bytes(192)),
    "white": lambda: png(64, 64, 8, COLOUR, lambda y: b"\xff" * 192),
    "noise": lambda: png(200, 150, 8, COLOUR, lambda y: noise(600)),
    "noise of 16 bits": lambda: png(100, 100, 16, COLOUR, lambda y: noise(600)),
    "a checkerboard of single pixels": lambda: png(
        128, 128, 8, GREY, lambda y: bytes(255 * ((x + y) % 2) for x in range(128))
    ),
    "one pixel": lambda: png(1, 1, 8, COLOUR, lambda y: b"\x80\x00\xff"),
    "a line": lambda: png(3000, 1, 8, GREY, lambda y: bytes(x % 256 for x in range(3000))),
    "a column": lambda: png(1, 3000, 8, GREY, lambda y: bytes([y % 256])),
    "nothing but transparent": lambda: png(64, 64, 8, WITH_ALPHA, lambda y: b"\xff\x00\xff\x00" * 64),
    "one white pixel on black": lambda: png(336, 336, 8, GREY, lambda y: bytes(255 * (x == y == 168) for x in range(336))),
}
