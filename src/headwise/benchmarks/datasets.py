"""Reading a Hugging Face dataset's parquet files and writing a benchmark's official layout from them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from headwise.benchmarks.files import inside
from headwise.errors import DataError
from headwise.system.environment import expanded

BATCH = 64
Row = dict[str, Any]


def rows(folder: Path, part: str, columns: Sequence[str]) -> Iterator[Row]:
    """Rows of the parquet files of a split or configuration, a few at a time (images are in them).

    DataError if there is no such file, it cannot be read, or it lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = parts(folder, part)
    if not files:
        raise DataError(f"{folder}: no parquet file of {part}")
    for path in files:
        try:
            content = pq.ParquetFile(path)
            if missing := set(columns) - set(content.schema_arrow.names):
                raise DataError(f"{path}: lacks the column {', '.join(sorted(missing))}")
            for batch in content.iter_batches(BATCH, columns=list(columns)):
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def parts(folder: Path, part: str) -> list[Path]:
    """The parquet files of a split or configuration; empty if there are none."""
    return [path for path in sorted(folder.rglob("*.parquet")) if _belongs(path.relative_to(folder), part)]


def _belongs(path: Path, part: str) -> bool:
    """`test` has `data/test-00000-of-00003.parquet` and `default/test/0000.parquet`."""
    return path.name.startswith((f"{part}-", f"{part}.")) or part in path.parent.parts


def image_bytes(image: Any, name: str) -> bytes:
    """The bytes of an image column's value (bytes, or a struct with `bytes`); DataError if it has none."""
    content = image.get("bytes") if isinstance(image, dict) else image
    if not content:
        raise DataError(f"{name}: the dataset holds no bytes of this image")
    return bytes(content)


def save_image(folder: Path, name: str, image: Any) -> None:
    """Write an image column's value to `folder`/`name`, once."""
    path = inside(folder, name)
    if not path.exists():
        content = image_bytes(image, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def digest_name(content: bytes) -> str:
    """A content-based file name: identical images share one file and form one cluster."""
    return f"{hashlib.sha256(content).hexdigest()}.{_ending(content)}"


def _ending(content: bytes) -> str:
    kinds = {b"\x89PNG": "png", b"\xff\xd8": "jpg", b"GIF8": "gif", b"RIFF": "webp", b"BM": "bmp"}
    return next((ending for start, ending in kinds.items() if content.startswith(start)), "img")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; creates its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def cache_folder() -> Path:
    """Cache directory: HEADWISE_CACHE, or ~/.cache/headwise."""
    return expanded(os.environ.get("HEADWISE_CACHE") or "~/.cache/headwise", "HEADWISE_CACHE")
