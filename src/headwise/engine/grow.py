"""From cells to leaves: all cells of all questions through their stages, lowest layer first.

At each layer at which some cell has a stage, the nodes concerned are run up to it (each once, stacked), the cells
choose, and those that chose alike go on as one node. What is left at the end are the branches.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headwise.engine.memory import to_host, with_halving
from headwise.engine.prefix import Images, Questions, System
from headwise.engine.tree import Node, Segment
from headwise.engine.views import View, Views
from headwise.errors import ConfigError
from headwise.methods.contract import DISTANCES
from headwise.methods.stages import Choice, InsideMethod, Stage, StageKept, inside_method
from headwise.models.contract import Picture
from headwise.models.decoder import Decoder
from headwise.study.cells import Cell

if TYPE_CHECKING:
    from headwise.engine import Engine, Question


@dataclass(frozen=True, eq=False)
class ImageRows:
    """What a method that prunes before the language model hands it for one image.

    `rows_TD`: the rows behind the projector; `places_T`: the place in the image of each, -1 for a made row.
    `positions_T` ([T], or [T, 3] on three axes) and `after`: position ids of the rows and of the text behind them;
    None: compacted, one by one. `prunable_R`: which rows are visual tokens (None: all), the others are text between
    them. `deep`: what the decoder adds to the rows behind layers 1, 2, …, [T, D] each.
    """

    rows_TD: Tensor
    places_T: Tensor
    positions_T: Tensor | None = None
    after: int | None = None
    prunable_R: Tensor | None = None
    deep: tuple[Tensor, ...] = ()

    @classmethod
    def whole(cls, image: Tensor | Picture) -> ImageRows:
        """All of an image's rows, as the model's own forward would see them."""
        if isinstance(image, Tensor):
            return cls(image, torch.arange(len(image), device=image.device))
        places = torch.arange(len(image.span_SD), device=image.span_SD.device)
        return cls(image.span_SD, places, image.positions_S, image.after, image.prunable_V, image.deep)

    @property
    def visual(self) -> int:
        """Rows that may be pruned."""
        return len(self.rows_TD if self.prunable_R is None else self.prunable_R)

    @property
    def shape(self) -> tuple[int, int, int]:
        """What rows of one trunk have in common."""
        return len(self.rows_TD), self.visual, len(self.deep)


@dataclass
class Leaf:
    """Where one cell of one question stands: its node, the stages passed and still to come, and what chose."""

    node: Node
    cell: Cell
    method: InsideMethod | None
    stages: list[Stage]
    kept: list[StageKept] = field(default_factory=list)
    heads_K: Tensor | None = None
    degenerate: bool = False
    agreement: float | None = None
    visual: int = 0

    def passed(self, node: Node, chosen: Chosen) -> None:
        """Note that a stage was passed: the node behind it and what the choice says of heads and precision."""
        self.node = node
        self.kept.append(StageKept(chosen.stage.layer, node.kept_n))
        self.heads_K, self.agreement = chosen.heads_K, chosen.agreement
        self.degenerate |= chosen.degenerate


@dataclass
class Chosen:
    """One cell's choice for one question, `kept_R` with the text between visual tokens; and what of it was read.

    `read_R`, `read_CR`, `heads_K`: kept rows, weights of merged rows and heads on the host.
    """

    column: int
    leaf: Leaf
    stage: Stage
    choice: Choice
    kept_R: Tensor
    read_R: Tensor = field(init=False)
    read_CR: Tensor = field(init=False)
    heads_K: Tensor | None = None
    degenerate: bool = False
    agreement: float | None = None

    @property
    def made(self) -> bool:
        """Rows were merged."""
        return self.choice.merge_CR is not None and len(self.choice.merge_CR) > 0


def read(chosen: Sequence[Chosen]) -> None:
    """Bring what was chosen to the host: one copy for all that are whole numbers, and one per dtype of the rest."""
    ranked = [each for each in chosen if isinstance(each.choice.degenerate, Tensor)]
    headed = [each for each in chosen if each.choice.heads_K is not None]
    whole = [each.kept_R for each in chosen] + [
        each.choice.heads_K for each in headed if each.choice.heads_K is not None
    ]
    whole += [each.choice.degenerate.long() for each in ranked if isinstance(each.choice.degenerate, Tensor)]
    whole = to_host(whole)
    for each, read_R in zip(chosen, whole, strict=False):
        each.read_R = read_R
        if not isinstance(each.choice.degenerate, Tensor):
            each.degenerate = each.choice.degenerate
        if not isinstance(each.choice.agreement, Tensor):
            each.agreement = each.choice.agreement
    for each, heads_K in zip(headed, whole[len(chosen) :], strict=False):
        each.heads_K = heads_K
    for each, tied in zip(ranked, whole[len(chosen) + len(headed) :], strict=True):
        each.degenerate = bool(tied)
    _read_rest(chosen)


def _read_rest(chosen: Sequence[Chosen]) -> None:
    made = [each for each in chosen if each.made]
    for each, read_CR in zip(made, _by_dtype([each.choice.merge_CR for each in made]), strict=True):
        each.read_CR = read_CR
    agreed = [each for each in chosen if isinstance(each.choice.agreement, Tensor)]
    for each, share in zip(agreed, _by_dtype([each.choice.agreement for each in agreed]), strict=True):
        each.agreement = float(share)


def _by_dtype(tensors: Sequence[Any]) -> list[Tensor]:
    """`to_host`, one copy per dtype."""
    found: list[Any] = list(tensors)
    for dtype in {each.dtype for each in tensors}:
        places = [place for place, each in enumerate(tensors) if each.dtype == dtype]
        for place, each in zip(places, to_host([tensors[place] for place in places]), strict=True):
            found[place] = each
    return found


class Tree:
    """The nodes of all questions of one call."""

    def __init__(
        self,
        engine: Engine,
        visual: Tensor | Sequence[Tensor | Picture],
        questions: Sequence[Question],
        reduced: Sequence[Sequence[ImageRows | None]] | None,
    ) -> None:
        """Make the roots: every question before its first stage.

        Args:
            engine: its cells and decoder are used.
            visual: [V, D] embeddings or a Picture per image.
            questions: each names its image by number.
            reduced: rows of methods before the language model, per image and cell; None: no such cell.
        """
        self.engine, self.questions = engine, questions
        self.roots: list[Node] = []
        self.images = list(visual)
        self._methods: dict[str, InsideMethod] = {}
        rows = self._sequences(reduced)
        root_of = self._trunks(rows)
        self.leaves = [
            [self._leaf(column, root_of[number, id(each)]) for column, each in enumerate(row)]
            for number, row in enumerate(rows)
        ]
        for q, row in zip(questions, self.leaves, strict=True):
            for leaf in row:
                leaf.visual = self.visual[q.image]

    def grow(self) -> list[list[Leaf]]:
        """Every cell of every question through all of its stages: leaves [questions][cells]."""
        # Lowest layer first: what a later stage reads depends on every earlier one, and cells that chose alike so far
        # are still in one node, so that its layers run once for all of them.
        layers = {stage.layer for row in self.leaves for leaf in row for stage in leaf.stages}
        for layer in sorted(layers):
            waiting = [
                [leaf for row in self.leaves for leaf in (row[column],) if leaf.stages and self._next(leaf) == layer]
                for column in range(len(self.engine.cells))
            ]
            self._extend([leaf.node for leaves in waiting for leaf in leaves], layer)
            # Signals are computed once per set of nodes: cells in the same nodes read the same attention rows and keys.
            views: dict[tuple[int, ...], Views] = {}
            chosen: list[Chosen] = []
            for column, leaves in enumerate(waiting):
                for group in _by_visual(leaves):
                    chosen += self._choose(column, group, views)
            read(chosen)
            for each in chosen:
                each.leaf.passed(self._child(each), each)
        return self.leaves

    def _next(self, leaf: Leaf) -> int:
        """The layer of the next stage; -1 where none is left."""
        return leaf.stages[len(leaf.kept) - leaf.node.entered].layer if self._left(leaf) else -1

    def _left(self, leaf: Leaf) -> bool:
        return len(leaf.kept) - leaf.node.entered < len(leaf.stages)

    def _extend(self, nodes: Sequence[Node], layer: int) -> None:
        """Run nodes up to the output of `layer`: trunks as a whole, the others stacked by shape."""
        behind = list({id(node): node for node in nodes if node.layer < layer}.values())
        # Nodes that have dropped nothing are rows of the trunk, which runs for all questions at once.
        for trunk in {id(node.trunk): node.trunk for node in behind if node.is_root}.values():
            trunk.extend(layer)
            for root in self.roots:
                if root.trunk is trunk:
                    root.layer = root.trunk_layer = layer
        behind = [node for node in behind if node.layer < layer]
        # The others have equally many rows within a stack: batching adds no padding, so each row computes what it would
        # alone, up to the order in which a matrix product adds.
        for places in self.engine.stacks(range(len(behind)), behind):
            with_halving(lambda part: self._segment(part, layer), [behind[place] for place in places])

    def _segment(self, nodes: Sequence[Node], layer: int) -> list[None]:
        Segment(nodes, layer, self.engine.optimizations.shared_system)
        return [None] * len(nodes)

    def _choose(self, column: int, leaves: Sequence[Leaf], known: dict[tuple[int, ...], Views]) -> list[Chosen]:
        """One cell's choices at its stage; nothing of them is read yet."""
        key = tuple(id(leaf.node) for leaf in leaves)
        if key not in known:
            known[key] = Views([self._view(leaf.node) for leaf in leaves])
        first = leaves[0]
        stage = first.stages[len(first.kept) - first.node.entered]
        assert first.method is not None
        choices = first.method.choices(known[key], stage, first.cell)
        return [
            Chosen(column, leaf, stage, choice, with_text(leaf.node, choice.kept_R))
            for leaf, choice in zip(leaves, choices, strict=True)
        ]

    def _view(self, node: Node) -> View:
        if node.layer not in node.views:
            node.views[node.layer] = View(node, self.questions[node.question].sample_id)
        return node.views[node.layer]

    def _child(self, chosen: Chosen) -> Node:
        """The node after a choice: the same one where nothing is dropped, an equal one where another cell chose so."""
        leaf, merge_CR = chosen.leaf, chosen.choice.merge_CR
        node = leaf.node
        assert leaf.method is not None
        compacted = leaf.method.positions == "compacted"
        if chosen.made and not compacted:
            raise ConfigError(f"{leaf.cell.strategy}: merged rows have no original position; compact positions")
        # Nothing dropped and nothing renumbered: the state is the parent's, and the cell stays in its node.
        unchanged = not chosen.made and len(chosen.kept_R) == node.visual
        if unchanged and (node.is_root or compacted == node.compacted):
            return node
        # Equal sets of rows under equal positions make equal prompts from here on, whichever method chose them. Merged
        # rows count by their weights, bit by bit: nearly equal ones are different nodes.
        key: tuple[Any, ...] = (node.layer, compacted, chosen.read_R.numpy().tobytes())
        if chosen.made:
            key += (chosen.read_CR.numpy().tobytes(),)
        if not self.engine.optimizations.merge_equal:
            key += (chosen.column,)
        if key not in node.children:
            node.children[key] = _new_child(node, chosen, merge_CR if chosen.made else None, compacted)
        return node.children[key]

    def _leaf(self, column: int, root: Node) -> Leaf:
        cell = self.engine.cells[column]
        if root.entered:  # rows were chosen before layer 1; what the cell itself does starts from them
            leaf = Leaf(root, cell, None, [])
            leaf.kept.append(StageKept(0, root.read_n))
            return leaf
        stages = list(self.engine.stages(column, root.visual_tokens))
        if any(not stage.layer for stage in stages):
            raise ConfigError(f"strategy: {cell.strategy} chooses before the language model; its rows were not given")
        if cell.strategy not in self._methods:
            self._methods[cell.strategy] = inside_method(cell.strategy)
        if stages:
            self._check_positions(cell, root.trunk.images)
        return Leaf(root, cell, self._methods[cell.strategy], stages)

    def _check_positions(self, cell: Cell, images: Images) -> None:
        """ConfigError for a method that needs positions on a line where they are none. run/defined.py asks earlier."""
        method, axes = self._methods[cell.strategy], self.engine.decoder.axes
        if method.positions == "compacted" and (axes > 1 or images.index_IV is not None or images.deep):
            raise ConfigError(
                f"strategy: {cell.strategy} counts positions anew, which is not defined for models whose visual "
                "tokens have rows and columns, deepstack features or text between them"
            )
        if axes > 1 and not DISTANCES.isdisjoint(method.needs):
            raise ConfigError(
                f"strategy: {cell.strategy} weighs distances along the text, which is not defined for models whose "
                "visual tokens have rows and columns"
            )

    def _sequences(self, reduced: Sequence[Sequence[ImageRows | None]] | None) -> list[list[ImageRows]]:
        """What each cell's language model gets for each question: [questions][cells], one object for all who share."""
        whole = [ImageRows.whole(image) for image in self.images]
        self._whole_images = {id(each) for each in whole}
        self.visual = [each.visual for each in whole]
        nothing: list[ImageRows | None] = [None] * len(self.engine.cells)
        sequences = []
        for q in self.questions:
            of_image = nothing if reduced is None else reduced[q.image]
            row = zip(q.rows or nothing, of_image, strict=True)
            sequences.append([own or given or whole[q.image] for own, given in row])
        return sequences

    def _trunks(self, rows: Sequence[Sequence[ImageRows]]) -> dict[tuple[int, int], Node]:
        """Roots by question and rows: one trunk for all sequences of one length, each run once for all questions."""
        groups: dict[tuple[Any, ...], dict[int, tuple[ImageRows, list[int]]]] = {}
        for number, row in enumerate(rows):
            for each in {id(each): each for each in row}.values():
                group = groups.setdefault((id(each) in self._whole_images, *each.shape), {})
                group.setdefault(id(each), (each, []))[1].append(number)
        root_of: dict[tuple[int, int], Node] = {}
        for (whole, *_), group in groups.items():
            root_of |= self._trunk(list(group.values()), entered=not whole)
        return root_of

    def _trunk(self, group: Sequence[tuple[ImageRows, list[int]]], entered: bool) -> dict[tuple[int, int], Node]:
        """The trunk of some image sequences, each with the questions that are asked about it."""
        images = images_of(self.engine.decoder, self.engine.system, [each for each, _ in group])
        pairs = sorted((number, place) for place, (_, numbers) in enumerate(group) for number in numbers)
        trunk = Questions(
            images, [self.questions[number].embeds_QD for number, _ in pairs], [place for _, place in pairs]
        )
        found = {}
        read = to_host([each.places_T for each, _ in group])
        for row, (number, place) in enumerate(pairs):
            each = group[place][0]
            root = Node(
                trunk,
                row,
                number,
                0,
                trunk,
                row,
                each.places_T,
                read[place],
                0,
                entered=int(entered),
                made_rows=entered,
            )
            self.roots.append(root)
            found[number, id(each)] = root
        return found


def images_of(decoder: Decoder, system: System, sequences: Sequence[ImageRows]) -> Images:
    """Images whose rows are equal in number, before layer 1."""
    rows_ITD = torch.stack([each.rows_TD for each in sequences])
    positions, after = _positions(sequences, system.length)
    prunable = [each.prunable_R for each in sequences if each.prunable_R is not None]
    deep = [torch.stack(layers) for layers in zip(*(each.deep for each in sequences), strict=True)]
    return Images(decoder, system, rows_ITD, positions, after, torch.stack(prunable) if prunable else None, deep)


def _positions(sequences: Sequence[ImageRows], start: int) -> tuple[Tensor | None, Tensor | None]:
    """Position ids of the sequences and of the text behind them, where any has its own."""
    if all(each.positions_T is None for each in sequences):
        return None, None
    device, count = sequences[0].rows_TD.device, len(sequences[0].rows_TD)
    counted = start + torch.arange(count, device=device)
    positions = [counted if each.positions_T is None else each.positions_T for each in sequences]
    after = [start + count if each.after is None else each.after for each in sequences]
    return torch.stack(positions), torch.tensor(after, device=device)


def with_text(node: Node, kept_R: Tensor) -> Tensor:
    """Rows that stay: those chosen among the visual tokens, and the text between them, which is never dropped."""
    if (prunable_r := node.prunable_r) is None:
        return kept_R
    stays_n = torch.ones(node.visual, dtype=torch.bool, device=kept_R.device)
    stays_n[prunable_r] = False
    stays_n[prunable_r[kept_R]] = True
    return stays_n.nonzero()[:, 0]


def _new_child(node: Node, chosen: Chosen, merge_CR: Tensor | None, compacted: bool) -> Node:
    """A node that reads its rows from where its parent is now."""
    plain = node.is_root and not node.entered
    places = chosen.kept_R if plain else node.places_n[chosen.kept_R]
    read = chosen.read_R if plain else node.read_n[chosen.read_R]
    if merge_CR is not None:
        places, read = (torch.cat([each, each.new_full((len(merge_CR),), -1)]) for each in (places, read))
    return Node(
        trunk=node.trunk,
        row=node.row,
        question=node.question,
        layer=node.layer,
        source=node.source,
        source_row=node.source_row,
        places_n=places,
        read_n=read,
        trunk_layer=node.trunk_layer,
        kept_R=chosen.kept_R,
        merge_CR=merge_CR,
        compacted=compacted,
        made_rows=node.made_rows or merge_CR is not None,
        area_V=_areas(node, chosen.read_R, chosen.read_CR if chosen.made else None),
        chain=node.chain,
        entered=node.entered,
    )


def _areas(node: Node, kept_R: Tensor, merge_CR: Tensor | None) -> Tensor | None:
    """`Node.area_V` after a choice: what was merged before goes where its row goes. All on the host."""
    if node.area_V is None and merge_CR is None:
        return None
    places_n, visual = node.read_n, node.trunk.images.visual
    merged_m = (places_n < 0).nonzero()[:, 0]
    number_n = torch.zeros_like(places_n)  # of the merged row that each of the node's rows is now, or is now part of
    stay = kept_R[places_n[kept_R] < 0]
    number_n[stay] = torch.arange(1, len(stay) + 1, device=places_n.device)
    if merge_CR is not None:
        most_n = merge_CR.abs().max(0)
        number_n = torch.where(most_n.values > 0, most_n.indices + 1 + len(stay), number_n)
    area_V = places_n.new_zeros(visual)
    area_V[places_n[places_n >= 0]] = number_n[places_n >= 0]
    if node.area_V is None or not len(merged_m):
        return area_V
    return torch.where(node.area_V > 0, number_n[merged_m][node.area_V - 1], area_V)


def _by_visual(leaves: Sequence[Leaf]) -> list[list[Leaf]]:
    """Leaves of one cell by how many visual rows they have (images may differ in it)."""
    groups: dict[int, list[Leaf]] = {}
    for leaf in leaves:
        groups.setdefault(leaf.node.visual, []).append(leaf)
    return list(groups.values())
