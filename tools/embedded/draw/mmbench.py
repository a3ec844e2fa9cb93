"""MMBench: multiple choice, every question asked with its options rotated, in the columns of the official tsv."""

import base64
import csv
from collections import Counter
from pathlib import Path
from random import Random

from tools.embedded.draw.files import Tally, image_bytes
from tools.embedded.questions import Question, choosing, offering
from tools.embedded.scenes import Recipe, Scene, random_scene
from tools.embedded.vocabulary import TEST_WORDS

IMAGES, PER_IMAGE = 40, 2
RECIPE = Recipe(things=(4, 7), repeats=0.9, words=(0, 1), sums=0.2, clutter=(120, 200))
ROTATION = 1_000_000  # a row's index is its group's plus this times the rotation

# kind: leaf and level-2 category, by MMBench's names
CATEGORIES = {
    "color_query": ("attribute_recognition", "finegrained_perception (instance-level)"),
    "shape_query": ("object_localization", "finegrained_perception (instance-level)"),
    "count_query": ("attribute_comparison", "finegrained_perception (cross-instance)"),
    "side_choose": ("spatial_relationship", "relation_reasoning"),
    "place_query": ("image_scene", "coarse_perception"),
}
COLUMNS = (
    "index", "question", "hint", *"ABCD", "answer", "category", "image", "source", "l2-category", "split",
)  # fmt: skip


def draw_mmbench(out: Path, seed: int) -> list[Scene]:
    rng = Random(f"test/mmbench/{seed}")
    tally: Tally = Counter()
    scenes: list[Scene] = []
    groups: list[list[dict[str, str]]] = []
    for _ in range(IMAGES):
        scene = random_scene(rng, RECIPE, TEST_WORDS)
        scenes.append(scene)
        picture = base64.b64encode(image_bytes(scene)).decode()
        for question, options in _asked(scene, rng, tally):
            groups.append(_rotations(len(groups) + 1, question, options, picture))
    path = out / "mmbench" / "mmbench_dev_20230712.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted((row for rows in groups for row in rows), key=lambda row: int(row["index"])))
    return scenes


def _asked(scene: Scene, rng: Random, tally: Tally) -> list[tuple[Question, list[str]]]:
    """Questions of different kinds, those asked least so far first, with balanced answers."""
    found: list[tuple[Question, list[str]]] = []
    asked = Counter(kind for kind, _ in tally.elements())
    for kind in sorted(CATEGORIES, key=lambda kind: (asked[kind], rng.random())):
        drawn = [pair for _ in range(20) if (pair := offering(kind, scene, rng)) is not None]
        if drawn and len(found) < PER_IMAGE:
            chosen = min(drawn, key=lambda pair: tally[kind, pair[0].answer])
            tally[kind, chosen[0].answer] += 1
            found.append(chosen)
    return found


def _rotations(group: int, question: Question, options: list[str], picture: str) -> list[dict[str, str]]:
    """One row for each rotation of the options, so that the right one is at every letter once."""
    leaf, broad = CATEGORIES[question.kind]
    rows = []
    for turn in range(len(options)):
        turned = options[turn:] + options[:turn]
        asked = choosing(question, turned)
        letters = dict(zip("ABCD", [*turned, "", ""], strict=False))
        rows.append(
            {
                "index": str(group + turn * ROTATION),
                "question": asked.text.partition("\n")[0],
                "hint": "",
                **letters,
                "answer": asked.answer,
                "category": leaf,
                "image": picture,
                "source": "headwise",
                "l2-category": broad,
                "split": "dev",
            }
        )
    return rows
