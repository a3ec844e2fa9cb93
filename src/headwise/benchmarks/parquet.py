"""Parquet question files with embedded images, as on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from headwise.benchmarks.datasets import BATCH, digest_name, image_bytes
from headwise.errors import DataError


def parquet_rows(paths: Sequence[Path], columns: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Rows of the files one after another; `image` is the picture's name (`digest_name`), other numbers are text.

    Cached until the files change. DataError if one cannot be read or lacks a column.
    """
    try:
        states = tuple((path.stat().st_mtime_ns, path.stat().st_size) for path in paths)
    except OSError as error:
        raise DataError(f"cannot read {error.filename}: {error.strerror}") from error
    return _rows(tuple(paths), tuple(columns), states)


@lru_cache(maxsize=4)
def _rows(paths: tuple[Path, ...], columns: tuple[str, ...], _states: Any) -> tuple[dict[str, Any], ...]:
    rows = []
    for path in paths:
        for number, row in enumerate(_read(path, [*columns, "image"])):
            content = image_bytes(row.pop("image"), f"{path}, row {number}")
            plain = {name: str(value) if isinstance(value, int | float) else value for name, value in row.items()}
            rows.append(plain | {"image": digest_name(content)})
    return tuple(rows)


def parquet_pictures(paths: Sequence[Path]) -> Iterator[bytes]:
    """The picture of every row."""
    for path in paths:
        for number, row in enumerate(_read(path, ["image"])):
            yield image_bytes(row["image"], f"{path}, row {number}")


def _read(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        content = pq.ParquetFile(path)
        if missing := set(columns) - set(content.schema_arrow.names):
            raise DataError(f"{path}: lacks the column {', '.join(sorted(missing))}")
        for batch in content.iter_batches(BATCH, columns=columns):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from error
