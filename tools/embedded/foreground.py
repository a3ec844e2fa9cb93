"""Of an image's foreground, the share that each cell of a study on the embedded benchmarks keeps.

Foreground are the patches of shapes and signs. Chance is the share of all patches that the cell keeps.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from headwise import tracking
from headwise.analysis.evidence import FILE, read_evidence
from headwise.benchmarks import benchmark
from headwise.benchmarks.bundles.check import data_folder
from headwise.errors import ConfigError
from headwise.study.names import needs_tokens
from headwise.system.reading import read_image
from tools.embedded.draw import DRAWERS, SEED
from tools.embedded.render import render
from tools.embedded.scenes import Scene
from tools.embedded.symbols import cell_labels, is_foreground

EMBEDDED = "embedded"
COLUMNS = ["benchmark", "strategy", "heads", "tokens"]


def kept_foreground(study: str = tracking.LATEST) -> pd.DataFrame:
    """One row per pruning cell: `COLUMNS`, and means over its questions in percent.

    `foreground`: the share of foreground patches that are kept; `chance`: the share of all patches that are.
    Merged rows are not counted. ConfigError where no cell prunes or where other images were asked about.
    """
    cells = tracking.find_cells(study=study)
    cells = cells.loc[cells["strategy"].map(needs_tokens)]
    if cells.empty:
        raise ConfigError(f"study {study} has no cell that prunes")
    if others := set(cells["data_dir"]) - {EMBEDDED}:
        raise ConfigError(f"study {study} has images of {', '.join(sorted(others))}; allowed: {EMBEDDED}")
    rows: list[dict[str, Any]] = []
    for (name, limit), group in cells.groupby(["benchmark", "limit"], dropna=False):
        front_NV = _foreground(str(name), None if pd.isna(limit) else int(limit))
        for cell in group.to_dict("records"):
            evidence = read_evidence(tracking.download(cell["run_id"], FILE, cell["artifact_uri"]))
            kept_NV = np.unpackbits(evidence.kept_NV, axis=1, count=front_NV.shape[1]).astype(bool)
            found = (kept_NV & front_NV).sum(1) / front_NV.sum(1)
            named = {column: cell[column] for column in COLUMNS}
            shares = {"foreground": found.mean(), "chance": kept_NV.mean()}
            rows.append(named | {column: round(100 * float(share), 1) for column, share in shares.items()})
    return pd.DataFrame(rows).sort_values(COLUMNS, ignore_index=True)


def _foreground(name: str, limit: int | None) -> np.ndarray:
    """Bool [N, V]: the foreground of each question's image, in question order."""
    bench, folder = benchmark(name), data_folder(EMBEDDED)
    paths = [bench.image_path(folder, sample) for sample in bench.samples(folder, limit)]
    front = dict(_drawn(name))
    pictures = {path: np.asarray(read_image(path)).tobytes() for path in set(paths)}
    return np.stack([front[pictures[path]] for path in paths])


def _drawn(name: str) -> Iterator[tuple[bytes, np.ndarray]]:
    """Pixels and foreground of each of the benchmark's scenes."""
    with tempfile.TemporaryDirectory() as unused:
        scenes: list[Scene] = DRAWERS[name](Path(unused), SEED)
    for scene in scenes:
        yield render(scene).tobytes(), is_foreground(cell_labels(scene))
