"""Methods that prune inside the language model: stages, what a stage may read, and budgets turned into stages.

A stage is (decoder layer l, rows that stay): after the output of layer l only those rows go on. Layers count from 1;
0 is before the first layer. V visual tokens, n visual rows that are left, Q text positions behind the image,
H attention heads, d head width, D hidden width, L decoder layers. No torch here: names and counts are known without.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from headwise.errors import ConfigError
from headwise.methods.contract import BeforeMethod, Method
from headwise.study.budget import is_share, token_count
from headwise.study.names import BUDGETS

if TYPE_CHECKING:
    from torch import Tensor

    from headwise.study.cells import Cell, Geometry

# How far the mean reached may be from T; beyond it the budget is refused.
CUTOFF = 0.5


@dataclass(frozen=True)
class Stage:
    """After decoder layer `layer`, `keep` visual rows stay and `merged` rows are made of the others."""

    layer: int
    keep: int
    merged: int = 0

    @property
    def rows(self) -> int:
        """Visual rows that the next layer sees."""
        return self.keep + self.merged


@dataclass(frozen=True, eq=False)
class StageKept:
    """What a stage left: for each visual row in order its place in the image, -1 for a merged row."""

    layer: int
    kept: Tensor


@dataclass(frozen=True, eq=False)
class Choice:
    """What one stage keeps for one question.

    `kept_R`: indices of the rows that stay, ascending, among the rows that there are; `merge_CR`: weights [c, n] of
    the rows that are made, appended behind those kept (only with compacted positions). `heads_K`: the heads that
    said so (None where no heads are chosen); `degenerate`: the ranking of heads was NaN or all tied; `agreement`:
    share of the heads that float16 and float64 rankings both choose (None where none are ranked).
    """

    kept_R: Tensor
    heads_K: Tensor | None = None
    degenerate: bool = False
    agreement: float | None = None
    merge_CR: Tensor | None = None


class View(Protocol):
    """One question at a stage: signals are computed when they are read, once for all cells that read them.

    `layer`: l. `sample_id`: the question's name. `visual`, `text`, `system`: n, Q, and positions before the image.
    `positions_V`, `positions_Q`: position ids. `rope_frequencies`: θ, one per pair of dimensions of a head.
    """

    @property
    def layer(self) -> int:
        """l, the decoder layer whose output is pruned, from 1."""

    @property
    def sample_id(self) -> str:
        """The question's name, which seeds random choices."""

    @property
    def system(self) -> int:
        """Positions before the image."""

    @property
    def visual(self) -> int:
        """n, the visual rows that are left."""

    @property
    def text(self) -> int:
        """Q, the text positions behind the image."""

    @property
    def positions_V(self) -> Tensor:
        """Position ids of the visual rows."""

    @property
    def positions_Q(self) -> Tensor:
        """Position ids of the text behind the image."""

    @property
    def rope_frequencies(self) -> Tensor:
        """θ, one per pair of dimensions of a head: [d / 2]."""

    @property
    def last_HV(self) -> Tensor:
        """Layer l's attention row of the last prompt token, after the softmax over all keys, cut to the image."""

    @property
    def text_HQV(self) -> Tensor:
        """The same rows of all text positions behind the image."""

    @property
    def visual_HVV(self) -> Tensor:
        """The same rows of the visual rows themselves: every head's full map, which is the costly one."""

    @property
    def next_last_HV(self) -> Tensor:
        """What layer l+1's row of the last prompt token would be if nothing were dropped now."""

    @property
    def most_QV(self) -> Tensor:
        """Largest attention over heads of each text position behind the image: [Q, n]."""

    @property
    def most_VV(self) -> Tensor:
        """Largest attention over heads of each visual row over the visual rows: [n, n]."""

    @property
    def keys_HVd(self) -> Tensor:
        """Layer l's keys of the visual rows, rotary position included: [key-value heads, n, d]."""

    @property
    def keys_HQd(self) -> Tensor:
        """Layer l's keys of the text behind the image: [key-value heads, Q, d]."""

    @property
    def hidden_VD(self) -> Tensor:
        """Layer l's output at the visual rows."""

    @property
    def hidden_QD(self) -> Tensor:
        """Layer l's output at the text behind the image."""

    @property
    def embeds_VD(self) -> Tensor:
        """Input embeddings of the image's rows (all of them, whatever was dropped since)."""

    @property
    def embeds_QD(self) -> Tensor:
        """Input embeddings of the text behind the image."""

    def final_norm(self, hidden: Tensor) -> Tensor:
        """The model's last norm."""

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, once per stage and question for all cells."""

    def once_per_question(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, once per question for all stages and cells."""


class Views(Protocol):
    """The questions that a cell has at one stage, side by side."""

    @property
    def each(self) -> Sequence[View]:
        """The single questions, in the order in which choices are returned."""

    @property
    def last_NHV(self) -> Tensor:
        """`last_HV` of all of them."""

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """`compute()`, once for all cells that have these questions at this stage."""


class InsideMethod(Method):
    """A method that prunes inside the language model, in one stage or several.

    `published`: the values of T that budget=published knows; what they mean stands in `stages`. `takes_shares`:
    `stages` rounds a share of V itself (`kept_tokens` does); others get the number of tokens that it stands for.
    """

    question_dependent = True
    published: ClassVar[tuple[int, ...]] = ()
    needs_heads: ClassVar[bool] = False
    takes_shares: ClassVar[bool] = False

    @abstractmethod
    def stages(self, cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
        """The stages of a cell, layers ascending. ConfigError where the budget cannot be met."""

    @abstractmethod
    def select(self, view: View, stage: Stage, cell: Cell) -> Choice:
        """The formula: what stays of one question at one stage."""

    def choices(self, views: Views, stage: Stage, cell: Cell) -> list[Choice]:
        """One Choice per question. A method overrides this where many questions at once are faster."""
        return [self.select(view, stage, cell) for view in views.each]


def top(score_V: Tensor, count: int) -> Tensor:
    """Ascending indices of the `count` largest scores; ties go to the lower index."""
    return score_V.sort(descending=True, stable=True).indices[:count].sort().values


def seen(stages: Sequence[Stage], geometry: Geometry) -> list[int]:
    """Visual tokens that each decoder layer sees (its input): [L]."""
    assert geometry.visual is not None, "counted per image where V differs"
    counts = []
    for layer in range(geometry.layers):
        passed = [stage.rows for stage in stages if stage.layer <= layer]
        counts.append(passed[-1] if passed else geometry.visual)
    return counts


def mean_seen(stages: Sequence[Stage], geometry: Geometry) -> float:
    """Mean number of visual tokens that a decoder layer sees."""
    return sum(seen(stages, geometry)) / geometry.layers


def check_published(method: InsideMethod | BeforeMethod, cell: Cell) -> None:
    """ConfigError where budget=published does not know this T."""
    if not method.published:
        raise ConfigError(f"budget: published is not defined for {method.name}; use average or kept")
    if cell.tokens not in method.published:
        allowed = ", ".join(map(str, method.published))
        raise ConfigError(
            f"tokens: {cell.tokens} with budget=published is not a setting of {method.name}; it publishes {allowed}"
        )


def spread(layers: Sequence[int], total: int) -> list[int]:
    """Layers of a 32-layer decoder moved to one of `total`, half up, each at least 1 and above the one before."""
    moved: list[int] = []
    for layer in layers:
        place = max(1, math.floor(layer * total / 32 + 0.5), moved[-1] + 1 if moved else 1)
        if place < total:
            moved.append(place)
    if not moved:
        raise ConfigError(f"layer: a decoder of {total} layers has none after which tokens could be dropped")
    return moved


def solved(
    cell: Cell, geometry: Geometry, build: Callable[[float], tuple[Stage, ...]], low: float, high: float
) -> tuple[Stage, ...]:
    """The stages `build(scale)` whose mean (budget=average) or last count (kept) is nearest to T, by bisection.

    `build` must not see fewer tokens at a larger scale. ConfigError where nothing comes within half a token.
    """

    def reached(scale: float) -> float:
        stages = build(scale)
        return mean_seen(stages, geometry) if cell.budget == "average" else float(stages[-1].rows)

    bottom, above = low, high
    for _ in range(60):
        middle = (bottom + above) / 2
        bottom, above = (middle, above) if reached(middle) < cell.tokens else (bottom, middle)
    best = min((low, bottom, above, high), key=lambda scale: abs(reached(scale) - cell.tokens))
    if abs(reached(best) - cell.tokens) > (CUTOFF if cell.budget == "average" else 0):
        raise ConfigError(
            f"tokens: {cell.tokens} with budget={cell.budget} is not feasible for {cell.strategy} on "
            f"{geometry.visual} visual tokens and {geometry.layers} layers; "
            + _hint(cell.tokens, [reached(scale) for scale in (low, bottom, above, high)])
        )
    return build(best)


def _hint(tokens: float, reached: Sequence[float]) -> str:
    """Which budgets are feasible; `reached`: the smallest, those on both sides of T, the largest."""
    low, below, above, high = reached
    smallest, largest = max(1, math.ceil(low - CUTOFF)), math.floor(high + CUTOFF)
    gap = f", but none between {round(below, 1):g} and {round(above, 1):g}" if smallest <= tokens <= largest else ""
    return f"feasible budgets are {smallest} to {largest}{gap}"


# V for which a cell is checked where V differs from image to image: feasibility of a share depends on s, L and K.
NOMINAL = 10_000


def for_image(cell: Cell, visual: int) -> Cell:
    """The cell on an image of V = `visual` where V differs from image to image: T tokens, or all that there are."""
    return cell if is_share(cell.tokens) or cell.tokens <= visual else replace(cell, tokens=visual)


def _for_every_image(cell: Cell, geometry: Geometry) -> tuple[Cell, Geometry]:
    """What to check where V is not fixed. ConfigError for a budget that only a fixed V can meet."""
    if cell.strategy != "vanilla" and (cell.budget == "published" or not is_share(cell.tokens)):
        if cell.budget != "kept":
            raise ConfigError(
                f"tokens: {cell.tokens} with budget={cell.budget} needs a fixed number of visual tokens, which this "
                "model does not have; give a share such as 0.25, or budget=kept"
            )
        if cell.tokens < 1:
            raise ConfigError(f"tokens: {cell.tokens} is not a positive number")
    return for_image(cell, NOMINAL), replace(geometry, visual=NOMINAL)


def stages_of(cell: Cell, geometry: Geometry) -> tuple[Stage, ...]:
    """The stages of any cell, controls and head strategies included; vanilla has none.

    A method that prunes before the language model has one at layer 0; where each image decides how many rows
    there are, its count is T. ConfigError where the cell does not fit the geometry.
    """
    if geometry.visual is None:
        cell, geometry = _for_every_image(cell, geometry)
    assert geometry.visual is not None
    if (before := before_method(cell.strategy)) is not None:
        options, tokens = before.options(**dict(cell.options)), token_count(cell.tokens, geometry.visual)
        if cell.budget == "published":
            check_published(before, cell)
        before.check(tokens, geometry.visual, options)
        return (Stage(0, before.rows(tokens, geometry.visual, options) or tokens),)
    method = inside_method(cell.strategy)
    method.options(**dict(cell.options))  # refuses unknown ones
    if not method.takes_shares:
        cell = replace(cell, tokens=token_count(cell.tokens, geometry.visual))
    return method.stages(cell, geometry)


def check_cell(cell: Cell, geometry: Geometry) -> int | None:
    """Visual rows after the cell's last stage on this geometry; ConfigError where the cell does not fit it.

    None where V differs from image to image, and so what is left of it.
    """
    if cell.budget not in BUDGETS:
        raise ConfigError(f"budget: {cell.budget!r} is not one of {', '.join(BUDGETS)}")
    stages = stages_of(cell, geometry)
    if geometry.visual is None:
        return None
    return stages[-1].rows if stages else geometry.visual


def stage_counts(cell: Cell, geometry: Geometry) -> list[int]:
    """Visual tokens that each decoder layer sees under a cell: [L]."""
    return seen(stages_of(cell, geometry), geometry)


def mean_tokens(cell: Cell, geometry: Geometry) -> float:
    """The mean reached: what a budget of the rule `average` asked for, as nearly as whole tokens allow."""
    return mean_seen(stages_of(cell, geometry), geometry)


def before_method(name: str) -> BeforeMethod | None:
    """The method of that name where it prunes before the language model, else None; so for an unknown name."""
    from headwise.methods import METHODS

    method = METHODS[name] if name in METHODS else None  # noqa: SIM401 (get expects KeyError)
    return method if isinstance(method, BeforeMethod) else None


def require_clip(method: str, clip: str | None) -> str:
    """The CLIP checkpoint of `method`'s option `clip`. ConfigError, to be raised before a run, where there is none."""
    if not clip:
        raise ConfigError(
            f"{method}: needs CLIP's text tower, which the model's checkpoint does not hold; set its option `clip` to "
            "a folder or hub name of the full CLIP, such as openai/clip-vit-large-patch14-336"
        )
    return clip


def image_decides(cell: Cell, geometry: Geometry) -> bool:
    """Whether each image decides how many rows the language model gets, so that T is no budget."""
    before = before_method(cell.strategy)
    return (
        before is not None
        and geometry.visual is not None
        and before.rows(
            token_count(cell.tokens, geometry.visual), geometry.visual, before.options(**dict(cell.options))
        )
        is None
    )


def inside_method(name: str) -> InsideMethod:
    """The method of that name. ConfigError where it is unknown or prunes before the language model."""
    from headwise.methods import METHODS
    from headwise.methods.head_strategies import BuiltIn
    from headwise.study import names

    if name in names.STRATEGIES + names.CONTROLS:
        return BuiltIn(name)
    if name not in METHODS:
        inside = [known for known, method in METHODS.items() if isinstance(method, InsideMethod)]
        known = ", ".join([*names.STRATEGIES, *names.CONTROLS, *inside])
        raise ConfigError(f"strategy: {name!r} is not one of {known}")
    method = METHODS[name]
    if not isinstance(method, InsideMethod):
        raise ConfigError(f"strategy: {name!r} prunes before the language model; its rows are given per image")
    return method
