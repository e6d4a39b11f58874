"""Figures of a Deep RFM run, drawn from its records alone."""

from experiments.support.plotting.drawing import draw_figures, figures_of

__all__ = ["draw_figures", "figures_of"]
