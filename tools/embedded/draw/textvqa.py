"""TextVQA: read the sign of the colour asked for; ten annotators who do not quite agree."""

from pathlib import Path
from random import Random

from tools.embedded.draw.files import prompt, write_image, write_json, write_lines
from tools.embedded.questions import READINGS
from tools.embedded.scenes import Recipe, Scene, random_scene
from tools.embedded.vocabulary import LETTERS, OCR_LINE, TEST_WORDS

IMAGES = 100
RECIPE = Recipe(words=(2, 2), sums=0.3, clutter=(120, 200))


def draw_textvqa(out: Path, seed: int) -> list[Scene]:
    rng = Random(f"test/textvqa/{seed}")
    scenes: list[Scene] = []
    questions: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    while len(scenes) < IMAGES:
        scene = random_scene(rng, RECIPE, TEST_WORDS)
        signs = [sign for sign in scene.signs if not sign.is_sum]
        if len({sign.text for sign in signs}) < 2:
            continue
        scenes.append(scene)
        image_id = f"{rng.getrandbits(64):016x}"
        write_image(out / "textvqa" / "train_images" / f"{image_id}.png", scene)
        for sign in signs:
            question = rng.choice(READINGS).format(sign.color)
            text = prompt(question, f"{OCR_LINE} ")  # the list of tokens stays empty: the sign must be read
            questions.append({"question_id": image_id, "image": f"{image_id}.png", "text": text, "category": "default"})
            answers = annotators(sign.text, rng)
            annotations.append(
                {
                    "question_id": 34602 + len(annotations),
                    "image_id": image_id,
                    "question": question,
                    "answers": answers,
                    "image_width": 192,
                    "image_height": 192,
                    "set_name": "val",
                }
            )
    write_lines(out / "textvqa" / "llava_textvqa_val_v051_ocr.jsonl", questions)
    write_json(
        out / "textvqa" / "TextVQA_0.5.1_val.json",
        {"dataset_type": "val", "dataset_name": "textvqa", "dataset_version": "0.5.1", "data": annotations},
    )
    return scenes


def annotators(word: str, rng: Random) -> list[str]:
    """Ten answers: most read the word; some misread a letter, add a word, or cannot answer."""
    answers = []
    for _ in range(10):
        roll = rng.random()
        spot = rng.randrange(len(word))
        misread = word[:spot] + rng.choice(LETTERS) + word[spot + 1 :]
        answers.append(
            word if roll < 0.82 else misread if roll < 0.9 else f"{word} sign" if roll < 0.96 else "unanswerable"
        )
    return answers
