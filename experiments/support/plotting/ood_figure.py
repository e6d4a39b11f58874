"""How scores separate known images from unknown ones."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np

from experiments.support.plotting.style import STYLE, new_figure, plain_name, set_headline
from experiments.support.plotting.writing import write_figure
from experiments.support.records import Row

KNOWN, UNKNOWN = "#0072B2", "#D55E00"
NUM_BINS = 40
# Quantiles of all scores between which bins lie; the outermost bins hold what lies beyond.
SHOWN = (0.005, 0.995)


def draw_scores(
    folder: Path,
    titles: Mapping[str, str],
    scores: Mapping[str, tuple[np.ndarray, np.ndarray]],
    rows: Sequence[Row],
    datasets: tuple[str, str],
) -> Path:
    """Returns the png of histograms of every score of the first seed, titled with the means over seeds."""
    with matplotlib.rc_context(STYLE):
        figure, table = new_figure(12.0, 6.5), []
        panels = figure.subplots(2, -(-len(titles) // 2)).flat
        for unused in panels[len(titles) :]:
            unused.set_axis_off()
        for axes, (name, title) in zip(panels, titles.items(), strict=False):
            known, unknown = scores[name]
            low, high = np.quantile(np.concatenate([known, unknown]), SHOWN)
            bins = np.histogram_bin_edges([low, high], NUM_BINS)
            for values, color, label in ((known, KNOWN, datasets[0]), (unknown, UNKNOWN, datasets[1])):
                counts, _ = np.histogram(np.clip(values, low, high), bins)
                share = counts / len(values)
                axes.stairs(share, bins, color=color, fill=True, alpha=0.35)
                axes.stairs(share, bins, color=color, linewidth=1.4, label=plain_name(label))
                table += [
                    {"score": name, "dataset": label, "from": float(a), "to": float(b), "share": float(s)}
                    for a, b, s in zip(bins[:-1], bins[1:], share, strict=True)
                ]
            auroc, fpr = (_mean(rows, name, metric) for metric in ("auroc", "fpr_at_95_tpr"))
            axes.set(title=f"{title}\nAUROC {auroc:.3f}, FPR at 95% TPR {fpr:.3f}", ylabel="share of images")
            sign = "minus the distance / radius" if name == "simplex_distance" else "score"
            axes.set_xlabel(f"{sign} (larger: known)")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        names = [f"{labels[0]} (known, held out)", f"{labels[1]} (unknown)"]
        figure.legend(handles, names, loc="outside lower center", ncols=2)
        setting = (
            "features that the classifier receives; histograms of the first seed, numbers of all; "
            "outermost bins hold what lies beyond"
        )
        set_headline(figure, "Known and unknown images by the features of a trained network", setting)
        return write_figure(folder, "ood_scores", figure, table)


def _mean(rows: Sequence[Row], score: str, metric: str) -> float:
    return float(np.mean([r["value"] for r in rows if r.get("score") == score and r["metric"] == metric]))
