"""What cells and questions share: the system prompt once a run, an image once, a question's lower layers once.

Everything before the question is the same for every question on an image, and everything up to layer K
is the same for every cell; causal attention makes both exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwise.engine.decoder import KV, Decoder, join, take

FEW = 8
"""A system prompt no longer than this is run with every image and branch: it adds a few positions, spares copying it
in front of each layer's keys, and without it in front attention is plainly causal and needs no mask."""


@dataclass
class System:
    """The prompt before the image: embeddings, keys and values in all layers, and hidden states after layer K."""

    embeds_1MD: Tensor
    kv: list[KV]
    hidden_1MD: Tensor

    @property
    def length(self) -> int:
        return self.hidden_1MD.shape[1]

    @property
    def short(self) -> bool:
        return self.length <= FEW


def system_prompt(decoder: Decoder, embeds_MD: Tensor, layer: int) -> System:
    """Run the tokens before the image through every layer; `layer` is K."""
    hidden = embeds_MD.unsqueeze(0)
    if not hidden.shape[1]:
        return System(hidden, [decoder.empty(1)] * len(decoder.layers), hidden)
    rope = decoder.rope(_positions(0, hidden.shape[1], hidden.device))
    mask = causal(hidden.shape[1], 0, hidden.device)
    kvs, after_K = [], hidden
    for index in range(len(decoder.layers)):
        hidden, kv = decoder.run(index, hidden, rope, mask)
        kvs.append(kv)
        if index == layer - 1:
            after_K = hidden
    return System(embeds_MD.unsqueeze(0), kvs, after_K)


class Images:
    """A few images after the first K layers: keys and values of system prompt and image, hidden states above K."""

    def __init__(self, decoder: Decoder, system: System, visual_IVD: Tensor, layer: int) -> None:
        self.decoder, self.system, self.layer = decoder, system, layer
        self.visual = visual_IVD.shape[1]
        hidden = visual_IVD
        if system.short:
            hidden = torch.cat([system.embeds_1MD.expand(len(visual_IVD), -1, -1), hidden], dim=1)
        start = self.length - hidden.shape[1]
        self.rope = decoder.rope(_positions(start, hidden.shape[1], hidden.device))
        plain = not start and decoder.causal_without_mask
        self._mask = None if plain else causal(hidden.shape[1], start, hidden.device)
        self.kv: list[KV] = []
        for index in range(layer):
            hidden, kv = self._layer(index, hidden)
            self.kv.append(kv)
        self._hidden = hidden
        self.hidden_IVD = hidden[:, hidden.shape[1] - self.visual :]
        self._upper: list[KV] = []

    @property
    def length(self) -> int:
        """Positions before the question."""
        return self.system.length + self.visual

    def upper_kv(self) -> list[KV]:
        """Keys and values of the whole prefix in the layers above K: what unpruned branches attend to."""
        if not self._upper:
            hidden, last = self._hidden, len(self.decoder.layers) - 1
            for index in range(self.layer, last):
                hidden, kv = self._layer(index, hidden)
                self._upper.append(kv)
            self._upper.append(self._whole(last, self.decoder.keys_values(last, hidden, self.rope)))
        return self._upper

    def _layer(self, index: int, hidden: Tensor) -> tuple[Tensor, KV]:
        """A layer over what is run here: its output, and keys and values of the whole prefix."""
        before = None if self.system.short else self.system.kv[index]
        hidden, kv = self.decoder.run(index, hidden, self.rope, self._mask, before)
        return hidden, self._whole(index, kv)

    def _whole(self, index: int, kv: KV) -> KV:
        return kv if self.system.short else join(self.system.kv[index], kv)


class Questions:
    """Questions on those images after the first K layers, right-padded to one length.

    `attention_NHV` is the attention of each question's last token at layer K over the image.
    """

    def __init__(self, images: Images, embeds: Sequence[Tensor], image_of: Sequence[int]) -> None:
        decoder, device = images.decoder, images.hidden_IVD.device
        self.images = images
        self.image_N = torch.tensor(image_of, device=device)
        self.lengths = [len(embed) for embed in embeds]
        self.length_N = torch.tensor(self.lengths, device=device)
        hidden = torch.nn.utils.rnn.pad_sequence(list(embeds), batch_first=True)
        self.width = hidden.shape[1]
        self.valid_NQ = torch.arange(self.width, device=device) < self.length_N[:, None]
        rope = decoder.rope(_positions(images.length, self.width, device))
        mask = visible(causal(self.width, images.length, device), images.length, self.valid_NQ)
        self.kv: list[KV] = []
        rows_N = torch.arange(len(embeds), device=device)
        for index in range(images.layer):
            before, entering = take(images.kv[index], self.image_N), hidden
            hidden, kv = decoder.run(index, hidden, rope, mask, before)
            self.kv.append(kv)
        self.hidden_NQD = hidden
        last_N = self.length_N - 1
        rope_last = decoder.rope((images.length + last_N)[:, None])
        keys, _ = join(before, kv)
        row = decoder.attention_row(
            images.layer - 1, entering[rows_N, last_N], rope_last, keys, mask[rows_N, 0, last_N]
        )
        self.attention_NHV = row[..., images.system.length : images.length]

    def lower(
        self, rows_B: Tensor, embeds_BSD: Tensor, positions_BS: Tensor, own: Sequence[KV], own_valid_BA: Tensor
    ) -> tuple[Tensor, list[KV]]:
        """Answer tokens of some questions through layers 1..K: hidden states and the keys and values with `own`.

        `rows_B` names the questions, `own` holds what those answers' earlier tokens left (may be empty),
        of which `own_valid_BA` [B, A] are to be seen.
        """
        images, width = self.images, embeds_BSD.shape[1]
        rope = images.decoder.rope(positions_BS)
        valid = torch.nn.functional.pad(torch.cat([self.valid_NQ[rows_B], own_valid_BA], dim=1), (0, width), value=True)
        before_new = images.length + self.width + own_valid_BA.shape[1]
        mask = visible(causal(width, before_new, embeds_BSD.device), images.length, valid)
        hidden, joined = embeds_BSD, []
        for index in range(images.layer):
            asked = self.kv[index][0][rows_B], self.kv[index][1][rows_B]
            before = join(take(images.kv[index], self.image_N[rows_B]), asked)
            if own:
                before = join(before, own[index])
            hidden, kv = images.decoder.run(index, hidden, rope, mask, before)
            joined.append(join(own[index], kv) if own else kv)
        return hidden, joined


def causal(width: int, before: int, device: torch.device) -> Tensor:
    """Mask [1, 1, width, before + width]: everything before, and the causal triangle of the new positions."""
    grid = torch.ones(width, before + width, dtype=torch.bool, device=device)
    return grid.tril(before)[None, None]


def visible(mask: Tensor, before: int, valid_BS: Tensor) -> Tensor:
    """The mask with columns after `before` closed where `valid_BS` is false: [B, 1, Q, before + S]."""
    columns = torch.nn.functional.pad(valid_BS, (before, 0), value=True)
    return mask & columns[:, None, None, :]


def _positions(start: int, count: int, device: torch.device) -> Tensor:
    return torch.arange(start, start + count, device=device)[None]
