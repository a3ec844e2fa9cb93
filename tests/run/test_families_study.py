"""A whole study of every family: images of many sizes, answers, scores, evidence, comparison."""

import base64
import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.analysis.evidence import read_evidence
from headwise.cli import headwise
from headwise.report.samples import RASTER

SIZES = [(40, 60), (33, 90), (120, 30)]
LIMITS = {"qwen2_5_vl": {"min_pixels": 256, "max_pixels": 4096}, "qwen3_vl": {"min_pixels": 256, "max_pixels": 4096}}


@pytest.fixture
def pictures(bundle):
    """The bundle with pictures of unlike shape and content."""
    rng = np.random.default_rng(0)
    paths = sorted(path for path in bundle.rglob("*") if path.suffix in (".jpg", ".png"))
    for path, (width, height) in zip(paths, SIZES * len(paths), strict=False):
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return bundle


def settings(name, model, data_dir):
    return {
        "model": str(model),
        "data_dir": str(data_dir),
        "benchmark": "mme,textvqa",
        "strategy": "sparsity,fastv",
        "controls": "vanilla,random_tokens",
        "tokens": "0.5,0.25",
        "heads": "0.5",
        "budget": "kept",
        **LIMITS.get(name, {}),
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_a_study_of_each_family_from_pictures_to_comparison(name, store, pictures, monkeypatch):
    monkeypatch.setenv("HEADWISE_HOME", str(store / "home"))
    given = settings(name, write_tiny(name, store / "model"), pictures)
    words = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    done = CliRunner().invoke(headwise, ["run", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    client = MlflowClient()
    experiments = [each.experiment_id for each in client.search_experiments()]
    cells = client.search_runs(experiments, "tags.`headwise.kind` = 'cell'")
    assert len(cells) == 2 * 7
    for run in cells:
        share = float(run.data.params["tokens"])
        path = client.download_artifacts(run.info.run_id, "evidence.npz")
        with np.load(path) as evidence:
            kept = np.unpackbits(evidence["kept_NV"], axis=1).sum(1)
            assert kept.tolist() == np.floor(share * evidence["visual_N"] + 0.5).astype(int).tolist()
            if run.data.params["benchmark"] == "mme":
                assert len(set(evidence["visual_N"].tolist())) > 1
            boxes = {read_evidence(Path(path)).boxes(row).shape for row in range(len(kept))}
            assert boxes == {(visual, 4) for visual in evidence["visual_N"].tolist()}
        assert run.data.metrics["failed"] == 0
        assert run.data.metrics["kept_tokens"] == pytest.approx(kept.mean())
    shown = samples_of(store)
    assert {part["side"] for part in shown} == {RASTER}
    for part in shown:
        for one in part["samples"]:
            for vanilla, kept, counts in zip(part["vanilla"], one["kept"], one["counts"], strict=True):
                drawn = np.unpackbits(np.frombuffer(base64.b64decode(kept), np.uint8)).mean()
                assert 0 < drawn <= 1
                assert (counts[0] == counts[1]) == vanilla


def samples_of(folder):
    """The sample browser's data of the report in the store."""
    [report] = folder.glob("mlruns/**/report.html")
    found = re.search(
        r'<script type="application/json" id="samples-data">(.*?)</script>', report.read_text("utf-8"), re.S
    )
    return json.loads(found.group(1))
