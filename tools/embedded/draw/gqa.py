"""GQA: six questions per image, every structural type, with the program each question stands for."""

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from tools.embedded.draw.files import Tally, balanced, prompt, write_image, write_json, write_lines
from tools.embedded.questions import Question
from tools.embedded.scenes import Recipe, Scene, random_scene
from tools.embedded.vocabulary import TEST_WORDS

IMAGES, PER_IMAGE = 120, 6
RECIPE = Recipe(things=(5, 8), repeats=0.3, words=(0, 1), sums=0.2, clutter=(120, 200))

# kind: structural type, semantic type, detailed type, and the program's steps after `select`
TYPES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "color_query": ("query", "attr", "directOf", ("query: color",)),
    "shape_query": ("query", "cat", "category", ("filter: color", "query: name")),
    "place_query": ("query", "global", "place", ("query: place",)),
    "exists_color": ("verify", "obj", "existAttrC", ("filter: color", "exist: ?")),
    "color_verify": ("verify", "attr", "verifyAttr", ("verify color: color",)),
    "color_choose": ("choose", "attr", "chooseAttr", ("choose color: color",)),
    "size_choose": ("choose", "attr", "chooseAttr", ("choose size: size",)),
    "side_choose": ("choose", "attr", "positionChoose", ("choose position: side",)),
    "place_choose": ("choose", "global", "placeChoose", ("choose place: place",)),
    "relation": ("choose", "rel", "relChooser", ("choose rel: place of the other",)),
    "logic": ("logical", "obj", "existLogic", ("exist: ?", "select: other", "exist: ?", "and/or: ")),
    "same_color": ("compare", "attr", "twoSame", ("select: other", "same color: color")),
}


def draw_gqa(out: Path, seed: int) -> list[Scene]:
    rng = Random(f"test/gqa/{seed}")
    tally: Tally = Counter()
    scenes, rows, key = [], [], {}
    for number in range(1, IMAGES + 1):
        scene = random_scene(rng, RECIPE, TEST_WORDS)
        image_id = f"n{100000 + number}"
        scenes.append(scene)
        write_image(out / "gqa" / "data" / "images" / f"{image_id}.png", scene)
        for i, question in enumerate(questions_of(scene, rng, tally)):
            name = f"20{number:04d}{i:02d}"
            key[name] = annotation(name, image_id, question)
            text = prompt(question.text)
            rows.append({"question_id": name, "image": f"{image_id}.png", "text": text, "category": "default"})
    write_lines(out / "gqa" / "llava_gqa_testdev_balanced.jsonl", rows)
    write_json(out / "gqa" / "data" / "testdev_balanced_questions.json", key)
    return scenes


def questions_of(scene: Scene, rng: Random, tally: Tally) -> list[Question]:
    """Six kinds, those asked least so far first."""
    asked = Counter(kind for kind, _ in tally.elements())
    kinds = sorted(TYPES, key=lambda kind: (asked[kind] + 4 * kind.startswith("place"), rng.random()))
    found: list[Question] = []
    for kind in kinds:
        if len(found) < PER_IMAGE and (question := balanced(kind, scene, rng, tally)) is not None:
            found.append(question)
    return found


def annotation(name: str, image_id: str, question: Question) -> dict[str, Any]:
    structural, semantic, detailed, steps = TYPES[question.kind]
    program = [("select", "scene" if semantic == "global" else "shape"), *(step.split(": ", 1) for step in steps)]
    return {
        "semantic": [
            {"operation": operation, "argument": argument, "dependencies": [i - 1] if i else []}
            for i, (operation, argument) in enumerate(program)
        ],
        "entailed": [name],
        "equivalent": [name],
        "question": question.text,
        "imageId": image_id,
        "isBalanced": True,
        "groups": {"global": None, "local": f"{image_id}-{question.kind}"},
        "answer": question.answer,
        "semanticStr": "->".join(f"{operation}: {argument}" for operation, argument in program),
        "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
        "types": {"detailed": detailed, "semantic": semantic, "structural": structural},
        "fullAnswer": f"{question.answer.capitalize()}.",
    }
