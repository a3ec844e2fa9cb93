"""MME: two questions per image, one true and one false, in the categories that suit synthetic scenes."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from tools.embedded.draw.files import _write, prompt, write_image, write_lines
from tools.embedded.questions import KINDS, Question, pick_sign, quoting
from tools.embedded.scenes import Recipe, Scene, random_scene
from tools.embedded.vocabulary import TEST_WORDS, YES_NO

IMAGES = 20  # a category
PLAIN = Recipe(clutter=(120, 200))
Pair = tuple[Question, Question]


def of_kind(kind: str) -> Callable[[Scene, Random], Pair | None]:
    """A true and a false question about the same thing (about any two things for existence)."""

    def pair(scene: Scene, rng: Random) -> Pair | None:
        drawn = [question for _ in range(60) if (question := KINDS[kind](scene, rng)) is not None]
        for true in (question for question in drawn if question.answer == "yes"):
            for false in (question for question in drawn if question.answer == "no"):
                if kind == "exists" or (false.second or false.first) == (true.second or true.first):
                    return true, false
        return None

    return pair


def word_pair(scene: Scene, rng: Random) -> Pair | None:
    """The sign's word, and another of the same list, so that the word alone does not give the answer away."""
    if (sign := pick_sign(scene, rng, False)) is None:
        return None
    others = [w for w in TEST_WORDS if len(w) == len(sign.text) and not any(map(str.__eq__, w, sign.text))]
    return quoting(sign, sign.text), quoting(sign, rng.choice(others))


CATEGORIES: dict[str, tuple[Recipe, Callable[[Scene, Random], Pair | None]]] = {
    "existence": (PLAIN, of_kind("exists")),
    "count": (Recipe(repeats=0.8, clutter=(120, 200)), of_kind("count_verify")),
    "position": (PLAIN, of_kind("side_verify")),
    "color": (PLAIN, of_kind("color_verify")),
    "scene": (PLAIN, of_kind("place_verify")),
    "OCR": (Recipe(words=(1, 2), clutter=(120, 200)), word_pair),
    "numerical_calculation": (Recipe(sums=1.0, clutter=(120, 200)), of_kind("sum_verify")),
}


def draw_mme(out: Path, seed: int) -> list[Scene]:
    scenes: list[Scene] = []
    rows: list[dict[str, str]] = []
    for category, (recipe, make_pair) in CATEGORIES.items():
        rng = Random(f"test/mme/{category}/{seed}")
        folder = out / "MME" / "MME_Benchmark_release_version" / category
        count = 0
        while count < IMAGES:
            scene = random_scene(rng, recipe, TEST_WORDS)
            pair = make_pair(scene, rng)
            if pair is None:
                continue
            count += 1
            scenes.append(scene)
            name = f"{category}/{count:04d}.png"
            write_image(folder / f"{count:04d}.png", scene)
            _write(folder / f"{count:04d}.txt", "".join(f"{q.text} {YES_NO}\t{q.answer.title()}\n" for q in pair))
            # LLaVA's question file leaves "Please answer yes or no." out; its converter puts it back
            rows += [{"question_id": name, "image": name, "text": prompt(q.text), "category": category} for q in pair]
    rows.sort(key=lambda row: Path(row["image"]).name)  # the first n questions are of every category
    write_lines(out / "MME" / "llava_mme.jsonl", rows)
    return scenes
