"""Questions about a scene, in eight families, with the one right answer to each."""

import numpy as np

from scenes import COLORS, SHAPES, SIDE

# How often a family is asked; texts and captions only once per image.
SHARES = {
    "existence": 0.18,
    "attribute": 0.19,
    "count": 0.20,
    "relation": 0.16,
    "position": 0.09,
    "extreme": 0.07,
    "text": 0.06,
    "caption": 0.05,
}
FAMILIES = list(SHARES)


def make_questions(scene, rng, count):
    """At most `count` different (family, question, answer) about a scene."""
    if not scene.items:
        return []
    cumulative = np.cumsum(list(SHARES.values()))
    out, seen = [], set()
    for _ in range(count * 12):
        if len(out) == count:
            break
        index = int(np.searchsorted(cumulative, rng.random() * cumulative[-1]))
        family = FAMILIES[min(index, len(FAMILIES) - 1)]
        made = _MAKERS[family](scene, rng)
        key = family if family in ("caption", "text") else made and made[0]
        if made is None or key in seen:
            continue
        seen.add(key)
        out.append((family, *made))
    return out


def prompt(question):
    """The one-turn prompt that the model was trained on."""
    return f"USER: <image>\n{question} ASSISTANT:"


def _pick(rng, choices):
    return choices[int(rng.integers(len(choices)))]


def _a(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def _plural(noun):
    return noun + ("es" if noun.endswith("s") else "s")


def _names(items):
    """Every (item, phrase) whose phrase names that item alone."""
    out = []
    for item in items:
        if sum(other.shape == item.shape for other in items) == 1:
            out.append((item, item.shape))
        kind = (item.shape, item.color)
        if sum((other.shape, other.color) == kind for other in items) == 1:
            out.append((item, f"{item.color} {item.shape}"))
    return out


def _existence(scene, rng):
    items, draw, present = scene.items, rng.random(), rng.random() < 0.5
    answer = "Yes" if present else "No"
    if draw < 0.12:
        forms = ["Is there any text in the image?", "Is there text in the picture?"]
        return _pick(rng, forms), "Yes" if scene.text else "No"
    if draw < 0.36:
        there = {item.shape for item in items}
        pool = [shape for shape in sorted(SHAPES) if (shape in there) == present]
        if not pool:
            return None
        what = _a(_pick(rng, pool))
    elif draw < 0.55:
        there = {item.color for item in items}
        pool = [color for color in sorted(COLORS) if (color in there) == present]
        if not pool:
            return None
        color = _pick(rng, pool)
        forms = [f"Is there anything {color}?", f"Is there {_a(color)} object in the image?"]
        return _pick(rng, forms), answer
    else:
        item, share = _pick(rng, items), rng.random()
        color, shape = item.color, item.shape
        if not present:  # mostly half right, so that both halves have to be seen
            color = color if share < 0.4 else _pick(rng, list(COLORS))
            shape = shape if 0.4 <= share < 0.8 else _pick(rng, SHAPES)
            if any((other.color, other.shape) == (color, shape) for other in items):
                return None
        what = _a(f"{color} {shape}")
    forms = [
        f"Is there {what} in the image?",
        f"Is there {what}?",
        f"Can you see {what}?",
        f"Does the image contain {what}?",
    ]
    return _pick(rng, forms), answer


def _attribute(scene, rng):
    items, draw = scene.items, rng.random()
    if draw < 0.45:
        pool = [i for i in items if sum(other.shape == i.shape for other in items) == 1]
        if not pool:
            return None
        item = _pick(rng, pool)
        forms = [
            f"What color is the {item.shape}?",
            f"What is the color of the {item.shape}?",
            f"Which color is the {item.shape}?",
        ]
        return _pick(rng, forms), item.color
    if draw < 0.8:
        pool = [i for i in items if sum(other.color == i.color for other in items) == 1]
        if not pool:
            return None
        item = _pick(rng, pool)
        forms = [
            f"What shape is the {item.color} object?",
            f"What is the {item.color} object?",
            f"What is the shape of the {item.color} thing?",
        ]
        return _pick(rng, forms), item.shape
    pool = _names(items)
    if not pool:
        return None
    item, name = _pick(rng, pool)
    return _pick(rng, [f"Is the {name} small or large?", f"What size is the {name}?"]), item.size


def _count(scene, rng):
    items, draw = scene.items, rng.random()
    if draw < 0.35:
        forms = [
            "How many objects are there?",
            "How many shapes are in the image?",
            "How many objects are in the image?",
        ]
        return _pick(rng, forms), str(len(items))
    absent = rng.random() >= 0.85  # may be absent, that is
    if draw < 0.7:
        shape = _pick(rng, SHAPES) if absent else _pick(rng, items).shape
        what, answer = _plural(shape), sum(item.shape == shape for item in items)
        forms = [f"How many {what} are there?", f"How many {what} are in the image?"]
        return _pick(rng, forms), str(answer)
    color = _pick(rng, list(COLORS)) if absent else _pick(rng, items).color
    forms = [f"How many {color} objects are there?", f"How many {color} shapes are in the image?"]
    return _pick(rng, forms), str(sum(item.color == color for item in items))


def _relation(scene, rng):
    names = _names(scene.items)
    if len(scene.items) < 2 or len(names) < 2:
        return None
    (a, a_name), (b, b_name) = _pick(rng, names), _pick(rng, names)
    if a is b:
        return None
    unit, draw = scene.width / SIDE, rng.random()
    if draw >= 0.84:
        return _neighbour(scene, rng, b, b_name)
    # Pairs that lie too close along the axis to be told apart are not asked about.
    sideways = draw < 0.3 or 0.6 <= draw < 0.72
    distance = a.cx - b.cx if sideways else a.cy - b.cy
    if abs(distance) < 28 * unit:
        return None
    first, second = ("left", "right") if sideways else ("above", "below")
    true = first if distance < 0 else second
    if draw >= 0.6:
        ending = "of " if sideways else ""
        return f"Is the {a_name} {first} or {second} {ending}the {b_name}?", true
    asked = _pick(rng, [first, second])
    phrase = _pick(rng, [f"to the {asked} of", f"{asked} of"]) if sideways else asked
    return f"Is the {a_name} {phrase} the {b_name}?", "Yes" if asked == true else "No"


def _neighbour(scene, rng, item, name):
    """What is on one side of an item, where it is one thing only."""
    unit = scene.width / SIDE
    side = _pick(rng, ["left", "right", "above", "below"])
    sign = 1 if side in ("left", "above") else -1
    along = (lambda i: i.cx) if side in ("left", "right") else (lambda i: i.cy)
    others = [other for other in scene.items if other is not item]
    distances = [sign * (along(item) - along(other)) for other in others]
    there = [other for other, d in zip(others, distances) if d > 24 * unit]
    if len(there) != 1 or any(abs(d) <= 24 * unit for d in distances):
        return None
    phrase = f"to the {side} of" if side in ("left", "right") else side
    return f"What is {phrase} the {name}?", f"{there[0].color} {there[0].shape}"


def _position(scene, rng):
    names = _names(scene.items)
    if not names:
        return None
    item, name = _pick(rng, names)
    x, y = item.cx / scene.width, item.cy / scene.height
    if min(abs(v - third) for v in (x, y) for third in (1 / 3, 2 / 3)) < 0.035:
        return None
    column, row = ("left", "", "right")[int(x * 3)], ("top", "", "bottom")[int(y * 3)]
    answer = " ".join(word for word in (row, column) if word) or "center"
    return _pick(rng, [f"Where is the {name}?", f"Where is the {name} in the image?"]), answer


def _extreme(scene, rng):
    if len(scene.items) < 2:
        return None
    ends = {
        "leftmost": lambda i: i.cx,
        "rightmost": lambda i: -i.cx,
        "top": lambda i: i.cy,
        "bottom": lambda i: -i.cy,
    }
    word = _pick(rng, list(ends))
    first, second = sorted(scene.items, key=ends[word])[:2]
    if ends[word](second) - ends[word](first) < 16 * scene.width / SIDE:
        return None
    forms = [f"What is the {word} object?", f"Which object is the {word} one?"]
    return _pick(rng, forms), f"{first.color} {first.shape}"


def _text(scene, rng):
    if not scene.text:
        return None
    forms = [
        "What does the text say?",
        "What is written in the image?",
        "What text is shown?",
        "Read the text.",
    ]
    forms += {"word": ["What word is written?"], "number": ["What number is shown?"]}.get(
        scene.text_kind, []
    )
    return _pick(rng, forms), scene.text


def _caption(scene, rng):
    items = sorted(scene.items, key=lambda item: item.cx)
    nouns = [_a(f"{item.size} {item.color} {item.shape}") for item in items]
    if len(items) > 4:
        caption = f"There are {len(items)} objects, including "
        caption += f"{nouns[0]}, {nouns[1]} and {nouns[2]}."
    else:
        caption = nouns[0] if len(nouns) == 1 else ", ".join(nouns[:-1]) + " and " + nouns[-1]
        caption = caption[0].upper() + caption[1:] + "."
    if scene.text:
        caption += f" The text says {scene.text}."
    forms = [
        "Describe the image.",
        "What is in the image?",
        "Describe this picture.",
        "What do you see?",
    ]
    return _pick(rng, forms), caption


_MAKERS = {
    "existence": _existence,
    "attribute": _attribute,
    "count": _count,
    "relation": _relation,
    "position": _position,
    "extreme": _extreme,
    "text": _text,
    "caption": _caption,
}
