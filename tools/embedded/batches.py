"""Scenes and questions → training batches: tokens, answers, sampled background, attention targets."""

import math
from dataclasses import replace
from functools import cache
from random import Random

import numpy as np
import torch

from tools.embedded import vocabulary as v
from tools.embedded.decoder import Batch
from tools.embedded.questions import KINDS, NOTHING, Cells, Question, caption, yes_no
from tools.embedded.scenes import Scene, random_scene
from tools.embedded.symbols import FIELDS, cell_labels, is_foreground
from tools.embedded.tokens import build_tokenizer

PREFIX = 3  # <s>, the system sentence, USER:
GROUPS = 3  # of heads: attend to the first object named, to the second, to all objects counted
YES_NO_SHARE = 0.2  # of yes/no questions end with YES_NO: MME's labels do, LLaVA's question file for MME does not
MOVED = 0.5  # of scenes have their tokens at other places
FEWEST = 8  # visual tokens that the text of a moved scene stands behind
DRAWS = 1000  # of kinds, before a scene is given up
OCR_SHARE = 0.7  # of reading questions have the (empty) OCR line of LLaVA's TextVQA file
# A text position and, for each group of heads, the cells to attend to (None: not guided).
Look = tuple[int, list[Cells | None]]
ALL_KINDS = KINDS | {"caption": caption}
_tokenizer = cache(build_tokenizer)


@cache
def token_ids(text: str) -> tuple[int, ...]:
    return tuple(_tokenizer()(text, add_special_tokens=False).input_ids)


def prefix_ids() -> tuple[int, ...]:
    return (1, *token_ids(f"{v.SYSTEM} USER:"))


def prompt_ids(text: str, line: str = "", instruction: str = v.INSTRUCTION) -> tuple[int, ...]:
    """The tokens after the image: the question, perhaps one more line, the instruction if any, ASSISTANT:."""
    tail = " ".join(part for part in (line, instruction, "ASSISTANT:") if part)
    return (*token_ids(text), *token_ids(tail))


def _extra_line(question: Question, rng: Random) -> str:
    if question.kind == "read":
        return v.OCR_LINE if rng.random() < OCR_SHARE else ""
    return v.YES_NO if question.answer in ("yes", "no") and rng.random() < YES_NO_SHARE else ""


def ask(scene: Scene, rng: Random, count: int, weights: dict[str, float]) -> list[Question]:
    """`count` questions of kinds drawn by weight; kinds that do not fit the scene are redrawn.

    ValueError where none of a thousand fits it.
    """
    kinds, shares = list(weights), list(weights.values())
    questions: list[Question] = []
    missed = 0
    while len(questions) < count:
        if (question := ALL_KINDS[rng.choices(kinds, shares)[0]](scene, rng)) is not None:
            questions.append(question)
            missed = 0
        elif (missed := missed + 1) == DRAWS:
            raise ValueError(f"none of {', '.join(kinds)} fits a scene of {len(scene.things)} things")
    return questions


def looks(question: Question, prompt: tuple[int, ...]) -> list[Look]:
    """(text position, target cells for each group of heads) at every guided position."""
    last = len(prompt) - 1
    if question.marks:
        return [(i, [mark, mark, None]) for i, mark in enumerate(question.marks) if mark]
    if question.spelled:
        spelled = [*question.spelled, -1]
        return [(last + i, [(cell,), (cell,), None]) for i, cell in enumerate(spelled)]
    second = question.second or question.first
    counted = (-1, *question.counted) if question.counted else None
    return [(last, [question.first, second, counted])]


def chosen_cells(labels: np.ndarray, rng: Random, background: int | None) -> tuple[np.ndarray, np.ndarray]:
    """All foreground cells and a sample of the others, with the log of the number of cells each represents."""
    if background is None:
        return np.arange(len(labels)), np.zeros(len(labels))
    front = is_foreground(labels)
    clutter = labels[:, list(FIELDS).index("clutter")] > 0
    weight = np.full(len(labels), -np.inf)
    weight[front] = 0.0
    for mask in (clutter, ~front & ~clutter):
        cells = np.flatnonzero(mask)
        if len(cells):
            drawn = rng.sample(list(cells), min(background, len(cells)))
            weight[drawn] = math.log(len(cells) / len(drawn))
    cells = np.flatnonzero(np.isfinite(weight))
    return cells, weight[cells]


def make_batch(
    rng: Random,
    scenes: list[Scene],
    per_scene: int,
    weights: dict[str, float],
    background: int | None = 12,
    asked: list[list[Question]] | None = None,
) -> tuple[Batch, list[list[Question]]]:
    """The batch and the questions in it. `background=None` keeps all 576 cells."""
    asked = asked or [ask(scene, rng, per_scene, weights) for scene in scenes]
    image, cells = shown(scenes, rng, background)
    where = [{cell: i for i, cell in enumerate(c)} for c in cells]
    ids, targets, guided, look = _texts(rng, asked, where, image[0].shape[1])
    quotes = _quotes(asked, ids, image[0][..., list(FIELDS).index("character")])
    return Batch(*map(torch.from_numpy, (*image, ids, targets, guided, look, *quotes))), asked


def shown(scenes: list[Scene], rng: Random, background: int | None) -> tuple[tuple[np.ndarray, ...], list[np.ndarray]]:
    """What a batch shows, as its first four fields: labels, positions, start of the text, weights; and the cells."""
    labels = [cell_labels(scene) for scene in scenes]
    cells = [chosen_cells(label, rng, background) for label in labels]
    width = max(len(c) for c, _ in cells)
    picked = np.zeros((len(scenes), width, len(FIELDS)), np.int64)
    positions = np.zeros((len(scenes), width), np.int64)
    weight = np.full((len(scenes), PREFIX + width), -np.inf, np.float32)
    weight[:, :PREFIX] = 0
    for b, (c, w) in enumerate(cells):
        picked[b, : len(c)], positions[b, : len(c)], weight[b, PREFIX : PREFIX + len(c)] = labels[b][c], c + PREFIX, w
    start = np.full(len(scenes), PREFIX + v.GRID**2)
    return (picked, positions, start, weight), [c for c, _ in cells]


def moved(rng: Random, batch: Batch) -> Batch:
    """The same batch, with half of the scenes as if most of the image had been dropped: other positions, nothing less.

    Methods before the language model drop tokens and count positions anew. So the visual tokens of such a
    scene stand, in their order, at random places among the first K, and its text starts behind these.
    """
    draws = np.random.default_rng(rng.getrandbits(32))
    positions_BN, start_B = batch.positions_BN.clone(), batch.start_B.clone()
    for b in np.flatnonzero(draws.random(len(start_B)) < MOVED):
        kept = int(draws.integers(FEWEST, v.GRID**2 + 1))
        count = positions_BN.shape[1]
        places = np.sort(draws.choice(kept, count, replace=kept < count))
        positions_BN[b], start_B[b] = torch.from_numpy(places) + PREFIX, kept + PREFIX
    return replace(batch, positions_BN=positions_BN, start_B=start_B)


def _quotes(asked: list[list[Question]], ids: np.ndarray, marks_BN: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of the letters of quoted words: where they stand, the cells that show them, and what is to be said there."""
    places, match, heard = [], [], []
    for b, questions in enumerate(asked):
        for m, question in enumerate(questions):
            start = ids[b, m].tolist().index(token_ids('"')[0]) + 1 if question.quoted else 0
            for i, (letter, right) in enumerate(question.quoted):
                shown = marks_BN[b] == v.SIGN_CHARACTERS.index(letter) + 1
                places.append((b, m, start + i))
                match.append(np.concatenate([[not shown.any()], [False] * (PREFIX - 1), shown]))
                heard.append(token_ids(yes_no(right))[0])
    width = PREFIX + marks_BN.shape[1]
    return (
        np.array(places, np.int64).reshape(-1, 3),
        np.array(match, bool).reshape(-1, width),
        np.array(heard, np.int64),
    )


def _texts(rng: Random, asked: list[list[Question]], where: list[dict[int, int]], width: int) -> tuple[np.ndarray, ...]:
    rows: list[tuple[int, int, Question, tuple[int, ...], tuple[int, ...]]] = []
    for b, questions in enumerate(asked):
        for m, question in enumerate(questions):
            if question.marks:
                rows.append((b, m, question, token_ids(question.text), ()))
                continue
            prompt = prompt_ids(question.text, _extra_line(question, rng), question.instruction)
            rows.append((b, m, question, prompt, (*token_ids(question.answer), 2)))
    length = max(len(prompt) + len(answer) for *_, prompt, answer in rows) - 1
    ids = np.zeros((len(asked), len(asked[0]), length), np.int64)
    targets = np.full_like(ids, -100)
    guided: list[tuple[int, int, int]] = []
    target_cells: list[list[Cells | None]] = []
    for b, m, question, prompt, answer in rows:
        tokens = (*prompt, *answer)
        ids[b, m, : len(tokens) - 1] = tokens[:-1]
        asked_for = [i for i, mark in enumerate(question.marks) if mark]
        targets[b, m, asked_for] = [tokens[i + 1] for i in asked_for]
        targets[b, m, len(prompt) - 1 : len(tokens) - 1] = answer
        for position, groups in looks(question, prompt):
            guided.append((b, m, position))
            target_cells.append(groups)
    look = np.zeros((GROUPS, len(guided), PREFIX + width), bool)
    for p, ((b, *_), groups) in enumerate(zip(guided, target_cells, strict=True)):
        for g, cells in enumerate(groups):
            for cell in cells or ():
                if cell in NOTHING:
                    look[g, p, 0] = True
                elif cell in where[b]:
                    look[g, p, PREFIX + where[b][cell]] = True
    return ids, targets, np.array(guided, np.int64), look


def fresh_scenes(rng: Random, count: int) -> list[Scene]:
    return [random_scene(rng) for _ in range(count)]
