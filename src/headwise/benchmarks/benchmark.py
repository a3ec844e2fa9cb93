"""The contract of a benchmark: where its files are, what its questions are, what an answer is worth.

A new benchmark is one file with one class and its name in the list of `headwise.benchmarks`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

from headwise.records import Answer, Failure, Key, Sample, Scorecard, Verdict

ScoreKind = Literal["mean", "mme", "mean_f1"]
"""How a headline comes from verdicts: mean of `correct` (%), MME's sum, mean F1 over categories (%)."""


class Benchmark(ABC):
    """One benchmark in the layout of the LLaVA evaluation bundle (`data_dir` is its playground/data/eval)."""

    name: ClassVar[str]
    title: ClassVar[str]
    kind: ClassVar[ScoreKind]
    version: ClassVar[str]
    """Changes whenever the same answers and labels can get other verdicts or figures; recorded with every score."""
    categories: ClassVar[tuple[str, ...]] = ()
    """The official categories that the headline is a mean or sum over; none where it is one over questions."""

    @abstractmethod
    def samples(self, data_dir: Path, limit: int | None = None) -> list[Sample]:
        """The questions in file order, `limit` of them spread over categories and images (`limits.evenly`).

        DataError where the file is missing or bad.
        """

    @abstractmethod
    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """Where the sample's image lies. DataError where its name would leave the image folder."""

    @abstractmethod
    def judge(
        self, data_dir: Path, samples: Sequence[Sample], answers: Mapping[Key, Answer | Failure]
    ) -> list[Verdict]:
        """One verdict a sample, in the order of `samples`; an absent key is a "missing" verdict."""

    @abstractmethod
    def summarise(self, verdicts: Sequence[Verdict]) -> Scorecard:
        """The official figures of these verdicts, over the answered questions."""
