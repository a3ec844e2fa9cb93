"""A comparison's report: what it needs from the runs is fetched, the page is written, figures are drawn."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pandas as pd

from headwise import tracking
from headwise.analysis.analyse import Analysis
from headwise.analysis.evidence import FILE
from headwise.benchmarks import BENCHMARKS
from headwise.benchmarks.bundles.check import data_folder
from headwise.errors import DataError, TrackingError
from headwise.records import Sample
from headwise.report.page import ANSWERS, Files, Report, build
from headwise.report.samples import ImagePath, shown

PAGE = "report.html"
Fetched = dict[tuple[str, str], Path | None]


def write_report(analysis: Analysis, folder: Path, *, run_links: Mapping[str, str], links: Mapping[str, str]) -> Report:
    """Write `report.html` into `folder`; the report with its figures and tables of head evidence.

    `run_links` are addresses by run id, `links` by name. Evidence or answers that a run does not have, and
    images that are not on this machine, are left out of the report.
    """
    fetched = _fetch(analysis)
    files = Files(
        artifact=lambda run_id, name: fetched.get((run_id, name)),
        image=_image_finder(analysis.comparison.cells),
        run_links=run_links,
        links=links,
    )
    report = build(analysis, files, {name: each.title for name, each in BENCHMARKS.items()})
    (folder / PAGE).write_text(report.html, encoding="utf-8")
    return report


def _fetch(analysis: Analysis) -> Fetched:
    """The runs' answers and evidence as local files; a remote store answers several questions at once."""
    wanted = [
        (run, uri, name)
        for found in analysis.findings.values()
        for run, uri in shown(found.cells)[["run_id", "artifact_uri"]].itertuples(index=False)
        for name in (ANSWERS, FILE)
    ]
    with ThreadPoolExecutor(8) as pool:
        paths = list(pool.map(lambda each: _artifact(*each), wanted))
    return {(run, name): path for (run, _, name), path in zip(wanted, paths, strict=True)}


def _artifact(run_id: str, artifact_uri: str, name: str) -> Path | None:
    """The file, or None where the run has none of that name (imported runs have no evidence)."""
    local = tracking.local_file(artifact_uri, name)
    if local is not None:
        return local if local.is_file() else None
    try:
        return tracking.download(run_id, name, artifact_uri)
    except tracking.ServerUnreachable:
        raise
    except TrackingError:
        return None


def _image_finder(cells: pd.DataFrame) -> ImagePath:
    """A function from question to image file, None where this machine does not have it."""
    known = cells.dropna(subset="data_dir") if "data_dir" in cells else cells.iloc[:0]
    folders = {str(name): str(group["data_dir"].iloc[0]) for name, group in known.groupby("benchmark")}

    @cache
    def folder(benchmark: str) -> Path | None:
        try:
            return data_folder(folders[benchmark], [benchmark]) if benchmark in folders else None
        except DataError:
            return None

    def find(benchmark: str, question_id: str, image: str, prompt: str) -> Path | None:
        home = folder(benchmark)
        if home is None:
            return None
        sample = Sample(benchmark=benchmark, question_id=question_id, image=image, prompt=prompt)
        try:
            path = BENCHMARKS[benchmark].image_path(home, sample)
        except DataError:  # a name that would leave the image folder
            return None
        return path if path.is_file() else None

    return find
