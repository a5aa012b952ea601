"""The options that commands share, in groups: models, inputs, judging, output."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from fetafix.cli import complete

Function = Callable[..., Any]


def _group(*decorators: Callable[[Function], Function]) -> Callable[[Function], Function]:
    def apply(function: Function) -> Function:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    """Tell the group, which catches errors, that tracebacks are wanted."""
    if value:
        ctx.find_root().obj = True
    return value


models = _group(
    click.argument("source", required=False, type=click.Path()),
    click.argument("target", required=False, type=click.Path()),
    click.option("-c", "--config", "config", type=click.Path(), metavar="FILE",
                 help="Read settings, and the models where none are given, from FILE (without models: fetafix.yaml)."),
    click.option("--pair", metavar="NAME", shell_complete=complete.pairs,
                 help="The pair of the configuration to take, where it has several."),
    click.option("--trust", is_flag=True, default=None,
                 help="Run code from the model files and load Python loaders. Only for files that you trust."),
    click.option("--arch", metavar="MODULE:FACTORY", help="What builds the module that a bare state dict belongs to."),
    click.option("--source-arch", metavar="MODULE:FACTORY", help="As --arch, for the source alone."),
    click.option("--target-arch", metavar="MODULE:FACTORY", help="As --arch, for the target alone."),
)

def _each(name: str, metavar: str, help: str) -> list[Callable[[Function], Function]]:
    """An option for both models, and one for each alone."""
    return [click.option(f"--{name}", metavar=metavar, help=help), *_sides(name, metavar)]


def _sides(name: str, metavar: str, kind: Any = None) -> list[Callable[[Function], Function]]:
    return [click.option(f"--{side}-{name}", type=kind, metavar=metavar, help=f"As --{name}, for the {side} alone.")
            for side in ("source", "target")]


def _levels() -> list[Callable[[Function], Function]]:
    """--optimise LEVEL and its short form --no-optimise, for both models and for each."""
    kind = click.Choice(["none", "basic", "extended", "all"])
    made: list[Callable[[Function], Function]] = []
    for side in ("", "source-", "target-"):
        whom, name = (f" for the {side[:-1]} alone" if side else ""), f"{side}optimise"
        text = f"As --optimise,{whom}." if side else "How far the runtime may optimise the graph (default: as it does)."
        made.append(click.option(f"--{name}", name.replace("-", "_"), type=kind, help=text))
        made.append(click.option(f"--{side}no-optimise", f"{name}_off".replace("-", "_"), is_flag=True,
                                 help=f"--{name} none."))
    return made


runtimes = _group(
    click.option("--threads", type=click.IntRange(min=0), metavar="N",
                 help="Threads of each runtime; 0 lets it choose."),
    *_sides("threads", "N", click.IntRange(min=0)),
    *_each("device", "DEVICE", "Where the models run: cpu (default), cuda, cuda:1."),
    *_each("provider", "NAME", "ONNX Runtime's execution provider (default: that of the device)."),
    *_levels(),
    *_each("signature", "NAME", "Which signature of a SavedModel or a TFLite file (default: the only one)."),
)

inputs = _group(
    click.option("--data", type=click.Path(), metavar="PATH",
                 help="Folder of images, .npy, .npz, or module:function (with --trust). Without: synthetic inputs."),
    click.option("--samples", type=click.IntRange(min=1), metavar="N", help="How many samples to draw (default 100)."),
    click.option("--seed", type=click.IntRange(min=0), metavar="S", help="What draws and makes samples (default 0)."),
    click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="How many times to draw (default 1)."),
    click.option("--batch", type=click.IntRange(min=1), metavar="N", help="Samples a run of the models."),
    runtimes,
    click.option("--preprocess", metavar="SPEC", shell_complete=complete.presets,
                 help="Preset (torchvision, keras-tf, keras-caffe, keras-torch, raw) or key=value,… for both models."),
    click.option("--source-preprocess", metavar="SPEC", shell_complete=complete.presets,
                 help="As --preprocess, for the source alone."),
    click.option("--target-preprocess", metavar="SPEC", shell_complete=complete.presets,
                 help="As --preprocess, for the target alone."),
)

judging = _group(
    click.option("--gate", type=click.Choice(["labels", "task", "numeric"]),
                 help="What must agree (default: labels for classifiers, the answers of another task that is surely "
                      "known, numbers for everything else)."),
    click.option("--task", multiple=True, metavar="[OUTPUT=]TASK[,KEY=VALUE…]", shell_complete=complete.tasks,
                 help="What an output, or the model, is for: classification, segmentation, detection, tokens, "
                      "embedding, regression or numeric; with limits, as in mask=segmentation,miou=0.95."),
    click.option("--max-mismatch", type=click.FloatRange(0, 1), metavar="SHARE",
                 help="The share of labels, or of other answers, that may differ."),
    click.option("--confidence", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
                 help="How sure the verdict about answers must be; sampling stops once it is."),
)

searching = _group(
    click.option("--search", type=click.Choice(["off", "quick", "deep"]),
                 help="How much to look for inputs beside the data on which the models disagree (default quick)."),
    click.option("--keep-worst", type=click.Path(), metavar="FILE",
                 help="Write the worst inputs that the search found to FILE (.npz), which --data takes."),
)

parallel = _group(
    click.option("--jobs", type=click.IntRange(min=1), metavar="N",
                 help="Processes side by side (default: one for two processors)."),
    click.option("--cluster", metavar="ADDRESS",
                 help="Work on a Dask cluster instead, such as tcp://scheduler:8786 (extra: cluster)."),
)

files = _group(
    click.option("--html", type=click.Path(), metavar="FILE",
                 help="Write the report as a page for a browser to FILE, with charts, graphs and examples."),
    click.option("--junit", type=click.Path(), metavar="FILE", help="Write the report as JUnit XML to FILE."),
    click.option("--sarif", type=click.Path(), metavar="FILE", help="Write the findings as SARIF 2.1.0 to FILE."),
    click.option("--markdown", type=click.Path(), metavar="FILE", help="Write the report as Markdown to FILE."),
    click.option("--annotations/--no-annotations", default=None,
                 help="Annotations and the job's summary for GitHub (default: where GITHUB_ACTIONS is true)."),
)

output = _group(
    click.option("--json", "json_path", type=click.Path(), metavar="FILE",
                 help="Write the report as JSON; - for stdout alone."),
    click.option("-q", "--quiet", is_flag=True, help="The verdict alone."),
    click.option("-v", "--verbose", is_flag=True, is_eager=True, callback=remember,
                 help="Evidence, rejected repairs, timings; tracebacks of errors."),
    click.option("--no-progress", is_flag=True, help="No progress bar (there is none without a terminal either)."),
)
