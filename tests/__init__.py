"""Tests of dnc_jax and its experiments; oracles, builders and the table of members are importable."""
