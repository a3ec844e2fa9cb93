"""All branches of a window: first one per question, whose answers are the drafts of the others.

Of each wave the stacks are prefilled one after another without waiting for the device; then the host reads once what
all of them say (more often where memory is short), and the branches that no draft finished are decoded as one pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from headwise.engine.branches import Stack
from headwise.engine.decode import Open, Outcome, decode
from headwise.engine.levers import Optimizations
from headwise.engine.memory import to_host, with_halving
from headwise.engine.tree import Node
from headwise.models.decoder import Decoder

# A branch: its place among the window's, its node and its draft.
Work = tuple[int, Node, list[int]]


@dataclass
class Waves:
    """Runs stacks of branches; `outcomes` by place. `held_tokens`: see memory."""

    decoder: Decoder
    optimizations: Optimizations
    max_new_tokens: int
    keep_logits: bool
    held_tokens: int
    outcomes: dict[int, Outcome] = field(default_factory=dict)
    _open: list[Open] = field(default_factory=list)
    _places: list[int] = field(default_factory=list)
    _waiting: int = 0  # positions whose keys and values open branches hold

    def run(self, stacks: Sequence[Sequence[Work]]) -> None:
        """One wave: what its stacks say is read as often as memory makes necessary, and all that is open decoded once.

        Only where the open branches alone fill the memory there is more than one pool.
        """
        held: list[tuple[Stack, Sequence[Work]]] = []
        for work in stacks:
            try:
                held += self._prefilled(work)
            except torch.OutOfMemoryError:
                self._settle(held)  # perhaps it was those that wait
                self._decode()
                held += with_halving(self._prefilled, work)
            if sum(stack.positions for stack, _ in held) + self._waiting >= self.held_tokens:
                self._settle(held)
                if 2 * self._waiting >= self.held_tokens:
                    self._decode()
        self._settle(held)
        self._decode()

    def _prefilled(self, work: Sequence[Work]) -> list[tuple[Stack, Sequence[Work]]]:
        nodes, drafts = [node for _, node, _ in work], [draft for _, _, draft in work]
        return [(Stack(nodes, drafts, self.optimizations, self.keep_logits), work)]

    def _settle(self, held: list[tuple[Stack, Sequence[Work]]]) -> None:
        """Read what the stacks say and let go of them; of branches that are open, keep what they go on from."""
        for (stack, work), read in zip(held, to_host([stack.read for stack, _ in held]), strict=True):
            outcomes = stack.accept(read)
            self.outcomes.update((place, outcome) for (place, _, _), outcome in zip(work, outcomes, strict=True))
            going = [row for row, outcome in enumerate(outcomes) if not self._finished(outcome)]
            if going:
                parts = stack.parts(going)
                self._open += [Open(parts, number, outcomes[row]) for number, row in enumerate(going)]
                self._places += [work[row][0] for row in going]
                self._waiting += stack.positions * len(going) // len(outcomes)
        held.clear()

    def _decode(self) -> None:
        """Decode all branches that are open, as one pool."""
        rows, places = self._open, self._places
        self._open, self._places, self._waiting = [], [], 0
        if rows:
            found = with_halving(lambda part: decode(self.decoder, part, self.max_new_tokens, self._finished), rows)
            self.outcomes.update(zip(places, found, strict=True))

    def _finished(self, outcome: Outcome) -> bool:
        return outcome.tokens[-1] in self.decoder.eos or len(outcome.tokens) >= self.max_new_tokens
