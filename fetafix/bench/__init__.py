"""Benchmarks: `make bench`, or `python -m fetafix.bench speed`. Needs the extra torch.

Figures are ratios to plain scripts that do the same work, measured in the same run, turn by turn, so that they mean the
same on another machine.
"""
