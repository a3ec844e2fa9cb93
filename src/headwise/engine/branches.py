"""Branches: what a question becomes under one set of decisions, run together in stacks of equal width."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from headwise.engine.chain import Chain
from headwise.engine.decode import Caches, Outcome, decode
from headwise.engine.levers import Optimizations
from headwise.engine.prefix import beside, causal
from headwise.engine.tree import Node, add_deep, gather, with_system
from headwise.models.decoder import KV, Decoder, join, take


class Stack:
    """Branches of one shape from their last stage to the last layer: prefill with drafts, then greedy steps.

    All of them have equally many visual rows and text positions, so nothing is padded but drafts.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        optimizations: Optimizations,
        max_new_tokens: int,
        keep_logits: bool = False,
    ) -> None:
        """`nodes`: branches with equally many visual rows after the same stages; `keep_logits`: of the first step."""
        self.nodes, self.node = list(nodes), nodes[0]
        self.optimizations = optimizations
        self.questions = self.node.trunk
        self.images = self.questions.images
        self.decoder: Decoder = self.questions.decoder
        self.first = self.node.layer
        self.chain = Chain(self.nodes)
        self.device = self.chain.rows_B.device
        self.max_new_tokens, self.keep_logits = max_new_tokens, keep_logits

    def answers(self, drafts: Sequence[Sequence[int]]) -> list[Outcome]:
        """Greedy answers; `drafts` (a guess of each answer, possibly empty) only save steps, never change them."""
        draft_BA, guessed_B = self._pad(drafts)
        logits = self._prefill(draft_BA, guessed_B)
        outcomes, accepted_B = self._accept(drafts, logits)
        open_rows = [row for row, outcome in enumerate(outcomes) if not self._finished(outcome)]
        if open_rows:
            self._decode(outcomes, open_rows, accepted_B)
        return outcomes

    def _pad(self, drafts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Drafts without their last token (its successor is never read), right-padded: [B, A] and lengths [B]."""
        fed = [torch.tensor(list(draft)[:-1], dtype=torch.long) for draft in drafts]
        lengths = torch.tensor([len(draft) for draft in fed], device=self.device)
        return torch.nn.utils.rnn.pad_sequence(fed, batch_first=True).to(self.device), lengths

    def _prefill(self, draft_BA: Tensor, guessed_B: Tensor) -> Tensor:
        """Visual rows, question and draft through the upper layers; logits [B, 1 + A, vocabulary].

        A draft is a guess of the answer that runs behind the question. Causal attention makes the question's
        states what they are without it, and each logit read says what greedy decoding says after the tokens
        before it: as far as the draft agrees with that, it is the answer.
        """
        drafted = draft_BA.shape[1]
        rows = gather(self.nodes)
        self.chain.after_B = rows.after_B
        text_BQD, text_positions = rows.text_BQD, rows.text_positions_BQ
        self.own_lower: list[KV] = []
        # The draft passes the lower layers like answer tokens, behind the question, whose states it cannot change.
        if drafted:
            said_BA = torch.arange(drafted, device=self.device).expand(len(self.nodes), -1)
            hidden_BAD, self.own_lower = self.chain.run(
                self.decoder.embed(draft_BA), said_BA, [], draft_BA.new_empty(len(draft_BA), 0).bool()
            )
            text_BQD = torch.cat([text_BQD, hidden_BAD], dim=1)
            text_positions = torch.cat([text_positions, rows.after_B[:, None] + said_BA], dim=1)
        self.text_width = text_BQD.shape[1]
        if self.node.is_root:  # unpruned: all questions of an image share the prefix in the upper layers, too
            hidden, positions_BS = text_BQD, text_positions
            self.before = [take(kv, self.questions.image_N[self.chain.rows_B]) for kv in self.images.upper_kv()]
        else:
            hidden, positions_BS, self.before = with_system(
                self.questions,
                torch.cat([rows.visual_BnD, text_BQD], dim=1),
                beside(rows.visual_positions_Bn, text_positions),
                self.first,
                self.optimizations.shared_system,
            )
        self.before_length = self.before[0][0].shape[2]
        self.first_draft = hidden.shape[1] - drafted
        written_BA = torch.arange(drafted, device=self.device) < guessed_B[:, None]
        self.valid_BS = torch.nn.functional.pad(written_BA, (self.first_draft, 0), value=True)
        read_BP = self.first_draft - 1 + torch.arange(1 + drafted, device=self.device)
        return self._upper(hidden, positions_BS, read_BP.expand(len(self.nodes), -1))

    def _upper(self, hidden: Tensor, positions_BS: Tensor, read_BP: Tensor) -> Tensor:
        decoder, first, last = self.decoder, self.first, len(self.decoder.layers) - 1
        rope = decoder.rope(positions_BS)
        mask = causal(hidden.shape[1], self.before_length, self.device)
        # No mask where attention is causal anyway: its kernels are faster without one. Drafts are padded at the end,
        # where no one looks back from.
        plain = not self.before_length and decoder.causal_without_mask
        rows = torch.arange(len(self.nodes), device=self.device)[:, None]
        self.own_upper: list[KV] = []
        for index in range(first, last):
            hidden, kv = decoder.run(index, hidden, rope, None if plain else mask, self.before[index - first])
            if not self.node.is_root:  # an unpruned branch reads its visual rows from the image's own
                add_deep(index, hidden, self.nodes, hidden.shape[1] - self.text_width - self.node.visual)
            self.own_upper.append(kv)
        if not self.optimizations.last_layer_rows:
            hidden, kv = decoder.run(last, hidden, rope, None if plain else mask, self.before[last - first])
            self.own_upper.append(kv)
            return decoder.logits(hidden[rows, read_BP])
        # Of the last layer only the positions that are read need queries and an MLP; all need keys and values.
        self.own_upper.append(decoder.keys_values(last, hidden, rope))
        content = join(self.before[last - first], self.own_upper[-1])
        read_rope = rope[0].expand(len(rows), -1, -1)[rows, read_BP], rope[1].expand(len(rows), -1, -1)[rows, read_BP]
        read_mask = mask.expand(len(rows), -1, -1, -1)[rows, 0, read_BP].unsqueeze(1)
        return decoder.logits(decoder.run_rows(last, hidden[rows, read_BP], read_rope, read_mask, content))

    def _accept(self, drafts: Sequence[Sequence[int]], logits_BPW: Tensor) -> tuple[list[Outcome], list[int]]:
        """Keep each draft as far as it is what greedy decoding says, plus the first token where it is not."""
        top = logits_BPW.float().topk(2, dim=-1)
        said, gaps = top.indices[..., 0].tolist(), (top.values[..., 0] - top.values[..., 1]).tolist()
        outcomes, accepted = [], []
        for row, draft in enumerate(drafts):
            agreed = 0
            while agreed < len(draft) - 1 and said[row][agreed] == draft[agreed]:
                agreed += 1
            accepted.append(agreed)
            margin = min(gaps[row][: agreed + 1])
            logits = logits_BPW[row, 0].clone() if self.keep_logits else None
            outcomes.append(Outcome(said[row][: agreed + 1], logits, margin))
        return outcomes, accepted

    def _finished(self, outcome: Outcome) -> bool:
        return outcome.tokens[-1] in self.decoder.eos or len(outcome.tokens) >= self.max_new_tokens

    def _decode(self, outcomes: list[Outcome], rows: list[int], accepted_B: list[int]) -> None:
        """Greedy steps of the branches still open; of their drafts only what was accepted counts."""
        index = torch.tensor(rows, device=self.device)
        drafted = self.valid_BS.shape[1] - self.first_draft
        kept_BA = torch.arange(drafted, device=self.device) < torch.tensor(accepted_B, device=self.device)[:, None]
        valid_BS = torch.cat([self.valid_BS[:, : self.first_draft], kept_BA], dim=1)
        caches = Caches(self.chain, self.before, self.own_upper, valid_BS, self.own_lower, kept_BA)
        decode(caches.rows(index), [outcomes[row] for row in rows], self._finished)
