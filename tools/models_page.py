"""Writes docs/models.md from the registry: `python tools/models_page.py` (a test checks that it is current)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from headwise.methods import METHODS, BeforeMethod
from headwise.models import FAMILIES, REFUSED, Family

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
INTRODUCTION = """\
# Models

This page is made from the code by `python tools/models_page.py`; change the family's file, not this page.

`--model` takes `embedded`, a folder, or a hub name of a checkpoint of a family below, in transformers' own format;
`headwise list models` prints them. A family is known by `model_type` in `config.json`, its decoder by the `model_type`
of the text part: nothing that merely looks alike is driven. Decoders with sliding windows are refused, since a window
counts places and would widen as tokens go. `headwise check-model MODEL --images DIR` compares the engine with
transformers' own forward on a real checkpoint.

- **Tokens and heads** below 1 are shares: of an image's visual tokens V, and of a layer's query heads H. Where images
  differ in V, `budget=average` and `published` need shares; a whole number with `budget=kept` is what stays of images
  that have more.
- **Precision**: weights are loaded in `--dtype` and never cast afterwards; families trained in bfloat16 refuse float16.
  Attention rows of bfloat16 models are ranked in float32.
- **TextVQA**: `--ocr false` leaves out the OCR line, as lmms-eval asks newer models.
- **Image limits** are settings of the study, logged and part of what answers are kept under.
- **Methods before the language model** run where an original says what it does with such images; a study that names
  another is refused before weights are read.

"""


def page() -> str:
    """The page's text."""
    sections = [_section(family) for family in FAMILIES.values()]
    refused = "\n".join(f"| `{name}` | {why} |" for name, why in REFUSED.items())
    return INTRODUCTION + "\n".join([*sections, f"## Refused\n\n| `model_type` | why |\n|---|---|\n{refused}\n"])


def _section(family: Family) -> str:
    rows = "\n".join(f"| {name} | {value} |" for name, value in _facts(family))
    about = " ".join((type(family).__doc__ or "").split())
    return f"## {family.title} (`{family.name}`)\n\n{about}\n\n| | |\n|---|---|\n{rows}\n"


def _facts(family: Family) -> Iterator[tuple[str, str]]:
    yield "`model_type`", _code(family.model_types)
    yield "decoders", _code(family.text_types)
    yield "prompt", f"`{_escaped(family.prompt)}`"
    for name, value in vars(type(family)).items():
        if name.endswith("_prompt"):
            yield f"prompt with {name.removesuffix('_prompt')}", f"`{_escaped(value)}`"
    yield "prompt version", f"`{family.prompt_version}`"
    limits = ", ".join(f"`{option}` ({value:,})" for option, value in family.options.items())
    yield "image options", limits or "none"
    yield "float16", "fits" if family.float16 else "refused: it overflows"
    yield "methods before the language model", _before(family)


def _before(family: Family) -> str:
    found = {name: method for name, method in METHODS.items() if isinstance(method, BeforeMethod)}
    if family.views == "square":
        return "all, with a CLIP tower"
    if family.views == "tiles":
        return _code([name for name, method in found.items() if method.tiled])
    return f"refused: {family.no_views}"


def _code(names: object) -> str:
    return ", ".join(f"`{name}`" for name in names)  # type: ignore[attr-defined]


def _escaped(text: str) -> str:
    return text.replace("\n", "\\n").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
