#!/usr/bin/env python3
"""Makes Tests/Golden/splits: what transformers' SmolVLM makes of images of all shapes.

    tools/golden/make_split_golden.py

layouts.json holds, for image sizes and processors: the size after the first resizing, that of what is cut, and the
rows and columns of tiles. pixels.json and pixels.bin hold the tiles of the images of Tests/Golden/images, and of drawn
ones of other sizes, as `Idefics3ImageProcessorPil` cuts them: bytes (tile, channel, y, x), or f32 where normalised.
Drawn images are given by their size: `drawn` below makes them, and the test does the same.
"""

import json
import pathlib

import numpy as np
import transformers
from PIL import Image
from transformers.image_utils import load_image
from transformers.models.idefics3 import image_processing_pil_idefics3 as idefics3
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

ROOT = pathlib.Path(__file__).resolve().parents[2]
FOLDER = ROOT / "Tests/Golden/splits"
IMAGES = ROOT / "Tests/Golden/images"

# Pixels a side of a tile, longest edge, whether images are split.
PROCESSORS = {
    "256M": (512, 2048, True),
    "2.2B": (384, 1536, True),
    "early": (364, 1456, True),
    "one-tile": (512, 512, True),
    "two": (512, 1024, True),
    "odd": (33, 101, True),
    "whole": (384, 1536, False),
    "beyond": (512, 5001, True),
}
SIZES = [
    (1, 1), (2, 1), (1, 2), (3, 7), (17, 16), (100, 100), (224, 224), (512, 512), (640, 480), (480, 640),
    (1920, 1080), (1080, 1920), (1000, 100), (333, 777), (17, 2000), (1280, 720), (1023, 1024), (1024, 1023),
    (2048, 2047), (2047, 2048), (4032, 3024), (65500, 1), (1, 65500), (65500, 977), (977, 65500), (800, 601),
    (801, 600), (640, 427), (427, 640), (1201, 799), (5, 400), (400, 5), (1365, 1024), (1024, 1365), (1366, 768),
    (513, 512), (512, 513), (3, 4), (4, 3), (299, 300),
]  # fmt: skip

# Sizes of drawn images: enlarged and shrunk, long and square, odd and even.
DRAWN = [
    (40, 30), (30, 40), (64, 64), (63, 64), (64, 63), (100, 10), (10, 100), (97, 3), (3, 97), (33, 33), (34, 33),
    (66, 66), (67, 66), (99, 66), (99, 98), (101, 101), (128, 96), (96, 128), (150, 149), (149, 150), (200, 50),
    (50, 200), (1, 1), (2, 1), (1, 2), (1, 60), (60, 1), (17, 90), (90, 17), (160, 120), (120, 160), (111, 37),
]  # fmt: skip


def drawn(width, height):
    y, x = np.mgrid[0:height, 0:width]
    red = (x * 255) // max(1, width - 1)
    green = (x * x * 3 + y * 7) % 256
    blue = 255 * ((x // 3 + y // 5) % 2)
    return Image.fromarray(np.stack([red, green, blue], -1).astype(np.uint8))


def layouts():
    for name, (side, longest, splits) in PROCESSORS.items():
        processor = idefics3.Idefics3ImageProcessorPil(
            size={"longest_edge": longest}, max_image_size={"longest_edge": side}
        )
        made = []

        def resized(image, size, resample=None, made=made):
            made.append(size)
            return np.broadcast_to(np.uint8(0), (3, size.height, size.width))

        for width, height in SIZES:
            image = np.broadcast_to(np.uint8(0), (3, height, width))
            first = idefics3.get_resize_output_image_size(image, longest)
            processor.resize = resized
            made.clear()
            rows = columns = 0
            if splits:
                cut = processor.resize_for_vision_encoder(
                    np.broadcast_to(np.uint8(0), (3, *first)), side
                )
                _, rows, columns = processor.split_images(cut, {"longest_edge": side})
            canvas = [made[0].height, made[0].width] if splits else [side, side]
            yield {
                "processor": name, "width": width, "height": height, "resized": list(first),
                "canvas": canvas, "rows": rows, "columns": columns,
            }  # fmt: skip


def pixels():
    files = [
        "baseline.jpg", "tall.png", "small.png", "square.png", "grey.png", "alpha.png", "one_pixel.jpg",
        "portrait.png", "interlaced.png", "landscape_orientation_6.jpg",
        *(f"orientation_{n}.jpg" for n in range(1, 9)),
    ]  # fmt: skip
    small = {"side": 12, "longest": 36, "splits": True}
    cases = [{"file": file} | small for file in files]
    cases += [{"drawn": size, "side": 11, "longest": 33, "splits": True} for size in DRAWN]
    cases += [{"drawn": size, "side": 11, "longest": 25, "splits": True} for size in DRAWN[::4]]
    cases += [{"drawn": size, "side": 14, "longest": 14, "splits": True} for size in DRAWN[::4]]
    cases += [{"drawn": size, "side": 14, "longest": 56, "splits": False} for size in DRAWN[::4]]
    cases += [{"drawn": (40, 30), "normalized": True} | small]
    values, offset = [], 0
    for index, case in enumerate(cases):
        normalized = case.setdefault("normalized", False)
        kind = [idefics3.Idefics3ImageProcessorPil, SmolVLMImageProcessorPil][index % 2]
        processor = kind(
            size={"longest_edge": case["longest"]}, max_image_size={"longest_edge": case["side"]},
            do_image_splitting=case["splits"], image_mean=[0.5] * 3, image_std=[0.5] * 3,
            do_rescale=normalized, do_normalize=normalized, do_pad=False,
        )  # fmt: skip
        image = load_image(str(IMAGES / case["file"])) if "file" in case else drawn(*case["drawn"])
        tiles = np.asarray(processor(image, return_tensors="np")["pixel_values"][0])
        assert tiles.dtype == (np.float32 if normalized else np.uint8), tiles.dtype
        case |= {"tiles": len(tiles), "offset": offset}
        values.append(tiles.tobytes())
        offset += len(values[-1])
        yield case
    (FOLDER / "pixels.bin").write_bytes(b"".join(values))


def write(name, head, entries):
    lines = ",\n".join("  " + json.dumps(entry) for entry in entries)
    head = json.dumps(head)[:-1]
    (FOLDER / name).write_text(f'{head}, "cases": [\n{lines}\n]}}\n')


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    version = {"transformers": transformers.__version__}
    processors = {
        name: {"side": side, "longest": longest, "splits": splits}
        for name, (side, longest, splits) in PROCESSORS.items()
    }
    write("layouts.json", version | {"processors": processors}, layouts())
    write("pixels.json", version, list(pixels()))


if __name__ == "__main__":
    main()
