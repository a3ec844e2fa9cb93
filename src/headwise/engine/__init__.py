"""The engine: many cells and questions as one computation, each answer what greedy decoding says.

system prompt ─ once a run ──┐
image ─ layers 1..K, once ───┼─► question, layers 1..K ─► attention row ─► heads ─► kept tokens
                             └─► branch a set of kept tokens, layers K+1..L, stacked ─► answer
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headwise.config import Cell, Geometry, check_cell
from headwise.engine.branches import Path, Stack
from headwise.engine.decode import Outcome
from headwise.engine.decoder import Decoder
from headwise.engine.levers import Levers
from headwise.engine.memory import stack_tokens, with_halving
from headwise.engine.prefix import Images, Questions, System, system_prompt
from headwise.engine.ranking import Choice, Ranker
from headwise.errors import ConfigError

__all__ = ["Branch", "Engine", "Levers", "Question", "run_prompt"]


@dataclass(frozen=True)
class Question:
    """A question's embeddings [Q, D] (everything after the image), its image's place in the call, and its name."""

    image: int
    embeds_QD: Tensor
    sample_id: str = ""


@dataclass(frozen=True)
class Branch:
    """One cell's result for one question.

    `kept_R`: kept visual tokens, ascending; `heads_K`: the heads that chose them (None for controls
    without heads); `tokens`: greedy answer, end of sequence included where it came; `logits` [vocabulary]
    of the first step; `margin`: smallest gap between best and second-best logit over the steps;
    `degenerate`: the ranking of heads was NaN or all tied; `agreement`: share of the chosen heads on which
    float16 and float64 rankings agree (None for controls); `shared`: cells that share this branch.
    """

    kept_R: Tensor
    tokens: list[int]
    logits: Tensor | None = None
    heads_K: Tensor | None = None
    margin: float = 0.0
    degenerate: bool = False
    agreement: float | None = None
    shared: int = 1


class Engine:
    """Answers questions under every cell. All cells prune at the same layer K.

    `system_MD` are the embeddings of the prompt before the image, the same for every question. First-step
    logits are kept only where `keep_logits` asks for them: a vocabulary a branch adds up.
    """

    def __init__(
        self,
        decoder: Decoder,
        system_MD: Tensor,
        cells: Sequence[Cell],
        visual: int,
        max_new_tokens: int,
        levers: Levers | None = None,
        keep_logits: bool = False,
    ) -> None:
        self.keep_logits = keep_logits
        self.decoder, self.cells, self.levers = decoder, list(cells), levers or Levers()
        self.max_new_tokens = max_new_tokens
        layers = {cell.layer for cell in cells}
        if len(layers) != 1:
            raise ConfigError(f"layer: cells of one run share their pruning layer, got {sorted(layers)}")
        self.layer = layers.pop()
        geometry = Geometry(layers=len(decoder.layers), heads=decoder.attention_heads, visual=visual)
        self.kept = [check_cell(cell, geometry) for cell in cells]
        self.visual = visual
        with torch.inference_mode():
            self.system: System = system_prompt(decoder, system_MD, self.layer)
        self.stack_tokens = stack_tokens(decoder)

    @torch.inference_mode()
    def answer(self, visual_IVD: Tensor, questions: Sequence[Question]) -> list[list[Branch]]:
        """Branches [questions][cells] for questions about the images visual_IVD [I, V, D]."""
        if self.levers.shared_prefix:
            return self._answer(visual_IVD, questions)
        return [
            self._answer(visual_IVD[q.image : q.image + 1], [Question(0, q.embeds_QD, q.sample_id)])[0]
            for q in questions
        ]

    def _answer(self, visual_IVD: Tensor, questions: Sequence[Question]) -> list[list[Branch]]:
        images = Images(self.decoder, self.system, visual_IVD, self.layer)
        asked = Questions(images, [q.embeds_QD for q in questions], [q.image for q in questions])
        ranker = Ranker(asked.attention_NHV, [question.sample_id for question in questions])
        by_cell = [ranker.choices(cell, count) for cell, count in zip(self.cells, self.kept, strict=True)]
        choices = list(zip(*by_cell, strict=True))
        paths, path_of = self._paths(choices)
        outcomes = self._run(asked, paths)
        users = torch.bincount(torch.tensor(path_of).flatten(), minlength=len(paths)).tolist()
        return [
            [_branch(choice, outcomes[path], users[path]) for choice, path in zip(row, places, strict=True)]
            for row, places in zip(choices, path_of, strict=True)
        ]

    def _paths(self, choices: Sequence[Sequence[Choice]]) -> tuple[list[Path], list[list[int]]]:
        """Distinct branches, and which of them each question's cells use."""
        paths: list[Path] = []
        known: dict[tuple[object, ...], int] = {}
        path_of: list[list[int]] = []
        for row, cells in enumerate(choices):
            path_of.append([])
            for column, choice in enumerate(cells):
                everything = len(choice.kept_R) == self.visual
                kept = None if everything else choice.kept_R
                key: tuple[object, ...] = (row, None if kept is None else kept.cpu().numpy().tobytes())
                if not self.levers.merge_equal:
                    key = (row, column)
                if key not in known:
                    known[key] = len(paths)
                    paths.append(Path(row, kept))
                path_of[-1].append(known[key])
        return paths, path_of

    def _run(self, asked: Questions, paths: Sequence[Path]) -> list[Outcome]:
        """Run all branches: first one a question, whose answers are the drafts of the others."""
        outcomes: dict[int, Outcome] = {}
        drafts: dict[int, list[int]] = {}
        order = sorted(range(len(paths)), key=lambda place: -self._width(paths[place]))
        first = list({paths[place].question: place for place in reversed(order)}.values())
        rest = sorted(set(order) - set(first), key=lambda place: -self._width(paths[place]))
        for wave in (first, rest) if self.levers.draft else (order,):
            for places in self._stacks(wave, paths, asked):
                chosen = [paths[place] for place in places]
                guesses = [drafts.get(path.question, []) for path in chosen]
                done = with_halving(lambda part: self._stack(asked, part), list(zip(chosen, guesses, strict=True)))
                outcomes.update(zip(places, done, strict=True))
            if self.levers.draft:
                drafts = {paths[place].question: outcomes[place].tokens for place in wave}
        return [outcomes[place] for place in range(len(paths))]

    def _stack(self, asked: Questions, work: Sequence[tuple[Path, list[int]]]) -> list[Outcome]:
        stack = Stack(asked, [path for path, _ in work], self.levers, self.max_new_tokens, self.keep_logits)
        return stack.answers([guess for _, guess in work])

    def _stacks(self, places: Sequence[int], paths: Sequence[Path], asked: Questions) -> list[list[int]]:
        """Groups of branches that keep equally many tokens of equally long questions, no larger than memory allows."""
        if not self.levers.batch:
            return [[place] for place in places]
        groups: dict[tuple[int, int], list[int]] = {}
        for place in places:
            path = paths[place]
            groups.setdefault((self._width(path), asked.lengths[path.question]), []).append(place)
        stacks = []
        for (width, length), members in groups.items():
            step = max(1, self.stack_tokens // (width % self.visual + length))
            stacks += [members[start : start + step] for start in range(0, len(members), step)]
        return stacks

    def _width(self, path: Path) -> int:
        return self.visual if path.kept_R is None else len(path.kept_R)


def run_prompt(
    language_model: nn.Module,
    embeds_SD: Tensor,
    visual: slice,
    cells: Sequence[Cell],
    max_new_tokens: int,
    sample_id: str = "",
    levers: Levers | None = None,
) -> list[Branch]:
    """Greedy answers of a causal LM of transformers to one embedded prompt under each cell, in cell order.

    `embeds_SD` [S, D] is the whole prompt; `visual` the slice of it that holds the image's tokens.
    Layers 1..K run once; each cell ranks heads by the last token's attention at layer K, keeps its
    tokens at their original positions and goes on as a branch. Raises ConfigError where a cell does
    not fit the model (budget, heads, layer) or the slice lies outside the prompt.
    """
    start, stop, _ = visual.indices(len(embeds_SD))
    if not 0 <= start < stop < len(embeds_SD):
        raise ConfigError(
            f"visual: {start}..{stop} must be inside the prompt of {len(embeds_SD)} positions and before its end"
        )
    engine = Engine(Decoder(language_model), embeds_SD[:start], cells, stop - start, max_new_tokens, levers, True)
    return engine.answer(embeds_SD[None, start:stop], [Question(0, embeds_SD[stop:], sample_id)])[0]


def _branch(choice: Choice, outcome: Outcome, shared: int) -> Branch:
    return Branch(
        kept_R=choice.kept_R,
        tokens=list(outcome.tokens),
        logits=outcome.logits,
        heads_K=choice.heads_K,
        margin=outcome.margin,
        degenerate=choice.degenerate,
        agreement=choice.agreement,
        shared=shared,
    )
