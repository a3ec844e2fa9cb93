"""Dynamic heads ("intelligent consensus-diversity"): how many heads, and which, is decided per question.

Source: EasonAI-5589/LLaVA-FinePruner-Head 954fc48, `dynamic_head`. Three rankings vote, each with a weight that it
gets from its own spread; the number of heads comes from a gap in the votes and the complexity of the maps. The
scores named here are not those of the head strategies of the same names.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from headwise.methods.stages import Choice, InsideMethod, Stage, View, top
from headwise.study.budget import kept_tokens

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry

EPSILON = 1e-8


class DynamicHeads(InsideMethod):
    """One stage after layer K; the cell's `heads` is ignored."""

    name = "dynamic_heads"
    title = "Dynamic heads"
    source = "github.com/EasonAI-5589/LLaVA-FinePruner-Head 954fc48"
    needs = ("last_HV",)
    published = (192, 128, 64)
    takes_shares = True

    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """As every head strategy's."""
        shape = {"layers": geometry.layers, "visual": geometry.visual, "layer": cell.layer}
        return (Stage(cell.layer, kept_tokens(cell.tokens, budget=cell.budget, **shape)),)

    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The best tokens under the weighted mean of the heads that the image itself selects."""
        heads, score_V = view.once("dynamic_heads", lambda: weighted_heads(view.last_HV))
        return Choice(top(score_V, stage.keep), heads_K=heads.sort().values)


def weighted_heads(attention_HV: Tensor) -> tuple[Tensor, Tensor]:
    """The chosen heads in their order, and the tokens' score: [V]."""
    import torch

    a_HV = attention_HV.float()
    votes = [_Vote(score_H, a_HV) for score_H in _scores(a_HV)]
    vote_H = torch.stack([vote.quality * vote.for_H for vote in votes]).sum(0)
    total_H = torch.stack([vote.quality * vote.score_H for vote in votes]).sum(0)
    threshold = _threshold(votes) * sum(vote.quality for vote in votes)
    count = _count(a_HV, vote_H)
    chosen = _consensus(vote_H, total_H, threshold, count)
    chosen += _diverse(a_HV, chosen, count - len(chosen))
    heads = torch.tensor(chosen, device=a_HV.device)
    weight_K = torch.softmax(torch.stack([_worth(a_HV, votes, head) for head in chosen]), dim=0)
    return heads, (weight_K[:, None] * a_HV[heads]).sum(0)


def _scores(a_HV: Tensor) -> list[Tensor]:
    """Sparsity, hierarchical and range of every head."""
    import torch

    p_HV = torch.softmax(a_HV, dim=-1)
    squares_H, visual = p_HV.square().sum(-1), a_HV.shape[-1]
    log_HV = torch.log(p_HV + EPSILON)
    entropy_H = -(p_HV * log_HV).sum(-1)
    scaled_H = (entropy_H - entropy_H.min()) / (entropy_H.max() - entropy_H.min() + EPSILON)
    divergence_H = ((math.log(1 / visual) - log_HV) / visual).sum(-1)
    return [
        0.7 * squares_H + 0.3 * p_HV.amax(-1),
        0.4 * squares_H + 0.3 * (1 - scaled_H) + 0.3 * divergence_H,
        a_HV.amax(-1) - a_HV.amin(-1),
    ]


class _Vote:
    """One ranking's votes: its quality and the heads that it is for."""

    def __init__(self, score_H: Tensor, a_HV: Tensor) -> None:
        import torch

        heads = len(score_H)
        spread = ((score_H.max() - score_H.min()) / (score_H.mean() + EPSILON)).clamp(0, 1)
        along = torch.nn.functional.cosine_similarity(score_H, a_HV.sum(-1), dim=0).abs()
        self.score_H = score_H
        self.quality = float(0.4 * score_H.std() + 0.3 * (1 - spread) + 0.3 * along)
        half = heads // 2
        count = int(0.6 * half) if self.quality > 0.7 else half if self.quality > 0.4 else min(heads, int(1.3 * half))
        self.best = score_H.sort(descending=True, stable=True).indices[: max(1, count)]
        self.for_H = torch.zeros_like(score_H).index_fill(0, self.best, 1)


def _threshold(votes: list[_Vote]) -> float:
    """Share of all votes that a head needs: more where the rankings agree."""
    sets = [set(vote.best.tolist()) for vote in votes]
    pairs = [(left, right) for place, left in enumerate(sets) for right in sets[place + 1 :]]
    consistency = sum(len(left & right) / len(left | right) for left, right in pairs) / len(pairs)
    if consistency > 0.6:
        return min(0.4, 0.25 * (1 + 0.8 * consistency))
    return max(0.1, 0.375 * consistency) if consistency < 0.2 else 0.225


def _complexity(a_HV: Tensor) -> float:
    """Dissimilar heads, flat maps, uneven rows: [0, 1]-like."""
    import torch

    heads, visual = a_HV.shape
    unit_HV = torch.nn.functional.normalize(a_HV, dim=-1)
    cosine_HH = unit_HV @ unit_HV.T
    similar = (cosine_HH.sum() - cosine_HH.diagonal().sum()) / max(1, heads * (heads - 1))
    p_HV = torch.softmax(a_HV, dim=-1)
    entropy = -(p_HV * torch.log(p_HV + EPSILON)).sum(-1).mean() / math.log(visual)
    uneven = (a_HV.var(-1).mean() / (a_HV.mean() + EPSILON)).clamp(0, 1)
    return float(0.4 * (1 - similar) + 0.3 * entropy + 0.3 * uneven)


def _count(a_HV: Tensor, vote_H: Tensor) -> int:
    """How many heads: up to the first large gap in the votes, more for complex maps."""
    heads = len(vote_H)
    sorted_H = vote_H.sort(descending=True).values
    gap = sorted_H[:-1] - sorted_H[1:]
    large = (gap > gap.mean() + 0.5 * gap.std()).nonzero()[:, 0] if heads > 2 else gap.new_empty(0)
    count = int(large[0]) + 1 if len(large) else max(1, heads // 4)
    complexity = _complexity(a_HV)
    if complexity > 0.7:
        count = int(count * (1.2 + 0.3 * complexity))
    elif complexity < 0.3:
        count = int(count * (0.7 + 0.6 * complexity))
    return min(max(count, 1), heads)


def _consensus(vote_H: Tensor, total_H: Tensor, threshold: float, count: int) -> list[int]:
    order = (vote_H + 0.1 * total_H).sort(descending=True, stable=True).indices.tolist()
    return [head for head in order if float(vote_H[head]) >= threshold][:count]


def _diverse(a_HV: Tensor, chosen: list[int], missing: int) -> list[int]:
    """Further heads, each the least like those there are (no golden map reaches this branch of the original)."""
    import torch

    unit_HV = torch.nn.functional.normalize(a_HV, dim=-1)
    cosine_HH = unit_HV @ unit_HV.T
    consensus = list(chosen)
    found: list[int] = []
    for _ in range(missing):
        rest = [head for head in range(len(a_HV)) if head not in consensus + found]
        to_consensus = {head: float(cosine_HH[head, consensus].mean()) if consensus else 0.0 for head in rest}
        if not found:
            found.append(min(rest, key=lambda head: to_consensus[head]))
            continue
        among = {head: 1 - float(cosine_HH[head, found].mean()) for head in rest}
        found.append(max(rest, key=lambda head: 0.6 * (1 - to_consensus[head]) + 0.4 * among[head]))
    return found


def _worth(a_HV: Tensor, votes: list[_Vote], head: int) -> Tensor:
    """Weight of a head before the softmax: by the quality of those who voted for it, else by its attention."""
    backing = [vote.quality for vote in votes if vote.for_H[head]]
    if backing:
        return a_HV.new_tensor(1 + 0.5 * sum(backing) / len(backing))
    sum_H = a_HV.sum(-1)
    return 0.8 + 0.4 * sum_H[head] / sum_H.max()
