"""What a pruning method is: this is what one implements to add one.

Axes: H attention heads of the vision tower, V patches (row-major), N = 1 + V rows with [CLS] first, C tower width,
d head width, D projected width, E width of CLIP's joint space, M text segments, m words, T rows for the language model.

A method is a class with a name, properties, options and one formula. It derives from BeforeMethod where it prunes
between the vision tower and the language model (`choose`). Everything else lives elsewhere: the engine reads `needs`
to know which signals to compute, the registry finds the class, and this file checks what goes in.
This file and every file of a method import torch inside functions only: names are known without it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from headwise.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

# The signals of a Vision and their axes; one letter has one size.
AXES = {
    "attention_HV": "HV",
    "keys_HNd": "HNd",
    "hidden_NC": "NC",
    "projected_VD": "VD",
    "text_ME": "ME",
    "words_mD": "mD",
    "post_ln_weight": "C",
    "post_ln_bias": "C",
    "visual_projection_EC": "EC",
    "q_NC": "NC",
    "k_NC": "NC",
    "object_layer_V": "V",
    "deep_layer_V": "V",
}

# Signals by which a method inside the language model weighs how far a token is from the text: positions on a line.
DISTANCES = frozenset({"positions_V", "rope_frequencies"})

_ABSENT: Any = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Vision:
    """The signals of one image, and of one question; each is optional, a method names those that it needs.

    The tower's layer is the one whose output the projector reads (hidden_states[-2] in LLaVA-1.5: layer index 22).

    Attributes:
        attention_HV: [CLS] row of that layer's attention after the softmax over all N keys, cut to the patches.
        keys_HNd: keys of that layer per head, bias included.
        hidden_NC: output of that layer; the patches' features are `hidden_NC[1:]`.
        projected_VD: the patches after the projector.
        text_ME: projected, not normalised CLIP text embeddings of the question's segments.
        words_mD: input embeddings of the language model for the question's words.
        post_ln_weight, post_ln_bias: CLIP's post_layernorm.
        visual_projection_EC: CLIP's visual projection.
        q_NC, k_NC: outputs of q_proj (unscaled) and k_proj of the tower's LAST layer.
        object_layer_V, deep_layer_V: attention that each patch receives, the mean over heads and all N queries, in
            HiPrune's object layer and in the layer above.
    """

    attention_HV: Tensor = _ABSENT
    keys_HNd: Tensor = _ABSENT
    hidden_NC: Tensor = _ABSENT
    projected_VD: Tensor = _ABSENT
    text_ME: Tensor = _ABSENT
    words_mD: Tensor = _ABSENT
    post_ln_weight: Tensor = _ABSENT
    post_ln_bias: Tensor = _ABSENT
    visual_projection_EC: Tensor = _ABSENT
    q_NC: Tensor = _ABSENT
    k_NC: Tensor = _ABSENT
    object_layer_V: Tensor = _ABSENT
    deep_layer_V: Tensor = _ABSENT

    def checked(self, method: str, needs: tuple[str, ...]) -> tuple[Vision, int]:
        """A Vision of the needed signals alone, and V. All are in float64 where one is, else in float32.

        Raises ConfigError where a signal is missing or its shape does not fit the others'.
        """
        import torch

        signals: dict[str, Tensor] = {}
        for name in needs:
            if getattr(self, name) is None:
                raise ConfigError(f"{method}: needs the signal {name}, which is missing; it reads {', '.join(needs)}")
            signals[name] = torch.as_tensor(getattr(self, name))
        double = any(signal.dtype == torch.float64 for signal in signals.values())
        dtype = torch.float64 if double else torch.float32
        visual = _sizes(method, signals)["V"]
        return Vision(**{name: signal.to(dtype) for name, signal in signals.items()}), visual


@dataclass(frozen=True, eq=False)
class Reduced:
    """The visual rows that enter the language model.

    Attributes:
        kept: [T] int64, the patch of each row in the order in which the language model gets them; −1 for [CLS], for
            a merged row and for a zero row. A patch that absorbs others keeps its place (PruMerge).
        weights_TN: where the method makes rows: what each takes of the tower's rows, so that
            tokens_TC = weights_TN @ hidden_NC. It says which area of the image a merged row comes from.
        tokens_TC: those rows, before the projector; None where every row is a patch or zero.
        degenerate: the choice is partly arbitrary: a signal held NaN or infinity, or the method ran out of rank.
    """

    kept: Tensor
    weights_TN: Tensor | None = None
    tokens_TC: Tensor | None = None
    degenerate: bool = False

    @classmethod
    def merged(cls, kept: Tensor, weights_TN: Tensor, hidden_NC: Tensor) -> Reduced:
        """Rows that are weighted sums of the tower's rows."""
        return cls(kept, weights_TN, weights_TN @ hidden_NC)

    def embeddings(self, projected_VD: Tensor, project: Callable[[Tensor], Tensor]) -> Tensor:
        """What the language model gets, [T, D]: patches as projected, made rows through the projector.

        A −1 without made rows is HoloV's zero row: it is zero behind the projector, not before it.
        """
        if self.tokens_TC is not None:
            return project(self.tokens_TC)
        kept = self.kept.to(projected_VD.device)
        return projected_VD[kept.clamp(min=0)].masked_fill((kept < 0)[:, None], 0)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of a method that has none. Others derive from it: typed fields with defaults, checked on creation."""


class Method:
    """A pruning method or control: its name, its properties, its options.

    Attributes:
        name: how configurations name it. A changed formula gets a new name, or at least a new `version`.
        title, source: what tables and docs call it; paper, repository and commit that the formula is from.
        role: a control is there to be compared with, not to be recommended.
        needs: the signals that it reads, by the names of Vision's fields for methods before the language model.
        question_dependent: False where all questions about an image share its rows, and so their prefix.
        positions: `compacted`, the rows stand at 0..n−1 anew; `original`, kept tokens keep their position ids.
        options_type: the class of its options; its fields are what `**options` may name.
    """

    name: ClassVar[str] = ""
    version: ClassVar[int] = 1
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    role: ClassVar[Literal["method", "control"]] = "method"
    needs: ClassVar[tuple[str, ...]] = ()
    question_dependent: ClassVar[bool] = False
    positions: ClassVar[Literal["compacted", "original"]] = "original"
    options_type: ClassVar[type[Options]] = Options

    def options(self, **given: Any) -> Options:
        """The method's options with the given values. ConfigError for an unknown one or a value out of range."""
        allowed = [field.name for field in fields(self.options_type)]
        for option in given:
            if option not in allowed:
                known = f"allowed are {', '.join(allowed)}" if allowed else "it has none"
                raise ConfigError(f"{self.name}: unknown option {option!r}; {known}")
        try:
            return self.options_type(**given)
        except ConfigError as error:
            raise ConfigError(f"{self.name}: {error}") from error


class BeforeMethod(Method, ABC):
    """A method that prunes between vision tower and language model; its one stage is at layer 0.

    Attributes:
        published: the values of T that budget=published knows, where the method's own T is ours.
        text_encoder: how the question becomes a signal. `clip_segments` and `clip_truncated` give text_ME by CLIP's
            text tower (models/clip_text.py), `embeddings` gives words_mD by the language model's input embeddings.
        tiled: what the original does with an image in several tiles (LLaVA-NeXT). `each`: T / tiles of each, base
            tile first, then the tiles' mosaic row by row, without unpadding and newlines; `joined`: one choice over
            all tiles' patches one after the other, without newlines; `packed`: one choice over what the language
            model would get, newlines included; empty: it is not defined, and a study is refused.
    """

    positions = "compacted"
    published: ClassVar[tuple[int, ...]] = ()
    text_encoder: ClassVar[Literal["", "clip_segments", "clip_truncated", "embeddings"]] = ""
    tiled: ClassVar[Literal["", "each", "joined", "packed"]] = ""

    @abstractmethod
    def choose(self, vision: Vision, tokens: int, options: Any) -> Reduced:
        """The formula. `vision` holds what `needs` names, in float32 or float64; `tokens` is feasible."""

    def feasible(self, tokens: int, visual: int, options: Any) -> bool:
        """Whether T = `tokens`, which is in 1..V, can be met."""
        return True

    def rows(self, tokens: int, visual: int, options: Any) -> int | None:
        """How many rows the language model gets, where T is feasible; None where each image decides."""
        return tokens

    def text(self, prompt: str) -> str:
        """The part of a question's prompt line that the method reads."""
        return prompt

    def image_side(self, tokens: int, patch: int) -> int | None:
        """Side in pixels at which the tower sees the square image; None for the checkpoint's own."""
        return None

    def check(self, tokens: int, visual: int, options: Any) -> None:
        """ConfigError where T cannot be met on V = `visual` patches; it names the smallest feasible T."""
        if self.rows(1, visual, options) is None:
            return
        if isinstance(tokens, bool) or not isinstance(tokens, int):
            raise ConfigError(f"tokens: {tokens!r} is not a whole number")
        if 1 <= tokens <= visual and self.feasible(tokens, visual, options):
            return
        possible = [count for count in range(1, visual + 1) if self.feasible(count, visual, options)]
        raise ConfigError(
            f"tokens: {tokens} of {visual} visual tokens is not feasible for {self.name}; {_budgets(possible)}"
        )

    def reduce(self, vision: Vision, tokens: int, options: Any) -> Reduced:
        """Check what goes in, then choose. See headwise.methods.reduce."""
        vision, visual = vision.checked(self.name, self.needs)
        self.check(tokens, visual, options)
        reduced = self.choose(vision, tokens, options)
        finite = all(bool(getattr(vision, name).isfinite().all()) for name in self.needs)
        return replace(reduced, degenerate=reduced.degenerate or not finite)

    def reduce_tiles(self, tiles: Sequence[Vision], tokens: int, options: Any) -> list[Reduced]:
        """What each tile keeps, `tokens` of each, where `tiled` is `each`; a method overrides it to look at all."""
        return [self.reduce(tile, tokens, options) for tile in tiles]

    def least(self, visual: int, options: Any) -> int:
        """The smallest feasible T on V = `visual` patches. ConfigError where none is."""
        for count in range(1, visual + 1):
            if self.feasible(count, visual, options):
                return count
        raise ConfigError(f"tokens: {self.name} has no feasible budget on {visual} patches with these options")


def between(option: str, value: object, low: float, high: float) -> None:
    """ConfigError where an option is not a number in low..high."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{option}: {value!r} is not a number between {low} and {high}")


def true_or_false(option: str, value: object) -> None:
    """ConfigError where an option is not a boolean."""
    if not isinstance(value, bool):
        raise ConfigError(f"{option}: {value!r} is not true or false")


def _budgets(possible: list[int]) -> str:
    """What may be asked for instead; a gap in the list is said."""
    if not possible:
        return "with these options no budget is"
    if len(possible) == possible[-1] - possible[0] + 1:
        return f"feasible budgets are {possible[0]} to {possible[-1]}"
    few = ", ".join(str(count) for count in possible[:4])
    return f"the smallest feasible budget is {possible[0]} ({few}, … up to {possible[-1]})"


def _sizes(method: str, signals: dict[str, Tensor]) -> dict[str, int]:
    """The size of each axis. ConfigError where two signals disagree; N is 1 + V."""
    sizes: dict[str, int] = {}
    for name, signal in signals.items():
        axes = AXES[name]
        shape = list(signal.shape)
        if len(shape) != len(axes) or 0 in shape:
            raise ConfigError(f"{method}: {name} has the shape {shape}; its axes are {', '.join(axes)}")
        for axis, size in zip(axes.replace("N", "V"), shape, strict=True):
            size -= axis == "V" and "N" in axes
            if sizes.setdefault(axis, size) != size:
                raise ConfigError(f"{method}: {name} has {size} along {axis} where another signal has {sizes[axis]}")
    return sizes
