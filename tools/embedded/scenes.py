"""A scene: coloured shapes, signs with short words or sums, clutter, and one of four places.

A scene is a plain description; `render` turns it into pixels and `symbols` into one set of labels per cell.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from random import Random

from tools.embedded.vocabulary import (
    COLOR_NAMES,
    GRID,
    LETTERS,
    PLACE_NAMES,
    SHAPES,
    SIGN_LENGTH,
    TEST_WORDS,
    WHOLE_WORDS,
)

CLUTTER_PATTERNS = 12
Weights = Sequence[float]
_WHOLE = tuple(word for word in WHOLE_WORDS if len(word) > 1)


@dataclass(frozen=True)
class Thing:
    """A shape of `size` x `size` cells whose top left cell is (row, col)."""

    shape: str
    color: str
    size: int
    row: int
    col: int

    @property
    def cells(self) -> list[int]:
        return [r * GRID + c for r in self._rows for c in range(self.col, self.col + self.size)]

    @property
    def _rows(self) -> range:
        return range(self.row, self.row + self.size)

    @property
    def center(self) -> tuple[float, float]:
        half = self.size / 2
        return self.row + half, self.col + half


@dataclass(frozen=True)
class Sign:
    """A board with one character per cell, read from the left; `text` is a word or a sum such as 3+4."""

    text: str
    color: str
    row: int
    col: int

    @property
    def cells(self) -> list[int]:
        return [self.row * GRID + self.col + i for i in range(len(self.text))]

    @property
    def is_sum(self) -> bool:
        return "+" in self.text


@dataclass(frozen=True)
class Scene:
    place: str
    things: tuple[Thing, ...]
    signs: tuple[Sign, ...]
    clutter: tuple[tuple[int, str, int], ...]  # cell, colour, pattern

    def digest(self) -> str:
        """Hash of what is shown (clutter aside), to verify that test and training scenes are disjoint."""
        content = repr((self.place, sorted(map(astuple, self.things)), sorted(map(astuple, self.signs))))
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Recipe:
    """Density of a scene. `shape_weights` gives the weights of the next shape, given those present."""

    things: tuple[int, int] = (3, 7)
    repeats: float = 0.6  # share of scenes in which one shape occurs two or three times
    words: tuple[int, int] = (0, 2)
    sums: float = 0.35
    clutter: tuple[int, int] = (60, 200)
    sizes: Weights = (0.35, 0.4, 0.25)
    shape_weights: Callable[[list[str]], Weights] | None = None


TRAINING = Recipe()


class _Board:
    """Which cells are taken; things keep one free cell around them."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.taken = [False] * (GRID * GRID)

    def place(self, height: int, width: int) -> tuple[int, int] | None:
        for _ in range(40):
            row, col = self.rng.randrange(GRID - height + 1), self.rng.randrange(GRID - width + 1)
            if not any(self.taken[r * GRID + c] for r in range(row, row + height) for c in range(col, col + width)):
                self._take(row, col, height, width)
                return row, col
        return None

    def _take(self, row: int, col: int, height: int, width: int) -> None:
        for r in range(max(0, row - 1), min(GRID, row + height + 1)):
            for c in range(max(0, col - 1), min(GRID, col + width + 1)):
                self.taken[r * GRID + c] = True


def random_scene(rng: Random, recipe: Recipe = TRAINING, words: Sequence[str] | None = None) -> Scene:
    """One scene; signs carry `words` where given, else letters drawn at random (never a test word)."""
    board = _Board(rng)
    signs = _signs(rng, recipe, board, words)
    things = _things(rng, recipe, board)
    used = {cell for sign in signs for cell in sign.cells} | {cell for thing in things for cell in thing.cells}
    free = [cell for cell in range(GRID * GRID) if cell not in used]
    count = min(len(free), rng.randint(*recipe.clutter))
    clutter = tuple(
        (cell, rng.choice(COLOR_NAMES), rng.randrange(CLUTTER_PATTERNS)) for cell in sorted(rng.sample(free, count))
    )
    return Scene(rng.choice(PLACE_NAMES), tuple(things), tuple(signs), clutter)


def training_word(rng: Random) -> str:
    """Letters at random; no test word, and no start that is a word of the questions, hence one token."""
    while True:
        word = "".join(rng.choice(LETTERS) for _ in range(rng.choice((3, 3, SIGN_LENGTH))))
        if word not in TEST_WORDS and not word.startswith(_WHOLE):
            return word


def _signs(rng: Random, recipe: Recipe, board: _Board, words: Sequence[str] | None) -> list[Sign]:
    texts = [rng.choice(words) if words else training_word(rng) for _ in range(rng.randint(*recipe.words))]
    if rng.random() < recipe.sums:
        texts.append(f"{rng.randint(1, 5)}+{rng.randint(1, 4)}")
    colors = rng.sample(COLOR_NAMES, len(texts))
    signs = []
    for text, color in zip(texts, colors, strict=True):
        if (spot := board.place(1, len(text))) is not None:
            signs.append(Sign(text, color, *spot))
    return signs


def _things(rng: Random, recipe: Recipe, board: _Board) -> list[Thing]:
    shapes: list[str] = []
    while len(shapes) < rng.randint(*recipe.things):
        weights = list(recipe.shape_weights(shapes)) if recipe.shape_weights else [1.0] * len(SHAPES)
        weights = [0.0 if shape in shapes else w for shape, w in zip(SHAPES, weights, strict=True)]
        shapes.append(rng.choices(SHAPES, weights)[0])
    if rng.random() < recipe.repeats:
        shapes += [rng.choice(shapes)] * rng.randint(1, 2)
    things = []
    for shape in shapes:
        size = rng.choices((1, 2, 3), recipe.sizes)[0]
        if (spot := board.place(size, size)) is not None:
            things.append(Thing(shape, rng.choice(COLOR_NAMES), size, *spot))
    return things
