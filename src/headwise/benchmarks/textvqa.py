"""TextVQA 0.5.1 validation: read the text in the image, scored by EvalAI's soft accuracy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwise.benchmarks import datasets
from headwise.benchmarks.benchmark import Counts
from headwise.benchmarks.evalai import normalise, soft_scores
from headwise.benchmarks.files import (
    INSTRUCTION,
    Grade,
    KeyedBenchmark,
    Truth,
    inside,
    load_json,
    question_samples,
)
from headwise.errors import DataError
from headwise.records import Sample, write_jsonl

ANNOTATORS = 10
_BLIP_FORM = re.compile(r"Question: (.*?) Short answer:", re.DOTALL)


class TextVQA(KeyedBenchmark):
    """Source of the rules: LLaVA `llava/eval/eval_textvqa.py` over mmf's EvalAI evaluator."""

    name = "textvqa"
    title = "TextVQA"
    rule = "textvqa.evalai-v1"
    rank = 1
    sets = frozenset({"embedded", "published", "llava", "vlm"})
    home = "textvqa"
    question_file = "textvqa/llava_textvqa_val_v051_ocr.jsonl"
    image_folder = "textvqa/train_images"
    official = Counts(questions=5000, labels=5000, images=3166)
    fixes = {
        "labels": "put TextVQA_0.5.1_val.json (textvqa.org/dataset) into textvqa/",
        "images": "unpack train_val_images.zip (textvqa.org/dataset) in textvqa/, which makes textvqa/train_images/",
    }
    dataset = "lmms-lab/textvqa"
    source = "LLaVA llava/eval/eval_textvqa.py over mmf's EvalAI evaluator"
    convention = "validation split, OCR tokens in the prompt as in LLaVA's question file"
    without_ocr = "textvqa_no_ocr"

    def questions(self, data_dir: Path) -> list[Sample]:
        """The questions of LLaVA's file (its prompts hold OCR tokens), in its order."""
        return question_samples(data_dir / "textvqa" / "llava_textvqa_val_v051_ocr.jsonl", self.name)

    def image_path(self, data_dir: Path, sample: Sample) -> Path:
        """The image in `textvqa/train_images` below `data_dir`."""
        return inside(data_dir / "textvqa" / "train_images", sample.image)

    def truths(self, data_dir: Path, samples: Sequence[Sample]) -> Callable[[Sample], Truth]:
        """The annotators' answers per sample, found by image and question. DataError where there are none."""
        path = data_dir / "textvqa" / "TextVQA_0.5.1_val.json"
        key = answer_key(path, load_json(path))

        def truth_of(sample: Sample) -> Truth:
            lookup = sample.question_id, question_of(sample.prompt)
            if lookup not in key:
                raise DataError(f"{path}: no annotation for image {lookup[0]!r} and question {lookup[1]!r}")
            return Truth("", " | ".join(dict.fromkeys(key[lookup])), key[lookup])

        return truth_of

    def grade(self, text: str, key: tuple[str, ...]) -> Grade:
        """VQA's soft accuracy, 0 to 1, of the normalised answer; `key`: the annotators' answers."""
        return grade(text, key)

    def from_dataset(self, folder: Path, bundle: Path) -> None:
        """LLaVA words a question as "What is it?": first letter upper case, the rest lower; tokens on one line."""
        questions, annotations = [], []
        for row in datasets.rows(folder, "validation", ["image_id", "question", "answers", "ocr_tokens", "image"]):
            tokens = ", ".join(" ".join(token.split()) for token in row["ocr_tokens"])
            name = f"{row['image_id']}.jpg"
            prompt = f"{row['question'].capitalize()}\nReference OCR token: {tokens}\n{INSTRUCTION}"
            questions.append({"question_id": row["image_id"], "image": name, "text": prompt, "category": "default"})
            annotations.append({key: row[key] for key in ("image_id", "question", "answers")})
            datasets.save_image(bundle / "textvqa" / "train_images", name, row["image"])
        write_jsonl(bundle / "textvqa" / "llava_textvqa_val_v051_ocr.jsonl", questions)
        datasets.write_json(bundle / "textvqa" / "TextVQA_0.5.1_val.json", {"data": annotations})


class TextVQANoOcr(TextVQA):
    """The same questions without the line of OCR tokens, as newer models are reported: another measurement."""

    name = "textvqa_no_ocr"
    title = "TextVQA (no OCR tokens)"
    rule = "textvqa_no_ocr.evalai-v1"
    rank = 17
    sets = frozenset()
    convention = "validation split, no OCR tokens in the prompt, as lmms-eval asks by default; setting `ocr: false`"
    without_ocr = ""

    def questions(self, data_dir: Path) -> list[Sample]:
        """LLaVA's question file without its OCR lines. DataError for a prompt of another form."""
        return [self._without_line(sample) for sample in super().questions(data_dir)]

    def _without_line(self, sample: Sample) -> Sample:
        lines = sample.prompt.split("\n")
        left = [line for line in lines if not line.startswith("Reference OCR token:")]
        if len(left) != 2:
            raise DataError(f"textvqa: the OCR line cannot be found in the prompt {sample.prompt[:80]!r}")
        return replace(sample, prompt="\n".join(left))


def grade(text: str, annotators: tuple[str, ...]) -> Grade:
    """Soft accuracy of an answer against its ten annotators (0 to 1)."""
    prediction = normalise(text)
    return Grade(prediction, soft_scores(annotators).get(prediction, 0.0), bool(text.strip()))


def question_of(prompt: str) -> str:
    """The question inside a prompt, lower-cased: LLaVA's `prompt_processor`, quirks kept.

    A prompt has the question, perhaps an OCR line, and the instruction; or it is BLIP's
    "OCR tokens: … Question: … Short answer:". DataError for any other form.
    """
    if prompt.startswith("OCR tokens: ") and (found := _BLIP_FORM.search(prompt)):
        return found.group(1).lower()
    lines = prompt.split("\n")
    if len(lines) == 3 and "Reference OCR token: " in prompt:
        return lines[1 if prompt.startswith("Reference OCR token:") else 0].lower()
    if len(lines) == 2:
        return lines[0].lower()
    raise DataError(f"textvqa: the question cannot be found in the prompt {prompt[:80]!r}")


def answer_key(path: Path, contents: Any) -> dict[tuple[str, str], tuple[str, ...]]:
    """Annotators' answers by (image_id, question in lower case); a repeated question keeps its last entry."""
    if not isinstance(contents, dict) or not isinstance(contents.get("data"), list):
        raise DataError(f"{path}: expected an object with a list `data` of annotations")
    key = {}
    for number, row in enumerate(contents["data"], 1):
        if not isinstance(row, dict) or not isinstance(row.get("question"), str) or "image_id" not in row:
            raise DataError(f"{path}: annotation {number} lacks its image_id or question")
        said = row.get("answers")
        if not isinstance(said, list) or len(said) != ANNOTATORS or not all(isinstance(text, str) for text in said):
            raise DataError(f"{path}: question {row.get('question_id')!r} lacks its {ANNOTATORS} answers")
        key[str(row["image_id"]), row["question"].lower()] = tuple(row["answers"])
    return key
