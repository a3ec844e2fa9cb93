"""Branches: what a question becomes under one set of kept tokens, run together in stacks of equal width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from headwise.engine.decode import Caches, Outcome, decode
from headwise.engine.decoder import KV, Decoder, join, take
from headwise.engine.levers import Levers
from headwise.engine.prefix import Questions, causal, visible


@dataclass(frozen=True)
class Path:
    """One branch to run: a question's row and the visual tokens it keeps (None: all of them)."""

    question: int
    kept_R: Tensor | None


class Stack:
    """Branches that keep equally many tokens, through layers K+1..L: prefill with drafts, then greedy steps."""

    def __init__(
        self,
        questions: Questions,
        paths: Sequence[Path],
        levers: Levers,
        max_new_tokens: int,
        keep_logits: bool = False,
    ) -> None:
        self.questions, self.images, self.levers = questions, questions.images, levers
        self.decoder: Decoder = questions.images.decoder
        self.device = questions.hidden_NQD.device
        self.max_new_tokens, self.keep_logits = max_new_tokens, keep_logits
        self.rows_B = torch.tensor([path.question for path in paths], device=self.device)
        self.kept_BR = (
            None if paths[0].kept_R is None else torch.stack([p.kept_R for p in paths if p.kept_R is not None])
        )
        self.length_B = questions.length_N[self.rows_B]
        lengths = [questions.lengths[path.question] for path in paths]
        self.width, self.padded = max(lengths), min(lengths) < max(lengths)

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
        """Kept tokens, question and draft through the upper layers; logits [B, 1 + A, vocabulary]."""
        questions, drafted = self.questions, draft_BA.shape[1]
        position_BA = (self.images.length + self.length_B)[:, None] + torch.arange(drafted, device=self.device)
        self.own_lower: list[KV] = []
        text_BQD = questions.hidden_NQD[self.rows_B, : self.width]
        if drafted:
            hidden_BAD, self.own_lower = questions.lower(
                self.rows_B, self.decoder.embed(draft_BA), position_BA, [], draft_BA.new_empty(len(draft_BA), 0).bool()
            )
            text_BQD = torch.cat([text_BQD, hidden_BAD], dim=1)
        hidden, positions_BS, self.before, self.before_length = self._assemble(text_BQD, position_BA)
        written_BA = torch.arange(drafted, device=self.device) < guessed_B[:, None]
        text_valid = torch.cat([questions.valid_NQ[self.rows_B, : self.width], written_BA], dim=1)
        self.valid_BS = torch.nn.functional.pad(text_valid, (hidden.shape[1] - text_valid.shape[1], 0), value=True)
        self.first_draft = hidden.shape[1] - drafted
        read_BP = torch.cat(
            [
                (self.first_draft - self.width + self.length_B - 1)[:, None],
                (self.first_draft + torch.arange(drafted, device=self.device)).expand(len(self.rows_B), -1),
            ],
            dim=1,
        )
        return self._upper(hidden, positions_BS, read_BP)

    def _assemble(self, text_BQD: Tensor, position_BA: Tensor) -> tuple[Tensor, Tensor, list[KV], int]:
        """Hidden states and positions of what is run, and the keys and values in front of it."""
        images, system = self.images, self.images.system
        question_BQ = (images.length + torch.arange(self.width, device=self.device)).expand(len(self.rows_B), -1)
        text_positions = torch.cat([question_BQ, position_BA], dim=1)
        image_B = self.questions.image_N[self.rows_B]
        if self.kept_BR is None:
            return text_BQD, text_positions, [take(kv, image_B) for kv in images.upper_kv()], images.length
        kept_BRD = images.hidden_IVD[image_B[:, None], self.kept_BR]
        hidden = torch.cat([kept_BRD, text_BQD], dim=1)
        positions = torch.cat([system.length + self.kept_BR, text_positions], dim=1)
        if self.levers.shared_system and not system.short:
            return hidden, positions, system.kv[images.layer :], system.length
        batch = len(self.rows_B)
        start = torch.arange(system.length, device=self.device).expand(batch, -1)
        hidden = torch.cat([system.hidden_1MD.expand(batch, -1, -1), hidden], dim=1)
        nothing = [self.decoder.empty(batch)] * (len(self.decoder.layers) - images.layer)
        return hidden, torch.cat([start, positions], dim=1), nothing, 0

    def _upper(self, hidden: Tensor, positions_BS: Tensor, read_BP: Tensor) -> Tensor:
        decoder, first, last = self.decoder, self.images.layer, len(self.decoder.layers) - 1
        rope = decoder.rope(positions_BS)
        mask = self._mask(hidden.shape[1])
        rows = torch.arange(len(self.rows_B), device=self.device)[:, None]
        self.own_upper: list[KV] = []
        for index in range(first, last):
            hidden, kv = decoder.run(index, hidden, rope, self._unless_plain(mask), self.before[index - first])
            self.own_upper.append(kv)
        if not self.levers.last_layer_rows:
            hidden, kv = decoder.run(last, hidden, rope, self._unless_plain(mask), self.before[last - first])
            self.own_upper.append(kv)
            return decoder.logits(hidden[rows, read_BP])
        self.own_upper.append(decoder.keys_values(last, hidden, rope))
        content = join(self.before[last - first], self.own_upper[-1])
        read_rope = rope[0].expand(len(rows), -1, -1)[rows, read_BP], rope[1].expand(len(rows), -1, -1)[rows, read_BP]
        read_mask = mask.expand(len(rows), -1, -1, -1)[rows, 0, read_BP].unsqueeze(1)
        return decoder.logits(decoder.run_rows(last, hidden[rows, read_BP], read_rope, read_mask, content))

    def _mask(self, width: int) -> Tensor:
        """What each position sees; rows differ only where questions are padded (drafts are padded at the end)."""
        mask = causal(width, self.before_length, self.device)
        return visible(mask, self.before_length, self.valid_BS) if self.padded else mask

    def _unless_plain(self, mask: Tensor) -> Tensor | None:
        """No mask where attention is causal anyway: its kernels are faster without one."""
        plain = not self.padded and not self.before_length and self.decoder.causal_without_mask
        return None if plain else mask

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
        caches = Caches(self.rows_B, self.before, self.own_upper, valid_BS, self.own_lower, kept_BA)
        decode(self.questions, caches.rows(index), [outcomes[row] for row in rows], self._finished)
