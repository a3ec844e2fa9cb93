"""TextVQA against the official evaluator."""

import pytest

from headwise.benchmarks.evalai import CONTRACTIONS, normalise, soft_scores
from headwise.benchmarks.textvqa import grade, question_of
from headwise.errors import DataError
from headwise.records import read_jsonl


def test_every_golden_item_is_reproduced(golden_files):
    rows = list(read_jsonl(golden_files / "scorers/textvqa.jsonl"))
    ours = [grade(row["prediction"], tuple(row["answers"])).correct for row in rows]
    assert len(rows) > 100
    assert ours == pytest.approx([row["accuracy"] for row in rows])


@pytest.mark.parametrize(
    ("raw", "compared"),
    [
        ("The Apple", "apple"),
        ("two  dogs", "2 dogs"),
        ("dont", "don't"),
        ("Somebody'd", "somebodyd"),
        ("1,000 km/h", "1000 km h"),
        ("a-b", "b"),
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("John's", "john 's"),
        ("NONE", "0"),
    ],
)
def test_normalisation(raw, compared):
    assert normalise(raw) == compared


def test_the_derived_contraction_table_has_the_odd_entries():
    odd = {"couldnt've": "couldn't've", "couldn'tve": "couldn't've", "'ow'sat": "'ow's'at", "yall'd've": "y'all'd've"}
    assert {key: CONTRACTIONS.get(key) for key in odd} == odd


def test_only_the_first_32_full_stops_are_dropped():
    assert normalise("x." * 40).count(".") == 8


def test_leave_one_out_accuracy():
    answers = ("x", "x", "x", "y", "y", *["z"] * 5)
    assert soft_scores(answers) == pytest.approx({"x": 0.9, "y": 0.6, "z": 1.0})


@pytest.mark.parametrize(
    ("prompt", "question"),
    [
        ("What is it?\nReference OCR token: A, B\nAnswer briefly.", "what is it?"),
        ("Reference OCR token: A, B\nWhat is it?\nAnswer briefly.", "what is it?"),
        ("What is it?\nAnswer briefly.", "what is it?"),
        ("OCR tokens: A, B. Question: What is it? Short answer:", "what is it?"),
    ],
)
def test_the_question_comes_back_out_of_the_prompt(prompt, question):
    assert question_of(prompt) == question


def test_a_prompt_of_another_form_is_an_error():
    with pytest.raises(DataError, match="question cannot be found"):
        question_of("What is it?")
