"""A benchmark is one file: found in this package or in a plugin, scored and compared without touching anything."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from headwise import benchmarks
from headwise.benchmarks import BENCHMARKS, benchmark, named_sets, register
from headwise.embedded import DATA_DIR
from headwise.errors import ConfigError

PLUGIN = '''
from headwise.benchmarks import Benchmark, Grade, KeyedBenchmark, Truth
from headwise.benchmarks.files import inside, question_samples
from headwise.stats.aggregates import CategoryMean


class Toy(KeyedBenchmark):
    """Every right answer is yes."""

    name = "toy"
    title = "Toy"
    home = "toy"
    aggregate = CategoryMean()

    def questions(self, data_dir):
        return question_samples(data_dir / "toy" / "questions.jsonl", self.name)

    def image_path(self, data_dir, sample):
        return inside(data_dir / "toy", sample.image)

    def truths(self, data_dir, samples):
        return lambda sample: Truth(sample.category, "yes", "yes")

    def grade(self, text, key):
        return Grade(text, float(text == key), bool(text))
'''


@pytest.fixture
def plugin(tmp_path):
    """A folder that an installed package with one entry point would leave behind, and a bundle for it."""
    info = tmp_path / "site/toy-1.0.dist-info"
    info.mkdir(parents=True)
    (tmp_path / "site/toy_benchmark.py").write_text(PLUGIN)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[headwise.benchmarks]\ntoy = toy_benchmark\n")
    rows = [{"question_id": i, "image": f"{i}.png", "text": "?", "category": "a" if i else "b"} for i in range(3)]
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy/questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"question_id": i, "prompt": "?", "text": "no" if i == 1 else "yes"} for i in range(3)]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    return tmp_path


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess:
    source = Path(benchmarks.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{source}{os.pathsep}{folder / 'site'}"}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False)


def test_a_plugin_is_scored_by_its_own_aggregate_without_touching_the_package(plugin):
    score = ("score", "--benchmark", "toy", "--answers", str(plugin / "answers.jsonl"), "--data-dir", str(plugin))
    result = run(plugin, "-m", "headwise", *score, "--json")
    assert json.loads(result.stdout)["score"] == 75.0, result.stderr  # categories at 100 and 50 %, not 2 of 3
    checked = run(plugin, "-m", "headwise", "data", "check", str(plugin), "--json")
    assert list(json.loads(checked.stdout)["benchmarks"]) == ["toy"], checked.stderr


def test_a_broken_plugin_is_named_in_one_line(plugin):
    (plugin / "site/toy_benchmark.py").write_text("import nothing_of_that_name\n")
    result = run(plugin, "-m", "headwise", "data", "check", str(plugin))
    assert result.returncode == 2
    assert result.stderr.strip().splitlines() == [
        "headwise: plugin toy (toy_benchmark): ModuleNotFoundError: No module named 'nothing_of_that_name'"
    ]


def test_names_are_known_without_torch_scipy_and_pyarrow():
    source = "import sys, headwise.benchmarks; print([m for m in ('torch', 'scipy', 'pyarrow') if m in sys.modules])"
    assert run(Path.cwd(), "-c", source).stdout.strip() == "[]"


def test_a_name_that_another_benchmark_has_is_refused():
    class Second(type(BENCHMARKS["pope"])):
        name = "pope"

    with pytest.raises(ConfigError, match="benchmark 'pope': is defined in .*POPE and in .*Second"):
        register(Second)
    assert type(BENCHMARKS["pope"]) is not Second


def test_a_benchmark_is_found_by_the_name_of_its_default_rule():
    assert benchmark("pope.llava-v1") is BENCHMARKS["pope"]


def test_every_benchmark_says_what_lists_and_checks_need():
    for name, bench in BENCHMARKS.items():
        assert name == bench.name
        for field in ("title", "rule", "unit", "home", "question_file", "image_folder", "source", "convention"):
            assert getattr(bench, field), (name, field)
        assert bench.question_file.startswith(f"{bench.home}/")
        assert set(bench.fixes) <= {"questions", "labels", "images"}
        assert bench.scorer == f"{name}/{bench.version}"


def test_the_embedded_set_is_the_published_one_and_two_more_and_what_the_embedded_data_holds():
    published, held = named_sets()["published"], named_sets()["embedded"]
    assert published == ["textvqa", "mme", "gqa", "pope"]
    assert held == [*published, "mmbench", "refcoco"]
    homes = {benchmark(name).home for name in held}
    assert homes == {folder.name for folder in DATA_DIR.iterdir()}
