"""The embedded benchmarks, drawn from a seed in the file layouts of LLaVA's evaluation and of their publishers.

The first edition is what the package holds; the second has more images where a score is over few, and two benchmarks
that a model of the first edition was not taught.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tools.embedded.draw.gqa import draw_gqa
from tools.embedded.draw.mmbench import draw_mmbench
from tools.embedded.draw.mme import draw_mme
from tools.embedded.draw.pope import draw_pope
from tools.embedded.draw.refcoco import draw_refcoco
from tools.embedded.draw.textvqa import draw_textvqa
from tools.embedded.scenes import Scene

SEED = 20260101
SHIPPED = 1
Drawer = Callable[[Path, int], list[Scene]]
EDITIONS: dict[int, dict[str, Drawer]] = {
    1: {"textvqa": draw_textvqa, "mme": draw_mme, "gqa": draw_gqa, "pope": draw_pope},
    2: {
        "textvqa": draw_textvqa,
        "mme": draw_mme,
        "gqa": partial(draw_gqa, images=120),
        "pope": partial(draw_pope, images=60),
        "mmbench": draw_mmbench,
        "refcoco": draw_refcoco,
    },
}


def draw(out: Path, seed: int = SEED, edition: int = SHIPPED) -> dict[str, list[Scene]]:
    """Write every benchmark under `out`; return the scenes, to be checked against the training scenes."""
    return {name: drawer(out, seed) for name, drawer in EDITIONS[edition].items()}
