"""Every item and every total of the official scorers, through the command line as a user would run it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from headwise.benchmarks import BENCHMARKS, benchmark
from headwise.benchmarks.refcoco import iou
from headwise.cli import headwise
from headwise.scoring.score import score_answers

GOLDEN = Path(__file__).resolve().parents[1] / "golden/benchmarks"
FOLDERS = sorted(path.name for path in GOLDEN.iterdir() if path.is_dir())


# `ai2d_no_mask` is the class of `ai2d` on other files, of which there are no golden ones.
WITH_FILES = [name for name in list(BENCHMARKS)[4:] if name.split(".")[0] in FOLDERS]


def expected(folder):
    return json.loads((GOLDEN / folder / "expected.json").read_text(encoding="utf-8"))


def lines(folder, name):
    return [json.loads(line) for line in (GOLDEN / folder / name).read_text(encoding="utf-8").splitlines()]


def verdicts(name, folder=None):
    """Verdicts by question_id of the golden answers of `folder` under the rule `name`."""
    home = GOLDEN / (folder or name)
    return {v.question_id: v for v in score_answers(name, home / "bundle", home / "answers.jsonl")[1]}


def corrects(name, folder=None):
    return {key: verdict.correct for key, verdict in verdicts(name, folder).items()}


def command(name, folder=None):
    """What `headwise score --json` prints."""
    home = GOLDEN / (folder or name)
    files = ["--answers", home / "answers.jsonl", "--data-dir", home / "bundle"]
    arguments = ["score", "--benchmark", name, *files, "--json"]
    return json.loads(CliRunner().invoke(headwise, list(map(str, arguments)), catch_exceptions=False).stdout)


TOTALS = [
    ("scienceqa", "scienceqa", lambda want: want["total"]["img_accuracy"]),
    ("mmbench", "mmbench", lambda want: want["total"]["circular"]),
    ("mmbench_cn", "mmbench_cn", lambda want: want["total"]["circular"]),
    ("seed", "seed", lambda want: want["total"]["image_accuracy"]),
    ("vizwiz", "vizwiz", lambda want: want["total"]["accuracy"]),
    ("vqav2", "vqav2", lambda want: want["total"]["llava_submission"]),
    ("vqav2.vqaeval-v1", "vqav2", lambda want: want["total"]["vqaeval"]),
    ("vqav2.lmms-v1", "vqav2", lambda want: want["total"]["lmms"]),
    ("ocrbench", "ocrbench", lambda want: want["total"]["final_score"]),
    ("chartqa", "chartqa", lambda want: want["total"]["relaxed_overall"]),
    ("refcoco", "refcoco", lambda want: want["total"]["padded_hit"]["mean_of_splits"]),
    ("refcoco.lmms-image-v1", "refcoco", lambda want: want["total"]["image_hit"]["mean_of_splits"]),
    ("refcoco.vlmevalkit-v1", "refcoco", lambda want: want["total"]["vlmevalkit_hit"]["mean_of_splits"]),
    ("ai2d", "ai2d", lambda want: want["other_rules"]["vlmeval-2026-06"]),
    ("ai2d.vlmeval-2025-08", "ai2d", lambda want: want["score"]),
    ("ai2d.vlmeval-2024", "ai2d", lambda want: want["other_rules"]["vlmeval-2024"]),
    ("ai2d.lmms", "ai2d", lambda want: want["other_rules"]["lmms"]),
    ("mmstar", "mmstar", lambda want: want["other_rules"]["vlmeval-2026-06"]["micro"]),
    ("mmstar.vlmeval-2025-08", "mmstar", lambda want: want["score"]),
    ("mmstar.vlmeval-2024", "mmstar", lambda want: want["other_rules"]["vlmeval-2024"]["micro"]),
    ("mmstar.official", "mmstar", lambda want: want["other_rules"]["mmstar-official"]["micro"]),
    ("mmstar.lmms", "mmstar", lambda want: want["other_rules"]["lmms-2026-04"]["micro"]),
]


@pytest.mark.parametrize(("name", "folder", "total"), TOTALS, ids=[name for name, _, _ in TOTALS])
def test_the_total_of_the_official_scorer_is_printed(name, folder, total):
    printed = command(name, folder)
    assert printed["score"] == pytest.approx(total(expected(folder)), abs=1e-9)
    assert printed["complete"] == (folder != "scienceqa")


@pytest.mark.parametrize("name", ["mmbench", "mmbench_cn"])
def test_mmbench_rows_groups_and_report(name):
    want, found, printed = expected(name), verdicts(name), command(name)
    assert {key: (row.prediction or None, row.correct) for key, row in found.items()} == {
        key: (row["inferred"], row["hit"]) for key, row in want["items"].items()
    }
    groups = {}
    for key, row in found.items():
        groups.setdefault(str(int(key) % 1_000_000), []).append(row.correct)
    assert {key: int(all(rows)) for key, rows in groups.items()} == want["groups"]
    assert printed["unparsed"] == want["total"]["unparsed_rows"]
    for total in ("vanilla_all", "vanilla_first", "groups"):
        assert printed[total] == pytest.approx(want["total"][total])
    report = {key: value for key, value in want["report"].items() if key != "Overall"}
    assert {key: printed[f"category/{key}"] for key in report} == pytest.approx(report)


def test_scienceqa_items_and_the_two_missing_answers_that_are_no_score():
    want, found, printed = expected("scienceqa"), verdicts("scienceqa"), command("scienceqa")
    asked = {key: row["correct"] for key, row in want["items"].items() if row["image"] and not row["missing"]}
    assert {key: row.correct for key, row in found.items() if row.status != "missing"} == asked
    assert sorted(key for key, row in found.items() if row.status == "missing") == sorted(want["missing"])
    assert (printed["missing"], printed["unparsed"]) == (2, want["total"]["unparsed_img"])
    assert printed["samples"] - printed["missing"] == want["total"]["img_questions"]


def test_seed_items_types_and_that_videos_are_set_aside(caplog):
    want = expected("seed")
    image = {key: row["correct"] for key, row in want["items"].items() if row["data_type"] == "image"}
    assert corrects("seed") == image
    assert "ignored 16 answers outside the score" in caplog.text
    printed = command("seed")
    for line in want["official_stdout"][:9]:
        name, value = line.split(": ")
        assert f"{printed[f'category/{name}']:.2f}%" == value


def test_vizwiz_items_and_answer_types():
    want = expected("vizwiz")
    found = {key: (row.correct, row.prediction) for key, row in verdicts("vizwiz").items()}
    assert {key: text for key, (_, text) in found.items()} == {k: v["normalised"] for k, v in want["items"].items()}
    assert {key: value for key, (value, _) in found.items()} == pytest.approx(
        {key: row["score"] for key, row in want["items"].items()}
    )
    printed = command("vizwiz")
    assert {key: printed[f"category/{key}"] for key in want["by_type"]} == pytest.approx(want["by_type"])
    assert printed["unparsed"] == want["total"]["unparsed"]


@pytest.mark.parametrize(
    ("name", "rule"), [("vqav2", "llava_submission"), ("vqav2.vqaeval-v1", "vqaeval"), ("vqav2.lmms-v1", "lmms")]
)
def test_vqav2_items_under_its_three_rules(name, rule):
    want = expected("vqav2")
    assert corrects(name, "vqav2") == pytest.approx({key: row[rule] for key, row in want["items"].items()})
    if name == "vqav2":
        printed = command(name)
        by_type = {key: printed[f"category/{key}"] for key in want["by_answer_type"]}
        assert by_type == pytest.approx(want["by_answer_type"])


def test_ocrbench_items_and_sums():
    want, printed = expected("ocrbench"), command("ocrbench")
    assert corrects("ocrbench") == {key: row["correct"] for key, row in want["items"].items()}
    assert {key: printed[f"category/{key}"] for key in want["by_type"]} == want["by_type"]
    totals = {"recognition", "percent", "unparsed"}
    assert {key: printed[key] for key in totals} == {key: want["total"][key] for key in totals}


@pytest.mark.parametrize(("name", "rule"), [("chartqa", "correct"), ("chartqa.lmms-v1", "lmms_raw")])
def test_chartqa_items_and_splits(name, rule):
    want = expected("chartqa")
    assert corrects(name, "chartqa") == {key: row[rule] for key, row in want["items"].items()}
    if name == "chartqa":
        totals = {"human", "augmented", "unparsed"}
        printed = command(name)
        assert {key: printed[key] for key in totals} == pytest.approx({key: want["total"][key] for key in totals})


@pytest.mark.parametrize(
    ("name", "space"),
    [("refcoco", "padded"), ("refcoco.lmms-image-v1", "image"), ("refcoco.vlmevalkit-v1", "vlmevalkit")],
)
def test_refcoco_hits_overlaps_and_splits(name, space):
    want, found, printed = expected("refcoco"), verdicts(name, "refcoco"), command(name, "refcoco")
    items = want["items"]
    assert {key: row.correct for key, row in found.items()} == {key: row[f"{space}_hit"] for key, row in items.items()}
    overlaps = {
        key: iou(json.loads(row.prediction or "[0, 0, 0, 0]"), json.loads(row.truth)) for key, row in found.items()
    }
    assert overlaps == pytest.approx({key: row[f"{space}_iou"] for key, row in items.items()})
    assert printed["mean_iou"] == pytest.approx(sum(overlaps.values()) / len(overlaps))
    splits = want["total"][f"{space}_hit"]["splits"]
    assert {key: printed[f"category/{key}"] for key in splits} == pytest.approx(splits)
    if name == "refcoco":
        assert [key for key, row in found.items() if row.status == "unparsed"] == want["unparsed"]


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("ai2d", "vlmeval-2026-06"),
        ("ai2d.vlmeval-2025-08", "vlmeval-2025-08"),
        ("ai2d.vlmeval-2024", "vlmeval-2024"),
        ("ai2d.lmms", "lmms"),
        ("mmstar", "vlmeval-2026-06"),
        ("mmstar.vlmeval-2025-08", "vlmeval-2025-08"),
        ("mmstar.vlmeval-2024", "vlmeval-2024"),
        ("mmstar.official", "mmstar-official"),
        ("mmstar.lmms", "lmms-2026-04"),
    ],
)
def test_letters_of_ai2d_and_mmstar_under_every_state_of_the_rule(name, rule):
    folder = name.split(".")[0]
    found = verdicts(name, folder)
    for row in lines(folder, "items.jsonl"):
        verdict, want = found[row["question_id"]], row["rules"][rule]
        assert verdict.correct == want["correct"], row
        if "option" in want:  # the official function returns Z for a refusal and for nothing at all
            assert (verdict.prediction or "Z") == (want["option"] or "Z"), row


def test_mmstar_categories():
    printed = command("mmstar.vlmeval-2025-08", "mmstar")
    assert {key: printed[key] for key in expected("mmstar")["metrics"]} == pytest.approx(expected("mmstar")["metrics"])


@pytest.mark.parametrize(("name", "rule"), [("mmstar.official", "mmstar-official"), ("mmstar.lmms", "lmms-2026-04")])
def test_mmstar_averages_its_18_l2_categories_beside_the_score(name, rule):
    want = expected("mmstar")["other_rules"][rule]["average_l2"]
    assert command(name, "mmstar")["average_l2"] == pytest.approx(want, abs=1e-9)


def test_every_rule_of_the_golden_files_has_a_name():
    """As the golden files call it, after the benchmark and a full stop."""
    for folder in ("ai2d", "mmstar"):
        for rule in expected(folder)["other_rules"]:
            name = f"{folder}.{rule.removeprefix(f'{folder}-')}"
            assert benchmark(name).name.split(".")[0] == folder, name


@pytest.mark.parametrize("folder", [name for name in FOLDERS if name not in ("ai2d", "mmstar")])
def test_prompts_are_the_official_ones(folder):
    prompts = {sample.question_id: sample.prompt for sample in benchmark(folder).samples(GOLDEN / folder / "bundle")}
    theirs = {str(row["question_id"]): row["prompt"].replace("<image>\n", "") for row in lines(folder, "answers.jsonl")}
    answered = {key: prompts[key] for key in prompts if key in theirs}
    assert answered == {key: theirs[key] for key in answered}


@pytest.mark.parametrize("folder", ["ai2d", "mmstar"])
def test_prompts_of_ai2d_and_mmstar_are_vlmevalkits_for_llava(folder):
    prompts = {sample.question_id: sample.prompt for sample in benchmark(folder).samples(GOLDEN / folder / "bundle")}
    for row in json.loads((GOLDEN / folder / "prompts.json").read_text(encoding="utf-8")):
        assert prompts[row["question_id"]] == row["vlmeval-internvl = vlmeval-llava"]


def test_prompts_of_mmstar_for_lmms_eval():
    prompts = {s.question_id: s.prompt for s in benchmark("mmstar.lmms").samples(GOLDEN / "mmstar/bundle")}
    answered = {row["question_id"]: row["prompt"] for row in lines("mmstar", "answers.jsonl")}
    assert prompts == answered


def test_mmstar_reads_the_hubs_parquet_file_as_it_reads_the_tsv(tmp_path):
    table = GOLDEN / "mmstar/bundle/MMStar/mmstar.parquet"
    (tmp_path / "MMStar").mkdir()
    (tmp_path / "MMStar/mmstar.parquet").symlink_to(table)
    assert benchmark("mmstar").samples(tmp_path) == benchmark("mmstar").samples(GOLDEN / "mmstar/bundle")


@pytest.mark.parametrize("name", WITH_FILES)
def test_metric_names_are_fit_for_mlflow(name):
    folder = name.split(".")[0]
    home = GOLDEN / folder
    card, _ = score_answers(name, home / "bundle", home / "answers.jsonl")
    metrics = card.as_metrics()
    assert len(metrics) >= 5
    assert all(re.fullmatch(r"[\w\-./ ]+", metric, re.ASCII) for metric in metrics)
    assert not any(other.startswith(f"{metric}/") for metric in metrics for other in metrics)


@pytest.mark.parametrize("name", WITH_FILES)
def test_nothing_answered_is_no_score_and_a_failure_is_none(name):
    folder = name.split(".")[0]
    bench, bundle = benchmark(name), GOLDEN / folder / "bundle"
    card = bench.summarise(bench.judge(bundle, bench.samples(bundle), {}))
    assert (card.score, card.complete, card.missing) == (None, False, card.samples)
