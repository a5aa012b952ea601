"""PyTorch files: TorchScript, exported programs, pickled modules, state dicts."""
