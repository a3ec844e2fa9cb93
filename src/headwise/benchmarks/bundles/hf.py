"""Build a bundle folder from Hugging Face datasets (parquet files already on this machine).

A benchmark names its dataset (`lmms-lab/POPE`) and turns its rows into its official layout
(`Benchmark.from_dataset`), once, in the cache directory, so that all other code handles a single layout.
Nothing is downloaded here.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from headwise.benchmarks import benchmark
from headwise.benchmarks.datasets import cache_folder
from headwise.errors import DataError
from headwise.study.cells import fingerprint
from headwise.system.environment import expanded
from headwise.system.locks import held

PREFIX = "hf:"
# Incremented when a conversion changes what it writes and no scorer changes: old bundles are not reused.
#
# 2: RefCOCO's images are named by content, so that all expressions of an image are one cluster.
CONVERSION = 2
# A benchmark's datasets at hand, and where they are.
Folders = dict[str, Path]


def bundle_from_datasets(source: str, benchmarks: Sequence[str]) -> Path:
    """A bundle folder with the named benchmarks, from the dataset folders in `source` or the local hub cache.

    `source` is empty (the hub cache: HF_HOME, HF_HUB_CACHE) or a folder that holds the datasets' folders as on
    the hub (POPE/ or lmms-lab/POPE/). The bundle is rebuilt when a parquet file changes, under HEADWISE_CACHE
    (default ~/.cache/headwise). DataError if a dataset is missing or unreadable.
    """
    asked = {benchmark(name).home: name for name in benchmarks}  # several rules of a benchmark share its files
    folders = {name: _folders(source, name) for name in asked.values()}
    found = [folder for each in folders.values() for folder in each.values()]
    files = [path for folder in found for path in sorted(folder.rglob("*.parquet"))]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    versions = [benchmark(name).version for name in sorted(folders)]
    bundle = cache_folder() / "hf" / fingerprint(CONVERSION, sorted(asked), versions, stamps)
    if not bundle.is_dir():
        _build_once(bundle, folders)
    return bundle


def dataset_folder(source: str, dataset: str) -> Path:
    """The files of `dataset` (OWNER/NAME): below `source`, or in the hub cache if `source` is empty."""
    if source:
        root = expanded(source, "data_dir")
        owner, _, name = dataset.rpartition("/")
        found = _spelled(root, name) or _spelled(_spelled(root, owner) or root / owner, name)
        if found is None:
            raise DataError(f"data_dir: no folder {name} in {source} (expected {dataset} as on the hub)")
        return found
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    cached = _spelled(Path(constants.HF_HUB_CACHE), f"datasets--{dataset.replace('/', '--')}")
    repository = cached.name.removeprefix("datasets--").replace("--", "/", 1) if cached else dataset
    try:
        return Path(snapshot_download(repository, repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError as error:
        fix = f"`hf download {dataset} --repo-type dataset` fetches it"
        raise DataError(f"data_dir: dataset {dataset} is not in the Hugging Face cache; {fix}") from error


def _spelled(folder: Path, name: str) -> Path | None:
    """The folder of this name; the hub takes a name in any case and keeps it as it was asked for."""
    if (folder / name).is_dir():
        return folder / name
    others = sorted(folder.iterdir()) if folder.is_dir() else []
    return next((path for path in others if path.name.lower() == name.lower() and path.is_dir()), None)


def _folders(source: str, name: str) -> Folders:
    """The benchmark's dataset and its further ones at hand; DataError if there is none."""
    bench = benchmark(name)
    if bench.dataset is None:
        raise DataError(f"{name}: cannot be read from a Hugging Face dataset; give its folder as data_dir")
    found, missing = {}, []
    for dataset in (bench.dataset, *bench.further_datasets):
        try:
            found[dataset] = dataset_folder(source, dataset)
        except DataError as error:
            missing.append(error)
    if not found:
        raise missing[0]
    return found


def _build_once(bundle: Path, folders: Mapping[str, Folders]) -> None:
    """Build the bundle in one process; the others wait."""
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"HEADWISE_CACHE: cannot create {bundle.parent} ({error.strerror})") from error
    with held(bundle.parent.with_name(f"{bundle.name}.lock"), "HEADWISE_CACHE"):
        if not bundle.is_dir():
            _build(bundle, folders)


def _build(bundle: Path, folders: Mapping[str, Folders]) -> None:
    """Build in a temporary folder, then move it into place; another host may have been faster."""
    work = Path(tempfile.mkdtemp(dir=bundle.parent))
    try:
        for name, found in folders.items():
            bench = benchmark(name)
            for dataset, folder in found.items():
                if dataset == bench.dataset:
                    bench.from_dataset(folder, work / bundle.name)
                else:
                    bench.from_further_dataset(dataset, folder, work / bundle.name)
        os.rename(work / bundle.name, bundle)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise DataError(f"HEADWISE_CACHE: cannot write {bundle} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(work)
