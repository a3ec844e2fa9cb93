"""What a stage reads: attention rows, keys and hidden states at a layer, computed once for all cells that read them.

Signals are read at the output of a layer that ran anyway: keys are those of its cache, queries are made again for
the rows that are asked for alone. Nothing of it changes what the layers compute.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from headwise.engine.prefix import Questions, causal
from headwise.engine.tree import Node, Segment
from headwise.models.decoder import KV, Decoder, join, take

# Query rows of a full attention map that are computed at a time.
CHUNK = 256


class View:
    """One node at its layer. See headwise.methods.stages.View for what each signal is."""

    def __init__(self, node: Node, sample_id: str) -> None:
        """Point at the node's row in the stack or trunk that computed its layer; signals are computed when read."""
        self.source, self.row, self.layer, self.sample_id = node.source, node.source_row, node.layer, sample_id
        self.trunk, self.trunk_row = node.trunk, node.row
        self.text, self.system = node.length, node.trunk.images.system.length
        self.rows, self.prunable_r = node.visual, node.prunable_r
        # Text between visual tokens (separators of tiles) is in the rows but in no signal: it cannot be chosen.
        self.visual = self.rows if self.prunable_r is None else len(self.prunable_r)
        self.decoder: Decoder = node.trunk.decoder
        self._known: dict[Any, Any] = {}

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, once per stage and question for all cells."""
        return _once(self._known, key, compute)

    def once_per_question(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, once per question for all stages and cells."""
        return _once(self.trunk.known, (self.trunk_row, key), compute)

    @property
    def last_HV(self) -> Tensor:
        """The last prompt token's attention at this layer: [H, n]; all rows of a stack are computed at once."""
        return self._only(last_rows(self.source, self.layer)[self.row], -1)

    @property
    def next_last_HV(self) -> Tensor:
        """The last prompt token's attention that the next layer would have if nothing were dropped: [H, n]."""
        rows = _once(self.source.known, ("next", self.layer), lambda: _next_last(self.source, self.layer))
        return self._only(rows[self.row], -1)

    @cached_property
    def text_HQV(self) -> Tensor:
        """Attention of the text behind the image at this layer, from the layer's own keys: [H, Q, n]."""
        mask = causal(self.text, self.system + self.rows, self.device)[0]
        return self._only(self._attention(self._entering_text, self.positions_Q, self._keys, mask), -1)

    @cached_property
    def visual_HVV(self) -> Tensor:
        """Attention of the visual rows at this layer, every head's full map: [H, n, n]."""
        keys, mask = self._visual_keys
        return self._only(self._only(self._attention(self._entering_visual, self._row_positions, keys, mask), -1), -2)

    @cached_property
    def most_QV(self) -> Tensor:
        """Largest attention over heads of each text position: [Q, n]."""
        return self.text_HQV.amax(0)

    @cached_property
    def most_VV(self) -> Tensor:
        """At the trunk it is the image's: visual rows see nothing of the question."""
        if isinstance(self.source, Questions):
            known, image = self.trunk.images.known, self.trunk.image_of[self.row]
            return _once(known, ("most", image, self.layer), self._most_VV)
        return self._most_VV()

    def _only(self, signal: Tensor, axis: int) -> Tensor:
        """The visual tokens of all rows along an axis."""
        return signal if self.prunable_r is None else signal.index_select(axis, self.prunable_r)

    def _most_VV(self) -> Tensor:
        keys, mask = self._visual_keys
        parts = [
            self._attention(
                self._entering_visual[start : start + CHUNK],
                self._row_positions[start : start + CHUNK],
                keys,
                mask[:, start : start + CHUNK],
            ).amax(0)
            for start in range(0, self.rows, CHUNK)
        ]
        if not parts:
            return self._entering_visual.new_empty(0, 0)
        return self._only(self._only(torch.cat(parts), 0), 1)

    @property
    def keys_HVd(self) -> Tensor:
        """This layer's keys of the visual rows, rotary position included: [key-value heads, n, d]."""
        return self._only(self._keys[:, self.system : self.system + self.rows], 1)

    @property
    def keys_HQd(self) -> Tensor:
        """This layer's keys of the text behind the image: [key-value heads, Q, d]."""
        return self._keys[:, self.system + self.rows :]

    @property
    def hidden_VD(self) -> Tensor:
        """This layer's output at the visual rows: [n, D]."""
        return self._only(self._visual_state().out, 0)

    @property
    def hidden_QD(self) -> Tensor:
        """This layer's output at the text behind the image, padding cut off: [Q, D]."""
        if isinstance(self.source, Questions):
            return self.trunk.states[self.layer].out[self.row, : self.text]
        return self.source.state.out[self.row, self.rows :]

    @property
    def embeds_VD(self) -> Tensor:
        """Input embeddings of the image's visual tokens, those dropped since included: [V, D]."""
        embeds_VD = self.trunk.images.states[0].out[self.trunk.image_of[self.trunk_row]]
        index_V = self.trunk.index_of(self.trunk_row)
        return embeds_VD if index_V is None else embeds_VD[index_V >= 0]

    @property
    def embeds_QD(self) -> Tensor:
        """Input embeddings of the text behind the image: [Q, D]."""
        return self.trunk.states[0].out[self.trunk_row, : self.text]

    @property
    def positions_V(self) -> Tensor:
        """Position ids of the visual rows: [n], or [n, 3] where the decoder has three axes."""
        return self._only(self._row_positions, 0)

    @property
    def _row_positions(self) -> Tensor:
        if isinstance(self.source, Questions):
            return self.trunk.images.positions_IV[self.trunk.image_of[self.row]]
        return self.source.visual_positions_Bn[self.row]

    @property
    def positions_Q(self) -> Tensor:
        """Position ids of the text behind the image: [Q]."""
        if isinstance(self.source, Questions):
            return self.trunk.after_N[self.row] + torch.arange(self.text, device=self.device)
        return self.source.text_positions_BQ[self.row]

    @property
    def rope_frequencies(self) -> Tensor:
        """θ, one per pair of dimensions of a head: [d / 2]."""
        return self.decoder.rope_frequencies

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The model's last norm, applied to hidden states [..., D]."""
        return self.decoder.final_norm(hidden)

    @property
    def device(self) -> torch.device:
        """Where the signals are."""
        return self.trunk.image_N.device

    @cached_property
    def _keys(self) -> Tensor:
        """This layer's keys of the whole prompt: [key-value heads, M + n + Q, d]."""
        index = self.layer - 1
        if isinstance(self.source, Questions):
            image = self.trunk.images.kv[index][0][self.trunk.image_of[self.row]]
            return torch.cat([image, self.trunk.kv[index][0][self.row, :, : self.text]], dim=1)
        place = index - self.source.first
        keys = self.source.kv[place][0][self.row]
        before = self.source.before[place][0]
        return torch.cat([before[0], keys], dim=1) if before.shape[2] else keys

    @property
    def _visual_keys(self) -> tuple[Tensor, Tensor]:
        """Keys that a visual row may see, and which of them it does: the causal triangle behind the system prompt."""
        keys = self._keys[:, : self.system + self.rows]
        return keys, causal(self.rows, self.system, self.device)[0]

    @property
    def _entering_text(self) -> Tensor:
        if isinstance(self.source, Questions):
            return self.trunk.states[self.layer].entering[self.row, : self.text]
        return self.source.state.entering[self.row, self.rows :]

    @property
    def _entering_visual(self) -> Tensor:
        return self._visual_state().entering

    def _visual_state(self) -> Any:
        if isinstance(self.source, Questions):
            state, row = self.trunk.images.states[self.layer], self.trunk.image_of[self.row]
            return type(state)(state.entering[row], state.out[row])
        state = self.source.state
        return type(state)(state.entering[self.row, : self.rows], state.out[self.row, : self.rows])

    def _attention(self, entering_PD: Tensor, positions_P: Tensor, keys: Tensor, mask_1PS: Tensor) -> Tensor:
        """Rows of this layer's attention cut to the image: [H, P, n]."""
        rope = self.decoder.rope(positions_P[None])
        rows = self.decoder.attention_rows(self.layer - 1, entering_PD[None], rope, keys[None], mask_1PS)
        return rows[0, :, :, self.system : self.system + self.rows]


class Views:
    """The nodes that a cell has at one stage, side by side; equal for all cells that have the same nodes there."""

    def __init__(self, each: Sequence[View]) -> None:
        """`each`: one View per question of a cell at this stage."""
        self.each = each
        self._known: dict[Any, Any] = {}

    @property
    def last_NHV(self) -> Tensor:
        """`last_HV` of all of them: [N, H, n]; no copy where they are all rows of one stack in order."""
        first = self.each[0]
        rows = [view.row for view in self.each]
        whole = last_rows(first.source, first.layer)
        same = first.prunable_r is None and all(view.source is first.source for view in self.each)
        if same and rows == list(range(len(whole))):
            return whole
        return torch.stack([view.last_HV for view in self.each])

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, once for all cells that have these questions at this stage."""
        return _once(self._known, key, compute)


def last_rows(source: Questions | Segment, layer: int) -> Tensor:
    """Attention of each prompt's last token at `layer` over its visual rows, all rows of a stack at once: [B, H, n]."""
    return _once(source.known, ("last", layer), lambda: _last(source, layer))


def _last(source: Questions | Segment, layer: int) -> Tensor:
    decoder, index = source.decoder, layer - 1
    if isinstance(source, Questions):
        before = take(source.images.kv[index], source.image_N)
        keys, _ = join(before, source.kv[index])
        entering = source.states[layer].entering
        return _trunk_row(source, index, entering, keys)
    keys, _ = join(source.before[index - source.first], source.kv[index - source.first])
    return _segment_row(decoder, source, index, source.state.entering[:, -1], keys)


def _next_last(source: Questions | Segment, layer: int) -> Tensor:
    """The row that layer + 1 would compute: its norm, queries and keys over what this layer put out."""
    decoder = source.decoder
    if isinstance(source, Questions):
        assert source.layer == source.images.layer == layer
        out = source.states[layer].out
        asked = decoder.keys_values(layer, out, source.rope)
        image = source.images.next_keys()
        keys, _ = join(take((image, image), source.image_N), asked)
        return _trunk_row(source, layer, out, keys)
    own = source.next_keys()
    keys, _ = join(source.before[layer - source.first], (own, own))
    return _segment_row(decoder, source, layer, source.state.out[:, -1], keys)


def _trunk_row(trunk: Questions, index: int, hidden_NQD: Tensor, keys: Tensor) -> Tensor:
    """Each question's last row at layer `index` (from 0), where padding hides nothing and is hidden itself."""
    images = trunk.images
    rows_N = torch.arange(len(trunk.lengths), device=hidden_NQD.device)
    last_N = trunk.length_N - 1
    rope = trunk.decoder.rope((trunk.after_N + last_N)[:, None])
    row = trunk.decoder.attention_row(index, hidden_NQD[rows_N, last_N], rope, keys, trunk.mask[rows_N, 0, last_N])
    return row[..., images.system.length : images.length]


def _segment_row(decoder: Decoder, segment: Segment, index: int, hidden_BD: Tensor, keys: Tensor) -> Tensor:
    rope: KV = decoder.rope(segment.text_positions_BQ[:, -1:])
    everything = torch.ones(len(hidden_BD), keys.shape[2], dtype=torch.bool, device=hidden_BD.device)
    start = segment.system.length
    return decoder.attention_row(index, hidden_BD, rope, keys, everything)[..., start : start + segment.visual]


def _once(known: dict[Any, Any], key: Any, compute: Callable[[], Any]) -> Any:
    if key not in known:
        known[key] = compute()
    return known[key]
