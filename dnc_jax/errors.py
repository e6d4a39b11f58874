"""What the library raises when arithmetic, rather than the caller, is at fault.

A caller's mistake (a wrong shape, a negative ridge, a pixel that is NaN) is a `ValueError`.
"""


class NumericalError(ArithmeticError):
    """A computation whose result cannot be trusted in the precision it was made in."""


class FitError(NumericalError):
    """A linear system that could not be solved: not finite, or its residual is too large."""


class PrecisionFloorError(NumericalError):
    """A result that lies below what its floating-point type can carry."""
