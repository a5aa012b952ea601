"""Train, convert, break, then check → localize → repair --apply → check, with the commands that a user would type."""

from __future__ import annotations

import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SEED = 0


def main(folder: Path) -> int:
    """Run the demonstration and leave its files in `folder`; 0 where the repaired model is equivalent in the end."""
    start = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    for made in ("digits*", "*.json", "repair.html", "journal.jsonl"):
        for old in folder.glob(made):
            old.unlink()
    source, target, data = folder / "digits.onnx", folder / "digits-converted.pt", folder / "digits.npy"
    judge = prepare(source, target, data)
    repaired, journal = folder / "digits-repaired.pt", folder / "journal.jsonl"
    samples = ["--data", str(data), "--samples", "300"]

    heading("Does the converted network still answer like its source?")
    before = fetafix("check", source, target, *samples, "--json", folder / "check-before.json")
    heading("Which layers are to blame?")
    fetafix("localize", source, target, *samples, "--json", folder / "localize.json")
    heading("Repair it, and prove the repair on samples that it was not chosen on.")
    fetafix("repair", source, target, *samples, "--apply", "-o", repaired, "--journal", journal,
            "--json", folder / "repair.json", "--html", folder / "repair.html")
    heading("Does the repaired network answer like its source?")
    after = fetafix("check", source, repaired, *samples, "--json", folder / "check-after.json")

    if repaired.is_file():
        print(f"\nThe repaired network reads {judge(repaired):.1%} of the digits right.")
    print(f"All files are in {folder}/ : the reports (*.json; repair.html is the page for people), {journal.name}, "
          f"{repaired.name}.")
    print(f"That took {time.monotonic() - start:.0f} s.")
    return 0 if (before, after) == (1, 0) else 1


def prepare(source: Path, target: Path, data: Path) -> Any:
    """Write source, faulty target and samples; returns what measures the accuracy of a written module."""
    from fetafix.formats.torch import env as torch_env

    torch_env.prepare()
    import onnx2torch
    import torch

    from fetafix.demo import mishaps, network

    heading("A network learns to read digits, is exported to ONNX, and converted to PyTorch by onnx2torch.")
    training, test = network.load_digits(SEED)
    net = network.train(training, SEED)
    network.export(net, source)
    np.save(data, test.images)
    np.save(data.with_name(f"{data.stem}-labels.npy"), test.labels)
    converted = onnx2torch.convert(str(source)).eval()
    print(f"It reads {network.accuracy(net, test):.1%} of {len(test.labels)} unseen digits right, "
          f"{network.accuracy(converted, test):.1%} after a faithful conversion.")
    print("Then faults slip in, as converters have made them:")
    for category, what, mishap in mishaps.MISHAPS:
        mishap(converted)
        print(f"  - {what} ({category})")
    torch.save(converted, target)
    print(f"Now it reads {network.accuracy(converted, test):.1%} right, and no error was reported.")

    def judge(path: Path) -> float:
        return network.accuracy(torch.load(path, weights_only=False).eval(), test)

    return judge


def fetafix(*arguments: object) -> int:
    """Show a command, run it, and return its exit code."""
    words = [str(a) for a in arguments]
    print(f"$ fetafix {shlex.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "fetafix", *words], check=False).returncode
    print(f"(exit code {code})")
    return code


def heading(text: str) -> None:
    """Set a step apart."""
    print(f"\n== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo-output")))
