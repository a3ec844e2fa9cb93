"""TRIM: the patches that CLIP's text embedding points at, and the mean of the others."""

from __future__ import annotations

from dataclasses import dataclass

from headwise.methods._clip import CLIP_SIGNALS, ClipOptions, patch_embeddings
from headwise.methods._ranking import best, outliers
from headwise.methods.contract import BeforeMethod, Reduced, Vision, true_or_false


@dataclass(frozen=True, kw_only=True)
class TrimOptions(ClipOptions):
    """`adaptive`: the image decides how many patches stay (the outliers of the score), not T."""

    adaptive: bool = False

    def __post_init__(self) -> None:
        """ConfigError where an option has the wrong type."""
        super().__post_init__()
        true_or_false("adaptive", self.adaptive)


class Trim(BeforeMethod):
    """The best T − 1 patches in image order, then one row: the plain mean of all others.

    The score is the softmax over the patches of MINUS the inner product, not normalised, as the code has it (the
    paper says cosine, and no minus). Only the first text segment is read: the text is cut to CLIP's length.
    """

    name = "trim"
    title = "TRIM"
    source = "COLING 2025; FreedomIntelligence/TRIM f5a232d"
    needs = ("hidden_NC", *CLIP_SIGNALS)
    question_dependent = True
    text_encoder = "clip_truncated"
    options_type = TrimOptions

    def text(self, prompt: str) -> str:
        """The prompt as the original's code gives it to CLIP, the image's placeholder a blank."""
        return prompt.replace("<image>", " ")

    def feasible(self, tokens: int, visual: int, options: TrimOptions) -> bool:
        """Whether T holds a kept patch and the row of the others."""
        return tokens >= 2

    def rows(self, tokens: int, visual: int, options: TrimOptions) -> int | None:
        """T; None with `adaptive`, where each image decides."""
        return None if options.adaptive else tokens

    def choose(self, vision: Vision, tokens: int, options: TrimOptions) -> Reduced:
        """The patches most similar to the text, and the mean row of the others."""
        score_V = (-patch_embeddings(vision) @ vision.text_ME[0]).softmax(0)
        kept = best(score_V, outliers(score_V) if options.adaptive else tokens - 1)
        weights_TN = vision.hidden_NC.new_zeros(len(kept) + 1, len(vision.hidden_NC))
        weights_TN[range(len(kept)), kept + 1] = 1
        weights_TN[-1, 1:] = 1 / (len(score_V) - len(kept))
        weights_TN[-1, kept + 1] = 0
        return Reduced.merged(kept.new_tensor([*kept.tolist(), -1]), weights_TN, vision.hidden_NC)
