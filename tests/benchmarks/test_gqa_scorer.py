"""GQA against the official script's output."""

import re

import pytest

from headwise.benchmarks import benchmark
from headwise.benchmarks.gqa import category_of, grade
from headwise.records import Answer, Sample, read_jsonl

SECTIONS = ("structural", "semantic", "steps", "words")


def official_figures(text):
    """Figures of the official printout under our names."""
    figures, section = {}, None
    for line in text.splitlines():
        if found := re.match(r"Accuracy / (\w+) \w+:", line):
            section = found.group(1)
        elif found := re.match(r"  (\w+): ([\d.]+)%", line):
            figures[f"category/{section}/{found.group(1)}"] = float(found.group(2))
        elif found := re.match(r"(Binary|Open|Accuracy): ([\d.]+)%", line):
            name = found.group(1).lower()
            figures["score" if name == "accuracy" else f"category/{name}"] = float(found.group(2))
    return figures


def test_the_golden_printout_is_reproduced(golden_files, tmp_path):
    golden = golden_files / "scorers"
    (tmp_path / "gqa/data").mkdir(parents=True)
    (tmp_path / "gqa/data/testdev_balanced_questions.json").write_bytes((golden / "gqa_questions.json").read_bytes())
    answers = [Answer(**row) for row in read_jsonl(golden / "gqa_answers.jsonl")]
    samples = [Sample(benchmark="gqa", question_id=a.question_id, image="", prompt=a.prompt) for a in answers]
    bench = benchmark("gqa")
    card = bench.summarise(bench.judge(tmp_path, samples, {answer.key: answer for answer in answers}))
    expected = official_figures((golden / "gqa_expected.txt").read_text())
    assert all(any(f"/{section}/" in name for name in expected) for section in SECTIONS)
    assert {name: round(value, 2) for name, value in (card.metrics | {"score": card.score}).items()} == expected


@pytest.mark.parametrize(
    ("text", "correct"), [("Yes..", 1.0), ("YES", 1.0), (" yes", 0.0), ("yes!", 0.0), ("yes. ", 0.0)]
)
def test_only_trailing_dots_and_case_are_forgiven(text, correct):
    assert grade(text, "yes").correct == correct


def test_an_empty_answer_is_unparsed():
    assert not grade("..", "yes").parsed


def test_steps_leave_out_the_final_reading_step():
    program = [
        {"operation": "select", "argument": "dog (1)"},
        {"operation": "filter color", "argument": "brown"},
        {"operation": "query", "argument": "name"},
    ]
    row = {"question": "What is brown?", "types": {"structural": "query", "semantic": "obj"}, "semantic": program}
    assert category_of(row) == "query/obj/2/3"


@pytest.mark.parametrize("folder", ["data/questions", "data/questions1.2"])
def test_the_key_is_found_in_each_usual_place(bundle, folder):
    home = bundle / "gqa" / folder
    home.mkdir(parents=True)
    (bundle / "gqa/data/testdev_balanced_questions.json").rename(home / "testdev_balanced_questions.json")
    bench = benchmark("gqa")
    assert [verdict.truth for verdict in bench.judge(bundle, bench.samples(bundle), {})] == ["yes", "box"]
