"""Deterministic writers of JSON, JSON Lines and images."""

import io
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from tools.embedded.questions import KINDS, Question
from tools.embedded.render import render
from tools.embedded.scenes import Scene
from tools.embedded.vocabulary import INSTRUCTION

Tally = Counter[tuple[str, str]]


def write_json(path: Path, content: Any) -> None:
    _write(path, json.dumps(content, indent=1) + "\n")


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _write(path, "".join(json.dumps(row) + "\n" for row in rows))


def write_image(path: Path, scene: Scene) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(scene)).save(path, optimize=True)


def image_bytes(scene: Scene) -> bytes:
    """The scene as a PNG, for files that hold their pictures."""
    held = io.BytesIO()
    Image.fromarray(render(scene)).save(held, "png", optimize=True)
    return held.getvalue()


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


def prompt(question: str, line: str | None = None) -> str:
    """The question as LLaVA's question files hold it, instruction included."""
    return "\n".join([question, *([line] if line is not None else []), INSTRUCTION])


def balanced(kind: str, scene: Scene, rng: Random, tally: Tally) -> Question | None:
    """Of thirty draws of a kind, the one with the rarest answer so far, so that answers are balanced."""
    drawn = [question for _ in range(30) if (question := KINDS[kind](scene, rng)) is not None]
    if not drawn:
        return None
    chosen = min(drawn, key=lambda question: tally[kind, question.answer])
    tally[kind, chosen.answer] += 1
    return chosen
