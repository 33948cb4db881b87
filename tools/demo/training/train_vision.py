"""First stage: the vision tower alone. Every patch predicts what it shows.

    python -m training.train_vision --minutes 60 --work work
"""

import multiprocessing

import numpy as np
import torch
import torch.nn.functional as F

from scenes import make_scene
from training.labels import patch_labels
from training.loop import end_with_parent, parse_arguments, start_ranks, train
from training.model import VISUAL_TOKENS, Llava, normalize
from training.optimizer import make_optimizers

HALF = VISUAL_TOKENS // 2
TARGETS = ["shape", "color", "size", "centre", "char", "position", "cx", "cy"]
# The empty class is far the most frequent one.
CLASS_WEIGHTS = {
    "shape": [0.12] + [1.0] * 9,
    "color": [0.12] + [1.0] * 8,
    "size": [0.12] + [1.0] * 2,
    "centre": [0.15, 1.5],
    "char": [0.06] + [1.0] * 36,
}
# Entries of these are small, and so are the steps.
SLOW = {"vision.embed.weight": 0.05, "vision.positions": 0.3, "vision.cls": 0.3}


def draw_batches(queue, seed, batch, half):
    """A process that draws scenes; where `half` is set, only the more interesting patches stay."""
    end_with_parent()
    rng = np.random.default_rng(seed)
    while True:
        scenes = [make_scene(rng, dense=rng.random() < 0.8, text_share=0.6) for _ in range(batch)]
        labels = [patch_labels(scene) for scene in scenes]
        targets = {name: np.stack([label[name] for label in labels]) for name in TARGETS}
        keep = None
        if half.value:
            touched = np.stack([label["touched"] for label in labels])
            interest = touched * 2.0 + rng.random((batch, VISUAL_TOKENS))
            keep = np.sort(np.argsort(-interest, 1)[:, :HALF], 1)
            targets = {name: np.take_along_axis(t, keep, 1) for name, t in targets.items()}
        queue.put((np.stack([scene.image for scene in scenes]), targets, keep))


def patch_loss(predicted, targets, weights, want_metrics):
    targets = {name: torch.from_numpy(target) for name, target in targets.items()}
    loss = sum(
        F.cross_entropy(predicted[name].flatten(0, 1), targets[name].flatten(), weight=weight)
        for name, weight in weights.items()
    )
    printed, owned = targets["char"] > 0, targets["shape"] > 0
    if printed.any():
        loss = loss + 0.5 * F.cross_entropy(
            predicted["position"][printed], targets["position"][printed]
        )
    place = torch.stack([targets["cx"], targets["cy"]], -1)
    loss = loss + 4 * F.smooth_l1_loss(predicted["xy"][owned], place[owned], beta=0.05)
    metrics = {}
    if want_metrics:
        for name, where in dict(shape=owned, color=owned, size=owned, char=printed).items():
            right = predicted[name].argmax(-1) == targets[name]
            metrics[name] = right[where].float().mean().item()
    return loss, metrics


def main():
    arguments = parse_arguments(__doc__.splitlines()[0])
    start_ranks(arguments, "vision")
    net = Llava()
    queue, half = multiprocessing.Queue(4), multiprocessing.Value("i", 1)
    seed = arguments.seed + 7919 * arguments.rank
    multiprocessing.Process(
        target=draw_batches, args=(queue, seed, arguments.batch, half), daemon=True
    ).start()
    named = [
        (name, parameter)
        for name, parameter in net.named_parameters()
        if name.startswith(("vision.", "patch_head.")) and ".layers.6." not in name
    ]
    groups = [([(n, p) for n, p in named if n not in SLOW], 1.0)]
    groups += [([(n, p)], SLOW[n]) for n, p in named if n in SLOW]
    weights = {name: torch.tensor(weight) for name, weight in CLASS_WEIGHTS.items()}

    def step(share, want_metrics):
        half.value = int(share < 0.9)  # whole images in the last tenth
        images, targets, keep = queue.get()
        keep = None if keep is None else torch.from_numpy(keep)
        predicted = net.patch_head(net.vision(normalize(images), keep))
        return patch_loss(predicted, targets, weights, want_metrics)

    train(arguments, "vision", net, make_optimizers(groups), step)


if __name__ == "__main__":
    main()
