"""What is known about the cells of a benchmark: intervals, paired differences, the best set.

Verdicts come in as one `Outcomes` a benchmark. Nothing here reads files or knows MLflow; the
reasons for each procedure are in docs/statistics.md.
"""

from headwise.stats.aggregates import CategoryMean, CategorySum, GroupMean, Mean, MeanF1, PairSum
from headwise.stats.bestset import best_set, best_set_p
from headwise.stats.bootstrap import LEVEL, RESAMPLES, Replicates, bootstrap, percentile_interval
from headwise.stats.outcomes import Aggregate, NoScore, Outcomes, headline
from headwise.stats.paired import FLIPS, Paired, compare_pair, holm, mcnemar, mcnemar_p, sign_flip_p

__all__ = [
    "FLIPS",
    "LEVEL",
    "RESAMPLES",
    "Aggregate",
    "CategoryMean",
    "CategorySum",
    "GroupMean",
    "Mean",
    "MeanF1",
    "NoScore",
    "PairSum",
    "Paired",
    "Replicates",
    "Outcomes",
    "best_set",
    "best_set_p",
    "bootstrap",
    "compare_pair",
    "headline",
    "holm",
    "mcnemar",
    "mcnemar_p",
    "percentile_interval",
    "sign_flip_p",
]
