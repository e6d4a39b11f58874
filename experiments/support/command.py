"""The command line: a dataclass of options, presets, and one message for every error."""

import dataclasses
import difflib
import hashlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import tyro

TRACEBACK = "DNC_JAX_TRACEBACK"
INTERRUPTED = 130


class HasPreset(Protocol):
    """Options that name the preset they start from."""

    @property
    def preset(self) -> str:
        """The name of the preset."""
        ...


Config = TypeVar("Config", bound=HasPreset)


def parse(config: type[Config], presets: Mapping[str, Config], arguments: Sequence[str] | None) -> Config:
    """Returns the options given on the command line, over those of the preset that they name.

    Exits with status 2 and a message for a flag or a value that is not understood.
    """
    _check_flags(config, sys.argv[1:] if arguments is None else arguments)
    named = tyro.cli(config, args=arguments)
    if named.preset not in presets:
        return named
    return tyro.cli(config, args=arguments, default=presets[named.preset])


def _check_flags(config: type[Config], arguments: Sequence[str]) -> None:
    names = [field.name.replace("_", "-") for field in dataclasses.fields(config)]  # pyright: ignore
    known = ["--help", *(f"--{name}" for name in names)]
    for argument in arguments:
        flag = argument.partition("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known and flag.replace("--no-", "--", 1) not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            hint = f"did you mean {near[0]}?" if near else "--help lists them all"
            print(f"error: unknown flag {flag}: {hint}", file=sys.stderr)
            raise SystemExit(2)


def run(main: Callable[[], object]) -> int:
    """Returns the exit status of main: 0, 1 after an error, 130 after Ctrl-C; errors are one message.

    The environment variable DNC_JAX_TRACEBACK=1 shows where an error came from.
    """
    try:
        main()
    except KeyboardInterrupt as interrupt:
        print(f"\ninterrupted. {interrupt}".rstrip(), file=sys.stderr)
        return INTERRUPTED
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        # Users' mistakes carry their own words; anything else is a fault of ours and says its kind.
        expected = isinstance(error, (ValueError, ArithmeticError, OSError))
        kind = "" if expected else f"unexpected {type(error).__name__}: "
        print(f"error: {kind}{error}", file=sys.stderr)
        if not expected:
            print(f"set {TRACEBACK}=1 to see where it came from", file=sys.stderr)
        return 1
    return 0


def run_name(name: str, dataset: str, settings: Mapping[str, Any]) -> str:
    """Returns a folder name that differs wherever the recorded settings do."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return f"{name}-{dataset}-{digest[:8]}"


@contextmanager
def resumable(workdir: Path, module: str) -> Iterator[None]:
    """Lets Ctrl-C end with what was finished and the command that continues it."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        arguments = [argument for argument in sys.argv[1:] if argument != "--no-resume"]
        again = shlex.join(["python", "-m", module, *arguments])
        raise KeyboardInterrupt(f"What is finished is in {workdir}; continue with:\n  {again}") from interrupt
