"""The spool: nothing that was written is lost, nothing damaged is believed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headwise.errors import DataError
from headwise.run.spool import Spool, read_line


def rows(spool: Spool) -> list[dict[str, object]]:
    return [row for _, _, row in spool.lines()]


def written(folder: Path, count: int = 5) -> Path:
    spool = Spool(folder)
    spool.append(
        *({"question": f"question-{number}", "answers": {"cell": {"text": "ja – yes"}}} for number in range(count))
    )
    spool.close()
    return spool.files()[0]


def test_lines_come_back_with_the_place_they_stand_at(tmp_path: Path) -> None:
    written(tmp_path)
    found = list(Spool(tmp_path).lines())
    assert [row["question"] for _, _, row in found] == [f"question-{number}" for number in range(5)]
    assert all(read_line(path, offset) == row for path, offset, row in found)


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_torn_tail_costs_its_line_only(tmp_path: Path, cut: int) -> None:
    path = written(tmp_path)
    os.truncate(path, path.stat().st_size - cut)
    spool = Spool(tmp_path)
    assert len(rows(spool)) == 4
    assert spool.damaged == 1


def test_a_flipped_bit_is_never_believed(tmp_path: Path) -> None:
    path = written(tmp_path, 1)
    content, true = path.read_bytes(), rows(Spool(tmp_path))
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 4
        path.write_bytes(flipped)
        found = rows(Spool(tmp_path))
        assert found in ([], true), place
        assert not found or place < 9, place


def test_processes_append_to_files_of_their_own(tmp_path: Path) -> None:
    first, second = Spool(tmp_path), Spool(tmp_path)
    for number in range(3):
        first.append({"question": f"a{number}", "answers": {}})
        second.append({"question": f"b{number}", "answers": {}})
    assert len(first.files()) == 2
    assert {row["question"] for row in rows(Spool(tmp_path))} == {"a0", "a1", "a2", "b0", "b1", "b2"}


def test_a_full_disk_leaves_no_torn_line(tmp_path: Path) -> None:
    import resource

    spool = Spool(tmp_path)
    spool.append({"question": "kept", "answers": {}})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(DataError, match="what was answered so far is kept"):
            spool.append({"question": "x" * 500, "answers": {}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    again = Spool(tmp_path)
    assert [row["question"] for row in rows(again)] == ["kept"]
    assert again.damaged == 0
