"""Scores in text logs belong to the cell of their own section."""

import pytest

from headwise.published.importer.logs import read_logs, sections

GQA_PRINTOUT = "Binary: 70.00%\nOpen: 40.00%\nAccuracy: {}%\nValidity: 0.00%\n"
PRINTOUTS = {
    "textvqa": ("Samples: 5000\nAccuracy: 57.52%\n", 57.52),
    "gqa": (GQA_PRINTOUT.format("54.01"), 54.01),
    "pope": ("Category: random, # samples: 291\nF1 score: 0.7\nAverage F1 score: 0.8077378469\n", 80.77378469),
    "mme": (
        "=========== Perception ===========\ntotal score: 1484.5 \n\n\t existence  score: 190.0\n\n\n"
        "=========== Cognition ===========\ntotal score: 300.25 \n",
        1784.75,
    ),
}


def read(root):
    issues = []
    return read_logs(root, "llava-v1.5-7b", issues.append), issues


@pytest.mark.parametrize("benchmark", list(PRINTOUTS))
def test_each_official_printout_is_read(tmp_path, benchmark):
    printed, score = PRINTOUTS[benchmark]
    (tmp_path / "eval.log").write_text(f"running ./answers/a/vtn_192_8_sparsity\n{printed}")
    (figure,), _ = read(tmp_path)
    assert figure.score == pytest.approx(score)
    assert (figure.cell.benchmark, figure.cell.strategy, figure.cell.tokens) == (benchmark, "sparsity", 192)


def test_a_cell_that_failed_does_not_get_its_neighbours_score(tmp_path):
    text = (
        "eval vtn_192_8_hierarchical\nTraceback (most recent call last):\nKeyError: 'x'\n"
        f"eval vtn_192_8_max_attention\n{GQA_PRINTOUT.format('54.01')}"
    )
    (tmp_path / "eval.log").write_text(text)
    figures, _ = read(tmp_path)
    assert [(figure.cell.strategy, figure.where) for figure in figures] == [("max_attention", "eval.log, line 5")]


def test_a_log_may_be_named_after_its_cell(tmp_path):
    folder = tmp_path / "gqa" / "vtn_64_8_sparsity"
    folder.mkdir(parents=True)
    (folder / "score.txt").write_text(GQA_PRINTOUT.format("46.73"))
    assert [figure.cell.name for figure in read(tmp_path)[0]] == ["gqa-64-8-sparsity"]


def test_a_line_with_several_cells_belongs_to_none():
    text = "vtn_64_8_sum\nA\nskip vtn_64_8_sum and vtn_64_8_variance\nB\n"
    assert list(sections(text)) == [("vtn_64_8_sum", 1, "vtn_64_8_sum\nA\n")]


def test_figures_without_a_cell_are_left_alone(tmp_path):
    (tmp_path / "eval.log").write_text(GQA_PRINTOUT.format("46.73"))
    assert read(tmp_path) == ([], [])


def test_a_log_that_is_no_text_is_reported(tmp_path):
    (tmp_path / "eval.log").write_bytes(b"\xff\xfe\x00")
    figures, issues = read(tmp_path)
    assert figures == []
    assert "log not read" in issues[0].what
