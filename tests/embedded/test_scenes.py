"""Test scenes and training scenes share nothing; labels say what the pixels show."""

from random import Random

import numpy as np

from tools.embedded.questions import KINDS
from tools.embedded.render import render
from tools.embedded.scenes import random_scene, training_word
from tools.embedded.symbols import FIELDS, cell_labels, is_foreground
from tools.embedded.vocabulary import TEST_WORDS

COLUMN = {name: i for i, name in enumerate(FIELDS)}


def training_scenes(count: int):
    """Scenes of each stage, by the seeds the stages use."""
    for stage in ("tower/1", "language/2", "align/3"):
        for step in range(count):
            rng = Random(f"{stage}/{step}/0")
            yield from (random_scene(rng) for _ in range(4))
    yield from (random_scene(Random(f"tune/{i}")) for i in range(count))


def test_no_training_scene_is_a_test_scene(drawn):
    held = {scene.digest() for scenes in drawn[1].values() for scene in scenes}
    assert len(held) == sum(map(len, drawn[1].values()))
    assert not held & {scene.digest() for scene in training_scenes(100)}


def test_no_training_sign_shows_a_test_word(drawn):
    rng = Random(0)
    assert not {training_word(rng) for _ in range(20000)} & set(TEST_WORDS)
    shown = {sign.text for scenes in drawn[1].values() for scene in scenes for sign in scene.signs if not sign.is_sum}
    assert shown <= set(TEST_WORDS)


def test_things_never_overlap():
    for seed in range(30):
        scene = random_scene(Random(seed))
        cells = [cell for thing in (*scene.things, *scene.signs) for cell in thing.cells]
        assert len(cells) == len(set(cells))


def test_labels_mark_the_cells_that_differ_from_the_background():
    scene = random_scene(Random(5))
    bare = render(type(scene)(scene.place, (), (), ()))
    changed = (render(scene) != bare).reshape(24, 8, 24, 8, 3).any((1, 3, 4)).flatten()
    labels = cell_labels(scene)
    foreground = is_foreground(labels)
    marked = foreground | (labels[:, COLUMN["clutter"]] == 1)
    assert not (changed & ~marked).any()
    assert changed[foreground].mean() > 0.8  # a ring has a hole, a moon an empty side


def test_a_lone_cell_stands_for_each_thing():
    scene = random_scene(Random(7))
    assert cell_labels(scene)[:, COLUMN["corner"]].sum() == len(scene.things)


def test_every_kind_asks_and_answers_both_ways():
    rng = Random(1)
    answers: dict[str, set[str]] = {kind: set() for kind in KINDS}
    for _ in range(120):
        scene = random_scene(rng)
        for kind, function in KINDS.items():
            if (question := function(scene, rng)) is not None:
                answers[kind].add(question.answer)
    assert all(len(found) > 1 for found in answers.values())


def test_rendering_is_integer_and_repeatable():
    scene = random_scene(Random(3))
    assert render(scene).dtype == np.uint8
    assert np.array_equal(render(scene), render(scene))
