"""Questions in the form of other benchmarks: multiple choice (MMBench) and boxes (RefCOCO)."""

from dataclasses import replace
from random import Random

from tools.embedded.questions.places import place_query, side_choose
from tools.embedded.questions.question import Question, of_shape, unique_things
from tools.embedded.questions.things import color_query, count_query, shape_query
from tools.embedded.scenes import Scene, Thing
from tools.embedded.vocabulary import (
    COLOR_NAMES,
    COORDINATES,
    LETTER_INSTRUCTION,
    NUMBERS,
    PLACE_NAMES,
    REGION,
    SHAPES,
)

OPTIONS = 4
_WRONG = {
    "color_query": COLOR_NAMES,
    "shape_query": SHAPES,
    "count_query": NUMBERS,
    "place_query": PLACE_NAMES,
}
_OPPOSITE = {"left": "right", "right": "left", "top": "bottom", "bottom": "top"}  # other sides may be true, too
_ASKED = (color_query, color_query, shape_query, shape_query, count_query, place_query, side_choose)
_KINDS = {function.__name__: function for function in _ASKED}


def option(scene: Scene, rng: Random) -> Question | None:
    """One of four options (of two for sides), by its letter."""
    found = offering(rng.choice(_ASKED).__name__, scene, rng)
    return choosing(*found) if found else None


def offering(kind: str, scene: Scene, rng: Random) -> tuple[Question, list[str]] | None:
    """A question of one of the kinds with its options, in random order."""
    if (question := _KINDS[kind](scene, rng)) is None:
        return None
    words = (_OPPOSITE[question.answer],) if kind == "side_choose" else _WRONG[kind]
    wrong = [word for word in words if word != question.answer]
    offered = [question.answer, *rng.sample(wrong, min(len(wrong), OPTIONS - 1))]
    rng.shuffle(offered)
    return question, offered


def choosing(question: Question, offered: list[str]) -> Question:
    """The question with its options in that order; sides are asked for as such."""
    letters = "ABCD"[: len(offered)]
    lines = [_stem(question), *(f"{letter}. {word}" for letter, word in zip(letters, offered, strict=True))]
    answer = letters[offered.index(question.answer)]
    text = "\n".join(lines)
    return replace(question, kind="option", text=text, answer=answer, instruction=LETTER_INSTRUCTION)


def _stem(question: Question) -> str:
    if question.kind != "side_choose":
        return question.text
    shape = question.text.split()[2]  # Is the circle on the left or on the right?
    return f"Which side of the image is the {shape} on?"


def named_once(scene: Scene) -> list[tuple[Thing, str]]:
    """Things that a phrase of colour and shape, or of shape alone, tells from all others."""
    named = [(thing, f"the {thing.shape}") for thing in unique_things(scene)]
    for thing in scene.things:
        alike = [one for one in of_shape(scene, thing.shape) if one.color == thing.color]
        if len(alike) == 1:
            named.append((thing, f"the {thing.color} {thing.shape}"))
    return named


def locate(scene: Scene, rng: Random) -> Question | None:
    """The box of a thing that a phrase names, in fractions of the square image."""
    named = named_once(scene)
    return locating(*rng.choice(named)) if named else None


def locating(thing: Thing, phrase: str) -> Question:
    """The box as [x1, y1, x2, y2]; each number is guided by the thing's upper left cell."""
    edges = thing.col, thing.row, thing.col + thing.size, thing.row + thing.size
    answer = "[" + ", ".join(COORDINATES[edge] for edge in edges) + "]"
    corner = thing.cells[0]
    return Question("locate", f"{REGION} {phrase}", answer, tuple(thing.cells), spelled=(corner,) * 9, instruction="")
