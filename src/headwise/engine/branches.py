"""Branches: what a question becomes under one set of decisions, run together in stacks of equal width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headwise.engine.caches import AnswerCaches, Part, stacked
from headwise.engine.decode import Outcome
from headwise.engine.levers import Optimizations
from headwise.engine.memory import on_device
from headwise.engine.prefix import beside
from headwise.engine.tree import Node, Rows, Segment, add_deep, gather, with_system
from headwise.models.decoder import KV, Decoder, join, take


class Stack:
    """Branches of one shape from their last stage to the last layer, with drafts of their answers.

    All of them have equally many visual rows and text positions, so nothing is padded but drafts. What greedy decoding
    says after each position that was read stays on the device (`read`) until someone asks for it (`accept`).
    """

    def __init__(
        self, nodes: Sequence[Node], drafts: Sequence[Sequence[int]], optimizations: Optimizations, keep_logits: bool
    ) -> None:
        """Prefill branches with equally many visual rows after the same stages; `keep_logits`: of the first step."""
        self.nodes, self.node, self.drafts = list(nodes), nodes[0], drafts
        self.optimizations, self.keep_logits = optimizations, keep_logits
        self.questions = self.node.trunk
        self.images = self.questions.images
        self.decoder: Decoder = self.questions.decoder
        self.first = self.node.layer
        self.device = self.questions.image_N.device
        self.rows_B = on_device([node.row for node in nodes], self.device)
        self.lower: AnswerCaches | None = None
        self._prefill(self._padded())

    @property
    def positions(self) -> int:
        """Positions whose keys and values the stack holds."""
        return len(self.nodes) * self.own_upper[0][0].shape[2]

    def _padded(self) -> Tensor:
        """Drafts without their last token (its successor is never read), right-padded: [B, A]."""
        fed = [list(draft)[:-1] for draft in self.drafts]
        longest = max(map(len, fed))
        return on_device([each + [0] * (longest - len(each)) for each in fed], self.device).view(len(fed), longest)

    def _prefill(self, draft_BA: Tensor) -> None:
        """Visual rows, question and draft through the upper layers; what is said at the last 1 + A positions.

        A draft is a guess of the answer that runs behind the question. Causal attention makes the question's
        states what they are without it, and each logit read says what greedy decoding says after the tokens
        before it: as far as the draft agrees with that, it is the answer.
        """
        drafted = draft_BA.shape[1]
        rows = gather(self.nodes)
        self.after_B, self.text_width = rows.after_B, rows.text_BQD.shape[1] + drafted
        text_BQD, text_positions = rows.text_BQD, rows.text_positions_BQ
        if drafted:
            said_BA = torch.arange(drafted, device=self.device).expand(len(self.nodes), -1)
            hidden_BAD = self.decoder.embed(draft_BA)
            if self.first:
                self.lower = AnswerCaches(self.decoder, [self._lower(range(len(self.nodes)))], drafted)
                hidden_BAD = self.lower.run(hidden_BAD, said_BA, drafted - 1)
            text_BQD = torch.cat([text_BQD, hidden_BAD], dim=1)
            text_positions = torch.cat([text_positions, rows.after_B[:, None] + said_BA], dim=1)
        self._upper(rows, text_BQD, text_positions, 1 + drafted)

    def _upper(self, rows: Rows, text_BQD: Tensor, text_positions_BQ: Tensor, read: int) -> None:
        hidden, positions_BS = text_BQD, text_positions_BQ
        self.system: list[KV] = []
        if not self.node.is_root:  # unpruned: all questions of an image share the prefix in the upper layers, too
            hidden, positions_BS, self.system = with_system(
                self.questions,
                torch.cat([rows.visual_BnD, text_BQD], dim=1),
                beside(rows.visual_positions_Bn, text_positions_BQ),
                self.first,
                self.optimizations.shared_system,
            )
        logits_BPW = self._layers(hidden, positions_BS, read)
        top = logits_BPW.float().topk(2, dim=-1)
        said_BP, gap_BP = top.indices[..., 0], top.values[..., 0] - top.values[..., 1]
        self.read = torch.stack([said_BP.double(), gap_BP.double()])  # both exact, and one copy to the host
        self.logits_BW = logits_BPW[:, 0].clone() if self.keep_logits else None

    def _before(self, index: int) -> KV:
        """Keys and values in front of the stack in layer `index`."""
        if not self.node.is_root:
            return self.system[index - self.first]
        return take(self.images.upper_kv()[index - self.first], self.questions.image_N[self.rows_B])

    def _layers(self, hidden: Tensor, positions_BS: Tensor, read: int) -> Tensor:
        """Logits of the last `read` positions. No mask: drafts are padded at their end, where no one looks from."""
        decoder, last = self.decoder, len(self.decoder.layers) - 1
        rope = decoder.rope(positions_BS)
        self.own_upper: list[KV] = []
        for index in range(self.first, last):
            hidden, kv = decoder.run(index, hidden, rope, self._before(index))
            if not self.node.is_root:  # an unpruned branch reads its visual rows from the image's own
                add_deep(index, hidden, self.nodes, hidden.shape[1] - self.text_width - self.node.visual)
            self.own_upper.append(kv)
        if not self.optimizations.last_layer_rows:
            hidden, kv = decoder.run(last, hidden, rope, self._before(last))
            self.own_upper.append(kv)
            return decoder.logits(hidden[:, -read:])
        # Of the last layer only the positions that are read need queries and an MLP; all need keys and values.
        self.own_upper.append(decoder.keys_values(last, hidden, rope))
        content = join(self._before(last), self.own_upper[-1])
        read_rope = rope[0][:, -read:], rope[1][:, -read:]
        return decoder.logits(decoder.run_rows(last, hidden[:, -read:], read_rope, content))

    def accept(self, read: Tensor) -> list[Outcome]:
        """Keep each draft as far as it is what greedy decoding says, plus the first token where it is not.

        `read`: the stack's `read`, on the host.
        """
        said, gaps = read[0].long().tolist(), read[1].tolist()
        outcomes = []
        for row, draft in enumerate(self.drafts):
            agreed = 0
            while agreed < len(draft) - 1 and said[row][agreed] == draft[agreed]:
                agreed += 1
            logits = None if self.logits_BW is None else self.logits_BW[row]
            outcomes.append(Outcome(said[row][: agreed + 1], logits, min(gaps[row][: agreed + 1])))
        return outcomes

    def parts(self, rows: Sequence[int]) -> list[Part]:
        """What the answers of some branches go on from. Tokens of drafts that were not accepted are written over."""
        lower = self._lower(rows) if self.lower is None else self.lower.parts(rows)
        return [*lower, self._upper_part(rows)]

    def _upper_part(self, rows: Sequence[int]) -> Part:
        index = on_device(rows, self.device)
        drafted = self.read.shape[2] - 1
        own = [(keys[index], values[index]) for keys, values in self.own_upper]
        last = len(self.decoder.layers)
        filled = [own[0][0].shape[2] - drafted] * len(rows)
        if self.node.is_root:
            image_of = [self.questions.image_of[self.nodes[row].row] for row in rows]
            prefix = self.images.upper_kv()
            return Part(self.first, last, stacked(own), filled, self.after_B[index], prefix, image_of)
        system = self.system[0][0].shape[2]
        kv = stacked([join(before, each) for before, each in zip(_shared(self.system), own, strict=True)])
        return Part(self.first, last, kv, [each + system for each in filled], self.after_B[index])

    def _lower(self, rows: Sequence[int]) -> list[Part]:
        """The layers below the last stage: the trunk's, then segment after segment."""
        nodes = [self.nodes[row] for row in rows]
        passed = [[node.chain[place] for node in nodes] for place in range(len(nodes[0].chain))]
        trunk = [self._trunk(nodes)] if self.node.trunk_layer else []
        return trunk + [_segments(each) for each in passed]

    def _trunk(self, nodes: Sequence[Node]) -> Part:
        questions, length = self.questions, self.node.length
        index = on_device([node.row for node in nodes], self.device)
        kvs = questions.kv[: self.node.trunk_layer]
        own = [(keys[index, :, :length], values[index, :, :length]) for keys, values in kvs]
        start_n = questions.after_N[index] + length
        image_of = [questions.image_of[node.row] for node in nodes]
        filled = [length] * len(nodes)
        return Part(0, self.node.trunk_layer, stacked(own), filled, start_n, self.images.kv, image_of)


def _segments(passed: Sequence[tuple[Segment, int]]) -> Part:
    """One segment's rows for each branch (they may come from several stacks of equal shape)."""
    first, device = passed[0][0], passed[0][0].after_B.device
    segments = list(dict.fromkeys(segment for segment, _ in passed))
    offsets, total = {}, 0
    for segment in segments:
        offsets[segment] = total
        total += len(segment.after_B)
    rows = on_device([offsets[segment] + row for segment, row in passed], device)
    after_B = torch.cat([segment.after_B for segment in segments])
    own = [
        tuple(torch.cat([segment.kv[place][side] for segment in segments])[rows] for side in (0, 1))
        for place in range(first.last - first.first)
    ]
    kv = stacked([join(before, each) for before, each in zip(_shared(first.before), own, strict=False)])  # type: ignore[arg-type]
    return Part(first.first, first.last, kv, [kv[0].shape[3]] * len(passed), after_B[rows])


def _shared(before: Sequence[KV]) -> list[KV]:
    """Keys and values in front, of one prompt for all; where nothing is in front, not tied to a batch."""
    return [(keys[:1], values[:1]) for keys, values in before]
