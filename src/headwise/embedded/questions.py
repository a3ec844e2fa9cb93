"""Questions about a scene, each with its true answer and the cells that hold it.

Every kind is one function `(scene, rng) -> Question | None` in `KINDS`; None where the scene cannot carry it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from headwise.embedded.scenes import Scene, Sign, Thing, training_word
from headwise.embedded.vocabulary import COLOR_NAMES, GRID, NUMBERS, PLACE_NAMES, SHAPES

Cells = tuple[int, ...]
NOTHING: Cells = (-1,)  # "look at the start of the prompt": what is asked for is not in the image


@dataclass(frozen=True)
class Question:
    """`first` and `second` are the cells of what the question names; `spelled`, one cell a character.

    They guide training only (see `batches.looks`): no prompt and no image carries them. Where a question asks
    whether something is so, `first` is what would make it so: those cells, or nothing.
    """

    kind: str
    text: str
    answer: str
    first: Cells
    second: Cells | None = None
    counted: Cells | None = None
    spelled: Cells = ()
    quoted: Cells = ()
    marks: tuple[Cells | None, ...] = ()  # captions: per word, where to look for the next one (None: not asked)


def article(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def yes_no(truth: bool) -> str:
    return "yes" if truth else "no"


def cells_of(things: list[Thing]) -> Cells:
    return tuple(cell for thing in things for cell in thing.cells) or NOTHING


def of_shape(scene: Scene, shape: str) -> list[Thing]:
    return [thing for thing in scene.things if thing.shape == shape]


def unique_things(scene: Scene) -> list[Thing]:
    return [thing for thing in scene.things if len(of_shape(scene, thing.shape)) == 1]


def absent_shapes(scene: Scene) -> list[str]:
    return [shape for shape in SHAPES if not of_shape(scene, shape)]


def pick_thing(scene: Scene, rng: Random) -> Thing | None:
    things = unique_things(scene)
    return rng.choice(things) if things else None


def pick_pair(scene: Scene, rng: Random) -> tuple[Thing, Thing] | None:
    things = unique_things(scene)
    return (lambda pair: (pair[0], pair[1]))(rng.sample(things, 2)) if len(things) > 1 else None


def other(rng: Random, options: tuple[str, ...], but: str) -> str:
    return rng.choice([option for option in options if option != but])


def shuffled(rng: Random, one: str, two: str) -> tuple[str, str]:
    return (one, two) if rng.random() < 0.5 else (two, one)


def exists(scene: Scene, rng: Random) -> Question | None:
    present = rng.random() < 0.5
    shape = rng.choice([thing.shape for thing in scene.things] if present else absent_shapes(scene))
    where = rng.choice(("in the image", "in this image", "in the picture"))
    return existence(scene, shape, f"Is there {article(shape)} {where}?")


def existence(scene: Scene, shape: str, text: str) -> Question:
    things = of_shape(scene, shape)
    return Question("exists", text, yes_no(bool(things)), cells_of(things))


def exists_color(scene: Scene, rng: Random) -> Question | None:
    thing = rng.choice(scene.things)
    color = thing.color if rng.random() < 0.5 else other(rng, COLOR_NAMES, thing.color)
    same_shape = of_shape(scene, thing.shape)
    found = [one for one in same_shape if one.color == color]
    text = f"Is there {article(color)} {thing.shape}?"
    return Question("exists_color", text, yes_no(bool(found)), cells_of(found), cells_of(same_shape))


def color_query(scene: Scene, rng: Random) -> Question | None:
    if (thing := pick_thing(scene, rng)) is None:
        return None
    return Question("color_query", f"What color is the {thing.shape}?", thing.color, cells_of([thing]))


def shape_query(scene: Scene, rng: Random) -> Question | None:
    colors = [thing.color for thing in scene.things]
    things = [thing for thing in scene.things if colors.count(thing.color) == 1]
    if not things:
        return None
    thing = rng.choice(things)
    return Question("shape_query", f"Which shape is {thing.color}?", thing.shape, cells_of([thing]))


def verified(kind: str, text: str, truth: bool, cells: Cells) -> Question:
    """Is this true of the thing on these cells?"""
    return Question(kind, text, yes_no(truth), cells if truth else NOTHING, cells)


def color_verify(scene: Scene, rng: Random) -> Question | None:
    if (thing := pick_thing(scene, rng)) is None:
        return None
    color = thing.color if rng.random() < 0.5 else other(rng, COLOR_NAMES, thing.color)
    text = f"Is the {thing.shape} {color}?"
    return verified("color_verify", text, color == thing.color, cells_of([thing]))


def color_choose(scene: Scene, rng: Random) -> Question | None:
    if (thing := pick_thing(scene, rng)) is None:
        return None
    one, two = shuffled(rng, thing.color, other(rng, COLOR_NAMES, thing.color))
    return Question("color_choose", f"Is the {thing.shape} {one} or {two}?", thing.color, cells_of([thing]))


def size_choose(scene: Scene, rng: Random) -> Question | None:
    things = [thing for thing in unique_things(scene) if thing.size != 2]
    if not things:
        return None
    thing = rng.choice(things)
    one, two = shuffled(rng, "small", "large")
    answer = "small" if thing.size == 1 else "large"
    return Question("size_choose", f"Is the {thing.shape} {one} or {two}?", answer, cells_of([thing]))


_SIDES = {"left": "on the left", "right": "on the right", "top": "at the top", "bottom": "at the bottom"}


def side_of(thing: Thing, across: bool) -> str | None:
    """The half of the image a thing lies in, None where it touches the middle."""
    start, size = (thing.col, thing.size) if across else (thing.row, thing.size)
    half = GRID // 2
    low, high = ("left", "right") if across else ("top", "bottom")
    return low if start + size <= half - 1 else high if start >= half + 1 else None


def sided(scene: Scene, rng: Random) -> tuple[Thing, str, str] | None:
    """A thing, the half it is in, and the other half."""
    across = rng.random() < 0.5
    things = [(thing, side) for thing in unique_things(scene) if (side := side_of(thing, across))]
    if not things:
        return None
    thing, side = rng.choice(things)
    opposite = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}[side]
    return thing, side, opposite


def side_choose(scene: Scene, rng: Random) -> Question | None:
    if (found := sided(scene, rng)) is None:
        return None
    thing, side, opposite = found
    one, two = shuffled(rng, side, opposite)
    text = f"Is the {thing.shape} {_SIDES[one]} or {_SIDES[two]}?"
    return Question("side_choose", text, side, cells_of([thing]))


def side_verify(scene: Scene, rng: Random) -> Question | None:
    if (found := sided(scene, rng)) is None:
        return None
    thing, side, opposite = found
    asked = side if rng.random() < 0.5 else opposite
    text = f"Is the {thing.shape} {_SIDES[asked]} of the image?"
    return verified("side_verify", text, asked == side, cells_of([thing]))


def logic(scene: Scene, rng: Random) -> Question | None:
    """Both or either of two shapes; "both" and "either" balance each other's answers."""
    absent = rng.sample(absent_shapes(scene), 2)
    present = sorted({thing.shape for thing in scene.things})
    if len(present) < 2:
        return None
    both = rng.random() < 0.5
    same = rng.random() < 0.5  # both there, or neither; else one of two, which decides the question
    pair = (rng.sample(present, 2) if both else absent) if same else [rng.choice(present), absent[0]]
    rng.shuffle(pair)
    there = [bool(of_shape(scene, shape)) for shape in pair]
    start, middle = ("Are there both", "and") if both else ("Is there either", "or")
    text = f"{start} {article(pair[0])} {middle} {article(pair[1])}?"
    first, second = (cells_of(of_shape(scene, shape)) for shape in pair)
    return Question("logic", text, yes_no(all(there) if both else any(there)), first, second)


def same_color(scene: Scene, rng: Random) -> Question | None:
    things = unique_things(scene)
    pairs = [(a, b) for a in things for b in things if a is not b]
    same = rng.random() < 0.5
    pairs = [(a, b) for a, b in pairs if (a.color == b.color) == same]
    if not pairs:
        return None
    a, b = rng.choice(pairs)
    text = f"Are the {a.shape} and the {b.shape} the same color?"
    return Question("same_color", text, yes_no(same), cells_of([a]), cells_of([b]))


def relation(scene: Scene, rng: Random) -> Question | None:
    if (pair := pick_pair(scene, rng)) is None:
        return None
    a, b = pair
    across = rng.random() < 0.5
    gap = b.center[across] - a.center[across]
    if abs(gap) < 4:
        return None
    answer = (("above", "below"), ("left", "right"))[across][0 if gap > 0 else 1]
    words = "left or right of" if across else "above or below"
    text = f"Is the {a.shape} {words} the {b.shape}?"
    return Question("relation", text, answer, cells_of([a]), cells_of([b]))


def place_cells(scene: Scene) -> Cells:
    taken = {cell for thing in scene.things for cell in thing.cells} | {cell for cell, _, _ in scene.clutter}
    taken |= {cell for sign in scene.signs for cell in sign.cells}
    return tuple(cell for cell in range(GRID * GRID) if cell not in taken)


def place_query(scene: Scene, rng: Random) -> Question | None:
    return Question("place_query", "Which place is this?", scene.place, place_cells(scene))


def place_choose(scene: Scene, rng: Random) -> Question | None:
    one, two = shuffled(rng, scene.place, other(rng, PLACE_NAMES, scene.place))
    return Question("place_choose", f"Is this the {one} or the {two}?", scene.place, place_cells(scene))


def place_verify(scene: Scene, rng: Random) -> Question | None:
    asked = scene.place if rng.random() < 0.5 else other(rng, PLACE_NAMES, scene.place)
    text = f"Does this image show the {asked}?"
    return verified("place_verify", text, asked == scene.place, place_cells(scene))


def pick_sign(scene: Scene, rng: Random, is_sum: bool) -> Sign | None:
    signs = [sign for sign in scene.signs if sign.is_sum == is_sum]
    return rng.choice(signs) if signs else None


READINGS = ("What does the {} sign say?", "What is written on the {} sign?", "What is the word on the {} sign?")


def read(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, False)) is None:
        return None
    text = rng.choice(READINGS).format(sign.color)
    return Question("read", text, sign.text, tuple(sign.cells), spelled=tuple(sign.cells))


def word_verify(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, False)) is None:
        return None
    wrong = training_word(rng)
    while len(wrong) != len(sign.text) or any(a == b for a, b in zip(wrong, sign.text, strict=True)):
        wrong = training_word(rng)
    return quoting(sign, sign.text if rng.random() < 0.5 else wrong)


def quoting(sign: Sign, word: str) -> Question:
    text = f'Is the word on the {sign.color} sign "{word}"?'
    cells = tuple(sign.cells)
    quoted = tuple(cell if a == b else NOTHING[0] for cell, a, b in zip(cells, word, sign.text, strict=True))
    return Question("word_verify", text, yes_no(word == sign.text), cells, quoted=quoted)


def corners(things: list[Thing]) -> Cells:
    return tuple(thing.cells[0] for thing in things)


def count_query(scene: Scene, rng: Random) -> Question | None:
    shape = _countable(scene, rng)
    things = of_shape(scene, shape)
    text = f"What is the number of {shape} shapes?"
    return Question("count_query", text, NUMBERS[len(things) - 1], cells_of(things), counted=corners(things))


def count_verify(scene: Scene, rng: Random) -> Question | None:
    shape = _countable(scene, rng)
    count = len(of_shape(scene, shape))
    asked = count if rng.random() < 0.5 else rng.choice([n for n in (1, 2, 3) if n != count])
    return counting(scene, shape, asked)


def counting(scene: Scene, shape: str, asked: int) -> Question:
    things = of_shape(scene, shape)
    text = f"Is the number of {shape} shapes {NUMBERS[asked - 1]}?"
    answer = yes_no(asked == len(things))
    return Question("count_verify", text, answer, cells_of(things), counted=corners(things))


def _countable(scene: Scene, rng: Random) -> str:
    """Repeated shapes as often as single ones, or "one" would be a good guess."""
    repeated = [thing.shape for thing in scene.things if len(of_shape(scene, thing.shape)) > 1]
    if repeated and rng.random() < 0.7:
        return repeated[0]
    return rng.choice(scene.things).shape


def _sum_question(sign: Sign, kind: str, text: str, answer: str) -> Question:
    return Question(kind, text, answer, (sign.cells[0],), (sign.cells[2],))


def sum_query(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, True)) is None:
        return None
    return _sum_question(sign, "sum_query", "What is the answer to the sum?", str(total(sign)))


def sum_verify(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, True)) is None:
        return None
    asked = total(sign) if rng.random() < 0.5 else rng.choice([n for n in range(2, 10) if n != total(sign)])
    return summing(sign, asked)


def summing(sign: Sign, asked: int) -> Question:
    text = f"Is the answer to the sum {asked}?"
    return _sum_question(sign, "sum_verify", text, yes_no(asked == total(sign)))


def total(sign: Sign) -> int:
    left, right = sign.text.split("+")
    return int(left) + int(right)


def caption(scene: Scene, rng: Random) -> Question | None:
    """Not a question: three things told word by word, or a sign letter by letter; training's first diet.

    Nearly every word must be found in the image, where a question asks for one.
    """
    words: list[str] = []
    marks: list[Cells | None] = []
    signs = [sign for sign in scene.signs if not sign.is_sum]
    if signs and rng.random() < 0.4:
        for sign in rng.sample(signs, len(signs)):
            words += [sign.color, "sign", sign.text]
            marks += [None, *((cell,) for cell in sign.cells), None]
        return Question("caption", " ".join(words), "", NOTHING, marks=tuple(marks))
    things = unique_things(scene)
    for thing in rng.sample(things, min(3, len(things))):
        (row, col), half = thing.center, GRID / 2
        sides = ["top" if row < half else "bottom", "left" if col < half else "right"]
        words += [thing.shape, thing.color, ("small", "medium", "large")[thing.size - 1], *sides]
        marks += [*[tuple(thing.cells)] * 4, None]
    return Question("caption", " ".join(words), "", NOTHING, marks=tuple(marks)) if words else None


Kind = Callable[[Scene, Random], Question | None]
KINDS: dict[str, Kind] = {
    function.__name__: function
    for function in (
        exists, exists_color, color_query, shape_query, color_verify, color_choose, size_choose,
        side_choose, side_verify, logic, same_color, relation, place_query, place_choose, place_verify,
        read, word_verify, count_query, count_verify, sum_query, sum_verify,
    )
}  # fmt: skip
