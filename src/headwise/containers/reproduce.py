"""Reproduce a finished run in its container, and compare answers and metrics one by one."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from headwise import tracking
from headwise.benchmarks.bundles.check import EMBEDDED, data_folder
from headwise.containers import docker_client
from headwise.containers.again import clip_digest_of, command, identity, settings_of
from headwise.errors import DataError, ModelError, TrackingError
from headwise.records import Answer, Failure, Key, read_answers
from headwise.scoring.score import ANSWERS
from headwise.study import plugins
from headwise.study.cells import fingerprint
from headwise.system.environment import expanded

# Metrics that measure the machine; they differ between any two runs.
MEASURED = (
    *("seconds", "samples_per_second"),
    *("prefill_seconds", "token_seconds", "peak_bytes", "measured_questions"),
)

EXPERIMENT = "reproduce"
# HF_HOME inside the image.
HUB_CACHE = "/cache/huggingface"


@dataclass(frozen=True, kw_only=True)
class Original:
    """The run to reproduce: a cell, or all cells of a study. `cells` is a table of `tracking.find_cells`."""

    run_id: str
    cells: pd.DataFrame
    image: str | None
    commit: str
    gpus: str

    def value(self, name: str) -> str:
        """The value of a parameter that is the same for all cells."""
        return str(self.cells[name].iloc[0])


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An answer that differs: None if there is none, the error in brackets if the question failed."""

    question_id: str
    prompt: str
    before: str | None
    after: str | None


@dataclass(frozen=True, kw_only=True)
class CellReport:
    """Comparison of a cell with its reproduction. `metrics`: name → (before, after), only those that differ."""

    name: str
    answers: int
    differences: list[Difference]
    metrics: dict[str, tuple[float | None, float | None]]
    metrics_compared: int

    @property
    def same(self) -> bool:
        """Whether every answer and every metric is the same in the reproduction."""
        return not self.differences and not self.metrics


def find_original(run_id: str) -> Original:
    """The run and its recorded environment. TrackingError if it is not a study or cell answered by headwise."""
    whole = tracking.study_of(run_id) is None
    where: dict[str, Any] = {"study": run_id} if whole else {"run_ids": [run_id]}
    cells = tracking.find_cells(**where, include_incomplete=True)
    if "model_digest" not in cells or cells["model_digest"].isna().any():
        raise TrackingError(f"run {run_id} was imported, not answered by headwise: it cannot be run again")
    return Original(run_id=run_id, cells=cells, **_environment(cells))


def _environment(cells: pd.DataFrame) -> dict[str, Any]:
    """Image, commit and GPUs of the first cell: from its container tags, else from its versions.json."""
    first = cells.iloc[0]
    versions = json.loads(tracking.download(first["run_id"], "versions.json", first["artifact_uri"]).read_text("utf-8"))
    recorded = {name: first.get(f"tags.headwise.{name}") for name in ("image", "commit", "gpus")}
    gpus = recorded["gpus"] or ("all" if str(first["device"]).startswith("cuda") else "none")
    return {
        "image": recorded["image"] or versions.get("image"),
        "commit": recorded["commit"] or versions["commit"],
        "gpus": gpus,
    }


def study_command(original: Original, data_dir: str, model: str, clip: str | None = None) -> list[str]:
    """The command that answers the original's cells, with every recorded setting given explicitly."""
    settings = settings_of(original.cells) | {"data_dir": data_dir, "model": model}
    return command(settings | ({"clip": clip} if clip else {}))


def run_again(
    original: Original,
    out: BinaryIO,
    *,
    data_dir: str | None,
    image: str | None,
    gpus: str | None,
    model: str | None = None,
) -> Iterator[CellReport]:
    """Run the original's cells in a container; yields one report per cell.

    `data_dir`, `image`, `gpus` and `model`, a checkpoint's folder, override what was recorded. Raises DataError or
    ModelError if the data or weights differ from the run's, EngineError if there is no engine or image, or the
    container fails.
    """
    data, weights = _data(original, data_dir), _model(original, model)
    name = str(weights or original.value("model"))
    clip = _clip(original, name)
    with docker_client.engine() as client, tempfile.TemporaryDirectory(prefix="headwise-reproduce-") as work:
        chosen = _image(client, original, image, out)
        store = f"sqlite:///{work}/mlflow.db"
        environment = {"MLFLOW_TRACKING_URI": store, "MLFLOW_EXPERIMENT_NAME": EXPERIMENT, "HF_HUB_OFFLINE": "1"}
        job = docker_client.ContainerJob(
            image=chosen,
            command=study_command(original, str(data or EMBEDDED), name, str(clip) if clip else None),
            work=Path(work),
            read_only={path: str(path) for path in (data, weights, clip, *plugins.sources()) if path}
            | _hub_cache(original, weights, clip),
            environment=environment | {"HEADWISE_HOME": f"{work}/.headwise"} | _plugins(),
            gpus=gpus or original.gpus,
        )
        docker_client.run(client, job, out)
        with _tracked_in(store):
            again = tracking.find_cells(experiment=EXPERIMENT, include_incomplete=True)
            _check_digests(original, again)
            after = {identity(row): row for row in again.to_dict("records")}
        for row in original.cells.to_dict("records"):
            yield compare_cell(row, after.get(identity(row)))


def _image(client: Any, original: Original, image: str | None, out: BinaryIO) -> str:
    if image is None:
        return docker_client.find_image(client, original.image, original.commit)
    found, commit = docker_client.named_image(client, image)
    if commit != original.commit or commit == docker_client.UNKNOWN:
        out.write(f"image {image} is of commit {commit}, the run of {original.commit}\n".encode())
    return found


def _data(original: Original, given: str | None) -> Path | None:
    """The verified benchmark folder on the host; None if the data is inside the image."""
    from headwise.benchmarks import benchmark
    from headwise.run.tasks import question_keys

    source = given or original.value("data_dir")
    if source == EMBEDDED:
        return None
    cells = original.cells.drop_duplicates("benchmark")
    folder = data_folder(source, list(cells["benchmark"])).resolve()
    for name, limit, recorded in zip(cells["benchmark"], cells["limit"], cells["data_digest"], strict=True):
        samples = benchmark(name).samples(folder, None if pd.isna(limit) else int(limit))
        found = fingerprint(question_keys(name, folder, samples))
        if found != recorded:
            raise DataError(
                f"data: {name} in {folder} differs from the data of run {original.run_id} (fingerprint {found}, "
                f"recorded {recorded}); name the right folder with --data-dir"
            )
    return folder


def _model(original: Original, given: str | None) -> Path | None:
    """The verified checkpoint folder on the host; None for the embedded checkpoint and hub names."""
    from headwise.models.checkpoint import find_checkpoint

    name = given or original.value("model")
    if given is not None and not Path(given).is_dir():
        raise ModelError(f"model: {given} is not a folder")
    if name == EMBEDDED or not (Path(name).is_dir() or name.startswith(("/", "."))):
        return None
    found = find_checkpoint(name)
    _check_weights(original, found.digest, name)
    return found.folder.resolve()


def _clip(original: Original, model: str) -> Path | None:
    """The verified CLIP folder on the host; None where no cell reads one, it is embedded, or given by its hub name."""
    from headwise.models.checkpoint import find_checkpoint
    from headwise.models.vision import clip_digest, vision_shape

    name = _clip_name(original)
    if name in (None, EMBEDDED) or not (Path(name).is_dir() or name.startswith(("/", "."))):
        return None
    found = clip_digest(name, vision_shape(find_checkpoint(model)).width)
    recorded = clip_digest_of(original.cells)
    if recorded is not None and not found.startswith(recorded):
        raise ModelError(f"clip: {name} is not the CLIP of run {original.run_id} ({found}, recorded {recorded}…)")
    return Path(name).resolve()


def _clip_name(original: Original) -> str | None:
    names = original.cells["clip"].dropna() if "clip" in original.cells else pd.Series(dtype=str)
    return str(names.iloc[0]) if len(names) else None


def _plugins() -> dict[str, str]:
    """The variable that names the plug-in files loaded here, which are mounted at the path they have here."""
    files = os.pathsep.join(map(str, plugins.sources()))
    return {plugins.VARIABLE: files} if files else {}


def _hub_cache(original: Original, weights: Path | None, clip: Path | None) -> dict[Path, str]:
    """Mount of the hub cache, for checkpoints given by their hub name."""
    given = {original.value("model"): weights, _clip_name(original): clip}
    by_name = [name for name, folder in given.items() if name not in (None, EMBEDDED) and folder is None]
    if not by_name:
        return {}
    cache = expanded(os.environ.get("HF_HOME") or "~/.cache/huggingface", "HF_HOME")
    if not cache.is_dir():
        raise ModelError(f"model: {' and '.join(map(str, by_name))} is not in a cache here: {cache} does not exist")
    return {cache: HUB_CACHE}


def _check_digests(original: Original, again: pd.DataFrame) -> None:
    """Check data and weights inside the image by the digests that its run recorded."""
    _check_weights(original, str(again["model_digest"].iloc[0]))
    found = dict(zip(again["benchmark"], again["data_digest"], strict=True))
    for name, recorded in zip(original.cells["benchmark"], original.cells["data_digest"], strict=True):
        if found.get(name) != recorded:
            raise DataError(f"data: the image's {name} has fingerprint {found.get(name)}, the run's was {recorded}")


def _check_weights(original: Original, found: str, name: str = "") -> None:
    recorded = original.value("model_digest")
    if found != recorded:
        name = name or original.value("model")
        raise ModelError(f"model: {name} is not the checkpoint of run {original.run_id} ({found}, recorded {recorded})")


@contextmanager
def _tracked_in(uri: str) -> Iterator[None]:
    """Use another tracking store inside the block."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        os.environ.pop("MLFLOW_TRACKING_URI")
        if before is not None:
            os.environ["MLFLOW_TRACKING_URI"] = before


def compare_cell(before: Mapping[Any, Any], after: Mapping[Any, Any] | None) -> CellReport:
    """Compare a cell with its reproduction (rows of `tracking.find_cells`; None if it was not run)."""
    old = _answers(before)
    new = _answers(after) if after is not None else {}
    differences = [
        Difference(question_id=key[0][0], prompt=key[0][1], before=old.get(key), after=new.get(key))
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    ]
    metrics, compared = _metrics(before, after or {})
    name = " ".join(filter(None, identity(before)))
    return CellReport(name=name, answers=len(old), differences=differences, metrics=metrics, metrics_compared=compared)


def _answers(cell: Mapping[Any, Any]) -> dict[tuple[Key, int], str]:
    """Answer text by question and occurrence (a benchmark may repeat a question)."""
    asked: Counter[Key] = Counter()
    texts = {}
    for answer in read_answers(tracking.download(cell["run_id"], ANSWERS, cell["artifact_uri"])):
        texts[answer.key, asked[answer.key]] = _text(answer)
        asked[answer.key] += 1
    return texts


def _text(answer: Answer | Failure) -> str:
    return answer.text if isinstance(answer, Answer) else f"[{answer.error}]"


def _metrics(
    before: Mapping[Any, Any], after: Mapping[Any, Any]
) -> tuple[dict[str, tuple[float | None, float | None]], int]:
    """The metrics that differ, and how many were compared."""
    old, new = _numbers(before), _numbers(after)
    pairs = {name: (old.get(name), new.get(name)) for name in dict.fromkeys([*old, *new])}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}, len(pairs)


def _numbers(cell: Mapping[Any, Any]) -> dict[str, float]:
    """The metrics of a row: its only floats, since parameters and tags are text, but for counts that may be shares."""
    numbers = {str(name): value for name, value in cell.items() if isinstance(value, float) and not math.isnan(value)}
    return {name: value for name, value in numbers.items() if name not in (*MEASURED, "tokens", "heads")}
