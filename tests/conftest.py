"""Fixtures for every test: golden files, and a small bundle of all four benchmarks."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from survival import Place, make_places

INSTRUCTION = "Answer the question using a single word or phrase."


@pytest.fixture(scope="session")
def golden_files() -> Path:
    """The folder of golden files (tests/golden)."""
    return Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def mme_answers(golden_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published study's MME answers, a folder per cell."""
    folder = tmp_path_factory.mktemp("published")
    with zipfile.ZipFile(golden_files / "published/mme_answers.zip") as archive:
        archive.extractall(folder)
    return folder / "mme_answers"


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An initialised, empty mlflow.db: making one takes seconds, copying it does not."""
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Place]]:
    """A maker of folders for small studies, whose windows hold one image: there are several to lose or to share."""
    from headwise.run import answering as evaluate

    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(evaluate.WINDOW_QUESTIONS, "cpu", 4)
        yield make_places(tmp_path_factory.mktemp("places"))


@pytest.fixture
def store(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a test, with a tracking store of its own in it."""
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    return tmp_path


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A `data_dir` with four tiny benchmarks in the official layout, images included."""
    data_dir = tmp_path / "eval"
    for write in (_textvqa, _mme, _gqa, _pope):
        write(data_dir)
    return data_dir


def _textvqa(data_dir: Path) -> None:
    signs = {"a1": ("What does the sign say?", "open"), "a2": ("What is the brand?", "acme")}
    questions, annotations = [], []
    for image_id, (question, word) in signs.items():
        prompt = f"{question.lower()}\nReference OCR token: {word.upper()}, 7\n{INSTRUCTION}"
        questions.append({"question_id": image_id, "image": f"{image_id}.jpg", "text": prompt, "category": "default"})
        answers = [word] * 8 + ["unanswerable", "7"]
        annotations.append({"question_id": 1, "image_id": image_id, "question": question, "answers": answers})
        _image(data_dir / "textvqa/train_images" / f"{image_id}.jpg")
    _jsonl(data_dir / "textvqa/llava_textvqa_val_v051_ocr.jsonl", questions)
    _json(data_dir / "textvqa/TextVQA_0.5.1_val.json", {"dataset_type": "val", "data": annotations})


def _mme(data_dir: Path) -> None:
    folder = data_dir / "MME/MME_Benchmark_release_version"
    questions = []
    for category, inner in (("existence", ""), ("artwork", "images/")):
        for number in range(2):
            name = f"{category}/{inner}{number:04}.png"
            _image(folder / name)
            texts = [f"Is there a thing {number}?", f"Is there no thing {number}?"]
            label_file = f"{category}/{'questions_answers_YN/' if inner else ''}{number:04}.txt"
            labels = [f"{text}  Please answer yes or no.\t" for text in texts]
            _text(folder / label_file, f"{labels[0]}Yes\n{labels[1]}No\n")
            rows = [{"question_id": name, "image": name, "text": f"{text}\n{INSTRUCTION}"} for text in texts]
            questions += [row | {"category": category} for row in rows]
    _jsonl(data_dir / "MME/llava_mme.jsonl", questions)


def _gqa(data_dir: Path) -> None:
    program = [{"operation": "select", "argument": "it"}, {"operation": "query", "argument": "name"}]
    verify, query = {"structural": "verify", "semantic": "attr"}, {"structural": "query", "semantic": "rel"}
    key = {
        "100": {"question": "Is it red?", "answer": "yes", "types": verify, "semantic": program},
        "101": {"question": "What is left of it?", "answer": "box", "types": query, "semantic": program},
    }
    questions = [
        {"question_id": name, "image": "n1.jpg", "text": f"{row['question']}\n{INSTRUCTION}", "category": "default"}
        for name, row in key.items()
    ]
    _image(data_dir / "gqa/data/images/n1.jpg")
    _jsonl(data_dir / "gqa/llava_gqa_testdev_balanced.jsonl", questions)
    _json(data_dir / "gqa/data/testdev_balanced_questions.json", key)


def _pope(data_dir: Path) -> None:
    questions: list[dict[str, Any]] = []
    for category in ("random", "popular", "adversarial"):
        labels = [
            {"question_id": 1, "image": "c1.jpg", "text": f"Is there a {category} cat?", "label": "yes"},
            {"question_id": 2, "image": "c1.jpg", "text": f"Is there a {category} dog?", "label": "no"},
        ]
        _jsonl(data_dir / f"pope/coco/coco_pope_{category}.json", labels)
        for row in labels:
            text = f"{row['text']}\n{INSTRUCTION}"
            number = len(questions) + 1
            questions.append({"question_id": number, "image": "c1.jpg", "text": text, "category": category})
    _image(data_dir / "pope/val2014/c1.jpg")
    _jsonl(data_dir / "pope/llava_pope_test.jsonl", questions)


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _json(path: Path, value: Any) -> None:
    _text(path, json.dumps(value))


def _jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    _text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 12), (120, 30, 200)).save(path)


class AnotherUser:
    """A folder that everyone may write; inside the block this process may no more than any other user."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._uid = folder, os.geteuid()

    def __enter__(self) -> None:
        if self._uid == 0:
            os.seteuid(65534)  # nobody; who is not root is kept out of files of mode 400 anyway

    def __exit__(self, *_: object) -> None:
        os.seteuid(self._uid)


@pytest.fixture
def as_another_user() -> Iterator[AnotherUser]:
    with tempfile.TemporaryDirectory(prefix="headwise-user-") as folder:
        os.chmod(folder, 0o777)
        yield AnotherUser(Path(folder))
