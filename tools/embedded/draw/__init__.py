"""The embedded benchmarks, drawn from a seed in the file layouts of LLaVA's evaluation and of their publishers."""

from collections.abc import Callable
from pathlib import Path

from tools.embedded.draw.gqa import draw_gqa
from tools.embedded.draw.mmbench import draw_mmbench
from tools.embedded.draw.mme import draw_mme
from tools.embedded.draw.pope import draw_pope
from tools.embedded.draw.refcoco import draw_refcoco
from tools.embedded.draw.textvqa import draw_textvqa
from tools.embedded.scenes import Scene

SEED = 20260101
DRAWERS: dict[str, Callable[[Path, int], list[Scene]]] = {
    "textvqa": draw_textvqa,
    "mme": draw_mme,
    "gqa": draw_gqa,
    "pope": draw_pope,
    "mmbench": draw_mmbench,
    "refcoco": draw_refcoco,
}


def draw(out: Path, seed: int = SEED) -> dict[str, list[Scene]]:
    """Write every benchmark under `out`; return the scenes, to be checked against the training scenes."""
    return {name: drawer(out, seed) for name, drawer in DRAWERS.items()}
