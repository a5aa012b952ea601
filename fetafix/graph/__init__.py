"""Looking inside: canonical graphs, fingerprints, alignment without names, segments."""
