"""The demo model's world: images of up to eight flat shapes and, sometimes, a printed text.

`make_scene` draws one from a random generator and says what is in it; `questions.py` asks about it.
Needs numpy, Pillow and the DejaVu fonts (Debian: fonts-dejavu-core). The same generator state gives
the same pixels on every machine: what a vectorised sine or sum may round differently is rounded
first.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, PATCH, GRID = 336, 14, 24
SHAPES = ["circle", "square", "triangle", "star", "cross", "heart", "ring", "diamond", "moon"]
COLORS = {
    "red": (215, 38, 40),
    "orange": (244, 136, 28),
    "yellow": (246, 222, 50),
    "green": (46, 160, 67),
    "blue": (42, 88, 214),
    "purple": (138, 58, 188),
    "white": (246, 246, 246),
    "black": (22, 22, 24),
}
SIZES = ["small", "large"]
CHARS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
WORDS = (
    "STOP OPEN EXIT CAFE TAXI HOTEL BANK SALE HELLO PARK BUS SHOP NORTH SOUTH EAST WEST CITY "
    "FOOD WATER TEA MILK BREAD FISH GOLD STAR MOON SUN RAIN SNOW FIRE ROAD TOWN ZOO GYM ART "
    "MUSIC BOOK NEWS RADIO PIZZA LEMON APPLE GRAPE KIWI JAZZ QUIZ BOX FOX VAN JET KEY LAB MAP "
    "NET OAK PEN RED SKY TOP WAX YES NO"
).split()
PAD_COLOR = (122, 116, 104)  # CLIP's mean colour, which LLaVA-1.5 pads with
FONT_FOLDER = "/usr/share/fonts/truetype/dejavu/"
FONTS = ["DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono-Bold.ttf", "DejaVuSerif-Bold.ttf"]


@dataclass
class Item:
    """One shape: what it is, where its centre is, and its half extents, in pixels."""

    shape: str
    color: str
    size: str
    cx: float
    cy: float
    half_width: float
    half_height: float


@dataclass
class Scene:
    """An image and what is in it. `text_kind` is "word", "number" or "letters"."""

    width: int
    height: int
    image: np.ndarray
    items: list = field(default_factory=list)
    text: str = ""
    text_kind: str = ""
    owners: np.ndarray = None  # (height, width): 1 + index of the item a pixel belongs to, else 0
    characters: list = field(default_factory=list)  # (character, index, x0, y0, x1, y1)


def make_scene(rng, width=SIDE, height=SIDE, item_count=None, dense=False, text_share=0.35):
    """Draws one random scene; `dense` crowds it, to teach the vision tower more per image."""
    return _Drawing(rng, width, height).scene(item_count, dense, text_share)


def make_scaled_scene(rng, width, height):
    """A scene of another size: drawn with 336 pixels on the long side, then resized, so that
    shapes keep their size relative to the image."""
    factor = SIDE / max(width, height)
    scene = make_scene(
        rng, round(width * factor), round(height * factor), item_count=int(rng.integers(1, 6))
    )
    image = Image.fromarray(scene.image).resize((width, height), Image.BICUBIC)
    for item in scene.items:
        item.cx, item.cy = item.cx / factor, item.cy / factor
        item.half_width, item.half_height = item.half_width / factor, item.half_height / factor
    scene.width, scene.height, scene.image = width, height, np.asarray(image)
    return scene


class _Drawing:
    """A scene while it is drawn, in f32 colours of 0…255."""

    def __init__(self, rng, width, height):
        self.rng, self.width, self.height = rng, width, height
        self.frame = self._choose_frame()
        self.pixels, self.luma = _background(width, height, rng)
        if rng.random() < 0.25:
            self.pixels = _clutter(self.pixels, rng)
        # Now and then squeezed, as by a resize to a square.
        squeezed = [(0.78, 1.0), (1.0, 0.78)][int(rng.integers(2))]
        self.stretch = squeezed if rng.random() < 0.15 else (1.0, 1.0)
        self.owners = np.zeros((height, width), np.int64)
        self.boxes, self.items, self.characters = [], [], []
        self.text = self.text_kind = ""

    def scene(self, item_count, dense, text_share):
        rng = self.rng
        for _ in range(int(rng.integers(1, 4)) if dense else int(rng.random() < text_share)):
            self._print_text(dense)
        if item_count is None:
            shares = [0.12, 0.15, 0.17, 0.16, 0.14, 0.1, 0.08, 0.08]
            item_count = int(rng.integers(9, 15)) if dense else int(rng.choice(8, p=shares)) + 1
        self._add_items(item_count)
        if rng.random() < 0.3:
            grain = _noise_fields()[0][: self.height, : self.width, None]
            self.pixels += grain * float(rng.uniform(2, 8))
        x0, y0, x1, y1 = self.frame
        framed = np.empty_like(self.pixels)
        framed[:] = PAD_COLOR
        framed[y0:y1, x0:x1] = self.pixels[y0:y1, x0:x1]
        image = framed.clip(0, 255).astype(np.uint8)
        return Scene(
            self.width, self.height, image, self.items, self.text, self.text_kind,
            self.owners, self.characters,
        )  # fmt: skip

    def _choose_frame(self):
        """Where content may lie; the rest looks as if the image had been padded to a square."""
        width, height, rng = self.width, self.height, self.rng
        if (width, height) != (SIDE, SIDE) or rng.random() >= 0.12:
            return 0, 0, width, height
        margin = int(rng.integers(21, 76))
        if rng.random() < 0.5:
            return 0, margin, width, height - margin
        return margin, 0, width - margin, height

    def _place(self, width, height, gap=5):
        """A free place for a box, or None after thirty tries."""
        x0, y0, x1, y1 = self.frame
        if x1 - x0 <= width + 2 or y1 - y0 <= height + 2:
            return None
        for _ in range(30):
            x = int(self.rng.integers(x0 + 1, x1 - width))
            y = int(self.rng.integers(y0 + 1, y1 - height))
            if all(
                x + width + gap <= bx0 or bx1 + gap <= x or y + height + gap <= by0 or by1 + gap <= y
                for bx0, by0, bx1, by1 in self.boxes
            ):
                self.boxes.append((x, y, x + width, y + height))
                return x, y
        return None

    def _paint(self, x, y, mask, color, owner=0, shade=0.0):
        """Blends a colour in where the mask says; `shade` darkens the top and lightens the bottom."""
        height, width = mask.shape
        color = np.array(color, np.float32)
        if shade:
            color = color + np.linspace(-shade, shade, height, dtype=np.float32)[:, None, None]
        region = self.pixels[y : y + height, x : x + width]
        region += mask[..., None] * (color - region)
        if owner:
            self.owners[y : y + height, x : x + width][mask > 0.5] = owner

    def _print_text(self, dense):
        rng, draw = self.rng, self.rng.random()
        pick = lambda low, high, most: "".join(  # noqa: E731
            CHARS[int(i)] for i in rng.integers(low, high, int(rng.integers(1, most)))
        )
        if draw < 0.45 and not dense:
            kind, text = "word", WORDS[int(rng.integers(len(WORDS)))]
        elif draw < 0.75:
            kind, text = "number", pick(0, 10, 5)
        else:
            kind, text = "letters", pick(10, 36, 6 if dense else 5)
        font, size = int(rng.integers(len(FONTS))), int(rng.integers(14, 23)) * 2
        glyphs = [_glyph(font, size, c) for c in text]
        width, height = int(sum(g[1] for g in glyphs)) + 4, glyphs[0][0].shape[0]
        place = self._place(width, height)
        if place is None:
            return
        dark = self.luma > 128
        color = rng.uniform(0, 45, 3) if dark else rng.uniform(215, 255, 3)
        if rng.random() < 0.25:  # on a plate
            plate = rng.uniform(215, 250, 3) if dark else rng.uniform(10, 50, 3)
            self.pixels[place[1] : place[1] + height, place[0] : place[0] + width] = plate
            color = rng.uniform(0, 40, 3) if dark else rng.uniform(220, 255, 3)
        x, y = place[0] + 1.0, place[1]
        for index, (character, (mask, advance, ascent)) in enumerate(zip(text, glyphs)):
            column = int(round(x))
            self._paint(column, y, mask[:, : max(0, self.width - column)], color)
            top, bottom = y + ascent - 0.73 * size, y + ascent
            self.characters.append((character, index, x, top, x + advance, bottom))
            x += advance
        self.text, self.text_kind = text, kind

    def _add_items(self, count):
        rng = self.rng
        colors = [
            color
            for color in COLORS
            if not (color == "white" and self.luma > 195)
            and not (color == "black" and self.luma < 75)
            and not (color == "yellow" and self.luma > 225)
        ]
        shapes = SHAPES
        if rng.random() < 0.3:  # few kinds make counting interesting
            shapes = list(rng.choice(SHAPES, 2, replace=False))
            colors = list(rng.choice(colors, 2, replace=False))
        for _ in range(count):
            shape = str(shapes[int(rng.integers(len(shapes)))])
            color = str(colors[int(rng.integers(len(colors)))])
            size = SIZES[int(rng.random() < 0.45)]
            if not self._add_item(shape, color, size) and size == "large":
                self._add_item(shape, color, "small")

    def _add_item(self, shape, color, size):
        rng = self.rng
        low, high = (8, 11) if size == "small" else (16, 22)
        radius = int(rng.integers(low, high)) * 2
        angle = int(rng.integers(-2, 3)) * 5
        if shape == "moon" and rng.random() < 0.5:
            angle += 180
        mask = _sprite(shape, radius, angle, self.stretch)
        height, width = mask.shape
        place = self._place(width, height)
        if place is None:
            return False
        x, y = place
        self.items.append(
            Item(shape, color, size, x + width / 2, y + height / 2, width // 2, height // 2)
        )
        if rng.random() < 0.2 and shape in ("circle", "square", "diamond"):
            self._paint_rim(shape, color, radius, x, y, mask)
        rgb = np.array(COLORS[color], np.float32) + rng.uniform(-16, 16, 3)
        shade = float(rng.uniform(0, 14)) if rng.random() < 0.4 else 0.0
        self._paint(x, y, mask, rgb, len(self.items), shade)
        return True

    def _paint_rim(self, shape, color, radius, x, y, mask):
        """A soft rim of contrast, two pixels wide, where it fits into the image."""
        rim = _sprite(shape, radius + 2, 0, self.stretch)
        y -= (rim.shape[0] - mask.shape[0]) // 2
        x -= (rim.shape[1] - mask.shape[1]) // 2
        fits = 0 <= x <= self.width - rim.shape[1] and 0 <= y <= self.height - rim.shape[0]
        if fits and rim.shape[0] <= mask.shape[0] + 8:
            self._paint(x, y, rim * 0.6, (220,) * 3 if color == "black" else (40,) * 3)


def _polygon(shape, r):
    """The outline of a shape of radius r around (0, 0)."""

    def ring(count, phase, radius):
        angles = (phase + 2 * math.pi * i / count for i in range(count))
        return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]

    if shape == "square":
        a = 0.86 * r
        return [(-a, -a), (a, -a), (a, a), (-a, a)]
    if shape == "diamond":
        return [(0, -r), (0.72 * r, 0), (0, r), (-0.72 * r, 0)]
    if shape == "triangle":
        return [(0, -0.95 * r), (0.98 * r, 0.8 * r), (-0.98 * r, 0.8 * r)]
    if shape == "star":
        outer = ring(5, -math.pi / 2, 1.05 * r)
        inner = ring(5, -math.pi / 2 + math.pi / 5, 0.45 * r)
        return [point for pair in zip(outer, inner) for point in pair]
    if shape == "cross":
        a = 0.32 * r
        right = [(a, -r), (a, -a), (r, -a), (r, a), (a, a), (a, r)]
        return right + [(-x, -y) for x, y in right]
    if shape == "heart":
        points = []
        for i in range(48):
            t = 2 * math.pi * i / 48
            y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
            points.append((16 * math.sin(t) ** 3 / 16.5 * r, -(y + 2) / 15.5 * r))
        return points
    return ring(48, 0.0, r)


_sprites, _glyphs, _fields = {}, {}, []


def _sprite(shape, radius, angle, stretch):
    """The anti-aliased coverage of a shape, 0…1."""
    key = (shape, radius, angle, stretch)
    if key not in _sprites:
        oversampling, half = 4, radius + 3
        side = 2 * half * oversampling
        canvas = Image.new("L", (side, side), 0)
        draw = ImageDraw.Draw(canvas)
        c, a = side / 2, math.radians(angle)
        turn = lambda x, y: (  # noqa: E731
            c + oversampling * (x * math.cos(a) - y * math.sin(a)),
            c + oversampling * (x * math.sin(a) + y * math.cos(a)),
        )
        draw.polygon([turn(x, y) for x, y in _polygon(shape, radius)], fill=255)
        if shape in ("ring", "moon"):  # what is cut out of them
            q, offset = (0.55, 0) if shape == "ring" else (0.85, 0.5 * radius)
            q, (x, y) = q * radius * oversampling, turn(offset, 0)
            draw.ellipse((x - q, y - q, x + q, y + q), fill=0)
        size = tuple(round(2 * half * s) for s in stretch)
        _sprites[key] = np.asarray(canvas.resize(size, Image.BOX), np.float32) / 255
    return _sprites[key]


def _glyph(font, size, character):
    """A character's coverage, its advance, and its ascent."""
    key = (font, size, character)
    if key not in _glyphs:
        path = FONT_FOLDER + FONTS[font]
        face = ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
        advance, ascent = face.getlength(character), face.getmetrics()[0]
        canvas = Image.new("L", (math.ceil(advance) + 2, int(size * 1.2)), 0)
        ImageDraw.Draw(canvas).text((1, 0), character, font=face, fill=255)
        _glyphs[key] = (np.asarray(canvas, np.float32) / 255, advance, ascent)
    return _glyphs[key]


def _noise_fields():
    """Noise of six scales, of deviation 1; images take windows of them."""
    if not _fields:
        rng = np.random.default_rng(12345)
        for scale in (1, 2, 6, 16, 40, 90):
            side = 1024 // scale + 2
            noise = Image.fromarray(rng.standard_normal((side, side)).astype(np.float32))
            noise = np.asarray(noise.resize((1024, 1024), Image.BICUBIC), np.float32)
            deviation = round(float(noise.std(dtype=np.float64)), 6)
            _fields.append(noise / np.float32(deviation))
    return _fields


def _background(width, height, rng):
    """A plain, shaded, striped or chequered ground of a muted colour, and its brightness."""
    draw = rng.random()
    if draw < 0.12:
        base = np.array([238.0, 238, 238]) + rng.uniform(-12, 12)
    elif draw < 0.2:
        base = np.array([45.0, 45, 48]) + rng.uniform(-12, 12)
    else:
        base = rng.uniform(85, 205) + rng.uniform(-26, 26, 3)
    pixels = np.empty((height, width, 3), np.float32)
    pixels[:] = base
    x, y = np.arange(width)[None], np.arange(height)[:, None]
    style = rng.random()
    if style < 0.45:  # gradient
        angle = rng.uniform(0, 2 * math.pi)
        t = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle)
        pixels += (t[..., None] * rng.uniform(-45, 45, 3)).astype(np.float32)
    elif style < 0.6:  # stripes
        period, angle = rng.uniform(12, 60), rng.uniform(0, math.pi)
        t = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / period)
        wave = np.round(np.sin(t), 6) * rng.uniform(4, 14)
        pixels += wave[..., None].astype(np.float32)
    elif style < 0.7:  # chequers
        side = int(rng.integers(14, 50))
        t = ((x // side + y // side) % 2) - 0.5
        pixels += (t[..., None] * rng.uniform(8, 24)).astype(np.float32)
    if rng.random() < 0.75:
        noise = _noise_fields()[int(rng.integers(len(_noise_fields())))]
        top, left = rng.integers(0, 1025 - height), rng.integers(0, 1025 - width)
        window = noise[top : top + height, left : left + width, None]
        pixels += window * rng.uniform(-12, 12, 3).astype(np.float32)
    return pixels, float(0.3 * base[0] + 0.59 * base[1] + 0.11 * base[2])


def _clutter(pixels, rng):
    """A few thin muted lines and dots that nobody would count."""
    height, width = pixels.shape[:2]
    canvas = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(canvas)
    for _ in range(int(rng.integers(2, 9))):
        color = tuple(int(v) for v in rng.uniform(70, 190) + rng.uniform(-15, 15, 3))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        if rng.random() < 0.6:
            end = (x + rng.uniform(-140, 140), y + rng.uniform(-140, 140))
            draw.line((x, y, *end), fill=color, width=1)
        else:
            r = rng.uniform(1, 3)
            draw.ellipse((x - r, y - r, x + r, y + r), fill=color)
    return np.asarray(canvas).astype(np.float32)
