"""Multiple choice as VLMEvalKit reads it without a language model's help: the letter that an answer names.

Source: `can_infer` in open-compass/VLMEvalKit (`vlmeval/utils/matching_util.py`), environment VERBOSE unset. The rule
has had three states, by which published figures differ; each is kept (`State`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Literal

from headwise.benchmarks.files import Grade

# `2024`: a lone letter anywhere. `2025-08`: only among the last four words, and no option text in a long answer.
# `2026-06`: also "the answer is X".
State = Literal["2024", "2025-08", "2026-06"]

INSTRUCTION = "Answer with the option's letter from the given choices directly."
REFUSED = "Z"
_REFUSALS = (
    "Sorry, I can't help with images of people yet.",
    "I can't process this file.",
    "I'm sorry, but without the image provided",
    "Cannot determine the answer",
)
_FAILED = "Failed to obtain answer via API"
_MARKS = str.maketrans(dict.fromkeys(".()[],:;!*#{}", " "))
# No word boundary after the letter (quirk): "the answer is because" names B.
_ANSWER_IS = re.compile(r"(?i)(?:correct\s+)?answer\s+is\s+\**([ABCD])\**")
_LAST = 4


def grade(text: str, options: Mapping[str, str], answer: str, state: State = "2026-06") -> Grade:
    """Right if the text names the letter `answer`; a refusal counts as parsed and wrong."""
    letter = infer(text, options, state)
    return Grade(letter or "", float(letter == answer), letter is not None)


def infer(text: str, options: Mapping[str, str], state: State = "2026-06") -> str | None:
    """The letter that the text names among `options` (letter → text), Z for a refusal, None for neither."""
    return _by_letter(text, options, state) or _by_text(text, options, state)


def _by_letter(text: str, options: Mapping[str, str], state: State) -> str | None:
    if _FAILED in text:
        return None
    if any(refusal in text for refusal in _REFUSALS):
        return REFUSED
    words = text.translate(_MARKS).split()
    named = [letter for letter in options if letter in words]
    if len(named) == 1 and (state == "2024" or words.index(named[0]) >= len(words) - _LAST):
        return named[0]
    if not named and REFUSED in words:
        return REFUSED
    found = _ANSWER_IS.search(text) if state == "2026-06" else None
    return found[1].upper() if found and found[1].upper() in options else None


def _by_text(text: str, options: Mapping[str, str], state: State) -> str | None:
    if state != "2024" and len(text) > 2 * sum(map(len, options.values())):
        return None
    found = [letter for letter, option in options.items() if option.lower() in text.lower()]
    return found[0] if len(found) == 1 else None


def asked(question: str, options: Mapping[str, str], hint: str = "", instruction: str = INSTRUCTION) -> str:
    """The prompt: hint, question, one line per option, instruction."""
    lines = [hint] if hint else []
    return "\n".join([*lines, question, *(f"{letter}. {text}" for letter, text in options.items()), instruction])


def offered(row: Mapping[str, str]) -> dict[str, str]:
    """The options of a row that a prompt shows: A to D up to the first missing one (or "nan", "none" as text)."""
    options: dict[str, str] = {}
    for letter in "ABCD":
        if letter not in row or row[letter].lower() in ("nan", "none"):
            break
        options[letter] = row[letter]
    return options


_STRIPPED = (",", ".", "!", "?", ";", ":", "'", '"')
_NAMING = (
    *("the answer is", "answer is", "the correct answer is", "correct answer is", "the best answer is"),
    *("best answer is", "the correct option is", "correct option is", "the best option is", "best option is"),
    *("the choice is", "choice is", "the correct choice is", "correct choice is", "my answer is", "my choice is"),
    *("i choose", "i select", "i pick", "옵션", "정답은", "답은", "답:", "答案是", "答案为", "选", "答えは"),
)
# Forms of a letter and their rank: "(A)", "A.", "A:", "A)", "A ".
_FORMS = (("({})", 6), ("{}.", 5), ("{}:", 4), ("{})", 3), ("{} ", 2))
_START, _END, _NAMED, _ANYWHERE = 10, 9, 7, 0


def ranked(text: str, letters: str = "ABCD") -> str | None:
    """The letter in the form of the highest rank, of several the last one: lmms-eval's rule of 2026-04.

    A letter in front ranks highest, then one at the end, one behind "answer is" and the like (in whatever word it
    stands, quirk), then brackets and punctuation. Capitals only. Source: lmms-eval `tasks/_task_utils/mcq_extract.py`
    (c228e273); its later states are other rules.
    """
    text = text.strip()
    for mark in _STRIPPED:
        text = text.strip(mark)
    core, padded = text.strip(), f" {text} "
    found = [place for letter in letters for place in _places(letter, core, padded)]
    if not found:
        found = [(_ANYWHERE, padded.rfind(letter), letter) for letter in letters if letter in padded]
    return max(found)[2] if found else None


def _places(letter: str, core: str, padded: str) -> Iterator[tuple[int, int, str]]:
    """Rank and place of each form in which the letter stands in the text."""
    if core.startswith(letter) and not core[1:2].isalpha():
        yield _START, 0, letter
    if core.endswith(letter) and not core[-2:-1].isalpha():
        yield _END, len(padded), letter
    for form, rank in _FORMS:
        if (place := padded.rfind(form.format(letter))) >= 0:
            yield rank, place, letter
    for phrase in _NAMING:
        start = padded.lower().find(phrase)
        if start >= 0 and (place := padded.find(letter, start + len(phrase))) >= 0:
            yield _NAMED, place, letter
