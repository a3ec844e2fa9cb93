"""Multiple comparisons with the best: which cells are statistically tied with the best one.

A cell is a candidate for the best as long as no other is significantly better. For candidate i the statistic is
T_i = max_j Σ_g d_ijg / √(Σ_g d_ijg²) over all other cells j, where d_ijg is what image g adds to score_j − score_i:
a self-normalized sum, in the order of Student's t but bounded by the square root of the number of images that differ.

Its null distribution comes from sign flips by image, one sign for all cells: if neither of two cells is better, what an
image adds to their difference is as likely to be the opposite. So nothing is estimated, no tail is assumed, and the
correlation between cells and the number of comparisons are in the maximum (Efron 1969, JASA 64:1278-1302; Pesarin &
Salmaso 2010, Permutation Tests for Complex Data, ch. 4; the maximum over comparisons with the best: Hsu 1996, Multiple
Comparisons, ch. 4). Self-normalizing keeps pairs that differ in earnest, whose flipped sums are as bounded as any
other, from raising the threshold. Rejections step down (Romano & Wolf 2005, JASA 100:94-108): the critical value is
that of the largest T among the candidates still in play. So ALL truly best cells, tied ones too, stay with at least the
stated probability, however many cells and however few images there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from headwise.stats.estimates import Estimates
from headwise.stats.intervals import LEVEL
from headwise.stats.outcomes import Floats

# Random sign flips; where all flips there are number fewer, all of them.
SIGNS = 2000
# How sure it is that no p of random flips is below the one that all flips would give.
SURE = 0.95
# Pairs of cells × flips that are looked at: all flips up to 547 cells, fewer (never below FEWEST) beyond.
PAIRS = 6e8
FEWEST = 512
# Statistics closer than this are equal: flips of the same few outcomes, in single precision.
TOLERANCE = 1e-3
_BLOCK = 512  # images at a time: bounds the signs to 512 x SIGNS numbers


def fewest_images(level: float = LEVEL) -> int:
    """Images without which no two cells can differ significantly.

    Of the 2^n sign flips of n images two, the one observed and its opposite, reach the largest statistic there is: no p
    is below 2^(1 − n), and that is below 1 − level from this number on (6 images at 95 %).
    """
    return 1 + math.ceil(math.log2(1 / (1 - level)) - 1e-9)


@dataclass(frozen=True)
class Flipped:
    """Scores of C cells under B sign flips, [C, B], up to a term that all cells share; the first flip is none.

    `gram_CC` are the sums over images of products of shares, from which Σ d² of any pair follows; `every` says that
    these are all flips there are, so that p is exact.
    """

    score_CB: np.ndarray
    gram_CC: Floats
    every: bool

    def of(self, cells: Sequence[int] | np.ndarray) -> Flipped:
        """Some cells only."""
        return Flipped(self.score_CB[cells], self.gram_CC[cells][:, cells], self.every)


def flip(estimates: Estimates, seed: int = 0) -> Flipped:
    """Flip the signs of what images add to differences; the same flips for all cells, deterministic in `seed`.

    Images on which all cells agree add nothing to any difference and take no part.
    """
    share_CG = estimates.share_CG - estimates.share_CG.mean(axis=0)
    largest = np.abs(share_CG).max(initial=0)
    share_CG = share_CG[:, np.abs(share_CG).max(axis=0) > 1e-9 * largest] if largest > 0 else share_CG[:, :0]
    single = share_CG.astype(np.float32)
    turned = np.zeros((len(single), _flips(single.shape[1])), np.float32)
    for block, bits in _turned(single.shape[1], seed):
        turned += single[:, block] @ bits
    return Flipped(single.sum(axis=1, keepdims=True) - 2 * turned, share_CG @ share_CG.T, turned.shape[1] < SIGNS)


def _flips(images: int) -> int:
    """How many sign flips are looked at: all there are, or SIGNS at random."""
    return min(SIGNS, 2 ** min(images, SIGNS.bit_length()))


def _turned(images: int, seed: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of images, and where they change sign: 0 or 1, [images of the block, flips]; the first flip is none.

    Blocks are of images, not of flips: matrix products with few rows and long sums split badly between BLAS threads
    (12,578 images on two busy cores: 1.4 s in blocks of flips).
    """
    rng, flips = np.random.default_rng(seed), _flips(images)
    for start in range(0, images, _BLOCK):
        block = slice(start, min(start + _BLOCK, images))
        if flips < SIGNS:
            yield block, (np.arange(flips) >> np.arange(start, block.stop)[:, None] & 1).astype(np.float32)
            continue
        drawn = rng.integers(0, 256, (block.stop - start, -(-flips // 8)), np.uint8)
        bits = np.unpackbits(drawn, axis=1, count=flips)
        bits[:, 0] = 0
        yield block, bits.astype(np.float32)


def in_best_set(estimates: Estimates, level: float = LEVEL) -> np.ndarray:
    """Bool [C]: not significantly worse than the best, simultaneously over all cells."""
    return best_set_p(flip(estimates)) > 1 - level


def best_set_p(flipped: Flipped) -> Floats:
    """Step-down adjusted p of "some other cell is better than this one", [C]; 1.0 for a single cell.

    Exact where all flips are at hand, else the upper limit of what all of them would give (see `_at_most`).
    """
    cells = len(flipped.gram_CC)
    if cells == 1:
        return np.ones(1)
    null_CB = _largest_gaps(_affordable(flipped), _weights(flipped.gram_CC).astype(np.float32))
    statistic_C = null_CB[:, 0]
    order = np.argsort(-statistic_C, kind="stable")
    largest_left = np.maximum.accumulate(null_CB[order][::-1], axis=0)[::-1]
    exceed = (largest_left >= statistic_C[order, None] - TOLERANCE).sum(axis=1)
    flips = null_CB.shape[1]
    adjusted = np.empty(cells)
    adjusted[order] = np.maximum.accumulate(exceed / flips if flipped.every else _at_most(exceed, flips))
    return adjusted


def _affordable(flipped: Flipped) -> np.ndarray:
    """The first flips, as many as PAIRS allows, [C, B].

    Of all flips there are, the first 2^k are those of k images, a group of their own: p stays exact.
    """
    cells, flips = flipped.score_CB.shape
    count = min(flips, max(FEWEST, int(PAIRS / cells**2)))
    return flipped.score_CB[:, : 2 ** int(math.log2(count)) if flipped.every else count]


def _at_most(exceed: np.ndarray, flips: int) -> Floats:
    """The largest p with which so few of random flips exceeding is plausible: Clopper and Pearson's upper limit.

    Random flips estimate p, and near 5 % those of another seed could decide otherwise. This bounds that risk (Gandy
    2009, JASA 104:1504-1511) in favour of the cell. One of `exceed` and of `flips` is the flip that is none: it is not
    random, and without it no level would hold (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9, article 39).
    """
    from scipy.special import betaincinv  # here, as in intervals.py: loading it takes time that most commands can spare

    return np.where(exceed < flips, betaincinv(exceed, np.maximum(flips - exceed, 1), SURE), 1.0)


def _weights(gram_CC: Floats) -> Floats:
    """1 / √(Σ d²) of every pair, [C, C]; 0 for cells between which no image differs."""
    own = np.diag(gram_CC)
    squares = own[:, None] + own - 2 * gram_CC
    differ = squares > 1e-9 * (own.max() or 1)
    return np.divide(1, np.sqrt(np.maximum(squares, 0)), out=np.zeros_like(squares), where=differ)


def _largest_gaps(score_CB: np.ndarray, weight_CC: np.ndarray) -> np.ndarray:
    """For each cell the largest of (others − its own) · weight, under each flip.

    gap(i, j) = −gap(j, i), so each pair is computed once. All flips go together: numpy's calls are long then, and two
    benchmarks can be computed side by side.
    """
    largest = np.full_like(score_CB, -np.inf)
    lead, buffer = np.full_like(score_CB, np.inf), np.empty_like(score_CB)
    for i, own in enumerate(score_CB[:-1]):
        gaps = buffer[i + 1 :]
        np.subtract(score_CB[i + 1 :], own, out=gaps)
        gaps *= weight_CC[i, i + 1 :, None]
        gaps.max(axis=0, out=largest[i])
        np.minimum(lead[i + 1 :], gaps, out=lead[i + 1 :])
    return np.maximum(largest, -lead)
