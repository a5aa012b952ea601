"""How well two models agree, and whether that is well enough. Pure numpy: no models, no files, no frameworks.

binding     which input and output of the target belongs to which of the source, and in which layout
metrics     labels, ranks and numbers over a stream of samples
noise       how far harmless changes move the source from itself: the tolerance
statistics  exact bounds, and when enough samples have been seen
verdict     equivalent, drifting, divergent or undecided, and why
"""
