"""Methods on families that see images in ways that they are not defined for: refused before weights are read."""

import pytest
from families_golden import Golden
from tiny_families import FAMILIES, write_tiny
from transformers import AutoConfig

from headwise.engine import run_inputs
from headwise.errors import ConfigError
from headwise.methods import METHODS, BeforeMethod
from headwise.models import FAMILIES as MODEL_FAMILIES
from headwise.models import family_of
from headwise.models.decoder import Decoder
from headwise.run.defined import methods_before, undefined_inside
from headwise.run.evaluate import Job
from headwise.run.settings import load_settings
from headwise.study.cells import Cell

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


COMPACTING = {"pdrop", "sparsevlm", "sparsevlm@ancestor"}
INSIDE = {
    "qwen2_5_vl": (COMPACTING | {"sparsevlm_plus"}, "Qwen2.5-VL: its visual tokens have rows and columns"),
    "qwen3_vl": (COMPACTING | {"sparsevlm_plus"}, "Qwen3-VL: its visual tokens have rows and columns"),
    "smolvlm": (COMPACTING, "SmolVLM2, Idefics3: text stands between its tiles"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_methods_inside_that_need_positions_on_a_line_are_refused_elsewhere(name, folders):
    refused, words = INSIDE.get(name, (set(), ""))
    found = undefined_inside(family_of(AutoConfig.from_pretrained(folders[name])))
    assert set(found) == refused
    for method in refused:
        given = {"model": str(folders[name]), "strategy": f"fastv,{method}", "tokens": "0.5", "heads": "0.5"}
        with pytest.raises(ConfigError) as caught:
            Job.of(load_settings(None, given))
        assert str(caught.value).startswith(f"strategy: {method} ")
        assert str(caught.value).endswith(f"which is not defined for {words}")


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_says_of_positions_is_what_its_decoder_does(name):
    """The engine refuses what the model itself shows; a family says the same without its weights."""
    data = Golden(name)
    family = family_of(data.model.config)
    assert family.axes == Decoder(data.model).axes
    for method in ("pdrop", "sparsevlm", "sparsevlm_plus", "dart", "fitprune", "dynamic_heads", "fastv"):
        asked = [Cell(strategy=method, tokens=0.5, heads=0.5 if method == "dynamic_heads" else 0, budget="kept")]
        if method in undefined_inside(family):
            with pytest.raises(ConfigError, match=f"strategy: {method} "):
                run_inputs(data.model, data.inputs(2), asked, 2)
        else:
            assert len(run_inputs(data.model, data.inputs(2), asked, 2)[0].tokens) in (1, 2)
