"""Files as users hand them in: a byte order mark changes nothing, what cannot be used is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from headwise.benchmarks import benchmark
from headwise.benchmarks.bundles.check import image_state
from headwise.benchmarks.mme import table_answers
from headwise.errors import ConfigError, DataError
from headwise.published.figures import FOLDER, SCORES, read_published
from headwise.published.importer.sources import Issue, find_sources
from headwise.records import Answer, Failure, read_answers, read_jsonl
from headwise.run.settings import load_settings
from headwise.run.spool import Spool
from headwise.scoring.score import score_labelled
from headwise.system.reading import parse_json, read_image

MARK = b"\xef\xbb\xbf"
DEEP = "[" * 100_000
UNUSABLE = {
    "deep": (f'{{"text": {DEEP}}}', "nested too deeply"),
    "digits": ('{"text": ' + "9" * 5000 + "}", "more than 4300 digits"),
    "surrogate": ('{"text": "\\ud800"}', "lone surrogate"),
}


def written(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(("text", "words"), UNUSABLE.values(), ids=UNUSABLE)
def test_json_that_cannot_be_used_is_one_line_that_names_the_place(tmp_path, text, words):
    path = written(tmp_path / "answers.jsonl", f'{{"a": 1}}\n{text}\n')
    with pytest.raises(DataError, match=rf"answers.jsonl, line 2: .*{words}") as caught:
        list(read_jsonl(path))
    assert "\n" not in str(caught.value)


def test_a_pair_of_surrogates_is_a_character():
    assert parse_json('"\\ud83d\\ude00"', "here") == "😀"


def test_a_byte_order_mark_is_no_part_of_any_line_also_where_files_were_joined(tmp_path):
    path = written(tmp_path / "merge.jsonl", MARK + b'{"a": 1}\n' + MARK + b'{"a": 2}\n')
    assert list(read_jsonl(path)) == [{"a": 1}, {"a": 2}]


def test_a_byte_order_mark_before_mme_s_answers_names_no_other_image(tmp_path):
    row = "0001.png\tIs it red?\tYes\tYes\n"
    path = written(tmp_path / "color.txt", MARK + row.encode())
    assert [found["question_id"] for found in table_answers(path)] == ["color/0001.png"]


@pytest.mark.parametrize("name", ["textvqa", "mme", "gqa", "pope"])
def test_a_byte_order_mark_in_every_text_file_of_a_bundle_changes_no_truth(bundle, name):
    bench = benchmark(name)
    samples = bench.samples(bundle)
    before = bench.judge(bundle, samples, {})
    for path in (path for path in bundle.rglob("*") if path.suffix in (".txt", ".json", ".jsonl")):
        path.write_bytes(MARK + path.read_bytes())
    assert bench.samples(bundle) == samples
    assert bench.judge(bundle, samples, {}) == before


def test_a_byte_order_mark_in_a_configuration_and_in_published_figures_is_passed_over(tmp_path):
    study = load_settings(written(tmp_path / "study.yaml", MARK + b"tokens: 64\n"), {})
    assert study.tokens == [64]
    scores = written(tmp_path / "figures" / SCORES, MARK + (FOLDER / SCORES).read_bytes())
    assert len(read_published(scores.parent).scores) == len(read_published().scores)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"model: caf\xe9\n", "not UTF-8 text"),
        ("tokens: " + "[" * 100_000, "nested too deeply|not valid YAML"),
        ("limit: " + "9" * 5000 + "\n", "Exceeds the limit|digits"),
        ("seed: 2020-99-99\n", "not valid YAML"),
        ('model: "\\ud800"\n', "model: "),
        ("5: 6\n", "whose name is no text"),
        ("model: " + "[" * 90 + "1" + "]" * 90, "does not fit"),
    ],
)
def test_a_configuration_that_cannot_be_used_is_one_line(tmp_path, content, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_settings(written(tmp_path / "study.yaml", content), {})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b'a\n1,2\n"', b"benchmark\n1\n"])
def test_published_figures_that_are_no_table_are_one_line(tmp_path, content):
    with pytest.raises(DataError, match=SCORES):
        read_published(written(tmp_path / SCORES, content).parent)


BAD = [None, {"a": 1}, ["yes"], True, 1.5]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("field", ["question_id", "prompt", "text"])
def test_null_or_an_object_where_text_belongs_is_no_answer_and_is_named(tmp_path, field, value):
    good = {"question_id": 1, "prompt": "Is it?", "text": "None"}
    path = written(tmp_path / "a.jsonl", json.dumps(good) + "\n" + json.dumps(good | {field: value}) + "\n")
    said: list[str] = []
    assert read_answers(path, said.append) == [Answer(question_id="1", prompt="Is it?", text="None")]
    assert len(said) == 1
    assert "a.jsonl: 1 malformed answer counts as missing: answer 2 (" + field in said[0]


def test_an_error_beside_a_null_text_is_a_failure(tmp_path):
    row = {"question_id": 1, "prompt": "Is it?", "text": None, "error": "no image"}
    path = written(tmp_path / "a.jsonl", json.dumps(row))
    assert read_answers(path) == [Failure(question_id="1", prompt="Is it?", error="no image")]


@pytest.mark.parametrize("field", ["question_id", "image", "text", "category"])
def test_a_question_file_with_null_in_it_is_refused_by_line(bundle, field):
    path = bundle / "pope/llava_pope_test.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[1][field] = None
    written(path, "".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=f"question 2: {field} is null"):
        benchmark("pope").samples(bundle)


def broken_avif(path: Path) -> None:
    Image.effect_noise((64, 64), 50).convert("RGB").save(path)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + 4
    content[start:] = b"\0" * (len(content) - start)
    path.write_bytes(bytes(content))


def bomb(path: Path) -> None:
    """A PNG that says it has 60,000 x 60,000 pixels."""
    Image.new("L", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    header = bytes(content[12:29])
    import zlib

    content[29:33] = zlib.crc32(header).to_bytes(4, "big")
    path.write_bytes(bytes(content))


def sliver(path: Path) -> None:
    """A megabyte of picture that would be ten gigabytes once it is padded to a square."""
    Image.new("L", (60_000, 1)).save(path)


@pytest.mark.parametrize(("make", "name"), [(broken_avif, "a.avif"), (bomb, "a.png"), (sliver, "b.png")])
def test_an_image_that_cannot_be_decoded_or_squared_is_a_data_error_that_names_it(tmp_path, make, name):
    make(tmp_path / name)
    assert image_state(tmp_path / name) == "truncated or unreadable"
    with pytest.raises(DataError, match=f"cannot read image .*{name}") as caught:
        read_image(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "file", "field", "value"),
    [
        ("gqa", "gqa/data/testdev_balanced_questions.json", "answer", None),
        ("gqa", "gqa/data/testdev_balanced_questions.json", "semantic", 3),
        ("gqa", "gqa/data/testdev_balanced_questions.json", "types", ["x"]),
        ("textvqa", "textvqa/TextVQA_0.5.1_val.json", "question", {}),
        ("textvqa", "textvqa/TextVQA_0.5.1_val.json", "answers", [None] * 10),
    ],
)
def test_a_malformed_annotation_is_one_line_that_names_the_file(bundle, name, file, field, value):
    path = bundle / file
    contents = json.loads(path.read_text())
    rows = contents["data"] if "data" in contents else contents["101"]
    (rows[0] if isinstance(rows, list) else rows)[field] = value
    path.write_text(json.dumps(contents))
    bench = benchmark(name)
    with pytest.raises(DataError, match=path.name):
        bench.judge(bundle, bench.samples(bundle), {})


@pytest.mark.parametrize("contents", [[], 3, None])
def test_a_key_of_another_form_is_one_line(bundle, contents):
    path = bundle / "gqa/data/testdev_balanced_questions.json"
    path.write_text(json.dumps(contents))
    with pytest.raises(DataError, match="expected an object"):
        benchmark("gqa").judge(bundle, benchmark("gqa").samples(bundle), {})


def test_an_error_stays_one_line_whatever_it_names():
    assert str(DataError("the benchmark lacks (a\nb\r\nc)")) == "the benchmark lacks (a b c)"


def test_mme_s_labelled_answers_leave_null_out_and_take_whole_numbers_as_names(tmp_path):
    row = {"question_id": "color/1.png", "prompt": "Is it red?", "text": "Yes", "label": "yes"}
    rows = [row, row | {"prompt": "Is it blue?", "text": None}, row | {"question_id": 7}]
    path = written(tmp_path / "a.jsonl", "".join(json.dumps(each) + "\n" for each in rows))
    card, verdicts = score_labelled("mme", path)
    assert [verdict.question_id for verdict in verdicts] == ["color/1.png", "7"]
    assert not card.complete


@pytest.mark.parametrize(
    "row",
    [{"question": "x", "answers": {"cell": {"text": None}}}, {"question": None, "answers": {}}, {"question": "x"}],
)
def test_a_spooled_line_without_a_text_is_no_answer(tmp_path, row):
    spool = Spool(tmp_path)
    spool.append(row)
    spool.close()
    assert (list(spool.lines()), spool.damaged) == ([], 1)


def test_a_malformed_answer_in_a_tree_is_reported_and_left_out(tmp_path):
    folder = tmp_path / "gqa/llava-v1.5-7b/sparsevlm/vtn_64_8_sparsity"
    good = {"question_id": "1", "prompt": "p", "text": "yes"}
    written(folder / "merge.jsonl", json.dumps(good) + "\n" + json.dumps(good | {"text": None}) + "\n")
    issues: list[Issue] = []
    [source] = find_sources(tmp_path, "m", issues.append)
    assert source.rows() == [good]
    assert ["answer 2 (text is null)" in issue.what for issue in issues] == [True]
