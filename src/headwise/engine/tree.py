"""The tree of stages: which state each cell is in after each stage, and what runs between two stages.

A node is one question after some decisions. Cells that decided alike are in the same node, whatever their names:
its layers run once for all of them (a trie of decisions). The root of a question is its row of the trunk, where
nothing has been dropped. Between two stages, nodes that have equally many rows run as one stack, a `Segment`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count, groupby
from typing import Any

import torch
from torch import Tensor

from headwise.engine.prefix import Questions, State, beside, causal
from headwise.models.decoder import KV

# Sources are numbered as they are made, so that stacks are put together in one order in every run.
numbers = count(1)


@dataclass(eq=False)
class Node:
    """One question after some stages, at the output of decoder layer `layer`.

    `source`, `source_row`: where the state is read from; `kept_R` (None: all) and `merge_CR` say which rows of it
    are this node's: those kept, in order, then weighted sums of all of them. `places_n`: for each visual row its
    place in the image, -1 for a merged one; `made_rows`: there may be such. `compacted`: positions count from 0 anew.
    `area_V`: for each place in the image the merged row that it went into, from 1 in their order (0: none), where a
    stage has merged rows. `entered`: 1 where rows had been chosen before layer 1. `chain`: the segments below
    `layer` that answer tokens pass above the trunk's `trunk_layer` layers.
    """

    trunk: Questions
    row: int
    question: int
    layer: int
    source: Questions | Segment
    source_row: int
    places_n: Tensor
    trunk_layer: int
    kept_R: Tensor | None = None
    merge_CR: Tensor | None = None
    compacted: bool = False
    made_rows: bool = False
    area_V: Tensor | None = None
    entered: int = 0
    chain: tuple[tuple[Segment, int], ...] = ()
    children: dict[Any, Node] = field(default_factory=dict)
    views: dict[int, Any] = field(default_factory=dict)

    @property
    def visual(self) -> int:
        """n, the visual rows that are left."""
        return len(self.places_n)

    @property
    def prunable_r(self) -> Tensor | None:
        """Rows that may go, where text stands between visual tokens; None: all of them."""
        index_V = self.trunk.index_of(self.row)
        return None if index_V is None else (index_V[self.places_n] >= 0).nonzero()[:, 0]

    @property
    def kept_n(self) -> Tensor:
        """For each visual row its number among the image's visual tokens, -1 for a merged one."""
        index_V = self.trunk.index_of(self.row)
        if index_V is None:
            return self.places_n
        number_n = index_V[self.places_n]
        return number_n[number_n >= 0]

    @property
    def length(self) -> int:
        """Text positions behind the image."""
        return self.trunk.lengths[self.row]

    @property
    def is_root(self) -> bool:
        """Nothing decided yet: its rows are the trunk's."""
        return self.source is self.trunk and self.kept_R is None and self.merge_CR is None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What nodes of one stack have in common: layers and widths all the way down, hence no padding."""
        passed = tuple((segment.first, segment.last, segment.visual, segment.compacted) for segment, _ in self.chain)
        merged = 0 if self.merge_CR is None else len(self.merge_CR)
        unpruned = self.is_root
        return id(self.trunk), self.layer, self.visual, merged, self.length, self.compacted, unpruned, passed


@dataclass
class Rows:
    """What a stack of nodes starts from: visual rows [B, n, D], text [B, Q, D], positions of both, and of an answer.

    `after_B` is the position of the first answer token.
    """

    visual_BnD: Tensor
    text_BQD: Tensor
    visual_positions_Bn: Tensor
    text_positions_BQ: Tensor
    after_B: Tensor


def gather(nodes: Sequence[Node]) -> Rows:
    """The rows of nodes of one shape, read where each was left; nodes of one source must stand together."""
    # A child holds no hidden states: it says which rows of its parent's stack stay, and they are read here, where they
    # are needed. What a layer computed for them does not depend on who reads it later.
    parts = [_visual_rows(list(group)) for _, group in groupby(nodes, key=lambda node: id(node.source))]
    visual, positions = (torch.cat([part[i] for part in parts]) if len(parts) > 1 else parts[0][i] for i in (0, 1))
    texts = [_text_rows(list(group)) for _, group in groupby(nodes, key=lambda node: id(node.source))]
    text = torch.cat(texts) if len(texts) > 1 else texts[0]
    first = nodes[0]
    device, system = text.device, first.trunk.images.system.length
    rows_B = torch.tensor([node.row for node in nodes], device=device)
    start_B = first.trunk.after_N[rows_B]
    if first.compacted:  # places anew, 0..len-1: the system prompt keeps its own, so what was run of it stays valid
        positions = (system + torch.arange(first.visual, device=device)).expand(len(nodes), -1)
        start_B = torch.full_like(start_B, system + first.visual)
    text_positions = start_B[:, None] + torch.arange(first.length, device=device)
    return Rows(visual, text, positions, text_positions, start_B + first.length)


def _visual_rows(nodes: Sequence[Node]) -> tuple[Tensor, Tensor]:
    """Visual rows and positions of nodes that read from one source, as one indexing."""
    first = nodes[0]
    device = first.places_n.device
    rows_B = torch.tensor([node.source_row for node in nodes], device=device)
    kept_BR = None if first.kept_R is None else torch.stack([node.kept_R for node in nodes if node.kept_R is not None])
    hidden, positions = first.source.visual_rows(first.layer, rows_B, kept_BR)
    # Merged rows are weighted sums of the rows that there were at this layer, in the method's order, behind those kept.
    if first.merge_CR is not None:
        weights_BCR = torch.stack([node.merge_CR for node in nodes if node.merge_CR is not None])
        everything, _ = first.source.visual_rows(first.layer, rows_B, None)
        hidden = torch.cat([hidden, weights_BCR.to(everything.dtype) @ everything], dim=1)
    return hidden, positions


def _text_rows(nodes: Sequence[Node]) -> Tensor:
    first = nodes[0]
    rows_B = torch.tensor([node.source_row for node in nodes], device=first.places_n.device)
    return first.source.text_rows(first.layer, rows_B, first.length)


class Segment:
    """A stack of nodes through the layers between two stages: `first`+1 .. `last`, kept for the stages above.

    The prompt before the image stands in front with the keys and values that it has in every prompt (it sees
    nothing of image or question), unless it is short or `shared_system` is off: then it runs along.
    """

    def __init__(self, nodes: Sequence[Node], last: int, shared_system: bool) -> None:
        """Gather the nodes' rows behind their last common layer, `nodes[0].layer`; nothing is computed yet."""
        node = nodes[0]
        self.trunk, self.first, self.last, self.compacted = node.trunk, node.layer, last, node.compacted
        self.decoder, self.system = node.trunk.decoder, node.trunk.images.system
        self.visual, self.length = node.visual, node.length
        rows = gather(nodes)
        self.after_B, self.visual_positions_Bn = rows.after_B, rows.visual_positions_Bn
        self.text_positions_BQ = rows.text_positions_BQ
        hidden = torch.cat([rows.visual_BnD, rows.text_BQD], dim=1)
        positions_BS = beside(rows.visual_positions_Bn, rows.text_positions_BQ)
        hidden, positions_BS, self.before = with_system(self.trunk, hidden, positions_BS, self.first, shared_system)
        self.rope = self.decoder.rope(positions_BS)
        before = self.before[0][0].shape[2]
        plain = not before and self.decoder.causal_without_mask
        self.mask = causal(hidden.shape[1], before, hidden.device)
        self.kv: list[KV] = []
        # Shared by all cells in these nodes: they kept the same rows, so every layer up to the next stage gives them
        # the same states. Other nodes are other rows of the batch and are never attended to.
        for index in range(self.first, last):
            entering = hidden
            mask = None if plain else self.mask
            hidden, kv = self.decoder.run(index, hidden, self.rope, mask, self.before[index - self.first])
            self._add_deep(index, hidden, nodes)
            self.kv.append(kv)
        self._hidden = hidden
        self.state = State(self._own(entering), self._own(hidden))
        self.known: dict[Any, Any] = {}
        self.number = numbers.__next__()
        for row, each in enumerate(nodes):
            each.source, each.source_row, each.layer = self, row, last
            each.kept_R = each.merge_CR = None
            each.chain += ((self, row),)

    def _add_deep(self, index: int, hidden: Tensor, nodes: Sequence[Node]) -> None:
        add_deep(index, hidden, nodes, hidden.shape[1] - self.visual - self.length)

    def _own(self, hidden: Tensor) -> Tensor:
        """Visual and text rows [B, n + Q, D] without the system prompt that may have run along."""
        return hidden[:, hidden.shape[1] - self.visual - self.length :]

    def visual_rows(self, layer: int, rows_B: Tensor, kept_BR: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden states [B, R, D] at the end and positions [B, R] of (the kept) visual rows of some nodes."""
        assert layer == self.last
        if kept_BR is None:
            return self.state.out[rows_B, : self.visual], self.visual_positions_Bn[rows_B]
        return self.state.out[rows_B[:, None], kept_BR], self.visual_positions_Bn[rows_B[:, None], kept_BR]

    def text_rows(self, layer: int, rows_B: Tensor, length: int) -> Tensor:
        """Hidden states [B, length, D] at the end of the text behind the image."""
        assert layer == self.last
        return self.state.out[rows_B, self.visual : self.visual + length]

    def next_keys(self) -> Tensor:
        """Keys that the next layer makes of what is run here: [B, key-value heads, positions run, head size]."""
        return self.decoder.keys_values(self.last, self._hidden, self.rope)[0]


def add_deep(index: int, hidden: Tensor, nodes: Sequence[Node], start: int) -> None:
    """What layer `index` adds to the visual rows of a stack of nodes, which stand at `start` (deepstack)."""
    images = nodes[0].trunk.images
    if index < len(images.deep):
        image_B = torch.tensor([node.trunk.image_of[node.row] for node in nodes], device=hidden.device)
        images.add_deep(index, hidden, image_B, torch.stack([node.places_n for node in nodes]), start)


def with_system(
    trunk: Questions, hidden: Tensor, positions_BS: Tensor, first: int, shared_system: bool
) -> tuple[Tensor, Tensor, list[KV]]:
    """What a stack runs from layer `first` on, and the keys and values in front of it, one pair per layer."""
    decoder, system, batch = trunk.decoder, trunk.images.system, len(hidden)
    # The system prompt sees nothing of image or question, so its keys and values are those of the run's one pass,
    # whatever was pruned behind it. Positions of pruned rows may be counted anew; the system prompt's never are.
    if shared_system and not system.short:
        return hidden, positions_BS, system.kv[first:]
    start = torch.arange(system.length, device=hidden.device).expand(batch, -1)
    hidden = torch.cat([system.hidden_1MD[first].expand(batch, -1, -1), hidden], dim=1)
    nothing = [decoder.empty(batch)] * (len(decoder.layers) - first)
    return hidden, beside(start, positions_BS), nothing
