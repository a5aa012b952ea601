"""The demonstration: a small network loses its way through a conversion, and fetafix brings it back.

`make demo`, or `python -m fetafix.demo FOLDER`. Needs the extras torch and demo.
"""
