"""MME: pairs of yes/no questions about an image, in fourteen categories of perception and cognition."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.files import (
    INSTRUCTION,
    Grade,
    KeyedBenchmark,
    Truth,
    answered,
    graded,
    inside,
    percent,
    question_samples,
)
from headwise.errors import DataError
from headwise.records import Sample, Verdict, write_jsonl
from headwise.stats.aggregates import PairSum
from headwise.system.reading import read_text

PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")
QUESTIONS = dict.fromkeys(("existence", "count", "position", "color"), 60)
QUESTIONS |= {"posters": 294, "celebrity": 340} | dict.fromkeys(("scene", "landmark", "artwork"), 400)
QUESTIONS |= {"OCR": 40, "commonsense_reasoning": 140} | dict.fromkeys(COGNITION[1:], 40)
"""How many questions the official MME asks in each category: 2,374 in all."""
YES_NO = "Please answer yes or no."
LABELS = ("yes", "no")

# Category, image name without its ending, question without instructions.
Question = tuple[str, str, str]


class MME(KeyedBenchmark):
    """Source of the rules: MME's `eval_tool/calculation.py`; of the layout: LLaVA `convert_answer_to_mme.py`."""

    name = "mme"
    title = "MME"
    rule = "mme.official-v1"
    unit = "points"
    aggregate = PairSum()
    rank = 2
    sets = frozenset({"embedded", "published", "llava", "vlm"})
    home = "MME"
    question_file = "MME/llava_mme.jsonl"
    image_folder = "MME/MME_Benchmark_release_version"
    official = Counts(questions=2374, labels=2374, images=1187)
    categories = (*PERCEPTION, *COGNITION)
    fixes = {
        "labels": "unpack MME_Benchmark_release_version (from MME's page) in MME/: its *.txt files are the labels",
        "images": "unpack MME_Benchmark_release_version (from MME's page) in MME/: one folder per category",
    }
    dataset = "lmms-lab/MME"
    cluster = "image, drawn within its category"
    source = "MME eval_tool/calculation.py; LLaVA convert_answer_to_mme.py"
    convention = "perception + cognition; many papers report perception alone (category/perception)"

    def unit_of(self, sample: Sample) -> str:
        """The image: its two questions are one pair."""
        return sample.image

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions of LLaVA's file, in its order, with its prompts."""
        return question_samples(data_dir / "MME" / "llava_mme.jsonl", self.name)

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image at the question file's path, or in the category's `images/` folder."""
        named = inside(key_folder(data_dir), sample.image)
        moved = named.parent / "images" / named.name
        return moved if not named.exists() and moved.exists() else named

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """Yes or No per sample, from the official release's label files. DataError where a question has no label."""
        folder = key_folder(data_dir)
        key = answer_key(folder, sorted({category_of(sample.question_id) for sample in samples}))

        def truth_of(sample: Sample) -> Truth:
            question = question_of(sample.question_id, sample.prompt)
            if question not in key:
                raise DataError(f"{folder}: no label for question {question[2]!r} of {sample.question_id}")
            return Truth(question[0], key[question], key[question])

        return truth_of

    def grade(self, text: str, key: str) -> Grade:
        """1 where the answer says yes or no as the label does, by MME's rule."""
        return grade(text, key)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Per category its accuracies, and its score if it has a complete pair; sums of both halves."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        metrics: dict[str, float] = {}
        scores = {}
        for category, group in groups.items():
            metrics |= {f"category/{category}/{name}": value for name, value in category_metrics(group).items()}
            if f"category/{category}/score" in metrics:
                scores[category] = metrics[f"category/{category}/score"]
        for half, names in (("perception", PERCEPTION), ("cognition", COGNITION)):
            if present := [scores[name] for name in names if name in scores]:
                metrics[f"category/{half}"] = sum(present)
        return metrics

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Write images, label files per category and LLaVA's question file in the layout of MME's release."""
        home = bundle / "MME" / "MME_Benchmark_release_version"
        questions, labels = [], defaultdict(list)
        for row in datasets.rows(folder, "test", ["question_id", "question", "answer", "image"]):
            name = row["question_id"]
            prompt = f"{row['question'].replace(YES_NO, '').strip()}\n{INSTRUCTION}"
            questions.append({"question_id": name, "image": name, "text": prompt, "category": category_of(name)})
            labels[name].append(f"{row['question']}\t{row['answer']}\n")
            datasets.save_image(home, name, row["image"])
        for name, lines in labels.items():
            path = PurePosixPath(name)
            place = home / category_of(name) / ("questions_answers_YN" if "images" in path.parts else "")
            place.mkdir(exist_ok=True)
            (place / f"{path.name.split('.')[0]}.txt").write_text("".join(lines), encoding="utf-8")
        write_jsonl(bundle / "MME" / "llava_mme.jsonl", questions)


def category_metrics(verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Accuracies of one category: `acc` over questions, `acc_plus` over pairs (both right), their sum `score`.

    As the official tool, two consecutive questions of an image are a pair; a question whose partner is
    not among the verdicts (cut off by a limit, failed) counts in `acc` alone.
    """
    metrics = {"acc": percent(verdicts) or 0.0}
    if pairs := _pairs(verdicts):
        metrics["acc_plus"] = 100 * sum(a.correct == b.correct == 1 for a, b in pairs) / len(pairs)
        metrics["score"] = metrics["acc"] + metrics["acc_plus"]
    return metrics


def _pairs(verdicts: Sequence[Verdict]) -> list[tuple[Verdict, Verdict]]:
    by_image: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_image[verdict.question_id].append(verdict)
    return [pair for group in by_image.values() for pair in zip(group[::2], group[1::2], strict=False)]


def grade(text: str, label: str) -> Grade:
    """Yes or no from the first four characters of the lower-cased text; anything else is "other" and wrong."""
    start = text.lower()[:4]
    prediction = next((word for word in LABELS if word in start), "other")
    return Grade(prediction, float(prediction == label), prediction != "other")


def key_folder(data_dir: Path) -> Path:
    """The folder of MME's images and labels."""
    return data_dir / "MME" / "MME_Benchmark_release_version"


def category_of(question_id: str) -> str:
    """`artwork` of `artwork/10002.jpg`."""
    return question_id.split("/")[0]


def question_of(question_id: str, prompt: str) -> Question:
    """What identifies a question in the labels, which word it without LLaVA's instruction line.

    Labels end in "Please answer yes or no." after one or two spaces and LLaVA's question file leaves that
    out, so it is dropped on both sides. The image's name counts up to its first dot, as in the official
    conversion.
    """
    text = prompt.replace(INSTRUCTION, "").replace(YES_NO, "")
    return category_of(question_id), question_id.split("/")[-1].split(".")[0], " ".join(text.split())


def answer_key(folder: Path, categories: Sequence[str]) -> dict[Question, str]:
    """Labels ("yes" or "no") of the categories, from `*.txt` beside the images or in `questions_answers_YN/`."""
    key: dict[Question, str] = {}
    for category in categories:
        home = inside(folder, category)
        home = home / "questions_answers_YN" if (home / "images").is_dir() else home
        files = sorted(home.glob("*.txt"))
        if not files:
            raise DataError(f"{home}: no MME label file (*.txt) for category {category!r}")
        for path in files:
            key |= _labels(path, category)
    return key


def _labels(path: Path, category: str) -> dict[Question, str]:
    labels = {}
    for number, (question, label) in enumerate(table_rows(path, columns=2), 1):
        if label.strip().lower() not in LABELS:
            raise DataError(f"{path}, line {number}: label {label!r} is not yes or no")
        labels[question_of(f"{category}/{path.name}", question)] = label.strip().lower()
    return labels


def table_rows(path: Path, columns: int) -> list[list[str]]:
    """Rows of a tab-separated MME file without header; DataError names the line with another width."""
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        if line.count("\t") != columns - 1:
            raise DataError(f"{path}, line {number}: expected {columns} tab-separated fields")
        rows.append(line.rstrip("\r").split("\t"))
    return rows


def table_answers(path: Path) -> list[dict[str, str]]:
    """Answers in MME's own format (one file per category; image, question, label, answer, tab-separated).

    Returned as LLaVA-style rows with a `label`, sorted by image and question.
    """
    rows = []
    for number, (image, question, label, answer) in enumerate(table_rows(path, columns=4), 1):
        if label.strip().lower() not in LABELS:
            raise DataError(f"{path}, line {number}: label {label!r} is not yes or no")
        named = {"question_id": f"{path.stem}/{image}", "prompt": question}
        rows.append(named | {"text": answer, "label": label.strip().lower()})
    return sorted(rows, key=lambda row: (row["question_id"], row["prompt"]))


def judge_labelled(rows: Iterable[Mapping[str, str]]) -> list[Verdict]:
    """Verdicts of labelled answers (the rows of `table_answers`)."""
    verdicts = []
    for row in rows:
        truth = Truth(category_of(row["question_id"]), row["label"], row["label"])
        verdicts.append(graded(row["question_id"], row["question_id"], truth, grade(row["text"], row["label"])))
    return verdicts
