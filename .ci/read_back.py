"""Read a study back from the tracking server: read_back.py COMMIT BENCHMARK…

Every cell of the newest study must be finished and complete, carry the commit, and give its answers back.
"""

import sys

from headwise import tracking

commit, *benchmarks = sys.argv[1:]
tracking.connect()
study = tracking.latest_study("headwise")
cells = tracking.find_cells(study=study)
assert set(cells["benchmark"]) == set(benchmarks), f"cells of {set(cells['benchmark'])}, not of {benchmarks}"
assert set(cells["tags.headwise.commit"]) == {commit}, f"commits {set(cells['tags.headwise.commit'])}, not {commit}"
for cell in cells.itertuples():
    answers = tracking.download(cell.run_id, "answers.jsonl", cell.artifact_uri).read_text().splitlines()
    assert len(answers) == cell.samples > 0, f"{cell.run_name}: {len(answers)} answers, {cell.samples} questions"
print(f"read back: study {study}, {len(cells)} complete cells of {', '.join(benchmarks)}, commit {commit}")
