"""Which labels and which scorer made a verdict: digests, tags, and a study that goes on after labels were mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from survival import Outcome, Place, undisturbed, write_bundle

from headwise.benchmarks import BENCHMARKS, named_sets
from headwise.scoring.score import LABELS_TAG, SCORER_TAG, key_tags, labels_digest

QUICK = "--benchmark pope --limit 20"


def test_the_digest_is_of_all_truths_in_any_order() -> None:
    truths = [("1", "Is it?", "yes"), ("2", "Is it?", "no")]
    assert labels_digest(truths) == labels_digest(reversed(truths))
    mended, reworded = ("1", "Is it?", "no"), ("1", "Is", "yes")
    for other in (truths[:1], [*truths, truths[0]], [mended, truths[1]], [reworded, truths[1]]):
        assert labels_digest(other) != labels_digest(truths)
    assert len(labels_digest(truths)) == 16


EDITS = {
    "pope": ("pope/coco/coco_pope_random.json", '"yes"', '"no"'),
    "gqa": ("gqa/data/testdev_balanced_questions.json", '"box"', '"bag"'),
    "mme": ("MME/MME_Benchmark_release_version/existence/0000.txt", "Yes", "No"),
    # One of ten equal answers: what is shown as truth stays the same, the score does not.
    "textvqa": ("textvqa/TextVQA_0.5.1_val.json", '"open", "open", "unanswerable"', '"open", "7", "unanswerable"'),
}


@pytest.mark.parametrize("name", named_sets()["published"])
def test_one_mended_label_is_another_key(bundle: Path, name: str) -> None:
    before = key_tags(name, bundle)
    assert before[SCORER_TAG] == f"{name}/{BENCHMARKS[name].version}"
    file, old, new = EDITS[name]
    text = (bundle / file).read_text()
    assert old in text
    (bundle / file).write_text(text.replace(old, new, 1))
    assert key_tags(name, bundle)[LABELS_TAG] != before[LABELS_TAG]
    assert key_tags(name, bundle)[SCORER_TAG] == before[SCORER_TAG]


def test_another_version_of_the_scorer_is_another_tag(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BENCHMARKS["gqa"], "version", "2", raising=False)
    assert key_tags("gqa", bundle)[SCORER_TAG] == "gqa/2"


def mend_labels(data_dir: Path) -> None:
    """Turn half of the labels of POPE's random category around."""
    path = data_dir / "pope/coco/coco_pope_random.json"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:5]:
        row["label"] = "no" if row["label"] == "yes" else "yes"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def finished_cells(at: Place) -> int:
    return at.outcome().runs.get("cell FINISHED", 0)


def test_a_study_killed_before_its_labels_were_mended_ends_with_one_key(place: Callable[[str], Place]) -> None:
    """Killed after one of its three cells was logged; the same command again scores that one anew."""
    options = f"{QUICK} --tokens 12,10"
    at = place("mended")
    at.data = write_bundle(at.folder / "eval")
    run = at.start(options)
    run.until(lambda: cell_count(at) >= 1 or not run.alive())
    run.kill()
    assert 1 <= finished_cells(at) < 3
    mend_labels(at.data)
    again = at.run(options)
    assert again.code == 0, again.text
    assert "scored by other labels or another scorer" in again.text
    other = place("never-killed")
    other.data = at.data
    whole: Outcome = undisturbed(other, options)
    found = at.outcome()
    assert not found.lost(whole)
    assert found.runs == whole.runs
    assert len(whole.cells) == 3


def cell_count(at: Place) -> int:
    """Finished cells in the store, read without MLflow while the study writes to it."""
    import sqlite3

    with sqlite3.connect(f"file:{at.folder / 'mlflow.db'}?mode=ro", uri=True, timeout=5) as store:
        (count,) = store.execute(
            "select count(*) from runs join tags on tags.run_uuid = runs.run_uuid "
            "where runs.status = 'FINISHED' and tags.key = 'headwise.kind' and tags.value = 'cell'"
        ).fetchone()
    return int(count)
