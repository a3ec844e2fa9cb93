"""Greedy steps after a prefill: all branches of a window that no draft finished, as one pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from headwise.engine.caches import AnswerCaches, Part
from headwise.engine.memory import on_device
from headwise.models.decoder import Decoder


@dataclass
class Outcome:
    """A branch's answer so far.

    Greedy tokens (end of sequence included where it came), first-step logits where they were asked for, and the
    smallest gap between best and second-best logit over the steps.
    """

    tokens: list[int]
    logits: Tensor | None
    margin: float


@dataclass
class Open:
    """One branch whose answer goes on: the parts that it shares a lot with, its row in them, and its answer so far."""

    parts: list[Part]
    row: int
    outcome: Outcome


def decode(decoder: Decoder, rows: Sequence[Open], longest: int, finished: Callable[[Outcome], bool]) -> list[Outcome]:
    """The finished outcomes of the branches, in order; the longest answer has at most `longest` tokens.

    What was given is left as it was, so that a pool that was too large can be run again in halves.
    """
    lots: dict[int, list[int]] = {}
    for place, row in enumerate(rows):
        lots.setdefault(id(row.parts), []).append(place)
    order = [place for members in lots.values() for place in members]
    outcomes = [replace(rows[place].outcome, tokens=list(rows[place].outcome.tokens)) for place in order]
    given = [
        [part.rows([rows[place].row for place in members]) for part in rows[members[0]].parts]
        for members in lots.values()
    ]
    _finish(AnswerCaches(decoder, given, longest), outcomes, finished)
    return [outcome for _, outcome in sorted(zip(order, outcomes, strict=True), key=lambda pair: pair[0])]


def _finish(caches: AnswerCaches, outcomes: Sequence[Outcome], finished: Callable[[Outcome], bool]) -> None:
    """Append tokens to the outcomes, all of them together, until each is finished.

    Finished branches run along until half of the pool is: moving the others' caches costs more than a few rows.
    """
    running = list(range(len(outcomes)))
    while running:
        _step(caches, outcomes, running)
        running = [place for place in running if not finished(outcomes[place])]
        if running and 2 * len(running) <= len(outcomes):
            lots, order = caches.lots(running)
            caches, outcomes = AnswerCaches(caches.decoder, lots, caches.longest), [outcomes[place] for place in order]
            running = list(range(len(outcomes)))


def _step(caches: AnswerCaches, outcomes: Sequence[Outcome], running: Sequence[int]) -> None:
    """One token more for every branch that is running: one copy to the device, one back."""
    decoder = caches.decoder
    said = [len(outcome.tokens) - 1 for outcome in outcomes]
    fed = on_device([[outcome.tokens[-1] for outcome in outcomes], said], decoder.home)
    hidden = caches.run(decoder.embed(fed[0][:, None]), fed[1][:, None], max(said))
    top = decoder.logits(hidden[:, 0]).float().topk(2, dim=-1)
    gap_B = top.values[:, 0] - top.values[:, 1]
    tokens, gaps = torch.stack([top.indices[:, 0].double(), gap_B.double()]).tolist()  # both exact in float64
    for place in running:
        outcomes[place].tokens.append(int(tokens[place]))
        outcomes[place].margin = min(outcomes[place].margin, gaps[place])
