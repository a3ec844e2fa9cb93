"""What answers are kept under: all that changes an answer, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from headwise.benchmarks.bundles.check import data_folder
from headwise.errors import DataError
from headwise.methods import heads
from headwise.models.checkpoint import Checkpoint, Vlm, find_checkpoint
from headwise.models.llava import Llava
from headwise.run import tasks
from headwise.run.answering import WINDOW_QUESTIONS, Answerer, image_paths, open_windows, unreadable
from headwise.run.executors import Work
from headwise.run.executors.worker import parcel
from headwise.run.placement import Placement
from headwise.run.settings import StudySettings
from headwise.run.spool import Spool
from headwise.run.tasks import Task, plan
from headwise.study.cells import Cell


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    from tiny_llava import write_tiny_llava

    return find_checkpoint(str(write_tiny_llava(tmp_path_factory.mktemp("tiny"))))


def task(checkpoint: Checkpoint, data_dir: Path, machine: str = "cpu", **settings: object) -> Task:
    study = StudySettings.model_validate(
        {"benchmark": "pope", "strategy": "sparsity", "tokens": 12, "heads": 4} | settings
    )
    return plan(study, checkpoint, study.cells(checkpoint.geometry), data_dir, machine)[0]


def test_a_longer_run_reuses_a_shorter_one(checkpoint: Checkpoint, bundle: Path, tmp_path: Path) -> None:
    short, long = task(checkpoint, bundle, limit=2), task(checkpoint, bundle)
    assert short.group == long.group
    assert set(short.questions) < set(long.questions)
    spool = Spool(tmp_path / "spool")
    said = {short.key(cell): {"text": "yes"} for cell in short.cells}
    spool.append(*({"question": question, "answers": said} for question in short.questions))
    assert long.answered(spool).all(axis=1).tolist() == [question in short.questions for question in long.questions]


@pytest.mark.parametrize(("name", "value"), [("max_new_tokens", 5), ("dtype", "bfloat16"), ("compile", True)])
def test_settings_that_change_answers_change_the_group(
    checkpoint: Checkpoint, bundle: Path, name: str, value: object
) -> None:
    assert task(checkpoint, bundle, **{name: value}).group != task(checkpoint, bundle).group
    assert task(checkpoint, bundle, "cuda").group != task(checkpoint, bundle).group


@pytest.mark.parametrize("field", ["tokens", "heads", "layer", "seed", "score_dtype", "budget", "strategy"])
def test_every_field_of_a_cell_is_in_its_key(checkpoint: Checkpoint, bundle: Path, field: str) -> None:
    planned, cell = task(checkpoint, bundle), {"strategy": "sum", "tokens": 12, "heads": 4}
    other = {"strategy": "sparsity", "budget": "kept", "score_dtype": "float16"}.get(field, 3)
    assert planned.key(Cell(**cell)) != planned.key(Cell(**(cell | {field: other})))  # type: ignore[arg-type]


def test_an_image_of_the_same_size_with_other_pixels_is_another_question(checkpoint: Checkpoint, bundle: Path) -> None:
    path = bundle / "gqa/data/images/n1.jpg"
    before = task(checkpoint, bundle, benchmark="gqa").questions
    content = bytearray(path.read_bytes())
    content[-10] ^= 1
    path.write_bytes(content)
    after = task(checkpoint, bundle, benchmark="gqa").questions
    assert not set(before) & set(after)


def test_one_changed_weight_is_another_checkpoint(checkpoint: Checkpoint, tmp_path: Path) -> None:
    import shutil

    copy = Path(shutil.copytree(checkpoint.folder, tmp_path / "copy"))
    assert find_checkpoint(str(copy)).digest == checkpoint.digest
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[len(weights) // 2] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert find_checkpoint(str(copy)).digest != checkpoint.digest


def test_an_image_outside_its_folder_is_refused(checkpoint: Checkpoint, bundle: Path) -> None:
    questions = bundle / "gqa/llava_gqa_testdev_balanced.jsonl"
    questions.write_text(questions.read_text().replace("n1.jpg", "../../../secret.jpg"))
    with pytest.raises(DataError, match="leaves the image folder"):
        task(checkpoint, bundle, benchmark="gqa")


def test_windows_do_not_depend_on_what_is_answered(checkpoint: Checkpoint, bundle: Path) -> None:
    planned = task(checkpoint, bundle, benchmark="mme")
    nothing = np.zeros((len(planned.samples), len(planned.cells)), dtype=bool)
    some = nothing.copy()
    some[0] = True
    whole, rest = open_windows(planned, nothing, "cpu"), open_windows(planned, some, "cpu")
    assert [window.places for window in rest] == [window.places for window in whole]
    assert not rest[0].lacking[0].any()
    assert rest[0].lacking[1].all()
    assert not open_windows(planned, ~nothing, "cpu")


@pytest.mark.parametrize(("size", "sizes"), [(12, [4, 12, 12, 2]), (6, [2, 6, 6, 6, 6, 4]), (2, [2] * 15)])
def test_the_first_window_is_a_third_of_the_others(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, size: int, sizes: list[int]
) -> None:
    monkeypatch.setitem(WINDOW_QUESTIONS, "cpu", size)
    planned = task(checkpoint, data_folder("embedded"), benchmark="mme", limit=30)  # two questions an image
    windows = open_windows(planned, np.zeros((len(planned.samples), len(planned.cells)), dtype=bool), "cpu")
    assert [len(window.places) for window in windows] == sizes
    assert sorted(place for window in windows for place in window.places) == list(range(30))


def test_costs_are_not_measured_before_the_first_of_several_windows_is_answered(
    checkpoint: Checkpoint, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(WINDOW_QUESTIONS, "cpu", 1)
    planned = task(checkpoint, bundle, benchmark="mme")
    done = np.zeros((len(planned.samples), len(planned.cells)), dtype=bool)
    first, *others = open_windows(planned, done, "cpu")
    assert others
    assert [first.costs, *(window.costs for window in others)] == [False] + [True] * len(others)
    for window in (first, *others[:-1]):
        done[window.places] = True
    (last,) = open_windows(planned, done, "cpu")
    assert last.costs
    answerer = Answerer(Vlm(checkpoint), 3)
    for window in (first, last):
        answered = answerer.answer(planned, answerer.prepare(window, image_paths(planned, window), planned.cells))
        assert any("costs" in line for line in answered) == window.costs
        assert parcel(Work(planned, window)).window.costs == window.costs


def test_questions_on_one_image_share_a_window(checkpoint: Checkpoint, bundle: Path) -> None:
    planned = task(checkpoint, bundle)
    windows = open_windows(planned, np.zeros((len(planned.samples), len(planned.cells)), dtype=bool), "cpu")
    images = [{planned.samples[place].image for place in window.places} for window in windows]
    assert sum(len(group) for group in images) == len(set().union(*images))


def test_an_unreadable_image_is_a_failure_with_a_reason(checkpoint: Checkpoint, bundle: Path) -> None:
    (bundle / "pope/val2014/c1.jpg").write_bytes(b"no image")
    planned = task(checkpoint, bundle)
    failures = unreadable(planned, np.zeros((len(planned.samples), len(planned.cells)), dtype=bool))
    assert len(failures) == 6
    assert "c1.jpg" in failures[0]
    Image.new("RGB", (8, 8)).save(bundle / "pope/val2014/c1.jpg")
    assert not unreadable(planned, np.zeros((len(planned.samples), len(planned.cells)), dtype=bool))


def test_devices_change_no_group(checkpoint: Checkpoint, bundle: Path) -> None:
    study = StudySettings.model_validate({"device": "auto"})
    assert Placement.of("cpu,cpu").kind(study) == "cpu"
    assert task(checkpoint, bundle, "cuda", device="cuda:1").group == task(checkpoint, bundle, "cuda").group


@pytest.mark.parametrize(("owner", "name"), [(Llava, "prompt_version"), (tasks, "ENGINE_VERSION")])
def test_another_version_of_the_engine_or_the_prompt_is_another_group(
    checkpoint: Checkpoint, bundle: Path, monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    before = task(checkpoint, bundle).group
    monkeypatch.setattr(owner, name, "another")
    assert task(checkpoint, bundle).group != before


def test_another_version_of_a_strategy_voids_its_own_answers_only(
    checkpoint: Checkpoint, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned = task(checkpoint, bundle, strategy="sparsity,entropy")
    before = {cell.strategy: planned.key(cell) for cell in planned.cells}
    monkeypatch.setitem(heads.STRATEGIES, "sparsity", replace(heads.STRATEGIES["sparsity"], version=2))
    monkeypatch.setitem(heads.CONTROL_VERSIONS, "vanilla", 2)
    after = {cell.strategy: planned.key(cell) for cell in planned.cells}
    assert {name for name in before if before[name] != after[name]} == {"sparsity", "vanilla"}
