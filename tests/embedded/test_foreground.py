"""How much of the foreground a study's cells keep, against the scenes that its pictures were drawn from."""

import json
import re

import numpy as np
import pytest
from click.testing import CliRunner

from headwise import tracking
from headwise.cli import headwise
from tools.embedded.__main__ import command
from tools.embedded.foreground import kept_foreground
from tools.embedded.symbols import cell_labels, is_foreground

STUDY = "--strategy max_attention --controls vanilla,random_tokens --tokens 64 --heads 8 --benchmark pope --limit 6"


def test_the_share_of_foreground_is_that_of_the_scenes_behind_the_questions(store, drawn):
    done = CliRunner().invoke(headwise, ["evaluate", *STUDY.split()])
    assert done.exit_code == 0, done.output
    found = kept_foreground().set_index("strategy")
    assert set(found.index) == {"max_attention", "random_tokens"}
    assert found["chance"].tolist() == [11.1, 11.1]
    for cell in tracking.find_cells(study="latest").query("strategy in @found.index").to_dict("records"):
        kept_NV = np.load(tracking.download(cell["run_id"], "evidence.npz"))["kept_NV"]
        shares = []
        for line, kept_V in zip(questions(cell, drawn[0]), kept_NV, strict=True):
            scene = drawn[1]["pope"][int(re.findall(r"\d+", line["image"])[-1]) - 1]
            front = set(np.flatnonzero(is_foreground(cell_labels(scene))))
            shares.append(len(front & set(np.flatnonzero(np.unpackbits(kept_V)[:576]))) / len(front))
        assert found.loc[cell["strategy"], "foreground"] == pytest.approx(100 * np.mean(shares), abs=0.051)


def questions(cell, folder):
    """The question file's lines of the cell's answers, in the answers' order."""
    rows = map(json.loads, (folder / "pope" / "llava_pope_test.jsonl").read_text().splitlines())
    asked = {str(row["question_id"]): row for row in rows}
    answers = tracking.download(cell["run_id"], "answers.jsonl").read_text().splitlines()
    return [asked[json.loads(answer)["question_id"]] for answer in answers]


@pytest.mark.parametrize("others", [True, False])
def test_a_study_of_other_pictures_or_without_pruning_is_refused(store, bundle, others):
    other, unpruned = ["--data-dir", str(bundle)], ["--strategy", "vanilla", "--controls", "none", "--limit", "1"]
    done = CliRunner().invoke(headwise, ["evaluate", *STUDY.split(), *(other if others else unpruned)])
    assert done.exit_code == 0, done.output
    printed = CliRunner().invoke(command, ["foreground"])
    assert printed.exit_code == 2
    reason = "has images of .+; allowed: embedded" if others else "has no cell that prunes"
    assert re.search(f"^Error: study latest {reason}$", printed.output, re.MULTILINE)
