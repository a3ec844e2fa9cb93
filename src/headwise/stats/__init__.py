"""What is known about the cells of a benchmark: intervals, paired differences, the best set.

Verdicts come in as one `Outcomes` per benchmark. Nothing here reads files or knows MLflow; the
reasons for each procedure are in docs/statistics.md.
"""

from headwise.stats.aggregates import CategoryMean, CategorySum, GroupMean, Mean, MeanF1, PairSum
from headwise.stats.bestset import SIGNS, Flipped, best_set_p, fewest_images, flip, in_best_set
from headwise.stats.estimates import Estimates, average, estimate
from headwise.stats.incomplete import Pairs, answered_by_any, own_estimates
from headwise.stats.intervals import LEVEL
from headwise.stats.outcomes import Aggregate, NoScore, Outcomes, headline
from headwise.stats.paired import FLIPS, Paired, compare_pair, holm, mcnemar, mcnemar_p, sign_flip_p

__all__ = [
    "FLIPS",
    "LEVEL",
    "SIGNS",
    "Aggregate",
    "CategoryMean",
    "CategorySum",
    "Estimates",
    "Flipped",
    "GroupMean",
    "Mean",
    "MeanF1",
    "NoScore",
    "PairSum",
    "Outcomes",
    "Paired",
    "Pairs",
    "answered_by_any",
    "average",
    "best_set_p",
    "compare_pair",
    "estimate",
    "fewest_images",
    "flip",
    "headline",
    "in_best_set",
    "holm",
    "mcnemar",
    "mcnemar_p",
    "own_estimates",
    "sign_flip_p",
]
