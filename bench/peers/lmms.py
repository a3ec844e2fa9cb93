"""lmms-eval's own evaluation of the embedded study; run by bench/peers.py with an interpreter that has lmms-eval.

    PYTHON bench/peers/lmms.py CHECKPOINT OUT.json

Questions lie in pope.jsonl and gqa.jsonl of the working folder. Writes the answers in question order and the seconds of
`generate_until` alone, after one question as a warm-up: start-up and loading are not counted.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

TASKS = ("embedded_pope", "embedded_gqa")


def main(checkpoint: str, out: str) -> None:
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.models import get_model
    from lmms_eval.tasks import TaskManager

    spent = {"seconds": 0.0, "cpu_seconds": 0.0}
    count_time(get_model("llava_hf", force_simple=True), spent)
    found = simple_evaluate(
        model="llava_hf",
        model_args=f"pretrained={checkpoint},device_map=cpu,dtype=float32",
        tasks=list(TASKS),
        batch_size=1,
        device="cpu",
        force_simple=True,
        task_manager=TaskManager("ERROR", include_path=str(Path(__file__).parent), include_defaults=False),
    )
    answers = {
        name: [str(row["resps"][0][0]) for row in sorted(found["samples"][name], key=lambda row: row["doc_id"])]
        for name in TASKS
    }
    Path(out).write_text(json.dumps(spent | {"answers": answers}))


def count_time(model: type, spent: dict[str, float]) -> None:
    """Time every later `generate_until` of the class."""
    generate = model.generate_until

    def timed(self, requests):
        if not spent["seconds"]:
            generate(self, requests[:1])
        wall, busy = time.perf_counter(), time.process_time()
        answers = generate(self, requests)
        spent["seconds"] += time.perf_counter() - wall
        spent["cpu_seconds"] += time.process_time() - busy
        return answers

    model.generate_until = timed


if __name__ == "__main__":
    main(*sys.argv[1:])
