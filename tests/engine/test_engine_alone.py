"""Costs of a branch alone: what is measured, on how many questions, and how memory is counted."""

from __future__ import annotations

import pytest
import torch
from tiny_llava import write_tiny_llava
from transformers import LlavaForConditionalGeneration

from headwise.engine import Engine, Question
from headwise.engine.alone import SHARE, STEPS, CostProbe, TensorMemoryTracker, kind_of
from headwise.models.decoder import Decoder
from headwise.run.cell_files import measured
from headwise.study.cells import Cell

VISUAL = 36


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_tiny_llava(tmp_path_factory.mktemp("tiny"), layers=5, side=6)
    return LlavaForConditionalGeneration.from_pretrained(folder).eval()


@pytest.fixture
def engine(model):
    cells = [Cell(strategy="sum", tokens=tokens, heads=3, budget="kept") for tokens in (20, 7)]
    cells.append(Cell(strategy="vanilla", tokens=VISUAL))
    return Engine(Decoder(model), torch.randn(5, 32), cells, VISUAL, 6)


def costs(probe, engine, benchmark="gqa"):
    image, question = torch.randn(VISUAL, 32), torch.randn(4, 32)
    return probe.measure(benchmark, engine, image, question)


def test_every_width_has_seconds_and_memory_that_grows_with_the_tokens_kept(model, engine):
    found = costs(CostProbe(model, engine.decoder), engine)
    assert [row["kept"] for row in found] == [7, 20, VISUAL]
    assert all(row["prefill"] > 0 and row["token"] > 0 and row["layer"] == 2 for row in found)
    weights = sum(each.nbytes for each in model.parameters())
    assert weights < found[0]["peak"] < found[1]["peak"]
    assert weights < found[2]["peak"]


def test_measuring_changes_no_answer(model, engine):
    image, asked = torch.randn(1, VISUAL, 32), [Question(0, torch.randn(4, 32), "q")]
    before = engine.answer(image, asked)
    costs(CostProbe(model, engine.decoder), engine)
    after = engine.answer(image, asked)
    assert [branch.tokens for branch in before[0]] == [branch.tokens for branch in after[0]]
    assert [branch.margin for branch in before[0]] == [branch.margin for branch in after[0]]


def test_steps_are_timed_even_where_the_first_token_ends_the_answer(model, engine, monkeypatch):
    steps = []
    monkeypatch.setattr("headwise.engine.decode._step", lambda *given: (steps.append(1), _say(given[1])))
    costs(CostProbe(model, engine.decoder), engine)
    assert len(steps) == 2 * 3 * STEPS  # three widths, each once for memory and once for time


def _say(outcomes):
    for outcome in outcomes:
        outcome.tokens.append(2)


def test_one_question_a_benchmark_and_more_within_the_share(model, engine):
    probe = CostProbe(model, engine.decoder)
    assert probe.due("gqa")
    costs(probe, engine)
    assert not probe.due("gqa")
    assert probe.due("pope")
    probe.answering = 3 * probe.spent / SHARE
    assert probe.due("gqa")
    assert probe.answering * SHARE > probe.spent


def test_memory_is_what_is_held_at_once():
    with TensorMemoryTracker() as held:
        first = torch.zeros(1000)
        view = first.view(10, 100)  # no memory of its own
        del first
        second = view + 1
        del view
        third = second * 2
    assert held.peak == 2 * 4000
    assert held.held == 2 * 4000
    assert third.sum() == 2000


def test_a_method_is_measured_with_its_choosing_and_found_again(model):
    budgets = ("pdrop", 20), ("sparsevlm", 22), ("pdrop", 25)
    cells = [Cell(strategy=strategy, tokens=tokens) for strategy, tokens in budgets]
    engine = Engine(Decoder(model), torch.randn(5, 32), cells, VISUAL, 6)
    found = costs(CostProbe(model, engine.decoder), engine)
    assert len(found) == len(cells)
    for column, cell in enumerate(cells):
        stages = engine.stages(column, VISUAL)
        method, _, _ = kind_of(cell, stages, VISUAL)
        [row] = [row for row in found if row["method"] == method]
        assert row["stages"] == [[stage.layer, stage.rows] for stage in stages]
        assert measured(found, row["layer"], row["kept"], method).prefill_seconds == row["prefill"] > 0


def test_choosing_is_part_of_the_seconds(model, monkeypatch):
    cells = [Cell(strategy="fitprune", tokens=20)]
    engine = Engine(Decoder(model), torch.randn(5, 32), cells, VISUAL, 6)
    chose = []
    monkeypatch.setattr("headwise.methods.fitprune.score", lambda text, rows: chose.append(1) or rows.sum(0))
    costs(CostProbe(model, engine.decoder), engine)
    assert len(chose) == 2 * len(engine.stages(0, VISUAL))  # once for memory, once for time
