"""A full-size dry run: a stand-in bundle with the official counts, two cells, random weights, scored.

    python bench/full_size.py [--fraction 1.0] [--json]

28,862 questions about as many images as the official benchmarks have (tiny pictures), answered by a
checkpoint of the embedded model's shape with random weights. Prints questions per second and the peak memory
after each benchmark: it must not grow with the number of questions.
"""

from __future__ import annotations

import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import click
from machine import describe
from PIL import Image

# Questions and images of each benchmark (semantics: the LLaVA evaluation bundle).
OFFICIAL = {"textvqa": (5000, 3166), "mme": (2374, 1187), "gqa": (12578, 398), "pope": (8910, 500)}
INSTRUCTION = "Answer the question using a single word or phrase."
WORDS = ["circle", "star", "heart", "moon", "fish", "house", "bell", "cross", "cup", "tree"]


def write_bundle(folder: Path, fraction: float) -> None:
    """The four benchmarks in the official layout, with `fraction` of the official counts."""
    rng = random.Random(0)
    for name, write in {"textvqa": _textvqa, "mme": _mme, "gqa": _gqa, "pope": _pope}.items():
        questions, images = (max(6, int(count * fraction)) for count in OFFICIAL[name])
        write(folder, questions - questions % 6, min(images, questions // 2), rng)


def _textvqa(folder: Path, questions: int, images: int, rng: random.Random) -> None:
    rows, key = [], []
    for n in range(questions):
        image, text = f"t{n % images:06}", f"what is written on sign {n}?"
        _image(folder / "textvqa/train_images" / f"{image}.jpg", rng)
        prompt = f"{text}\nReference OCR token: \n{INSTRUCTION}"
        rows.append({"question_id": image, "image": f"{image}.jpg", "text": prompt, "category": "default"})
        key.append({"image_id": image, "question": text, "answers": [rng.choice(WORDS)] * 10})
    _jsonl(folder / "textvqa/llava_textvqa_val_v051_ocr.jsonl", rows)
    _text(folder / "textvqa/TextVQA_0.5.1_val.json", json.dumps({"data": key}))


def _mme(folder: Path, questions: int, images: int, rng: random.Random) -> None:
    release, rows = folder / "MME/MME_Benchmark_release_version", []
    for n in range(questions // 2):
        name = f"existence/{n:04}.png"
        _image(release / name, rng)
        asked = [f"Is there a {word} in picture {n}? Please answer yes or no." for word in rng.sample(WORDS, 2)]
        _text(release / f"existence/{n:04}.txt", f"{asked[0]}\tYes\n{asked[1]}\tNo\n")
        row = {"question_id": name, "image": name, "category": "existence"}
        rows += [row | {"text": f"{text}\n{INSTRUCTION}"} for text in asked]
    _jsonl(folder / "MME/llava_mme.jsonl", rows)


def _gqa(folder: Path, questions: int, images: int, rng: random.Random) -> None:
    rows, key = [], {}
    program = [{"operation": "select", "argument": "it"}]
    types = {"structural": "verify", "semantic": "obj"}
    for n in range(questions):
        image, text = f"n{n % images:06}", f"Is there a {rng.choice(WORDS)}?"
        _image(folder / "gqa/data/images" / f"{image}.jpg", rng)
        prompt = f"{text}\n{INSTRUCTION}"
        rows.append({"question_id": str(n), "image": f"{image}.jpg", "text": prompt, "category": "default"})
        key[str(n)] = {"question": text, "answer": rng.choice(["yes", "no"]), "types": types, "semantic": program}
    _jsonl(folder / "gqa/llava_gqa_testdev_balanced.jsonl", rows)
    _text(folder / "gqa/data/testdev_balanced_questions.json", json.dumps(key))


def _pope(folder: Path, questions: int, images: int, rng: random.Random) -> None:
    rows: list[dict[str, object]] = []
    for category in ("adversarial", "popular", "random"):
        labels = []
        for n in range(questions // 3):
            image = f"COCO_val2014_{n % images:012}.jpg"
            _image(folder / "pope/val2014" / image, rng)
            text, label = f"Is there a {rng.choice(WORDS)} in the image?", "yes" if n % 2 else "no"
            labels.append({"question_id": n + 1, "image": image, "text": text, "label": label})
            row = {"question_id": len(rows) + 1, "image": image, "category": category}
            rows.append(row | {"text": f"{text}\n{INSTRUCTION}"})
        _jsonl(folder / f"pope/coco/coco_pope_{category}.json", labels)
    _jsonl(folder / "pope/llava_pope_test.jsonl", rows)


def _image(path: Path, rng: random.Random) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), tuple(rng.randrange(256) for _ in range(3))).save(path)


def _jsonl(path: Path, rows: list[dict[str, object]]) -> None:
    _text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_random_checkpoint(folder: Path) -> None:
    """The embedded checkpoint's configuration, tokenizer and processor with fresh random weights."""
    import torch
    from transformers import AutoImageProcessor, AutoTokenizer, LlavaConfig, LlavaForConditionalGeneration

    from headwise.embedded import MODEL_DIR

    torch.manual_seed(0)
    LlavaForConditionalGeneration(LlavaConfig.from_pretrained(MODEL_DIR)).save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    AutoImageProcessor.from_pretrained(MODEL_DIR, backend="pil").save_pretrained(folder)


@click.command()
@click.option("--fraction", default=1.0, help="share of the official counts")
@click.option("--threads", default=2)
@click.option("--json", "as_json", is_flag=True)
def main(fraction: float, threads: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        write_bundle(Path("eval"), fraction)
        write_random_checkpoint(Path("model"))
        result = run(threads)
    print(json.dumps(result) if as_json else "\n".join(f"{name:12} {value}" for name, value in result.items()))


def run(threads: int) -> dict[str, object]:
    """Evaluate and score each benchmark in turn; peak memory after each."""
    import torch
    from rich.console import Console

    from headwise import tracking
    from headwise.run.evaluate import Job, evaluate_study
    from headwise.run.settings import load_settings

    torch.set_num_threads(threads)
    settings = {"model": "model", "data_dir": "eval", "strategy": "sparsity", "tokens": "32,16", "heads": 8}
    settings |= {"controls": "none", "budget": "kept", "max_new_tokens": 2}
    result: dict[str, object] = {"machine": describe(torch.device("cpu"))}
    for name in OFFICIAL:
        started, busy = time.perf_counter(), time.process_time()
        job = Job.of(load_settings(None, settings | {"benchmark": name}))
        with tracking.open_study(job.params(), experiment="full size") as study:
            evaluate_study(job, study, Console(stderr=True))
        seconds, questions = time.perf_counter() - started, len(job.tasks[0].samples)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        result[name] = {
            "questions": questions,
            "seconds": round(seconds, 1),
            "processor_seconds": round(time.process_time() - busy, 1),
            "questions_a_second": round(questions / seconds, 1),
            "peak_bytes": peak,
        }
        print(name, result[name], file=sys.stderr, flush=True)
    return result


if __name__ == "__main__":
    main()
