"""The embedded study: a small trained LLaVA and four small benchmarks, and what draws and trains them."""

from pathlib import Path

MODEL_DIR = Path(__file__).parent / "model"
DATA_DIR = Path(__file__).parent / "data"
