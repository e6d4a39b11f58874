"""The guides stay true: examples run, every metric has its row, every row its function."""

import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import dnc_jax

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "metrics.md").read_text()
CONV_RFM = (ROOT / "docs" / "conv_rfm.md").read_text()
ESTIMATORS = (ROOT / "docs" / "estimators.md").read_text()
EXAMPLE = re.compile(r"## ([^\n]*)\n(?:(?!\n## )[\s\S])*?```python\n(.*?)```", flags=re.DOTALL)
EXAMPLES = EXAMPLE.findall(GUIDE)
ROWS = re.findall(r"^\| `(\w+)` \|", GUIDE, flags=re.MULTILINE)
# Public functions that measure nothing: fits, kernels, feature maps, linear algebra, parts of a pass.
NOT_METRICS = {
    *("class_stats", "merge", "merge_over_axis", "of_classes", "of_points", "cosine", "pearson"),
    *("psd_pinv", "psd_power", "squared_distances", "unit_rows", "stages", "median_bandwidth"),
    *("deep_rfm_layer_core", "kernel_machine_core", "collapse_metrics", "by_max", "by_trace"),
    *("conv_rfm_iterates", "update_conv_rfm", "image_patches"),
    *("median_scaled", "rfm_iterates", "select_rfm", "mean_squared_error", "misclassification"),
}


def run(title: str, guide: str = GUIDE) -> None:
    (example,) = (code for name, code in EXAMPLE.findall(guide) if title in name)
    exec(compile(example, "docs", "exec"), {"__name__": "guide"})


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<= )-?\d[\d.e+-]*\b", line)]


def test_the_guide_has_four_examples():
    assert len(EXAMPLES) == 4
    assert GUIDE.count("```python") == 4


def test_collapse_is_measured_in_a_flax_loop(capsys):
    run("Flax NNX")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["epoch 0", "epoch 50", "epoch 100"]
    first, last = (numbers(line.split(":")[1]) for line in (lines[0], lines[-1]))
    assert last[0] < first[0] / 2
    assert last[1] < first[1]
    assert last[2] < first[2]


def test_a_metric_is_lowered_by_its_gradient(capsys):
    run("plain JAX")
    values = [numbers(line.split(":")[1])[0] for line in capsys.readouterr().out.splitlines()]
    assert values[2] < values[1] < values[0] / 2


def test_streaming_equals_the_whole(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 10_000)
    features = (rng.normal(size=(10_000, 16)) + 3 * rng.normal(size=(10, 16))[labels]).astype(np.float32)
    monkeypatch.chdir(tmp_path)
    np.save("features.npy", features)
    np.save("labels.npy", labels.astype(np.int32))
    run("larger than memory")
    metrics = (dnc_jax.nc1, dnc_jax.nc1_trace_ratio, dnc_jax.nc2)
    points = jnp.asarray(features), jnp.asarray(labels)
    expected = [float(metric(*points, 10)) for metric in metrics]
    np.testing.assert_allclose(numbers(capsys.readouterr().out), expected, rtol=1e-4)


def test_devices_agree(capsys):
    run("several devices")
    values = [numbers(line) for line in capsys.readouterr().out.splitlines()]
    assert len(values) == 3
    for spread, one in values:
        assert spread == pytest.approx(one, abs=2e-4)


def test_every_row_names_a_public_function():
    assert len(ROWS) == len(set(ROWS))
    assert set(ROWS) <= set(dnc_jax.__all__)


def test_every_metric_has_a_row():
    families = ("fit_", "accumulate_", "relu_features", "gaussian_", "laplace_", "product_laplace_")
    functions = {name for name in dnc_jax.__all__ if name.islower() and not name.startswith(families)}
    without = {name for name in functions if name.endswith("_from_stats")}
    assert functions - without - NOT_METRICS == set(ROWS)


@pytest.mark.parametrize("name", [n for n in dnc_jax.__all__ if n.startswith("accumulate_")])
def test_every_accumulator_is_named(name):
    assert f"`{name}`" in GUIDE


def test_the_guide_to_the_estimators_has_four_examples():
    assert len(EXAMPLE.findall(ESTIMATORS)) == ESTIMATORS.count("```python") == 4


def test_an_estimator_finds_the_columns_that_matter(capsys):
    run("Fit, predict", ESTIMATORS)
    scores, columns = capsys.readouterr().out.splitlines()
    plain, learned = numbers(scores)
    assert learned > plain + 0.2
    assert columns == "most important columns: 0 1"


def test_a_classifier_is_searched(capsys):
    run("Classes", ESTIMATORS)
    accuracy, probabilities = capsys.readouterr().out.splitlines()
    assert numbers(accuracy)[0] > 0.9
    assert numbers(probabilities)[0] > 0.5
    assert probabilities.endswith("of setosa versicolor virginica")


def test_one_matrix_serves_many_ridges(capsys):
    run("One M", ESTIMATORS)
    assert len(set(capsys.readouterr().out.splitlines())) == 3


def test_an_estimator_is_saved_without_pickle(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run("Files", ESTIMATORS)
    assert capsys.readouterr().out == "same predictions: True\n"


def test_a_convolutional_rfm_separates_the_classes_of_the_guide(capsys):
    run("In code", CONV_RFM)
    assert capsys.readouterr().out.split("\n")[0] == "(9, 9) [0 0 0 0 0 0 1 1 1 1 1 1]"
