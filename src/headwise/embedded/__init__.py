"""The embedded checkpoint (a small trained LLaVA), the CLIP of its tower, and six benchmarks.

scenes → render → pixels ┬→ towers → align (projector) ─────────────┐
       ↘ symbols ────────┴→ language (decoder) ─────────────────→ tune (on images) → export → model/
       ↘ questions → draw → data/ (six benchmarks in their official layout)

Nothing heavy is imported here.
"""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
CLIP_DIR = MODEL_DIR / "clip"
DATA_DIR = Path(__file__).parent / "data"
