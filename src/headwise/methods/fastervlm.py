"""FasterVLM: the plain [CLS] attention ranking."""

from __future__ import annotations

from headwise.methods._ranking import best
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision


class FasterVLM(BeforeMethod):
    """The T patches with the highest [CLS] attention, the mean over heads, in image order."""

    name = "fastervlm"
    title = "FasterVLM"
    source = "arXiv 2412.01818v1; Theia-4869/FasterVLM f5d5f12"
    needs = ("attention_HV",)
    tiled = "each"

    def choose(self, vision: Vision, tokens: int, options: Options) -> Reduced:
        """The T patches with the highest mean [CLS] attention."""
        return Reduced(best(vision.attention_HV.mean(0), tokens))
