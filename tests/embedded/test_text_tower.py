"""Texts of the contrastive stage say what a scene shows and where; the losses reward what methods read."""

from collections import Counter
from random import Random

import pytest
import torch
import torch.nn.functional as F

from tools.embedded.questions import KINDS, choosing, locating, named_once, offering
from tools.embedded.scenes import random_scene
from tools.embedded.text_tower import LENGTH, TextTower, clip_tokenizer
from tools.embedded.texts import LABELS, Phrases, false_caption, full_caption, inventory, phrases_of
from tools.embedded.vocabulary import GRID, SHAPES

SCENES = [random_scene(Random(seed)) for seed in range(40)]


def listed(caption: str) -> Counter[str]:
    named, place = caption.rsplit(" in the ", 1)
    return Counter([*(words.split(" ", 1)[1] for words in named.split(" and ")), place])


def test_a_caption_lists_everything_and_a_false_one_changes_one_word_of_it():
    rng = Random(0)
    for scene in SCENES:
        true, false = listed(full_caption(scene, rng)), listed(false_caption(scene, rng))
        shown = [f"{thing.color} {thing.shape}" for thing in scene.things]
        assert true == Counter([*shown, *(f"{sign.color} sign" for sign in scene.signs), scene.place])
        (gone,), (new,) = (list((a - b).elements()) for a, b in ((true, false), (false, true)))
        assert len(set(gone.split()) & set(new.split())) == 1


def test_a_list_has_every_shape_color_board_place_and_pair_once():
    for scene in SCENES:
        has = inventory(scene)
        kinds = [
            {thing.shape for thing in scene.things},
            {thing.color for thing in scene.things},
            {(thing.color, thing.shape) for thing in scene.things},
            {sign.color for sign in scene.signs},
            {scene.place},
        ]
        assert has.shape == (LABELS,)
        assert has.sum() == sum(map(len, kinds))
    assert len({tuple(inventory(scene).tolist()) for scene in SCENES}) == len(SCENES)


def test_a_text_names_patches_of_what_it_mentions():
    phrases = phrases_of(SCENES, Random(1))
    assert len(phrases.texts) == 6 * len(SCENES)
    assert phrases.cells_PN.any(1).all()
    short = 0
    for text, number, cells in zip(phrases.texts, phrases.scene_P.tolist(), phrases.cells_PN, strict=True):
        words = text.split("\n")[0].strip("?").split()
        shapes = [word for word in words if word in SHAPES]
        if len(words) == 2 and shapes:  # a star
            short += 1
            expected = {cell for thing in SCENES[number].things if thing.shape == shapes[0] for cell in thing.cells}
            assert set(cells.nonzero().flatten().tolist()) == expected
    assert short > 10


def test_no_text_is_cut():
    tokenizer = clip_tokenizer()
    texts = phrases_of(SCENES, Random(2)).texts + [full_caption(scene, Random(3)) for scene in SCENES]
    assert max(len(tokenizer(text).input_ids) for text in texts) <= LENGTH
    assert all(tokenizer(text).input_ids[-1] == max(tokenizer(text).input_ids) for text in texts)


@pytest.mark.parametrize("sign", [1, -1])
def test_patches_that_point_away_from_their_name_cost_least(sign):
    """CDPruner and TRIM rank patches by minus the similarity."""
    text_PE = F.normalize(torch.tensor([[1.0, 0.0]]), dim=-1)
    patches_BNE = torch.zeros(1, GRID**2, 2)
    patches_BNE[..., 1] = 1
    patches_BNE[0, 5] = torch.tensor([float(sign), 0.0])
    cells_PN = torch.zeros(1, GRID**2, dtype=torch.bool)
    cells_PN[0, 5] = True
    with torch.no_grad():
        loss = TextTower().patch_loss(patches_BNE, text_PE, Phrases(["a star"], torch.tensor([0]), cells_PN))
    assert (loss < 1) == (sign == -1)


def test_texts_that_belong_to_no_image_make_the_contrast_harder():
    tower, images_BE = TextTower(), F.normalize(torch.randn(4, 96, generator=torch.Generator().manual_seed(0)), dim=-1)
    with torch.no_grad():
        alone = tower.image_loss(images_BE, images_BE)
        lured = tower.image_loss(images_BE, torch.cat([images_BE, images_BE.flip(0)]))
    assert lured > alone + 0.2


def test_the_letter_is_that_of_the_right_option():
    rng = Random(4)
    asked = 0
    for scene in SCENES:
        for kind in ("color_query", "shape_query", "count_query", "place_query", "side_choose"):
            if (found := offering(kind, scene, rng)) is None:
                continue
            asked += 1
            question, options = found
            chosen = choosing(question, options)
            assert f"\n{chosen.answer}. {question.answer}" in chosen.text
            assert len(set(options)) == len(options) == (2 if kind == "side_choose" else 4)
    assert asked > 100


def test_a_box_is_the_thing_that_the_expression_alone_names():
    for scene in SCENES:
        for thing, phrase in named_once(scene):
            words = set(phrase.split()[1:])
            alike = [one for one in scene.things if words <= {one.shape, one.color}]
            assert alike == [thing]
            x1, y1, x2, y2 = (GRID * float(edge) for edge in locating(thing, phrase).answer.strip("[]").split(", "))
            assert (round(x1), round(y1)) == (thing.col, thing.row)
            assert round(x2) - round(x1) == round(y2) - round(y1) == thing.size


def test_kinds_of_both_forms_are_taught():
    assert {"option", "locate"} <= KINDS.keys()
