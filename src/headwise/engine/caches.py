"""What answer tokens attend to: caches with room for the answer, allocated once and written in place.

In each layer an answer token sees what its prompt left there, which is final, and the answer's earlier tokens. Below
the first stage a prompt's keys are its image's, shared by all questions and cells, and its question's; above a stage
they are fewer, and a branch's own. A `Part` holds the keys and values of some branches in some layers; `AnswerCaches`
lays the parts of any number of branches out, of whatever widths, and runs their answer tokens through the layers
together. Nothing of a prompt is copied per step, and an image's keys are copied once per `SHARERS` branches.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from headwise.engine.memory import on_device
from headwise.models.attention import attend
from headwise.models.decoder import KV, Decoder

# Branches that read one copy of their image's keys. Each also passes over the others' answers (masked).
SHARERS = 8
# Branches whose prompts round up to the same multiple of it lie in one buffer, padded to its longest.
WIDTH_STEP = 64
# Answer positions a buffer has room for at first, where answers may be longer; it then doubles.
ROOM = 64


@dataclass
class Part:
    """Keys and values of n branches in layers `first` .. `last` - 1 (from 0).

    `own`: [layers, n, key-value heads, S, d] each; of the S positions the first `filled` count, answer tokens that were
    run already may follow. `start_n`: position id of the first answer token. `prefix`: per layer keys and values of
    images, [I, heads, P, d], of which branch b sees all of image `image_of[b]` (None: nothing is shared).
    """

    first: int
    last: int
    own: KV
    filled: list[int]
    start_n: Tensor
    prefix: Sequence[KV] | None = None
    image_of: Sequence[int] = ()

    def rows(self, places: Sequence[int]) -> Part:
        """The part of some of the branches."""
        index = on_device(places, self.start_n.device)
        return Part(
            self.first,
            self.last,
            (self.own[0][:, index], self.own[1][:, index]),
            [self.filled[place] for place in places],
            self.start_n[index],
            self.prefix,
            [self.image_of[place] for place in places] if self.prefix is not None else (),
        )

    @property
    def kind(self) -> tuple[int, int, int, int]:
        """What parts that lie in one buffer have in common."""
        return self.first, self.last, id(self.prefix), -(-max(self.filled) // WIDTH_STEP)


def joined(parts: Sequence[Part]) -> Part:
    """Parts of one kind as one, in order."""
    if len(parts) == 1:
        return parts[0]
    width = max(part.own[0].shape[3] for part in parts)
    keys, values = (
        torch.cat([pad(part.own[side], (0, 0, 0, width - part.own[side].shape[3])) for part in parts], dim=1)
        for side in (0, 1)
    )
    return Part(
        parts[0].first,
        parts[0].last,
        (keys, values),
        [each for part in parts for each in part.filled],
        torch.cat([part.start_n for part in parts]),
        parts[0].prefix,
        [each for part in parts for each in part.image_of],
    )


def stacked(kvs: Sequence[KV]) -> KV:
    """The keys and values of several layers as one tensor each."""
    return torch.stack([keys for keys, _ in kvs]), torch.stack([values for _, values in kvs])


class Buffer:
    """A part laid out: [layers, groups, key-value heads, P + sharers × width, d].

    A group is an image's prefix of P positions and the branches that read it, one behind another (or, where nothing is
    shared, one branch). Which positions a row sees is all that tells them apart.
    """

    def __init__(self, part: Part, places: Sequence[int], room: int) -> None:
        """Lay `part` out, emptying it; `places`: its branches among all; `room`: for so many answer tokens at least."""
        self.part, self.places = part, list(places)
        device = part.start_n.device
        groups, slots, images = _grouped(part)
        self.groups, self.sharers = len(images), 1 + max(slots)
        self.prefix = 0 if part.prefix is None else part.prefix[0][0].shape[2]
        self.width = max(max(part.filled) + room, part.own[0].shape[3])  # answers may have begun already
        self.room = self.width - max(part.filled)
        self.plain = part.prefix is None
        self.group_n, self.slot_n = on_device(groups, device), on_device(slots, device)
        self.places_n = on_device(self.places, device)
        self.start_n = self.prefix + self.slot_n * self.width  # where a branch's own positions begin
        self.next_n = self.start_n + on_device(part.filled, device)  # where its answer begins
        self.keys, self.values = (self._laid(side, on_device(images, device)) for side in (0, 1))
        part.own = part.own[0][:, :, :, :0], part.own[1][:, :, :, :0]  # it lies here now

    def _laid(self, side: int, image_G: Tensor) -> Tensor:
        own = self.part.own[side]
        layers, _, heads, kept, size = own.shape
        laid = own.new_zeros(layers, self.groups, heads, self.prefix + self.sharers * self.width, size)
        for layer, kv in enumerate((self.part.prefix or ())[:layers]):
            laid[layer, :, :, : self.prefix] = kv[side][image_G]
        slots = laid[:, :, :, self.prefix :].unflatten(3, (self.sharers, self.width))
        slots[:, self.group_n, :, self.slot_n, :kept] = own.transpose(0, 1)
        return laid

    def taken(self, rows: Sequence[int]) -> Part:
        """The part of some of the branches, with all that their answers have left in it."""
        index = on_device(rows, self.start_n.device)
        keys, values = (
            side[:, :, :, self.prefix :]
            .unflatten(3, (self.sharers, self.width))[:, self.group_n[index], :, self.slot_n[index]]
            .transpose(0, 1)
            for side in (self.keys, self.values)
        )
        part = self.part.rows(rows)
        part.own = keys, values
        return part

    def see(self, said_nA: Tensor, said_most: int) -> None:
        """Answer tokens number `said_nA` are to come: where they are written, and what they see."""
        self.column_nA = self.next_n[:, None] + said_nA
        self.columns = self.prefix + self.sharers * self.width
        if self.plain:
            self.columns = max(self.part.filled) + said_most + 1
        place_C = torch.arange(self.columns, device=said_nA.device)
        seen = (place_C >= self.start_n[:, None, None]) & (place_C <= self.column_nA[:, :, None])
        seen |= place_C < max(self.prefix, 1)  # the first position is every row's; a slot without a row sees it alone
        if self.plain:
            self.mask = seen[:, None]
        else:
            mask = place_C.new_zeros(self.groups, self.sharers, *seen.shape[1:], dtype=torch.bool)
            mask[..., 0] = True
            mask[self.group_n, self.slot_n] = seen
            self.mask = mask.flatten(1, 2)[:, None]

    def write(self, layer: int, keys: Tensor, values: Tensor) -> None:
        """Put the answer tokens' keys and values, [n, heads, A, d], where `see` said."""
        index = layer - self.part.first
        for buffer, new in ((self.keys, keys), (self.values, values)):
            buffer[index, self.group_n[:, None], :, self.column_nA] = new.transpose(1, 2)

    def attend(self, layer: int, query_nHAd: Tensor, scale: float) -> Tensor:
        """What the answer tokens attend to in this layer, [n, H, A, d]."""
        index, columns = layer - self.part.first, self.columns
        keys, values = self.keys[index, :, :, :columns], self.values[index, :, :, :columns]
        if self.plain:
            return attend(query_nHAd, keys, values, self.mask, scale)
        rows, heads, count, size = query_nHAd.shape
        query = query_nHAd.new_zeros(self.groups, self.sharers, heads, count, size)
        query[self.group_n, self.slot_n] = query_nHAd
        out = attend(query.transpose(1, 2).flatten(2, 3), keys, values, self.mask, scale)
        return out.unflatten(2, (self.sharers, count)).transpose(1, 2)[self.group_n, self.slot_n]


def _grouped(part: Part) -> tuple[list[int], list[int], list[int]]:
    """For each branch its group and its place in it, and for each group its image."""
    if part.prefix is None:
        count = len(part.filled)
        return list(range(count)), [0] * count, list(range(count))
    images: list[int] = []
    members: dict[int, int] = {}
    current: dict[int, int] = {}
    groups, slots = [], []
    for image in part.image_of:
        if members.get(image, 0) % SHARERS == 0:
            current[image] = len(images)
            images.append(image)
        groups.append(current[image])
        slots.append(members.get(image, 0) % SHARERS)
        members[image] = members.get(image, 0) + 1
    return groups, slots, images


class LayerCache:
    """The caches of one layer, as a layer of transformers sees them (decoder.AnswerCache)."""

    def __init__(self, layer: int, buffers: Sequence[Buffer]) -> None:
        """`buffers`: together they hold every branch once in this layer (from 0)."""
        self.layer, self.buffers = layer, buffers

    def update(self, keys: Tensor, values: Tensor, *_: Any, **__: Any) -> KV:
        """Write each branch's new keys and values into its buffer."""
        for buffer in self.buffers:
            mine = keys.to(buffer.keys.device), values.to(buffer.keys.device)
            if len(self.buffers) > 1:
                mine = mine[0][buffer.places_n], mine[1][buffer.places_n]
            buffer.write(self.layer, *mine)
        return keys, values

    def attend(self, query_BHAd: Tensor, scale: float) -> Tensor:
        """Attention of all branches' answer tokens, [B, H, A, d]."""
        query = query_BHAd.to(self.buffers[0].keys.device)
        if len(self.buffers) == 1:
            return self.buffers[0].attend(self.layer, query, scale).to(query_BHAd.device)
        out = torch.empty_like(query)
        for buffer in self.buffers:
            out[buffer.places_n] = buffer.attend(self.layer, query[buffer.places_n], scale)
        return out.to(query_BHAd.device)


@dataclass
class _Region:
    """Layers in which the same buffers lie, and where each branch's answer begins there."""

    layers: range
    buffers: list[Buffer]
    start_B: Tensor


class AnswerCaches:
    """The caches of some branches, B in all: per branch parts that cover layers 0 .. `last` - 1.

    `given`: for each lot of branches its parts; the branches' order is that of the lots.
    """

    def __init__(self, decoder: Decoder, given: Iterable[Sequence[Part]], longest: int) -> None:
        """Lay the parts out; `longest`: tokens of the longest answer that may come."""
        self.decoder, self.longest = decoder, longest
        kinds: dict[Any, list[tuple[Part, list[int]]]] = {}
        self.count = 0
        for parts in given:
            places = list(range(self.count, self.count + len(parts[0].filled)))
            self.count += len(places)
            for part in parts:
                kinds.setdefault(part.kind, []).append((part, places))
        room = min(longest, ROOM)
        self.buffers = [
            Buffer(joined([part for part, _ in members]), [place for _, places in members for place in places], room)
            for members in kinds.values()
        ]
        self._regions = self._cut()

    def _cut(self) -> list[_Region]:
        edges = sorted({edge for buffer in self.buffers for edge in (buffer.part.first, buffer.part.last)})
        regions = []
        for first, last in zip(edges, edges[1:], strict=False):
            here = [each for each in self.buffers if each.part.first <= first and each.part.last >= last]
            start_B = here[0].start_n.new_empty(self.count)
            for buffer in here:
                start_B[buffer.places_n] = buffer.part.start_n
            regions.append(_Region(range(first, last), here, start_B))
        return regions

    def run(self, hidden_BAD: Tensor, said_BA: Tensor, said_most: int) -> Tensor:
        """Answer tokens through all layers that the caches cover; their keys and values stay.

        `said_BA` counts a branch's answer tokens from 0, `said_most` is the largest. Where positions are kept, token t
        stands at S + t in every layer; where a stage compacted them, at that layer's own cache length.
        """
        self._make_room(said_most)
        for region in self._regions:
            rope = self.decoder.rope(region.start_B[:, None] + said_BA)
            for buffer in region.buffers:
                buffer.see(said_BA[buffer.places_n], said_most)
            for layer in region.layers:
                hidden_BAD = self.decoder.run_cached(layer, hidden_BAD, rope, LayerCache(layer, region.buffers))
        return hidden_BAD

    def _make_room(self, said_most: int) -> None:
        if said_most >= min(buffer.room for buffer in self.buffers):
            room = min(self.longest, 2 ** math.ceil(math.log2(said_most + 1)) * 2)
            self.buffers = [Buffer(each.taken(range(len(each.places))), each.places, room) for each in self.buffers]
            self._regions = self._cut()

    def parts(self, rows: Sequence[int]) -> list[Part]:
        """The parts of some of the branches, which all came in one lot."""
        return [buffer.taken(rows) for buffer in self.buffers]

    def lots(self, rows: Sequence[int]) -> tuple[list[list[Part]], list[int]]:
        """The parts of some of the branches, those in the same buffers as one lot; and the branches in that order."""
        held = [(buffer, {place: row for row, place in enumerate(buffer.places)}) for buffer in self.buffers]
        lots: dict[tuple[int, ...], list[int]] = {}
        for row in rows:
            lots.setdefault(tuple(n for n, (_, where) in enumerate(held) if row in where), []).append(row)
        parts = [
            [held[n][0].taken([held[n][1][row] for row in members]) for n in numbers]
            for numbers, members in lots.items()
        ]
        return parts, [row for members in lots.values() for row in members]
