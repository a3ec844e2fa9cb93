"""The pool of a window's open answers: how many steps it takes, what a step copies, and that halves say the same."""

from __future__ import annotations

import pytest
import torch
from small_window import CELLS, STEPS, VISUAL, asked, small_model

from headwise.engine import Engine, Optimizations, Question, caches, decode, waves
from headwise.engine.alone import TensorMemoryTracker
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell


@pytest.fixture(scope="module")
def model():
    return small_model()


def said(rows):
    return [[branch.tokens for branch in row] for row in rows]


def answered(model, monkeypatch, optimizations=None, lengths=(4, 9, 4, 1, 70)):
    """Answers, and the number of steps that the pool made for them."""
    steps = []
    right = decode._step
    monkeypatch.setattr(decode, "_step", lambda *given: (steps.append(len(given[1])), right(*given)))
    before, pictures, questions = asked(lengths)
    rows = Engine(Decoder(model), before, CELLS, VISUAL, STEPS, optimizations).answer(pictures, questions)
    return said(rows), steps


def test_a_window_takes_as_many_steps_as_its_longest_answer_has_tokens(model, monkeypatch):
    """Widths, stages, questions and images differ; the first token of an answer takes no step."""
    answers, steps = answered(model, monkeypatch, Optimizations(draft=False))
    longest = max(len(tokens) for row in answers for tokens in row)
    assert longest > 2
    assert len(steps) == longest - 1


def test_with_drafts_there_are_two_pools(model, monkeypatch):
    """Drafts must be whole before they are checked, so theirs is a pool of its own, of one row per question."""
    answers, steps = answered(model, monkeypatch)
    longest = max(len(tokens) for row in answers for tokens in row)
    assert len(steps) <= 2 * (longest - 1)
    assert max(steps[: longest - 1]) == len(answers)


@pytest.mark.parametrize("sharers", [1, 3])
@pytest.mark.parametrize("room", [1, 2])
def test_answers_do_not_depend_on_how_caches_are_laid_out(model, monkeypatch, sharers, room):
    expected, _ = answered(model, monkeypatch)
    monkeypatch.setattr(caches, "SHARERS", sharers)
    monkeypatch.setattr(caches, "ROOM", room)
    monkeypatch.setattr(caches, "WIDTH_STEP", 4)
    assert answered(model, monkeypatch)[0] == expected


def test_a_pool_too_large_for_memory_goes_on_in_halves_from_where_it_began(model, monkeypatch):
    expected, _ = answered(model, monkeypatch)
    right, refused = decode._step, []

    def refuse(pool, outcomes, running):
        if len(outcomes) > 3 and max(len(each.tokens) for each in outcomes) > 1:
            refused.append(len(outcomes))
            raise torch.OutOfMemoryError("too much")
        return right(pool, outcomes, running)

    monkeypatch.setattr(decode, "_step", refuse)
    before, pictures, questions = asked((4, 9, 4, 1, 70))
    found = said(Engine(Decoder(model), before, CELLS, VISUAL, STEPS).answer(pictures, questions))
    assert refused
    assert found == expected


def test_stacks_that_wait_are_let_go_when_memory_is_full(model, monkeypatch):
    expected, _ = answered(model, monkeypatch)
    settled = []
    right = waves.Waves._settle
    monkeypatch.setattr(waves.Waves, "_settle", lambda self, held: (settled.append(len(held)), right(self, held)))
    before, pictures, questions = asked((4, 9, 4, 1, 70))
    engine = Engine(Decoder(model), before, CELLS, VISUAL, STEPS)
    engine.held_tokens = 100
    assert said(engine.answer(pictures, questions)) == expected
    assert len(settled) > 4


def test_however_often_stacks_are_read_what_is_open_is_decoded_as_one_pool(model, monkeypatch):
    """As where memory holds one stack at a time: open branches, usually few, wait for those of the other stacks."""
    expected, steps = answered(model, monkeypatch)
    count = len(steps)
    right = waves.Waves._prefilled
    monkeypatch.setattr(waves.Waves, "_prefilled", lambda self, work: self._settle(right(self, work)) or [])
    found, again = answered(model, monkeypatch)
    assert found == expected
    assert len(again) == count


def bytes_of_a_step(model, visual, monkeypatch):
    """Bytes that the first decode step holds at most, beyond what was there before it."""
    found = []
    right = decode._step

    def watched(*given):
        with TensorMemoryTracker() as held:
            right(*given)
        found.append((held.peak, len(given[1])))

    monkeypatch.setattr(decode, "_step", watched)
    draw = torch.Generator().manual_seed(1)
    before, pictures = torch.randn(35, 32, generator=draw), torch.randn(1, visual, 32, generator=draw)
    questions = [Question(0, torch.randn(5, 32, generator=draw), f"q{n}") for n in range(6)]
    cells = [Cell(strategy="sum", tokens=visual - 4, heads=2, budget="kept")]
    Engine(Decoder(model), before, cells, visual, STEPS).answer(pictures, questions)
    monkeypatch.setattr(decode, "_step", right)
    return found[0]


def test_a_step_copies_no_keys_of_the_prompt(model, monkeypatch):
    """What grows with the prompt is which positions are seen: bytes per position and row, not keys and values."""
    (short, rows), (long, _) = (bytes_of_a_step(model, visual, monkeypatch) for visual in (40, 640))
    keys_and_values = 2 * 2 * 8 * 4  # of one position in one layer: two heads of 8 in float32
    assert (long - short) / 600 / rows < keys_and_values / 4
