"""Answer files to scorecards and verdict files."""

import json
import math

import pytest

from headwise.benchmarks import BENCHMARKS
from headwise.errors import ConfigError, DataError
from headwise.records import Answer, Failure, Verdict, write_jsonl
from headwise.scoring.score import as_record, by_question, read_verdicts, score_answers, score_records, write_verdicts

PROMPT = "\nAnswer the question using a single word or phrase."


def gqa_rows(first="yes", second="box"):
    return [
        {"question_id": "100", "prompt": "Is it red?" + PROMPT, "text": first},
        {"question_id": "101", "prompt": "What is left of it?" + PROMPT, "text": second},
    ]


def write(tmp_path, rows):
    path = tmp_path / "answers.jsonl"
    write_jsonl(path, rows)
    return path


def test_an_answer_file_is_scored(bundle, tmp_path):
    card, verdicts = score_answers("gqa", bundle, write(tmp_path, gqa_rows(second="dog")))
    assert card.score == 50.0
    assert [verdict.correct for verdict in verdicts] == [1.0, 0.0]
    record = as_record(card)
    assert list(record)[:7] == ["benchmark", "score", "complete", "samples", "failed", "missing", "unparsed"]
    assert record["category/binary"] == 100.0


def test_the_order_of_answers_does_not_matter(bundle, tmp_path):
    card, _ = score_answers("gqa", bundle, write(tmp_path, gqa_rows()[::-1]))
    assert card.score == 100.0


def test_a_limited_file_is_complete_for_its_limit_and_incomplete_without(bundle, tmp_path):
    path = write(tmp_path, gqa_rows()[:1])
    assert score_answers("gqa", bundle, path, limit=1)[0].complete
    card, _ = score_answers("gqa", bundle, path)
    assert (card.missing, card.complete, card.score) == (1, False, 100.0)


def test_answers_beyond_the_limit_are_left_aside(bundle, tmp_path):
    card, verdicts = score_answers("gqa", bundle, write(tmp_path, gqa_rows(second="dog")), limit=1)
    assert (card.score, len(verdicts)) == (100.0, 1)


def test_failures_stay_failures(bundle, tmp_path):
    rows = gqa_rows()
    del rows[0]["text"]
    rows[0]["error"] = "cannot read the image"
    card, verdicts = score_answers("gqa", bundle, write(tmp_path, rows))
    assert (card.failed, card.score, verdicts[0].status) == (1, 100.0, "failed")


def test_two_answers_to_one_question_are_an_error(bundle, tmp_path):
    with pytest.raises(DataError, match=r"answers.jsonl: 1 answer is to a question already answered \(100\)"):
        score_answers("gqa", bundle, write(tmp_path, [*gqa_rows(), gqa_rows(first="no")[0]]))


def test_an_answer_to_an_unknown_question_is_an_error(bundle, tmp_path):
    stray = {"question_id": "999", "prompt": "?", "text": "yes"}
    with pytest.raises(DataError, match=r"1 answer is to a question not in the benchmark \(999\)"):
        score_answers("gqa", bundle, write(tmp_path, [*gqa_rows(), stray]))
    others = [stray, stray | {"question_id": "998"}]
    with pytest.raises(DataError, match=r"2 answers are to questions not in the benchmark \(999, 998\)"):
        score_answers("gqa", bundle, write(tmp_path, [*gqa_rows(), *others]))


def test_another_wording_is_matched_by_an_id_of_one_question_and_said(bundle, tmp_path, caplog):
    rows = [row | {"prompt": "Be brief."} for row in gqa_rows()]
    assert score_answers("gqa", bundle, write(tmp_path, rows))[0].score == 100.0
    assert "matched 2 answers by question_id" in caplog.text


def test_another_wording_of_a_shared_id_is_never_guessed(bundle, tmp_path):
    row = {"question_id": "existence/0000.png", "prompt": "Is there something?", "text": "yes"}
    with pytest.raises(DataError, match="not in the benchmark"):
        score_answers("mme", bundle, write(tmp_path, [row]))


def test_a_question_that_the_benchmark_repeats_may_be_answered_as_often(bundle):
    path = bundle / "gqa/llava_gqa_testdev_balanced.jsonl"
    path.write_text(path.read_text() + path.read_text().splitlines()[0] + "\n")
    sample = BENCHMARKS["gqa"].samples(bundle)[0]
    said = [Answer(question_id=sample.question_id, prompt=sample.prompt, text=text) for text in ("yes", "no", "no")]
    card, verdicts = score_records("gqa", bundle, said[:2])
    assert [verdict.prediction for verdict in verdicts] == ["yes", "", "no"]
    assert (card.score, card.missing) == (50.0, 1)
    with pytest.raises(DataError, match="already answered"):
        score_records("gqa", bundle, said)


def test_an_unknown_benchmark_and_a_missing_file_are_one_line_errors(bundle, tmp_path):
    with pytest.raises(ConfigError, match="'vizwiz2' is not one of"):
        score_answers("vizwiz2", bundle, tmp_path / "answers.jsonl")
    with pytest.raises(DataError, match="cannot read .*answers.jsonl"):
        score_answers("gqa", bundle, tmp_path / "answers.jsonl")


@pytest.fixture
def verdicts():
    common = {"image": "n1.jpg", "category": "query/attr/1/3", "truth": "bœuf"}
    return [
        Verdict(question_id="1", status="ok", correct=0.3, prediction="a|b\n", **common),
        Verdict(question_id="2", status="failed", correct=None, **common),
    ]


@pytest.mark.parametrize("name", ["verdicts.jsonl", "verdicts.parquet"])
def test_verdicts_survive_both_files(tmp_path, verdicts, name):
    write_verdicts(tmp_path / "out", verdicts)
    back = read_verdicts(tmp_path / "out" / name)
    assert [row.correct for row in back] == pytest.approx([0.3, None])
    assert [(row.question_id, row.status, row.prediction, row.truth) for row in back] == [
        ("1", "ok", "a|b\n", "bœuf"),
        ("2", "failed", "", "bœuf"),
    ]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["verdicts.jsonl", "verdicts.parquet"]


def test_the_comparison_reads_the_columns(tmp_path, verdicts):
    from headwise.analysis.verdicts import read_matrix

    write_verdicts(tmp_path, verdicts)
    matrix = read_matrix(BENCHMARKS["gqa"], {"run": tmp_path / "verdicts.parquet"})
    assert matrix.correct_CQ[0, 0] == pytest.approx(0.3)
    assert math.isnan(matrix.correct_CQ[0, 1])
    assert list(matrix.prediction_CQ[0]) == [0, -1]


def test_verdict_files_that_are_cut_short_are_named(tmp_path, verdicts):
    write_verdicts(tmp_path, verdicts)
    whole = (tmp_path / "verdicts.parquet").read_bytes()
    (tmp_path / "verdicts.parquet").write_bytes(whole[:-20])
    with pytest.raises(DataError, match="cannot read the verdicts"):
        read_verdicts(tmp_path / "verdicts.parquet")
    (tmp_path / "verdicts.jsonl").write_text(json.dumps({"question_id": "1"}) + "\n")
    with pytest.raises(DataError, match="verdict 1: lacks category"):
        read_verdicts(tmp_path / "verdicts.jsonl")


def test_failures_are_recorded_with_their_question(bundle):
    sample = BENCHMARKS["gqa"].samples(bundle)[0]
    failure = Failure(question_id=sample.question_id, prompt=sample.prompt, error="x")
    assert by_question([sample], [failure], "file") == {(sample.key, 0): failure}
