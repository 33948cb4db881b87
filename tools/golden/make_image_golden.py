#!/usr/bin/env python3
"""Makes Tests/Golden/images: awkward images, and what Hugging Face's image processors make of them.

    tools/golden/make_image_golden.py [--check]

Needs transformers 5.23, pillow 13 and numpy, no torchvision (versions are stored in cases.json).
Expected pixels: `transformers.image_utils.load_image` (EXIF, `convert("RGB")`), then
`CLIPImageProcessorPil` or `LlavaImageProcessorPil`; bytes before normalising, or f32 after it. A case
with `rows` holds only those rows. 16-bit grey is the stated deviation: Pillow clips it, we keep the
high byte, so its expectation comes from the image of high bytes.
"""

import argparse
import hashlib
import io
import json
import pathlib
import struct
import zlib

import numpy as np
import PIL
import transformers
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

FOLDER = pathlib.Path(__file__).resolve().parents[2] / "Tests" / "Golden" / "images"
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]


def scene(width, height, channels, seed):
    """Smooth waves with hard edges and some noise: neither resizing nor JPEG finds it easy."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    planes = []
    for _ in range(channels):
        fx, fy, phase = random.uniform(0.02, 0.3, 3)
        plane = 127 + 90 * np.sin(fx * x + phase) * np.cos(fy * y)
        plane[(x // 7 + y // 5) % 4 == 0] = random.integers(0, 256)
        planes.append(plane + random.normal(0, 6, plane.shape))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def image(mode, width, height, seed):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = scene(width, height, channels, seed)
    return Image.fromarray(pixels[..., 0] if channels == 1 else pixels, mode)


def encoded(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def jpeg(width, height, seed, mode="RGB", orientation=None, **options):
    if orientation:
        exif = Image.Exif()
        exif[0x0112] = orientation
        options["exif"] = exif
    return encoded(image(mode, width, height, seed), "JPEG", quality=85, **options)


def keyed(width, height, channels, seed, key):
    """A scene with holes of one colour."""
    pixels = scene(width, height, channels, seed)
    pixels[(pixels[..., :1] < 70).repeat(channels, -1)] = 0
    pixels[pixels[..., 0] == 0] = key
    return pixels


def xmp_oriented(width, height, seed, orientation):
    text = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="{orientation}"/></x:xmpmeta>'
    return jpeg(width, height, seed, xmp=text.encode())


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(
        ">I", zlib.crc32(name + body)
    )


ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]


def png(rows, width, depth, color, interlaced=False, extra=()):
    """A PNG from samples `(height, width, channels)`: for the kinds that Pillow does not write."""
    rows = np.asarray(rows)

    def lines(part):
        out = b""
        for row in part:
            flat = row.reshape(-1)
            if depth == 16:
                body = flat.astype(">u2").tobytes()
            elif depth == 8:
                body = flat.astype(np.uint8).tobytes()
            else:
                bits = "".join(format(int(v), f"0{depth}b") for v in flat)
                bits += "0" * (-len(bits) % 8)
                body = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
            out += b"\0" + body
        return out

    if interlaced:
        parts = (rows[y0::dy, x0::dx] for x0, y0, dx, dy in ADAM7)
        data = b"".join(lines(part) for part in parts if part.size)
    else:
        data = lines(rows)
    header = struct.pack(">IIBBBBB", width, len(rows), depth, color, 0, 0, int(interlaced))
    chunks = [chunk(b"IHDR", header), *(chunk(*part) for part in extra)]
    chunks += [chunk(b"IDAT", zlib.compress(data, 9)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def wide(width, height, channels, seed):
    """16-bit samples whose low bytes are no copies of the high ones."""
    high = scene(width, height, channels, seed).astype(np.uint16)
    low = np.random.default_rng(seed + 1).integers(0, 256, high.shape, dtype=np.uint16)
    return high << 8 | low


def palette(count, seed):
    return np.random.default_rng(seed).integers(0, 256, 3 * count, dtype=np.uint8).tobytes()


def exif_chunk(orientation):
    return b"eXIf", b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + struct.pack(">HHI", orientation, 0, 0)


def images():
    """Name → bytes."""
    files = {
        "baseline.jpg": jpeg(75, 50, 1),
        "fullchroma.jpg": jpeg(50, 61, 2, subsampling=0),
        "halfchroma.jpg": jpeg(61, 47, 3, subsampling=1),
        "progressive.jpg": jpeg(64, 83, 4, progressive=True),
        "restarts.jpg": jpeg(90, 41, 5, restart_marker_blocks=2),
        "grey.jpg": jpeg(45, 70, 6, mode="L"),
        "grey_progressive.jpg": jpeg(45, 33, 7, mode="L", progressive=True),
        "cmyk.jpg": jpeg(52, 40, 8, mode="CMYK"),
        "xmp_orientation_6.jpg": xmp_oriented(53, 38, 9, 6),
        "one_pixel.jpg": jpeg(1, 1, 10),
        "tall.png": encoded(image("RGB", 1, 200, 11), "PNG"),
        "flat.jpg": jpeg(500, 3, 12),
        "long_orientation_8.jpg": jpeg(400, 9, 13, orientation=8),
        "small.png": encoded(image("RGB", 9, 7, 14), "PNG"),
        "square.png": encoded(image("RGB", 56, 56, 15), "PNG"),
        "large.jpg": jpeg(430, 371, 16),
        "large_orientation_6.jpg": jpeg(360, 290, 17, orientation=6),
        "alpha.png": encoded(image("RGBA", 44, 57, 18), "PNG"),
        "grey_alpha.png": encoded(image("LA", 57, 44, 19), "PNG"),
        "grey.png": encoded(image("L", 39, 51, 20), "PNG"),
        "exif_orientation_5.png": png(
            scene(47, 29, 3, 21), 47, 8, 2, extra=[exif_chunk(5)]
        ),
        "bits_1.png": png(scene(61, 40, 1, 22) >> 7, 61, 1, 0),
        "bits_2.png": png(scene(41, 60, 1, 23) >> 6, 41, 2, 0),
        "bits_4.png": png(scene(33, 35, 1, 24) >> 4, 33, 4, 0),
        "grey_16.png": png(wide(40, 53, 1, 25), 40, 16, 0),
        "rgb_16.png": png(wide(53, 40, 3, 26), 53, 16, 2),
        "grey_alpha_16.png": png(wide(31, 37, 2, 27), 31, 16, 4),
        "rgba_16.png": png(wide(37, 31, 4, 28), 37, 16, 6),
        "palette_trns.png": png(
            scene(46, 45, 1, 29), 46, 8, 3,
            extra=[(b"PLTE", palette(256, 30)), (b"tRNS", bytes(range(0, 200)))],
        ),
        "palette_1.png": png(
            scene(50, 44, 1, 31) >> 7, 50, 1, 3, extra=[(b"PLTE", palette(2, 32))]
        ),
        "palette_4.png": png(
            scene(43, 44, 1, 33) >> 4, 43, 4, 3,
            extra=[(b"PLTE", palette(16, 34)), (b"tRNS", b"\0\x80")],
        ),
        "rgb_trns.png": png(
            keyed(40, 40, 3, 35, [64, 32, 96]), 40, 8, 2,
            extra=[(b"tRNS", b"\0\x40\0\x20\0\x60")],
        ),
        "grey_trns.png": png(
            keyed(40, 43, 1, 36, [99]), 40, 8, 0, extra=[(b"tRNS", b"\0\x63")]
        ),
        "bits_1_trns.png": png(
            scene(45, 40, 1, 42) >> 7, 45, 1, 0, extra=[(b"tRNS", b"\0\0")]
        ),
        "interlaced_trns.png": png(
            keyed(41, 39, 3, 43, [1, 2, 3]), 41, 8, 2, interlaced=True,
            extra=[(b"tRNS", b"\0\x01\0\x02\0\x03")],
        ),
        "portrait.png": encoded(image("L", 40, 170, 44), "PNG"),
        "landscape_orientation_6.jpg": jpeg(180, 50, 45, orientation=6),
        "interlaced.png": png(scene(59, 37, 3, 37), 59, 8, 2, interlaced=True),
        "interlaced_palette.png": png(
            scene(37, 59, 1, 38) >> 4, 37, 4, 3, interlaced=True,
            extra=[(b"PLTE", palette(16, 39))],
        ),
        "interlaced_narrow.png": png(scene(3, 2, 1, 40), 3, 8, 0, interlaced=True),
        "gamma.png": png(
            scene(40, 36, 3, 41), 40, 8, 2, extra=[(b"gAMA", struct.pack(">I", 100000))]
        ),
    }
    for orientation in range(1, 9):
        files[f"orientation_{orientation}.jpg"] = jpeg(66, 42, 50, orientation=orientation)
    return files


def loaded(name, path):
    if name == "grey_16.png":
        high = np.asarray(Image.open(path)).astype(np.uint16) >> 8
        return Image.fromarray(high.astype(np.uint8), "L").convert("RGB")
    return load_image(str(path))


def expected(case, image):
    kind = LlavaImageProcessorPil if case["fit"] == "pad" else CLIPImageProcessorPil
    target = case["resize_to"]
    stretch = case["fit"] == "stretch"
    processor = kind(
        size={"height": target, "width": target} if stretch else {"shortest_edge": target},
        resample=case["filter"],
        crop_size={"height": case["side"], "width": case["side"]},
        do_pad=case["fit"] == "pad",
        image_mean=MEAN,
        image_std=STD,
        do_rescale=case["normalized"],
        do_normalize=case["normalized"],
    )
    pixels = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
    assert pixels.shape == (3, case["side"], case["side"]), pixels.shape
    assert pixels.dtype == (np.float32 if case["normalized"] else np.uint8), pixels.dtype
    return pixels[:, case["rows"]] if case["rows"] else pixels


def cases(names):
    def case(file, side=28, fit="crop", filter=3, resize_to=None, normalized=False, rows=()):
        return {
            "file": file, "side": side, "fit": fit, "filter": filter,
            "resize_to": resize_to or side, "normalized": normalized, "rows": list(rows),
        }

    for name in names:
        if name.startswith("large"):
            yield case(name, 336, rows=range(5, 336, 55))
            yield case(name, 336, fit="pad", rows=range(0, 336, 67))
        else:
            yield case(name)
    for name in ["baseline.jpg", "tall.png", "flat.jpg", "small.png", "orientation_7.jpg", "cmyk.jpg",
                 "long_orientation_8.jpg", "one_pixel.jpg", "portrait.png", "orientation_2.jpg", "orientation_3.jpg"]:
        yield case(name, fit="pad")
        yield case(name, fit="stretch")
    for name in ["baseline.jpg", "small.png", "orientation_6.jpg", "flat.jpg"]:
        yield case(name, filter=2)
        yield case(name, 30, resize_to=21)
        yield case(name, 21, resize_to=40, filter=2)
        yield case(name, 29, resize_to=18, fit="pad")
    yield case("square.png", 56)
    for name in ["baseline.jpg", "alpha.png", "orientation_5.jpg"]:
        yield case(name, 14, normalized=True)


def build():
    """Path → bytes of the whole folder."""
    files = images()
    out = dict(files)
    FOLDER.mkdir(parents=True, exist_ok=True)
    listed, values = [], b""
    for case in cases(sorted(files)):
        path = FOLDER / case["file"]
        path.write_bytes(files[case["file"]])
        image = loaded(case["file"], path)
        pixels = expected(case, image)
        case |= {"width": image.width, "height": image.height, "offset": len(values)}
        values += pixels.tobytes()
        listed.append(case)
    lines = ",\n".join("    " + json.dumps(case) for case in listed)
    out["cases.json"] = (
        f'{{\n  "transformers": "{transformers.__version__}",\n  "pillow": "{PIL.__version__}",\n'
        f'  "mean": {MEAN},\n  "std": {STD},\n  "cases": [\n{lines}\n  ]\n}}\n'
    ).encode()
    out["expected.bin"] = values
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="only compare with what is there")
    arguments = parser.parse_args()
    old = {p.name: p.read_bytes() for p in FOLDER.glob("*")} if FOLDER.exists() else {}
    new = build()
    if arguments.check:
        changed = sorted(n for n in old.keys() | new.keys() if old.get(n) != new.get(n))
        for name, body in old.items():
            (FOLDER / name).write_bytes(body)
        raise SystemExit(f"changed: {', '.join(changed)}" if changed else 0)
    for name in old.keys() - new.keys():
        (FOLDER / name).unlink()
    for name, body in new.items():
        (FOLDER / name).write_bytes(body)
    total = sum(map(len, new.values()))
    digest = hashlib.sha256(b"".join(new[n] for n in sorted(new))).hexdigest()
    print(f"{len(new)} files, {total} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
