"""The checks behind scientific claims, at a size that a laptop runs, with verdicts from their numbers."""
