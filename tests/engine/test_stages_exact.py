"""Every method in the grid against its slow definition: odd sizes, grouped-query heads, drafts, nothing shared."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from slow_stages import Slow
from transformers import LlamaConfig, LlamaForCausalLM

from headwise.engine import Engine, ImageRows, Optimizations, Question, run_prompt
from headwise.errors import ConfigError
from headwise.methods.stages import inside_method, stages_of
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell, Geometry

LAYERS, WIDTH, HEADS, STEPS = 7, 48, 6, 5
OFF = Optimizations(**{field.name: False for field in fields(Optimizations)})
CELLS = [
    Cell(strategy="vanilla", tokens=1),
    Cell(strategy="fastv", tokens=9, budget="kept"),
    Cell(strategy="all_heads", tokens=9, budget="kept", heads=HEADS),
    Cell(strategy="fastv", tokens=14, layer=4),
    Cell(strategy="fastv", tokens=12, layer=1, budget="kept"),
    Cell(strategy="pdrop", tokens=12),
    Cell(strategy="pdrop", tokens=8),
    Cell(strategy="pdrop", tokens=2, budget="kept"),
    Cell(strategy="sparsevlm", tokens=15),
    Cell(strategy="sparsevlm", tokens=9),
    Cell(strategy="sparsevlm_plus", tokens=15),
    Cell(strategy="sparsevlm_plus", tokens=10),
    Cell(strategy="dart", tokens=12, budget="kept"),
    Cell(strategy="dart", tokens=20, budget="kept"),
    Cell(strategy="fitprune", tokens=15),
    Cell(strategy="fitprune", tokens=9),
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(3)
    config = LlamaConfig(
        hidden_size=WIDTH,
        intermediate_size=56,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        vocab_size=60,
        initializer_range=0.25,
        eos_token_id=60,
        rope_parameters={"rope_type": "default", "rope_theta": 1e12},
    )
    return LlamaForCausalLM(config).eval()


def prompts(system, visual, lengths, images=2):
    draw = torch.Generator().manual_seed(11)
    before = torch.randn(system, WIDTH, generator=draw)
    pictures = torch.randn(images, visual, WIDTH, generator=draw)
    return before, pictures, [torch.randn(length, WIDTH, generator=draw) for length in lengths]


def slow(model, before, picture, question, cell):
    geometry = Geometry(layers=LAYERS, heads=HEADS, visual=len(picture))
    name = {"vanilla": "fastv", "all_heads": "fastv"}.get(cell.strategy, cell.strategy)
    compacted = inside_method(cell.strategy).positions == "compacted"
    whole = torch.cat([before, picture, question])
    return Slow(model, whole, len(before), len(picture), name, stages_of(cell, geometry), compacted)


@pytest.mark.parametrize("system", [0, 5, 11], ids=lambda length: f"{length} positions before the image")
@pytest.mark.parametrize("off", [False, True], ids=["shared", "nothing shared"])
@torch.inference_mode()
def test_every_method_says_what_its_slow_definition_says(model, system, off):
    before, pictures, questions = prompts(system, 23, [4, 9, 4, 1, 6])
    if system == 0:
        pictures, questions = pictures[:1], questions[1:2]
    engine = Engine(Decoder(model), before, CELLS, 23, STEPS, OFF if off else None, keep_logits=True)
    asked = [Question(n % len(pictures), question, f"q{n}") for n, question in enumerate(questions)]
    for question, row in zip(asked, engine.answer(pictures, asked), strict=True):
        for cell, branch in zip(CELLS, row, strict=True):
            expected = slow(model, before, pictures[question.image], question.embeds_QD, cell)
            tokens, logits = expected.answer(STEPS)
            assert {stage.layer: stage.kept.tolist() for stage in branch.stages} == expected.kept, cell
            torch.testing.assert_close(branch.logits, logits, atol=1e-4, rtol=0, msg=lambda m, c=cell: f"{c} {m}")
            assert branch.tokens == tokens, cell


@torch.inference_mode()
def test_several_merged_rows_stand_in_the_order_of_their_centres(model):
    before, pictures, questions = prompts(5, 95, [6, 3])
    cells = [Cell(strategy="sparsevlm", tokens=tokens) for tokens in (40, 25)]
    asked = [Question(image, question, "q") for image, question in enumerate(questions)]
    found = Engine(Decoder(model), before, cells, 95, STEPS, keep_logits=True).answer(pictures, asked)
    for image, row in enumerate(found):
        for cell, branch in zip(cells, row, strict=True):
            expected = slow(model, before, pictures[image], questions[image], cell)
            tokens, logits = expected.answer(STEPS)
            assert (branch.stages[0].kept < 0).sum() > 1
            assert {stage.layer: stage.kept.tolist() for stage in branch.stages} == expected.kept
            torch.testing.assert_close(branch.logits, logits, atol=1e-4, rtol=0)
            assert branch.tokens == tokens


@torch.inference_mode()
def test_a_merged_row_knows_the_area_of_the_image_that_it_comes_from(model):
    before, pictures, questions = prompts(5, 95, [6, 3])
    cells = [Cell(strategy="fastv", tokens=60), *(Cell(strategy="sparsevlm", tokens=tokens) for tokens in (50, 40, 25))]
    asked = [Question(image, question, "q") for image, question in enumerate(questions)]
    again = 0
    for image, row in enumerate(Engine(Decoder(model), before, cells, 95, STEPS).answer(pictures, asked)):
        assert row[0].area_V is None
        for cell, branch in zip(cells[1:], row[1:], strict=True):
            expected = slow(model, before, pictures[image], questions[image], cell)
            expected.answer(1)
            last = branch.stages[-1].kept
            merged = [members for members, place in zip(expected.members, last.tolist(), strict=True) if place < 0]
            again += any(len(stage.kept[stage.kept < 0]) for stage in branch.stages[:-1])
            area = [next((k for k, of in enumerate(merged, 1) if place in of), 0) for place in range(95)]
            assert branch.area_V.tolist() == area
    assert again  # rows merged at one stage went into the next


@pytest.mark.parametrize("name", [field.name for field in fields(Optimizations)])
def test_an_optimization_changes_no_answer_of_any_method(model, name):
    before, pictures, questions = prompts(11, 23, [4, 9, 4, 1, 6])
    asked = [Question(n % 2, question, f"q{n}") for n, question in enumerate(questions)]
    on, off = (
        Engine(Decoder(model), before, CELLS, 23, STEPS, each).answer(pictures, asked)
        for each in (None, Optimizations(**{name: False}))
    )
    assert [[b.tokens for b in row] for row in on] == [[b.tokens for b in row] for row in off]
    assert [[b.kept_R.tolist() for b in row] for row in on] == [[b.kept_R.tolist() for b in row] for row in off]


def test_equal_decisions_share_a_branch_whatever_their_names(model):
    before, pictures, questions = prompts(5, 23, [4])
    engine = Engine(Decoder(model), before, CELLS[:4], 23, STEPS)
    assert [branch.shared for branch in engine.answer(pictures, [Question(0, questions[0])])[0]] == [1, 2, 2, 1]


def test_lower_layers_run_once_for_all_cells(model, monkeypatch):
    before, pictures, questions = prompts(11, 23, [4, 4])
    ran = []
    run = Decoder.run
    monkeypatch.setattr(
        Decoder,
        "run",
        lambda self, index, hidden, *rest: (
            ran.append((index, len(hidden), hidden.shape[1])),
            run(self, index, hidden, *rest),
        )[1],
    )
    cells = [Cell(strategy="pdrop", tokens=tokens) for tokens in (12, 10, 8)]
    engine = Engine(Decoder(model), before, cells, 23, 1)
    ran.clear()
    engine.answer(pictures[:1], [Question(0, question) for question in questions])
    first = stages_of(cells[0], Geometry(layers=LAYERS, heads=HEADS, visual=23))[0].layer
    below = [call for call in ran if call[0] < first]
    assert below == [(index, count, rows) for count, rows in ((1, 23), (2, 4)) for index in range(first)]


@torch.inference_mode()
def test_rows_chosen_before_the_first_layer_are_a_prompt_of_their_own(model):
    before, pictures, questions = prompts(11, 23, [4, 9, 6])
    places = torch.tensor([2, 3, 7, 8, 20, 21, -1])
    rows = [ImageRows(torch.cat([image[places[:-1]], image.mean(0, keepdim=True)]), places) for image in pictures]
    other = [ImageRows(image[:4], torch.arange(4)) for image in pictures]
    cells = [Cell(strategy="vanilla", tokens=1), Cell(strategy="divprune", tokens=7), CELLS[5]]
    cells.append(Cell(strategy="divprune", tokens=4))
    reduced = [[None, rows[image], None, other[image]] for image in range(2)]
    engine = Engine(Decoder(model), before, cells, 23, STEPS, keep_logits=True)
    asked = [Question(image, question, "q") for image, question in zip((0, 1, 1), questions, strict=True)]
    for question, row in zip(asked, engine.answer(pictures, asked, reduced), strict=True):
        for given, branch in zip(([rows, other]), (row[1], row[3]), strict=True):
            alone = torch.cat([before, given[question.image].rows_TD, question.embeds_QD])
            tokens, logits = Slow(model, alone, 11, len(given[0].rows_TD), "", (), True).answer(STEPS)
            assert branch.tokens == tokens
            torch.testing.assert_close(branch.logits, logits, atol=1e-4, rtol=0)
            assert [(stage.layer, stage.kept.tolist()) for stage in branch.stages] == [(0, given[0].places_T.tolist())]
        assert row[1].kept_R.tolist() == places[:-1].tolist()
        whole = run_prompt(
            model, torch.cat([before, pictures[question.image], question.embeds_QD]), slice(11, 34), cells[2:3], STEPS
        )[0]
        assert row[2].tokens == whole.tokens


def test_a_reduced_prefix_runs_once_for_all_questions_of_an_image(model, monkeypatch):
    before, pictures, questions = prompts(11, 23, [4, 4, 4])
    rows = ImageRows(pictures[0][:6], torch.arange(6))
    cells = [Cell(strategy="divprune", tokens=6)]
    ran = []
    keys = Decoder.keys_values
    monkeypatch.setattr(
        Decoder,
        "keys_values",
        lambda self, index, hidden, rope: (ran.append(tuple(hidden.shape[:2])), keys(self, index, hidden, rope))[1],
    )
    engine = Engine(Decoder(model), before, cells, 23, 1)
    engine.answer(pictures[:1], [Question(0, question) for question in questions], [[rows]])
    assert ran == [(1, 6), (3, 4)]  # the prefix in the last layer, then all three questions as one stack


def test_images_of_different_size_in_one_call(model):
    before, pictures, questions = prompts(5, 23, [4, 9])
    images = [pictures[0], pictures[1][:17]]
    cells = [CELLS[0], CELLS[1], CELLS[7]]
    asked = [Question(image, question, "q") for image, question in enumerate(questions)]
    found = Engine(Decoder(model), before, cells, 23, STEPS).answer(images, asked)
    for image, question, row in zip(images, questions, found, strict=True):
        alone = run_prompt(model, torch.cat([before, image, question]), slice(5, 5 + len(image)), cells, STEPS)
        assert [branch.tokens for branch in row] == [branch.tokens for branch in alone]
        assert [branch.kept_R.tolist() for branch in row] == [branch.kept_R.tolist() for branch in alone]


def test_rows_that_were_not_given_are_asked_for(model):
    before, pictures, questions = prompts(5, 23, [4])
    engine = Engine(Decoder(model), before, [Cell(strategy="divprune", tokens=6)], 23, 1)
    with pytest.raises(ConfigError, match="divprune chooses before the language model"):
        engine.answer(pictures, [Question(0, questions[0])])
