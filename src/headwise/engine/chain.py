"""How answer tokens get through the layers below a branch's last stage: the trunk, then segment after segment.

In each layer an answer token sees what its prompt left there: all visual tokens below the first stage, fewer above
each stage. What the prompt left is final (it stands in front), so every branch that passed a segment reads the
segment's keys and values; only the answer's own are added, a branch each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from headwise.engine.prefix import Questions, causal, visible
from headwise.engine.tree import Node, Segment
from headwise.models.decoder import KV, Decoder, join, take


@dataclass
class Piece:
    """A segment's keys and values, gathered for the branches of a stack; `after_B`: the first answer position."""

    first: int
    compacted: bool
    before: list[KV]
    kv: list[KV]
    after_B: Tensor

    def rows(self, index: Tensor) -> Piece:
        """The piece of the branches `index`, [b]."""
        kv = [(keys[index], values[index]) for keys, values in self.kv]
        before = [take(each, index) for each in self.before]
        return Piece(self.first, self.compacted, before, kv, self.after_B[index])


class Chain:
    """The layers below the last stage of a stack's branches.

    `after_B`: position of the first answer token above the last stage, set by the prefill.
    """

    def __init__(self, nodes: Sequence[Node]) -> None:
        """`nodes`: those of one stack, which passed segments of the same shapes."""
        first = nodes[0]
        self.questions: Questions = first.trunk
        self.decoder: Decoder = first.trunk.decoder
        self.trunk_layer, self.layer, self.compacted = first.trunk_layer, first.layer, first.compacted
        device = first.trunk.image_N.device
        self.rows_B = torch.tensor([node.row for node in nodes], device=device)
        self.after_B = self.questions.after_N[self.rows_B]
        self._passed = [[node.chain[place] for node in nodes] for place in range(len(first.chain))]
        self._pieces: list[Piece] | None = None

    @property
    def pieces(self) -> list[Piece]:
        """Gathered when the first answer token passes: an answer of one token needs none."""
        if self._pieces is None:
            self._pieces = [_piece(passed) for passed in self._passed]
        return self._pieces

    def rows(self, index: Tensor) -> Chain:
        """The chain of some of the branches."""
        part = object.__new__(Chain)
        part.questions, part.decoder = self.questions, self.decoder
        part.trunk_layer, part.layer, part.compacted = self.trunk_layer, self.layer, self.compacted
        part.rows_B, part.after_B = self.rows_B[index], self.after_B[index]
        part._passed = []
        part._pieces = [piece.rows(index) for piece in self.pieces]
        return part

    def run(
        self, embeds_BWD: Tensor, said_BW: Tensor, own: Sequence[KV], own_valid_BA: Tensor
    ) -> tuple[Tensor, list[KV]]:
        """Answer tokens up to the last stage: hidden states, and keys and values of all those layers with `own`.

        `said_BW` counts answer tokens from 0: where positions are kept, token t stands at S + t in every layer;
        where a stage compacted them, at that layer's own cache length, so that a token's position differs by layer.
        """
        questions = self.questions
        original_B = questions.after_N[self.rows_B] + questions.length_N[self.rows_B]
        rope = self.decoder.rope(original_B[:, None] + said_BW)
        below = own[: self.trunk_layer]
        hidden, joined = questions.answer_tokens(self.rows_B, embeds_BWD, rope, below, own_valid_BA, self.trunk_layer)
        # Above each stage the same token sees fewer rows: the segment's keys and values, gathered once for all branches
        # that passed it. Keys below a stage are those of the unpruned prompt, as in a forward pass that prunes there.
        for piece in self.pieces:
            here = self.decoder.rope(piece.after_B[:, None] + said_BW) if piece.compacted else rope
            hidden, more = _through(self.decoder, piece, hidden, here, own, own_valid_BA)
            joined += more
        return hidden, joined


def _through(
    decoder: Decoder, piece: Piece, hidden: Tensor, rope: KV, own: Sequence[KV], own_valid_BA: Tensor
) -> tuple[Tensor, list[KV]]:
    """Answer tokens through one segment's layers, behind all of its positions."""
    width, fixed = hidden.shape[1], piece.before[0][0].shape[2] + piece.kv[0][0].shape[2]
    valid = pad(own_valid_BA, (0, width), value=True)
    mask = visible(causal(width, fixed + own_valid_BA.shape[1], hidden.device), fixed, valid)
    joined = []
    for place, (system, prompt) in enumerate(zip(piece.before, piece.kv, strict=True)):
        index = piece.first + place
        before = join(system, prompt)
        if own:
            before = join(before, own[index])
        hidden, kv = decoder.run(index, hidden, rope, mask, before)
        joined.append(join(own[index], kv) if own else kv)
    return hidden, joined


def _piece(passed: Sequence[tuple[Segment, int]]) -> Piece:
    """One segment's rows for each branch of a stack (they may come from several stacks of equal shape)."""
    first = passed[0][0]
    segments = list(dict.fromkeys(segment for segment, _ in passed))
    offsets, total = {}, 0
    for segment in segments:
        offsets[segment] = total
        total += len(segment.after_B)
    rows = torch.tensor([offsets[segment] + row for segment, row in passed], device=first.after_B.device)
    layers = range(first.last - first.first)
    kv = [
        (
            torch.cat([segment.kv[place][0] for segment in segments])[rows],
            torch.cat([segment.kv[place][1] for segment in segments])[rows],
        )
        for place in layers
    ]
    after_B = torch.cat([segment.after_B for segment in segments])[rows]
    before = first.before[: len(layers)]
    if not before[0][0].shape[2]:  # nothing in front: not tied to the batch of one of the stacks
        before = [first.decoder.empty(1)] * len(layers)
    return Piece(first.first, first.compacted, before, kv, after_B)
