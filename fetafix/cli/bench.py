"""`fetafix bench`: speed beside plain scripts, the matrix of conversions, seeded faults, and storage faults."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from fetafix.cli import complete


@click.group()
def bench() -> None:
    """Measure speed, conversions among all frameworks, the repair of seeded faults, or weights under bit flips."""


@bench.command()
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often to measure.")
@click.option("--folder", type=click.Path(path_type=Path), metavar="DIR",
              help="Keep the models here (default: a temporary folder).")
def speed(rounds: int, folder: Path | None) -> None:
    """Print ratios to plain scripts that run the same inferences; a missed target is said, not an error."""
    from fetafix.bench.speed import Row, table
    from fetafix.bench.speed import speed as measure
    from fetafix.cli.progress import Progress

    rows: list[Row] = []
    try:
        with Progress(True, "making models"):
            for row in measure(folder, rounds):
                click.echo(f"measured: {row.what}", err=True)
                rows.append(row)
    finally:
        click.echo(table(rows))


@bench.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--models", metavar="NAMES", help="Some of digits, MobileNetV2, ResNet101, InceptionV3.")
@click.option("--pairs", metavar="PAIRS", help="Some pairs, such as torch:onnx,keras:* (default: all).")
@click.option("--samples", type=click.IntRange(min=2), default=60, show_default=True, metavar="N",
              help="Samples a comparison.")
@click.option("--size", type=click.IntRange(min=32), metavar="N", help="Side of the images (default: the networks').")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="S",
              help="What makes weights and samples.")
@click.option("--data", type=click.Path(exists=True, file_okay=False), metavar="DIR",
              help="Images to compare on (default: made up).")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Conversions side by side.")
@click.option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster instead, such as tcp://scheduler:8786.")
@click.option("--resume", is_flag=True, help="Go on with the results in FOLDER.")
def conversions(
    folder: Path, models: str | None, pairs: str | None, samples: int, size: int | None, seed: int, data: str | None,
    jobs: int, cluster: str | None, resume: bool,
) -> None:
    """Convert networks among PyTorch, Keras, TensorFlow, TFLite and ONNX, check and repair each, results in FOLDER.

    FOLDER/results.jsonl gets a line a conversion, FOLDER/results.md the table.
    """
    from fetafix.bench import conversions as matrix
    from fetafix.bench import lines
    from fetafix.cli.progress import Progress
    from fetafix.errors import UsageError

    chosen = tuple(m.strip() for m in models.split(",")) if models else tuple(matrix.MODELS)
    unknown = [m for m in chosen if m not in matrix.MODELS]
    if unknown:
        raise UsageError(f"unknown model {unknown[0]!r}; known: {', '.join(matrix.MODELS)}")
    plan = matrix.Plan(
        folder=folder, models=chosen, pairs=matrix.pairs_of(pairs) if pairs else matrix.PAIRS, samples=samples,
        size=size, seed=seed, data=data, jobs=jobs, cluster=cluster)
    rows = []
    with Progress(True, "converting"):
        for row in matrix.conversions(plan, resume, lambda text: click.echo(text, err=True)):
            rows.append(row)
            click.echo(f"  {row.status} ({row.preprocessing}'s preprocessing), {row.seconds:.0f} s", err=True)
            sys.stderr.flush()
    table = matrix.write_table(folder, lines.in_order(rows, matrix.keys(plan)))
    click.echo(table.read_text("utf-8"), nl=False)


@bench.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-c", "--config", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Zoo, fault types, seeds and gates (see configs/bench-faults.yaml).")
@click.option("--models", metavar="NAMES", help="Some networks, such as digits,U-Net.")
@click.option("--codes", metavar="CODES", shell_complete=complete.several_codes,
              help="Some fault types, or whole categories, such as lh-dilation,WB.")
@click.option("--seeds", metavar="N,…", help="Other seeds.")
@click.option("--scale", type=click.Choice(["small", "full"]), help="Size of the networks.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most so many tasks of those that are left.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Processes side by side.")
@click.option("--cluster", metavar="ADDRESS", help="Work on a Dask cluster instead, such as tcp://scheduler:8786.")
@click.option("--resume", is_flag=True, help="Go on with the results in FOLDER.")
def faults(
    folder: Path, config: str | None, models: str | None, codes: str | None, seeds: str | None, scale: str | None,
    limit: int | None, jobs: int, cluster: str | None, resume: bool,
) -> None:
    """Put faults of the catalogue into networks, repair them, score that against the truth, results in FOLDER.

    FOLDER/results.jsonl gets a line a mutant, FOLDER/results.md the rates and every miss with its
    reason, FOLDER/odds.json what was counted of fault types.
    """
    from fetafix.bench import lines
    from fetafix.bench.faults import run, settings, table
    from fetafix.cli.progress import Progress

    chosen = settings.load(config) if config else settings.Settings()
    plan = run.Plan(folder=folder, settings=settings.narrowed(chosen, models, codes, seeds, scale), jobs=jobs,
                    limit=limit, cluster=cluster)
    rows = []
    with Progress(True) as progress:
        for row, done, total in run.faults(plan, resume):
            rows.append(row)
            progress("seeded faults", done, total)
            if row.missed or (row.kind == "control" and row.detected):
                click.echo(table.line(row), err=True)
    click.echo(table.write(folder, lines.in_order(rows, plan.keys)).read_text("utf-8"), nl=False)


@bench.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("-c", "--config", type=click.Path(exists=True, dir_okay=False), metavar="FILE",
              help="Networks, storages, rates and trials (see configs/bench-storage.yaml).")
@click.option("--models", metavar="NAMES", help="Some of digits, resnet20, resnet56, squeezenet, mobilenet (measured), "
              "alexnet, resnet18, resnet50, densenet169 (analytic).")
@click.option("--full", is_flag=True, help="Many images and trials; hours.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
              help="Trials at the same time.")
@click.option("--cluster", metavar="ADDRESS", help="Measure on a Dask cluster, such as tcp://scheduler:8786.")
@click.option("--resume", is_flag=True, help="Go on with the results in FOLDER.")
def storage(
    folder: Path, config: str | None, models: str | None, full: bool, jobs: int, cluster: str | None, resume: bool
) -> None:
    """Top-1 of trained networks under bit flips, by number format and protection; large shapes in closed form.

    FOLDER/results.jsonl gets a line a result, FOLDER/results.md the tables and targets, FOLDER/plots the figures.
    """
    from fetafix.bench import lines
    from fetafix.bench.storage import run, settings, table
    from fetafix.cli.progress import Progress
    from fetafix.errors import UsageError

    chosen = settings.load(config) if config else settings.Settings()
    plan = run.Plan(folder=folder, settings=settings.narrowed(chosen, models, full), jobs=jobs, cluster=cluster)
    rows = []
    with Progress(True) as progress:
        for row, done, total in run.storage(plan, resume, progress):
            rows.append(row)
            click.echo(f"{done} of {total}: {row.model} {row.storage} {row.reason or f'{row.seconds:.0f} s'}", err=True)
    rows = lines.in_order(rows, plan.keys)
    found = table.write(folder, rows)
    try:
        from fetafix.bench.storage import plots

        plots.write(folder, rows)
    except UsageError as error:  # the numbers are there
        click.echo(f"no plots: {error}", err=True)
    click.echo(found.read_text("utf-8"), nl=False)


@bench.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--rounds", type=click.IntRange(min=1), default=15, show_default=True, help="How often to measure.")
def hardening(model: Path, rounds: int) -> None:
    """Size, load and inference of an ONNX file hardened in several ways, beside the original in onnxruntime."""
    from fetafix.bench.hardening import hardening as measure
    from fetafix.bench.hardening import table
    from fetafix.cli.progress import Progress

    with Progress(True, "measuring"):
        rows = measure(model, rounds=rounds)
    click.echo(table(rows), nl=False)
