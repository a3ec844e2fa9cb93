"""The contract of a benchmark: where its files are, what its questions are, what an answer is worth.

A new benchmark is one file with one class in this package, or in another installed package that names it as an
entry point of the group `headwise.benchmarks`. Nothing else has to be touched: `headwise.benchmarks` finds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from headwise.benchmarks.limits import evenly
from headwise.errors import DataError
from headwise.records import Answer, Failure, Key, Sample, Scorecard, Verdict
from headwise.stats.aggregates import Mean
from headwise.stats.outcomes import Aggregate, NoScore, Outcomes


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many questions, labels and images the official files hold, and how that is known.

    A difference from `counted` numbers is a mistake in the folder. Numbers from a dataset's `card` or from the
    `literature` were not seen in the files themselves: a difference from them is said, and no mistake.
    """

    questions: int
    labels: int
    images: int | None = None
    known_from: Literal["counted", "card", "literature"] = "counted"

    def as_dict(self) -> dict[str, int]:
        """The counts that are known, by what they count."""
        known = {"questions": self.questions, "labels": self.labels, "images": self.images}
        return {name: count for name, count in known.items() if count is not None}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is wrong in a folder of benchmarks, and what mends it."""

    what: str
    fix: str


class Benchmark(ABC):
    """One benchmark in the layout of the LLaVA evaluation bundle (`data_dir` is its playground/data/eval).

    Attributes:
        name: how it is asked for (`pope`); a rule beside the default one has its own (`chartqa.lmms-v1`).
        title: how tables call it.
        version: of the scorer; a changed rule or formula gets the next one.
        rule: name of the answer rule.
        unit: of the score, as tables print it.
        aggregate: the score as an aggregate over clusters (images), for the scorer and the statistics alike.
        rank: place in tables and lists, smallest first.
        sets: the named sets that hold it (`llava`, `vlm`).
        home: its folder below `data_dir`.
        question_file, image_folder: below `data_dir`, as the official layout has them.
        official: counts of the official files; None where nobody knows them.
        official_categories: how many of the questions each category has, where that is known.
        categories: the official ones that the headline is a mean or sum over; none where it is one over questions.
        whole_images: a limit takes all questions of an image or none, for scores over pairs.
        fixes: how to get `questions`, `labels` and `images` right, for `headwise data check`.
        dataset: the Hugging Face dataset with the same content; None where there is none.
        least_new_tokens: answers cut shorter than this would be scored wrong, so a study must allow as many.
        without_ocr: the benchmark that asks the same without OCR tokens in the prompt; empty where there is none.
        cluster, source, convention: for the documentation; what a cluster is, whose rule it is, and how figures
            in papers are made where that differs.
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
    whole_images: ClassVar[bool] = False
    fixes: ClassVar[Mapping[str, str]] = {}
    dataset: ClassVar[str | None] = None
    least_new_tokens: ClassVar[int] = 1
    without_ocr: ClassVar[str] = ""
    cluster: ClassVar[str] = "image"
    source: ClassVar[str] = ""
    convention: ClassVar[str] = ""

    @property
    def scorer(self) -> str:
        """Name and version of the scorer: what a logged score was made by (`pope/1`)."""
        return f"{self.name}/{self.version}"

    def samples(self, data_dir: Path, limit: int | None = None) -> list[Sample]:
        """The questions in file order, as `limited` takes them. DataError where the file is missing or bad."""
        with in_form(data_dir / self.question_file, self.title):
            samples = self.questions(data_dir)
        return self.limited(samples, limit)

    @abstractmethod
    def questions(self, data_dir: Path) -> list[Sample]:
        """All questions in file order. DataError where the file is missing or bad."""

    def limited(self, samples: list[Sample], limit: int | None) -> list[Sample]:
        """The questions that a study of `limit` questions asks, spread over categories and images."""
        return evenly(samples, limit, whole_images=self.whole_images)

    def not_asked(self, data_dir: Path) -> frozenset[str]:
        """Ids of questions in the official files that are no part of the score: answers to them are set aside."""
        return frozenset()

    @abstractmethod
    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """Where the sample's image lies. DataError where its name would leave the image folder."""

    @abstractmethod
    def judge(
        self, data_dir: Path, samples: Sequence[Sample], answers: Mapping[Key, Answer | Failure]
    ) -> list[Verdict]:
        """One verdict per sample, in the order of `samples`; an absent key is a "missing" verdict."""

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """The official sub-scores of these verdicts, over the answered questions, by their logged names."""
        return {}

    def summarise(self, verdicts: Sequence[Verdict]) -> Scorecard:
        """The official figures of these verdicts, over the answered questions."""
        counts = {status: sum(v.status == status for v in verdicts) for status in ("failed", "missing", "unparsed")}
        score, metrics = headline(self.aggregate, verdicts), self.metrics(verdicts)
        return Scorecard(benchmark=self.name, score=score, samples=len(verdicts), metrics=metrics, **counts)

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Write this benchmark's official layout into `bundle` from its Hugging Face dataset's files in `folder`.

        DataError where the dataset lacks a column, or where it has no such form.
        """
        raise DataError(f"{self.name}: there is no Hugging Face dataset that it is read from; give its folder")

    def check_layout(self, data_dir: Path) -> list[Problem]:
        """Mistakes in the folder that counts alone would not tell, such as files of another release."""
        return []


@contextmanager
def in_form(path: Path, title: str) -> Iterator[None]:
    """DataError where a file's values are of other types than the benchmark's (null, a number for a list, …)."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: is not in the form of {title} ({type(error).__name__}: {error})") from error


def headline(aggregate: Aggregate, verdicts: Sequence[Verdict]) -> float | None:
    """The score of one cell's verdicts; None where nothing was answered that could be scored."""
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
