"""What each stage left, from a branch through the spool's row to the evidence of a cell."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch

from headwise.engine import Branch
from headwise.methods.stages import StageKept
from headwise.records import Sample
from headwise.run.answering import Answerer
from headwise.run.cell_files import EVIDENCE, _CellWriter
from headwise.study.cells import Geometry

GEOMETRY = Geometry(layers=4, heads=8, visual=11)
SAMPLE = Sample(benchmark="gqa", question_id="1", image="a.png", prompt="Is it?")


def recorded(*stages, area=None):
    answerer = object.__new__(Answerer)
    answerer.vlm = SimpleNamespace(visual=11, text=lambda tokens: "yes")
    answerer.decoder = SimpleNamespace(eos=frozenset(), attention_heads=8)
    kept = tuple(StageKept(layer, torch.tensor(rows)) for layer, rows in stages)
    places = torch.tensor([row for row in stages[-1][1] if row >= 0])
    area_V = None if area is None else torch.tensor(area)
    return answerer._record(Branch(kept_R=places, tokens=[1], stages=kept, area_V=area_V), 0.1)


def evidence(tmp_path, *rows):
    writer = _CellWriter(tmp_path, GEOMETRY)
    for row in rows:
        if row is None:
            writer.failure(SAMPLE, "no image")
        else:
            writer.answer(SAMPLE, row)
    writer.close()
    return np.load(tmp_path / EVIDENCE)


def test_stages_and_merged_rows_are_in_the_evidence(tmp_path):
    found = evidence(tmp_path, recorded((1, [0, 3, 9, 10, -1]), (3, [3, -1, -1])), None)
    assert found["stage_layers"].tolist() == [1, 3]
    sets = np.unpackbits(found["stages_GNV"], axis=-1, count=11)
    assert [np.flatnonzero(row).tolist() for row in sets[:, 0]] == [[0, 3, 9, 10], [3]]
    assert found["merged_GN"].tolist() == [[1, 0], [2, 0]]
    assert not sets[:, 1].any()
    assert np.flatnonzero(np.unpackbits(found["kept_NV"], axis=-1, count=11)[0]).tolist() == [3]


def test_one_stage_of_image_tokens_is_said_by_its_set_alone(tmp_path):
    row = recorded((2, [1, 5]))
    assert "stages" not in row
    assert "stage_layers" not in evidence(tmp_path, row)


def test_the_area_of_a_merged_row_is_in_the_evidence(tmp_path):
    area = [0, 2, 2, 0, 1, 0, 0, 0, 0, 1, 0]
    rows = recorded((1, [0, 3, -1, -1]), area=area), recorded((1, [0, 3, 4, 5]), area=[0] * 11), None
    found = evidence(tmp_path, *rows)
    assert found["areas_NV"].tolist() == [area, [0] * 11, [0] * 11]
    assert "areas_NV" not in evidence(tmp_path, rows[1], None)
