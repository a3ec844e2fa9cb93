"""Questions about signs: words and sums."""

from random import Random

from tools.embedded.questions.question import Question, yes_no
from tools.embedded.scenes import Scene, Sign, training_word


def pick_sign(scene: Scene, rng: Random, is_sum: bool) -> Sign | None:
    signs = [sign for sign in scene.signs if sign.is_sum == is_sum]
    return rng.choice(signs) if signs else None


READINGS = ("What does the {} sign say?", "What is written on the {} sign?", "What is the word on the {} sign?")


def read(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, False)) is None:
        return None
    text = rng.choice(READINGS).format(sign.color)
    return Question("read", text, sign.text, tuple(sign.cells), spelled=tuple(sign.cells))


def word_verify(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, False)) is None:
        return None
    wrong = training_word(rng)
    while len(wrong) != len(sign.text) or any(a == b for a, b in zip(wrong, sign.text, strict=True)):
        wrong = training_word(rng)
    return quoting(sign, sign.text if rng.random() < 0.5 else wrong)


def quoting(sign: Sign, word: str) -> Question:
    text = f'Is the word on the {sign.color} sign "{word}"?'
    cells = tuple(sign.cells)
    quoted = tuple((letter, letter == shown) for letter, shown in zip(word, sign.text, strict=True))
    return Question("word_verify", text, yes_no(word == sign.text), cells, quoted=quoted)


def _sum_question(sign: Sign, kind: str, text: str, answer: str) -> Question:
    return Question(kind, text, answer, (sign.cells[0],), (sign.cells[2],))


def sum_query(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, True)) is None:
        return None
    return _sum_question(sign, "sum_query", "What is the answer to the sum?", str(total(sign)))


def sum_verify(scene: Scene, rng: Random) -> Question | None:
    if (sign := pick_sign(scene, rng, True)) is None:
        return None
    asked = total(sign) if rng.random() < 0.5 else rng.choice([n for n in range(2, 10) if n != total(sign)])
    return summing(sign, asked)


def summing(sign: Sign, asked: int) -> Question:
    text = f"Is the answer to the sum {asked}?"
    return _sum_question(sign, "sum_verify", text, yes_no(asked == total(sign)))


def total(sign: Sign) -> int:
    left, right = sign.text.split("+")
    return int(left) + int(right)
