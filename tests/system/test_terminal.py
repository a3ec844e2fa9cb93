"""What is printed is printed as it is: brackets and colons in names are no markup."""

from __future__ import annotations

from click.testing import CliRunner

from headwise.cli import headwise


def test_brackets_in_the_name_of_an_answer_file_are_printed(tmp_path):
    path = tmp_path / "[b]of :cat:.jsonl"
    path.write_text("")
    done = CliRunner().invoke(headwise, ["score", "--answers", str(path), "--benchmark", "pope"])
    assert done.exception is None
    assert "[b]of:cat:.jsonlonPOPE" in "".join(done.output.split())


def test_brackets_in_a_data_folder_are_printed(bundle):
    (bundle.parent / "a[").mkdir()
    folder = bundle.rename(bundle.parent / "a[" / "b]")
    done = CliRunner().invoke(headwise, ["data", "check", str(folder), "--benchmark", "gqa"])
    assert "benchmarks in " in done.output
    assert "a[/b]" in "".join(done.output.split()).split("questions")[0]
    assert "incomplete" in done.output
