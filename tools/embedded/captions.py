"""Captions: the first texts of the language stage, with a target at every other word.

A question has one answer in a dozen tokens; every second word of a caption ("circle red star blue …") depends on
the image. Trained on questions alone, the decoder got stuck at naming any colour present in the scene.
"""

from random import Random

import numpy as np
import torch

from tools.embedded.batches import GROUPS, PREFIX, shown, token_ids
from tools.embedded.decoder import Batch
from tools.embedded.questions import NOTHING, of_shape, unique_things
from tools.embedded.scenes import Scene, Sign
from tools.embedded.vocabulary import GRID, NUMBERS, SHAPES

LENGTH = 16
Cells = tuple[int, ...]
# A token, its target, which is the next token (-100: none), and the cells that show the target.
Word = tuple[int, int, Cells | None]


def caption_batch(rng: Random, scenes: list[Scene], per_scene: int, background: int = 12) -> Batch:
    """Captions of several kinds for each symbolic scene, in the format of `make_batch`."""
    image, cells = shown(scenes, rng, background)
    ids = np.zeros((len(scenes), per_scene, LENGTH), np.int64)
    targets = np.full_like(ids, -100)
    guided: list[tuple[int, int, int]] = []
    target_cells: list[list[int]] = []
    for b, (scene, c) in enumerate(zip(scenes, cells, strict=True)):
        where = {cell: PREFIX + i for i, cell in enumerate(c)} | {NOTHING[0]: 0}
        for m in range(per_scene):
            for t, (token, target, evidence) in enumerate(caption(rng, scene)[:LENGTH]):
                ids[b, m, t], targets[b, m, t] = token, target
                if evidence:
                    guided.append((b, m, t))
                    target_cells.append([where[cell] for cell in evidence if cell in where])
    width = PREFIX + image[0].shape[1]
    look = np.zeros((GROUPS, len(guided), width), bool)
    for p, columns in enumerate(target_cells):
        look[:2, p, columns] = True
    unquoted = np.zeros((0, 3), np.int64), np.zeros((0, width), bool), np.zeros(0, np.int64)
    arrays = (*image, ids, targets, np.array(guided, np.int64), look, *unquoted)
    return Batch(*map(torch.from_numpy, arrays))


def caption(rng: Random, scene: Scene) -> list[Word]:
    """One caption: colours of shapes, shapes of colours, what is there, where, how many, or what signs say."""
    signs = [sign for sign in scene.signs if not sign.is_sum]
    sorts = [_colors, _colors, _shapes, _presence, _sides, _counts] + [_letters] * (3 if signs else 0)
    words: list[Word] = []
    while len(words) < LENGTH:
        words += rng.choice(sorts)(rng, scene)
    return words


def _pair(asked: str, answer: str, evidence: Cells, before: str = "") -> list[Word]:
    """A word and its target, optionally after a word that names the kind of caption."""
    first, second = token_ids(asked)[0], token_ids(answer)[0]
    return [*_mark(before), (first, second, evidence), (second, -100, None)]


def _mark(word: str) -> list[Word]:
    return [(token, -100, None) for token in token_ids(word)[:1]] if word else []


def _colors(rng: Random, scene: Scene) -> list[Word]:
    things = rng.sample(unique_things(scene), min(3, len(unique_things(scene))))
    return [word for thing in things for word in _pair(thing.shape, thing.color, tuple(thing.cells))] if things else []


def _shapes(rng: Random, scene: Scene) -> list[Word]:
    colors = [thing.color for thing in scene.things]
    things = [thing for thing in scene.things if colors.count(thing.color) == 1]
    picked = rng.sample(things, min(3, len(things)))
    return [word for thing in picked for word in _pair(thing.color, thing.shape, tuple(thing.cells))]


def _presence(rng: Random, scene: Scene) -> list[Word]:
    words: list[Word] = []
    present = sorted({thing.shape for thing in scene.things})
    for shape in rng.sample(present, min(2, len(present))) + rng.sample(SHAPES, 2):
        found = of_shape(scene, shape)
        evidence = tuple(cell for thing in found for cell in thing.cells) or NOTHING
        words += _pair(shape, "yes" if found else "no", evidence, "there")
    return words


def _sides(rng: Random, scene: Scene) -> list[Word]:
    things = rng.sample(unique_things(scene), min(2, len(unique_things(scene))))
    words: list[Word] = []
    for thing in things:
        row, col = thing.center
        evidence = tuple(thing.cells)
        across, down = ("left" if col < GRID / 2 else "right"), ("top" if row < GRID / 2 else "bottom")
        shape, first, second = (token_ids(word)[0] for word in (thing.shape, across, down))
        words += [*_mark("side"), (shape, first, evidence), (first, second, evidence), (second, -100, None)]
    return words


def _counts(rng: Random, scene: Scene) -> list[Word]:
    words: list[Word] = []
    for shape in rng.sample(sorted({thing.shape for thing in scene.things}), 1):
        found = of_shape(scene, shape)
        if len(found) <= len(NUMBERS):
            words += _pair(shape, NUMBERS[len(found) - 1], tuple(c for thing in found for c in thing.cells), "number")
    return words


def _letters(rng: Random, scene: Scene) -> list[Word]:
    sign: Sign = rng.choice([sign for sign in scene.signs if not sign.is_sum])
    spelled = token_ids(sign.text)
    asked = [token_ids(sign.color)[0], token_ids("sign")[0], *spelled]
    cells = [*sign.cells, NOTHING[0]]
    words: list[Word] = [(asked[0], -100, None)]
    ends = [*spelled, -100]
    for token, target, cell in zip(asked[1:], ends, cells, strict=True):
        words.append((token, target, (cell,) if target >= 0 else None))
    return words
