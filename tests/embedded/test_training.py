"""The training decoder is transformers' own; a stage that was killed goes on where it was."""

from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from tools.embedded.batches import FEWEST, PREFIX, ask, fresh_scenes, make_batch, moved, prefix_ids
from tools.embedded.language import SHARES, start_decoder
from tools.embedded.loop import Stage, optimizers_for, run_stage
from tools.embedded.losses import MATCH_LAYER, READ_LAYER, guide_loss, guided_layers
from tools.embedded.muon import orthogonal
from tools.embedded.scenes import Scene
from tools.embedded.tokens import build_tokenizer
from tools.embedded.vocabulary import SYSTEM


def test_driving_many_questions_equals_one_prompt_at_a_time():
    scene_decoder = start_decoder().eval()
    rng = Random(0)
    data, _ = make_batch(rng, fresh_scenes(rng, 2), 3, SHARES, background=None)
    with torch.no_grad():
        visual = scene_decoder.cell_vectors(data.labels_BNF)
        logits, watched = scene_decoder(data, visual, {2: data.guided_P3})
        embed = scene_decoder.decoder.model.embed_tokens
        prompt = torch.cat([embed(torch.tensor(prefix_ids())), visual[1], embed(data.ids_BMT[1, 2])])
        whole = scene_decoder.decoder(inputs_embeds=prompt[None]).logits[0, PREFIX + 576 :]
    assert torch.allclose(logits[1, 2], whole, atol=1e-4)
    assert watched[2].shape[1:] == (32, PREFIX + 576)


def test_a_moved_scene_is_a_shorter_prompt_with_the_same_tokens():
    """In half of the scenes the text stands elsewhere, each visual token keeps its vector, and the order stays."""
    scene_decoder = start_decoder().eval()
    rng = Random(0)
    scenes = fresh_scenes(rng, 24)
    data, _ = make_batch(rng, scenes, 2, SHARES)
    other = moved(rng, data)
    places = other.start_B - PREFIX
    elsewhere = (places < 576).nonzero()[:, 0].tolist()
    assert 6 <= len(elsewhere) <= 18
    assert FEWEST <= int(places.min()) < 200 < 450 < int(places[elsewhere].max())
    for b in range(24):
        positions = other.positions_BN[b]
        if b not in elsewhere:
            assert torch.equal(positions, data.positions_BN[b])
            continue
        assert positions.min() >= PREFIX
        assert positions.max() < other.start_B[b]
        steps = positions.diff()
        assert bool((steps >= (0 if places[b] < len(positions) else 1)).all())
    b = elsewhere[0]
    with torch.no_grad():
        visual = scene_decoder.cell_vectors(data.labels_BNF)
        logits, _ = scene_decoder(other, visual)
        embed = scene_decoder.decoder.model.embed_tokens
        prompt = torch.cat([embed(torch.tensor(prefix_ids())), visual[b], embed(data.ids_BMT[b, 1])])
        text = other.start_B[b] + torch.arange(data.ids_BMT.shape[2])
        positions = torch.cat([torch.arange(PREFIX), other.positions_BN[b], text])
        weight = torch.cat([data.weight_BN[b], torch.zeros(len(text))])
        mask = (weight + torch.full((len(weight), len(weight)), float("-inf")).triu(1))[None, None]
        alone = scene_decoder.decoder(inputs_embeds=prompt[None], position_ids=positions[None], attention_mask=mask)
    assert torch.allclose(logits[b, 1], alone.logits[0, -len(text) :], atol=1e-4)


def test_sampled_background_stands_for_all_of_it():
    """With one kind of background cell the weighted sample gives what all cells give."""
    rng = Random(0)
    data, _ = make_batch(rng, fresh_scenes(rng, 2), 3, SHARES, background=12)
    assert data.weight_BN.exp().sum(1).tolist() == pytest.approx([576 + PREFIX] * 2, rel=1e-4)


def test_a_quoted_letter_is_guided_to_the_cells_that_show_it_and_told_whether_it_is_right():
    tokenizer, rng = build_tokenizer(), Random(0)
    scenes = [scene for scene in fresh_scenes(rng, 40) if any(not sign.is_sum for sign in scene.signs)]
    data, asked = make_batch(rng, scenes, 4, {"word_verify": 1.0})
    assert len(data.quoted_Q3) == sum(len(question.quoted) for row in asked for question in row)
    shown_said = set()
    for q, (b, m, t) in enumerate(data.quoted_Q3.tolist()):
        letter = tokenizer.decode(data.ids_BMT[b, m, t]).removeprefix("##")
        cells = {
            cell for sign in scenes[b].signs for cell, mark in zip(sign.cells, sign.text, strict=True) if mark == letter
        }
        places = data.match_QN[q].nonzero()[:, 0].tolist()
        found = {int(data.positions_BN[b, place - PREFIX]) - PREFIX for place in places if place}
        assert found == cells
        assert (places == [0]) == (not cells)
        said = tokenizer.decode(data.heard_Q[q])
        assert said == asked[b][m].answer  # all letters of a wrong word are wrong
        shown_said.add((bool(cells), said))
    assert shown_said == {(True, "yes"), (True, "no"), (False, "no")}


def test_without_the_guide_layer_4_is_free_and_quoted_letters_are_still_matched():
    scene_decoder, rng = start_decoder(), Random(0)
    scenes = [scene for scene in fresh_scenes(rng, 40) if any(not sign.is_sum for sign in scene.signs)][:4]
    data, _ = make_batch(rng, scenes, 6, {"word_verify": 1.0, "shape_query": 1.0})
    logits, watched = scene_decoder(data, scene_decoder.cell_vectors(data.labels_BNF), guided_layers(data))

    def pulled(guide: bool) -> list[bool]:
        """Whether the guides pull at the attention of layers 1 and 4."""
        seen = [watched[MATCH_LAYER], watched[READ_LAYER]]
        loss = guide_loss(logits, watched, data, guide)
        grads = torch.autograd.grad(loss, seen, retain_graph=True, allow_unused=True)
        return [grad is not None for grad in grads]

    assert pulled(guide=True) == [True, True]
    assert pulled(guide=False) == [True, False]
    without_quotes = replace(data, quoted_Q3=data.quoted_Q3[:0])
    assert guide_loss(logits, watched, without_quotes, guide=False).item() == 0
    assert guide_loss(logits, watched, without_quotes, guide=True).item() > 0


def test_a_kind_that_fits_no_scene_is_said_and_not_drawn_for_ever():
    blank = Scene("sea", (), (), ())
    with pytest.raises(ValueError, match="none of read, sum_query fits"):
        ask(blank, Random(0), 1, {"read": 1.0, "sum_query": 1.0})


class Line(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.ModuleList([torch.nn.Linear(4, 6)])


def stage(folder: Path, steps: int) -> Stage:
    line = Line()

    def step_fn(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(step))
        return (line.layers[0](x) - x.sum(-1, keepdim=True)).square().mean(), {}

    return Stage("line", folder, line, optimizers_for(line, 1e-2, 1e-2), step_fn, 8, every=2)


class Killed(Exception):
    pass


def test_a_killed_stage_goes_on_from_its_checkpoint(tmp_path):
    unbroken = stage(tmp_path / "a", 8)
    run_stage(unbroken)
    first, steps = stage(tmp_path / "b", 8), []
    step_fn = first.step_fn

    def dies(step: int) -> tuple[torch.Tensor, dict[str, float]]:
        if step == 5:
            raise Killed
        return step_fn(step)

    first.step_fn = dies
    with pytest.raises(Killed):
        run_stage(first)
    second = stage(tmp_path / "b", 8)
    again = second.step_fn
    second.step_fn = lambda step: (steps.append(step), again(step))[1]
    run_stage(second)
    assert steps == [4, 5, 6, 7]
    for a, b in zip(unbroken.modules.parameters(), second.modules.parameters(), strict=True):
        assert torch.equal(a, b)


def test_orthogonal_brings_singular_values_near_one():
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(2, 16, 32)))
    assert values.min() > 0.6
    assert values.max() < 1.3


def test_tokenizer_spells_and_joins():
    tokenizer = build_tokenizer()
    ids = tokenizer("bat", add_special_tokens=False).input_ids
    assert len(ids) == 3
    assert tokenizer.decode(ids) == "bat"
    assert len(tokenizer(f"{SYSTEM} USER:").input_ids) == PREFIX
    assert tokenizer.unk_token_id not in tokenizer("Why, 42 x-rays & Odd words!").input_ids
