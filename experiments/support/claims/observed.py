"""Claims about Deep RFM and trained networks, read from the records of runs."""

import math
from statistics import mean
from typing import NamedTuple

import numpy as np

from experiments.support.claims.findings import Finding, verdict_of
from experiments.support.claims.reading import KernelName, Runs, at_end, by_layer, values
from experiments.support.feature_maps import FeatureName
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
# At the released bandwidth of 10 the features of M^(1/2) x, of about unit length, are nearly constant.
DEEP_RFMS = (
    DEFAULT,
    Layered("gaussian", "gaussian_fourier", 1.0),
    Layered("laplace", "laplace_fourier", 1.0),
    Layered("laplace", "laplace_fourier", 10.0),
)
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
                f"NC1 falls to a tenth, NC2 below {SIMPLEX}",
                f"NC1 {first_nc1:.3g} -> {nc1[-1]:.3g}, NC2 {first_nc2:.3g} -> {nc2[-1]:.3g} in {len(nc1)} "
                "layers",
                verdict_of(nc1[-1] < 0.1 * first_nc1, nc2[-1] < SIMPLEX),
            )
        )
    return findings


def decrease_is_exponential(runs: Runs) -> list[Finding]:
    """A straight line through log NC1 against the layer."""
    nc1 = by_layer(runs.deep_rfm(*DEFAULT), "nc1", "nonlinear")
    layers, logarithms = np.arange(len(nc1)), np.log(nc1)
    slope, offset = np.polyfit(layers, logarithms, 1)
    explained = 1 - np.var(logarithms - slope * layers - offset) / np.var(logarithms)
    return [
        Finding(
            "NC1 falls exponentially with the layer",
            f"{PAPER}, theorem",
            "log NC1 is a straight line: R2 at least 0.98",
            f"R2 {explained:.4f}; each layer divides NC1 by {math.exp(-slope):.2f}",
            verdict_of(bool(explained > 0.98 and slope < 0)),
        )
    ]


def linear_stage_dominates(runs: Runs) -> list[Finding]:
    """Which stage of each layer lowers NC1 more, by two definitions of NC1."""
    findings: list[Finding] = []
    networks = {"Deep RFM": runs.deep_rfm(*DEFAULT), "a trained MLP": at_end(runs.mlp())}
    for name, rows in networks.items():
        counts: dict[str, tuple[int, int]] = {}
        for metric in ("nc1_trace_ratio", "nc1"):
            before, linear, after = (by_layer(rows, metric, s) for s in ("input", "linear", "nonlinear"))
            wins = [b / m > m / a for b, m, a in zip(before, linear, after, strict=False)]
            counts[metric] = (sum(wins), len(wins))
        shares = [won / of for won, of in counts.values()]
        findings.append(
            Finding(
                f"The linear stage does most of the collapse, in {name}",
                f"{PAPER}; slides, eq. 25",
                "linear lowers NC1 more than the nonlinearity, in most layers",
                f"by the trace ratio in {counts['nc1_trace_ratio'][0]} of {counts['nc1'][1]} layers, "
                f"by tr(Sigma_W Sigma_B^+)/K in {counts['nc1'][0]}",
                verdict_of(*(share > 0.5 for share in shares)),
            )
        )
    return findings


def etf_by_layer(runs: Runs) -> list[Finding]:
    """NC2 at the linear and the nonlinear stage, where the slides see it in the last layer only."""
    findings: list[Finding] = []
    networks = {"Deep RFM": runs.deep_rfm(*DEFAULT), "a trained MLP": at_end(runs.mlp())}
    for name, rows in networks.items():
        stages = {stage: by_layer(rows, "nc2", stage) for stage in ("linear", "nonlinear")}
        shown = {stage: f"{found[0]:.2f} -> {found[-1]:.2f}" for stage, found in stages.items()}
        early = {stage: sum(value < SIMPLEX for value in found[:-1]) for stage, found in stages.items()}
        is_last_alone = all(found[-1] < SIMPLEX for found in stages.values()) and not any(early.values())
        findings.append(
            Finding(
                f"NC2, the simplex, is seen in the last layer only, in {name}",
                "slides, after eq. 25",
                f"NC2 below {SIMPLEX} in the last layer, above it before",
                f"linear stage {shown['linear']}, nonlinear {shown['nonlinear']}; below {SIMPLEX} in "
                f"{early['linear']} and {early['nonlinear']} of the {len(stages['linear']) - 1} before it",
                verdict_of(is_last_alone),
            )
        )
    return findings


def ansatz(runs: Runs) -> list[Finding]:
    """Pearson correlations of W^T W with the AGOP and its root, by layer of the MLP."""
    rows = at_end(runs.mlp())
    layers = sorted({row["layer"] for row in rows if row["stage"] == "nonlinear"})
    found = {
        metric: [mean(values(rows, metric, stage="weights", layer=layer)) for layer in layers]
        for metric in ("nfa_correlation", "nfa_correlation_root")
    }
    plain, root = found.values()
    return [
        Finding(
            "Neural feature ansatz: W^T W correlates with the AGOP, in a trained MLP",
            "slides, eq. 23; Radhakrishnan et al. 2024",
            "Pearson correlation with AGOP^(1/2) above 0.7 in every layer",
            f"{', '.join(f'{value:.2f}' for value in root)} by layer; with the AGOP itself "
            f"{', '.join(f'{value:.2f}' for value in plain)}",
            verdict_of(*(value > 0.7 for value in root)),
        )
    ]


def random_labels(runs: Runs) -> list[Finding]:
    """All four metrics at the head of a network on permuted labels, before and after training."""
    rows = runs.random_labels()
    head = max(row["layer"] for row in rows if row["stage"] == "input")
    pairs: dict[str, tuple[float, float]] = {}
    for metric in FALLEN:
        of_head = [row for row in rows if row["layer"] == head and row["stage"] == "input"]
        epochs = (min(row["epoch"] for row in of_head), max(row["epoch"] for row in of_head))
        first, last = (mean(values(of_head, metric, epoch=epoch)) for epoch in epochs)
        pairs[metric] = (first, last)
    return [
        Finding(
            "Networks collapse on random labels",
            "slides, plots of convergence with random labels",
            "NC1 and NC4 fall to a tenth, NC2 and NC3 to a half",
            "; ".join(f"{name.upper()} {first:.3g} -> {last:.3g}" for name, (first, last) in pairs.items()),
            verdict_of(*(last < FALLEN[name] * first for name, (first, last) in pairs.items())),
        )
    ]


def fixed_etf(runs: Runs) -> list[Finding]:
    """Held-out accuracy of a fixed simplex head beside a learned one."""
    heads = {head: at_end(rows) for head, rows in runs.etf_heads().items()}
    learned, fixed = (100 * mean(values(heads[head], "test_accuracy")) for head in ("learned", "etf"))
    return [
        Finding(
            "The classifier can be a fixed simplex",
            "slides, forced ETF",
            "held-out accuracy within 2 points of a learned classifier",
            f"{fixed:.1f}% with a fixed simplex, {learned:.1f}% with a learned classifier (500 images)",
            verdict_of(fixed > learned - 2),
        )
    ]


def rfm_beats_its_kernel(runs: Runs) -> list[Finding]:
    """Held-out R^2 or accuracy of a plain kernel and after updates of M."""
    rows = runs.low_rank()
    updates = sorted({row["iteration"] for row in rows})
    plain, learned = (mean(values(rows, "test_r2", iteration=at)) for at in (updates[0], updates[-1]))
    return [
        Finding(
            "An RFM beats its kernel where few directions matter",
            "slides, table of tasks (low rank)",
            "test R2 rises by 0.1 or more",
            f"{plain:.3f} -> {learned:.3f} after {updates[-1]} updates (y = x0 x1 1[x5 > 0], 1000 points, "
            f"{len({row['seed'] for row in rows})} seeds)",
            verdict_of(learned > plain + 0.1),
        ),
    ]
