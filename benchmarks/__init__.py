"""Timings of the library: one script for each question."""
