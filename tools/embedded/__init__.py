"""Training of the embedded checkpoint and generation of its benchmarks; not installed.

scenes → render → pixels ┬→ tower ─→ align (projector) ─────────────┐
       ↘ symbols ────────┴→ language (decoder) ─────────────────→ tune (on images) → export → model/
       ↘ questions → draw → data/ (six benchmarks in their official layout)
"""
