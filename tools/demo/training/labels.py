"""What each of the 24 × 24 patches of a scene shows: what the vision tower learns from first."""

import numpy as np

from scenes import CHARS, COLORS, GRID, PATCH, SHAPES, SIDE, SIZES

PATCHES = GRID * GRID
ENOUGH_PIXELS = 45  # of the 196 of a patch, for an item to own it
_SLOTS = 32  # more than a scene has items
_rows = np.arange(SIDE) // PATCH
_slot_of_pixel = (_rows[:, None] * GRID + _rows[None]) * _SLOTS


def patch_labels(scene):
    """A dictionary of arrays of PATCHES entries; 0 says that nothing is there.

    shape, color, size: 1 + index of the owner's. centre: an item's centre lies here. cx, cy: where
    the owner's centre is, as a share of the side. char, position: a printed character and its place
    in the text, both from 1. owner: 1 + the item's index. touched: anything at all is here.
    """
    items = scene.items
    pixel_counts = np.bincount(
        (_slot_of_pixel + scene.owners).ravel(), minlength=PATCHES * _SLOTS
    ).reshape(PATCHES, _SLOTS)[:, 1 : len(items) + 1]
    owner, centre = np.zeros(PATCHES, np.int64), np.zeros(PATCHES, np.int64)
    if items:
        best = pixel_counts.argmax(1)
        owner = np.where(pixel_counts[np.arange(PATCHES), best] >= ENOUGH_PIXELS, best + 1, 0)
    for index, item in enumerate(items):
        patch = int(item.cy) // PATCH * GRID + int(item.cx) // PATCH
        owner[patch], centre[patch] = index + 1, 1
    character, position = np.zeros(PATCHES, np.int64), np.zeros(PATCHES, np.int64)
    middles = np.arange(GRID) * PATCH + PATCH / 2
    for c, index, x0, y0, x1, y1 in scene.characters:
        columns = np.where((middles >= x0) & (middles < x1))[0]
        rows = np.where((middles >= y0 - 3) & (middles < y1 + 3))[0]
        patches = (rows[:, None] * GRID + columns).ravel()
        character[patches], position[patches] = CHARS.index(c) + 1, index + 1

    def of_owner(value, kind=np.int64):
        return np.array([0] + [value(item) for item in items], kind)[owner]

    colors = list(COLORS)
    return {
        "shape": of_owner(lambda item: SHAPES.index(item.shape) + 1),
        "color": of_owner(lambda item: colors.index(item.color) + 1),
        "size": of_owner(lambda item: SIZES.index(item.size) + 1),
        "centre": centre,
        "cx": of_owner(lambda item: item.cx / SIDE, np.float32),
        "cy": of_owner(lambda item: item.cy / SIDE, np.float32),
        "char": character,
        "position": position,
        "owner": owner,
        "touched": (pixel_counts.sum(1) > 0) | (character > 0) | (owner > 0),
    }
