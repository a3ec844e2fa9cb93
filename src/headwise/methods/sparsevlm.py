"""SparseVLM v1.5: text raters score visual tokens; some of those dropped are recycled into merged rows.

Source: Gumpest/SparseVLMs 26a5f48 (`USE_VERSION=1_0`, the decisions of tag v1.5). The noise of 1e-6 on densities
is left out: it vanishes in float16, in which the original runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, Literal

from headwise.errors import ConfigError
from headwise.methods.stages import Choice, InsideMethod, Stage, View, check_published, mean_seen, solved, spread, top

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry

VISUAL = 576
# Differences of coordinates that are held at once.
PAIRS = 1 << 24


class SparseVLM(InsideMethod):
    """Stages after layers 3, 7, 16 (0-based 2, 6, 15 in the code), positions counted anew, recycled tokens merged."""

    name = "sparsevlm"
    title = "SparseVLM"
    source = "Zhang et al. 2025, github.com/Gumpest/SparseVLMs 26a5f48 (v1.5)"
    needs: ClassVar[tuple[str, ...]] = ("embeds_VD", "embeds_QD", "text_HQV", "hidden_VD")
    positions: ClassVar[Literal["compacted", "original"]] = "compacted"
    layers: ClassVar[tuple[int, ...]] = (3, 7, 16)
    kept: ClassVar[dict[int, tuple[int, ...]]] = {
        192: (300, 200, 110),
        128: (303, 110, 36),
        96: (238, 48, 26),
        64: (66, 30, 17),
    }
    published = tuple(kept)

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """Published counts, or the published list whose mean is nearest to T, scaled until the mean is T."""
        if cell.budget == "published":
            check_published(self, cell)
            if geometry.visual != VISUAL or geometry.layers <= self.layers[-1]:
                raise ConfigError(f"budget: {self.name} publishes counts for {VISUAL} visual tokens and 32 layers")
            return self._counted(self.layers, self.kept[cell.tokens], geometry.visual)
        layers = spread(self.layers, geometry.layers)
        nearest = min(self.kept.values(), key=lambda counts: self._distance(cell, counts))

        def build(scale: float) -> tuple[Stage, ...]:
            ratio = scale * geometry.visual / VISUAL
            return self._counted(layers, [max(1, math.floor(ratio * n + 0.5)) for n in nearest], geometry.visual)

        return solved(cell, geometry, build, 0.0, float(VISUAL))

    def merged(self, gone: int) -> int:
        """Clusters that the recycled ones of `gone` tokens become."""
        return self.recycled(gone) // 10 + 1

    def recycled(self, gone: int) -> int:
        """How many of `gone` dropped tokens are merged: 30 % of them and one."""
        return int(0.3 * gone) + 1

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The tokens that the rating text tokens attend to most; the best of the others are clustered and merged."""
        import torch

        raters = view.once_per_question("raters", lambda: text_raters(view.embeds_VD, view.embeds_QD))
        dtype = getattr(torch, cell.score_dtype)
        score_V = view.once(("sparsevlm", cell.score_dtype), lambda: view.text_HQV[:, raters].to(dtype).mean(0).mean(0))
        kept = top(score_V, stage.keep)
        if not stage.merged:
            return Choice(kept)
        gone = torch.ones(view.visual, dtype=torch.bool, device=kept.device).index_fill(0, kept, False).nonzero()[:, 0]
        order = score_V[gone].sort(descending=True, stable=True).indices[: self.recycled(len(gone))]
        recycled = gone[order]  # in descending order of score, which decides ties among centres
        weights = merge_weights(view.hidden_VD[recycled], stage.merged)
        merge = weights.new_zeros(len(weights), view.visual).index_copy(1, recycled, weights)
        return Choice(kept, merge_CR=merge)

    def _counted(self, layers: Sequence[int], kept: Sequence[int], visual: int) -> tuple[Stage, ...]:
        """Stages with what is merged at each; one token at least is always dropped."""
        stages, rows = [], visual
        for layer, count in zip(layers, kept[: len(layers)], strict=True):
            keep = min(count, rows - 1)
            stages.append(Stage(layer, keep, self.merged(rows - keep)))
            rows = stages[-1].rows
        return tuple(stages)

    def _distance(self, cell: Cell, counts: tuple[int, ...]) -> float:
        from headwise.study.cells import Geometry

        published = Geometry(layers=32, heads=32, visual=VISUAL)
        stages = self._counted(self.layers, counts, VISUAL)
        reached = mean_seen(stages, published) if cell.budget == "average" else stages[-1].rows
        return abs(reached - cell.tokens)


class AncestorSparseVLM(SparseVLM):
    """The port in EasonAI-5589/LLaVA-FinePruner-Head 954fc48: each stage one layer earlier, other counts."""

    name = "sparsevlm@ancestor"
    title = "SparseVLM (ancestor's port)"
    source = "github.com/EasonAI-5589/LLaVA-FinePruner-Head 954fc48"
    layers = (2, 6, 15)
    kept = {192: (300, 200, 110), 128: (300, 110, 35), 64: (65, 30, 15)}
    published = tuple(kept)

    def merged(self, gone: int) -> int:
        """Rows made of `gone` dropped tokens: a tenth of those recycled, at least one."""
        return max(int(0.1 * self.recycled(gone)), 1)

    def recycled(self, gone: int) -> int:
        """How many of `gone` dropped tokens are merged: 30 % of them, at least one."""
        return max(int(0.3 * gone), 1)


def text_raters(embeds_VD: Tensor, embeds_QD: Tensor) -> Tensor:
    """Indices of the text tokens that rate: above the mean in what visual tokens attend to, by input embeddings."""
    import torch

    share_VQ = torch.softmax(embeds_VD @ embeds_QD.T, dim=1, dtype=torch.float32)
    rating_Q = share_VQ.mean(0)
    raters = (rating_Q > rating_Q.mean()).nonzero()[:, 0]
    if len(raters):
        return raters
    # All ratings equal (one text token, say): none is above the mean, and all of them rate.
    return torch.arange(len(rating_Q), device=rating_Q.device)


def merge_weights(hidden_mD: Tensor, clusters: int) -> Tensor:
    """Density-peak clusters of recycled tokens (DPC-KNN): weights [clusters, m] of the rows they become.

    Distances are plain differences, which keeps exact ties exact; each token goes to the nearest centre, the first
    where two are equally near; a row is the sum of its members over (their number + 1e-6).
    """
    import torch

    count = len(hidden_mD)
    x_mD = hidden_mD.float()
    step = max(1, PAIRS // x_mD.numel())
    squares = [(x_mD[None] - some[:, None]).square().sum(-1) for some in x_mD.split(step)]
    distance_mm = torch.cat(squares).sqrt() / x_mD.shape[1] ** 0.5
    nearest = distance_mm.topk(min(clusters, count), dim=-1, largest=False).values
    density_m = torch.exp(-nearest.square().mean(-1))
    denser_mm = density_m[None] > density_m[:, None]
    delta_m = torch.where(denser_mm, distance_mm, distance_mm.max()).amin(-1)
    centres = (delta_m * density_m).sort(descending=True, stable=True).indices[:clusters]
    member_m = distance_mm[centres].argmin(0)
    member_m[centres] = torch.arange(len(centres), device=centres.device)
    belongs_Cm = (member_m[None] == torch.arange(len(centres), device=centres.device)[:, None]).float()
    return belongs_Cm / (belongs_Cm.sum(-1, keepdim=True) + 1e-6)
