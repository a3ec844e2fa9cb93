"""headwise: which attention heads to trust when visual tokens are pruned.

    config ─► samples ─► engine (model, heads) ─► answers.jsonl ─► verdicts.jsonl ─► MLflow ─► tables, report
    └────────────── evaluate ─────────────────┘    └──── score ────┘                └── compare ──┘

A study is a grid of cells (model × benchmark × strategy × tokens × heads). `evaluate` answers every
question under every cell in one computation, `score` says what the answers are worth, `compare` reads
finished runs from the tracking server and says which differences are real. Scoring and comparing
never need torch.
"""

__version__ = "0.1.0"
