"""The committed benchmarks are what `draw` draws, in the official layout, and hold no shortcut."""

import csv
import json
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

from headwise.benchmarks import BENCHMARKS
from headwise.benchmarks.mmbench import group_of
from headwise.embedded import DATA_DIR
from headwise.records import Answer
from tools.embedded import draw as drawing
from tools.embedded.batches import PREFIX, prompt_ids
from tools.embedded.draw.mmbench import ROTATION
from tools.embedded.questions import KINDS, locating, named_once
from tools.embedded.scenes import random_scene
from tools.embedded.tokens import build_tokenizer
from tools.embedded.train import SCENES
from tools.embedded.vocabulary import LETTER_INSTRUCTION, SHAPES, SYSTEM

# Questions and images: enough images for an interval that means something.
SIZES = {
    "textvqa": (200, 100), "mme": (280, 140), "gqa": (720, 120), "pope": (1080, 60), "mmbench": (288, 40),
    "refcoco": (360, 120),
}  # fmt: skip


def files(folder: Path) -> list[Path]:
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def lines(path: str) -> list[dict]:
    return [json.loads(line) for line in (DATA_DIR / path).read_text().splitlines()]


def test_drawing_again_gives_the_committed_files(drawn):
    out, _ = drawn
    assert files(out) == files(DATA_DIR)
    for name in files(out):
        if name.suffix == ".png":
            assert np.array_equal(Image.open(out / name), Image.open(DATA_DIR / name)), name
        else:
            assert (out / name).read_bytes() == (DATA_DIR / name).read_bytes(), name


def test_another_seed_draws_other_scenes(drawn, tmp_path):
    again = drawing.draw_pope(tmp_path, drawing.SEED + 1)
    assert not {scene.digest() for scene in again} & {scene.digest() for scene in drawn[1]["pope"]}


@pytest.mark.parametrize("name", SIZES)
def test_official_loaders_find_every_question_image_and_label(name):
    benchmark = BENCHMARKS[name]
    samples = benchmark.samples(DATA_DIR)
    assert (len(samples), len({sample.image for sample in samples})) == SIZES[name]
    assert all(benchmark.image_path(DATA_DIR, sample).is_file() for sample in samples)
    assert len(benchmark.judge(DATA_DIR, samples, {})) == len(samples)
    assert not benchmark.check_layout(DATA_DIR)


def test_data_stay_small():
    assert sum((DATA_DIR / name).stat().st_size for name in files(DATA_DIR)) < 10e6


def template(text: str) -> str:
    return " ".join("<shape>" if word.strip("?") in SHAPES else word for word in text.split("\n")[0].split())


def majority(rows: list[tuple[str, str]]) -> float:
    """Best accuracy of one answer a template: what the question's form gives away."""
    answers = defaultdict(Counter)
    for text, answer in rows:
        answers[template(text)][answer] += 1
    return sum(counter.most_common(1)[0][1] for counter in answers.values()) / len(rows)


def gqa_rows() -> list[tuple[str, str]]:
    key = json.loads((DATA_DIR / "gqa/data/testdev_balanced_questions.json").read_text())
    return [(question["question"], question["answer"]) for question in key.values()]


def mme_rows() -> list[tuple[str, str]]:
    rows = [line.split("\t") for path in DATA_DIR.glob("MME/**/*.txt") for line in path.read_text().splitlines()]
    return [(text, answer) for text, answer in rows]


def pope_rows(category: str) -> list[tuple[str, str]]:
    return [(row["text"], row["label"]) for row in lines(f"pope/coco/coco_pope_{category}.json")]


def choices(text: str) -> int:
    return 2 if text.startswith(("Is", "Are", "Does")) else 4


def test_text_alone_solves_no_benchmark():
    assert majority([row for row in gqa_rows() if choices(row[0]) == 4]) < 0.35
    yes_no = [row for row in gqa_rows() if row[1] in ("yes", "no")]
    assert Counter(answer for _, answer in yes_no)["yes"] == pytest.approx(len(yes_no) / 2, rel=0.1)
    assert Counter(answer for _, answer in mme_rows())["Yes"] == len(mme_rows()) / 2
    for category in drawing.pope.CATEGORIES:
        assert Counter(answer for _, answer in pope_rows(category))["yes"] == len(pope_rows(category)) / 2
    signs = json.loads((DATA_DIR / "textvqa/TextVQA_0.5.1_val.json").read_text())["data"]
    assert Counter(row["answers"][0] for row in signs).most_common(1)[0][1] < 0.05 * len(signs)


def test_no_name_gives_an_answer_away():
    words = {answer for _, answer in gqa_rows()} | {"yes", "no"}
    assert not {path.stem for path in files(DATA_DIR) if path.suffix == ".png"} & words


def test_mme_asks_one_true_and_one_false_question_an_image():
    for path in DATA_DIR.glob("MME/**/*.txt"):
        assert [line.split("\t")[1] for line in path.read_text().splitlines()] == ["Yes", "No"], path


def test_adversarial_negatives_keep_more_company_than_random_ones(drawn):
    """POPE's own definition: the absent shapes asked for are the usual companions of the present ones."""
    scenes = drawn[1]["pope"]
    kin = dict.fromkeys(("random", "adversarial"), 0)
    for category in kin:
        for row in lines(f"pope/coco/coco_pope_{category}.json"):
            if row["label"] == "no":
                shape = row["text"].split()[3]
                present = drawing.pope.present_shapes(scenes[int(row["image"][-10:-4]) - 1])
                kin[category] += any(SHAPES.index(p) // 4 == SHAPES.index(shape) // 4 for p in present)
    assert kin["adversarial"] > kin["random"]


def test_annotators_disagree_and_mostly_read_the_word():
    rows = json.loads((DATA_DIR / "textvqa/TextVQA_0.5.1_val.json").read_text())["data"]
    shares = [Counter(row["answers"]).most_common(1)[0][1] for row in rows]
    assert 4 <= min(shares) < 8
    assert sum(shares) / len(shares) == pytest.approx(8.2, abs=0.4)


def test_no_scene_is_one_of_training(drawn):
    held = {scene.digest() for scenes in drawn[1].values() for scene in scenes}
    assert len(held) == sum(map(len, drawn[1].values()))
    assert not held & {random_scene(Random(f"tune/{i}")).digest() for i in range(SCENES)}


def score(folder: Path, name: str, text_of) -> float:
    """Headline score where `text_of(sample, truth)` is the answer to each question."""
    benchmark = BENCHMARKS[name]
    samples = benchmark.samples(folder)
    truth_of = benchmark.truths(folder, samples)
    answers = {
        sample.key: Answer(question_id=sample.question_id, prompt=sample.prompt, text=text_of(sample, truth_of(sample)))
        for sample in samples
    }
    return benchmark.summarise(benchmark.judge(folder, samples, answers)).score


def test_the_answers_that_training_teaches_score_full_marks(drawn):
    """As the tokenizer writes them; boxes are rounded to two decimals of the side."""
    tokenizer = build_tokenizer()
    named = [locating(*each) for scene in drawn[1]["refcoco"] for each in named_once(scene)]
    taught = defaultdict(set)
    for question in named:
        taught[question.text].add(tokenizer.decode(tokenizer(question.answer, add_special_tokens=False).input_ids))

    def box(sample, truth):
        grade = BENCHMARKS["refcoco"].grade
        return next((text for text in taught[sample.prompt] if grade(text, truth.key).correct), "")

    assert score(drawn[0], "refcoco", box) == 100.0
    letter = lambda sample, truth: tokenizer.decode(tokenizer(truth.text, add_special_tokens=False).input_ids)  # noqa: E731
    assert score(drawn[0], "mmbench", letter) == 100.0


def test_letters_and_boxes_cannot_be_guessed(drawn):
    """One letter throughout fails every group; one box throughout hits next to nothing."""
    for letter in "ABCD":
        assert score(drawn[0], "mmbench", lambda sample, truth, letter=letter: letter) == 0.0
    for box in ("[0.0, 0.0, 1.0, 1.0]", "[0.4, 0.4, 0.5, 0.5]"):
        assert score(drawn[0], "refcoco", lambda sample, truth, box=box: box) < 5


@pytest.mark.parametrize("limit", [1, 2, 5, 10, 31, 60, 90, 200])
def test_rotations_of_mmbench_stay_together_on_as_many_images_as_can_be(drawn, limit):
    everything = BENCHMARKS["mmbench"].samples(drawn[0])
    sizes = Counter(group_of(sample.question_id) for sample in everything)
    taken = BENCHMARKS["mmbench"].samples(drawn[0], limit)
    groups = Counter(group_of(sample.question_id) for sample in taken)
    assert all(sizes[group] == count for group, count in groups.items())
    assert len({sample.image for sample in taken}) >= 0.8 * min(len(groups), 40)
    shares = Counter(sample.category for sample in taken if sample.question_id in groups)
    assert max(shares.values()) - min(shares.values()) <= 1 or len(groups) < 5 or limit > 150


def test_right_options_are_balanced(drawn):
    with (drawn[0] / "mmbench/mmbench_dev_20230712.tsv").open(newline="") as file:
        table = list(csv.DictReader(file, delimiter="\t"))
    right = defaultdict(Counter)
    for row in table:
        right[row["l2-category"], row["category"]][row[row["answer"]]] += int(int(row["index"]) < ROTATION)
    for kind, counts in right.items():
        assert max(counts.values()) <= 0.6 * sum(counts.values()), kind


def test_prompts_are_the_tokens_of_training(drawn):
    """A question as headwise asks it is, token for token, one as the language stage and the last stage ask it."""
    tokenizer = build_tokenizer()
    rng = Random(0)
    for name, instruction in (("mmbench", f"\n{LETTER_INSTRUCTION}"), ("refcoco", "")):
        for sample in BENCHMARKS[name].samples(drawn[0])[:40]:
            prompt = f"{SYSTEM} USER: <image>\n{sample.prompt} ASSISTANT:"
            asked = sample.prompt.removesuffix(instruction)
            taught = prompt_ids(asked, "", instruction.strip())
            assert tuple(tokenizer(prompt).input_ids[PREFIX + 1 :]) == taught
            assert tokenizer.unk_token_id not in taught
    scene = drawn[1]["refcoco"][0]
    assert {KINDS["option"](scene, rng).text.count("\n") for _ in range(30)} <= {2, 4}
    assert KINDS["locate"](scene, rng).text.startswith(BENCHMARKS["refcoco"].prompt)
