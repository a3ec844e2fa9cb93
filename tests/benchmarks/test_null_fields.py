"""A field that is null or of another type is named: it becomes no word of a prompt, no label and no score."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from headwise.benchmarks import benchmark
from headwise.benchmarks.bundles.check import check_benchmark
from headwise.cli import headwise
from headwise.errors import DataError
from headwise.scoring.score import score_answers

GOLDEN = Path(__file__).resolve().parents[1] / "golden/benchmarks"
SCIENCEQA, PROBLEMS = "scienceqa/llava_test_CQM-A.json", "scienceqa/problems.json"
SEED, SEED_KEY = "seed_bench/llava-seed-bench.jsonl", "seed_bench/SEED-Bench.json"
VQAV2, VQAV2_KEY = "vqav2/v2_OpenEnded_mscoco_val2014_questions.json", "vqav2/v2_mscoco_val2014_annotations.json"
CHARTQA, OCRBENCH = "chartqa/test/test_human.json", "ocrbench/OCRBench.json"

DAMAGES = [
    ("scienceqa", SCIENCEQA, (0, "image"), 5),
    ("scienceqa", SCIENCEQA, (0, "image"), []),
    ("scienceqa", SCIENCEQA, (0, "conversations", 0, "value"), None),
    ("scienceqa", PROBLEMS, ("41", "answer"), -1),
    ("scienceqa", PROBLEMS, ("41", "answer"), True),
    ("scienceqa", PROBLEMS, ("41", "answer"), 9),
    ("scienceqa", PROBLEMS, ("41", "choices"), []),
    ("scienceqa", PROBLEMS, ("41", "choices"), "ABC"),
    ("scienceqa", PROBLEMS, ("41", "subject"), 5),
    ("seed", SEED, (0, "category"), "picture"),
    ("seed", SEED, (0, "category"), ""),
    ("seed", SEED_KEY, ("questions", 0, "question_type_id"), None),
    ("vizwiz", "vizwiz/val.json", (0, "question"), None),
    ("vizwiz", "vizwiz/val.json", (0, "image"), None),
    ("vizwiz", "vizwiz/val.json", (0, "answers", 0, "answer"), None),
    ("vizwiz", "vizwiz/val.json", (0, "answer_type"), ["other"]),
    ("vqav2", VQAV2, ("questions", 0, "question"), None),
    ("vqav2", VQAV2, ("questions", 0, "image_id"), 1.5),
    ("vqav2", VQAV2_KEY, ("annotations", 0, "answers", 0, "answer"), None),
    ("ocrbench", OCRBENCH, (0, "question"), None),
    ("ocrbench", OCRBENCH, (0, "type"), None),
    ("ocrbench", OCRBENCH, (0, "answers"), {}),
    ("ocrbench", OCRBENCH, (0, "answers"), [None]),
    ("ocrbench", OCRBENCH, (0, "answers"), True),
    ("chartqa", CHARTQA, (0, "query"), None),
    ("chartqa", CHARTQA, (0, "label"), None),
    ("chartqa", CHARTQA, (0, "label"), " "),
    ("chartqa", CHARTQA, (0, "label"), float("nan")),
    ("refcoco", "refcoco/refcoco_val.jsonl", (0, "sent"), None),
    ("refcoco", "refcoco/refcoco_val.jsonl", (0, "image"), None),
]


def damaged(tmp_path: Path, name: str, file: str, place: tuple, value) -> Path:
    """A golden bundle whose file has another value at that place."""
    shutil.copytree(GOLDEN / name / "bundle", tmp_path / "eval")
    path = tmp_path / "eval" / file
    text = path.read_text(encoding="utf-8")
    lined = path.suffix == ".jsonl"
    content = [json.loads(line) for line in text.splitlines()] if lined else json.loads(text)
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    path.write_text("\n".join(map(json.dumps, content)) if lined else json.dumps(content), encoding="utf-8")
    return tmp_path / "eval"


@pytest.mark.parametrize(("name", "file", "place", "value"), DAMAGES, ids=lambda part: str(part)[-40:])
def test_it_is_one_line_and_no_score(tmp_path, name, file, place, value):
    data_dir = damaged(tmp_path, name, file, place, value)
    with pytest.raises(DataError) as raised:
        score_answers(name, data_dir, GOLDEN / name / "answers.jsonl")
    assert "\n" not in str(raised.value)
    assert str(data_dir / benchmark(name).home) in str(raised.value)
    assert check_benchmark(name, data_dir).problems


@pytest.mark.parametrize(
    ("name", "file", "part"), [("vqav2", VQAV2_KEY, "annotations"), ("seed", SEED_KEY, "questions")]
)
def test_two_entries_of_one_question_are_refused_where_they_differ(tmp_path, name, file, part):
    data_dir = damaged(tmp_path, name, file, ("extra",), 1)
    path = data_dir / file
    content = json.loads(path.read_text(encoding="utf-8"))
    before, _ = score_answers(name, data_dir, GOLDEN / name / "answers.jsonl")
    content[part].append(content[part][0])
    path.write_text(json.dumps(content), encoding="utf-8")
    assert score_answers(name, data_dir, GOLDEN / name / "answers.jsonl")[0] == before
    content[part].append(content[part][0] | {"answer": "B", "answers": []})
    content[part].append(content[part][0] | {"answer": "C", "answers": None})
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match="two different entries for question"):
        score_answers(name, data_dir, GOLDEN / name / "answers.jsonl")


@pytest.mark.parametrize("name", sorted(path.name for path in GOLDEN.iterdir() if path.is_dir()))
@pytest.mark.parametrize("change", ["reversed", "windows", "marked"])
def test_order_line_ends_and_byte_order_mark_of_an_answer_file_change_nothing(tmp_path, name, change):
    text = (GOLDEN / name / "answers.jsonl").read_text(encoding="utf-8")
    made = {
        "reversed": "".join(reversed(text.splitlines(keepends=True))),
        "windows": text.replace("\n", "\r\n"),
        "marked": "\ufeff" + text,
    }
    (tmp_path / "answers.jsonl").write_bytes(made[change].encode())
    printed = []
    for folder in (GOLDEN / name, tmp_path):
        files = ["--answers", str(folder / "answers.jsonl"), "--data-dir", str(GOLDEN / name / "bundle")]
        result = CliRunner().invoke(headwise, ["score", "--benchmark", name, *files, "--json"], catch_exceptions=False)
        printed.append(json.loads(result.stdout))
    assert printed[0] == printed[1]


TABLES = {"mmbench": "mmbench/mmbench_dev_20230712.tsv", "mmstar": "MMStar/MMStar.tsv"}


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("column", ["A", "D", "question", "index", "image"])
def test_a_table_without_a_column_is_refused(tmp_path, name, column):
    shutil.copytree(GOLDEN / name / "bundle", tmp_path / "eval")
    path = tmp_path / "eval" / TABLES[name]
    header, rest = path.read_text(encoding="utf-8").split("\n", 1)
    fields = [f"{each}_old" if each == column else each for each in header.split("\t")]
    path.write_text("\t".join(fields) + "\n" + rest, encoding="utf-8")
    with pytest.raises(DataError, match=rf"{path.name}: lacks the column {column}$"):
        score_answers(name, tmp_path / "eval", GOLDEN / name / "answers.jsonl")


def test_an_index_that_is_no_number_is_named_by_score_and_by_data_check(tmp_path):
    shutil.copytree(GOLDEN / "mmbench/bundle", tmp_path / "eval")
    path = tmp_path / "eval" / TABLES["mmbench"]
    path.write_text(path.read_text(encoding="utf-8").replace("\n746\t", "\nx\t"), encoding="utf-8")
    with pytest.raises(DataError, match="its index is 'x', not a whole number"):
        score_answers("mmbench", tmp_path / "eval", GOLDEN / "mmbench/answers.jsonl")
    (problem,) = check_benchmark("mmbench", tmp_path / "eval").problems
    assert "its index is 'x'" in problem.what


@pytest.mark.parametrize(
    ("name", "file", "part"),
    [("scienceqa", SCIENCEQA, None), ("seed", SEED, None), ("vqav2", VQAV2, "questions")],
)
def test_a_question_that_stands_there_twice_is_refused(tmp_path, name, file, part):
    shutil.copytree(GOLDEN / name / "bundle", tmp_path / "eval")
    path = tmp_path / "eval" / file
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        path.write_text(text + text.split("\n")[0] + "\n", encoding="utf-8")
    else:
        content = json.loads(text)
        (content[part] if part else content).append((content[part] if part else content)[0])
        path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DataError, match=r"has question '\d+' 2 times"):
        score_answers(name, tmp_path / "eval", GOLDEN / name / "answers.jsonl")


@pytest.mark.parametrize("name", TABLES)
def test_a_row_that_stands_there_twice_is_refused(tmp_path, name):
    shutil.copytree(GOLDEN / name / "bundle", tmp_path / "eval")
    path = tmp_path / "eval" / TABLES[name]
    with open(path, encoding="utf-8", newline="") as lines:
        csv.field_size_limit(sys.maxsize)
        rows = list(csv.reader(lines, delimiter="\t"))
    with open(path, "w", encoding="utf-8", newline="") as out:
        csv.writer(out, delimiter="\t", lineterminator="\n").writerows([*rows, rows[1]])
    with pytest.raises(DataError, match=r"has question '\d+' 2 times"):
        score_answers(name, tmp_path / "eval", GOLDEN / name / "answers.jsonl")
