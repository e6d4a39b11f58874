"""Command-line experiments built on dnc_jax: everything that touches files, screens and clocks."""
