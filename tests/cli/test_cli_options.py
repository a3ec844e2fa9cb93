"""What --help shows, and options given as one string."""

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from headwise.cli import COMMANDS, headwise
from headwise.cli.options import StudyCommand, more_options


@click.command(cls=StudyCommand)
@click.option("--layer", type=int, default=2)
@click.option("--offline", is_flag=True)
@more_options
def echo(layer: int, offline: bool) -> None:
    click.echo(f"{layer} {offline}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--options", ""], "2 False"),
        (["--options", "--layer 3 --offline"], "3 True"),
        (["--options=--layer '4'"], "4 False"),
        (["--options", "--layer 3", "--layer", "5"], "5 False"),
    ],
)
def test_options_in_one_string_are_options(words, said):
    assert CliRunner().invoke(echo, words).output.strip() == said


@pytest.mark.parametrize("text", ["--layer 'open", "--no-such", "--layer x"])
def test_a_bad_string_of_options_is_one_error_and_exit_code_2(text):
    done = CliRunner().invoke(echo, ["--options", text])
    assert done.exit_code == 2
    assert "Traceback" not in done.output


@pytest.mark.parametrize("name", COMMANDS)
def test_help_names_what_a_value_looks_like(name):
    done = CliRunner().invoke(headwise, [name, "--help"])
    assert done.exit_code == 0
    assert " VALUE" not in done.output


def test_help_of_run_shows_choices_and_defaults():
    text = " ".join(CliRunner().invoke(headwise, ["run", "--help"]).output.split())
    assert "--budget average|kept" in text
    assert "random_tokens, none." in text
    assert "[default: 192,128,64, or as --config says]" in text
    assert "--ocr true|false" in text
    assert "(Qwen). [default: the family's, or as --config says]" in text


def commands(group: click.Group) -> Iterator[click.Command]:
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found)
        else:
            yield found


def test_help_of_every_option_says_what_it_does_and_its_default():
    silent = [
        f"{command.name} {option.opts[0]}"
        for command in commands(headwise)
        for option in command.params
        if isinstance(option, click.Option)
        and not (option.help and (option.is_flag or option.required or option.multiple or _has_default(option)))
    ]
    assert silent == []


def _has_default(option: click.Option) -> bool:
    return bool(option.show_default) or "[default: " in (option.help or "")
