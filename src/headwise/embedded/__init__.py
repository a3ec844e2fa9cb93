"""The embedded checkpoint (a small trained LLaVA) and its four benchmarks.

scenes → render → pixels ┬→ tower ─→ align (projector) ─────────────┐
       ↘ symbols ────────┴→ language (decoder) ─────────────────→ tune (on images) → export → model/
       ↘ questions → draw → data/ (four benchmarks in their official layout)

Nothing heavy is imported here.
"""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
DATA_DIR = Path(__file__).parent / "data"
