"""Questions about a scene, and helpers to build them."""

from dataclasses import dataclass
from random import Random

from tools.embedded.scenes import Scene, Thing
from tools.embedded.vocabulary import INSTRUCTION, SHAPES

Cells = tuple[int, ...]
NOTHING: Cells = (-1,)  # attend to the start of the prompt: the object is not in the image


@dataclass(frozen=True)
class Question:
    """`first` and `second` are the cells of the objects the question names; `spelled` has one cell per character.

    They guide attention in training (see `batches.looks`) and are part of no prompt or image. For verification
    questions, `first` is the evidence: the cells that make the statement true, or NOTHING.
    """

    kind: str
    text: str
    answer: str
    first: Cells
    second: Cells | None = None
    counted: Cells | None = None
    spelled: Cells = ()
    quoted: tuple[tuple[str, bool], ...] = ()  # a word's letters, and whether each is the sign's at that place
    instruction: str = INSTRUCTION  # what the prompt ends with; a region is asked for without one
    marks: tuple[Cells | None, ...] = ()  # captions: per word, the cells that show the next one (None: no target)


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


def other(rng: Random, options: tuple[str, ...], but: str) -> str:
    return rng.choice([option for option in options if option != but])


def shuffled(rng: Random, one: str, two: str) -> tuple[str, str]:
    return (one, two) if rng.random() < 0.5 else (two, one)


def verified(kind: str, text: str, truth: bool, cells: Cells) -> Question:
    """Is this true of the thing on these cells?"""
    return Question(kind, text, yes_no(truth), cells if truth else NOTHING, cells)
