"""Imported cells are ordinary runs, logged once; what does not fit is reported."""

import json
import shutil

import pandas as pd
import pytest
from click.testing import CliRunner

from headwise import tracking
from headwise.analysis.comparison import load_comparison
from headwise.cli import headwise
from headwise.errors import DataError
from headwise.records import write_jsonl
from headwise.scoring.score import read_verdicts

PROMPT = "\nAnswer the question using a single word or phrase."
GQA = "gqa/answers/llava_gqa_testdev_balanced/llava-v1.5-7b/ablation_a"


def gqa_cell(root, name, first="yes", second="box"):
    rows = [
        {"question_id": "100", "prompt": "Is it red?" + PROMPT, "text": first},
        {"question_id": "101", "prompt": "What is left of it?" + PROMPT, "text": second},
    ]
    folder = root / GQA / name
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "merge.jsonl", [row for row in rows if row["text"] is not None])


def run(*arguments):
    result = CliRunner().invoke(headwise, ["import", *map(str, arguments), "--experiment", "lab", "--json"])
    if result.exception:
        raise result.exception
    return json.loads(result.stdout)


def test_cells_become_ordinary_runs_once(store, bundle, tmp_path):
    root = tmp_path / "answers"
    gqa_cell(root, "vtn_64_8_sparsity")
    gqa_cell(root, "vtn_64_8_max_attention", second="dog")
    report = run(root, "--data-dir", bundle)
    assert {row["strategy"]: row["score"] for row in report["logged"]} == {"sparsity": 100.0, "max_attention": 50.0}
    cells = tracking.find_cells(experiment="lab")
    row = cells[cells["strategy"] == "sparsity"].iloc[0]
    assert (row["tokens"], row["heads"], row["layer"], row["score_dtype"]) == (64, 8, 2, "float16")
    assert (row["model"], row["tags.headwise.source"], row["score"]) == ("llava-v1.5-7b", "import", 100.0)
    verdicts = read_verdicts(tracking.download(row["run_id"], "verdicts.parquet"))
    assert [verdict.correct for verdict in verdicts] == [1.0, 1.0]
    again = run(root, "--data-dir", bundle)
    assert (again["study"], again["logged"], len(again["present"])) == (None, [], 2)
    assert len(tracking.find_cells(experiment="lab")) == 2


def test_ports_of_other_methods_stand_beside_the_head_strategies(store, bundle, tmp_path):
    """The study's PDrop is no pdrop of ours, prunes at layers of its own, and counts tokens in its own way."""
    root = tmp_path / "answers"
    gqa_cell(root, "vtn_64_8_sparsity")
    gqa_cell(root, "../pdrop/vtn_64_32", second="dog")
    gqa_cell(root, "../dynamic_head/vtn_64_dynamic_6_24")
    gqa_cell(root, "../dynamic_head/vtn_64_dynamic_8_16", second="dog")
    run(root, "--data-dir", bundle)
    cells = tracking.find_cells(experiment="lab").set_index("strategy")
    port = cells.loc["pdrop@ancestor"]
    assert (port["tokens"], port["budget"], port["tags.headwise.role"]) == (64, "published", "method")
    assert pd.isna([port["heads"], port["layer"], port["mean_visual_tokens"]]).all()
    assert cells.loc["sparsity", ["budget", "mean_visual_tokens"]].tolist() == ["average", 64]
    compared = load_comparison(study=run_study(cells)).cells
    assert compared["configuration"].tolist() == [
        "64/8/sparsity average",
        "64/dynamic_heads@ancestor average options=6-24",
        "64/dynamic_heads@ancestor average options=8-16",
        "64/pdrop@ancestor published",
    ]


def run_study(cells: pd.DataFrame) -> str:
    """The study that the cells were logged in."""
    (study,) = set(cells["study"])
    return study


def test_a_changed_cell_is_new(store, bundle, tmp_path):
    gqa_cell(tmp_path / "answers", "vtn_64_8_sparsity")
    run(tmp_path / "answers", "--data-dir", bundle)
    gqa_cell(tmp_path / "answers", "vtn_64_8_sparsity", second="dog")
    assert len(run(tmp_path / "answers", "--data-dir", bundle)["logged"]) == 1


def test_an_incomplete_cell_is_reported_and_stays_out_of_tables(store, bundle, tmp_path):
    gqa_cell(tmp_path / "answers", "vtn_64_8_sparsity", second=None)
    report = run(tmp_path / "answers", "--data-dir", bundle)
    assert "incomplete: 1 missing" in report["issues"][0]["what"]
    cells = tracking.find_cells(experiment="lab", include_incomplete=True)
    assert list(cells["complete"]) == [False]


def test_answers_without_labels_need_a_data_dir(store, tmp_path):
    gqa_cell(tmp_path / "answers", "vtn_64_8_sparsity")
    report = run(tmp_path / "answers")
    assert (report["logged"], report["study"]) == ([], None)
    assert "--data-dir" in report["issues"][0]["what"]


def test_logs_are_held_against_the_answers(store, bundle, tmp_path):
    root = tmp_path / "answers"
    for strategy in ("sparsity", "max_attention", "graph_based"):
        gqa_cell(root, f"vtn_64_8_{strategy}", second="dog")
    printed = "eval vtn_64_8_{}\nBinary: 1%\nOpen: 1%\nAccuracy: {}%\n"
    logged = [("sparsity", "50.00"), ("max_attention", "54.01"), ("top_k_sum", "46.73")]
    (root / "eval.log").write_text("".join(printed.format(*each) for each in logged))
    report = run(root, "--data-dir", bundle)
    assert len(report["logged"]) == 3
    issues = {issue["where"]: issue["what"] for issue in report["issues"]}
    assert set(issues) == {"gqa-64-8-max_attention", "gqa-64-8-top_k_sum"}
    assert "its answers score 50.0000, its log says 54.01 (eval.log, line 6)" in issues["gqa-64-8-max_attention"]
    assert "only a log knows it: 46.73" in issues["gqa-64-8-top_k_sum"]
    assert set(tracking.find_cells(experiment="lab")["strategy"]) == {"sparsity", "graph_based"}


def mme_tables(root, bundle):
    folder = root / "MME/eval_tool/answers/a/vtn_64_8_sparsity"
    folder.mkdir(parents=True)
    for category, inner in (("existence", ""), ("artwork", "questions_answers_YN")):
        home = bundle / "MME/MME_Benchmark_release_version" / category / inner
        lines = [(path.name, line) for path in sorted(home.glob("*.txt")) for line in path.read_text().splitlines()]
        (folder / f"{category}.txt").write_text("".join(f"{name}\t{line}\tYes\n" for name, line in lines))


def test_mme_tables_take_the_bundles_names_where_there_is_one(store, bundle, tmp_path):
    mme_tables(tmp_path / "answers", bundle)
    report = run(tmp_path / "answers", "--data-dir", bundle)
    assert (report["issues"], report["logged"][0]["score"]) == ([], 100.0)
    row = tracking.find_cells(experiment="lab").iloc[0]
    verdicts = read_verdicts(tracking.download(row["run_id"], "verdicts.jsonl"))
    assert verdicts[0].question_id == "existence/0000.png"


def test_mme_tables_that_lack_official_questions_are_incomplete(store, bundle, tmp_path):
    mme_tables(tmp_path / "answers", bundle)
    report = run(tmp_path / "answers")
    assert "incomplete: 2366 missing" in report["issues"][0]["what"]


def test_published_answers_come_in_and_can_be_rescored(store, mme_answers, tmp_path):
    for cell in ("vanilla/vtn_576", "fastv/vtn_192", "ablation_a/vtn_192_16_max_attention"):
        shutil.copytree(mme_answers / cell, tmp_path / "mme_answers" / cell)
    report = run(tmp_path / "mme_answers")
    assert (len(report["logged"]), report["issues"]) == (3, [])
    assert run(tmp_path / "mme_answers")["logged"] == []
    cells = tracking.find_cells(experiment="lab").set_index("run_name")
    assert cells.loc["mme-576-vanilla", "score"] == pytest.approx(1862.1814, abs=1e-4)
    assert pd.isna(cells.loc["mme-192-all_heads", "heads"])
    run_id = cells.loc["mme-192-16-max_attention", "run_id"]
    rescored = CliRunner().invoke(headwise, ["score", "--run", run_id, "--json"])
    assert json.loads(rescored.stdout)[0]["score"] == pytest.approx(1842.4240, abs=1e-4)


def test_a_folder_without_answers_is_an_error(store, tmp_path):
    (tmp_path / "answers").mkdir()
    with pytest.raises(DataError, match="no folder vtn_"):
        run(tmp_path / "answers")
