"""Several processes that share one run by JAX's distributed runtime; the first alone prints and writes.

All are started with the same options, read the same data and run the same programs, on devices of their own
that share the rows. What only the first can know, what is on its disk, it sends to the others.
"""

import io
import os
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils
from jaxtyping import Array

OPTIONS = ("distributed", "coordinator", "num_processes", "process_id")
# A process that has been silent for so long is taken for dead, and the runtime ends the others.
HEARTBEAT_SECONDS = 30
CONNECT_SECONDS = 120
# What the others need to end by themselves before the service that the first one runs for them ends.
LEAVE_SECONDS = 2
MAX_PORT = 65535

Value = TypeVar("Value")


class HostsError(ConnectionError):
    """The processes of a run cannot be brought together, do not agree, or one of them has ended."""


def start(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_id: int | None
) -> None:
    """Joins the other processes of the run, before anything else of JAX is used.

    Args:
        coordinator: host:port of the first process. As with the others, None asks the scheduler that started
            the process, where JAX knows it, such as Slurm, Open MPI or a TPU pod.

    Raises:
        HostsError: If JAX is not told who the others are. A process that waits for them in vain is ended by
            the runtime after two minutes.
        ValueError: If an option is given without distributed, or a coordinator without its port.
    """
    told = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    if not distributed:
        given = [f"--{name.replace('_', '-')}" for name, value in told.items() if value is not None]
        if given:
            raise ValueError(f"{', '.join(given)} needs --distributed")
        return
    port = (coordinator or ":1").rpartition(":")[2]
    if not (port.isdecimal() and 0 < int(port) <= MAX_PORT):
        raise ValueError(
            f"coordinator must be HOST:PORT, a free port of the first process: got {coordinator}"
        )
    if process_id is not None:
        # The runtime ends a process that waits in vain, with few words.
        where = f"{coordinator} for {num_processes or 'all'} processes"
        print(f"process {process_id}: waiting at {where}, {CONNECT_SECONDS} seconds at most", file=sys.stderr)
    # Otherwise JAX takes SIGTERM for a notice and goes on.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            coordinator,
            num_processes,
            process_id,
            initialization_timeout=CONNECT_SECONDS,
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except (ValueError, RuntimeError) as error:
        raise HostsError(
            f"the processes of this run could not be joined: {error}; outside of a scheduler that JAX knows, "
            "give every process --coordinator=HOST:PORT of the first one, --num-processes and its own "
            "--process-id from 0"
        ) from error
    if not is_first():
        # The descriptor, since libraries of C++ print too. Errors go to stderr, which stays.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def are_several() -> bool:
    """Returns whether this process is one of several."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Returns whether this process prints and writes."""
    return not are_several() or jax.process_index() == 0


def whole(array: Array) -> np.ndarray:
    """Returns an array with the rows of all processes. All of them call this."""
    return multihost_utils.process_allgather(array, tiled=True) if are_several() else np.asarray(array)


def from_first(make: Callable[[], Mapping[str, np.ndarray] | None]) -> Mapping[str, np.ndarray] | None:
    """Returns on all processes what make returns on the first, the only one that calls it."""
    if not are_several():
        return make()
    made = make() if is_first() else None
    sent = _packed(made) if made is not None else np.zeros(0, np.uint8)
    size = _of_all(len(sent))[0]
    if not size:
        return None
    return _unpacked(multihost_utils.broadcast_one_to_all(sent if is_first() else np.zeros(size, np.uint8)))


def agreed(make: Callable[[], Value]) -> Value:
    """Returns what make returns on this process, once it has returned on all.

    Raises:
        HostsError: If it raised on another; where it raised, its own error is raised again.
    """
    if not are_several():
        return make()
    try:
        made, error = make(), None
    except (ValueError, OSError) as own:
        made, error = None, own
    failed = _of_all(int(error is not None))
    if error is not None:
        raise error
    if any(failed):
        numbers = ", ".join(str(number) for number, has_failed in enumerate(failed) if has_failed)
        raise HostsError(f"the run ends because of an error in process {numbers}: see what it printed")
    return cast(Value, made)


def least(value: int) -> int:
    """Returns the smallest value of all processes."""
    return min(_of_all(value))


def num_on_this_host() -> int:
    """Returns how many of the processes run where this one does, and share its memory."""
    names = _of_all(zlib.crc32(socket.gethostname().encode()))
    return names.count(names[jax.process_index()] if are_several() else names[0])


def check_same(settings: Mapping[str, Any]) -> None:
    """Raises HostsError on every process whose settings, the checksum of its data among them, differ."""
    if not are_several():
        return
    theirs = from_first(lambda: {name: np.asarray(str(value)) for name, value in settings.items()}) or {}
    differing = [
        f"{name} {value} here, {theirs.get(name)} there"
        for name, value in settings.items()
        if str(theirs.get(name)) != str(value)
    ]
    if differing:
        raise HostsError(
            f"this process was given other options or data than the first: {'; '.join(differing)}; start all "
            "with the same options and the same files"
        )


@contextmanager
def together() -> Iterator[None]:
    """Says of a failed exchange between processes what it means."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not are_several() or "RESOURCE_EXHAUSTED" in str(error):
            raise
        raise HostsError(
            "another process of this run has ended, or cannot be reached: see what it printed. Finished "
            "layers are kept: start all processes again with the same options, or one without --distributed "
            f"({str(error).splitlines()[0]})"
        ) from error


def leave(status: int) -> int:
    """Returns the exit status of this process, or ends it at once after an error that the others wait on."""
    if status and jax.distributed.is_initialized():
        # An ordinary exit waits for all processes, which wait for this one's part of their next exchange.
        sys.stdout.flush()
        sys.stderr.flush()
        if is_first():
            time.sleep(LEAVE_SECONDS)
        os._exit(status)
    return status


def _of_all(value: int) -> list[int]:
    """Returns the values of all processes, in order."""
    if not are_several():
        return [value]
    # Bytes, since JAX may make 32 bits of 64.
    sent = np.frombuffer(np.int64(value).tobytes(), np.uint8)
    return [int(each.view(np.int64)[0]) for each in np.asarray(multihost_utils.process_allgather(sent))]


def _packed(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    file = io.BytesIO()
    np.savez(file, allow_pickle=False, **arrays)
    return np.frombuffer(file.getbuffer(), np.uint8)


def _unpacked(sent: np.ndarray) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(sent.tobytes()), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}
