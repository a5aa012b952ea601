"""The benchmark of seeded faults: `fetafix bench faults FOLDER`.

Each network of the zoo is the source in one of its forms and the target in another (other exporter, normalisations
folded or not, other operator set, arbitrary names): healthy, and the same function. A fault type of the catalogue is
injected into the target; a gate says whether the mutant counts; `repair` gets source, mutant and a part of the samples;
what comes out is scored against the ground truth, on samples that the repair never saw.

    settings.py   what is crossed with what, and the gates: a YAML file
    nursery.py    a network's forms, opened once, its noise floor, its samples
    mutants.py    a fault put into a form, gated
    controls.py   forms, and rewrites that change nothing: negative controls
    truth.py      what two graphs differ in
    trial.py      one mutant or control through the repair, scored
    rows.py       the records; table.py: what is told of them
    run.py        all of it, in processes, resumable
"""
