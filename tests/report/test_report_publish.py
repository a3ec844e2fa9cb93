"""The report's files: the page, its pictures, and what is left out when a run lacks it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from headwise.analysis.findings import find, over_benchmarks
from headwise.analysis.recommendation import RULE, recommend
from headwise.errors import DataError
from headwise.report.page import sentence
from headwise.report.publish import write_report


@pytest.fixture(scope="module")
def analysis(study):
    findings = {name: find(name, study.of(name), study.verdicts(name)) for name in study.benchmarks}
    overall = over_benchmarks(list(findings.values()))
    tables = {"recommendation": recommend(overall.cells)}
    return SimpleNamespace(comparison=study, findings=findings, overall=overall, tables=tables, score_tables={})


def stored(analysis, folder: Path):
    """The analysis with its runs' files in `folder` and images where a bundle has them."""
    places = {name: found.cells.assign(artifact_uri="") for name, found in analysis.findings.items()}
    findings = {}
    for name, cells in places.items():
        cells["artifact_uri"] = [str(folder / run) for run in cells["run_id"]]
        found = analysis.findings[name]
        findings[name] = replace(found, cells=cells)
    return SimpleNamespace(**{**vars(analysis), "findings": findings})


@pytest.fixture(scope="module")
def written(analysis, study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out")
    report = write_report(stored(analysis, study.folder), folder, run_links={"gqa1": "http://ui/gqa1"}, links={})
    return report.figures, report.tables, (folder / "report.html").read_text(encoding="utf-8")


def test_page_pictures_and_evidence_tables_are_there(written):
    pictures, tables, page = written
    for kind in ("best_set", "tokens", "heat_maps", "head_frequency", "overlap"):
        assert {f"{kind}_gqa.png", f"{kind}_pope.png"} <= set(pictures)
    assert "against_flops_overall.png" in pictures
    assert page.count("data:image/png;base64,") == len(pictures)
    assert {"float16_gqa", "head_frequency_gqa", "overlap_heads_pope", "overlap_kept_pope"} <= set(tables)


def test_the_rule_of_the_recommendation_is_printed_with_it(written):
    assert RULE in written[2]


def test_a_configuration_links_to_its_run(written):
    assert '<a href="http://ui/gqa1" target="_blank" rel="noopener">192/8/sum</a>' in written[2]


def test_models_and_datasets_are_escaped_everywhere(written):
    page = written[2]
    assert "<script>document.title" not in page
    assert "What is <b>" not in page
    assert "a note about &lt;b&gt;cells&lt;/b&gt;" in page


def test_a_run_without_evidence_is_reported_without_it(analysis, study, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study.folder, copy)
    for path in copy.glob("*/evidence.npz"):
        path.unlink()
    (tmp_path / "out").mkdir()
    assert write_report(stored(analysis, copy), tmp_path / "out", run_links={}, links={}).tables == {}
    assert "float16" not in (tmp_path / "out" / "report.html").read_text().split("samples-data")[0].split("</style>")[1]


def test_broken_evidence_is_an_error_that_names_the_file(analysis, study, tmp_path):
    copy = tmp_path / "study"
    shutil.copytree(study.folder, copy)
    (copy / "gqa2" / "evidence.npz").write_bytes(b"cut short")
    with pytest.raises(DataError, match=r"gqa2.evidence\.npz"):
        write_report(stored(analysis, copy), tmp_path, run_links={}, links={})


def test_images_of_a_data_dir_are_found(analysis, study, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(study.folder / "images", bundle / "gqa/data/images")
    analysis.comparison.cells["data_dir"] = str(bundle)
    report = write_report(stored(analysis, study.folder), tmp_path, run_links={}, links={})
    assert "kept_tokens_gqa.png" in report.figures
    assert "kept_tokens_pope.png" not in report.figures


def test_costs_stand_beside_accuracy_and_say_how_they_were_measured(written):
    page = written[2]
    assert "Accuracy beside cost" in page
    assert "500 ms" in page
    assert "front: prefill" in page


def test_the_best_is_not_counted_among_those_not_told_from_it(analysis):
    found = analysis.findings["gqa"]
    inside, candidates = len(found.best_set()), len(found.pruned)
    assert 1 < inside < candidates
    assert f"statistically tied with {inside - 1} other{'s' if inside > 2 else ''} of {candidates - 1}" in sentence(
        found
    )
