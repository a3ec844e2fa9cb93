"""MMTok: patches that cover the question's words and the image."""

from __future__ import annotations

import re
from dataclasses import dataclass

from headwise.methods._clip import INSTRUCTION
from headwise.methods._coverage import greedy_coverage
from headwise.methods._ranking import unit
from headwise.methods.contract import BeforeMethod, Options, Reduced, Vision, between

STOP_WORDS = """
a an the be am is are was were been being have has had having do does did doing done
i you he she it we they me him her us them my your his its our their mine yours hers ours theirs
this that these those what which who whom whose when where why how
and or but so if then question answer to for with by from at into onto upon
"""
IGNORED = frozenset(STOP_WORDS.split())


@dataclass(frozen=True, kw_only=True)
class MMTokOptions(Options):
    """`temperature` of the softmax between words and patches: 0.02 for LLaVA, 0.01 for Qwen in the original."""

    temperature: float = 0.02

    def __post_init__(self) -> None:
        """ConfigError where `temperature` is not in 0.0001..100."""
        between("temperature", self.temperature, 1e-4, 100)


class MMTok(BeforeMethod):
    """Greedy coverage of the question's words (projected patches) and of the image (unprojected), in image order."""

    name = "mmtok"
    title = "MMTok"
    source = "ICLR 2026; Ironieser/MMTok d1522cd"
    needs = ("projected_VD", "hidden_NC", "words_mD")
    tiled = "each"
    question_dependent = True
    text_encoder = "embeddings"
    options_type = MMTokOptions

    def text(self, prompt: str) -> str:
        """The words of the question that are not stop words; the question where none is left."""
        question = prompt.replace(INSTRUCTION, "")
        words = [word for word in re.findall(r"\b\w+\b", question) if word.lower() not in IGNORED]
        return " ".join(words) or question

    def choose(self, vision: Vision, tokens: int, options: MMTokOptions) -> Reduced:
        """T patches by greedy maximum coverage of words and patches together, in image order."""
        import torch

        words_mV = unit(vision.words_mD) @ unit(vision.projected_VD).T
        unit_VC = unit(vision.hidden_NC[1:])
        words_mV = (words_mV / options.temperature).softmax(1) / len(words_mV)
        image_VV = (unit_VC @ unit_VC.T / 0.2).softmax(1) / len(unit_VC)
        value_RV = torch.cat([words_mV, 0.5 * image_VV])
        chosen = greedy_coverage(value_RV.T.contiguous(), torch.ones_like(value_RV[0]), tokens)
        return Reduced(value_RV.new_tensor(sorted(chosen)).long())
