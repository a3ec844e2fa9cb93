"""Methods before the language model on families that see images in ways that they are not defined for."""

import pytest
from tiny_families import FAMILIES, write_tiny

from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings

BEFORE = [name for name, method in METHODS.items() if isinstance(method, BeforeMethod)]
DEFINED = {("llava_next", "divprune")}
TITLES = {"qwen2_5_vl": "Qwen2.5-VL sees one view at its own resolution"}
TITLES["llava_next"] = "LLaVA-NeXT sees unpadded tiles"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Checkpoints without weights: what is refused is refused before they are read."""
    made = {name: write_tiny(name, tmp_path_factory.mktemp(name)) for name in FAMILIES}
    for folder in made.values():
        (folder / "model.safetensors").write_bytes(b"no weights")
    return made


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", BEFORE)
def test_one_line_names_method_family_and_reason(name, method, folders):
    if (name, method) in DEFINED:
        return
    study = load_settings(None, {"model": str(folders[name]), "strategy": f"fastv,{method}", "tokens": "0.5"})
    with pytest.raises(ConfigError) as caught:
        Job.of(study)
    words = str(caught.value)
    assert words.startswith(f"strategy: {method} chooses before the language model and is defined for one square view")
    assert TITLES.get(name, " sees ") in words
    assert "\n" not in words


def test_the_line_says_what_runs_there(folders):
    study = load_settings(None, {"model": str(folders["smolvlm"]), "strategy": "visionzip", "tokens": "64"})
    with pytest.raises(ConfigError, match="there, none such and every method inside the language model can run"):
        Job.of(study)
