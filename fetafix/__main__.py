"""`python -m fetafix`, and what the `fetafix` script calls."""

from __future__ import annotations

from fetafix.cli import main

if __name__ == "__main__":
    main()
