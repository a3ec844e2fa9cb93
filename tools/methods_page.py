"""Writes docs/methods.md from the registry: `python tools/methods_page.py` (a test checks that it is current)."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import torch

from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod, Method, Vision
from headwise.methods.contract import AXES
from headwise.methods.stages import InsideMethod, Stage, mean_seen, stages_of
from headwise.study.cells import Cell, Geometry

PAGE = Path(__file__).resolve().parents[1] / "docs" / "methods.md"
LLAVA = Geometry(layers=32, heads=32, visual=576)
BUDGETS = (192, 128, 64)
SIZES = {"V": 36, "N": 37, "H": 4, "C": 16, "d": 4, "D": 24, "E": 12, "M": 1, "m": 3}
INTRODUCTION = """\
# Methods

This page is made from the code by `python tools/methods_page.py`; change the method's file, not this page.

`--strategy` takes the names of head strategies, controls and the methods below, separated by commas.
`--config methods` runs all that can run on the embedded model at equal budgets ([its results](methods-embedded.md)),
`--config methods-few-tokens` those before the language model at 64, 36 and 16 tokens ([theirs](methods-few-tokens.md)),
`--config methods-llava-1.5-7b` all of them on LLaVA-1.5-7B.

- **prunes**: after which decoder layers of LLaVA-1.5-7B at T = 192 (`budget=average`); 0 is before the language model.
- **question**: whether the question changes what stays. Where it does not, all questions on an image share one
  language-model prefix.
- **positions**: `original`, kept tokens keep their position ids; `compacted`, rows are counted anew.
- **merges**: whether rows are made of several tokens.

"""
OPTIONS = """\
## Options

`--method-options vispruner.important_ratio=0.75,pool.grid=12x16`, or in a file `options: {vispruner: {important_ratio:
0.75}}`. What is not a default is part of the cell: of its name, its parameters and what its answers are kept under.
CDPruner and TRIM read CLIP's text tower, which a LLaVA checkpoint does not hold: `--clip` names the full CLIP. Without
it, it is the folder `clip` in the checkpoint's folder, if there is one; the embedded model has its own there.
Head strategies take `--query`, the attention rows that they read (`last_token` unless it says otherwise).

| method | option | default |
|---|---|---|
"""
WHY = """\
## Why budgets differ

"192 tokens" is not one number. Codes and papers count what layers put out, what enters the language model, what is kept
above a layer, with or without merged rows. headwise compares methods under `budget=average`: T is the mean, over all
decoder layers, of the visual tokens that a layer **sees** (its input). Every method turns T into its stages so that
this mean is T as nearly as whole tokens allow; the mean reached is the metric `mean_tokens`, `--plan` and every run
show it, and a comparison whose cells differ by more than half a token says so. `budget=kept` counts what is left
after the last stage, `budget=published` what the method's own code calls T. With 32 layers and 576 visual tokens:

| method | what its code calls T | mean that a layer sees |
|---|---|---|
{published}

The arithmetic:

- **FastV** keeps R tokens after layer 2. Its own budget is R. At T = 192 of the layer average R is
  (32 · 192 − 2 · 576) / 30 = 166.4, hence 166; tables that copy "192 kept" give a mean of
  (2 · 576 + 30 · 192) / 32 = 216. **Dynamic heads** and the head strategies count as FastV does here.
- **PyramidDrop**'s default, a half, a quarter and an eighth after layers 8, 16 and 24, is a mean of
  (576 + 288 + 144 + 72) / 4 = 270. With these layers no ratio gets below 145.3, so its authors move the layers for
  smaller budgets: 2, 8, 16 (and 24).
- **SparseVLM** counts what layers put out: for 192, (2 · 576 + 4 · 309 + 9 · 204 + 17 · 113) / 32 = 192.03 with the
  merged rows. What layers see is (3 · 576 + 4 · 309 + 9 · 204 + 16 · 113) / 32 = 206.5: 14 to 18 tokens more than FastV
  at the same figure. **SparseVLM+** merges nothing and counts alike: (3 · 576 + 4 · 300 + 9 · 200 + 16 · 118) / 32 =
  206.75.
- **DART** keeps its 4 pivots from the image and 8 · ⌊T / 8⌋ more after layer 2: 196 for "192", a mean of
  (2 · 576 + 30 · 196) / 32 = 219.75. Its step is 8 tokens, so under the average 192, 128 and 64 become 189.75,
  122.25 and 62.25: a comparison says so.
- **FitPrune** publishes percentages of FLOPs, not tokens; its scheme for 60 % is a mean of 245.0, for 80 % of 130.6.
- **VisionZip** hands over 162 rows and 30 merged ones, 192 together with [CLS]; PruMerge's and TRIM's T contains their
  merged row. Before the language model every layer sees the same count, so T, kept and average are one.
- **DivPrune** is given a share of the tokens: its default 0.098 is 56 of 576. **FasterVLM** publishes reductions of 75,
  90 and 95 %: 144, 58 and 29 tokens. **VisPruner** splits T, half by attention and half by diversity (0.5; 0.75 for MME
  at 64). **CDPruner**, **SCOPE**, **MMTok** and **HiPrune** take T as it is. **HoloV** fills what its blocks cannot use
  with zero rows: the language model sees them, and they are part of T.
- **Adaptive PruMerge and TRIM** (`adaptive`) decide per image: T is no budget, and `mean_tokens` is counted over the
  questions.
- **The smaller image** has a square number of patches: 169, 121 and 64 for 192, 128 and 64.
- A decoder of few layers cannot reach every mean: with 8 layers, two unpruned ones of 576 make a mean of 144. Hence
  225, 195 and 165 in `configs/methods.yaml`, which are also what DART's step and a grid for pooling can meet.
"""


def page() -> str:
    """The page's text."""
    header = "| name | title | prunes | reads | question | positions | merges | source |\n" + "|---" * 8 + "|\n"
    methods = [_row(name, method) for name, method in METHODS.items() if method.role == "method"]
    controls = [_row(name, method) for name, method in METHODS.items() if method.role == "control"]
    options = [line for name, method in METHODS.items() for line in _options(name, method)]
    why = WHY.format(published="\n".join(line for name, method in METHODS.items() for line in _published(name, method)))
    tables = [header + "\n".join(methods) + "\n", "Controls:\n", header + "\n".join(controls) + "\n"]
    return INTRODUCTION + "\n".join([*tables, OPTIONS + "\n".join(options) + "\n", why])


def _row(name: str, method: Method) -> str:
    stages = stages_of(Cell(strategy=name, tokens=BUDGETS[0]), LLAVA)
    layers = [stage.layer for stage in stages]
    where = ", ".join(map(str, layers)) if len(layers) < 8 else f"{layers[0]} to {layers[-1]}"
    reads = ", ".join(f"`{need}`" for need in method.needs) or "`last_HV`"
    asked = "yes" if method.question_dependent else "no"
    merges = "yes" if _merges(method, stages) else "no"
    return (
        f"| `{name}` | {method.title} | {where} | {reads} | {asked} | {method.positions} | {merges} | {method.source} |"
    )


def _merges(method: Method, stages: tuple[Stage, ...]) -> bool:
    if not isinstance(method, BeforeMethod):
        return any(stage.merged for stage in stages)
    generator = torch.Generator().manual_seed(0)
    signals = {need: torch.rand([SIZES[axis] for axis in AXES[need]], generator=generator) for need in method.needs}
    if method.image_side(36, 1) is not None:
        return False
    return method.reduce(Vision(**signals), 16, method.options()).tokens_TC is not None


def _options(name: str, method: Method) -> list[str]:
    return [f"| `{name}` | `{option}` | {default} |" for option, default in asdict(method.options_type()).items()]


def _published(name: str, method: Method) -> list[str]:
    published = method.published if isinstance(method, BeforeMethod | InsideMethod) else ()
    lines = []
    for tokens in published:
        try:
            mean = mean_seen(stages_of(Cell(strategy=name, tokens=tokens, budget="published"), LLAVA), LLAVA)
        except ConfigError:
            continue
        lines.append(f"| `{name}` | {tokens} | {mean:.2f} |")
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
