"""Keras files: .keras archives and HDF5."""
