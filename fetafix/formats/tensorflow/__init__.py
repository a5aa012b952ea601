"""TensorFlow SavedModels and frozen graphs."""
