"""Record types shared by all stages (samples, answers, verdicts, scorecards) and their JSON Lines form.

A failure, an unparsed answer and a wrong answer are distinct types, so that no stage can turn one
into another.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from headwise.errors import DataError
from headwise.system.reading import parse_json, read_lines
from headwise.system.wording import counted

log = logging.getLogger(__name__)
SHOWN = 3

# Identity of a question within its benchmark: question_id and prompt (MME shares ids within an image).
Key = tuple[str, str]

Status = Literal["ok", "unparsed", "failed", "missing"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One question of a benchmark about one image.

    `image` is the image's path below the benchmark's image folder, `prompt` the question as the
    official question file words it (instruction line included).
    """

    benchmark: str
    question_id: str
    image: str
    prompt: str
    category: str = ""

    @property
    def key(self) -> Key:
        """What an answer is matched by: id and prompt, because an official id may stand for several questions."""
        return self.question_id, self.prompt

    @property
    def sample_id(self) -> str:
        """A stable identifier, unique over all benchmarks; it seeds the random controls."""
        return f"{self.benchmark}/{self.question_id}/{self.prompt}"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The model's answer to one question, as raw text."""

    question_id: str
    prompt: str
    text: str

    @property
    def key(self) -> Key:
        """What the answer is matched to its sample by: id and prompt."""
        return self.question_id, self.prompt


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A question without an answer, and the reason. It is counted, never scored."""

    question_id: str
    prompt: str
    error: str

    @property
    def key(self) -> Key:
        """What the failure is matched to its sample by: id and prompt."""
        return self.question_id, self.prompt


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The scorer's result for one question.

    `correct` is the question's accuracy between 0 and 1, and None exactly where `status` is "failed"
    or "missing". `image` is the cluster for resampling. `prediction` and `truth` are what was compared.
    """

    question_id: str
    image: str
    category: str
    status: Status
    correct: float | None
    prediction: str = ""
    truth: str = ""


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """The official scores of one benchmark under one configuration.

    `score` is the headline (semantics: percent, or MME's sum) over the answered questions and None
    if none was answered; `metrics` are the sub-scores under `category/…` names.
    """

    benchmark: str
    score: float | None
    samples: int
    failed: int
    missing: int
    unparsed: int
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether there are samples and every one of them has an answer."""
        return self.failed == 0 and self.missing == 0 and self.samples > 0

    def as_metrics(self) -> dict[str, float]:
        """Everything as flat numbers, `score` first (left out where nothing was answered).

        Names are valid in MLflow, which allows no "&", "+" or brackets.
        """
        head = {} if self.score is None else {"score": self.score}
        counts = {"samples": self.samples, "failed": self.failed, "missing": self.missing, "unparsed": self.unparsed}
        return (
            head
            | {name: float(value) for name, value in counts.items()}
            | {_logged_name(name): value for name, value in self.metrics.items()}
        )


def _logged_name(name: str) -> str:
    return re.sub(r"[^\w\-./ ]", "_", name.replace("&", "and").replace("+", "plus"), flags=re.ASCII)


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; DataError names the file and line that is not one."""
    for number, line in enumerate(read_lines(path), 1):
        if line.strip():
            row = parse_json(line, f"{path}, line {number}")
            if not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: expected a JSON object, found {type(row).__name__}")
            yield row


def write_jsonl(path: Path, rows: Iterable[Any]) -> None:
    """Write flat dataclasses or dicts, one JSON object per line, keys in field order."""
    with open(path, "w", encoding="utf-8") as out:
        for row in rows:
            plain = row if isinstance(row, dict) else vars(row)
            out.write(json.dumps(plain, ensure_ascii=False) + "\n")


def read_answers(path: Path, report: Callable[[str], None] = log.warning) -> list[Answer | Failure]:
    """Read answers in the LLaVA form (question_id, prompt, text) and failures (error in place of text).

    A row whose text is null, a number or an object is malformed: it is left out, its question counts as missing,
    and `report` is called with one line that names such rows. DataError for a row that lacks a field.
    """
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        if "question_id" not in row or "prompt" not in row or not ("text" in row or "error" in row):
            raise DataError(f"{path}, answer {number}: needs question_id, prompt and text, has {sorted(row)}")
        rows.append(row)
    return [_record(row) for row in well_formed(rows, path, report)]


def well_formed(
    rows: Iterable[dict[str, Any]], path: Path, report: Callable[[str], None] = log.warning
) -> list[dict[str, Any]]:
    """The well-formed rows (answers and failures); `report` is called with one line that names the others."""
    good, malformed = [], []
    for number, row in enumerate(rows, 1):
        if reason := _malformed(row):
            malformed.append(f"answer {number} ({reason})")
        else:
            good.append(row)
    if malformed:
        shown = ", ".join(malformed[:SHOWN]) + (", …" if len(malformed) > SHOWN else "")
        count = counted(len(malformed), "malformed answer counts", "malformed answers count")
        report(f"{path}: {count} as missing: {shown}")
    return good


def _malformed(row: Mapping[str, Any]) -> str:
    """Why the row is malformed; empty for a well-formed one."""
    if not is_id(row["question_id"]):
        return f"question_id is {json_kind(row['question_id'])}"
    said = "error" if isinstance(row.get("error"), str) and row.get("text") is None else "text"
    wrong = [name for name in ("prompt", said) if not isinstance(row.get(name), str)]
    return f"{wrong[0]} is {json_kind(row.get(wrong[0]))}" if wrong else ""


def _record(row: Mapping[str, Any]) -> Answer | Failure:
    common = {"question_id": str(row["question_id"]), "prompt": row["prompt"]}
    return Answer(**common, text=row["text"]) if row.get("text") is not None else Failure(**common, error=row["error"])


def is_id(value: Any) -> bool:
    """True for a valid question id in JSON: text or a whole number."""
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def json_kind(value: Any) -> str:
    """The JSON type of a value, for error messages."""
    kinds = {dict: "an object", list: "an array", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
