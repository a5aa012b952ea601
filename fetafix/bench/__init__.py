"""Benchmarks: `fetafix bench speed` (or `make bench`) and `fetafix bench conversions`. They need the extras.

Figures of speed are ratios to plain scripts that do the same work, measured in the same run, turn by turn, so that they
mean the same on another machine.
"""
