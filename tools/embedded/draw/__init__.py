"""The four embedded benchmarks, drawn from a seed in the official file layout of LLaVA's evaluation."""

from pathlib import Path

from tools.embedded.draw.gqa import draw_gqa
from tools.embedded.draw.mme import draw_mme
from tools.embedded.draw.pope import draw_pope
from tools.embedded.draw.textvqa import draw_textvqa
from tools.embedded.scenes import Scene

SEED = 20260101
DRAWERS = {"textvqa": draw_textvqa, "mme": draw_mme, "gqa": draw_gqa, "pope": draw_pope}


def draw(out: Path, seed: int = SEED) -> dict[str, list[Scene]]:
    """Write every benchmark under `out`; return the scenes, to be checked against the training scenes."""
    return {name: drawer(out, seed) for name, drawer in DRAWERS.items()}
