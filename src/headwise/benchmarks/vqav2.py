"""VQAv2 validation: open questions about COCO's images, scored by the soft accuracy of ten annotators."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from headwise.benchmarks import datasets, evalai
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.fields import by_id, category_of, id_of, once, text_of
from headwise.benchmarks.files import INSTRUCTION, Grade, KeyedBenchmark, Truth, answered, inside, load_json, percent
from headwise.errors import DataError
from headwise.records import Sample, Verdict

# Seed of the image order of a limited study.
SAMPLE_SEED = 0
ANNOTATORS = 10


class VQAv2(KeyedBenchmark):
    """The score of LLaVA's submission: its converter normalises the answer, the VQA server scores the result.

    Source of the rules: GT-Vision-Lab/VQA `PythonEvaluationTools/vqaEvaluation/vqaEval.py`; of the submission: LLaVA
    `scripts/convert_vqav2_for_submission.py`. Where the ten annotators agree the server normalises nothing (quirk):
    with ten times "t-shirt" the submitted "t shirt" scores 0.
    """

    name = "vqav2"
    title = "VQAv2 (val)"
    rule = "vqav2.llava-submission-v1"
    rank = 10
    sets = frozenset({"llava"})
    home = "vqav2"
    question_file = "vqav2/v2_OpenEnded_mscoco_val2014_questions.json"
    image_folder = "vqav2/val2014"
    key_file: ClassVar[str] = "vqav2/v2_mscoco_val2014_annotations.json"
    official = Counts(questions=214354, labels=214354, images=40504, known_from="card")
    fixes = {
        "questions": "unpack v2_Questions_Val_mscoco.zip (visualqa.org/download) into vqav2/",
        "labels": "unpack v2_Annotations_Val_mscoco.zip (visualqa.org/download) into vqav2/",
        "images": "unpack COCO's val2014.zip in vqav2/, which makes vqav2/val2014/",
    }
    dataset = "lmms-lab/VQAv2"
    cluster = "image_id"
    source = "VQA's vqaEval.py on LLaVA's submission (convert_vqav2_for_submission.py)"
    convention = (
        "val split; figures in papers are of test-dev (LLaVA-1.5-7B 78.5), another measurement. `limit` asks about "
        f"whole images drawn with seed {SAMPLE_SEED}"
    )

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions of VQA's file, in its order. DataError where the file is no object with a list of them."""
        path = data_dir / self.question_file
        content = load_json(path)
        rows = content.get("questions") if isinstance(content, dict) else None
        if not isinstance(rows, list) or not rows:
            raise DataError(f"{path}: expected an object with a list `questions`")
        samples = [_sample(self.name, row, f"{path}, question {number}") for number, row in enumerate(rows, 1)]
        return once(samples, path)

    def limited(self, samples: list[Sample], limit: int | None) -> list[Sample]:
        """Questions of images in an order drawn with SAMPLE_SEED, in file order; only the last image may be cut."""
        if limit is None:
            return samples
        places: dict[str, list[int]] = defaultdict(list)
        for place, sample in enumerate(samples):
            places[sample.image].append(place)
        drawn = sorted(places, key=lambda image: hashlib.sha256(f"{SAMPLE_SEED}/{image}".encode()).digest())
        taken: list[int] = []
        for image in drawn:
            if len(taken) >= limit:
                break
            taken += places[image]
        return [samples[place] for place in sorted(taken[:limit])]

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in the image folder below `data_dir`."""
        return inside(data_dir / self.image_folder, sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The ten annotators' answers per sample. DataError where a question has another number of them."""
        path = data_dir / self.key_file
        content = load_json(path)
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise DataError(f"{path}: expected an object with a list `annotations`")
        key = by_id(content["annotations"], "question_id", path)

        def truth_of(sample: Sample) -> Truth:
            row = key.get(sample.question_id)
            where = f"{path}: question {sample.question_id!r}"
            annotators = row.get("answers") or [] if row else []
            given = tuple(text_of(each, "answer", where, numbers=True) for each in annotators)
            if row is None or len(given) != ANNOTATORS:
                raise DataError(f"{where} lacks its ten answers")
            return Truth(category_of(row, "answer_type", where), " | ".join(dict.fromkeys(given)), given)

        return truth_of

    def grade(self, text: str, key: tuple[str, ...]) -> Grade:
        """The VQA server's accuracy, 0 to 1, of the answer normalised as LLaVA's converter does."""
        return server_grade(evalai.normalise(text), key, text)

    def metrics(self, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Soft accuracy per answer type."""
        groups: dict[str, list[Verdict]] = defaultdict(list)
        for verdict in answered(verdicts):
            groups[verdict.category].append(verdict)
        return {f"category/{name}": percent(group) or 0.0 for name, group in sorted(groups.items()) if name}

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """Split validation."""
        plain = ["question_id", "image_id", "question", "answers", "answer_type"]
        questions, annotations = [], []
        for row in datasets.rows(folder, "validation", [*plain, "image"]):
            datasets.save_image(bundle / self.image_folder, image_name(row["image_id"]), row["image"])
            questions.append({name: row[name] for name in ("question_id", "image_id", "question")})
            annotations.append({name: row[name] for name in ("question_id", "image_id", "answers", "answer_type")})
        datasets.write_json(bundle / self.question_file, {"questions": questions})
        datasets.write_json(bundle / self.key_file, {"annotations": annotations})


class VQAv2Server(VQAv2):
    """The VQA server on the answer as it was generated."""

    name = "vqav2.vqaeval-v1"
    title = "VQAv2 (val, vqaEval on raw answers)"
    rule = "vqav2.vqaeval-v1"
    sets = frozenset()
    source = "VQA's vqaEval.py"

    def grade(self, text: str, key: tuple[str, ...]) -> Grade:
        """The VQA server's accuracy, 0 to 1, of the answer as generated."""
        return server_grade(text, key, text)


class VQAv2Lmms(VQAv2):
    """Rule of lmms-eval: answer and annotators are always normalised."""

    name = "vqav2.lmms-v1"
    title = "VQAv2 (val, lmms-eval's rule)"
    rule = "vqav2.lmms-v1"
    sets = frozenset()
    source = "lmms-eval tasks/vqav2"

    def grade(self, text: str, key: tuple[str, ...]) -> Grade:
        """Accuracy, 0 to 1, leaving one annotator out at a time; answer and annotations are normalised."""
        prediction = evalai.normalise(text)
        others = [evalai.normalise(answer) for answer in key]
        return Grade(prediction, leave_one_out(prediction, others), bool(text.strip()))


def image_name(image_id: Any) -> str:
    """COCO's file name of an image."""
    return f"COCO_val2014_{int(image_id):012d}.jpg"


def _sample(benchmark: str, row: Any, where: str) -> Sample:
    if not isinstance(row, dict) or not {"question_id", "image_id", "question"} <= row.keys():
        raise DataError(f"{where}: needs question_id, image_id and question")
    prompt = f"{text_of(row, 'question', where)}\n{INSTRUCTION}"
    image = image_name(int(id_of(row, "image_id", where)))
    return Sample(benchmark=benchmark, question_id=id_of(row, "question_id", where), image=image, prompt=prompt)


def server_grade(answer: str, annotators: Sequence[str], text: str) -> Grade:
    """The VQA server's accuracy of a submitted answer; `text` is the model's answer."""
    prediction, others = _one_line(answer), [_one_line(each) for each in annotators]
    if len(set(others)) > 1:
        prediction, others = server_normalise(prediction), [server_normalise(each) for each in others]
    return Grade(prediction, leave_one_out(prediction, others), bool(text.strip()))


def server_normalise(text: str) -> str:
    """EvalAI's normalisation without its first step: commas, question marks and "'s" are left to the later ones."""
    return evalai.settled(text)


def leave_one_out(answer: str, annotators: Sequence[str]) -> float:
    """Mean over annotators of min(1, agreeing others / 3); annotators are identified by position."""
    same = annotators.count(answer)
    return sum(min(1.0, (same - (other == answer)) / 3) for other in annotators) / len(annotators)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()
