"""`data check` of the benchmarks beside the published four: a good folder, and the mistakes people make in it."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image

from headwise.benchmarks import BENCHMARKS, Counts, benchmark, default_names
from headwise.benchmarks.bundles.check import check_benchmark, chosen_benchmarks
from headwise.cli import headwise
from headwise.errors import DataError
from headwise.scoring.score import score_answers

GOLDEN = Path(__file__).resolve().parents[1] / "golden/benchmarks"
NAMES = [name for name in default_names() if (GOLDEN / name).is_dir()]


@pytest.fixture
def folder(tmp_path, monkeypatch, request):
    """A golden bundle whose questions count as official and whose images are there, each of its own colour."""
    name = request.param
    monkeypatch.setenv("HEADWISE_CACHE", str(tmp_path / "cache"))
    data_dir = tmp_path / "eval"
    shutil.copytree(GOLDEN / name / "bundle", data_dir)
    bench = benchmark(name)
    samples = bench.samples(data_dir)
    if not bench.image_folder.startswith("inside"):
        for number, image in enumerate(dict.fromkeys(sample.image for sample in samples)):
            path = bench.image_path(data_dir, next(sample for sample in samples if sample.image == image))
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (12, 8), (number % 256, number // 256, 90)).save(path, "PNG")
    small = Counts(questions=len(samples), labels=len(samples))
    monkeypatch.setattr(type(bench), "official", small)
    monkeypatch.setattr(type(bench), "official_categories", {})
    return name, data_dir


def problems(name, data_dir):
    return check_benchmark(name, data_dir).problems


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_a_whole_folder_is_good_and_all_its_images_are_found(folder):
    name, data_dir = folder
    check = check_benchmark(name, data_dir)
    assert (check.problems, check.notes) == ([], [])
    assert check.found["labels"] == check.found["questions"]
    assert check.found["images"] == len({sample.image for sample in benchmark(name).samples(data_dir)})
    assert name in chosen_benchmarks(str(data_dir), None)


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_an_empty_folder_says_what_is_missing_and_where_to_get_it(folder):
    name, data_dir = folder
    shutil.rmtree(data_dir)
    data_dir.mkdir()
    (problem,) = problems(name, data_dir)
    assert str(data_dir) in problem.what
    assert problem.fix in BENCHMARKS[name].fixes.values() or "eval.zip" in problem.fix


@pytest.mark.parametrize("folder", NAMES, indirect=True)
def test_a_folder_under_another_name_is_found_and_the_command_that_is_given_mends_it(folder):
    name, data_dir = folder
    home = benchmark(name).home
    (data_dir / home).rename(data_dir / f"{home}-download")
    (problem,) = problems(name, data_dir)
    subprocess.run(problem.fix, shell=True, check=True)
    assert problems(name, data_dir) == []


@pytest.mark.parametrize("folder", ["scienceqa", "seed", "vizwiz", "vqav2", "ocrbench", "chartqa"], indirect=True)
def test_images_in_a_folder_of_another_name_are_found_and_moved(folder):
    name, data_dir = folder
    images = data_dir / benchmark(name).image_folder
    images.rename(images.with_name("unpacked"))
    (problem,) = problems(name, data_dir)
    assert "missing; the first" in problem.what
    subprocess.run(problem.fix, shell=True, check=True)
    assert problems(name, data_dir) == []


@pytest.mark.parametrize("folder", ["refcoco"], indirect=True)
def test_boxes_of_width_and_height_are_no_corners(folder):
    name, data_dir = folder
    path = data_dir / "refcoco/refcoco_val.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows:
        x1, y1, x2, y2 = row["bbox"]
        row["bbox"] = [x1, y1, x2 - x1, y2 - y1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (problem,) = problems(name, data_dir)
    assert "has no box x1, y1, x2, y2" in problem.what


@pytest.mark.parametrize("folder", ["mmbench"], indirect=True)
def test_a_missing_rotation_is_said_before_it_makes_groups_easier(folder):
    name, data_dir = folder
    path = data_dir / benchmark(name).question_file
    text = path.read_text(encoding="utf-8")
    start = text.index("\n2000746\t") + 1
    path.write_text(text[:start] + text[text.index("\n", start) + 1 :], encoding="utf-8")
    found = [problem.what for problem in problems(name, data_dir)]
    assert found == ["groups that lack a rotation: 1 of 27; the first: 746", "88 questions, not the official 89"]


@pytest.mark.parametrize("folder", ["ai2d"], indirect=True)
def test_other_counts_than_the_literatures_are_a_note_and_no_mistake(folder, monkeypatch):
    name, data_dir = folder
    counts = Counts(questions=3088, labels=3088, known_from="literature")
    monkeypatch.setattr(type(benchmark(name)), "official", counts)
    check = check_benchmark(name, data_dir)
    assert check.problems == []
    assert "170 questions, not the official 3,088; the number is from the literature" in check.notes[0]


@pytest.mark.parametrize("folder", ["scienceqa"], indirect=True)
def test_the_same_picture_in_two_folders_is_one_cluster(folder):
    name, data_dir = folder
    bench = benchmark(name)
    first, second, third = bench.samples(data_dir)[:3]
    shutil.copy(bench.image_path(data_dir, first), bench.image_path(data_dir, second))
    _, found = score_answers(name, data_dir, GOLDEN / name / "answers.jsonl")
    assert [verdict.image for verdict in found[:3]] == [first.image, first.image, third.image]


@pytest.mark.parametrize("folder", ["mmbench"], indirect=True)
def test_a_limit_takes_whole_groups(folder):
    name, data_dir = folder
    bench = benchmark(name)
    few = bench.samples(data_dir, limit=10)
    groups = [int(sample.question_id) % 1_000_000 for sample in few]
    whole = [int(sample.question_id) % 1_000_000 for sample in bench.samples(data_dir)]
    assert 6 < len(few) <= 10
    assert all(groups.count(group) == whole.count(group) for group in groups)


@pytest.mark.parametrize("folder", ["vqav2"], indirect=True)
def test_a_limit_of_vqav2_is_a_seeded_sample_of_images(folder):
    name, data_dir = folder
    bench = benchmark(name)
    everything = bench.samples(data_dir)
    few = bench.samples(data_dir, limit=40)
    assert few == bench.samples(data_dir, limit=40) != everything[:40]
    assert len(few) == 40
    cut = [s.image for s in few if sum(s.image == o.image for o in few) < sum(s.image == o.image for o in everything)]
    assert len(set(cut)) <= 1


@pytest.mark.parametrize(
    "content", ["null", "3", "[]", "{}", "[1]", "[null]", '[{"id": 1, "conversations": [1], "image": "a"}]']
)
@pytest.mark.parametrize("name", ["scienceqa", "seed", "vizwiz", "vqav2", "ocrbench", "chartqa", "refcoco"])
def test_a_question_file_of_another_form_is_named(tmp_path, name, content):
    path = tmp_path / benchmark(name).question_file
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(DataError, match=path.parent.name):
        benchmark(name).samples(tmp_path)


@pytest.mark.parametrize(
    ("folder", "key"),
    [
        ("scienceqa", "scienceqa/problems.json"),
        ("seed", "seed_bench/SEED-Bench.json"),
        ("vqav2", "vqav2/v2_mscoco_val2014_annotations.json"),
    ],
    indirect=["folder"],
)
def test_a_key_file_of_another_form_is_named(folder, key):
    name, data_dir = folder
    for content in ("null", "[]", '{"questions": [null], "annotations": [null]}'):
        (data_dir / key).write_text(content)
        assert problems(name, data_dir), content


@pytest.mark.parametrize("folder", ["refcoco"], indirect=True)
def test_a_benchmark_without_official_counts_is_not_called_embedded(folder, monkeypatch):
    name, data_dir = folder
    monkeypatch.setattr(type(benchmark(name)), "official", None)
    result = CliRunner().invoke(headwise, ["data", "check", str(data_dir)])
    assert result.exit_code == 0
    assert "embedded" not in result.stdout
