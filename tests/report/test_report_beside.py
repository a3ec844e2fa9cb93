"""Percent of vanilla per benchmark: a mean only where nothing is lacking."""

import numpy as np
import pytest

from headwise.analysis.beside import by_benchmark, of_vanilla
from headwise.analysis.findings import find, over_benchmarks

GRID = [("vanilla", None, None), ("sum", 64, 8), ("sparsity", 64, 8)]


@pytest.fixture
def parts(cells, verdicts):
    rng = np.random.default_rng(0)
    shares = np.array([0.9, 0.6, 0.5])[:, None]
    whole = find("gqa", cells(*GRID), verdicts(rng.random((3, 80)) < shares))
    lacking = find("textvqa", cells(*GRID[:2]), verdicts(rng.random((2, 80)) < shares[:2]))
    return [whole, lacking]


def test_a_configuration_that_lacks_a_benchmark_has_a_hole_and_no_mean(parts):
    table = of_vanilla(parts, over_benchmarks(parts)).set_index("configuration")
    assert list(table.columns) == ["strategy", "tokens", "heads", "gqa", "textvqa", "mean"]
    assert list(table.index) == ["vanilla", "64/8/sum", "64/8/sparsity"]
    row = table.loc["64/8/sum"]
    assert row["mean"] == pytest.approx((row["gqa"] + row["textvqa"]) / 2)
    assert np.isfinite(table.loc["64/8/sparsity", "gqa"])
    assert np.isnan(table.loc["64/8/sparsity", ["textvqa", "mean"]].astype(float)).all()
    assert by_benchmark(table.reset_index())["64/8/sparsity"]["textvqa"] is None


def test_without_an_unpruned_cell_there_is_no_percent_of_it(cells, verdicts):
    part = find("gqa", cells(*GRID[1:]), verdicts(np.eye(2, 40)))
    assert of_vanilla([part, part], None).empty
