from pathlib import Path

import pytest

from headwise.embedded import draw as drawing
from headwise.embedded.scenes import Scene


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Scene]]]:
    out = tmp_path_factory.mktemp("drawn")
    return out, drawing.draw(out)
