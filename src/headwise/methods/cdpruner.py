"""CDPruner: a determinantal point process over the patches, conditioned on the question."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from headwise.methods._clip import CLIP_SIGNALS, INSTRUCTION, ClipOptions, patch_embeddings
from headwise.methods._ranking import unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision

if TYPE_CHECKING:
    from torch import Tensor


class Conditional(BeforeMethod):
    """Greedy MAP of the DPP with the kernel diag(relevance) S diag(relevance), S the cosine of projected patches."""

    question_dependent = True

    def text(self, prompt: str) -> str:
        """The question without LLaVA's instruction."""
        return prompt.replace(INSTRUCTION, "")

    @abstractmethod
    def similarity(self, vision: Vision) -> Tensor:
        """Similarity [V] of the patches to the question, not scaled."""

    @abstractmethod
    def scaled(self, similarity_V: Tensor) -> Tensor:
        """Relevance [V]: similarity scaled to about 0..1 by its own range."""

    def choose(self, vision: Vision, tokens: int, options: Options) -> Reduced:
        """The first T picks of greedy MAP inference, in image order; degenerate where the kernel's rank is below T."""
        return self.diverse(vision, self.scaled(self.similarity(vision)), tokens)

    def diverse(self, vision: Vision, relevance_V: Tensor, tokens: int) -> Reduced:
        """The first T picks of greedy MAP inference under these relevances, in image order."""
        unit_VD = unit(vision.projected_VD)
        kernel_VV = relevance_V[:, None] * (unit_VD @ unit_VD.T) * relevance_V
        chosen, degenerate = greedy_map(kernel_VV, tokens)
        return Reduced(unit_VD.new_tensor(sorted(chosen)).long(), degenerate=degenerate)


class CDPruner(Conditional):
    """Relevance is MINUS the cosine to CLIP's text embedding, the mean over its segments, as the code has it.

    The authors call the sign a property of CLIP's patch features; it is not in the paper's formula.
    """

    name = "cdpruner"
    title = "CDPruner"
    source = "NeurIPS 2025; Theia-4869/CDPruner 9541616"
    needs = ("projected_VD", "hidden_NC", *CLIP_SIGNALS)
    text_encoder = "clip_segments"
    options_type = ClipOptions
    tiled = "each"

    def similarity(self, vision: Vision) -> Tensor:
        """Minus the mean cosine of each patch to the text's segments, [V]."""
        return -(unit(patch_embeddings(vision)) @ unit(vision.text_ME).T).mean(1)

    def scaled(self, similarity_V: Tensor) -> Tensor:
        """Scaled to 0..1 with 1e-6 against division by zero."""
        return _scaled(similarity_V, 1e-6)

    def reduce_tiles(self, tiles: Sequence[Vision], tokens: int, options: Any) -> list[Reduced]:
        """A kernel per tile, and one range of relevance over all of them."""
        import torch

        read = [tile.checked(self.name, self.needs)[0] for tile in tiles]
        similarity = [self.similarity(tile) for tile in read]
        relevance = self.scaled(torch.cat(similarity)).split([len(each) for each in similarity])
        finite = all(bool(getattr(tile, name).isfinite().all()) for tile in read for name in self.needs)
        found = [self.diverse(tile, of_tile, tokens) for tile, of_tile in zip(read, relevance, strict=True)]
        return [replace(each, degenerate=each.degenerate or not finite) for each in found]


class CDPrunerLLM(Conditional):
    """Relevance is the cosine to the language model's input embeddings of the question, the mean over its tokens.

    A different method from `cdpruner`: it needs no CLIP text tower. Here `words_mD` holds all tokens of the question.
    """

    name = "cdpruner_llm"
    title = "CDPruner on LLM embeddings"
    source = "openvinotoolkit/openvino.genai 335d37e, its port of CDPruner for models without CLIP"
    needs = ("projected_VD", "words_mD")
    text_encoder = "embeddings"

    def similarity(self, vision: Vision) -> Tensor:
        """Mean cosine of each patch to the question's token embeddings, [V]."""
        return (unit(vision.projected_VD) @ unit(vision.words_mD).T).mean(1)

    def scaled(self, similarity_V: Tensor) -> Tensor:
        """Scaled to 0..1."""
        return _scaled(similarity_V, 0)


def _scaled(relevance_V: Tensor, floor: float) -> Tensor:
    """(x − min + floor) / (max − min); the range is taken as 1 where all are equal."""
    low, high = relevance_V.min(), relevance_V.max()
    spread = (high - low) if high > low else 1
    return (relevance_V - low + floor) / spread


def greedy_map(kernel_VV: Tensor, count: int) -> tuple[list[int], bool]:
    """`count` indices in the order chosen: each raises the determinant of the chosen kernel most.

    `gain` is what each index would multiply it by, kept up to date by one row of the Cholesky factor per step.
    The original goes on to NaN where the kernel's rank is used up; here an index without gain changes nothing.
    The second value is True where a chosen index had no gain left beyond rounding.
    """
    import torch

    gain_V = kernel_VV.diagonal().clone()
    noise_V = 10 * torch.finfo(kernel_VV.dtype).eps * gain_V
    factor_TV = kernel_VV.new_zeros(count, len(kernel_VV))
    chosen: list[int] = []
    degenerate = False
    for step in range(count):
        index = int(gain_V.argmax())
        gain = float(gain_V[index])
        degenerate |= gain <= float(noise_V[index])
        if gain > torch.finfo(kernel_VV.dtype).tiny:
            before = factor_TV[:step]
            factor_TV[step] = (kernel_VV[index] - before[:, index] @ before) / gain**0.5
            gain_V -= factor_TV[step].square()
        gain_V[index] = -float("inf")
        chosen.append(index)
    return chosen, degenerate
