"""Questions about a scene, each with its true answer and the cells that show it.

Every kind is one function `(scene, rng) -> Question | None` in `KINDS`; None if it does not fit the scene.
"""

from collections.abc import Callable
from random import Random

from tools.embedded.questions.caption import caption
from tools.embedded.questions.forms import choosing, locate, locating, named_once, offering, option
from tools.embedded.questions.places import (
    place_choose,
    place_query,
    place_verify,
    relation,
    side_choose,
    side_verify,
)
from tools.embedded.questions.question import (
    NOTHING,
    Cells,
    Question,
    absent_shapes,
    article,
    of_shape,
    unique_things,
    yes_no,
)
from tools.embedded.questions.signs import READINGS, pick_sign, quoting, read, sum_query, sum_verify, word_verify
from tools.embedded.questions.things import (
    color_choose,
    color_query,
    color_verify,
    count_query,
    count_verify,
    exists,
    exists_color,
    logic,
    same_color,
    shape_query,
    size_choose,
)
from tools.embedded.scenes import Scene

Kind = Callable[[Scene, Random], Question | None]
KINDS: dict[str, Kind] = {
    function.__name__: function
    for function in (
        exists, exists_color, color_query, shape_query, color_verify, color_choose, size_choose,
        side_choose, side_verify, logic, same_color, relation, place_query, place_choose, place_verify,
        read, word_verify, count_query, count_verify, sum_query, sum_verify, option, locate,
    )
}  # fmt: skip

__all__ = [
    "KINDS",
    "NOTHING",
    "READINGS",
    "Cells",
    "Question",
    "absent_shapes",
    "article",
    "caption",
    "choosing",
    "locating",
    "named_once",
    "offering",
    "of_shape",
    "pick_sign",
    "quoting",
    "unique_things",
    "yes_no",
]
