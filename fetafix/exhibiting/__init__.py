"""What a page shows beside the findings, gathered where somebody asked for it (`Options.exhibits`).

    differing.judged(report, …)    the report with samples that differ
    gather.located(report, …)      the report with layers and neighbourhoods, of lifted graphs
    native.tapped(report, …)       the same, of pairs that were compared in their own runtimes

    layers      the error layer by layer: carried, introduced, and after the repair
    places      where each finding lies in both graphs
    sketches    the graphs around a finding, small enough to draw; details: what stands beside a node
    differing   samples on which labels differ, with both models' best classes
    pictures    such a sample as a small picture

Nothing here decides anything: verdicts, findings and repairs are the same without it, and it costs nothing where it was
not asked for. The records are in `fetafix.exhibits`.
"""
