"""Whether both programs compute the same model: their logits behind the same rows, before any timing."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

# Tokens of the synthetic tokenizer: its byte pieces follow five special ones.
FIRST_BYTE = 5


def token_ids(text):
    """What `pioedge run --raw` makes of letters that no rule joins: capitals, one byte each."""
    from tokenizer import byte_characters

    pieces = byte_characters()
    return [1] + [FIRST_BYTE + pieces.index(letter) for letter in text]


def compare_logits(pioedge, paths, peer_class, images):
    """Ends the program where the two disagree; both quantize activations, so not to the last bit."""
    if "synthetic" not in str(paths["piom"]):
        return
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "synthetic"))
    image = images / "scene-0002-336x336.png"
    with tempfile.TemporaryDirectory() as folder:
        cases = [("text", "ABCDE", "", None)]
        if "f16" in paths:
            cases.append(("image", "AB", "CD", image))
        peer = peer_class(paths["text"], 1, paths.get("f16"))
        for name, before, after, shown in cases:
            ours, theirs = Path(folder) / "ours.f32", Path(folder) / "theirs.f32"
            marker = "<image>" if shown else ""
            command = [pioedge, "run", paths["piom"], "--raw", "--max-tokens", "1"]
            command += ["--dump-logits", ours, before + marker + after]
            command += ["--image", shown] if shown else []
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            peer.ask(
                op="check", before=token_ids(before), after=token_ids(after)[1:], out=str(theirs),
                image=shown and str(shown),
            )  # fmt: skip
            a, b = np.fromfile(ours, "<f4"), np.fromfile(theirs, "<f4")
            correlation = float(np.corrcoef(a, b)[0, 1])
            print(f"logits, {name}: correlation {correlation:.4f}, spread {a.std():.2f}, {b.std():.2f}")
            if correlation < 0.98:
                sys.exit("tools/measure/llama-cpp: the two do not compute the same model")
        peer.close()
