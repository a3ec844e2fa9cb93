"""The packaged studies of families: budgets that decoders can meet, limits that they read, methods that are defined."""

import pytest

from headwise.methods.stages import stages_of
from headwise.models import FAMILIES
from headwise.run.defined import check_defined
from headwise.run.settings import load_settings
from headwise.study.cells import Geometry
from headwise.system.packaged import study_file

# Family, decoder layers and query heads of the checkpoint that each names.
STUDIES = {
    "llava-next-7b": ("llava_next", 32, 32),
    "llava-onevision-7b": ("llava_onevision", 28, 28),
    "qwen2.5-vl-7b": ("qwen2_5_vl", 28, 28),
    "qwen3-vl-8b": ("qwen3_vl", 36, 32),
    "internvl3-8b": ("internvl", 28, 28),
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_study_can_be_run_on_its_checkpoint(name):
    family, layers, heads = STUDIES[name]
    study = load_settings(study_file(name), {})
    check_defined(FAMILIES[family], [*study.controls, *study.strategy])
    FAMILIES[family].check(study.image_limits)
    given = {limit: value for limit, value in vars(study.image_limits).items() if value is not None}
    assert given == FAMILIES[family].limits(study.image_limits) == dict(FAMILIES[family].options)
    assert study.dtype != "float16" or FAMILIES[family].float16
    assert study.benchmark == ["textvqa_no_ocr", "mme", "gqa", "pope"]
    cells = study.cells(Geometry(layers=layers, heads=heads, visual=None))
    assert len(cells) == 1 + 3 * 2 + 7 * 9 + 3
    shares = [stages_of(cell, Geometry(layers=layers, heads=heads, visual=None))[0].rows for cell in cells[1:4]]
    # The mean over all layers is the share asked for: K layers see all of 10,000 tokens, the others these.
    means = [(study.layer * 10_000 + (layers - study.layer) * rows) / layers for rows in shares]
    assert means == pytest.approx([3330, 2220, 1110], abs=0.5)


def test_qwen3_prunes_behind_its_last_deepstack_feature():
    assert load_settings(study_file("qwen3-vl-8b"), {}).layer == 3
