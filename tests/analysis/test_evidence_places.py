"""Evidence of images that differ in V: where tokens lie, and overlaps of rows of unlike width."""

import numpy as np
import pytest

from headwise.analysis.evidence import Evidence, jaccard, read_evidence, ruzicka
from headwise.study.grids import Grid, as_numbers

GRIDS = [(Grid(2, 2), Grid(2, 4, newline=True)), (), (Grid(1, 2, top=0.25, bottom=0.75),)]
KEPT = [[0, 5, 8], [], [1]]


def saved(path):
    kept_NV = np.zeros((3, 14), dtype=bool)
    for row, tokens in enumerate(KEPT):
        kept_NV[row, tokens] = True
    np.savez(
        path,
        heads_NH=np.zeros((3, 1), dtype=np.uint8),
        kept_NV=np.packbits(kept_NV, axis=1),
        head_count=8,
        visual=14,
        visual_N=np.array([14, 0, 2]),
        grids_G7=np.array([row for grids in GRIDS for row in as_numbers(grids)], dtype=np.float32),
        grids_N=np.array([len(grids) for grids in GRIDS]),
    )
    return read_evidence(path)


def test_what_a_kept_token_sees_is_shown(tmp_path):
    found = saved(tmp_path / "evidence.npz")
    assert [found.grids(row) for row in range(3)] == GRIDS
    wanted = np.zeros((4, 4), dtype=bool)
    wanted[:2, :2] = True  # token 0: a quarter of the whole; token 5: the second of the tiles' first row, inside it
    assert (found.kept_map(0, 4) == wanted).all()  # token 8 is a newline and lies nowhere
    assert not found.kept_map(1, 4).any()
    wanted = np.zeros((4, 4), dtype=bool)
    wanted[1:3, 2:] = True
    assert (found.kept_map(2, 4) == wanted).all()


def test_evidence_without_places_has_no_map():
    found = Evidence(np.zeros((1, 1), dtype=np.uint8), np.zeros((1, 1), dtype=np.uint8), 8, 8, None)
    assert found.grids(0) == ()
    assert not found.kept_map(0, 4).any()


def test_overlaps_of_cells_whose_widest_images_differ():
    """One cell failed on the widest image: its rows are shorter, and the sets are the same."""
    wide = np.packbits(np.array([[1, 1, 0, 0] + [0] * 8, [0] * 11 + [1]], dtype=bool), axis=1)
    narrow = np.packbits(np.array([[1, 0, 0, 0, 0, 0, 0, 0], [0] * 8], dtype=bool), axis=1)
    assert jaccard(wide, narrow) == jaccard(narrow, wide) == pytest.approx((0.5 + 0) / 2)
    shares = [np.array([[1.0, 1.0, 0.0]]), np.array([[1.0, 0.0]])]
    assert ruzicka(*shares) == ruzicka(*shares[::-1]) == 0.5
