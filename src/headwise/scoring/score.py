"""Answers → verdicts and scorecards, and verdicts as files. No torch, no MLflow."""

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
PRINTED_TO = {"textvqa": 0.0051, "gqa": 0.0051, "pope": 1e-6, "mme": 1e-6}
"""Half the last digit of the score that each official script prints."""
LABELS_TAG, SCORER_TAG = "headwise.labels_digest", "headwise.scorer"
"""Tags of every cell run: what its verdicts were made by."""
SHOWN = 3
log = logging.getLogger(__name__)


def score_answers(
    benchmark_name: str, data_dir: Path, answers_path: Path, limit: int | None = None
) -> tuple[Scorecard, list[Verdict]]:
    """Score an answer file (JSON Lines: question_id, prompt, text) against the `limit` questions a study asks.

    Answers to other questions are left aside. Raises ConfigError for an unknown benchmark and DataError for
    files that are missing or malformed, an answer to a question that the benchmark does not have, or two
    answers to one question.
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
    """As `score_answers`, for answers already read; `source` names them in errors."""
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
    """The answers but those to questions that the benchmark's files hold and its score leaves out (no image)."""
    kept = [record for record in records if record.question_id not in not_asked]
    if len(kept) < len(records):
        log.warning("%s: %d answers to questions outside the score were set aside", source, len(records) - len(kept))
    return kept


def score_labelled(benchmark_name: str, answers_path: Path) -> tuple[Scorecard, list[Verdict]]:
    """Score answers that carry their `label` beside the text, as MME's own tool writes them.

    DataError for another benchmark than MME, or where a row has no text or label.
    """
    if benchmark_name != mme.MME.name:
        raise DataError(f"{answers_path}: answers of {benchmark_name} carry no labels; give --data-dir")
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
    """As `score_labelled`, for rows already read. What the official MME asks and no row answers is missing."""
    keys = [(row["question_id"], row["prompt"]) for row in rows]
    repeated = [key[0] for key, before in zip(keys, _occurrences(keys), strict=True) if before]
    _refuse(repeated, source, ("was answered before", "were answered before"))
    verdicts = mme.judge_labelled(rows)
    answered = Counter(verdict.category for verdict in verdicts)
    missing = sum(max(0, asked - answered[category]) for category, asked in mme.QUESTIONS.items())
    return replace(benchmark(mme.MME.name).summarise(verdicts), missing=missing), verdicts


def labels_digest(truths: Iterable[tuple[str, str, str]]) -> str:
    """Digest of an answer key: `truths` are question_id, prompt and all that the key says of the question."""
    content = json.dumps(sorted(truths), ensure_ascii=False)
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def key_tags(benchmark_name: str, data_dir: Path, limit: int | None = None) -> dict[str, str]:
    """What verdicts on the first `limit` questions are made by: digest of the labels, and the scorer's version.

    DataError where a label is missing or malformed.
    """
    bench = benchmark(benchmark_name)
    assert isinstance(bench, KeyedBenchmark)
    samples = bench.samples(data_dir, limit)
    truth_of = bench.truths(data_dir, samples)
    named = [(sample.question_id, sample.prompt, truth_of(sample)) for sample in samples]
    return _tags(benchmark_name, [(name, prompt, truth.category, truth.key) for name, prompt, truth in named])


def labelled_key_tags(rows: Sequence[Mapping[str, str]], card: Scorecard) -> dict[str, str]:
    """As `key_tags`, for MME's answers that carry their label; without the digest where answers (so labels) lack."""
    truths = [(row["question_id"], row["prompt"], mme.category_of(row["question_id"]), row["label"]) for row in rows]
    tags = _tags(card.benchmark, truths)
    return tags if card.complete else {SCORER_TAG: tags[SCORER_TAG]}


def _tags(benchmark_name: str, truths: Iterable[tuple[str, str, str, Any]]) -> dict[str, str]:
    """The whole key is digested: category and rule's input (TextVQA's ten answers), not the text shown as truth."""
    rows = [
        (*_identity(benchmark_name, question_id, prompt), json.dumps([category, key], ensure_ascii=False))
        for question_id, prompt, category, key in truths
    ]
    return {LABELS_TAG: labels_digest(rows), SCORER_TAG: benchmark(benchmark_name).scorer}


def _identity(benchmark_name: str, question_id: str, prompt: str) -> Key:
    """The question's identity; MME's own tables name images and word questions a little otherwise."""
    if benchmark_name != mme.MME.name:
        return question_id, prompt
    category, image, text = mme.question_of(question_id, prompt)
    return f"{category}/{image}", text


def by_question(
    samples: Sequence[Sample], records: Sequence[Answer | Failure], source: str
) -> dict[tuple[Key, int], Answer | Failure]:
    """Answers by the question they belong to; DataError for unknown and for twice answered questions.

    An answer belongs to the question of its id and prompt. Where the prompt is worded otherwise the id
    decides if it names one question only (GQA's and POPE's official scorers look at nothing else), and the
    log says so. Where a benchmark asks the same twice, the n-th answer (from 0) belongs to the n-th asking.
    """
    asked = Counter(sample.key for sample in samples)
    owners = _owners(samples)
    keys = [record.key if record.key in asked else owners.get(record.question_id) for record in records]
    _refuse(
        [r.question_id for r, key in zip(records, keys, strict=True) if key is None],
        source,
        ("the benchmark lacks", "the benchmark lacks"),
    )
    found: dict[tuple[Key, int], Answer | Failure] = {}
    for record, key, nth in zip(records, keys, _occurrences(keys), strict=True):
        assert key is not None
        found[key, nth] = replace(record, prompt=key[1])
    _refuse(
        [key[0] for key, nth in found if nth >= asked[key]], source, ("was answered before", "were answered before")
    )
    if reworded := sum(key != record.key for record, key in zip(records, keys, strict=True)):
        answers = counted(reworded, "answer was", "answers were")
        log.warning("%s: %s to another wording of the question; matched by question_id", source, answers)
    return found


def _occurrences(keys: Iterable[Key | None]) -> list[int]:
    """How often each key occurred before."""
    seen: Counter[Key | None] = Counter()
    before = []
    for key in keys:
        before.append(seen[key])
        seen[key] += 1
    return before


def _owners(samples: Sequence[Sample]) -> dict[str, Key]:
    """The one question of an id, for ids that name one question only."""
    ids = Counter(sample.question_id for sample in samples)
    return {sample.question_id: sample.key for sample in samples if ids[sample.question_id] == 1}


def _refuse(question_ids: Sequence[str], source: str, why: tuple[str, str]) -> None:
    """DataError where there are such answers; `why` is said of one question, and of several."""
    if question_ids:
        shown = ", ".join(question_ids[:SHOWN]) + (", …" if len(question_ids) > SHOWN else "")
        answers = counted(len(question_ids), "answer is to a question that", "answers are to questions that")
        raise DataError(f"{source}: {answers} {why[len(question_ids) > 1]} ({shown})")


def agrees(benchmark_name: str, score: float | None, printed: float) -> bool:
    """Whether a score is the one that the official script printed."""
    return score is not None and abs(score - printed) <= PRINTED_TO[benchmark_name]


def as_record(card: Scorecard) -> dict[str, object]:
    """A scorecard as one flat JSON object: the headline and counts first, then the sub-metrics."""
    head: dict[str, object] = {"benchmark": card.benchmark, "score": card.score, "complete": card.complete}
    if partial := coverage(benchmark(card.benchmark).categories, card.metrics):
        head["score_of"] = partial
    counts = {name: getattr(card, name) for name in ("samples", "failed", "missing", "unparsed")}
    return head | counts | card.metrics


def write_verdicts(folder: Path, verdicts: Sequence[Verdict]) -> None:
    """Write `verdicts.jsonl` (to read) and `verdicts.parquet` (columns, to compute with) into `folder`.

    Columns: question_id, image, category, status, prediction, truth (dictionary-encoded strings) and
    correct (float32, null where the question failed or is missing). Each file appears whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rows = folder / f".{VERDICTS_JSONL}.part"
    write_jsonl(rows, verdicts)
    os.replace(rows, folder / VERDICTS_JSONL)
    columns = folder / f".{VERDICTS_PARQUET}.part"
    pq.write_table(verdict_table(verdicts), columns)
    os.replace(columns, folder / VERDICTS_PARQUET)


def verdict_table(verdicts: Sequence[Verdict]) -> pa.Table:
    """Verdicts as an Arrow table, one column a field."""
    columns = {}
    for field in fields(Verdict):
        values = [getattr(verdict, field.name) for verdict in verdicts]
        number = field.name == "correct"
        column = pa.array(values, pa.float32() if number else pa.string())
        columns[field.name] = column if number else column.dictionary_encode()
    return pa.table(columns)


def read_verdicts(path: Path) -> list[Verdict]:
    """Read either form of verdict file; DataError where it is unreadable or lacks a column."""
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
