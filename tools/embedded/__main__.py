"""`python -m tools.embedded`: generate the embedded benchmarks, train the embedded model."""

from pathlib import Path

import click


@click.group("embedded")
def command() -> None:
    """Draw the embedded benchmarks, train the embedded model."""


@command.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the four benchmarks.")
@click.option("--seed", default=None, type=int, help="Another seed draws other scenes. [default: the committed one]")
def draw(out: Path, seed: int | None) -> None:
    """Draw the four benchmarks in the official file layout."""
    from tools.embedded import draw as drawing

    scenes = drawing.draw(out, drawing.SEED if seed is None else seed)
    click.echo(f"{sum(map(len, scenes.values()))} scenes in {', '.join(scenes)} under {out}")


@command.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the finished checkpoint.")
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder for logs and resumable state.")
@click.option("--scale", default=1.0, show_default=True, help="Multiply every stage's steps.")
@click.option("--processes", default=2, show_default=True, help="Single-thread processes that share each step.")
def train(out: Path, work: Path, scale: float, processes: int) -> None:
    """Train the small LLaVA from scratch; run the same command again to resume."""
    from tools.embedded.train import train_all

    train_all(out, work, scale=scale, processes=processes)
    click.echo(f"checkpoint in {out}")


if __name__ == "__main__":
    command(prog_name="python -m tools.embedded")
