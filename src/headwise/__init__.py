"""headwise: choosing attention heads for visual-token pruning.

    config ─► samples ─► engine (model, heads) ─► answers.jsonl ─► verdicts.jsonl ─► MLflow ─► tables, report
    └────────────── evaluate ─────────────────┘    └──── score ────┘                └── compare ──┘

A study is a grid of cells (model × benchmark × strategy × tokens × heads). `evaluate` answers every
question under every cell in one computation, `score` scores the answers, `compare` reads finished runs
from the tracking server and tests which differences are significant. Scoring and comparing never
import torch.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.1.0"

# Public module names (left) and the modules that implement them (right).
PUBLIC_NAMES = {
    "headwise.budget": "headwise.study.budget",
    "headwise.config": "headwise.run.settings",
    "headwise.heads": "headwise.methods.heads",
}


class _PublicNames(MetaPathFinder, Loader):
    """Import hook for PUBLIC_NAMES: both names refer to the same module object."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in PUBLIC_NAMES else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(PUBLIC_NAMES[module.__name__])


sys.meta_path.append(_PublicNames())
