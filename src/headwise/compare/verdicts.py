"""Verdict files of one benchmark's cells → one matrix, aligned question by question (no torch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
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
    (question_id, image, category, truth; question file order). Only questions that every cell was asked
    are columns, so that any two rows are paired. `correct_CQ` (float32) is the question's accuracy in
    0..1, NaN where the cell failed to answer. `prediction_CQ` (int32) indexes `predictions`, the text
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
        """The right answers as strings (one a question)."""
        return self.questions["truth"].to_numpy()


@dataclass(frozen=True)
class _Column:
    """One cell's verdicts; `keys` is one shared object for cells that were asked the same."""

    keys: pa.Table
    correct: np.ndarray
    prediction: pa.DictionaryArray


def read_matrix(benchmark: Benchmark, files: Mapping[str, Path]) -> VerdictMatrix:
    """Read `files` (run_id → verdicts.parquet). DataError where one is unreadable or none shares a question."""
    columns = _share_keys([_column(path) for path in files.values()])
    distinct = {id(column.keys): column.keys for column in columns}
    keys = {table: _unique(asked) for table, asked in distinct.items()}
    shared = reduce(lambda left, right: left[left.isin(right)], keys.values())
    if shared.empty:
        raise DataError(f"{benchmark.name}: the {len(files)} cells have no question in common, nothing to compare")
    rows = {table: index.get_indexer(shared) for table, index in keys.items()}
    vocabulary: dict[str, int] = {}
    everything = _read(next(iter(files.values())), QUESTION).to_pandas()
    questions = everything.iloc[rows[id(columns[0].keys)]].reset_index(drop=True)
    image_Q, _ = pd.factorize(questions["image"])
    category_Q, categories = pd.factorize(questions["category"])
    return VerdictMatrix(
        benchmark=benchmark.name,
        aggregate=benchmark.aggregate,
        unit=benchmark.unit,
        run_ids=list(files),
        correct_CQ=np.stack([c.correct[rows[id(c.keys)]] for c in columns]),
        prediction_CQ=np.stack([_codes(c, vocabulary)[rows[id(c.keys)]] for c in columns]),
        predictions=list(vocabulary),
        questions=questions,
        image_Q=image_Q.astype(np.int32),
        category_Q=category_Q.astype(np.int32),
        categories=[str(name) for name in categories],
    )


def _column(path: Path) -> _Column:
    table = _read(path, [*KEY, "correct", "prediction"])
    correct = table["correct"].to_numpy().astype(np.float32)
    return _Column(table.select(KEY), correct, _encoded(table["prediction"]))


def _read(path: Path, names: list[str]) -> pa.Table:
    try:
        return pq.ParquetFile(path, pre_buffer=False).read(columns=names, use_threads=False).select(names)
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"cannot read the verdicts {path}: {reason}; score the run again") from error


def _encoded(column: pa.ChunkedArray) -> pa.DictionaryArray:
    whole = column.combine_chunks()
    return whole if pa.types.is_dictionary(whole.type) else whole.dictionary_encode()


def _share_keys(columns: Sequence[_Column]) -> list[_Column]:
    """The same columns, equal keys replaced by one object: most studies have just one."""
    distinct: list[pa.Table] = []
    shared = []
    for column in columns:
        same = next((table for table in distinct if table.equals(column.keys)), None)
        if same is None:
            distinct.append(same := column.keys)
        shared.append(replace(column, keys=same))
    return shared


def _unique(keys: pa.Table) -> pd.MultiIndex:
    """Unique keys: MME gives both questions of an image one id, so the occurrence within it counts."""
    frame = keys.to_pandas()
    nth = frame.groupby(KEY, sort=False, observed=True).cumcount()
    return pd.MultiIndex.from_arrays([frame["category"].astype(str), frame["question_id"].astype(str), nth])


def _codes(column: _Column, vocabulary: dict[str, int]) -> np.ndarray:
    """Codes of the predictions in the `vocabulary` shared by all cells, which grows by their new words."""
    words = column.prediction.dictionary.to_pylist()
    code_of_word = np.array([vocabulary.setdefault(word, len(vocabulary)) for word in words], np.int32)
    return np.where(np.isnan(column.correct), np.int32(-1), code_of_word[column.prediction.indices.to_numpy()])
