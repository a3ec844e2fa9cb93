"""Multiple choice as VLMEvalKit reads it without a language model's help: the letter that an answer names.

Source: `can_infer` in open-compass/VLMEvalKit (`vlmeval/utils/matching_util.py`), environment VERBOSE unset. The rule
has had three states, by which published figures differ; each is kept (`State`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
