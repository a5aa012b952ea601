"""What may be asked of `harden`, and what it means for one weight."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from fetafix.errors import UsageError
from fetafix.storage.constants import Rule
from fetafix.storage.encodings import FP32, INT8, encoding
from fetafix.storage.holding import Held
from fetafix.storage.schemes import Plan
from fetafix.storage.stored_form import dtype_encoding

Array = npt.NDArray[Any]
Scheme = Literal["scale", "ceiling", "guard", "secded", "rs", "auto"]
Granularity = Literal["tensor", "channel"]
Scope = Literal["weights", "all"]
SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
KEEP = "keep"


def _silent(stage: str, done: int, total: int | None) -> None:
    """No progress is shown."""


@dataclass(frozen=True, kw_only=True)
class Wish:
    """How to harden. Raises UsageError for combinations that make no sense.

    scheme: see `fetafix.storage.schemes`; "rs" writes a Reed-Solomon file beside the model, "auto" chooses. dtype:
    "keep", or the name of a number format. granularity: of constants and bounds. constants: their rule. scope: "all"
    stores biases and the like three times as well, where the format has a place for that. design_ber: the bit-error
    rate that "auto", "mse" and the strength of "rs" are made for. data, labels, seed: for measuring what "auto" has
    ranked first.
    """

    scheme: Scheme = "auto"
    dtype: str = KEEP
    granularity: Granularity = "channel"
    constants: Rule = "max"
    scope: Scope = "all"
    design_ber: float = 1e-4
    data: Any = None
    labels: Any = None
    seed: int = 0
    preprocess: Any = None
    progress: Callable[[str, int, int | None], None] = _silent

    def __post_init__(self) -> None:
        """Refuse what makes no sense, before anything is opened."""
        if self.scheme not in SCHEMES:
            raise UsageError(f"unknown scheme {self.scheme!r}; expected one of {', '.join(SCHEMES)}")
        if self.granularity not in get_args(Granularity):
            raise UsageError(f"the granularity is tensor or channel, found {self.granularity!r}")
        if self.scope not in get_args(Scope):
            raise UsageError(f"the scope is weights or all, found {self.scope!r}")
        if self.constants not in get_args(Rule):
            raise UsageError(f"constants are chosen by {', '.join(get_args(Rule))}, found {self.constants!r}")
        if not 0.0 < self.design_ber < 1.0:
            raise UsageError(f"the design bit-error rate lies between 0 and 1, found {self.design_ber!r}")
        to = None if self.dtype == KEEP else encoding(self.dtype)
        if self.scheme == "rs" and to is not None:
            raise UsageError("rs protects the file as it is and changes no number format; leave out --dtype")
        if self.scheme == "secded" and to not in (None, FP32):
            raise UsageError(f"secded takes check bits from fp32's mantissa; {self.dtype} has none to spare")
        if self.scheme == "ceiling" and to is not None and not to.floating:
            raise UsageError(f"ceiling needs an exponent, and {to.name} has none; scale fills it")
        if self.constants == "mse" and (self.scheme not in ("scale", "auto") or to is None or to.floating):
            raise UsageError("mse clips weights that fixed point would spend its range on: it needs --scheme scale and "
                             "--dtype int8 or Qm.n; floats are scaled by powers of two")

    def plan(self, held: Held, values: Array) -> Plan | str:
        """How a weight is stored; or why it stays as it is."""
        if held.dtype.name in ("int8", "uint8"):
            return self._codes(held)
        if not np.isfinite(values).all():
            return "it holds NaN or infinite values, which no bound admits"
        to = dtype_encoding(held.dtype) if self.dtype == KEEP else encoding(self.dtype)
        if to is None or dtype_encoding(held.dtype) is None:
            return f"no scheme knows {held.dtype.name}; convert the model to float32 first"
        if self.scheme == "rs" or self.scheme == "auto":
            raise ValueError(f"{self.scheme} has no plan for a tensor")
        axis = held.axis if self.granularity == "channel" and len(held.shape) > 1 else None
        rule: Rule = "pow2" if to.floating else self.constants
        if self.scheme == "secded" and to != FP32:
            return f"secded takes check bits from fp32's mantissa; {to.name} has none to spare"
        return Plan(to, self.scheme, axis, rule, self.design_ber)

    def _codes(self, held: Held) -> Plan | str:
        """Codes are scaled already; what can be done is to bound them, and to vote on their scales."""
        if self.scheme != "guard" or self.dtype != KEEP:
            return (f"its {held.dtype.name} codes are scaled and 8 bit already; --scheme guard bounds them and votes "
                    "on their scales where the format is ONNX")
        return Plan(INT8, "guard", held.axis if self.granularity == "channel" and len(held.shape) > 1 else None)

    def by(self, scheme: Scheme, granularity: Granularity | None = None) -> Wish:
        """The same by another scheme."""
        constants: Rule = self.constants if scheme == "scale" else "max"
        return replace(self, scheme=scheme, granularity=granularity or self.granularity, constants=constants)

    def mark(self) -> dict[str, Any]:
        """What is noted in the file's metadata: an aid for people, never needed to read the weights."""
        return {"scheme": self.scheme, "dtype": self.dtype, "granularity": self.granularity}
