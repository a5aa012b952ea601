"""How many bit flips in storage a model survives: measured on its file, in its own runtime."""
