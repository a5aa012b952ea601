"""`python -m fetafix.bench …` is `fetafix bench …`."""

from __future__ import annotations

import sys

from fetafix.cli import main

if __name__ == "__main__":
    main(["bench", *sys.argv[1:]])
