"""Benchmarks whose question file contains the images (tsv with base64, parquet); they are extracted once."""

from __future__ import annotations

import base64
import binascii
import csv
import os
import sys
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import ClassVar

from headwise.benchmarks.datasets import cache_folder, digest_name
from headwise.benchmarks.files import KeyedBenchmark, inside
from headwise.errors import DataError
from headwise.records import Sample

# Columns of a table of multiple-choice questions, without which its rows would be other questions.
CHOICE_COLUMNS = ("index", "question", "A", "B", "C", "D", "answer", "image")
# Values that pandas, which the official tools use, reads as missing.
NOT_AVAILABLE = frozenset(
    ("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A")
    + ("NA", "NULL", "NaN", "None", "n/a", "nan", "null")
)


class PicturesInside(KeyedBenchmark):
    """A benchmark whose images are named by content, so that identical images form one cluster."""

    places: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def pictures(self, data_dir: Path) -> Iterator[bytes]:
        """The content of every picture in the benchmark's files."""

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The picture in the cache folder (`data_dir` may be read-only), written there with all others if it is not."""
        folder = cache_folder() / "pictures" / self.home
        path = inside(folder, sample.image)
        if not path.is_file():
            self._write(data_dir, folder)
        return path

    def _write(self, data_dir: Path, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for content in self.pictures(data_dir):
                path = folder / digest_name(content)
                if not path.exists():
                    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as part:
                        part.write(content)
                    os.replace(part.name, path)
        except OSError as error:
            raise DataError(f"cannot write the pictures of {self.name} to {folder}: {error.strerror}") from error

    def located(self, data_dir: Path) -> Path:
        """The first existing path of the question file among its usual ones (the official one if none exists)."""
        places = [data_dir / place for place in (self.question_file, *self.places)]
        return next((place for place in places if place.exists()), places[0])


def table(path: Path, columns: Sequence[str] = ()) -> tuple[dict[str, str], ...]:
    """Rows of a tab-separated file with a header, as pandas reads it: quoted fields, missing values left out.

    `image` (base64) is replaced by the picture's name (`digest_name`). DataError if the file is not such a table, or if
    its header lacks one of `columns`: a missing column would read as missing values.
    """
    try:
        state = path.stat()
        return _table(path, tuple(columns), state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error


@lru_cache(maxsize=4)
def _table(path: Path, columns: tuple[str, ...], _modified: int, _size: int) -> tuple[dict[str, str], ...]:
    rows = []
    names: dict[str, str] = {}
    for number, row in enumerate(_fields(path, columns), 1):
        encoded = row.pop("image", "")
        if encoded not in names:
            names[encoded] = digest_name(_decoded(encoded, path, number))
        rows.append(row | {"image": names[encoded]})
    if not rows:
        raise DataError(f"{path}: holds no question")
    return tuple(rows)


def table_pictures(path: Path) -> Iterator[bytes]:
    """The distinct pictures of such a file."""
    encoded = dict.fromkeys(row.get("image", "") for row in _fields(path))
    return (_decoded(text, path, 0) for text in encoded)


def _fields(path: Path, columns: tuple[str, ...] = ()) -> Iterator[dict[str, str]]:
    csv.field_size_limit(sys.maxsize)
    try:
        with open(path, encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines, delimiter="\t")
            if missing := [name for name in columns if name not in (rows.fieldnames or ())]:
                raise DataError(f"{path}: lacks the column {', '.join(missing)}")
            for row in rows:
                if None in row or None in row.values():
                    raise DataError(f"{path}, row {row.get('index')}: has another number of fields than the header")
                yield {name: value for name, value in row.items() if value not in NOT_AVAILABLE}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _decoded(text: str, path: Path, number: int) -> bytes:
    try:
        content = base64.b64decode(text, validate=False)
    except binascii.Error as error:
        raise DataError(f"{path}, row {number}: its image is no base64 ({error})") from error
    if not content:
        raise DataError(f"{path}, row {number}: has no image")
    return content


def needs(row: dict[str, str], names: tuple[str, ...], where: str) -> None:
    """DataError if a row lacks one of these columns."""
    if missing := [name for name in names if name not in row]:
        raise DataError(f"{where}: lacks {', '.join(missing)}")
