"""Every error that fetafix raises on purpose.

    FetafixError                 base; carries the exit code of the command line
    ├── UsageError               wrong option, configuration or input data           (exit 2)
    │   ├── ConfigError          fetafix.yaml: unknown key, wrong type
    │   └── InputDataError       --data cannot be read, or does not suit the models
    ├── ModelError               a model cannot be opened or run: undecided          (exit 3)
    │   ├── UnreadableModel      missing, empty, truncated or of no known format
    │   ├── UntrustedModel       opening it would run code from the file
    │   ├── RuntimeCrash         its runtime failed, died or ran out of memory
    │   └── LiftError            it runs, but no ONNX view of it could be made
    ├── LostTask                 every process that a task was given to died         (exit 3)
    │   └── LostCluster          the scheduler has ended, or has no worker left
    ├── EditError                an edit does not fit the graph that it is applied to (exit 1)
    └── OutputError              a result cannot be written                          (exit 2)

A message says what was expected, what was found, in which layer of which file, and what to do.
"""

from __future__ import annotations


class FetafixError(Exception):
    """Base of all errors raised on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(FetafixError):
    """A wrong option, configuration or input."""

    exit_code = 2


class ConfigError(UsageError):
    """fetafix.yaml holds an unknown key or a value of the wrong type."""


class InputDataError(UsageError):
    """The inputs cannot be read or do not suit the models."""


class ModelError(FetafixError):
    """A model could not be opened or run, so the question stays undecided."""

    exit_code = 3


class UnreadableModel(ModelError):
    """The file is missing, empty, truncated or of no known format."""


class UntrustedModel(ModelError):
    """Opening the file would run code from it, and `--trust` was not given."""


class RuntimeCrash(ModelError):
    """The model's runtime raised, died or ran out of memory."""


class LiftError(ModelError):
    """The artifact runs, but no ONNX view of it could be made."""


class LostTask(FetafixError):
    """Every process that a task was given to died, so nothing is known of it."""

    exit_code = 3


class LostCluster(LostTask):
    """The cluster has no worker left, or its scheduler has ended: nothing more will be done there."""


class EditError(FetafixError):
    """An edit does not fit the graph or artifact it is applied to."""


class OutputError(FetafixError):
    """A result could not be written."""

    exit_code = 2
