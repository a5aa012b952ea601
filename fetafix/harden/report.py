"""What `fetafix harden` reports: plain data, rendered as text or JSON."""

from __future__ import annotations

from fetafix.report import Record


class Ranked(Record, frozen=True, kw_only=True):
    """A scheme, as the analytic prediction sees it at the design BER.

    rms: of the error of a weight, relative to its tensor's RMS, over all tensors; wrecked: how many weights end beyond
    twice their tensor's largest magnitude off, on average; size: relative to the model's file. cost: at run time.
    stock: whether a runtime reads the file as it is. measured: what the stress engine found, in words.
    """

    scheme: str
    dtype: str
    granularity: str
    rms: float
    wrecked: float
    size: float
    cost: str
    stock: bool
    chosen: bool = False
    measured: str = ""


class Weight(Record, frozen=True, kw_only=True):
    """A weight that was protected. unprotected, protected: predicted relative RMS error at the design BER."""

    name: str
    dtype: str
    values: int
    unprotected: float | None = None
    protected: float | None = None


class Hardened(Record, frozen=True, kw_only=True):
    """What was written. left: (tensor, why it was not protected). size: of all files, relative to the model's."""

    command: str = "harden"
    model: str
    format: str
    out: str
    files: list[str]
    scheme: str
    dtype: str
    granularity: str
    constants: str
    design_ber: float
    size: float
    weights: list[Weight] = []
    left: list[tuple[str, str]] = []
    ranking: list[Ranked] = []
    why: str = ""
    notes: list[str] = []

    @property
    def exit_code(self) -> int:
        """A file was written."""
        return 0


class Restoration(Record, frozen=True, kw_only=True):
    """How a tensor of the protected file reads beside the original's.

    status: "exact" (bit by bit), "bounded" (within `bound` everywhere), "off" (beyond it), "missing", "reshaped".
    """

    name: str
    status: str
    error: float = 0.0
    bound: float = 0.0


class Verified(Record, frozen=True, kw_only=True):
    """Whether B restores A. outputs: largest difference by output, on `samples` samples; None where none were run."""

    command: str = "verify"
    source: str
    target: str
    passed: bool
    reason: str
    tensors: list[Restoration] = []
    samples: int = 0
    origin: str = ""
    outputs: dict[str, float] | None = None
    labels: str = ""
    notes: list[str] = []

    @property
    def exit_code(self) -> int:
        """0 where it is proved."""
        return 0 if self.passed else 1


class Explained(Record, frozen=True, kw_only=True):
    """What a file's protection is. state: "protected", "partly", "stripped" or "plain".

    schemes: (what, how many tensors). threats: what it is good for, and what not. loader: code that reads the file
    where no runtime does by itself.
    """

    command: str = "explain"
    path: str
    format: str
    state: str
    reason: str
    schemes: list[tuple[str, int]] = []
    threats: list[str] = []
    notes: list[str] = []
    loader: str = ""

    @property
    def exit_code(self) -> int:
        """1 where a protection is gone."""
        return 1 if self.state in ("stripped", "partly") else 0


class Mended(Record, frozen=True, kw_only=True):
    """What restoring did. corrected, lost: words or codewords; exact: whether the result is known to be bit by bit."""

    command: str = "restore"
    path: str
    out: str
    scheme: str
    corrected: int = 0
    lost: int = 0
    exact: bool | None = None
    notes: list[str] = []

    @property
    def exit_code(self) -> int:
        """1 where something was beyond repair."""
        return 1 if self.lost or self.exact is False else 0
