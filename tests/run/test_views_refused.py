"""Methods before the language model on families that see images in ways that they are not defined for."""

import pytest
from tiny_families import FAMILIES, write_tiny

from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod
from headwise.models import FAMILIES as MODEL_FAMILIES
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings
from headwise.run.tasks import methods_before

BEFORE = [name for name, method in METHODS.items() if isinstance(method, BeforeMethod)]
# Those whose originals say what they do with several tiles on LLaVA-NeXT.
TILED = {"cdpruner", "divprune", "fastervlm", "holov", "mmtok", "scope", "visionzip", "vispruner"}
REASONS = {
    "llava_next": f"LLaVA-NeXT: it says nothing about several tiles; {', '.join(sorted(TILED))} do",
    "qwen2_5_vl": "Qwen2.5-VL: its tower has no [CLS], and compacted positions would lose the rows and columns",
    "internvl": "its tokens are made of four patches each",
}


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
    if name == "llava_next" and method in TILED:
        return
    study = load_settings(None, {"model": str(folders[name]), "strategy": f"fastv,{method}", "tokens": "0.5"})
    with pytest.raises(ConfigError) as caught:
        Job.of(study)
    words = str(caught.value)
    assert words.startswith(f"strategy: {method} prunes before the language model, which is not defined for ")
    assert REASONS.get(name, ": ") in words
    assert "\n" not in words


def test_methods_on_tiles_are_those_whose_originals_say_how():
    assert set(methods_before(MODEL_FAMILIES["llava_next"])) == TILED
    assert methods_before(MODEL_FAMILIES["qwen3_vl"]) == []
    assert methods_before(MODEL_FAMILIES["llava"]) == BEFORE
