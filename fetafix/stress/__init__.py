"""How many bit flips in storage a model file survives: measured on the file, in its own runtime.

    run       models × storages × rates: `stress`, and `replay` of one trial
    exam      the samples and labels, the same for all models
    medium    a copy of a file that is struck in place and healed again; `tables` tell where its bits lie
    hosts     worker processes that open one struck file after the other
    lane      one trial; `cells` the trials of one rate, until they decide; `journal` keeps them
    record    the report

Rates, flips by trial and what trials show are in `fetafix.storage`; where files hold tensors, in `formats.stored`.
"""
