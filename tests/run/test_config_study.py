import pytest

from headwise.errors import ConfigError
from headwise.run.settings import StudySettings, load_settings
from headwise.study.cells import Geometry, fingerprint

GEOMETRY = Geometry(layers=32, heads=32, visual=576)


def test_the_published_grid_has_63_cells_beside_its_controls():
    study = load_settings(None, {"strategy": ",".join(["sum", "sparsity"]), "controls": "none"})
    assert len(study.cells(GEOMETRY)) == 2 * 3 * 3


def test_controls_come_first_and_only_as_often_as_they_differ():
    study = load_settings(None, {"strategy": "sparsity", "controls": "all", "tokens": "192,64", "heads": "8"})
    cells = [(cell.strategy, cell.tokens, cell.heads) for cell in study.cells(GEOMETRY)]
    assert cells[0] == ("vanilla", 576, 0)
    assert cells.count(("all_heads", 192, 32)) == 1
    drawn = [("random_tokens", 192, 0), ("random_tokens", 64, 0)]
    assert [cell for cell in cells if cell[0] == "random_tokens"] == drawn
    assert len(cells) == len(set(cells))


def test_a_seed_makes_other_cells_only_of_what_draws():
    grids = [load_settings(None, {"controls": "all", "seed": seed}).cells(GEOMETRY) for seed in (0, 1)]
    differ = {first.strategy for first, second in zip(*grids, strict=True) if first != second}
    assert differ == {"random_heads", "random_tokens"}
    assert load_settings(None, {"seed": 2**63 - 1}).seed == 2**63 - 1


def test_options_override_the_file_unless_they_say_config(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("strategy: [entropy]\ntokens: 64\nlayer: 3\n")
    study = load_settings(path, {"strategy": "config", "tokens": "128, 64", "layer": None})
    assert (study.strategy, study.tokens, study.layer) == (["entropy"], [128, 64], 3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"strategy": "sparsity,foo"}, "strategy: 'foo' is not one of sum, variance"),
        ({"benchmark": "vqa"}, "benchmark: 'vqa' is not one of textvqa, mme, gqa, pope"),
        ({"benchmark": "refcoco"}, "max_new_tokens: 16 would cut the answers to refcoco short"),
        ({"tokens": "many"}, "tokens: 'many' does not fit"),
        ({"heads": "0"}, "heads: 0 is not a positive number"),
        ({"strategy": ""}, "strategy: "),
        ({"limit": "0"}, "limit: '0' does not fit: input should be greater than or equal to 1"),
        ({"limit": "99999999999999999999"}, "limit: '99999999999999999999' does not fit: input should be less than or"),
        ({"seed": "9223372036854775808"}, "seed: '9223372036854775808' does not fit: input should be less than or"),
        ({"seed": "9" * 5000}, "seed: "),
        ({"layer": "99999999999999999999"}, "layer: '99999999999999999999' does not fit"),
        ({"max_new_tokens": "99999999999999999999"}, "max_new_tokens: '99999999999999999999' does not fit"),
        ({"tokens": "99999999999999999999"}, "tokens: 99999999999999999999 is larger than 2147483647"),
        ({"heads": "8,99999999999999999999"}, "heads: 99999999999999999999 is larger than 2147483647"),
        ({"budget": "mean"}, "budget: 'mean' does not fit: input should be 'average', 'kept' or 'published'"),
    ],
)
def test_a_wrong_value_is_one_line_with_field_value_and_what_is_allowed(settings, words):
    with pytest.raises(ConfigError) as caught:
        load_settings(None, settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_setting_or_a_broken_file_is_named(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("tokenz: 3\n")
    with pytest.raises(ConfigError, match=r"tokenz: unknown setting \(in .*study.yaml\); allowed are model"):
        load_settings(path, {})
    path.write_text("tokens: [1\n")
    with pytest.raises(ConfigError, match="not valid YAML"):
        load_settings(path, {})
    with pytest.raises(ConfigError, match="cannot read"):
        load_settings(tmp_path / "none.yaml", {})


def test_every_field_is_documented():
    assert all(field.description for field in StudySettings.model_fields.values())


def test_fingerprint_is_stable_and_sensitive():
    assert fingerprint(1, "a") == fingerprint(1, "a")
    assert fingerprint(1, "a") != fingerprint("1", "a")


def test_sets_of_benchmarks_are_named_and_mixed_with_names():
    llava = load_settings(None, {"benchmark": "llava"}).benchmark
    assert len(llava) == 10
    assert set(llava) > {"vqav2", "gqa", "vizwiz", "scienceqa", "textvqa", "pope", "mme", "mmbench", "seed"}
    mixed = load_settings(None, {"benchmark": "published, gqa, chartqa.lmms-v1"}).benchmark
    assert mixed == ["textvqa", "mme", "gqa", "pope", "chartqa.lmms-v1"]
    vlm = load_settings(None, {"benchmark": ["vlm"], "max_new_tokens": 128}).benchmark
    assert {"mmbench", "mmstar", "ai2d", "ocrbench", "chartqa", "refcoco"} < set(vlm)


def test_all_is_what_the_embedded_data_holds_and_everything_elsewhere():
    held = load_settings(None, {"benchmark": "all", "max_new_tokens": 48}).benchmark
    assert held == ["textvqa", "mme", "gqa", "pope", "mmbench", "refcoco"]
    everywhere = load_settings(None, {"benchmark": "all", "data_dir": "/data/eval", "max_new_tokens": 128}).benchmark
    assert {"vqav2", "ocrbench", "ai2d_no_mask"} < set(everywhere)
    assert not [name for name in everywhere if "." in name]


VARIES = Geometry(layers=28, heads=28, visual=None)


def test_shares_are_cells_of_their_own_and_whole_numbers_keep_their_names():
    study = load_settings(None, {"strategy": "sparsity", "tokens": "0.25,64", "heads": "0.5,8", "budget": "kept"})
    assert [cell.name for cell in study.cells(GEOMETRY)] == [
        "vanilla-576-0",
        "random_tokens-0.25-0",
        "random_tokens-64-0",
        "sparsity-0.25-0.5",
        "sparsity-0.25-8",
        "sparsity-64-0.5",
        "sparsity-64-8",
    ]
    assert fingerprint(study.cells(GEOMETRY)[-1]) == fingerprint(
        {
            "strategy": "sparsity",
            "tokens": 64,
            "heads": 8,
            "layer": 2,
            "budget": "kept",
            "score_dtype": "float64",
            "seed": 0,
            "query": "last_token",
            "options": [],
        }
    )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tokens": "1.5"}, "tokens: 1.5 is neither a whole number nor a share below 1"),
        ({"heads": "-0.5"}, "heads: -0.5 is not a positive number"),
        ({"tokens": "nan"}, "tokens: nan is not a positive number"),
    ],
)
def test_what_is_no_count_and_no_share_is_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_settings(None, settings)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tokens": "192"}, "tokens: 192 with budget=average needs a fixed number of visual tokens"),
        ({"tokens": "0.05"}, "feasible shares are those above 0.0714"),
        ({"tokens": "0.5", "heads": "29"}, "heads: 29 is not between 1 and 28"),
        ({"tokens": "192", "budget": "published"}, "budget=published needs a fixed number"),
    ],
)
def test_where_tokens_differ_per_image_feasibility_is_known_all_the_same(settings, words):
    study = load_settings(None, {"strategy": "sparsity", "heads": "0.5", **settings})
    with pytest.raises(ConfigError, match=words):
        study.cells(VARIES)


def test_a_count_where_tokens_differ_per_image_is_what_is_kept_at_most():
    study = load_settings(None, {"strategy": "sparsity", "heads": "0.5", "tokens": "192", "budget": "kept"})
    assert [cell.name for cell in study.cells(VARIES)][::2] == ["vanilla-1.0-0", "sparsity-192-0.5"]


def test_without_ocr_textvqa_is_another_benchmark():
    assert load_settings(None, {"benchmark": "textvqa,mme", "ocr": "false"}).benchmark == ["textvqa_no_ocr", "mme"]
