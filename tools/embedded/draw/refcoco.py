"""RefCOCO: the box of the thing that an expression names, in the rows that Qwen-VL and InternVL publish."""

from pathlib import Path
from random import Random

from tools.embedded.draw.files import write_image, write_lines
from tools.embedded.questions import named_once
from tools.embedded.render import SIDE
from tools.embedded.scenes import Recipe, Scene, Thing, random_scene
from tools.embedded.vocabulary import CELL, TEST_WORDS

IMAGES, PER_IMAGE = 60, 3  # per split
FOLDER = "data/coco2014/train2014"
# As RefCOCO's tests ask of people (A) and of other things (B), these ask of large and of small ones.
SPLITS: dict[str, Recipe] = {
    "refcoco_testA": Recipe(things=(4, 7), repeats=0.5, words=(0, 1), clutter=(120, 200), sizes=(0.0, 0.5, 0.5)),
    "refcoco_testB": Recipe(things=(4, 7), repeats=0.5, words=(0, 1), clutter=(120, 200), sizes=(0.6, 0.4, 0.0)),
}


def draw_refcoco(out: Path, seed: int) -> list[Scene]:
    scenes: list[Scene] = []
    for split, recipe in SPLITS.items():
        rng = Random(f"test/{split}/{seed}")
        rows: list[dict[str, object]] = []
        drawn = 0
        while drawn < IMAGES:
            scene = random_scene(rng, recipe, TEST_WORDS)
            named = named_once(scene)
            if len(named) < PER_IMAGE:
                continue
            drawn += 1
            scenes.append(scene)
            image = f"{FOLDER}/COCO_train2014_{len(scenes):012d}.png"
            write_image(out / "refcoco" / image, scene)
            rows += [row_of(thing, phrase, image) for thing, phrase in rng.sample(named, PER_IMAGE)]
        write_lines(out / "refcoco" / f"{split}.jsonl", rows)
    return scenes


def row_of(thing: Thing, phrase: str, image: str) -> dict[str, object]:
    """The expression and its box [x1, y1, x2, y2] in pixels."""
    box = [CELL * edge for edge in (thing.col, thing.row, thing.col + thing.size, thing.row + thing.size)]
    return {"image": image, "sent": phrase, "bbox": box, "height": SIDE, "width": SIDE}
