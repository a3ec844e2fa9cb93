"""The engine: many cells and questions as one computation, each answer what greedy decoding says.

A cell is a list of stages: after decoder layer l only some visual rows go on. Cells that have stages in common
share what lies below them (a tree per question), and all that is shared is exact:

system prompt ─ once per run ─┐
image ─ up to the last layer ─┼─► question, up to there ─► signals ─► choices ─► nodes ─► … ─► branches ─► answers
at which a cell first drops ──┘   (the trunk)              (views)              (segments)    (stacks, drafts)

No method is known here by name: methods say which stages they have and what they keep (headwise.methods.stages).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headwise.engine.branches import Stack
from headwise.engine.decode import Outcome
from headwise.engine.grow import ImageRows, Leaf, Tree
from headwise.engine.levers import Optimizations
from headwise.engine.memory import stack_tokens, with_halving
from headwise.engine.prefix import System, system_prompt
from headwise.engine.tree import Node
from headwise.errors import ConfigError
from headwise.methods.stages import Stage, StageKept, check_cell, for_image, stages_of
from headwise.models import family_of
from headwise.models.contract import Picture
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell, Geometry

__all__ = ["Branch", "Engine", "ImageRows", "Optimizations", "Question", "run_inputs", "run_prompt"]


@dataclass(frozen=True)
class Question:
    """A question's embeddings [Q, D] (everything after the image), its image's place in the call, and its name.

    `rows`: per cell what the language model gets in place of the image for this question, where a method chose before
    layer 1 (None: the image, or what `reduced` gives; empty: so for all cells). Questions and cells that are given
    the same object share its prefix.
    """

    image: int
    embeds_QD: Tensor
    sample_id: str = ""
    rows: tuple[ImageRows | None, ...] = ()


@dataclass(frozen=True)
class Branch:
    """One cell's result for one question.

    `kept_R`: visual tokens of the image that are left after the last stage, ascending; `stages`: what each stage
    left, merged rows included; `heads_K`: the heads that chose them (None for controls without heads); `tokens`:
    greedy answer, end of sequence included where it came; `logits` [vocabulary] of the first step; `margin`:
    smallest gap between best and second-best logit over the steps; `degenerate`: the ranking of heads was NaN or
    all tied; `agreement`: share of the chosen heads on which float16 and float64 rankings agree (None for
    controls); `shared`: cells that share this branch; `visual`: V of the image; `area_V`: for each visual token the
    merged row that it went into, from 1 in their order (0: none), where stages inside the language model merge.
    """

    kept_R: Tensor
    tokens: list[int]
    logits: Tensor | None = None
    heads_K: Tensor | None = None
    margin: float = 0.0
    degenerate: bool = False
    agreement: float | None = None
    shared: int = 1
    stages: tuple[StageKept, ...] = ()
    visual: int = 0
    area_V: Tensor | None = None


class Engine:
    """Answers questions under every cell, whatever the layers at which each prunes.

    `system_MD` are the embeddings of the prompt before the image, the same for every question; `visual` is V, for
    which the cells are checked at once (images of another V are taken, and checked when they come), or None where
    it differs from image to image: then budgets are shares, or counts of what is kept. First-step
    logits are kept only where `keep_logits` asks for them: a vocabulary per branch adds up.
    """

    def __init__(
        self,
        decoder: Decoder,
        system_MD: Tensor,
        cells: Sequence[Cell],
        visual: int | None,
        max_new_tokens: int,
        optimizations: Optimizations | None = None,
        keep_logits: bool = False,
    ) -> None:
        """Prepare the prompt before the image once for all questions.

        Args:
            decoder: the language model as a list of layers.
            system_MD: embeddings of the prompt before the image.
            cells: the cells of every question, equal ones allowed.
            visual: V where it is the same for every image, else None.
            max_new_tokens: bound on an answer's length, in tokens.
            optimizations: what the engine may share; None for all of it.
            keep_logits: whether answers carry the logits of their first step.

        Raises:
            ConfigError: a cell that does not fit the decoder.
        """
        self.keep_logits = keep_logits
        self.decoder, self.cells, self.optimizations = decoder, list(cells), optimizations or Optimizations()
        self.max_new_tokens, self.visual = max_new_tokens, visual
        self._stages: dict[tuple[int, int], tuple[Stage, ...]] = {}
        self.kept = [check_cell(cell, self._geometry(visual)) for cell in cells]
        with torch.inference_mode():
            self.system: System = system_prompt(decoder, system_MD)
        self.stack_tokens = stack_tokens(decoder)

    def _geometry(self, visual: int | None) -> Geometry:
        return Geometry(layers=len(self.decoder.layers), heads=self.decoder.attention_heads, visual=visual)

    def stages(self, cell: int, visual: int) -> tuple[Stage, ...]:
        """The stages of the cell at that place for images of V = `visual` tokens."""
        if (cell, visual) not in self._stages:
            asked = self.cells[cell] if self.visual is not None else for_image(self.cells[cell], visual)
            self._stages[cell, visual] = stages_of(asked, self._geometry(visual))
        return self._stages[cell, visual]

    @torch.inference_mode()
    def answer(
        self,
        visual: Tensor | Sequence[Tensor | Picture],
        questions: Sequence[Question],
        reduced: Sequence[Sequence[ImageRows | None]] | None = None,
    ) -> list[list[Branch]]:
        """Branches, by question and then by cell, for questions about images `visual`.

        `visual`: [I, V, D], or per image [V, D] or a Picture; then images may differ in V.
        `reduced`, by image and then by cell: the rows that a cell's language model gets in place of all of the
        image's, where a method chose before layer 1 (None: all of them). Cells that are given the same object share
        one prefix per image, and its lower layers are shared by all questions on the image.
        """
        if self.optimizations.shared_prefix:
            return self._answer(visual, questions, reduced)
        return [
            self._answer(
                visual[q.image : q.image + 1],
                [Question(0, q.embeds_QD, q.sample_id, q.rows)],
                None if reduced is None else reduced[q.image : q.image + 1],
            )[0]
            for q in questions
        ]

    def _answer(
        self,
        visual: Tensor | Sequence[Tensor | Picture],
        questions: Sequence[Question],
        reduced: Sequence[Sequence[ImageRows | None]] | None,
    ) -> list[list[Branch]]:
        tree = Tree(self, visual, questions, reduced)
        leaves = tree.grow()
        # Cells that ended in the same node of a question have decided alike at every stage: one branch for all.
        nodes: list[Node] = []
        known: dict[tuple[int, ...], int] = {}
        branch_of: list[list[int]] = []
        for row in leaves:
            branch_of.append([])
            for column, leaf in enumerate(row):
                key = (id(leaf.node),) if self.optimizations.merge_equal else (id(leaf.node), column)
                if key not in known:
                    known[key] = len(nodes)
                    nodes.append(leaf.node)
                branch_of[-1].append(known[key])
        outcomes = self._run(nodes)
        users = torch.bincount(torch.tensor(branch_of).flatten(), minlength=len(nodes)).tolist()
        return [
            [_branch(leaf, outcomes[place], users[place]) for leaf, place in zip(row, places, strict=True)]
            for row, places in zip(leaves, branch_of, strict=True)
        ]

    def _run(self, nodes: Sequence[Node]) -> list[Outcome]:
        """Run all branches: first one per question, whose answers are the drafts of the others."""
        # A draft is only a guess: every token of it is checked against the branch's own logits (`Stack._accept`), and
        # the first one that differs is replaced. The branch with the most visual rows of each question goes first.
        outcomes: dict[int, Outcome] = {}
        drafts: dict[int, list[int]] = {}
        order = sorted(range(len(nodes)), key=lambda place: -nodes[place].visual)
        first = list({nodes[place].question: place for place in reversed(order)}.values())
        rest = sorted(set(order) - set(first), key=lambda place: -nodes[place].visual)
        for wave in (first, rest) if self.optimizations.draft else (order,):
            for places in self.stacks(wave, nodes):
                guesses = [drafts.get(nodes[place].question, []) for place in places]
                work = list(zip([nodes[place] for place in places], guesses, strict=True))
                outcomes.update(zip(places, with_halving(self._stack, work), strict=True))
            if self.optimizations.draft:
                drafts = {nodes[place].question: outcomes[place].tokens for place in wave}
        return [outcomes[place] for place in range(len(nodes))]

    def _stack(self, work: Sequence[tuple[Node, list[int]]]) -> list[Outcome]:
        stack = Stack([node for node, _ in work], self.optimizations, self.max_new_tokens, self.keep_logits)
        return stack.answers([guess for _, guess in work])

    def stacks(self, places: Sequence[int], nodes: Sequence[Node]) -> list[list[int]]:
        """Groups of nodes of one shape (equally many rows everywhere: no padding), no larger than memory allows."""
        if not self.optimizations.batch:
            return [[place] for place in places]
        # One shape per stack: rows of a batch do not attend to each other, and without padding no mask is needed.
        groups: dict[object, list[int]] = {}
        for place in places:
            groups.setdefault(nodes[place].shape, []).append(place)
        stacks = []
        for members in groups.values():
            node = nodes[members[0]]
            step = max(1, self.stack_tokens // ((0 if node.is_root else node.visual) + node.length))
            # Nodes that read from one source stand together, so that their rows are gathered by one indexing.
            members.sort(key=lambda place: nodes[place].source.number)
            stacks += [members[start : start + step] for start in range(0, len(members), step)]
        return stacks


def run_prompt(
    language_model: nn.Module,
    embeds_SD: Tensor,
    visual: slice,
    cells: Sequence[Cell],
    max_new_tokens: int,
    sample_id: str = "",
    optimizations: Optimizations | None = None,
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
    decoder, system_MD = Decoder(language_model), embeds_SD[:start]
    engine = Engine(decoder, system_MD, cells, stop - start, max_new_tokens, optimizations, keep_logits=True)
    return engine.answer(embeds_SD[None, start:stop], [Question(0, embeds_SD[stop:], sample_id)])[0]


def run_inputs(
    model: Any,
    inputs: Mapping[str, Tensor],
    cells: Sequence[Cell],
    max_new_tokens: int,
    sample_id: str = "",
    optimizations: Optimizations | None = None,
) -> list[Branch]:
    """Greedy answers of an image-text model of transformers to one prompt under each cell, in cell order.

    Args:
        model: a loaded model of one of the families in headwise.models.FAMILIES.
        inputs: what the model's processor gives for one prompt with one image: input_ids [1, S], pixel_values, and what
            else the family reads (image_sizes, image_grid_thw, mm_token_type_ids).
        cells: `tokens` and `heads` below 1 are shares of this image's V and of H.
        max_new_tokens: greedy tokens at most.
        sample_id: seeds the random controls.
        optimizations: as for Engine.

    Returns:
        Branches whose `kept_R` are indices into the image's placeholders.

    Raises:
        ModelError: the model is of no known family, or the inputs do not fit it.
        ConfigError: a cell does not fit the model.
    """
    prompt = family_of(model.config).read_prompt(model, inputs)
    engine = Engine(Decoder(model), prompt.before_MD, cells, None, max_new_tokens, optimizations, keep_logits=True)
    return engine.answer([prompt.picture], [Question(0, prompt.after_QD, sample_id)])[0]


def _branch(leaf: Leaf, outcome: Outcome, shared: int) -> Branch:
    node = leaf.node
    merged = any(stage.merged for stage in leaf.stages) or node.made_rows
    return Branch(
        kept_R=node.places_n[node.places_n >= 0] if merged else node.kept_n,
        tokens=list(outcome.tokens),
        logits=outcome.logits,
        heads_K=leaf.heads_K,
        margin=outcome.margin,
        degenerate=leaf.degenerate,
        agreement=leaf.agreement,
        shared=shared,
        stages=tuple(leaf.kept),
        visual=leaf.visual,
        area_V=node.area_V,
    )
