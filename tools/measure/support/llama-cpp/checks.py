"""Whether both programs compute the same model: their logits behind the same rows, before any timing."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from vocabulary import token_ids

# Both quantize activations, each in its way, so not to the last bit.
LEAST = 0.99


def correlation(a, b):
    return float(np.corrcoef(a, b)[0, 1])


class Check:
    """Logits of both programs behind the same rows, in `folder`."""

    def __init__(self, pioedge, model, metadata, folder):
        self.command = [pioedge, "run", model, "--raw", "--max-tokens", "1"]
        self.metadata, self.folder = metadata, folder

    def ours(self, before, after="", picture=None, mirrored=False):
        file, text = self.folder / "ours.f32", before + (picture.placeholder() if picture else "") + after
        command = [*self.command, "--dump-logits", file, text]
        if picture:
            path = picture.mirrored(self.folder) if mirrored else picture.path
            command += ["--image", path, *picture.options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return np.fromfile(file, "<f4")

    def theirs(self, peer, before, after="", picture=None):
        file, begin = self.folder / "theirs.f32", token_ids(self.metadata, "")
        peer.ask(
            op="check", before=token_ids(self.metadata, before),
            after=token_ids(self.metadata, after)[len(begin) :], out=str(file),
            image=picture and str(picture.path),
        )  # fmt: skip
        return np.fromfile(file, "<f4")


def compare_logits(pioedge, model, peers, picture, metadata):
    """Ends the program where the two disagree; returns what it prints.

    `peers`: functions that start one, by the kind of tower; a single one named None where there is no image.
    """
    lines, same = [], True

    def say(line):
        lines.append(f"logits, {line}")
        print(lines[-1], flush=True)

    def judge(name, a, b):
        nonlocal same
        found = correlation(a, b)
        same = same and found >= LEAST
        say(f"{name}: correlation {found:.4f}, spread {a.std():.2f}, {b.std():.2f}")

    with tempfile.TemporaryDirectory() as folder:
        check = Check(pioedge, model, metadata, Path(folder))
        text, image = check.ours("ABCDE"), None
        for kind, start in peers.items():
            peer = start()
            if kind == next(iter(peers)):
                judge("text", text, check.theirs(peer, "ABCDE"))
            if kind:
                image = check.ours("AB", "CD", picture) if image is None else image
                judge(f"image, peer {kind}", image, check.theirs(peer, "AB", "CD", picture))
            peer.close()
        if image is not None:
            # How much the last row knows of the image: what a wrong model would come to.
            other = correlation(image, check.ours("AB", "CD", picture, mirrored=True))
            say(f"image, ours beside ours of the mirrored image: correlation {other:.4f}")
    if not same:
        sys.exit("tools/measure/llama-cpp: the two do not compute the same model")
    return lines
