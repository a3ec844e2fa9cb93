"""Singular and plural."""

import pytest

from headwise.system.wording import counted


@pytest.mark.parametrize(("count", "said"), [(0, "0 answers are"), (1, "1 answer is"), (12345, "12,345 answers are")])
def test_words_fit_the_count(count, said):
    assert counted(count, "answer is", "answers are") == said
