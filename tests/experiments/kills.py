"""A process that is killed, in tests."""


class Killed(BaseException):
    """Stands for a process that ends without a word: nothing may catch it."""
