"""The figures of a stress report as files: each as PNG and as SVG."""

from __future__ import annotations

from pathlib import Path

from fetafix.errors import OutputError
from fetafix.files import replacing
from fetafix.render.canvas import png, svg
from fetafix.render.stress_figures import figures
from fetafix.stress.record import StressReport


def write(report: StressReport, folder: str | Path) -> list[Path]:
    """Write all figures into a folder, which is made; their paths.

    Raises UsageError where matplotlib is not installed, OutputError where files cannot be written.
    """
    folder = Path(folder)
    made = []
    for drawn in figures(report):
        forms = {"png": png(drawn.figure), "svg": svg(drawn.figure, drawn.title, drawn.alt).encode()}
        for suffix, data in forms.items():
            path = folder / f"{drawn.name}.{suffix}"
            try:
                folder.mkdir(parents=True, exist_ok=True)
                with replacing(path) as temporary:
                    temporary.write_bytes(data)
            except OSError as error:
                raise OutputError(f"{path} cannot be written: {error.strerror}; name a folder of your own") from error
            made.append(path)
    return made
