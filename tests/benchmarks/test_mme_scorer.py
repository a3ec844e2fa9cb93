"""MME against the official tool and the published answers."""

import csv

import pytest

from headwise.benchmarks import benchmark
from headwise.benchmarks.mme import grade, judge_labelled, table_answers
from headwise.errors import DataError
from headwise.published.figures import FOLDER
from headwise.records import Verdict


def published_figures():
    """MME figures of the published study by (tokens, heads, strategy)."""
    cells = {}
    with open(FOLDER / "head_strategy_scores.csv", encoding="utf-8", newline="") as rows:
        for row in csv.DictReader(rows):
            if row["benchmark"] == "mme":
                cell = (row["tokens"], row["heads"], row["strategy"])
                cells.setdefault(cell, {})[row["metric"]] = float(row["value"])
    return cells


def folder_card(folder):
    rows = [row for path in sorted(folder.glob("*.txt")) for row in table_answers(path)]
    return benchmark("mme").summarise(judge_labelled(rows))


def test_published_totals_and_categories_are_reproduced(mme_answers):
    cells = published_figures()
    folders = sorted((mme_answers / "ablation_a").iterdir())
    compared = 0
    for folder in folders:
        tokens, heads, strategy = folder.name.removeprefix("vtn_").split("_", 2)
        published = cells.get((tokens, heads, strategy))
        if published is None:
            continue
        card = folder_card(folder)
        assert card.score == pytest.approx(published.pop("total"), abs=1e-4), folder.name
        for half in ("perception", "cognition"):
            assert card.metrics[f"category/{half}"] == pytest.approx(published.pop(half), abs=1e-4), folder.name
        for category, value in published.items():
            assert card.metrics[f"category/{category}/score"] == pytest.approx(value, abs=1e-4), folder.name
        compared += 1
    assert compared == len(folders) == 18


def test_vanilla_scores_what_the_llava_model_zoo_says(mme_answers):
    card = folder_card(mme_answers / "vanilla/vtn_576")
    assert round(card.score) == 1862
    assert (card.samples, card.unparsed, card.complete) == (2374, 3, True)


@pytest.mark.parametrize(
    ("text", "label", "prediction", "correct"),
    [
        ("Yes", "yes", "yes", 1.0),
        ("No, it is not", "no", "no", 1.0),
        ("  no", "no", "no", 1.0),
        ("  yes", "yes", "other", 0.0),
        ("I know", "no", "other", 0.0),
        ("Nothing", "no", "no", 1.0),
        ("", "no", "other", 0.0),
    ],
)
def test_first_four_characters_decide(text, label, prediction, correct):
    read = grade(text, label)
    assert (read.prediction, read.correct, read.parsed) == (prediction, correct, prediction != "other")


def verdict(name, correct):
    return Verdict(question_id=name, image=name, category=name.split("/")[0], status="ok", correct=correct)


def test_a_pair_counts_only_where_both_questions_are_right():
    verdicts = [verdict("OCR/a", 1.0), verdict("OCR/a", 1.0), verdict("OCR/b", 1.0), verdict("OCR/b", 0.0)]
    card = benchmark("mme").summarise(verdicts)
    assert card.metrics == {
        "category/OCR/acc": 75.0,
        "category/OCR/acc_plus": 50.0,
        "category/OCR/score": 125.0,
        "category/perception": 125.0,
    }
    assert card.score == 125.0


def test_a_pair_cut_in_half_counts_in_acc_alone():
    verdicts = [verdict("OCR/a", 1.0), verdict("OCR/a", 1.0), verdict("OCR/b", 0.0)]
    metrics = benchmark("mme").summarise(verdicts).metrics
    assert metrics["category/OCR/acc"] == pytest.approx(200 / 3)
    assert metrics["category/OCR/acc_plus"] == 100.0


def test_both_label_layouts_are_read(bundle):
    bench = benchmark("mme")
    truths = [verdict.truth for verdict in bench.judge(bundle, bench.samples(bundle), {})]
    assert truths == ["yes", "no"] * 4


def test_a_category_without_labels_is_named(bundle):
    for path in (bundle / "MME/MME_Benchmark_release_version/existence").glob("*.txt"):
        path.unlink()
    bench = benchmark("mme")
    with pytest.raises(DataError, match="no MME label file .* 'existence'"):
        bench.judge(bundle, bench.samples(bundle), {})


def test_a_malformed_answer_table_names_its_line(tmp_path):
    path = tmp_path / "OCR.txt"
    path.write_text("1.png\tIs it?\tYes\tYes\n1.png\tIs it?\tYes\n")
    with pytest.raises(DataError, match="line 2: expected 4 tab-separated fields"):
        table_answers(path)
