"""Shared code of the benchmarks: question files, answer keys, safe image paths, verdicts, counts."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from headwise.benchmarks.benchmark import Benchmark, in_form
from headwise.benchmarks.fields import id_of
from headwise.errors import DataError
from headwise.records import Answer, Failure, Key, Sample, Verdict, json_kind, read_jsonl
from headwise.system.reading import parse_json, read_text

INSTRUCTION = "Answer the question using a single word or phrase."


class Truth(NamedTuple):
    """Answer-key entry of one question: category, displayed truth, and the rule's input."""

    category: str
    text: str
    key: Any


class Grade(NamedTuple):
    """A rule's result for one answer; `parsed` is False if the text has nothing to compare."""

    prediction: str
    correct: float
    parsed: bool


def question_samples(path: Path, benchmark: str) -> list[Sample]:
    """Samples of a LLaVA question file (question_id, image, text, category)."""
    samples: list[Sample] = []
    for number, row in enumerate(read_jsonl(path), 1):
        missing = [name for name in ("question_id", "image", "text") if name not in row]
        if missing:
            raise DataError(f"{path}, question {number}: lacks {', '.join(missing)}")
        samples.append(_sample(row, benchmark, f"{path}, question {number}"))
    if not samples:
        raise DataError(f"{path}: holds no question")
    return samples


def _sample(row: Mapping[str, Any], benchmark: str, where: str) -> Sample:
    question_id = id_of(row, "question_id", where)
    texts = {"image": row["image"], "text": row["text"], "category": row.get("category", "")}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise DataError(f"{where}: {name} is {json_kind(value)}, not text")
    return Sample(
        benchmark=benchmark,
        question_id=question_id,
        image=texts["image"],
        prompt=texts["text"],
        category=texts["category"],
    )


def inside(folder: Path, name: str) -> Path:
    """`folder`/`name`, which must stay below `folder` (symbolic links inside it are followed)."""
    relative = Path(name)
    if not name or relative.is_absolute() or ".." in relative.parts or "\0" in name:
        raise DataError(f"image {name!r}: leaves the image folder {folder}")
    return folder / relative


def same_pictures(paths: Mapping[str, Path]) -> dict[str, str]:
    """Maps each image to the first one with the same content; a missing image maps to itself."""
    first: dict[str, str] = {}
    return {image: first.setdefault(_content(path) or image, image) for image, path in paths.items()}


def _content(path: Path) -> str:
    try:
        state = path.stat()
        return _digest(path, state.st_mtime_ns, state.st_size)
    except OSError:
        return ""


@lru_cache(maxsize=1 << 16)
def _digest(path: Path, _modified: int, _size: int) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def load_json(path: Path) -> Any:
    """Content of a JSON file, cached until the file changes."""
    try:
        stat = path.stat()
        return _load_json(path, stat.st_mtime_ns, stat.st_size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=8)
def _load_json(path: Path, _modified: int, _size: int) -> Any:
    return parse_json(read_text(path), f"{path}, perhaps cut short")


class KeyedBenchmark(Benchmark):
    """A benchmark with answer-key files in the bundle."""

    @abstractmethod
    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """Read the answer key; the returned function raises DataError for a question without an entry.

        DataError here if a key file is missing or malformed.
        """

    @abstractmethod
    def grade(self, text: str, key: Any) -> Grade:
        """The official rule: parse an answer's text and grade it (0 to 1) against `Truth.key`."""

    def judge(
        self, data_dir: Path, samples: Sequence[Sample], answers: Mapping[Key, Answer | Failure]
    ) -> list[Verdict]:
        """One verdict per sample; the rule is applied to the answered ones."""
        truth_of = self.checked_truths(data_dir, samples)
        cluster_of = self.clusters(data_dir, samples)
        return [
            _verdict(sample, answers.get(sample.key), truth_of(sample), self.grade, cluster_of.get(sample.image))
            for sample in samples
        ]

    def checked_truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """As `truths`; DataError also if the key file's values have the wrong types."""
        folder = data_dir / self.home
        with in_form(folder, self.title):
            truth_of = self.truths(data_dir, samples)

        def checked(sample: Sample) -> Truth:
            with in_form(folder, f"{self.title}, question {sample.question_id}"):
                return truth_of(sample)

        return checked

    def clusters(self, data_dir: Path, samples: Sequence[Sample]) -> Mapping[str, str]:
        """Maps an image name to its cluster, if a benchmark has the same picture under several names."""
        return {}


def _verdict(
    sample: Sample,
    answer: Answer | Failure | None,
    truth: Truth,
    grade: Callable[[str, Any], Grade],
    cluster: str | None = None,
) -> Verdict:
    image = cluster or sample.image
    if isinstance(answer, Answer):
        return graded(sample.question_id, image, truth, grade(answer.text, truth.key))
    return Verdict(
        question_id=sample.question_id,
        image=image,
        category=truth.category,
        status="missing" if answer is None else "failed",
        correct=None,
        truth=truth.text,
    )


def graded(question_id: str, image: str, truth: Truth, grade: Grade) -> Verdict:
    """The verdict of an answered question."""
    return Verdict(
        question_id=question_id,
        image=image,
        category=truth.category,
        status="ok" if grade.parsed else "unparsed",
        correct=grade.correct,
        prediction=grade.prediction,
        truth=truth.text,
    )


def answered(verdicts: Sequence[Verdict]) -> list[Verdict]:
    """The verdicts with a grade, without failed and missing questions."""
    return [verdict for verdict in verdicts if verdict.correct is not None]


def percent(verdicts: Sequence[Verdict]) -> float | None:
    """Mean of `correct` over the answered questions in percent; None if nothing was answered."""
    values = [verdict.correct for verdict in verdicts if verdict.correct is not None]
    return 100 * sum(values) / len(values) if values else None


def covered(official: Sequence[str], metrics: Iterable[str]) -> list[str]:
    """The official categories that have metrics `category/NAME/…`, in official order."""
    found = {name.split("/")[1] for name in metrics if name.startswith("category/")}
    return [name for name in official if name in found]


def coverage(official: Sequence[str], metrics: Iterable[str]) -> str:
    """`1 of 3 categories (random)` if a score covers some official categories; empty for all or none."""
    found = covered(official, metrics)
    if len(found) in (0, len(official)):
        return ""
    return f"{len(found)} of {len(official)} categories ({', '.join(found)})"
