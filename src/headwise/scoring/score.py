"""Scoring of answers: verdicts, scorecards, verdict files. No torch, no MLflow."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwise.benchmarks import benchmark, mme
from headwise.benchmarks.files import KeyedBenchmark, coverage
from headwise.errors import DataError
from headwise.records import (
    Answer,
    Failure,
    Key,
    Sample,
    Scorecard,
    Verdict,
    read_answers,
    read_jsonl,
    well_formed,
    write_jsonl,
)
from headwise.system.wording import counted

ANSWERS = "answers.jsonl"
VERDICTS_JSONL = "verdicts.jsonl"
VERDICTS_PARQUET = "verdicts.parquet"
# Tolerance of a comparison with the official script: half its last printed digit.
PRINTED_TO = {"textvqa": 0.0051, "gqa": 0.0051, "pope": 1e-6, "mme": 1e-6}
# Tags of every cell run: the answer key and the scorer version behind its verdicts.
LABELS_TAG, SCORER_TAG = "headwise.labels_digest", "headwise.scorer"
SHOWN = 3
log = logging.getLogger(__name__)


def score_answers(
    benchmark_name: str, data_dir: Path, answers_path: Path, limit: int | None = None
) -> tuple[Scorecard, list[Verdict]]:
    """Score an answer file (JSON Lines: question_id, prompt, text) on the questions selected by `limit`.

    Answers to the benchmark's other questions are ignored. Raises ConfigError for an unknown benchmark and
    DataError for missing or malformed files, answers to unknown questions, and duplicate answers.
    """
    benchmark(benchmark_name)
    return score_records(benchmark_name, data_dir, read_answers(answers_path), limit, source=str(answers_path))


def score_records(
    benchmark_name: str,
    data_dir: Path,
    records: Sequence[Answer | Failure],
    limit: int | None = None,
    *,
    source: str = "answers",
) -> tuple[Scorecard, list[Verdict]]:
    """As `score_answers`, for records in memory; `source` names them in errors."""
    bench = benchmark(benchmark_name)
    everything = bench.samples(data_dir)
    answers = by_question(everything, _asked(bench.not_asked(data_dir), records, source), source)
    samples = bench.limited(everything, limit)
    rounds = _occurrences(sample.key for sample in samples)
    verdicts: list[Verdict | None] = [None] * len(samples)
    for nth in range(max(rounds, default=0) + 1):
        places = [place for place, occurrence in enumerate(rounds) if occurrence == nth]
        given = {key: answer for (key, occurrence), answer in answers.items() if occurrence == nth}
        judged = bench.judge(data_dir, [samples[place] for place in places], given)
        for place, verdict in zip(places, judged, strict=True):
            verdicts[place] = verdict
    whole = [verdict for verdict in verdicts if verdict is not None]
    return bench.summarise(whole), whole


def _asked(not_asked: frozenset[str], records: Sequence[Answer | Failure], source: str) -> Sequence[Answer | Failure]:
    """The answers without those to questions that the official score excludes (questions without an image)."""
    kept = [record for record in records if record.question_id not in not_asked]
    if len(kept) < len(records):
        log.warning("%s: ignored %s outside the score", source, counted(len(records) - len(kept), "answer", "answers"))
    return kept


def score_labelled(benchmark_name: str, answers_path: Path) -> tuple[Scorecard, list[Verdict]]:
    """Score answers with a `label` beside the text, as MME's official tool writes them.

    DataError for benchmarks other than MME, and for rows without text or label.
    """
    if benchmark_name != mme.MME.name:
        raise DataError(f"{answers_path}: answers to {benchmark_name} have no labels; give --data-dir")
    rows = list(read_jsonl(answers_path))
    for number, row in enumerate(rows, 1):
        if not {"question_id", "prompt", "text", "label"} <= row.keys():
            raise DataError(f"{answers_path}, answer {number}: needs question_id, prompt, text and label")
        if row["label"] not in mme.LABELS:
            raise DataError(f"{answers_path}, answer {number}: label {row['label']!r} is not yes or no")
    said = [row for row in well_formed(rows, answers_path) if row["text"] is not None]
    named = [row | {"question_id": str(row["question_id"])} for row in said]
    return score_labelled_rows(named, str(answers_path))


def score_labelled_rows(rows: Sequence[Mapping[str, str]], source: str) -> tuple[Scorecard, list[Verdict]]:
    """As `score_labelled`, for rows in memory. Official MME questions without a row count as missing."""
    keys = [(row["question_id"], row["prompt"]) for row in rows]
    repeated = [key[0] for key, before in zip(keys, _occurrences(keys), strict=True) if before]
    _refuse(repeated, source, "already answered")
    verdicts = mme.judge_labelled(rows)
    answered = Counter(verdict.category for verdict in verdicts)
    missing = sum(max(0, asked - answered[category]) for category, asked in mme.QUESTIONS.items())
    return replace(benchmark(mme.MME.name).summarise(verdicts), missing=missing), verdicts


def labels_digest(truths: Iterable[tuple[str, str, str]]) -> str:
    """Digest of an answer key: `truths` are question_id, prompt and the full key entry of each question."""
    content = json.dumps(sorted(truths), ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def key_tags(benchmark_name: str, data_dir: Path, limit: int | None = None) -> dict[str, str]:
    """Tags of verdicts on the questions selected by `limit`: digest of the labels, and the scorer's version.

    DataError if a label is missing or malformed.
    """
    bench = benchmark(benchmark_name)
    assert isinstance(bench, KeyedBenchmark)
    samples = bench.samples(data_dir, limit)
    truth_of = bench.truths(data_dir, samples)
    named = [(sample.question_id, sample.prompt, truth_of(sample)) for sample in samples]
    return _tags(benchmark_name, [(name, prompt, truth.category, truth.key) for name, prompt, truth in named])


def labelled_key_tags(rows: Sequence[Mapping[str, str]], card: Scorecard) -> dict[str, str]:
    """As `key_tags`, for labelled MME answers; without the digest if answers (and so labels) are missing."""
    truths = [(row["question_id"], row["prompt"], mme.category_of(row["question_id"]), row["label"]) for row in rows]
    tags = _tags(card.benchmark, truths)
    return tags if card.complete else {SCORER_TAG: tags[SCORER_TAG]}


def _tags(benchmark_name: str, truths: Iterable[tuple[str, str, str, Any]]) -> dict[str, str]:
    """Covers the full key (category and the rule's input, such as TextVQA's ten answers), not the displayed truth."""
    rows = [
        (*_identity(benchmark_name, question_id, prompt), json.dumps([category, key], ensure_ascii=False))
        for question_id, prompt, category, key in truths
    ]
    return {LABELS_TAG: labels_digest(rows), SCORER_TAG: benchmark(benchmark_name).scorer}


def _identity(benchmark_name: str, question_id: str, prompt: str) -> Key:
    """Identity of a question; normalised for MME, whose tables name images and questions differently."""
    if benchmark_name != mme.MME.name:
        return question_id, prompt
    category, image, text = mme.question_of(question_id, prompt)
    return f"{category}/{image}", text


def by_question(
    samples: Sequence[Sample], records: Sequence[Answer | Failure], source: str
) -> dict[tuple[Key, int], Answer | Failure]:
    """Match answers to questions; DataError for unknown questions and duplicate answers.

    An answer is matched by question_id and prompt. If the prompt differs, it is matched by question_id alone,
    provided the id is unique (GQA's and POPE's official scorers use nothing else), with a warning. If a benchmark
    repeats a question, the n-th answer (from 0) belongs to its n-th occurrence.
    """
    asked = Counter(sample.key for sample in samples)
    owners = _owners(samples)
    keys = [record.key if record.key in asked else owners.get(record.question_id) for record in records]
    unknown = [record.question_id for record, key in zip(records, keys, strict=True) if key is None]
    _refuse(unknown, source, "not in the benchmark")
    found: dict[tuple[Key, int], Answer | Failure] = {}
    for record, key, nth in zip(records, keys, _occurrences(keys), strict=True):
        assert key is not None
        found[key, nth] = replace(record, prompt=key[1])
    _refuse([key[0] for key, nth in found if nth >= asked[key]], source, "already answered")
    if reworded := sum(key != record.key for record, key in zip(records, keys, strict=True)):
        answers = counted(reworded, "answer", "answers")
        log.warning("%s: matched %s by question_id, since the prompt differs", source, answers)
    return found


def _occurrences(keys: Iterable[Key | None]) -> list[int]:
    """For each key, the number of earlier occurrences."""
    seen: Counter[Key | None] = Counter()
    before = []
    for key in keys:
        before.append(seen[key])
        seen[key] += 1
    return before


def _owners(samples: Sequence[Sample]) -> dict[str, Key]:
    """The question of each id that is unique."""
    ids = Counter(sample.question_id for sample in samples)
    return {sample.question_id: sample.key for sample in samples if ids[sample.question_id] == 1}


def _refuse(question_ids: Sequence[str], source: str, why: str) -> None:
    if question_ids:
        shown = ", ".join(question_ids[:SHOWN]) + (", …" if len(question_ids) > SHOWN else "")
        answers = counted(len(question_ids), "answer is to a question", "answers are to questions")
        raise DataError(f"{source}: {answers} {why} ({shown})")


def agrees(benchmark_name: str, score: float | None, printed: float) -> bool:
    """Whether a score equals the one printed by the official script, up to rounding."""
    return score is not None and abs(score - printed) <= PRINTED_TO[benchmark_name]


def as_record(card: Scorecard) -> dict[str, object]:
    """A scorecard as one flat JSON object: headline score and counts first, then the sub-metrics."""
    head: dict[str, object] = {"benchmark": card.benchmark, "score": card.score, "complete": card.complete}
    if partial := coverage(benchmark(card.benchmark).categories, card.metrics):
        head["score_of"] = partial
    counts = {name: getattr(card, name) for name in ("samples", "failed", "missing", "unparsed")}
    return head | counts | card.metrics


def write_verdicts(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Write `verdicts.jsonl` (for reading) and `verdicts.parquet` (for computing) into `folder`.

    Columns: question_id, image, category, status, prediction, truth (dictionary-encoded strings) and
    correct (float32, null if the question failed or is missing). Each file is written atomically.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / f".{VERDICTS_JSONL}.part"
    write_jsonl(rows, verdicts)
    os.replace(rows, folder / VERDICTS_JSONL)
    columns = folder / f".{VERDICTS_PARQUET}.part"
    pq.write_table(verdict_table(verdicts), columns)
    os.replace(columns, folder / VERDICTS_PARQUET)


def verdict_table(verdicts: Sequence[Verdict]) -> pa.Table:
    """Verdicts as an Arrow table, one column per field."""
    columns = {}
    for field in fields(Verdict):
        values = [getattr(verdict, field.name) for verdict in verdicts]
        number = field.name == "correct"
        column = pa.array(values, pa.float32() if number else pa.string())
        columns[field.name] = column if number else column.dictionary_encode()
    return pa.table(columns)


def read_verdicts(path: Path) -> list[Verdict]:
    """Read a verdict file (.jsonl or .parquet); DataError if it is unreadable or lacks a column."""
    rows = _parquet_rows(path) if path.suffix == ".parquet" else list(read_jsonl(path))
    names = {field.name for field in fields(Verdict)}
    for number, row in enumerate(rows, 1):
        if names - row.keys():
            raise DataError(f"{path}, verdict {number}: lacks {', '.join(sorted(names - row.keys()))}")
    return [Verdict(**{name: row[name] for name in names}) for row in rows]


def _parquet_rows(path: Path) -> list[dict[str, Any]]:
    try:
        return pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read the verdicts {path}: {str(error).splitlines()[0]}") from error
