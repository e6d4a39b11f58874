"""A process that is killed, in tests."""

import contextlib

import pytest

from experiments.support import atomic


class Killed(BaseException):
    """Stands for a process that ends without a word: nothing may catch it."""


@contextlib.contextmanager
def killed_at_write(writes):
    """What is done inside dies at its nth write to the disk, which it must reach."""
    countdown = [writes]

    def fsync(_: int) -> None:
        countdown[0] -= 1
        if countdown[0] == 0:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(atomic.os, "fsync", fsync)
        with pytest.raises(Killed):
            yield
