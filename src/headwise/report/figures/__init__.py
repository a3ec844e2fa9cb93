"""Tables → matplotlib figures (object interface only: no window, no global state)."""

from headwise.report.figures.heads import head_frequency, overlap
from headwise.report.figures.overlays import Overlay, Seen, is_dark, kept_tokens
from headwise.report.figures.scores import accuracy_against_cost, draw_best_set, heat_maps, score_by_tokens
from headwise.report.figures.style import Drawing

__all__ = [
    "Drawing",
    "Overlay",
    "Seen",
    "accuracy_against_cost",
    "draw_best_set",
    "head_frequency",
    "heat_maps",
    "is_dark",
    "kept_tokens",
    "overlap",
    "score_by_tokens",
]
