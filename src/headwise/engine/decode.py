"""Greedy steps after a prefill, for the branches that no draft finished."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from headwise.engine.chain import Chain
from headwise.models.decoder import KV, join, take


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
class Caches:
    """What open branches attend to, one row each.

    `chain`: the layers below the last stage, shared with other branches. `before` and `own`: keys and values in
    front of the branch and of the branch itself, one pair per layer above the last stage; `valid_BS`: which of
    `own` count. `lower`, `lower_valid_BA`: the answer's own in the layers below.
    """

    chain: Chain
    before: list[KV]
    own: list[KV]
    valid_BS: Tensor
    lower: list[KV]
    lower_valid_BA: Tensor

    def rows(self, index: Tensor) -> Caches:
        """The caches of the rows `index`, [b]: those whose answers are still open."""
        return Caches(
            self.chain.rows(index),
            [take(kv, index) for kv in self.before],
            [(keys[index], values[index]) for keys, values in self.own],
            self.valid_BS[index],
            [(keys[index], values[index]) for keys, values in self.lower],
            self.lower_valid_BA[index],
        )


def decode(caches: Caches, outcomes: list[Outcome], finished: Callable[[Outcome], bool]) -> None:
    """Append tokens to the outcomes, all of them together, until each is finished."""
    while outcomes:
        _step(caches, outcomes)
        still = [place for place, outcome in enumerate(outcomes) if not finished(outcome)]
        if len(still) < len(outcomes):
            outcomes = [outcomes[place] for place in still]
            caches = caches.rows(torch.tensor(still, dtype=torch.long, device=caches.valid_BS.device))


def _step(caches: Caches, outcomes: list[Outcome]) -> None:
    """One token more for every open branch."""
    chain, device = caches.chain, caches.valid_BS.device
    decoder = chain.decoder
    last_B1 = torch.tensor([[outcome.tokens[-1]] for outcome in outcomes], device=device)
    said_B1 = torch.tensor([[len(outcome.tokens) - 1] for outcome in outcomes], device=device)
    # Lower layers are shared with other branches; only the answer's own keys and values are added per branch.
    hidden, caches.lower = chain.run(decoder.embed(last_B1), said_B1, caches.lower, caches.lower_valid_BA)
    caches.lower_valid_BA = pad(caches.lower_valid_BA, (0, 1), value=True)
    caches.valid_BS = pad(caches.valid_BS, (0, 1), value=True)
    hidden = _upper(caches, hidden, chain.after_B[:, None] + said_B1)
    top = decoder.logits(hidden[:, 0]).float().topk(2, dim=-1)
    gaps = (top.values[:, 0] - top.values[:, 1]).tolist()
    for outcome, token, gap in zip(outcomes, top.indices[:, 0].tolist(), gaps, strict=True):
        outcome.tokens.append(token)
        outcome.margin = min(outcome.margin, gap)


def _upper(caches: Caches, hidden: Tensor, position_B1: Tensor) -> Tensor:
    """One token per branch through the layers above its last stage, where `position_B1` is its position."""
    chain = caches.chain
    rope = chain.decoder.rope(position_B1)
    mask = pad(caches.valid_BS, (caches.before[0][0].shape[2], 0), value=True)[:, None, None, :]
    grown = []
    for place, (before, own) in enumerate(zip(caches.before, caches.own, strict=True)):
        hidden, kv = chain.decoder.run(chain.layer + place, hidden, rope, mask, join(before, own))
        grown.append(join(own, kv))
    caches.own = grown
    return hidden
