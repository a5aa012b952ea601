"""`python -m fetafix.bench speed [--rounds N] [--folder DIR]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from fetafix.bench.speed import Row, speed, table


def main() -> None:
    """Measure and print a table; a missed target is said, not an error."""
    parser = argparse.ArgumentParser(prog="python -m fetafix.bench")
    parser.add_argument("what", choices=["speed"])
    parser.add_argument("--rounds", type=int, default=3, help="how often to measure (default 3)")
    parser.add_argument("--folder", type=Path, help="keep the models here (default: a temporary folder)")
    given = parser.parse_args()
    rows: list[Row] = []
    try:
        for row in speed(given.folder, given.rounds):
            print(f"measured: {row.what}", flush=True)
            rows.append(row)
    finally:
        print(table(rows))


if __name__ == "__main__":
    main()
