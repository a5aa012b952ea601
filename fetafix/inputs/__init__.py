"""Where the samples come from and how they reach both models: data sources, preprocessing, synthetic inputs, splits.

    open_source(--data) ─► Source ─► pair_feeds(indices, source Side, target Side) ─► two SampleSets
    draw(len(source), samples, seed) ─► Splits: which indices the search and the proof may use

`sources` opens what the user names; `pairing` gives both models the same underlying samples; `preprocess` turns pixels
into a model's input; `synthetic` makes inputs up where there are none; `splits` draws at random. numpy and Pillow only,
and Pillow only once there is an image to look at.
"""
