"""`python -m tools.embedded`: generate the embedded benchmarks, train the embedded model."""

from pathlib import Path

import click


@click.group("embedded")
def command() -> None:
    """Draw the embedded benchmarks, train the embedded model."""


@command.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the benchmarks.")
@click.option("--seed", default=None, type=int, help="Another seed draws other scenes. [default: the committed one]")
def draw(out: Path, seed: int | None) -> None:
    """Draw the benchmarks in the official file layouts."""
    from tools.embedded import draw as drawing

    scenes = drawing.draw(out, drawing.SEED if seed is None else seed)
    click.echo(f"{sum(map(len, scenes.values()))} scenes in {', '.join(scenes)} under {out}")


@command.command()
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the finished checkpoint.")
@click.option("--work", required=True, type=click.Path(path_type=Path), help="Folder for logs and resumable state.")
@click.option("--scale", default=1.0, show_default=True, help="Multiply every stage's steps.")
@click.option("--processes", default=2, show_default=True, help="Single-thread processes that share each step.")
@click.option("--guide/--no-guide", default=True, show_default=True, help="Supervise the attention of layer 4.")
def train(out: Path, work: Path, scale: float, processes: int, guide: bool) -> None:
    """Train the small LLaVA and its CLIP from scratch; run the same command again to resume."""
    from tools.embedded.train import train_all

    train_all(out, work, scale=scale, processes=processes, guide=guide)
    click.echo(f"checkpoint in {out}")


@command.command()
@click.option("--model", required=True, type=click.Path(path_type=Path, exists=True), help="A finished checkpoint.")
def measure(model: Path) -> None:
    """What [CLS] attention and the text tower find on unseen scenes."""
    from tools.embedded.measure import measure_checkpoint

    for name, value in measure_checkpoint(model).items():
        click.echo(f"{name}: {value:.3f}")


@command.command()
@click.option("--study", default="latest", show_default=True, help="Run id of a study on the embedded benchmarks.")
def foreground(study: str) -> None:
    """How much of the images' foreground each cell of a study keeps, in percent, beside chance."""
    from headwise import tracking
    from headwise.errors import HeadwiseError
    from tools.embedded.foreground import kept_foreground

    try:
        tracking.connect()
        found = kept_foreground(study)
    except HeadwiseError as error:
        raise click.UsageError(str(error)) from error
    click.echo(found.to_string(index=False))


@command.command()
@click.option("--work", required=True, type=click.Path(path_type=Path, exists=True), help="Folder of the logs.")
@click.option("--unguided", type=click.Path(path_type=Path, exists=True), help="Logs of a run with --no-guide.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The PNG to write.")
def curve(work: Path, unguided: Path | None, out: Path) -> None:
    """Draw the learning curves of a training run."""
    from tools.embedded.curve import draw_curve

    draw_curve(work, out, unguided)
    click.echo(f"curves in {out}")


if __name__ == "__main__":
    command(prog_name="python -m tools.embedded")
