"""Scene → pixels, in integer arithmetic only, so that every machine draws the same image."""

import zlib
from functools import cache

import numpy as np

from tools.embedded.glyphs import FONT, SHAPE_BITMAPS
from tools.embedded.scenes import Scene, Sign, Thing
from tools.embedded.vocabulary import CELL, COLORS, GRID, PLACES

SIDE = GRID * CELL


def render(scene: Scene) -> np.ndarray:
    """(192, 192, 3) uint8: background, clutter, shapes, signs, in that order."""
    image = _background(scene.place).copy()
    for cell, color, pattern in scene.clutter:
        _paint(image, cell // GRID, cell % GRID, _scribble(pattern), COLORS[color])
    for thing in scene.things:
        _draw_thing(image, thing)
    for sign in scene.signs:
        _draw_sign(image, sign)
    return image


@cache
def _background(place: str) -> np.ndarray:
    """The place's colour with a pattern of its own: waves, grains, blades or far stars."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    pattern = {
        "sea": (y + (x // 4) % 2) % 6 == 0,
        "sand": (x * 7 + y * 5) % 11 == 0,
        "grass": (x + (y // 6) * 3) % 5 == 0,
        "night": (x * 13 + y * 29) % 61 == 0,
    }[place]
    image = np.empty((SIDE, SIDE, 3), np.uint8)
    image[:] = PLACES[place]
    image[pattern] = [min(255, value + 30) for value in PLACES[place]]
    return image


@cache
def _scribble(pattern: int) -> np.ndarray:
    """One of the clutter marks, an 8x8 bitmap: three dashes, three slants, dots, corners, bars."""
    y, x = np.mgrid[0:CELL, 0:CELL]
    marks = [
        y == 2, y == 5, x == 2, x == 5, x == y, x + y == 7,
        (x % 4 == 1) & (y % 4 == 1), (x % 3 == 1) & (y % 5 == 2),
        (x < 4) & (y == 6), (x > 3) & (y == 1), (x == 6) & (y > 3), (x // 2 == 1) & (y // 2 == 2),
    ]  # fmt: skip
    return marks[pattern]


def _paint(image: np.ndarray, row: int, col: int, bitmap: np.ndarray, color: tuple[int, int, int]) -> None:
    top, left = row * CELL, col * CELL
    image[top : top + bitmap.shape[0], left : left + bitmap.shape[1]][bitmap] = color


def _draw_thing(image: np.ndarray, thing: Thing) -> None:
    bitmap = SHAPE_BITMAPS[thing.shape].repeat(thing.size, 0).repeat(thing.size, 1)
    _paint(image, thing.row, thing.col, bitmap, _shade(thing))


def _shade(thing: Thing) -> tuple[int, int, int]:
    """The thing's colour, up to 12 steps lighter or darker: no two reds need be the same red."""
    step = zlib.crc32(repr(thing).encode()) % 25 - 12
    red, green, blue = (min(255, max(0, value + step)) for value in COLORS[thing.color])
    return red, green, blue


def _draw_sign(image: np.ndarray, sign: Sign) -> None:
    ink = (0, 0, 0) if sum(COLORS[sign.color]) > 330 else (255, 255, 255)
    width = len(sign.text) * CELL
    _paint(image, sign.row, sign.col, np.ones((CELL, width), bool), COLORS[sign.color])
    edge = np.zeros((CELL, width), bool)
    edge[:, 0] = edge[:, -1] = True  # the board's ends: where a word starts must be seen
    _paint(image, sign.row, sign.col, edge, ink)
    for i, character in enumerate(sign.text):
        bitmap = np.pad(FONT[character], ((0, 1), (2, 1)))
        bitmap[-1, 2 * i : 2 * i + 2] = True  # a dash under each letter, further right with every one: its place
        _paint(image, sign.row, sign.col + i, bitmap, ink)
