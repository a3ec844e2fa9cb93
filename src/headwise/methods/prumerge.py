"""LLaVA-PruMerge and PruMerge+: outliers of [CLS] attention, each with its nearest neighbours merged into it."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headwise.methods._ranking import outliers, rank, unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision, true_or_false

if TYPE_CHECKING:
    from torch import Tensor

NEIGHBOURS = 32


@dataclass(frozen=True, kw_only=True)
class PruMergeOptions(Options):
    """`adaptive`: the image decides how many rows there are, as published; else T does."""

    adaptive: bool = False

    def __post_init__(self) -> None:
        """ConfigError where `adaptive` is not a boolean."""
        true_or_false("adaptive", self.adaptive)


class Merging(BeforeMethod):
    """Kept patches in the order chosen, each plus its neighbours by attention, then one row of all that was not kept.

    The weights are not normalised, as the code has it. Attention and keys are those of the tower's last layer, its
    full width taken as one head.
    """

    needs = ("hidden_NC", "q_NC", "k_NC")
    source = "ICCV 2025; 42Shawn/LLaVA-PruMerge 097c041"
    options_type = PruMergeOptions

    def feasible(self, tokens: int, visual: int, options: PruMergeOptions) -> bool:
        """Whether T holds a kept patch and the row of the others."""
        return tokens >= 2

    def rows(self, tokens: int, visual: int, options: PruMergeOptions) -> int | None:
        """T; None with `adaptive`, where each image decides."""
        return None if options.adaptive else tokens

    @abstractmethod
    def kept(self, attention_V: Tensor, tokens: int | None) -> list[int]:
        """The patches that stay, in order; `tokens` of them, or as many as the image asks for."""

    def choose(self, vision: Vision, tokens: int, options: PruMergeOptions) -> Reduced:
        """Kept patches with their neighbours, then the row of the others, as weights [T, N] of the tower's output."""
        width = vision.q_NC.shape[1]
        attention_V = (vision.k_NC @ vision.q_NC[0] / width**0.5).softmax(0)[1:]
        order = self.kept(attention_V, None if options.adaptive else tokens - 1)
        kept_R = rank(attention_V).new_tensor(order)
        weights_TV = attention_V.new_zeros(len(order) + 1, len(attention_V))
        weights_TV[:-1] = _neighbours(unit(vision.k_NC[1:]), kept_R) * attention_V
        weights_TV[range(len(order)), kept_R] = 1
        weights_TV[-1] = attention_V.index_fill(0, kept_R, 0)
        rows_TC = weights_TV @ vision.hidden_NC[1:]
        weights_TN = weights_TV.new_zeros(len(weights_TV), 1 + len(attention_V))
        weights_TN[:, 1:] = weights_TV
        return Reduced(kept_R.new_tensor([*order, -1]), weights_TN, rows_TC)


class PruMerge(Merging):
    """The outliers of [CLS] attention by rank; with a fixed T, the best T − 1."""

    name = "prumerge"
    title = "PruMerge"

    def kept(self, attention_V: Tensor, tokens: int | None) -> list[int]:
        """Patches in descending order of attention: `tokens` of them, or the outliers where it is None."""
        count = outliers(attention_V) if tokens is None else tokens
        return rank(attention_V)[:count].tolist()


class PruMergePlus(Merging):
    """The outliers, then evenly spaced patches. With a fixed T it is EffiVLM-Bench's form.

    That one fills up to T − 1 with 0, s, 2s, … and cuts: what is left out is the end of the image, as in the code.
    """

    name = "prumerge_plus"
    title = "PruMerge+"
    source = f"{Merging.source}; fixed T: EffiVLM-Bench ab3ee18"

    def kept(self, attention_V: Tensor, tokens: int | None) -> list[int]:
        """Outliers in descending order of attention, then evenly spaced patches in image order."""
        visual, count = len(attention_V), outliers(attention_V)
        if tokens is None:
            step = max(1, int(int(1 / (count / visual)) / 3)) if count else visual - 1
            samples, most = range(0, visual - 1, max(1, step)), visual
        else:
            samples, most = range(0, visual, max(1, visual // tokens)), tokens
        order = rank(attention_V)[: min(count, most)].tolist()
        taken = set(order)
        return (order + [place for place in samples if place not in taken])[:most]


def _neighbours(unit_VC: Tensor, kept_R: Tensor) -> Tensor:
    """Ones [R, V] at the 32 patches whose keys are most similar to each kept one, itself left out."""
    cosine_RV = unit_VC[kept_R] @ unit_VC.T
    cosine_RV[range(len(kept_R)), kept_R] = -float("inf")
    count = min(NEIGHBOURS, len(unit_VC) - 1)
    return cosine_RV.new_zeros(cosine_RV.shape).scatter(1, rank(cosine_RV)[:, :count], 1)
