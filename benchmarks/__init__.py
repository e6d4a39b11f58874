"""Timings of the library: one script for each question."""

import os

# Read when scipy's OpenBLAS, by which JAX factorizes on CPUs, is loaded. Its threads then sleep as soon as
# they have ended; otherwise they keep cores busy that the next product needs.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
