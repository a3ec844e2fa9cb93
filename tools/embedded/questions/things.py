"""Object questions: shapes, colors, sizes, counts, and comparisons of two objects."""

from random import Random

from tools.embedded.questions.question import (
    Cells,
    Question,
    absent_shapes,
    article,
    cells_of,
    of_shape,
    other,
    pick_thing,
    shuffled,
    unique_things,
    verified,
    yes_no,
)
from tools.embedded.scenes import Scene, Thing
from tools.embedded.vocabulary import COLOR_NAMES, NUMBERS


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


def logic(scene: Scene, rng: Random) -> Question | None:
    """Both or either of two shapes; the two kinds balance each other's answers."""
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
    """Repeated shapes as often as single ones, so that "one" is not a good guess."""
    repeated = [thing.shape for thing in scene.things if len(of_shape(scene, thing.shape)) > 1]
    if repeated and rng.random() < 0.7:
        return repeated[0]
    return rng.choice(scene.things).shape
