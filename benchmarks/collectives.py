"""What a compiled program sends between devices, read from its text.

Bytes are those that one device sends, and receives, where k devices pass data on round a ring: of an array of
S bytes, that before a reduce-scatter or after an all-gather, S (k - 1) / k, and twice that for an all-reduce.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

ITEM_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8}
ITEM_BYTES |= {"u64": 8, "f64": 8}
# How often an array passes round the ring.
PASSES = {"all-gather": 1, "reduce-scatter": 1, "all-to-all": 1, "collective-permute": 1, "all-reduce": 2}

_HEADER = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{$")
_ARRAY = re.compile(rf"\b({'|'.join(ITEM_BYTES)})\[([\d,]*)\]")
_COLLECTIVE = re.compile(rf" ({'|'.join(PASSES)})(?:-start)?\(")
_LOOP = re.compile(r" while\(.*body=%?([\w.-]+)")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_CALLED = re.compile(r"(?:to_apply|calls|true_computation|false_computation)=%?([\w.-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


class Collective(NamedTuple):
    """A collective of a program: its kind, the numbers and bytes of its arrays whole, how often and where.

    depth counts the loops of unknown length around it, and times is how often it runs in each turn of the
    innermost of them.
    """

    kind: str
    size: int
    num_bytes: int
    times: int
    depth: int


def collectives_of(text: str, num_devices: int) -> list[Collective]:
    """Returns the collectives of a compiled program, given its text, loops of known length multiplied out."""
    computations, entry = _computations(text)
    found: list[Collective] = []

    def visit(name: str, times: int, depth: int) -> None:
        for line in computations.get(name, ()):
            if collective := _COLLECTIVE.search(line):
                kind, arrays = collective[1], _arrays(line[: collective.end()])
                # The text has what comes out.
                whole = num_devices if kind == "reduce-scatter" else 1
                size, num_bytes = (whole * sum(numbers) for numbers in zip(*arrays, strict=True))
                found.append(Collective(kind, size, num_bytes, times, depth))
            elif loop := _LOOP.search(line):
                trips = _TRIPS.search(line)
                visit(loop[1], times * int(trips[1]) if trips else 1, depth + (trips is None))
            else:
                branches = ",".join(_BRANCHES.findall(line)).replace("%", "").split(",")
                for called in (*_CALLED.findall(line), *map(str.strip, branches)):
                    visit(called, times, depth)

    visit(entry, 1, 0)
    return found


def sent_bytes(collectives: Sequence[Collective], num_devices: int) -> Counter[int]:
    """Returns the bytes that a device sends, by depth: once, and in each turn of loops of unknown length."""
    total: Counter[int] = Counter()
    for each in collectives:
        total[each.depth] += ring_bytes(each.kind, each.num_bytes, num_devices) * each.times
    return total


def ring_bytes(kind: str, num_bytes: int, num_devices: int) -> int:
    """Returns the bytes that a device sends for a collective of an array of so many bytes."""
    return PASSES[kind] * num_bytes * (num_devices - 1) // num_devices


def array_sizes(text: str) -> list[int]:
    """Returns how many numbers each array in the text of a program has."""
    return [size for size, _ in _arrays(text)]


def _arrays(text: str) -> list[tuple[int, int]]:
    """Returns the numbers and the bytes of each array in a text."""
    sizes = [
        (dtype, math.prod(int(number) for number in shape.split(",") if number))
        for dtype, shape in _ARRAY.findall(text)
    ]
    return [(size, size * ITEM_BYTES[dtype]) for dtype, size in sizes]


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    """Returns the lines of each computation by name, and the name of that which is run."""
    computations: dict[str, list[str]] = {}
    lines, entry = [], ""
    for line in text.splitlines():
        if header := _HEADER.match(line):
            lines = computations[header[2]] = []
            entry = header[2] if header[1] else entry
        else:
            lines.append(line)
    return computations, entry
