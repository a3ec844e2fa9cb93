"""A window of the embedded study as it is answered: hardly a position is run in its stacks that no answer needs.

Stacks hold questions of one length and one number of kept tokens. So what is run in vain is drafts: their padding to
the longest of a stack, and what does not hold of them.
"""

from __future__ import annotations

import numpy as np
import pytest

from headwise.engine import branches
from headwise.run.answering import image_paths, open_windows
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings

LIMIT = 0.95
"""Measured 0.99 for TextVQA, whose answers and questions differ most in length; the others are above."""


@pytest.fixture(scope="module")
def stacks():
    """Per stack of a TextVQA window: positions run, positions that answers needed, and its kept tokens and text."""
    found, layers, accept = [], branches.Stack._layers, branches.Stack.accept

    def run(stack, hidden, *given):
        stack.run_in_all = hidden.shape[0] * hidden.shape[1]
        return layers(stack, hidden, *given)

    def accepting(stack, read):
        outcomes = accept(stack, read)
        in_front = 0 if stack.node.is_root else stack.images.system.length  # three tokens, run with every branch
        needed = [
            (0 if node.is_root else in_front + node.visual) + node.length + len(outcome.tokens) - 1
            for node, outcome in zip(stack.nodes, outcomes, strict=True)
        ]
        found.append((stack.run_in_all, sum(needed), stack.node.visual, stack.node.length))
        return outcomes

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(branches.Stack, "_layers", run)
        patch.setattr(branches.Stack, "accept", accepting)
        _answer_a_window()
    return found


def _answer_a_window():
    """All strategies, controls and widths of the default grid, at one number of heads, on a window of full size."""
    job = Job.of(load_settings("configs/default.yaml", {"benchmark": "textvqa", "heads": "8"}))
    [task] = job.tasks
    window = open_windows(task, np.zeros((len(task.samples), len(task.cells)), dtype=bool), "cpu")[1]
    prepared = job.answerer.prepare(window, image_paths(task, window), task.cells)
    job.answerer.branches(task.cells, prepared.pixels, [task.samples[place] for place in window.places])


def test_the_window_has_several_widths_and_lengths(stacks):
    assert len({visual for _, _, visual, _ in stacks}) >= 3
    assert len({length for _, _, _, length in stacks}) >= 3


def test_nearly_all_positions_of_stacks_are_of_use(stacks):
    run, needed = sum(each for each, *_ in stacks), sum(each for _, each, *_ in stacks)
    assert LIMIT <= needed / run <= 1
