"""Selection of questions under a limit: spread evenly over categories and images.

Official question files are sorted by category and image, so their first n questions would cover one category and
few images: POPE's mean of three F1 scores would be one F1, and a score over 60 questions would rest on ten images,
which are the resampling units.

The questions of a file are put into one fixed order, and a limit of n selects the first n:

- go round the categories in the order of the file and take one question of each in turn;
- within a category go round its images in the order of the file, one question of each in turn; every category
  begins at another image, so that categories share as few images as they can;
- of an image the questions are taken in turn too, and the i-th image begins with its i-th question: files word a
  yes-question first and a no-question second, and the first ones alone would all have the same label.

So the selection of a limit is a subset of that of every larger one; the counts of two categories, and of two images
of a category, differ by at most one as long as both have questions left. The selected questions stay in file order.
The selection is deterministic and independent of labels.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from itertools import chain, zip_longest

from headwise.records import Sample

# Indices of questions that are selected together.
Unit = list[int]


def evenly(
    samples: Sequence[Sample], limit: int | None, unit_of: Callable[[Sample], Hashable] = lambda sample: sample.key
) -> list[Sample]:
    """At most `limit` of the samples (all of them for None), spread as described above, in file order.

    `unit_of`: questions that a category asks of an image and that have the same unit are taken together or not at all,
    for scores over pairs (MME) or rotations (MMBench). A limit that ends inside a unit takes fewer questions then; one
    unit is always taken.
    """
    if limit is None or limit >= len(samples):
        return list(samples)
    taken: list[int] = []
    for unit in _order(samples, unit_of):
        if taken and len(taken) + len(unit) > limit:
            break
        taken += unit
    return [samples[place] for place in sorted(taken)]


def _order(samples: Sequence[Sample], unit_of: Callable[[Sample], Hashable]) -> list[Unit]:
    """All units in the order in which limits take them."""
    categories: dict[str, dict[str, dict[Hashable, Unit]]] = {}
    for place, sample in enumerate(samples):
        units = categories.setdefault(sample.category, {}).setdefault(sample.image, {})
        units.setdefault(unit_of(sample), []).append(place)
    count = len(categories)
    turns = [
        _turns([list(units.values()) for units in images.values()], number, count)
        for number, images in enumerate(categories.values())
    ]
    rounds = zip_longest(*turns)
    return [unit for unit in chain.from_iterable(rounds) if unit is not None]


def _turns(images: list[list[Unit]], number: int, count: int) -> list[Unit]:
    """A category's units, image by image in turn; the category `number` of `count` begins that far into its images."""
    start = number * len(images) // count
    ring = images[start:] + images[:start]
    longest = max(map(len, ring))
    return [
        units[(place + turn) % len(units)]
        for turn in range(longest)
        for place, units in enumerate(ring)
        if turn < len(units)
    ]
