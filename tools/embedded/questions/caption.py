"""Captions: statements about a scene, for the first steps of training."""

from random import Random

from tools.embedded.questions.question import NOTHING, Cells, Question, unique_things
from tools.embedded.scenes import Scene
from tools.embedded.vocabulary import GRID


def caption(scene: Scene, rng: Random) -> Question | None:
    """A statement, not a question: three things described word by word, or a sign letter by letter.

    Nearly every word depends on the image; of a question, only the answer does.
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
