"""Claims about what collapse and feature learning are good for, read from the records of runs."""

import math
from statistics import mean

from experiments.support.claims.findings import Finding, verdict_of
from experiments.support.claims.reading import Runs, at_end, at_head, by_update, values


def rfm_beats_its_kernel(runs: Runs) -> list[Finding]:
    """Held-out R^2 of a plain kernel and after updates of M."""
    rows = runs.low_rank()
    plain, *_, learned = found = by_update(rows, "test_r2")
    return [
        Finding(
            "An RFM beats its kernel where few directions matter",
            "Radhakrishnan et al. 2024, low-rank task; slides, table of tasks",
            "test R2 rises by 0.1 or more",
            f"{plain:.3f} -> {learned:.3f} after {len(found) - 1} updates (y = x0 x1 1[x5 > 0], 1000 points, "
            f"{len({row['seed'] for row in rows})} seeds)",
            verdict_of(learned > plain + 0.1),
        ),
    ]


def patches_beat_their_kernel(runs: Runs) -> list[Finding]:
    """Held-out accuracy of a convolutional kernel and after one update of the AGOP of patches."""
    rows = runs.stars()
    plain, learned = (100 * value for value in by_update(rows, "test_accuracy")[:2])
    return [
        Finding(
            "The AGOP of patches helps a convolutional kernel: stars in noise",
            "slides, table of performance: 80.20% -> 99.70%",
            "held-out accuracy rises by 5 points or more",
            f"{plain:.1f}% -> {learned:.1f}% after one update (50 images, "
            f"{len({row['seed'] for row in rows})} seeds)",
            verdict_of(learned > plain + 5),
        )
    ]


def fixed_etf(runs: Runs) -> list[Finding]:
    """Held-out accuracy of a fixed simplex head beside a learned one."""
    heads = {head: at_end(rows) for head, rows in runs.etf_heads().items()}
    learned, fixed = (100 * mean(values(heads[head], "test_accuracy")) for head in ("learned", "etf"))
    num_test = runs.num_test
    error = math.sqrt(sum(value * (100 - value) for value in (learned, fixed)) / num_test)
    return [
        Finding(
            "The classifier can be a fixed simplex",
            "slides, forced ETF; Zhu et al. 2021",
            "held-out accuracy at most 2 points below that of a learned classifier, which is above 50%",
            f"{fixed:.1f}% with a fixed simplex, {learned:.1f}% with a learned classifier: "
            f"{fixed - learned:+.1f} points, standard error at most {error:.1f} ({num_test} images)",
            verdict_of(learned > 50 and fixed >= learned - 2),
        )
    ]


def unknown_images(runs: Runs) -> list[Finding]:
    """AUROC by seed of the distance to the simplex, of the share of a feature inside it, and of others."""
    found = runs.unknown_images()
    names = {
        "simplex_distance": "distance to the simplex",
        "neco": "share inside it (NECO)",
        "centered_neco": "the same of centered features",
        "max_softmax": "largest softmax",
        "energy": "energy",
    }
    scores = {name: values(found["scores"], "auroc", score=name) for name in names}
    softmax = scores["max_softmax"]
    wins = {
        name: all(own > other for own, other in zip(scores[name], softmax, strict=True))
        for name in ("simplex_distance", "neco")
    }
    shown = [f"{title} {min(scores[n]):.3f} to {max(scores[n]):.3f}" for n, title in names.items()]
    return [
        Finding(
            "A point outside the simplex is likely from outside the training distribution",
            "slides, OOD inference; Ammar et al. 2024",
            "AUROC of simplex distance and of NECO above that of the largest softmax, in every seed",
            f"{runs.foreign} as foreign images: {', '.join(shown)} ({len(softmax)} seeds; "
            f"NC2 of the features {at_head(at_end(found['training']), 'nc2'):.2f})",
            verdict_of(*wins.values()),
        )
    ]
