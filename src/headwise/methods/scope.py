"""SCOPE: patches that cover the others, weighted by [CLS] attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.methods._coverage import greedy_coverage
from headwise.methods._ranking import unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision, between

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ScopeOptions(Options):
    """`alpha`: exponent of the attention; 0 is coverage alone."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        """ConfigError where `alpha` is not in 0..100."""
        between("alpha", self.alpha, 0, 100)


class Scope(BeforeMethod):
    """Greedy: the gain in coverage, by cosine of the unprojected features, times (Σ_h attention)^alpha; image order."""

    name = "scope"
    title = "SCOPE"
    source = "NeurIPS 2025; kinredon/SCOPE 6bf7306"
    needs = ("attention_HV", "hidden_NC")
    tiled = "each"
    options_type = ScopeOptions

    def choose(self, vision: Vision, tokens: int, options: ScopeOptions) -> Reduced:
        """The first T patches of the greedy ranking, in image order."""
        chosen = ranked(vision, tokens, options)
        return Reduced(vision.hidden_NC.new_tensor(sorted(chosen)).long())


def ranked(vision: Vision, tokens: int, options: ScopeOptions) -> list[int]:
    """The patches in the order chosen."""
    unit_VC: Tensor = unit(vision.hidden_NC[1:])
    return greedy_coverage(unit_VC @ unit_VC.T, vision.attention_HV.sum(0) ** options.alpha, tokens)
