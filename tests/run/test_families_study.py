"""A whole study of every family: images of many sizes, answers, scores, evidence, comparison."""

import re

import numpy as np
import pytest
from click.testing import CliRunner
from mlflow import MlflowClient
from PIL import Image
from tiny_families import FAMILIES, write_tiny

from headwise.cli import headwise

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


def grids_per_image(evidence):
    """Tokens whose places are recorded, newlines included, by question."""
    rows, columns, newline = (evidence["grids_G7"][:, part] for part in (0, 1, 6))
    ends = np.cumsum(evidence["grids_N"])[:-1]
    return np.array([part.sum() for part in np.split(rows * (columns + newline), ends)], dtype=int)


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
            assert grids_per_image(evidence).tolist() == evidence["visual_N"].tolist()
            if run.data.params["benchmark"] == "mme":
                assert len(set(evidence["visual_N"].tolist())) > 1
        assert run.data.metrics["failed"] == 0
        assert run.data.metrics["kept_tokens"] == pytest.approx(kept.mean())


def test_a_plan_says_of_which_image_its_counts_are(store, pictures):
    model = write_tiny("internvl", store / "model")
    given = settings("internvl", model, pictures) | {"benchmark": "gqa"}
    words = [word for key, value in given.items() for word in (f"--{key.replace('_', '-')}", str(value))]
    done = CliRunner().invoke(headwise, ["evaluate", *words, "--plan"], catch_exceptions=False)
    said = r"^image +(\d+) visual tokens \(the first image; other images have other numbers\)$"
    found = re.search(said, done.output, re.M)
    assert found
    assert f"tokens 1.0   {found[1]} in layers 1-6 " in done.output
