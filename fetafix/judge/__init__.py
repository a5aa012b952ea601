"""How well two models agree, and whether that is well enough. Pure numpy: no models, no files, no frameworks.

- `binding`: which input and output of the target belongs to which of the source; `layouts`: with which axes exchanged
- `metrics`: numbers as sums over a stream of samples; `labels`: top-1, top-5 and ranks of class scores
- `heads`: whether an output is a classifier's; `tasks`: what outputs mean, a comparator each, and which one judges what
- `comparison`: all of these together, and the report's record
- `noise`: how far harmless changes move the source from itself, and the tolerance that follows
- `statistics`: exact bounds, and when enough samples have been seen
- `verdict`: equivalent, drifting, divergent or undecided, and why
"""
