"""Which cells a tree of answers holds."""

import json
import shutil

import pytest

from headwise.errors import DataError
from headwise.published.importer.sources import Identity, find_sources
from headwise.records import write_jsonl

GQA = "gqa/answers/llava_gqa_testdev_balanced/llava-v1.5-13b/ablation_a"


def answers(*texts):
    return [{"question_id": str(100 + n), "prompt": f"Q{n}?", "text": text} for n, text in enumerate(texts)]


def write(folder, rows, name="merge.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / name, rows)


def table(folder, category="OCR", answer="Yes"):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"1.txt\tIs it {n}?  Please answer yes or no.\tYes\t{answer}\n" for n in range(2)]
    (folder / f"{category}.txt").write_text("".join(rows))


def find(root):
    issues = []
    return find_sources(root, "some-model", issues.append), [f"{issue.where}: {issue.what}" for issue in issues]


def test_a_cell_is_named_by_its_folders(tmp_path):
    write(tmp_path / GQA / "vtn_192_16_sparsity", answers("yes"))
    (source,), issues = find(tmp_path)
    assert source.identity == Identity(
        model="llava-v1.5-13b", benchmark="gqa", method="ablation_a", strategy="sparsity", tokens=192, heads=16
    )
    assert issues == []


@pytest.mark.parametrize(
    ("folder", "strategy", "tokens"), [("vanilla/vtn_576", "vanilla", 576), ("fastv/vtn_64", "all_heads", 64)]
)
def test_methods_without_heads(tmp_path, folder, strategy, tokens):
    table(tmp_path / folder)
    (source,), _ = find(tmp_path)
    assert (source.identity.strategy, source.identity.tokens, source.identity.heads) == (strategy, tokens, None)
    assert (source.identity.model, source.identity.benchmark) == ("some-model", "mme")


@pytest.mark.parametrize(
    ("folder", "strategy", "heads", "options"),
    [
        ("vanilla/vtn_576_32", "vanilla", None, ""),
        ("fastv/vtn_64_32", "all_heads", None, ""),
        ("pdrop/vtn_64_32", "pdrop@ancestor", None, ""),
        ("pdrop/vtn_64", "pdrop@ancestor", None, ""),
        ("sparsevlm/vtn_64_32", "sparsevlm@ancestor", None, ""),
        ("fastv+finepruner/vtn_64_16", "fastv+finepruner@ancestor", 16, ""),
        ("dynamic_head/vtn_64_dynamic_6_24", "dynamic_heads@ancestor", None, "6-24"),
        ("dynamic_head/vtn_64_dynamic_16", "dynamic_heads@ancestor", None, "16"),
        ("ablation_a/vtn_64_dynamic", "dynamic_heads@ancestor", None, ""),
    ],
)
def test_the_studys_ports_of_other_methods_are_named_as_ports(tmp_path, folder, strategy, heads, options):
    write(tmp_path / "llava_gqa/llava-v1.5-7b" / folder, answers("yes"))
    (source,), issues = find(tmp_path)
    found = source.identity
    assert (found.strategy, found.tokens, found.heads, found.options) == (strategy, int(found.tokens), heads, options)
    assert found.tokens in (64, 576)
    assert issues == []


def test_two_settings_of_a_port_are_two_cells_and_one_cell_under_two_names_is_one(tmp_path):
    above = tmp_path / "llava_gqa/llava-v1.5-7b"
    for name in ("vtn_64_dynamic_6_24", "vtn_64_dynamic_8_16"):
        write(above / "dynamic_head" / name, answers("yes"))
    for name, text in (("vtn_64", "yes"), ("vtn_64_32", "no")):
        write(above / "pdrop" / name, answers(text))
    sources, issues = find(tmp_path)
    assert [source.identity.name for source in sources] == [
        "gqa-64-dynamic_heads@ancestor-6-24",
        "gqa-64-dynamic_heads@ancestor-8-16",
    ]
    (issue,) = issues
    assert issue.startswith("gqa-64-pdrop@ancestor: 2 different sets of answers")


def test_a_folder_of_an_unknown_method_without_a_strategy_is_named(tmp_path):
    write(tmp_path / "llava_gqa/llava-v1.5-7b/dart/vtn_64_32", answers("yes"))
    sources, (issue,) = find(tmp_path)
    assert sources == []
    assert "names no strategy, and 'dart' is not vanilla or fastv or pdrop" in issue


@pytest.mark.parametrize(
    ("split", "benchmark"),
    [("llava_textvqa_val_v051_ocr", "textvqa"), ("llava_pope_test", "pope"), ("llava_mme", "mme")],
)
def test_the_split_names_the_benchmark(tmp_path, split, benchmark):
    write(tmp_path / split / "llava-v1.5-7b/a/vtn_64_8_sparsity", answers("yes"))
    assert find(tmp_path)[0][0].identity.benchmark == benchmark


def test_chunks_are_put_together_in_order(tmp_path):
    folder = tmp_path / GQA / "vtn_64_8_sparsity"
    for part in (1, 0, 2):
        write(folder, [answers("a", "b", "c")[part]], f"3_{part}.jsonl")
    (source,), _ = find(tmp_path)
    assert [row["text"] for row in source.rows()] == ["a", "b", "c"]


def test_a_missing_chunk_is_reported(tmp_path):
    write(tmp_path / GQA / "vtn_64_8_sparsity", answers("a"), "8_3.jsonl")
    sources, issues = find(tmp_path)
    assert sources == []
    assert "1 of 8 chunks; missing: 8_0.jsonl, 8_1.jsonl" in issues[0]


def test_a_merged_file_at_odds_with_its_chunks_is_reported(tmp_path):
    folder = tmp_path / GQA / "vtn_64_8_sparsity"
    write(folder, answers("a"))
    write(folder, answers("b"), "1_0.jsonl")
    sources, issues = find(tmp_path)
    assert sources == []
    assert "differ; none taken" in issues[0]
    write(folder, answers("a"), "1_0.jsonl")
    assert len(find(tmp_path)[0]) == 1


def test_the_same_cell_twice_is_taken_once_if_it_says_the_same(tmp_path):
    write(tmp_path / "one" / GQA / "vtn_64_8_sparsity", answers("a", "b"))
    write(tmp_path / "two" / GQA / "vtn_64_8_sparsity", answers("a", "b")[::-1])
    assert len(find(tmp_path)[0]) == 1
    write(tmp_path / "two" / GQA / "vtn_64_8_sparsity", answers("a", "c"))
    sources, issues = find(tmp_path)
    assert sources == []
    assert "gqa-64-8-sparsity: 2 different sets of answers" in issues[0]


def test_both_forms_of_mme_answers_are_one_cell(tmp_path):
    table(tmp_path / "MME/eval_tool/answers/llava-v1.5-7b/a/vtn_64_8_sparsity")
    prompt = "Is it {}?\nAnswer the question using a single word or phrase."
    rows = [{"question_id": "OCR/1.png", "prompt": prompt.format(n), "text": "Yes"} for n in range(2)]
    write(tmp_path / "MME/answers/llava_mme/llava-v1.5-7b/a/vtn_64_8_sparsity", rows)
    assert len(find(tmp_path)[0]) == 1
    rows[0]["text"] = "No"
    write(tmp_path / "MME/answers/llava_mme/llava-v1.5-7b/a/vtn_64_8_sparsity", rows)
    assert find(tmp_path)[0] == []


@pytest.mark.parametrize(
    ("folder", "reason"),
    [
        ("gqa/a/vtn_64_8_cleverness", "'cleverness' is not one of"),
        ("gqa/a/vtn_64", "names no strategy"),
        ("gqa/a/vtn_x", "expected vtn_<tokens>_<heads>_<strategy>"),
        ("somewhere/a/vtn_64_8_sparsity", "no folder above names a benchmark"),
    ],
)
def test_folders_that_cannot_be_read_are_reported(tmp_path, folder, reason):
    write(tmp_path / "answers" / folder, answers("a"))
    sources, issues = find(tmp_path / "answers")
    assert sources == []
    assert reason in issues[0]


def test_an_empty_cell_folder_is_reported(tmp_path):
    (tmp_path / GQA / "vtn_64_8_sparsity").mkdir(parents=True)
    assert "holds neither merge.jsonl" in find(tmp_path)[1][0]


def test_a_broken_file_is_reported_and_the_rest_goes_on(tmp_path):
    write(tmp_path / GQA / "vtn_64_8_sparsity", answers("a"))
    shutil.copytree(tmp_path / GQA / "vtn_64_8_sparsity", tmp_path / GQA / "vtn_64_8_sum")
    (tmp_path / GQA / "vtn_64_8_sum/merge.jsonl").write_text(json.dumps(answers("a")[0])[:-5])
    sources, issues = find(tmp_path)
    assert [source.identity.strategy for source in sources] == ["sparsity"]
    assert "line 1: not valid JSON" in issues[0]


def test_a_root_that_is_no_folder_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such folder of answers"):
        find(tmp_path / "none")
