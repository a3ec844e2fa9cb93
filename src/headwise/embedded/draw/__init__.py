"""The four embedded benchmarks, drawn from a seed in the official file layout of LLaVA's evaluation."""

from pathlib import Path

from headwise.embedded.draw.gqa import draw_gqa
from headwise.embedded.draw.mme import draw_mme
from headwise.embedded.draw.pope import draw_pope
from headwise.embedded.draw.textvqa import draw_textvqa
from headwise.embedded.scenes import Scene

SEED = 20260101
DRAWERS = {"textvqa": draw_textvqa, "mme": draw_mme, "gqa": draw_gqa, "pope": draw_pope}


def draw(out: Path, seed: int = SEED) -> dict[str, list[Scene]]:
    """Write every benchmark under `out`; return the scenes, for the proof that training saw none of them."""
    return {name: drawer(out, seed) for name, drawer in DRAWERS.items()}
