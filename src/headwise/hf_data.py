"""Benchmarks out of Hugging Face datasets: parquet files already on this machine → a bundle folder.

`lmms-lab/POPE`, `MME`, `GQA` and `textvqa` hold what LLaVA's evaluation bundle holds. They are turned
into a bundle in the cache folder once, so that everything else has one layout to know. Nothing is
downloaded here.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from headwise.benchmarks.files import INSTRUCTION, inside
from headwise.benchmarks.gqa import KEY_NAME
from headwise.benchmarks.mme import YES_NO, category_of
from headwise.config import fingerprint
from headwise.environment import expanded
from headwise.errors import DataError
from headwise.locks import held
from headwise.records import write_jsonl

PREFIX = "hf:"
DATASETS = {"textvqa": "textvqa", "mme": "MME", "gqa": "GQA", "pope": "POPE"}
BATCH = 64
Row = dict[str, Any]


def bundle_from_datasets(source: str, benchmarks: Sequence[str]) -> Path:
    """A bundle folder with the named benchmarks, from the dataset folders in `source` or the local hub cache.

    `source` is empty (the hub cache: HF_HOME, HF_HUB_CACHE) or a folder that holds POPE/, MME/, GQA/ and
    textvqa/ as on the hub. The bundle is made anew when a parquet file changes, under HEADWISE_CACHE
    (default ~/.cache/headwise). DataError where a dataset is not there or its files cannot be read.
    """
    folders = {name: dataset_folder(source, DATASETS[name]) for name in benchmarks}
    files = [path for folder in folders.values() for path in sorted(folder.rglob("*.parquet"))]
    stamps = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    bundle = cache_folder() / "hf" / fingerprint(sorted(benchmarks), stamps)
    if not bundle.is_dir():
        _build_once(bundle, folders)
    return bundle


def cache_folder() -> Path:
    """Where headwise keeps what it can make again."""
    return expanded(os.environ.get("HEADWISE_CACHE") or "~/.cache/headwise", "HEADWISE_CACHE")


def dataset_folder(source: str, name: str) -> Path:
    """The files of dataset lmms-lab/`name`: below `source`, or in the hub cache where `source` is empty."""
    if source:
        root = expanded(source, "data_dir")
        places = [root / name, root / "lmms-lab" / name]
        found = next((place for place in places if place.is_dir()), None)
        if found is None:
            raise DataError(f"data_dir: no folder {name} in {source} (expected lmms-lab/{name} as on the hub)")
        return found
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(snapshot_download(f"lmms-lab/{name}", repo_type="dataset", local_files_only=True))
    except LocalEntryNotFoundError as error:
        fix = f"`hf download lmms-lab/{name} --repo-type dataset` fetches it"
        raise DataError(f"data_dir: dataset lmms-lab/{name} is not in the Hugging Face cache; {fix}") from error


def _build_once(bundle: Path, folders: dict[str, Path]) -> None:
    """Build the bundle in one of the processes that want it; the others wait for it."""
    try:
        bundle.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"HEADWISE_CACHE: cannot create {bundle.parent} ({error.strerror})") from error
    with held(bundle.parent.with_name(f"{bundle.name}.lock"), "HEADWISE_CACHE"):
        if not bundle.is_dir():
            _build(bundle, folders)


def _build(bundle: Path, folders: dict[str, Path]) -> None:
    """Write the bundle beside its place, then move it there whole; another host may have been faster."""
    work = Path(tempfile.mkdtemp(dir=bundle.parent))
    try:
        for name, folder in folders.items():
            CONVERTERS[name](folder, work / bundle.name)
        os.rename(work / bundle.name, bundle)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise DataError(f"HEADWISE_CACHE: cannot write {bundle} ({error.strerror or error})") from error
    finally:
        shutil.rmtree(work)


def _textvqa(folder: Path, bundle: Path) -> None:
    """LLaVA words a question as "What is it?": first letter upper case, the rest lower; tokens on one line."""
    questions, annotations = [], []
    for row in _rows(folder, "validation", ["image_id", "question", "answers", "ocr_tokens", "image"]):
        tokens = ", ".join(" ".join(token.split()) for token in row["ocr_tokens"])
        name = f"{row['image_id']}.jpg"
        prompt = f"{row['question'].capitalize()}\nReference OCR token: {tokens}\n{INSTRUCTION}"
        questions.append({"question_id": row["image_id"], "image": name, "text": prompt, "category": "default"})
        annotations.append({key: row[key] for key in ("image_id", "question", "answers")})
        _save_image(bundle / "textvqa" / "train_images", name, row)
    write_jsonl(bundle / "textvqa" / "llava_textvqa_val_v051_ocr.jsonl", questions)
    _write_json(bundle / "textvqa" / "TextVQA_0.5.1_val.json", {"data": annotations})


def _mme(folder: Path, bundle: Path) -> None:
    home = bundle / "MME" / "MME_Benchmark_release_version"
    questions, labels = [], defaultdict(list)
    for row in _rows(folder, "test", ["question_id", "question", "answer", "image"]):
        name = row["question_id"]
        prompt = f"{row['question'].replace(YES_NO, '').strip()}\n{INSTRUCTION}"
        questions.append({"question_id": name, "image": name, "text": prompt, "category": category_of(name)})
        labels[name].append(f"{row['question']}\t{row['answer']}\n")
        _save_image(home, name, row)
    for name, lines in labels.items():
        path = PurePosixPath(name)
        place = home / category_of(name) / ("questions_answers_YN" if "images" in path.parts else "")
        place.mkdir(exist_ok=True)
        (place / f"{path.name.split('.')[0]}.txt").write_text("".join(lines), encoding="utf-8")
    write_jsonl(bundle / "MME" / "llava_mme.jsonl", questions)


def _gqa(folder: Path, bundle: Path) -> None:
    for row in _rows(folder, "testdev_balanced_images", ["id", "image"]):
        _save_image(bundle / "gqa" / "data" / "images", f"{row['id']}.jpg", row)
    questions, key = [], {}
    columns = ["id", "imageId", "question", "answer", "types", "semantic"]
    for row in _rows(folder, "testdev_balanced_instructions", columns):
        text, image = f"{row['question']}\n{INSTRUCTION}", f"{row['imageId']}.jpg"
        questions.append({"question_id": row["id"], "image": image, "text": text, "category": "default"})
        key[row.pop("id")] = row
    write_jsonl(bundle / "gqa" / "llava_gqa_testdev_balanced.jsonl", questions)
    _write_json(bundle / "gqa" / "data" / KEY_NAME, key)


def _pope(folder: Path, bundle: Path) -> None:
    """Question ids start anew in each category there and are counted through here, as in LLaVA's file."""
    questions: list[Row] = []
    labels = defaultdict(list)
    for row in _rows(folder, "test", ["question", "answer", "image_source", "category", "image"]):
        name = f"{row['image_source'].removesuffix('.jpg')}.jpg"
        asked = {"question_id": len(questions) + 1, "image": name, "text": f"{row['question']}\n{INSTRUCTION}"}
        questions.append(asked | {"category": row["category"]})
        labels[row["category"]].append({"image": name, "text": row["question"], "label": row["answer"].lower()})
        _save_image(bundle / "pope" / "val2014", name, row)
    (bundle / "pope" / "coco").mkdir()
    for category, rows in labels.items():
        write_jsonl(inside(bundle / "pope" / "coco", f"coco_pope_{category}.json"), rows)
    write_jsonl(bundle / "pope" / "llava_pope_test.jsonl", questions)


CONVERTERS: dict[str, Callable[[Path, Path], None]] = {"textvqa": _textvqa, "mme": _mme, "gqa": _gqa, "pope": _pope}


def _rows(folder: Path, part: str, columns: list[str]) -> Iterator[Row]:
    """Rows of the parquet files of a split or configuration, a few at a time (images are in them)."""
    files = [path for path in sorted(folder.rglob("*.parquet")) if _belongs(path.relative_to(folder), part)]
    if not files:
        raise DataError(f"{folder}: no parquet file of {part}")
    for path in files:
        try:
            for batch in pq.ParquetFile(path).iter_batches(BATCH, columns=columns):
                if missing := set(columns) - set(batch.column_names):
                    raise DataError(f"{path}: lacks the column {', '.join(sorted(missing))}")
                yield from batch.to_pylist()
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"cannot read {path}: {str(error).splitlines()[0]}") from error


def _belongs(path: Path, part: str) -> bool:
    """`test` has `data/test-00000-of-00003.parquet` and `default/test/0000.parquet`."""
    return path.name.startswith(f"{part}-") or part in path.parent.parts


def _save_image(folder: Path, name: str, row: Row) -> None:
    path = inside(folder, name)
    if path.exists():
        return
    if not row["image"] or not row["image"].get("bytes"):
        raise DataError(f"{name}: the dataset holds no bytes of this image")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(row["image"]["bytes"])


def _write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
