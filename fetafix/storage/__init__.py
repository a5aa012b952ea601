"""Weights in a storage that flips bits: number formats, flips, protections, and what they are worth.

    encodings       what a weight looks like in storage: fp32, fp16, bf16, Qm.n, int8; values ↔ bit patterns
    flips           independent random bit flips of any number of bits, exact, by the gaps between them
    constants       what weights are multiplied by before they are stored
    secded          a code within each 32-bit word: corrects one flip, detects two
    reed_solomon    a code beside the file: restores it bit by bit
    schemes         protections: weights → what is stored → weights
    stored_form     the form that any runtime reads: factor, bound, three copies of each
    sidecar, index  files beside a file: Reed-Solomon check bytes; where words with a code lie
    prediction      the error that flips make, by number format, scheme and bit, in closed form
    survival        how many trials decide a question, and when to stop
    sweep, trials   which rates are tried, the flips of each trial, and what the trials of a rate show
    holding         where a tensor lies in a file, as a record

All of it is numpy on arrays; files, models and processes are elsewhere. The method of multiplying weights before they
are stored is that of Fuengfusin and Tamukoh, "Harden Deep Neural Networks Against Fault Injections Through Weight
Scaling" (arXiv 2411.18993).
"""
