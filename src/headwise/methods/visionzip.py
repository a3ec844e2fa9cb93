"""VisionZip: patches with the highest [CLS] attention, and the others merged into evenly spaced ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.errors import ConfigError
from headwise.methods._ranking import rank, unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VisionZipOptions(Options):
    """`contextual`: how many of the T rows are merged ones; None: floor(10·T/64 + 1/2), the published 30/20/10."""

    contextual: int | None = None

    def __post_init__(self) -> None:
        """ConfigError where `contextual` is not a whole number of at least 0."""
        given = self.contextual
        if given is not None and (isinstance(given, bool) or not isinstance(given, int) or given < 0):
            raise ConfigError(f"contextual: {given!r} is not a whole number of at least 0")

    def count(self, tokens: int) -> int:
        """How many of T rows are contextual ones."""
        return (20 * tokens + 64) // 128 if self.contextual is None else self.contextual


class VisionZip(BeforeMethod):
    """[CLS], the dominant patches in image order, then the contextual rows: T together.

    A contextual row is its target PLUS the mean of the patches assigned to it, as the code has it (the paper says a
    mean over the cluster). At least one patch is dominant.
    """

    name = "visionzip"
    title = "VisionZip"
    source = "CVPR 2025; dvlab-research/VisionZip 3151f6d"
    needs = ("attention_HV", "hidden_NC", "keys_HNd")
    tiled = "each"
    published = (192, 128, 64)
    options_type = VisionZipOptions

    def feasible(self, tokens: int, visual: int, options: VisionZipOptions) -> bool:
        """Whether T leaves room for [CLS] and a dominant patch beside the contextual rows."""
        return tokens - options.count(tokens) >= 2

    def choose(self, vision: Vision, tokens: int, options: VisionZipOptions) -> Reduced:
        """Weights [T, N] of [CLS], dominant and contextual rows, applied to the tower's output."""
        contextual = options.count(tokens)
        score_V = vision.attention_HV.sum(0)
        order_V = rank(score_V)
        split = tokens - contextual - 1
        dominant, rest = order_V[:split].sort().values, order_V[split:].sort().values
        weights_TN = vision.hidden_NC.new_zeros(tokens, 1 + len(score_V))
        weights_TN[0, 0] = 1
        weights_TN[range(1, split + 1), dominant + 1] = 1
        if contextual:
            weights_TN[split + 1 :, rest + 1] = _contextual(vision.keys_HNd.mean(0)[rest + 1], contextual)
        kept_T = order_V.new_full((tokens,), -1)
        kept_T[1 : split + 1] = dominant
        return Reduced.merged(kept_T, weights_TN, vision.hidden_NC)


def _contextual(metric_Rd: Tensor, count: int) -> Tensor:
    """Weights [count, R] of the merged rows over the R patches that are not dominant, by the keys of these.

    Targets are the patches 0, step, 2 step, …: where R is no multiple of `count`, the end of the image has none.
    """
    unit_Rd, rest = unit(metric_Rd), len(metric_Rd)
    step = max(1, rest // count)
    targets = list(range(0, step * count, step))
    others = sorted(set(range(rest)) - set(targets))
    nearest = (unit_Rd[others] @ unit_Rd[targets].T).argmax(-1)
    weights = unit_Rd.new_zeros(count, rest)
    weights[nearest, others] = 1
    weights /= weights.sum(1, keepdim=True).clamp(min=1)
    weights[range(count), targets] = 1
    return weights
