"""What cells and questions share: the system prompt once per run, an image once, a question's lower layers once.

Attention is causal: what stands before a position decides its hidden state, what stands behind never does. So
everything before the question is the same for every question on an image, and everything below the first stage
is the same for every cell. Both are computed once, which is exact, not an approximation.

Shape suffixes of this package: I images, N questions, B branches of a stack, V visual tokens, n visual rows that
are left, Q text positions behind the image, M positions before it, S positions, D hidden size, H heads, R kept.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headwise.models.decoder import KV, Decoder, join, take

# A system prompt no longer than this is run with every image and branch: it adds a few positions, spares copying it
# in front of each layer's keys, and without it in front attention is plainly causal and needs no mask.
SHORT_PROMPT_MAX = 8


@dataclass
class System:
    """The prompt before the image: keys and values in every layer, and its hidden states after every layer.

    `hidden_1MD[l]` is the state after layer l; 0 are the embeddings.
    """

    kv: list[KV]
    hidden_1MD: list[Tensor]

    @property
    def length(self) -> int:
        """M, the positions before the image."""
        return self.hidden_1MD[0].shape[1]

    @property
    def short(self) -> bool:
        """Whether the prompt is run anew with every image and branch (see SHORT_PROMPT_MAX)."""
        return self.length <= SHORT_PROMPT_MAX


def system_prompt(decoder: Decoder, embeds_MD: Tensor) -> System:
    """Run the tokens before the image through every layer."""
    hidden = embeds_MD.unsqueeze(0)
    states, kvs = [hidden], []
    if not hidden.shape[1]:
        layers = len(decoder.layers)
        return System([decoder.empty(1)] * layers, [hidden] * (layers + 1))
    # Shared by the whole run: nothing stands before these positions, so neither image nor question can change them.
    rope = decoder.rope(_positions(0, hidden.shape[1], hidden.device))
    mask = causal(hidden.shape[1], 0, hidden.device)
    for index in range(len(decoder.layers)):
        hidden, kv = decoder.run(index, hidden, rope, mask)
        states.append(hidden)
        kvs.append(kv)
    return System(kvs, states)


@dataclass
class State:
    """Hidden states around one decoder layer: what entered it, and what it put out (0: only the embeddings)."""

    entering: Tensor
    out: Tensor


class Images:
    """Images of equally many visual rows through the layers below the first stage, once for all their questions.

    `visual_IVD` are embeddings, `positions_IV` their position ids ([I, V], or [I, V, 3] on three axes; default:
    behind the system prompt, one each) and `after_I` the position at which text goes on. `prunable_IR`: which rows
    are visual tokens, where text stands between them (None: all are). `deep`: what is added to the rows behind
    layers 1, 2, … (deepstack), [I, V, D] each. `extend` runs further layers when a later stage needs them.
    """

    def __init__(
        self,
        decoder: Decoder,
        system: System,
        visual_IVD: Tensor,
        positions_IV: Tensor | None = None,
        after_I: Tensor | None = None,
        prunable_IR: Tensor | None = None,
        deep: Sequence[Tensor] = (),
    ) -> None:
        """Start at the input of layer 1; nothing is computed yet.

        Args:
            decoder: the language model.
            system: the prompt before the images.
            visual_IVD: embeddings of the images' rows.
            positions_IV: their position ids; None: one by one behind the system prompt.
            after_I: position at which text goes on; None: behind the last row.
            prunable_IR: which rows are visual tokens; None: all of them.
            deep: what the decoder adds behind its first layers, [I, V, D] each.
        """
        self.index_IV = _index(prunable_IR, visual_IVD)
        self.deep = tuple(deep)
        self.decoder, self.system, self.layer = decoder, system, 0
        self.count, self.visual, _ = visual_IVD.shape
        device = visual_IVD.device
        if positions_IV is None:
            positions_IV = _positions(system.length, self.visual, device).expand(self.count, -1)
        self.positions_IV = positions_IV
        self.after_I = torch.full((self.count,), self.length, device=device) if after_I is None else after_I
        hidden = visual_IVD
        if system.short:  # run with the images: cheaper than copying it in front of their keys
            before = _positions(0, system.length, device).expand(self.count, -1)
            hidden = torch.cat([system.hidden_1MD[0].expand(self.count, -1, -1), hidden], dim=1)
            positions_IV = beside(before, positions_IV)
        start = self.length - hidden.shape[1]
        self.rope = decoder.rope(positions_IV)
        plain = not start and decoder.causal_without_mask
        self._mask = None if plain else causal(hidden.shape[1], start, device)
        self.kv: list[KV] = []
        self._hidden = hidden
        self.states = {0: State(visual_IVD, visual_IVD)}
        self._upper: list[KV] = []
        self.known: dict[Any, Any] = {}

    @property
    def length(self) -> int:
        """Rows before the question (their number, not the position at which the question starts)."""
        return self.system.length + self.visual

    def extend(self, layer: int) -> None:
        """Run on to the output of `layer`, and keep the visual rows' states there."""
        if layer <= self.layer:
            return
        assert not self._upper, "the unpruned prefix was already taken from here on"
        hidden = entering = self._hidden
        for index in range(self.layer, layer):
            entering = hidden
            # Shared by all questions on an image: they stand behind it, and a position sees only what is before it.
            hidden, kv = self._run(index, hidden)
            self.kv.append(kv)
        self._hidden, self.layer = hidden, layer
        self.states[layer] = State(self._visual(entering), self._visual(hidden))

    def upper_kv(self) -> list[KV]:
        """Keys and values of the whole prefix in the layers not run yet: what unpruned branches attend to."""
        if not self._upper:
            hidden, last = self._hidden, len(self.decoder.layers) - 1
            for index in range(self.layer, last):
                hidden, kv = self._run(index, hidden)
                self._upper.append(kv)
            # Nobody reads what the prefix puts out of the last layer: its keys and values suffice.
            self._upper.append(self._behind_system(last, self.decoder.keys_values(last, hidden, self.rope)))
        return self._upper

    def next_keys(self) -> Tensor:
        """Keys that the next layer makes of the unpruned prefix: [I, key-value heads, M + V, head size]."""
        return self._behind_system(self.layer, self.decoder.keys_values(self.layer, self._hidden, self.rope))[0]

    def _visual(self, hidden: Tensor) -> Tensor:
        return hidden[:, hidden.shape[1] - self.visual :]

    def _run(self, index: int, hidden: Tensor) -> tuple[Tensor, KV]:
        """A layer over what is run here: its output, and keys and values of the whole prefix."""
        before = None if self.system.short else self.system.kv[index]
        hidden, kv = self.decoder.run(index, hidden, self.rope, self._mask, before)
        if index < len(self.deep):
            self._visual(hidden).add_(self.deep[index])
        return hidden, self._behind_system(index, kv)

    def add_deep(self, index: int, hidden: Tensor, image_B: Tensor, places_Bn: Tensor, start: int) -> None:
        """Add to rows `start`, … of a stack what layer `index` adds at their places of the image (deepstack).

        Rows that were dropped never get the rest; those kept still do, above the stage as below it.
        """
        if index < len(self.deep):
            hidden[:, start : start + places_Bn.shape[1]].add_(self.deep[index][image_B[:, None], places_Bn])

    def _behind_system(self, index: int, kv: KV) -> KV:
        return kv if self.system.short else join(self.system.kv[index], kv)


class Questions:
    """The trunk of the tree: unpruned questions on those images, right-padded to one length, layer by layer.

    Every cell starts here. A question's text rows run once per layer for all cells, against keys and values
    of its image, which run once for all its questions.
    """

    number = 0

    def __init__(self, images: Images, embeds: Sequence[Tensor], image_of: Sequence[int]) -> None:
        """Pad the questions' embeddings, [Q, D] each, to one length; `image_of`: the image of each."""
        device = images.positions_IV.device
        self.images, self.decoder, self.layer = images, images.decoder, 0
        self.image_of = list(image_of)
        self.image_N = torch.tensor(self.image_of, device=device)
        self.lengths = [len(embed) for embed in embeds]
        self.length_N = torch.tensor(self.lengths, device=device)
        hidden = torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True)
        self.width = hidden.shape[1]
        self.valid_NQ = torch.arange(self.width, device=device) < self.length_N[:, None]
        self.after_N = images.after_I[self.image_N]
        self.rope = self.decoder.rope(self.after_N[:, None] + torch.arange(self.width, device=device))
        self.mask = visible(causal(self.width, images.length, device), images.length, self.valid_NQ)
        self.kv: list[KV] = []
        self.states = {0: State(hidden, hidden)}
        self._hidden = hidden
        self.known: dict[Any, Any] = {}

    def index_of(self, row: int) -> Tensor | None:
        """For each row of the image its number among the visual tokens, -1 for text; None: every row is one."""
        return None if self.images.index_IV is None else self.images.index_IV[self.image_of[row]]

    def extend(self, layer: int) -> None:
        """Run questions (and their images) on to the output of `layer`, and keep the states there."""
        self.images.extend(layer)
        hidden = entering = self._hidden
        for index in range(self.layer, layer):
            entering = hidden
            # Shared by all cells: below the first stage every one of them sees the whole image. Only the question's own
            # rows run here. Padding stands behind it, where none of its positions looks, and is masked for answers.
            hidden, kv = self.decoder.run(
                index, hidden, self.rope, self.mask, take(self.images.kv[index], self.image_N)
            )
            self.kv.append(kv)
        if layer > self.layer:
            self._hidden, self.layer = hidden, layer
            self.states[layer] = State(entering, hidden)

    def visual_rows(self, layer: int, rows_B: Tensor, kept_BR: Tensor | None) -> tuple[Tensor, Tensor]:
        """Hidden states [B, R, D] after `layer` and positions [B, R] of (the kept) visual rows of some questions."""
        image_B, out = self.image_N[rows_B], self.images.states[layer].out
        if kept_BR is None:
            return out[image_B], self.images.positions_IV[image_B]
        return out[image_B[:, None], kept_BR], self.images.positions_IV[image_B[:, None], kept_BR]

    def text_rows(self, layer: int, rows_B: Tensor, length: int) -> Tensor:
        """Hidden states [B, length, D] after `layer` of the text behind the image."""
        return self.states[layer].out[rows_B, :length]

    def answer_tokens(
        self,
        rows_B: Tensor,
        embeds_BWD: Tensor,
        rope: KV,
        own: Sequence[KV],
        own_valid_BA: Tensor,
        layer: int,
    ) -> tuple[Tensor, list[KV]]:
        """Answer tokens of some questions through layers 1..`layer`: hidden states, and keys and values with `own`.

        The trunk's keys and values are those of the prefill: answer tokens stand behind them, so they never
        change. `own` holds what earlier answer tokens left (may be empty), of which `own_valid_BA` [B, A] count.
        """
        images, width = self.images, embeds_BWD.shape[1]
        valid = torch.nn.functional.pad(torch.cat([self.valid_NQ[rows_B], own_valid_BA], dim=1), (0, width), value=True)
        before_new = images.length + self.width + own_valid_BA.shape[1]
        mask = visible(causal(width, before_new, embeds_BWD.device), images.length, valid)
        hidden, joined = embeds_BWD, []
        for index in range(layer):
            asked = self.kv[index][0][rows_B], self.kv[index][1][rows_B]
            before = join(take(images.kv[index], self.image_N[rows_B]), asked)
            # The prompt's keys and values are read from the trunk, not copied per cell: answers stand behind them.
            if own:
                before = join(before, own[index])
            hidden, kv = self.decoder.run(index, hidden, rope, mask, before)
            joined.append(join(own[index], kv) if own else kv)
        return hidden, joined


def _index(prunable_IR: Tensor | None, visual_IVD: Tensor) -> Tensor | None:
    """For each row its number among the visual tokens of its image, -1 for text between them; None: all are."""
    if prunable_IR is None:
        return None
    index_IV = torch.full(visual_IVD.shape[:2], -1, device=visual_IVD.device)
    return index_IV.scatter(
        1, prunable_IR, torch.arange(prunable_IR.shape[1], device=index_IV.device).expand_as(prunable_IR)
    )


def beside(*positions: Tensor) -> Tensor:
    """Positions one after another along the prompt; where some have three axes, text has the same number on each."""
    axes = max(each.dim() for each in positions)
    if axes == 3:
        positions = tuple(each if each.dim() == 3 else each[..., None].expand(-1, -1, 3) for each in positions)
    return torch.cat(positions, dim=1)


def causal(width: int, before: int, device: torch.device) -> Tensor:
    """Mask [1, 1, width, before + width]: everything before, and the causal triangle of the new positions."""
    seen = torch.ones(width, before + width, dtype=torch.bool, device=device)
    return seen.tril(before)[None, None]


def visible(mask: Tensor, before: int, valid_BS: Tensor) -> Tensor:
    """The mask with columns after `before` closed where `valid_BS` is false: [B, 1, Q, before + S]."""
    columns = torch.nn.functional.pad(valid_BS, (before, 0), value=True)
    return mask & columns[:, None, None, :]


def _positions(start: int, count: int, device: torch.device) -> Tensor:
    return torch.arange(start, start + count, device=device)[None]
