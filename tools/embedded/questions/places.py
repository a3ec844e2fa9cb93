"""Position questions: halves of the image, relations between objects, and the place shown."""

from random import Random

from tools.embedded.questions.question import Cells, Question, cells_of, other, shuffled, unique_things, verified
from tools.embedded.scenes import Scene, Thing
from tools.embedded.vocabulary import GRID, PLACE_NAMES

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


def pick_pair(scene: Scene, rng: Random) -> tuple[Thing, Thing] | None:
    things = unique_things(scene)
    return (lambda pair: (pair[0], pair[1]))(rng.sample(things, 2)) if len(things) > 1 else None


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
