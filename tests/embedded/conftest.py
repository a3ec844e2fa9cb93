from pathlib import Path

import pytest

from tools.embedded import draw as drawing
from tools.embedded.scenes import Scene


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[Scene]]]:
    out = tmp_path_factory.mktemp("drawn")
    return out, drawing.draw(out)
