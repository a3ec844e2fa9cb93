"""Hugging Face datasets of the official schema give the bundle's samples, prompts and scores."""

import io
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headwise.benchmarks import BENCHMARKS, named_sets
from headwise.benchmarks.bundles.check import check_benchmark, data_folder
from headwise.benchmarks.bundles.hf import _build
from headwise.errors import DataError
from headwise.records import Answer, read_jsonl


def image_bytes():
    buffer = io.BytesIO()
    Image.new("RGB", (16, 12), (120, 30, 200)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.fixture
def datasets(bundle, tmp_path, monkeypatch):
    """The content of `bundle` as parquet files of the hub's schema (columns that are not needed left out)."""
    monkeypatch.setenv("HEADWISE_CACHE", str(tmp_path / "cache"))
    hub = tmp_path / "hub"
    _textvqa(bundle, hub)
    _mme(bundle, hub)
    _gqa(bundle, hub)
    _pope(bundle, hub)
    return hub


def _textvqa(bundle, hub):
    questions = read_jsonl(bundle / "textvqa/llava_textvqa_val_v051_ocr.jsonl")
    prompts = {row["question_id"]: row["text"] for row in questions}
    rows = []
    for row in json.loads((bundle / "textvqa/TextVQA_0.5.1_val.json").read_text())["data"]:
        tokens = prompts[row["image_id"]].split("\n")[1].removeprefix("Reference OCR token: ").split(", ")
        rows.append(row | {"question": row["question"].lower(), "ocr_tokens": tokens, "image": image_bytes()})
    write(hub / "textvqa/data/validation-00000-of-00001.parquet", rows)
    write(hub / "textvqa/data/train-00000-of-00001.parquet", rows)


def _mme(bundle, hub):
    rows = []
    for number, row in enumerate(read_jsonl(bundle / "MME/llava_mme.jsonl")):
        question = row["text"].split("\n")[0] + " Please answer yes or no."
        answer = "No" if number % 2 else "Yes"
        rows.append({"question_id": row["question_id"], "question": question, "answer": answer, "image": image_bytes()})
    write(hub / "MME/data/test-00000-of-00002.parquet", rows[:3])
    write(hub / "MME/data/test-00001-of-00002.parquet", rows[3:])


def _gqa(bundle, hub):
    key = json.loads((bundle / "gqa/data/testdev_balanced_questions.json").read_text())
    rows = [row | {"id": name, "imageId": "n1", "isBalanced": True} for name, row in key.items()]
    write(hub / "GQA/testdev_balanced_instructions/testdev-00000-of-00001.parquet", rows)
    write(hub / "GQA/testdev_balanced_images/testdev-00000-of-00001.parquet", [{"id": "n1", "image": image_bytes()}])
    write(hub / "GQA/train_all_instructions/train-00000-of-00001.parquet", rows)


def _pope(bundle, hub):
    rows = []
    for number, row in enumerate(read_jsonl(bundle / "pope/llava_pope_test.jsonl")):
        question, answer = row["text"].split("\n")[0], "no" if number % 2 else "yes"
        row = {"question_id": str(number % 2), "question": question, "answer": answer, "category": row["category"]}
        rows.append(row | {"image_source": "c1", "image": image_bytes()})
    write(hub / "POPE/data/test-00000-of-00001.parquet", rows)
    write(hub / "POPE/Full/random-00000-of-00001.parquet", rows)


@pytest.mark.parametrize("name", named_sets()["published"])
def test_samples_prompts_images_and_scores_are_the_bundles(bundle, datasets, name):
    converted, bench = data_folder(f"hf:{datasets}", [name]), BENCHMARKS[name]
    samples = bench.samples(converted)
    if name == "textvqa":  # LLaVA's file writes "What …", this test's bundle "what …"
        bundle_prompts = [sample.prompt[0].upper() + sample.prompt[1:] for sample in bench.samples(bundle)]
        assert [sample.prompt for sample in samples] == bundle_prompts
    else:
        assert samples == bench.samples(bundle)
    answers = {s.key: Answer(question_id=s.question_id, prompt=s.prompt, text="Yes") for s in samples}
    ours = bench.judge(converted, samples, answers)
    theirs = {s.key: Answer(question_id=s.question_id, prompt=s.prompt, text="Yes") for s in bench.samples(bundle)}
    assert ours == bench.judge(bundle, bench.samples(bundle), theirs)
    assert not [p for p in check_benchmark(name, converted).problems if "official" not in p.what]


def test_a_bundle_is_made_once_and_again_when_a_file_changes(datasets):
    first = data_folder(f"hf:{datasets}")
    assert data_folder(f"hf:{datasets}") == first
    os.utime(datasets / "POPE/data/test-00000-of-00001.parquet", (1, 1))
    assert data_folder(f"hf:{datasets}") != first
    assert not [path for path in first.parent.iterdir() if path.name.startswith("tmp")]


def test_the_hub_cache_is_looked_into(datasets, tmp_path, monkeypatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hfcache"))
    repo = tmp_path / "hfcache/datasets--lmms-lab--GQA"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs/main").write_text("abc123")
    (repo / "snapshots").mkdir()
    (datasets / "GQA").rename(repo / "snapshots/abc123")
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path / "hfcache"))
    assert len(BENCHMARKS["gqa"].samples(data_folder("hf:", ["gqa"]))) == 2
    with pytest.raises(DataError, match="lmms-lab/MME is not in the Hugging Face cache"):
        data_folder("hf:", ["mme"])


def test_a_dataset_that_is_not_there_is_named(tmp_path):
    with pytest.raises(DataError, match="no folder POPE in"):
        data_folder(f"hf:{tmp_path}", ["pope"])


def test_a_broken_parquet_file_leaves_nothing_behind(datasets, tmp_path):
    path = datasets / "POPE/data/test-00000-of-00001.parquet"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot read .*test-00000"):
        data_folder(f"hf:{datasets}")
    assert list((tmp_path / "cache/hf").iterdir()) == []


def test_a_column_that_is_missing_is_named(datasets):
    path = datasets / "POPE/data/test-00000-of-00001.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["image_source"]), path)
    with pytest.raises(DataError, match="lacks the column image_source"):
        data_folder(f"hf:{datasets}", ["pope"])


def test_names_in_a_dataset_cannot_leave_the_bundle(datasets):
    path = datasets / "MME/data/test-00000-of-00002.parquet"
    rows = pq.read_table(path).to_pylist()
    write(path, [row | {"question_id": "../../evil.png"} for row in rows])
    with pytest.raises(DataError, match="leaves the image folder"):
        data_folder(f"hf:{datasets}", ["mme"])


def test_processes_that_convert_at_once_make_one_bundle(datasets, tmp_path):
    load = "from headwise.benchmarks.bundles.check import data_folder"
    program = f"{load}; print(data_folder('hf:{datasets}', ['pope', 'gqa']))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", program], env=env, **pipes) for _ in range(4)]
    outputs = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0] * 4, outputs
    assert len({out for out, _ in outputs}) == 1
    assert len([path for path in (tmp_path / "cache/hf").iterdir() if path.is_dir()]) == 1


def test_a_bundle_that_another_host_made_meanwhile_is_taken(datasets, tmp_path):
    bundle = data_folder(f"hf:{datasets}", ["pope"])
    _build(bundle, {"pope": {"lmms-lab/POPE": datasets / "POPE"}})
    assert [path.name for path in bundle.parent.iterdir() if path.is_dir()] == [bundle.name]
