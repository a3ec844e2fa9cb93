"""Writes docs/models.md from the registry: `python tools/models_page.py` (a test checks that it is current)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headwise.models import FAMILIES, REFUSED, Family
from headwise.models.decoder import DRIVEN
from headwise.run.defined import methods_before, undefined_inside

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
INTRODUCTION = """\
# Models

This page is made from the code by `python tools/models_page.py`; change the family's file, not this page.

`--model` takes a folder or a hub name of a checkpoint of these families, or `embedded`; `headwise list models` prints
them, those of plug-ins included. A family is known by `model_type` in the checkpoint's `config.json`, and its decoder
by that of `text_config`. `headwise check-model MODEL --images DIR` answers a few questions pruned by the engine and by
transformers' own forward with a mask, and compares kept tokens, logits and answers.

Prompts are lmms-eval's, written in the code: the template in a checkpoint's folder is not read. `{image}` stands for
the image's placeholders. Prompt and settings of image size are part of what answers are kept under. Where the number
V of visual tokens differs from image to image, `tokens` is a share of it (0.25), or a count with `budget=kept`;
`heads` below 1 is a share of the decoder's query heads.

Start from a packaged study: `--config llava-next-7b`, `llava-onevision-7b`, `qwen2.5-vl-7b`, `qwen3-vl-8b`,
`internvl3-8b`, `llava-1.5-7b` or `llava-1.5-13b`; `--model` names another checkpoint of the family. Without `--config`
the settings are those of the embedded study, which asks 60 questions and lets answers have 48 tokens.

"""
REFUSALS = """\
## What is refused

One line says so before weights are read.

- A `model_type` that is not above.
- A decoder that a family is not listed with, however much it looks like one: decoders that are driven are
  {decoders}.
- A decoder with sliding windows: they count places, which pruning changes.
- `dtype: float16` for families trained in bfloat16, whose activations overflow it.
- A setting of image size that the family does not read.
- A method on a family whose images it is not defined for.

Refused by name:

| model type | why |
|---|---|
"""


def page() -> str:
    """The page's text."""
    refused = "".join(f"| `{name}` | {why} |\n" for name, why in REFUSED.items())
    text = REFUSALS.format(decoders=", ".join(f"`{name}`" for name in DRIVEN))
    return INTRODUCTION + "\n".join([*map(_section, FAMILIES.values()), text + refused])


def _section(family: Family) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(family))
    doc = " ".join((type(family).__doc__ or "").split())
    prompts = "\n".join(f"```text\n{prompt}\n```\n" for prompt in _prompts(family))
    return f"## {family.title} (`{family.name}`)\n\n{doc}\n\n| | |\n|---|---|\n{rows}\n\n{prompts}"


def _prompts(family: Family) -> list[str]:
    """Its prompt, and those of single decoders; line ends are written `\\n`."""
    own = [family.prompt, *(getattr(family, f"{kind}_prompt", "") for kind in family.text_types)]
    return [prompt.replace("\n", "\\n") for prompt in own if prompt]


def _facts(family: Family) -> Iterator[tuple[str, str]]:
    yield "model types", _names(family.model_types)
    yield "decoders", _names(family.text_types)
    yield "sees", family.sees
    yield "image settings", ", ".join(f"`{name}` ({value:,})" for name, value in family.options.items()) or "none"
    yield "precision", "float16, bfloat16, float32" if family.float16 else "bfloat16, float32"
    yield "methods before the language model", _names(methods_before(family)) or f"none: {family.no_views}"
    without = _names(list(undefined_inside(family)))
    yield "methods inside it", f"all but {without}: {family.no_compacting}" if without else "all"
    yield "prompt version", f"`{family.prompt_version}`"


def _names(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
