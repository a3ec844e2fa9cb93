"""The answer normalisation and soft accuracy of the EvalAI server, as TextVQA is scored.

Source: the answer processor and TextVQA accuracy of facebookresearch/mmf (`EvalAIAnswerProcessor`), which
LLaVA's evaluation uses (`llava/eval/m4c_evaluator.py`). Its quirks are part of the score and are kept, marked
"quirk" below.
"""

from __future__ import annotations

import re
from functools import lru_cache

# Words whose apostrophe an annotator may drop. The official table maps each spelling that lacks exactly
# one of its apostrophes to the full one; capitalised entries (I'm) never match lower-cased text.
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't
wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _spellings(word: str) -> list[str]:
    return [word[:at] + word[at + 1 :] for at, letter in enumerate(word) if letter == "'"]


CONTRACTIONS = {spelling: word for word in _CONTRACTED.split() for spelling in _spellings(word)}
CONTRACTIONS["somebody'd"] = "somebodyd"  # quirk: the one entry that runs the other way

_COUNTED = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
NUMBERS = {word: str(value) for value, word in enumerate(_COUNTED)} | {"none": "0"}
ARTICLES = {"a", "an", "the"}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_DIGIT_COMMA = re.compile(r"(?<=\d),+(?=\d)")
# Quirk: the official pattern also has a look-ahead meant as a look-behind, which excludes nothing.
_FULL_STOP = re.compile(r"\.(?!\d)")
_MOST_STOPS = 32  # Quirk: re.UNICODE (32) is passed where `count` belongs, so later stops stay.


def normalise(text: str) -> str:
    """EvalAI's normalisation: lower case, punctuation, articles, number words, contractions."""
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    return settled(text)


def settled(text: str) -> str:
    """The later steps only, as the VQA server does them: punctuation, articles, number words, contractions."""
    return _words(_without_punctuation(text))


def _without_punctuation(text: str) -> str:
    between_digits = _DIGIT_COMMA.search(text) is not None
    cleaned = text
    for mark in PUNCTUATION:
        # Quirk: a mark beside a space vanishes, any other becomes a space, decided on the whole text.
        beside_space = f"{mark} " in text or f" {mark}" in text
        cleaned = cleaned.replace(mark, "" if beside_space or between_digits else " ")
    return _FULL_STOP.sub("", cleaned, count=_MOST_STOPS)


def _words(text: str) -> str:
    words = (NUMBERS.get(word, word) for word in text.lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


@lru_cache(maxsize=16384)
def soft_scores(answers: tuple[str, ...]) -> dict[str, float]:
    """Accuracy of each distinct normalised answer: the mean over annotators of min(1, agreeing others / 3)."""
    normalised = [normalise(answer) for answer in answers]
    return {answer: _leave_one_out(answer, normalised) for answer in set(normalised)}


def _leave_one_out(answer: str, annotators: list[str]) -> float:
    same = annotators.count(answer)
    accuracies = [min(1.0, (same - (other == answer)) / 3) for other in annotators]
    return sum(accuracies) / len(accuracies)
