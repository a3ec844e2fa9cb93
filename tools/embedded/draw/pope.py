"""POPE: is a shape there? Three of six are; the absent ones are random, frequent, or frequent co-occurrences.

Li et al., "Evaluating Object Hallucination in Large Vision-Language Models" (2023): popular negatives are
the most frequent objects of the data set that are not in the image, adversarial ones those that most often
appear together with the objects that are. So shapes here come in groups that co-occur, and some are common.
"""

from collections import Counter
from itertools import permutations
from pathlib import Path
from random import Random

from tools.embedded.draw.files import prompt, write_image, write_lines
from tools.embedded.questions import absent_shapes, article, yes_no
from tools.embedded.scenes import Recipe, Scene, random_scene
from tools.embedded.vocabulary import SHAPES, TEST_WORDS

IMAGES, EACH = 60, 3
CORPUS = 400  # scenes behind the frequencies
CATEGORIES = ("random", "popular", "adversarial")
GROUP = 4  # SHAPES in groups of four: shapes of one group often appear together


def co_occurrence(present: list[str]) -> list[float]:
    """Weight of each next shape: common ones first in each group; the group of the last shape counts more."""
    weights = []
    for i, shape in enumerate(SHAPES):
        common = 3.0 - i % GROUP * 0.7
        same_group = any(SHAPES.index(other) // GROUP == i // GROUP for other in present[-1:])
        weights.append(common * (4.0 if same_group and shape not in present else 1.0))
    return weights


RECIPE = Recipe(things=(4, 7), repeats=0.3, words=(0, 1), sums=0.2, clutter=(120, 200), shape_weights=co_occurrence)


def draw_pope(out: Path, seed: int) -> list[Scene]:
    rng = Random(f"test/pope/{seed}")
    corpus = [random_scene(rng, RECIPE, TEST_WORDS) for _ in range(CORPUS)]
    scenes = [scene for scene in corpus if len(present_shapes(scene)) >= EACH][:IMAGES]
    counts = Counter(shape for scene in corpus for shape in present_shapes(scene))
    pairs = Counter(pair for scene in corpus for pair in permutations(present_shapes(scene), 2))
    for number, scene in enumerate(scenes, 1):
        write_image(out / "pope" / "val2014" / image_name(number), scene)
    rows: list[dict[str, object]] = []
    for category in CATEGORIES:
        labels: list[dict[str, object]] = []
        for number, scene in enumerate(scenes, 1):
            for shape, there in zip(asked(scene, category, rng, counts, pairs), [True, False] * EACH, strict=True):
                text = f"Is there {article(shape)} in the image?"
                known = {"question_id": len(labels) + 1, "image": image_name(number), "text": text}
                labels.append(known | {"label": yes_no(there)})
                rows.append(known | {"text": prompt(text), "category": category})
        write_lines(out / "pope" / "coco" / f"coco_pope_{category}.json", labels)
    rows.sort(key=lambda row: str(row["image"]))  # the first n questions are of every category, each in its order
    rows = [row | {"question_id": number} for number, row in enumerate(rows, 1)]
    write_lines(out / "pope" / "llava_pope_test.jsonl", rows)
    return scenes


def image_name(number: int) -> str:
    return f"COCO_val2014_{number:012d}.png"


def present_shapes(scene: Scene) -> list[str]:
    return sorted({thing.shape for thing in scene.things})


def asked(scene: Scene, category: str, rng: Random, counts: Counter[str], pairs: Counter[tuple[str, str]]) -> list[str]:
    """Six shapes, alternately present and absent."""
    present, absent = present_shapes(scene), absent_shapes(scene)
    if category == "random":
        negatives = rng.sample(absent, EACH)
    elif category == "popular":
        negatives = sorted(absent, key=lambda shape: -counts[shape])[:EACH]
    else:
        negatives = sorted(absent, key=lambda shape: -max(pairs[known, shape] for known in present))[:EACH]
    positives = rng.sample(present, EACH)
    return [shape for both in zip(positives, negatives, strict=True) for shape in both]
