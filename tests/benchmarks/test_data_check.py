"""data check on a good, a truncated, an empty and an embedded folder."""

import json
import shutil

import pytest
from click.testing import CliRunner

from headwise import embedded
from headwise.benchmarks import BENCHMARKS, Counts
from headwise.benchmarks.bundles.check import check_benchmark, data_folder, image_state
from headwise.cli import headwise
from headwise.errors import ConfigError, DataError

COUNTS = {"textvqa": (2, 2), "mme": (8, 4), "gqa": (2, 1), "pope": (6, 1)}


@pytest.fixture
def official(monkeypatch):
    """Make the small bundle's counts the official ones."""
    for name, (questions, images) in COUNTS.items():
        small = Counts(questions=questions, labels=questions, images=images)
        monkeypatch.setattr(type(BENCHMARKS[name]), "official", small)
    small_categories = {"adversarial": 2, "popular": 2, "random": 2}
    monkeypatch.setattr(type(BENCHMARKS["pope"]), "official_categories", small_categories)


def run(*arguments):
    return CliRunner().invoke(headwise, ["data", "check", *map(str, arguments)])


def test_a_whole_bundle_is_good(bundle, official):
    result = run(bundle, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["good"]) == (0, True)
    assert {name: row["questions"] for name, row in report["benchmarks"].items()} == {
        name: {"found": count, "official": count} for name, (count, _) in COUNTS.items()
    }
    assert all(row["images"]["found"] == COUNTS[name][1] for name, row in report["benchmarks"].items())


def test_an_empty_folder_has_nothing_and_says_where_to_get_it(tmp_path):
    result = run(tmp_path, "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["good"]) == (2, False)
    for row in report["benchmarks"].values():
        assert row["questions"]["found"] == 0
        assert "No such file" in row["problems"][0]["what"]
        assert "eval.zip" in row["problems"][0]["fix"]


def test_other_counts_than_the_official_are_said(bundle):
    check = check_benchmark("pope", bundle)
    assert len(check.problems) == 1
    assert "6 questions, not the official 8,910 (adversarial 2 of 3,000" in check.problems[0].what


def cut(path, keep=0.5):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def test_a_truncated_folder_names_each_fault_with_its_fix(bundle, official):
    cut(bundle / "gqa/llava_gqa_testdev_balanced.jsonl", keep=0.9)
    cut(bundle / "textvqa/TextVQA_0.5.1_val.json")
    cut(bundle / "pope/val2014/c1.jpg")
    (bundle / "MME/MME_Benchmark_release_version/existence/0001.png").unlink()
    (bundle / "MME/MME_Benchmark_release_version/artwork/questions_answers_YN/0000.txt").unlink()
    result = run(bundle, "--json")
    problems = {name: row["problems"] for name, row in json.loads(result.stdout)["benchmarks"].items()}
    assert result.exit_code == 2
    assert "line 2: not valid JSON" in problems["gqa"][0]["what"]
    assert "perhaps cut short" in problems["textvqa"][0]["what"]
    assert "1 of 1 images is truncated" in problems["pope"][0]["what"]
    assert [problem["what"].split(";")[0] for problem in problems["mme"]] == [
        "2 of 4 questions have no label",
        "1 of 4 images is missing",
    ]
    assert all(problem["fix"] for each in problems.values() for problem in each)


def test_what_is_printed_has_counts_and_fixes(bundle):
    result = run(bundle, "--benchmark", "gqa")
    assert "2 of 12,578" in result.stdout
    assert "fix: " in result.stdout


def test_an_unknown_benchmark_is_refused(bundle):
    assert isinstance(run(bundle, "--benchmark", "vqav3").exception, ConfigError)


def test_embedded_benchmarks_have_counts_of_their_own(bundle, monkeypatch):
    monkeypatch.setattr(embedded, "DATA_DIR", bundle)
    result = run("embedded")
    assert result.exit_code == 0
    assert "embedded benchmarks" in result.stdout


def test_image_names_that_leave_their_folder_are_reported(bundle, official):
    path = bundle / "gqa/llava_gqa_testdev_balanced.jsonl"
    path.write_text(path.read_text().replace('"n1.jpg"', '"../../../secret.jpg"', 1))
    assert "leaves the image folder" in check_benchmark("gqa", bundle).problems[0].what


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_truncated_images_are_found(bundle, tmp_path, ending):
    from PIL import Image

    path = tmp_path / f"a.{ending}"
    Image.effect_noise((64, 64), 50).save(path)
    assert image_state(path) == "whole"
    path.write_bytes(path.read_bytes() + b"\0\0")
    assert image_state(path) == "whole"
    cut(path)
    assert image_state(path) == "truncated or unreadable"
    path.write_bytes(b"")
    assert image_state(path) == "truncated or unreadable"
    assert image_state(tmp_path / "none.png") == "missing"


def test_a_folder_that_is_none_is_refused(tmp_path):
    with pytest.raises(DataError, match="allowed: embedded, a bundle's playground/data/eval, hf: or hf:FOLDER"):
        data_folder(tmp_path / "nowhere")


def test_a_folder_with_one_benchmark_can_be_checked_for_it(bundle, official):
    shutil.rmtree(bundle / "pope")
    assert run(bundle, "--benchmark", "textvqa,mme").exit_code == 0
