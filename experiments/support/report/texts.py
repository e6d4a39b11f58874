"""How a report writes numbers and symbols: as its figures do, whatever the terminal has."""

import math
import re

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SCIENTIFIC = re.compile(r"(?<![\w.])(?:\d+(?:\.\d+)?e[+-]\d+|0\.000\d+)(?![\w.]*\w)")
# What the terminal writes in ASCII.
_SYMBOLS = {"M^(1/2)": "M^½", ", phi,": ", φ,"}


def number(value: float, places: int = 3) -> str:
    """Returns a number to some digits, of very small and large ones with a power of ten."""
    if not math.isfinite(value):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{float(f'{value:.{places}g}'):.6g}".replace("-", "−")
    digits, exponent = f"{value:.{places - 1}e}".split("e")
    factor, power = f"{float(digits):g}".replace("-", "−"), f"10{str(int(exponent)).translate(_SUPERSCRIPT)}"
    return power if factor == "1" else f"{factor}·{power}"


def in_symbols(text: str) -> str:
    """Returns a text of the terminal with the symbols and the powers of ten of a page."""
    for plain, symbol in _SYMBOLS.items():
        text = text.replace(plain, symbol)
    return _SCIENTIFIC.sub(lambda found: number(float(found[0])), text)
