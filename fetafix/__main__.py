"""`python -m fetafix`, and what the `fetafix` script calls."""

from __future__ import annotations

import sys

_INTERRUPTED = 130


def main() -> None:
    """Run the command line and exit, also where Ctrl-C comes before it is even loaded."""
    try:
        from fetafix.cli import main as run

        run()
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
