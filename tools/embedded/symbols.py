"""Scene → integer labels of each cell: the tower's targets and the decoder's symbolic input."""

import numpy as np

from tools.embedded.scenes import Scene
from tools.embedded.vocabulary import COLOR_NAMES, GRID, PLACE_NAMES, SHAPES, SIGN_CHARACTERS, SIGN_LENGTH

# label 0 means "none of them"; the order is the column order of `cell_labels`
FIELDS = {
    "shape": len(SHAPES) + 1,
    "color": len(COLOR_NAMES) + 1,
    "size": 4,
    "corner": 2,  # the top left cell of a shape: one cell that stands for the whole
    "character": len(SIGN_CHARACTERS) + 1,
    "order": SIGN_LENGTH + 1,  # the character's place in its word
    "board": len(COLOR_NAMES) + 1,
    "place": len(PLACE_NAMES) + 1,  # of a background cell
    "clutter": 2,
    "row": GRID,
    "col": GRID,
}
_COLUMN = {name: i for i, name in enumerate(FIELDS)}


def cell_labels(scene: Scene) -> np.ndarray:
    """(576, fields) int64 labels of one scene, in the order of `FIELDS`."""
    labels = np.zeros((GRID * GRID, len(FIELDS)), np.int64)
    cells = np.arange(GRID * GRID)
    labels[:, _COLUMN["row"]], labels[:, _COLUMN["col"]] = cells // GRID, cells % GRID
    labels[:, _COLUMN["place"]] = PLACE_NAMES.index(scene.place) + 1
    for cell, _, _ in scene.clutter:
        _set(labels, cell, clutter=1)
    for thing in scene.things:
        shape, color = SHAPES.index(thing.shape) + 1, COLOR_NAMES.index(thing.color) + 1
        for i, cell in enumerate(thing.cells):
            _set(labels, cell, shape=shape, color=color, size=thing.size, corner=int(i == 0))
    for sign in scene.signs:
        for i, (cell, character) in enumerate(zip(sign.cells, sign.text, strict=True)):
            mark = SIGN_CHARACTERS.index(character) + 1
            _set(labels, cell, character=mark, order=i + 1, board=COLOR_NAMES.index(sign.color) + 1)
    return labels


def is_foreground(labels: np.ndarray) -> np.ndarray:
    """Cells of shapes and signs (not clutter, not background)."""
    return (labels[..., _COLUMN["shape"]] > 0) | (labels[..., _COLUMN["character"]] > 0)


def _set(labels: np.ndarray, cell: int, **values: int) -> None:
    for name, value in {"place": 0, **values}.items():
        labels[cell, _COLUMN[name]] = value
