"""Verdict files of one benchmark's cells → one matrix, aligned question by question (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from headwise.benchmarks import Benchmark
from headwise.errors import DataError
from headwise.stats.outcomes import Aggregate

VERDICTS = "verdicts.parquet"
KEY = ["category", "question_id"]
QUESTION = ["question_id", "image", "category", "truth"]


@dataclass(frozen=True, kw_only=True)
class VerdictMatrix:
    """What every cell of a benchmark got right, question by question: C cells, Q questions.

    Row c belongs to `run_ids[c]`, in the order of `Comparison.cells`; column q to row q of `questions`
    (question_id, image, category, truth; question file order). Columns are the questions that some cell was
    asked; the right answer to each is the same for all. `correct_CQ` (float32) is the question's accuracy in
    0..1, NaN where the cell failed to answer or was not asked. `prediction_CQ` (int32) indexes `predictions`, the text
    that was compared, and is -1 where there is no answer. `image_Q` and `category_Q` (int32) number the
    images (the clusters of a resampling) and index `categories`. `aggregate` says how a headline score comes
    from verdicts, in the unit `unit`.
    """

    benchmark: str
    aggregate: Aggregate
    unit: str
    run_ids: list[str]
    correct_CQ: np.ndarray
    prediction_CQ: np.ndarray
    predictions: list[str]
    questions: pd.DataFrame
    image_Q: np.ndarray
    category_Q: np.ndarray
    categories: list[str]

    @property
    def truth_Q(self) -> np.ndarray:
        """The right answers as strings (one per question)."""
        return self.questions["truth"].to_numpy()


@dataclass(frozen=True)
class _Column:
    """One cell's verdicts; `keys` (questions and their right answers) is one shared object where cells share them."""

    run_id: str
    keys: pa.Table
    correct: np.ndarray
    prediction: pa.DictionaryArray


def read_matrix(benchmark: Benchmark, files: Mapping[str, Path]) -> VerdictMatrix:
    """Read `files` (run_id → verdicts.parquet).

    DataError where one is unreadable, where a cell has no question in common with the others, or where two cells
    have different right answers to one question.
    """
    columns = _columns(files)
    rows, questions = _aligned(benchmark.name, columns, files)
    vocabulary: dict[str, int] = {}
    image_Q, _ = pd.factorize(questions["image"])
    category_Q, categories = pd.factorize(questions["category"])
    return VerdictMatrix(
        benchmark=benchmark.name,
        aggregate=benchmark.aggregate,
        unit=benchmark.unit,
        run_ids=list(files),
        correct_CQ=np.stack([_taken(c.correct, rows[id(c.keys)], np.float32(np.nan)) for c in columns]),
        prediction_CQ=np.stack([_taken(_codes(c, vocabulary), rows[id(c.keys)], np.int32(-1)) for c in columns]),
        predictions=list(vocabulary),
        questions=questions,
        image_Q=image_Q.astype(np.int32),
        category_Q=category_Q.astype(np.int32),
        categories=[str(name) for name in categories],
    )


def _aligned(
    benchmark: str, columns: Sequence[_Column], files: Mapping[str, Path]
) -> tuple[dict[int, np.ndarray], pd.DataFrame]:
    """For each distinct set of questions (by id of its table) its row of every question, −1 where it lacks one.

    The second are all questions: those of the cell that was asked the most, then what only others were asked.
    """
    distinct = {id(column.keys): column for column in columns}
    asked = {table: _unique(column.keys) for table, column in distinct.items()}
    order = sorted(distinct, key=lambda table: -len(asked[table]))
    everything = asked[order[0]]
    found = [_read(files[distinct[order[0]].run_id], QUESTION).to_pandas().astype(str)]
    truths = found[0]["truth"].to_numpy()
    for table in order[1:]:
        place = everything.get_indexer(asked[table])
        if (place < 0).all():
            raise DataError(f"{benchmark}: the {len(files)} cells have no question in common, nothing to compare")
        own = _read(files[distinct[table].run_id], QUESTION).to_pandas().astype(str)
        differ = np.flatnonzero((place >= 0) & (truths[place] != own["truth"].to_numpy()))
        if len(differ):
            first, second = distinct[order[0]].run_id, distinct[table].run_id
            raise DataError(_two_keys(benchmark, (first, second), own, truths[place], differ))
        everything = everything.append(asked[table][place < 0])
        found.append(own[place < 0])
        truths = np.concatenate([truths, own["truth"].to_numpy()[place < 0]])
    return {table: asked[table].get_indexer(everything) for table in order}, pd.concat(found, ignore_index=True)


def _two_keys(benchmark: str, runs: tuple[str, str], own: pd.DataFrame, others: np.ndarray, differ: np.ndarray) -> str:
    row = own.iloc[differ[0]]
    return (
        f"{benchmark}: runs {runs[0]} and {runs[1]} were scored by different right answers to {len(differ)} questions "
        f"(question {row['question_id']}: {others[differ[0]]!r} and {row['truth']!r}); score both anew by the same: "
        f"`headwise score --run {runs[0]} --run {runs[1]}`"
    )


def _taken(values_Q: np.ndarray, rows_Q: np.ndarray, lacking: np.generic) -> np.ndarray:
    """The values at these rows, `lacking` where the row is −1."""
    taken = values_Q[rows_Q]
    taken[rows_Q < 0] = lacking
    return taken


def _column(run_id: str, path: Path) -> _Column:
    table = _read(path, [*KEY, "truth", "correct", "prediction"])
    correct = table["correct"].to_numpy().astype(np.float32)
    return _Column(run_id, table.select([*KEY, "truth"]), correct, _encoded(table["prediction"]))


def _read(path: Path, names: list[str]) -> pa.Table:
    try:
        return pq.ParquetFile(path, pre_buffer=False).read(columns=names, use_threads=False).select(names)
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot read the verdicts {path}: {reason}; score the run again") from error


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    whole = column.combine_chunks()
    return whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()


def _columns(files: Mapping[str, Path]) -> list[_Column]:
    """One column per file, equal keys as one object: most studies have just one, and of thousands only it is kept."""
    distinct: list[pa.Table] = []
    columns = []
    for run_id, path in files.items():
        column = _column(run_id, path)
        same = next((table for table in distinct if table.equals(column.keys)), None)
        if same is None:
            distinct.append(same := column.keys)
        columns.append(replace(column, keys=same))
    return columns


def _unique(keys: pa.Table) -> pd.MultiIndex:
    """Unique keys: MME gives both questions of an image one id, so the occurrence within it counts."""
    frame = keys.select(KEY).to_pandas()
    nth = frame.groupby(KEY, sort=False, observed=True).cumcount()
    return pd.MultiIndex.from_arrays([frame["category"].astype(str), frame["question_id"].astype(str), nth])


def _codes(column: _Column, vocabulary: dict[str, int]) -> np.ndarray:
    """Codes of the predictions in the `vocabulary` shared by all cells, which grows by their new words."""
    words = column.prediction.dictionary.to_pylist()
    code_of_word = np.array([vocabulary.setdefault(word, len(vocabulary)) for word in words], np.int32)
    return np.where(np.isnan(column.correct), np.int32(-1), code_of_word[column.prediction.indices.to_numpy()])
