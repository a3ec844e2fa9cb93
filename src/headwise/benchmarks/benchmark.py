"""The benchmark contract: files, questions, answer rule, score.

A new benchmark is one file with one class in this package, or in another installed package that declares it as an
entry point in the group `headwise.benchmarks`. It is discovered; no other file changes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from headwise.benchmarks.boxes import Box
from headwise.benchmarks.limits import evenly
from headwise.errors import DataError
from headwise.records import Answer, Failure, Key, Sample, Scorecard, Verdict
from headwise.stats.aggregates import Mean
from headwise.stats.outcomes import Aggregate, NoScore, Outcomes
from headwise.study.versions import carried


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of questions, labels and images in the official files, and their source.

    A difference from `counted` numbers is an error in the folder. Numbers from a dataset's `card` or from the
    `literature` were not verified on the files: a difference from them is only reported.
    """

    questions: int
    labels: int
    images: int | None = None
    known_from: Literal["counted", "card", "literature"] = "counted"

    def as_dict(self) -> dict[str, int]:
        """The known counts by name."""
        known = {"questions": self.questions, "labels": self.labels, "images": self.images}
        return {name: count for name, count in known.items() if count is not None}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A defect of a benchmark folder and how to fix it."""

    what: str
    fix: str


class Benchmark(ABC):
    """One benchmark in the layout of the LLaVA evaluation bundle (`data_dir` is its playground/data/eval).

    Attributes:
        name: identifier (`pope`); variants with another rule have their own (`chartqa.lmms-v1`).
        title: name in tables.
        version: of the scorer; incremented when a rule or formula changes.
        rule: name of the answer rule.
        unit: of the score, as tables print it.
        aggregate: the score as an aggregate over clusters (images), for the scorer and the statistics alike.
        rank: sort key in tables and lists, smallest first.
        sets: the named sets it is part of (`llava`, `vlm`).
        home: folder below `data_dir`.
        question_file, image_folder: official paths below `data_dir`.
        official: counts of the official files; None if unknown.
        official_categories: questions per category, if known.
        categories: official categories that the score averages or sums over; empty if it is over questions.
        fixes: how to obtain correct `questions`, `labels` and `images`, for `headwise data check`.
        dataset: the Hugging Face dataset with the same content, if any.
        further_datasets: others with more splits of it; those at hand are read, too.
        least_new_tokens: lower bound of a study's max_new_tokens; shorter answers would be scored wrong.
        boxes: the answers are boxes in the image, which `in_pixels` gives.
        box_space: what the boxes of its answers are measured in: `padded` (fractions of the padded square), `image`
            (fractions of the image), `any` (fractions, thousandths or pixels), `resized` (pixels of the resized image).
        rules_by_space: the rule in place of this one for families that answer in another space.
        image_limits: limits of image size that the rule takes for granted.
        without_ocr: the benchmark that asks the same without OCR tokens in the prompt; empty if there is none.
        cluster, source, convention: for the documentation: the resampling unit, the source of the rule, and
            how published scores are computed if that differs.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int] = 1
    rule: ClassVar[str] = ""
    unit: ClassVar[str] = "%"
    aggregate: ClassVar[Aggregate] = Mean()
    rank: ClassVar[int] = 1000
    sets: ClassVar[frozenset[str]] = frozenset()
    home: ClassVar[str] = ""
    question_file: ClassVar[str] = ""
    image_folder: ClassVar[str] = ""
    official: ClassVar[Counts | None] = None
    official_categories: ClassVar[Mapping[str, int]] = {}
    categories: ClassVar[tuple[str, ...]] = ()
    fixes: ClassVar[Mapping[str, str]] = {}
    dataset: ClassVar[str | None] = None
    further_datasets: ClassVar[tuple[str, ...]] = ()
    least_new_tokens: ClassVar[int] = 1
    boxes: ClassVar[bool] = False
    box_space: ClassVar[str] = ""
    rules_by_space: ClassVar[Mapping[str, str]] = {}
    image_limits: ClassVar[Mapping[str, int]] = {}
    without_ocr: ClassVar[str] = ""
    cluster: ClassVar[str] = "image"
    source: ClassVar[str] = ""
    convention: ClassVar[str] = ""

    @property
    def scorer(self) -> str:
        """Name and version of the scorer: what a logged score was made by (`pope/1`; a plug-in's with its digest)."""
        return f"{self.name}/{carried(self.version, type(self))}"

    def samples(self, data_dir: Path, limit: int | None = None) -> list[Sample]:
        """The questions selected by `limited`, in file order. DataError if the file is missing or malformed."""
        with in_form(data_dir / self.question_file, self.title):
            samples = self.questions(data_dir)
        return self.limited(samples, limit)

    @abstractmethod
    def questions(self, data_dir: Path) -> list[Sample]:
        """All questions in file order. DataError if the file is missing or malformed."""

    def limited(self, samples: list[Sample], limit: int | None) -> list[Sample]:
        """At most `limit` questions, spread over categories and images."""
        return evenly(samples, limit, self.unit_of)

    def unit_of(self, sample: Sample) -> Hashable:
        """Questions of an image that have this in common are selected together or not at all."""
        return sample.key

    def not_asked(self, data_dir: Path) -> frozenset[str]:
        """Ids of questions in the official files that the score excludes; answers to them are ignored."""
        return frozenset()

    @abstractmethod
    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """Path of the sample's image. DataError if its name points outside the image folder."""

    @abstractmethod
    def judge(
        self, data_dir: Path, samples: Sequence[Sample], answers: Mapping[Key, Answer | Failure]
    ) -> list[Verdict]:
        """One verdict per sample, in the order of `samples`; an absent key is a "missing" verdict."""

    def in_pixels(self, said: str, width: int, height: int) -> Box | None:
        """The box in a verdict's `prediction` or `truth`, in pixels of the image, which has this size.

        It is the box that the rule compared, so that a report draws it where it was measured. None if there is none.
        """
        return None

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """The official sub-scores of these verdicts, over the answered questions, by their logged names."""
        return {}

    def summarise(self, verdicts: Sequence[Verdict]) -> Scorecard:
        """The scorecard of these verdicts, over the answered questions."""
        counts = {status: sum(v.status == status for v in verdicts) for status in ("failed", "missing", "unparsed")}
        score, metrics = observed_score(self.aggregate, verdicts), self.metrics(verdicts)
        return Scorecard(benchmark=self.name, score=score, samples=len(verdicts), metrics=metrics, **counts)

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Write this benchmark's official layout into `bundle` from its Hugging Face dataset's files in `folder`.

        DataError if the dataset lacks a column, or if the benchmark has no dataset.
        """
        raise DataError(f"{self.name}: cannot be read from a Hugging Face dataset; give its folder")

    def from_further_dataset(self, dataset: str, folder: Path, bundle: Path) -> None:
        """As `from_dataset`, for one of `further_datasets`."""
        raise DataError(f"{self.name}: cannot be read from {dataset}")

    def check_layout(self, data_dir: Path) -> list[Problem]:
        """Defects of the folder that counts do not reveal, such as files of another release."""
        return []


@contextmanager
def in_form(path: Path, title: str) -> Iterator[None]:
    """Raise DataError if a file's values have the wrong types (null, a number for a list, …)."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not in the form of {title} ({type(error).__name__}: {error})") from error


def observed_score(aggregate: Aggregate, verdicts: Sequence[Verdict]) -> float | None:
    """The score of one cell's verdicts; None if no answer could be scored."""
    if not any(verdict.correct is not None for verdict in verdicts):
        return None
    names = ("question_id", "image", "category", "truth")
    columns = {name: [getattr(verdict, name) for verdict in verdicts] for name in names}
    correct_Q = [np.nan if verdict.correct is None else verdict.correct for verdict in verdicts]
    try:
        outcomes = Outcomes.of(aggregate, np.array([correct_Q], dtype=float), columns)
        return float(aggregate.headline(outcomes).observed()[0])
    except NoScore:
        return None
