"""Where a study's benchmarks are: the embedded ones, a bundle folder, or a Hugging Face dataset."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from headwise import embedded, names
from headwise.errors import DataError

EMBEDDED = "embedded"


def data_folder(data_dir: str | Path, benchmarks: Sequence[str] = names.BENCHMARKS) -> Path:
    """The bundle folder that `data_dir` means: `embedded`, a folder, `hf:` or `hf:FOLDER` (converted once).

    Only the named benchmarks are looked for in a Hugging Face dataset. DataError where there is no such folder.
    """
    if str(data_dir) == EMBEDDED:
        return embedded.DATA_DIR
    folder = Path(data_dir).expanduser()
    if not folder.is_dir():
        allowed = f"{EMBEDDED}, a bundle's playground/data/eval, hf: or hf:FOLDER"
        raise DataError(f"data_dir: {data_dir} is not a folder (allowed: {allowed})")
    return folder
