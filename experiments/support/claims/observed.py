"""Claims about Deep RFM and trained networks, read from the records of runs."""

import itertools
import math
from collections.abc import Mapping, Sequence
from statistics import mean
from typing import NamedTuple

import numpy as np

from experiments.support.claims.findings import Finding, verdict_of
from experiments.support.claims.reading import KernelName, Regime, Runs, accuracy, at_end, by_layer, values
from experiments.support.feature_maps import FeatureName
from experiments.support.records import Row
from experiments.support.variants import FALLEN


class Layered(NamedTuple):
    """A kernel, a feature map and the bandwidth of Fourier features."""

    kernel: KernelName
    feature_map: FeatureName
    bandwidth: float = 10.0

    def __str__(self) -> str:
        """Returns its name in a claim."""
        of = "" if self.feature_map == "relu" else f" of bandwidth {self.bandwidth:g}"
        return f"{self.kernel} kernel, {self.feature_map} features{of}"


DEFAULT = Layered("laplace", "relu")
# The released map, at its bandwidth of 10, has frequencies that are independent by coordinate. Those of the
# kernel exp(-|r|/10) are not: its features of M^(1/2) x, of about unit length, are nearly constant.
DEEP_RFMS = (
    DEFAULT,
    Layered("laplace", "product_laplace_fourier", 10.0),
    Layered("laplace", "laplace_fourier", 1.0),
    Layered("laplace", "laplace_fourier", 10.0),
    Layered("gaussian", "gaussian_fourier", 1.0),
)
MLPS: Mapping[Regime, str] = {
    "small_start": "an MLP from small weights",
    "weight_decay": "an MLP with weight decay",
}
# NC2 of directions at random is about 1; below this their angles are those of a simplex within a few degrees.
SIMPLEX = 0.3
PAPER = "Beaglehole et al. 2024"


def deep_rfm_collapses(runs: Runs) -> list[Finding]:
    """NC1 and NC2 from the input to the last layer, for kernels and feature maps."""
    findings: list[Finding] = []
    for choice in DEEP_RFMS:
        rows = runs.deep_rfm(*choice)
        first_nc1, first_nc2 = (by_layer(rows, metric, "input")[0] for metric in ("nc1", "nc2"))
        nc1, nc2 = (by_layer(rows, metric, "nonlinear") for metric in ("nc1", "nc2"))
        findings.append(
            Finding(
                f"Deep RFM collapses without backpropagation: {choice}",
                f"{PAPER}, figures of Deep RFM",
                f"NC1 falls to a tenth, NC2 falls, to below {SIMPLEX}",
                f"NC1 {first_nc1:.3g} -> {nc1[-1]:.3g}, NC2 {first_nc2:.3g} -> {nc2[-1]:.3g} in {len(nc1)} "
                "layers",
                verdict_of(nc1[-1] < 0.1 * first_nc1, nc2[-1] < min(SIMPLEX, first_nc2)),
            )
        )
    return findings


def decrease_is_exponential(runs: Runs) -> list[Finding]:
    """The factor by which every layer lowers NC1, and a straight line through log NC1 against the layer."""
    rows = runs.deep_rfm(*DEFAULT)
    nc1 = [by_layer(rows, "nc1", "input")[0], *by_layer(rows, "nc1", "nonlinear")]
    layers, logarithms = np.arange(len(nc1)), np.log(nc1)
    slope, offset = np.polyfit(layers, logarithms, 1)
    explained = 1 - np.var(logarithms - slope * layers - offset) / np.var(logarithms)
    factors = [before / after for before, after in itertools.pairwise(nc1)]
    return [
        Finding(
            "NC1 falls exponentially with the layer",
            f"{PAPER}, theorem",
            "every layer divides NC1, and log NC1 is a straight line: R2 at least 0.98",
            f"divided by {', '.join(f'{factor:.2f}' for factor in factors)}, by layer; the line divides by "
            f"{math.exp(-slope):.2f}, R2 {explained:.4f}",
            verdict_of(min(factors) > 1, bool(explained > 0.98 and slope < 0)),
        )
    ]


def linear_stage_dominates(runs: Runs) -> list[Finding]:
    """By what each stage divides NC1 over all layers, by two definitions of NC1."""
    findings: list[Finding] = []
    for name, rows in networks(runs).items():
        falls: dict[str, tuple[float, float]] = {}
        for metric in ("nc1_trace_ratio", "nc1"):
            stages = [by_layer(rows, metric, stage) for stage in ("input", "linear", "nonlinear")]
            before, linear, after = (np.log(values) for values in stages)
            # The head of a network has an input, but no stages.
            falls[metric] = float(np.sum(before[: len(linear)] - linear)), float(np.sum(linear - after))
        shown = [f"{math.exp(a):.3g} and {math.exp(b):.3g}" for a, b in falls.values()]
        findings.append(
            Finding(
                f"The linear stage does most of the collapse, in {name}",
                f"{PAPER}, of small starts; slides, eq. 25",
                "over all layers, linear stages divide NC1 by more than nonlinear ones",
                f"linear and nonlinear divide the trace ratio by {shown[0]}, tr(Sigma_W Sigma_B^+)/K by "
                f"{shown[1]}",
                verdict_of(*(linear > max(nonlinear, 0) for linear, nonlinear in falls.values())),
            )
        )
    return findings


def etf_by_layer(runs: Runs) -> list[Finding]:
    """NC2 at the linear and the nonlinear stage, where the slides see it in the last layer only."""
    findings: list[Finding] = []
    for name, rows in networks(runs).items():
        stages = {stage: by_layer(rows, "nc2", stage) for stage in ("linear", "nonlinear")}
        is_last_alone = all(
            found[-1] < SIMPLEX and not any(value < SIMPLEX for value in found[:-1])
            for found in stages.values()
        )
        findings.append(
            Finding(
                f"NC2, the simplex, is seen in the last layer only, in {name}",
                "slides, after eq. 25",
                f"NC2 below {SIMPLEX} in the last layer, above it before",
                "; ".join(f"{stage} {listed(found)}" for stage, found in stages.items())
                + f", by layer; {accuracy(rows)}",
                verdict_of(is_last_alone),
            )
        )
    return findings


def ansatz(runs: Runs) -> list[Finding]:
    """Pearson correlations of W^T W with the AGOP and its root, by layer of the MLPs."""
    sources = {
        "nfa_correlation": ("the AGOP", "slides, eq. 23"),
        "nfa_correlation_root": ("AGOP^(1/2)", f"{PAPER}; Radhakrishnan et al. 2024"),
    }
    findings: list[Finding] = []
    for regime, name in MLPS.items():
        rows = at_end(runs.mlp(regime))
        layers = sorted({row["layer"] for row in rows if row["stage"] == "nonlinear"})
        for metric, (of, source) in sources.items():
            found = [mean(values(rows, metric, stage="weights", layer=layer)) for layer in layers]
            findings.append(
                Finding(
                    f"Neural feature ansatz: W^T W correlates with {of}, in {name}",
                    source,
                    "Pearson correlation above 0.7 in every layer",
                    f"{listed(found)} by layer",
                    verdict_of(*(value > 0.7 for value in found)),
                )
            )
    return findings


def networks_collapse(runs: Runs) -> list[Finding]:
    """All four metrics at the head of networks, on true and on permuted labels, before and after training."""
    source = "slides, eq. 5, 15, 17, 19; Papyan et al. 2020"
    return [
        *(
            _falls_at_head(f"A trained network collapses: {name}", source, runs.mlp(regime))
            for regime, name in MLPS.items()
        ),
        _falls_at_head(
            "Networks collapse on random labels",
            "slides, plots of convergence with random labels",
            runs.random_labels(),
        ),
    ]


def _falls_at_head(claim: str, source: str, rows: Sequence[Row]) -> Finding:
    head = max(row["layer"] for row in rows if row["stage"] == "input")
    of_head = [row for row in rows if row["layer"] == head and row["stage"] == "input"]
    epochs = (min(row["epoch"] for row in of_head), max(row["epoch"] for row in of_head))
    pairs: dict[str, tuple[float, float]] = {}
    for metric in FALLEN:
        first, last = (mean(values(of_head, metric, epoch=epoch)) for epoch in epochs)
        pairs[metric] = (first, last)
    return Finding(
        claim,
        source,
        "at the classifier NC1 and NC4 fall to a tenth, NC2 and NC3 to a half",
        "; ".join(f"{name.upper()} {first:.3g} -> {last:.3g}" for name, (first, last) in pairs.items())
        + f"; {accuracy(at_end(rows))}",
        verdict_of(*(last < FALLEN[name] * first for name, (first, last) in pairs.items())),
    )


def networks(runs: Runs) -> dict[str, list[Row]]:
    """Returns the records of what has layers, by name: a Deep RFM, and MLPs at their last epoch."""
    return {"Deep RFM": runs.deep_rfm(*DEFAULT)} | {
        name: at_end(runs.mlp(regime)) for regime, name in MLPS.items()
    }


def listed(found: Sequence[float]) -> str:
    """Returns numbers as text."""
    return ", ".join(f"{value:.2f}" for value in found)
