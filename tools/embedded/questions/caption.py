"""What is told and not asked."""

from random import Random

from tools.embedded.questions.question import NOTHING, Cells, Question, unique_things
from tools.embedded.scenes import Scene
from tools.embedded.vocabulary import GRID


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
