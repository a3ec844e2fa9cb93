"""The report's samples: the most disputed questions, with the answers and images that belong to them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from headwise.analysis.evidence import read_evidence
from headwise.analysis.findings import find
from headwise.report.samples import (
    DISAGREEING,
    OTHERS,
    choose,
    disagreement,
    for_browser,
    read_texts,
    sample,
    strategies_to_show,
)


def test_disagreement_is_the_chance_that_two_cells_differ(verdicts):
    made = verdicts([[1, 1, np.nan, np.nan], [1, 0, 1, np.nan], [1, 0, 0, np.nan], [1, 1, 1, np.nan]])
    assert disagreement(made, np.arange(4)) == pytest.approx([0, 0.5, 4 / 9, 0])


def test_the_most_disputed_are_chosen_one_an_image_first():
    disputed, image = np.linspace(1, 0, 200), np.arange(200) // 2
    chosen = choose(disputed, image)
    assert len(chosen) == DISAGREEING + OTHERS
    assert set(range(0, 2 * DISAGREEING, 2)) <= set(chosen)
    assert chosen[-1] > 150


def test_few_questions_are_all_chosen_once():
    assert sorted(choose(np.zeros(5), np.zeros(5))) == [0, 1, 2, 3, 4]


def questions(*names):
    return pd.DataFrame({"question_id": names}, index=range(len(names)))


def write(path, *rows):
    lines = [json.dumps({"question_id": name, "prompt": prompt} | rest) for name, prompt, rest in rows]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_answers_are_found_by_key_where_a_file_has_gaps(tmp_path):
    whole = write(tmp_path / "a", ("x", "p1", {"text": "1"}), ("x", "p2", {"text": "2"}), ("y", "p3", {"text": "3"}))
    gaps = write(tmp_path / "b", ("y", "p3", {"text": "three"}), ("x", "p2", {"error": "no image"}))
    prompts, texts = read_texts([gaps, whole], questions("x", "x", "y"))
    assert prompts == ["p1", "p2", "p3"]
    assert texts == [[None, None, "three"], ["1", "2", "3"]]


@pytest.fixture(scope="module")
def drawn(study):
    cells = study.of("gqa").assign(score=find("gqa", study.of("gqa"), study.verdicts("gqa")).cells["score"])
    return sample("gqa", cells, study.verdicts("gqa"), lambda run: study.artifact(run, "answers.jsonl"), study.image)


def test_answers_truths_and_kept_tokens_belong_to_their_question(study, drawn):
    evidence = {run: read_evidence(study.artifact(run, "evidence.npz")) for run in drawn.cells["run_id"]}
    data = for_browser(drawn, study.verdicts("gqa"), evidence)
    one = data["samples"][5]
    place = drawn.places[5]
    assert one["id"] == f"q{place}"
    assert one["truth"] == ("no" if place % 2 else "yes")
    assert one["question"] == f"What is <b>q{place}</b>?"
    assert all(answer.endswith(f" q{place}") for answer in one["answers"])
    kept = np.unpackbits(np.frombuffer(base64.b64decode(one["kept"][3]), np.uint8))[:576].astype(bool)
    assert (kept == evidence["gqa3"].kept(place)).all()
    assert one["correct"][3] == study.verdicts("gqa").correct_CQ[3, place]


@pytest.mark.parametrize(("most", "size"), [(255, "u1"), (300, "<u2")])
def test_areas_belong_to_their_question_and_each_map_is_embedded_once(study, drawn, tmp_path, most, size):
    evidence = {run: read_evidence(study.artifact(run, "evidence.npz")) for run in drawn.cells["run_id"]}
    area_NV = np.zeros((60, 576), np.uint16)
    area_NV[::2, :300], area_NV[:, 575] = 7, most
    for run, name in (("gqa3", "a.npz"), ("gqa4", "b.npz")):
        np.savez(tmp_path / name, areas_NV=area_NV)
        evidence[run] = replace(evidence[run], file=tmp_path / name, merged_N=np.full(60, most))
    data = for_browser(drawn, study.verdicts("gqa"), evidence)
    assert len(data["areas"]) == 2
    for place, one in zip(drawn.places, data["samples"], strict=True):
        assert one["area"][:3] == one["area"][5:] + [None] == [None] * 3
        assert one["area"][3] == one["area"][4]
        shown = np.frombuffer(base64.b64decode(data["areas"][one["area"][3]]), size)
        assert (shown == area_NV[place]).all()


def test_images_are_squared_as_the_model_sees_them(drawn):
    image = drawn.images[0]
    assert image.size == (288, 288)
    assert image.getpixel((144, 5)) == (122, 116, 104)
    assert image.getpixel((144, 144))[2] == 200


def test_an_image_that_is_not_at_hand_is_left_out(study, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    paths = iter([None, bad] + [tmp_path / "absent.png"] * 99)
    answers = lambda run: study.artifact(run, "answers.jsonl")  # noqa: E731
    drawn = sample("gqa", study.of("gqa"), study.verdicts("gqa"), answers, lambda *_: next(paths))
    assert set(drawn.images) == {None}
    assert for_browser(drawn, study.verdicts("gqa"), {})["samples"][0]["image"] is None


def test_the_picture_shows_best_middle_worst_and_random_tokens_of_the_tightest_budget(cells):
    rows = cells(*[(s, t, 8) for t in (192, 64) for s in ("sum", "entropy", "sparsity", "variance", "random_tokens")])
    table = rows.assign(score=[99.0] * 5 + [50, 70, 90, 60, 95])
    assert table.loc[strategies_to_show(table), "strategy"].tolist() == ["sparsity", "variance", "sum", "random_tokens"]


def test_square_images_stay_as_they_are(study, tmp_path):
    Image.new("RGB", (300, 300), (1, 2, 3)).save(tmp_path / "s.png")
    answers = lambda run: study.artifact(run, "answers.jsonl")  # noqa: E731
    drawn = sample("gqa", study.of("gqa"), study.verdicts("gqa"), answers, lambda *_: tmp_path / "s.png")
    assert drawn.images[0].getpixel((0, 0)) == (1, 2, 3)
