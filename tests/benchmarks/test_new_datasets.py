"""Hugging Face datasets of the new benchmarks give the prompts and scores of the official layout."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from headwise.benchmarks import benchmark
from headwise.benchmarks.bundles.check import check_benchmark, data_folder
from headwise.benchmarks.pictures import _fields
from headwise.errors import DataError
from headwise.records import read_jsonl
from headwise.scoring.score import read_answers, score_records

GOLDEN = Path(__file__).resolve().parents[1] / "golden/benchmarks"


def picture(number: int, size=(12, 8)) -> dict:
    buffer = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 7)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def load(name):
    return json.loads((GOLDEN / name).read_text(encoding="utf-8"))


def scienceqa():
    problems = load("scienceqa/bundle/scienceqa/problems.json")
    asked = [row for row in load("scienceqa/bundle/scienceqa/llava_test_CQM-A.json") if row.get("image")]
    for number, row in enumerate(asked):
        problem = problems[row["id"]]
        yield {name: problem[name] for name in ("question", "choices", "answer", "hint", "subject")} | {
            "image": picture(number)
        }


def mmbench(name="mmbench/bundle/mmbench/mmbench_dev_20230712.tsv"):
    for row in _fields(GOLDEN / name):
        names = ("question", "hint", "A", "B", "C", "D", "answer", "category", "source")
        plain = {part: row.get(part) for part in names}
        image = {"bytes": base64.b64decode(row["image"]), "path": None}
        yield plain | {"index": int(row["index"]), "L2-category": row["l2-category"], "image": image}


def mmbench_cn():
    return mmbench("mmbench_cn/bundle/mmbench_cn/mmbench_dev_cn_20231003.tsv")


def seed():
    content = load("seed/bundle/seed_bench/SEED-Bench.json")
    asked = [str(row["question_id"]) for row in read_jsonl(GOLDEN / "seed/bundle/seed_bench/llava-seed-bench.jsonl")]
    key = {row["question_id"]: row for row in content["questions"]}
    for number, name in enumerate(asked):
        yield key[name] | {"image": [picture(number)] * (1 if key[name]["data_type"] == "image" else 4)}


def vizwiz():
    for number, row in enumerate(load("vizwiz/bundle/vizwiz/val.json")):
        answers = [each["answer"] for each in row["answers"]]
        plain = {"question_id": row["image"], "question": row["question"], "answers": answers}
        yield plain | {"category": row["answer_type"], "image": picture(number)}


def vqav2():
    questions = load("vqav2/bundle/vqav2/v2_OpenEnded_mscoco_val2014_questions.json")["questions"]
    key = load("vqav2/bundle/vqav2/v2_mscoco_val2014_annotations.json")["annotations"]
    answers = {row["question_id"]: row for row in key}
    for row in questions:
        known = answers[row["question_id"]]
        image = picture(row["image_id"])
        yield row | {"answers": known["answers"], "answer_type": known["answer_type"], "image": image}


def ocrbench():
    for number, row in enumerate(load("ocrbench/bundle/ocrbench/OCRBench.json")):
        answers = row["answers"] if isinstance(row["answers"], list) else [row["answers"]]
        plain = {"dataset": row["dataset_name"], "question": row["question"], "question_type": row["type"]}
        yield plain | {"answer": answers, "image": picture(number)}


def chartqa():
    for split in ("human", "augmented"):
        for number, row in enumerate(load(f"chartqa/bundle/chartqa/test/test_{split}.json")):
            plain = {"type": f"{split}_test", "question": row["query"], "answer": row["label"]}
            yield plain | {"image": picture(number)}


def refcoco():
    for number, row in enumerate(read_jsonl(GOLDEN / "refcoco/bundle/refcoco/refcoco_val.jsonl")):
        x1, y1, x2, y2 = row["bbox"]
        image = picture(number, (row["width"], row["height"]))
        yield {"question_id": str(number), "answer": [row["sent"]], "bbox": [x1, y1, x2 - x1, y2 - y1], "image": image}


DATASETS = {
    "scienceqa": (scienceqa, "ScienceQA/ScienceQA-IMG/test-00000-of-00001.parquet"),
    "mmbench": (mmbench, "MMBench/en/dev-00000-of-00001.parquet"),
    "mmbench_cn": (mmbench_cn, "MMBench/cn/dev-00000-of-00001.parquet"),
    "seed": (seed, "SEED-Bench/data/test-00000-of-00001.parquet"),
    "vizwiz": (vizwiz, "VizWiz-VQA/data/val-00000-of-00001.parquet"),
    "vqav2": (vqav2, "VQAv2/data/validation-00000-of-00001.parquet"),
    "ocrbench": (ocrbench, "OCRBench/data/test-00000-of-00001.parquet"),
    "chartqa": (chartqa, "ChartQA/data/test-00000-of-00001.parquet"),
    "refcoco": (refcoco, "RefCOCO/data/val-00000-of-00001.parquet"),
}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A function that writes a benchmark's dataset below the folder it returns."""
    monkeypatch.setenv("HEADWISE_CACHE", str(tmp_path / "cache"))

    def write(name, change=lambda table: table):
        rows, place = DATASETS[name]
        path = tmp_path / "hub" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(change(pa.Table.from_pylist(list(rows()))), path)
        return f"hf:{tmp_path / 'hub'}"

    return write


@pytest.mark.parametrize("name", list(DATASETS))
def test_prompts_and_scores_are_the_bundles(hub, name):
    bench, bundle = benchmark(name), GOLDEN / name / "bundle"
    converted = data_folder(hub(name), [name])
    theirs = [s for s in bench.samples(bundle) if name != "refcoco" or s.category == "refcoco_val"]
    ours = bench.samples(converted)
    assert [sample.prompt for sample in ours] == [sample.prompt for sample in theirs]
    assert not [p for p in check_benchmark(name, converted).problems if "official" not in p.what]
    ids = dict(zip((s.question_id for s in theirs), (s.question_id for s in ours), strict=True))
    said = [row for row in read_answers(GOLDEN / name / "answers.jsonl") if row.question_id in ids]
    before, _ = score_records(name, bundle, said)
    renamed = [type(row)(**{**vars(row), "question_id": ids[row.question_id]}) for row in said]
    after, _ = score_records(name, converted, renamed)
    assert after.score == pytest.approx(before.score)
    assert after.unparsed == before.unparsed


@pytest.mark.parametrize("name", ["ai2d", "mmstar"])
def test_datasets_that_are_the_question_file_are_linked(tmp_path, monkeypatch, name):
    monkeypatch.setenv("HEADWISE_CACHE", str(tmp_path / "cache"))
    bundle = GOLDEN / name / "bundle"
    folder = tmp_path / "hub" / benchmark(name).dataset
    folder.parent.mkdir(parents=True)
    folder.symlink_to(bundle / benchmark(name).home, target_is_directory=True)
    converted = data_folder(f"hf:{tmp_path / 'hub'}", [name])
    assert benchmark(name).samples(converted) == benchmark(name).samples(bundle)
    assert all(benchmark(name).image_path(converted, s).is_file() for s in benchmark(name).samples(converted))


def test_rules_of_one_benchmark_share_its_files(hub):
    source = hub("chartqa")
    assert data_folder(source, ["chartqa.lmms-v1"]) == data_folder(source, ["chartqa"])


@pytest.mark.parametrize(("name", "column"), [("vizwiz", "answers"), ("mmbench", "L2-category"), ("refcoco", "bbox")])
def test_a_column_that_is_missing_is_named(hub, name, column):
    source = hub(name, lambda table: table.drop_columns([column]))
    with pytest.raises(DataError, match=f"lacks the column {column}"):
        data_folder(source, [name])


def grounding(folder: Path, splits: dict[str, int]) -> None:
    """A dataset of the hub's form: per split so many images of two objects with two expressions each."""
    for split, images in splits.items():
        rows = []
        for number in range(images):
            for left in (0, 20):
                ident, words = f"{number}-{left}", [f"{folder.name} {number} at {left}", "the same in other words"]
                box = [float(left), 10.0, 20.0, 30.0]
                rows.append({"question_id": ident, "answer": words, "bbox": box, "image": picture(number, (60, 50))})
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}-00000-of-00001.parquet")


def test_refcoco_plus_and_g_are_further_splits_and_an_image_is_one_cluster(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWISE_CACHE", str(tmp_path / "cache"))
    grounding(tmp_path / "hub/RefCOCO", {"val": 2, "testA": 1})
    grounding(tmp_path / "hub/lmms-lab/RefCOCOPlus", {"val": 2, "testB": 1})
    grounding(tmp_path / "hub/RefCOCOg", {"val": 3, "test": 1})
    bench = benchmark("refcoco")
    home = data_folder(f"hf:{tmp_path / 'hub'}", ["refcoco"])
    samples = bench.samples(home)
    splits = {name: sum(s.category == name for s in samples) for name in dict.fromkeys(s.category for s in samples)}
    assert splits == {
        "refcoco_val": 8, "refcoco_testA": 4, "refcoco+_val": 8, "refcoco+_testB": 4, "refcocog_val": 12,
        "refcocog_test": 4,
    }  # fmt: skip
    assert len({sample.image for sample in samples}) == 3  # not 20 objects
    assert not check_benchmark("refcoco", home).problems
    truth_of = bench.truths(home, samples)
    assert {truth_of(sample).key.box for sample in samples} == {(0, 10, 20, 40), (20, 10, 40, 40)}


def test_refcocog_alone_is_enough_and_nothing_names_the_first_dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADWISE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "hub").mkdir()
    with pytest.raises(DataError, match="no folder RefCOCO in"):
        data_folder(f"hf:{tmp_path / 'hub'}", ["refcoco"])
    grounding(tmp_path / "hub/RefCOCOg", {"val": 1})
    home = data_folder(f"hf:{tmp_path / 'hub'}", ["refcoco"])
    assert {sample.category for sample in benchmark("refcoco").samples(home)} == {"refcocog_val"}
