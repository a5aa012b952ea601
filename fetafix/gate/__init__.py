"""The gate: every pair of a configuration, one exit code, one summary."""
