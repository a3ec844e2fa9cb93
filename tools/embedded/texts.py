"""Texts of the contrastive stage: captions of scenes, true and false, and phrases that name something in them."""

from dataclasses import dataclass, replace
from random import Random

import numpy as np
import torch
from torch import Tensor

from tools.embedded import vocabulary as v
from tools.embedded.questions import KINDS, Question, article
from tools.embedded.scenes import Scene, Thing

PHRASES_PER_SCENE = 6
OTHERS = 32  # captions per step of scenes that are not shown: texts cost next to nothing beside images
LURES = 2  # false captions per image, which differ from the true one in one word
NAMING = tuple(kind for kind in KINDS if not kind.startswith("place"))  # a place is everywhere
_LISTS = {
    "shape": len(v.SHAPES),
    "color": len(v.COLOR_NAMES),
    "board": len(v.COLOR_NAMES),
    "place": len(v.PLACE_NAMES),
    "pair": len(v.COLOR_NAMES) * len(v.SHAPES),
}
LABELS = sum(_LISTS.values())


def inventory(scene: Scene) -> Tensor:
    """Which shapes, colours, boards, place, and pairs of colour and shape a scene has, [LABELS] of 0 and 1."""
    has = {name: np.zeros(size, np.float32) for name, size in _LISTS.items()}
    for thing in scene.things:
        color, shape = v.COLOR_NAMES.index(thing.color), v.SHAPES.index(thing.shape)
        has["shape"][shape] = has["color"][color] = has["pair"][color * len(v.SHAPES) + shape] = 1
    for sign in scene.signs:
        has["board"][v.COLOR_NAMES.index(sign.color)] = 1
    has["place"][v.PLACE_NAMES.index(scene.place)] = 1
    return torch.from_numpy(np.concatenate(list(has.values())))


@dataclass
class Phrases:
    """Texts that name something of a scene: `cells_PN` says which patches show it, `scene_P` in which scene."""

    texts: list[str]
    scene_P: Tensor
    cells_PN: Tensor


def full_caption(scene: Scene, rng: Random) -> str:
    """Everything that a scene shows, in any order: shapes with their colours, boards, the place."""
    named = [f"{article(thing.color)} {thing.shape}" for thing in scene.things]
    named += [f"{article(sign.color)} sign" for sign in scene.signs]
    rng.shuffle(named)
    return " and ".join(named) + f" in the {scene.place}"


def false_caption(scene: Scene, rng: Random) -> str:
    """The caption of the scene with another colour or shape in one place, told apart only by who has which."""
    number = rng.randrange(len(scene.things))
    things = list(scene.things)
    things[number] = _another(things[number], rng)
    return full_caption(replace(scene, things=tuple(things)), rng)


def _another(thing: Thing, rng: Random) -> Thing:
    if rng.random() < 0.5:
        return replace(thing, color=rng.choice([color for color in v.COLOR_NAMES if color != thing.color]))
    return replace(thing, shape=rng.choice([shape for shape in v.SHAPES if shape != thing.shape]))


def phrases_of(scenes: list[Scene], rng: Random, per_scene: int = PHRASES_PER_SCENE) -> Phrases:
    """Questions and short captions about something that is there, as methods hand them to CLIP."""
    texts, numbers, cells = [], [], []
    for number, scene in enumerate(scenes):
        found = 0
        while found < per_scene:
            text, shown = _caption(scene, rng) if rng.random() < 0.3 else _question(scene, rng)
            if not shown:
                continue
            row = np.zeros(v.GRID**2, bool)
            row[list(shown)] = True
            texts.append(text)
            numbers.append(number)
            cells.append(row)
            found += 1
    return Phrases(texts, torch.tensor(numbers), torch.from_numpy(np.stack(cells)))


def _caption(scene: Scene, rng: Random) -> tuple[str, tuple[int, ...]]:
    thing = rng.choice(scene.things)
    same = [one for one in scene.things if one.shape == thing.shape]
    if rng.random() < 0.5:
        return f"{article(thing.shape)}", tuple(cell for one in same for cell in one.cells)
    same = [one for one in same if one.color == thing.color]
    return f"{article(thing.color)} {thing.shape}", tuple(cell for one in same for cell in one.cells)


def _question(scene: Scene, rng: Random) -> tuple[str, tuple[int, ...]]:
    """A question of any kind about things, and the patches of all things it names; no patches where none is there."""
    question = KINDS[rng.choice(NAMING)](scene, rng)
    if question is None:
        return "", ()
    return _asked(question, rng), tuple({cell for cell in (*question.first, *(question.second or ())) if cell >= 0})


def _asked(question: Question, rng: Random) -> str:
    """As a method hands it over: with the benchmark's extra line or not, with the instruction or cut at it."""
    lines = [question.text]
    if question.kind == "read" and rng.random() < 0.5:
        lines.append(f"{v.OCR_LINE} ")
    if question.answer in ("yes", "no") and rng.random() < 0.2:
        lines.append(v.YES_NO)
    if question.instruction and rng.random() < 0.5:
        lines.append(question.instruction)
    return "\n".join(lines)
