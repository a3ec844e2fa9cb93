"""headwise: which attention heads to trust when visual tokens are pruned.

    config ─► samples ─► engine (model, heads) ─► answers.jsonl ─► verdicts.jsonl ─► MLflow ─► tables, report
    └────────────── evaluate ─────────────────┘    └──── score ────┘                └── compare ──┘

A study is a grid of cells (model × benchmark × strategy × tokens × heads). `evaluate` answers every
question under every cell in one computation, `score` says what the answers are worth, `compare` reads
finished runs from the tracking server and says which differences are real. Scoring and comparing
never need torch.
"""

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

__version__ = "0.1.0"

# Modules that others import by the name on the left, and where their code lies.
PUBLIC_NAMES = {
    "headwise.budget": "headwise.study.budget",
    "headwise.config": "headwise.run.settings",
    "headwise.heads": "headwise.methods.heads",
}


class _PublicNames(MetaPathFinder, Loader):
    """Imports a module of PUBLIC_NAMES: both names are then one and the same module."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in PUBLIC_NAMES else None

    def exec_module(self, module: ModuleType) -> None:
        sys.modules[module.__name__] = importlib.import_module(PUBLIC_NAMES[module.__name__])


sys.meta_path.append(_PublicNames())
