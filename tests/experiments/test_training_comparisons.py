"""Random labels, the fixed head, foreign images, and the MLP beside Deep RFM, on small data."""

import dataclasses
import json

import numpy as np
import pytest

from dnc_jax.networks import resnet as resnets
from dnc_jax.networks import vgg as vggs
from experiments import etf_head, mlp_and_deep_rfm, ood_detection, random_labels, train_network
from experiments.support.data.images import DataError, pooled
from experiments.support.plotting.training_drawing import Records
from experiments.support.plotting.training_figures import read_records
from tests.experiments.network_runs_small import SMALL, rows


def test_random_labels_runs_every_fraction_and_says_what_collapsed(tmp_path, capsys):
    config = random_labels.Config(**SMALL, fractions=(0.0, 1.0), workdir=tmp_path / "run")
    assert random_labels.main(config) == tmp_path / "run"
    out = capsys.readouterr().out
    assert "0% of labels permuted: training accuracy" in out
    assert "100% of labels permuted: training accuracy" in out
    plain, noisy = (rows(tmp_path / "run" / f"permuted_{f}") for f in (0, 1))
    assert [r["value"] for r in plain] != [r["value"] for r in noisy]
    summary = rows(tmp_path / "run")
    assert {r["run"] for r in summary} == {"permuted_0", "permuted_1"}
    assert {r["metric"] for r in summary} == {"train_accuracy", "test_accuracy", "nc1", "nc2", "nc3", "nc4"}
    assert {p.name for p in (tmp_path / "run" / "figures").iterdir()} == {
        f"random_labels.{kind}" for kind in ("png", "pdf", "csv")
    }
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    random_labels.main(config)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def records(**ends):
    """Records of one seed whose metrics go from a first to a last value."""
    found = [{"seed": 0, "epoch": 0, "layer": 1, "stage": "nonlinear", "metric": "nc1", "value": 1.0}]
    for metric, values in ({"train_accuracy": (0.1, 1.0)} | ends).items():
        stage = "network" if metric == "train_accuracy" else "input"
        for epoch, value in zip((0, 9), values, strict=True):
            place = {"seed": 0, "epoch": epoch, "layer": 2, "stage": stage, "metric": metric}
            found.append(place | {"value": value})
    return Records({"seeds": [0]}, found, {})


def test_a_training_has_collapsed_only_where_all_four_fall():
    fallen = {"nc1": (5.0, 0.01), "nc2": (0.8, 0.1), "nc3": (1.0, 0.2), "nc4": (0.9, 0.0)}
    assert random_labels.verdict("x", records(**fallen)).endswith(": collapsed")
    for metric, (first, _) in fallen.items():
        text = random_labels.verdict("x", records(**fallen | {metric: (first, first)}))
        assert f"not collapsed, {metric.upper()} has not fallen" in text


def test_the_fixed_head_is_compared_with_the_learned_one(tmp_path, capsys):
    config = etf_head.Config(**SMALL, workdir=tmp_path / "run")
    etf_head.main(config)
    out = capsys.readouterr().out
    assert "learned -> fixed simplex" in out
    learned, fixed = (rows(tmp_path / "run" / head) for head in ("learned", "etf"))
    head = {"layer": 3, "stage": "weights", "metric": "nc2_equiangularity"}
    at_head = [[r["value"] for r in found if head.items() <= r.items()] for found in (learned, fixed)]
    assert max(at_head[1]) < 1e-5 < min(at_head[0])
    changed = [r for r in fixed if r["metric"] == "centered_nfc" and r["layer"] == 3]
    assert changed == []
    accuracy = [r["value"] for r in fixed if r["metric"] == "train_accuracy"]
    assert accuracy[-1] > accuracy[0]


def test_what_one_of_two_trainings_cannot_use_is_refused_before_the_other(tmp_path):
    config = etf_head.Config(**SMALL | {"width": 8}, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match="--width must be at least 9 with --head=etf"):
        etf_head.main(config)
    for changes, message in (
        ({"rfm_width": 0}, "--rfm-width must be at least 1: got 0"),
        ({"mlp_depth": 0}, "--mlp-depth must be at least 1: got 0"),
        ({"rfm_ridge": -1.0}, "--rfm-ridge must be at least 0: got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            mlp_and_deep_rfm.main(
                mlp_and_deep_rfm.Config(dataset="digits", workdir=tmp_path / "run", **changes)
            )
    assert not (tmp_path / "run").exists()


def test_foreign_images_are_scored(tmp_path, capsys, monkeypatch):
    foreign = ood_detection.data.load("digits")
    loaded = {"digits": foreign, "mnist_5k": dataclasses.replace(foreign, name="mnist_5k")}
    inverted = dataclasses.replace(foreign.train, images=16 - foreign.train.images)
    loaded["mnist_5k"] = dataclasses.replace(loaded["mnist_5k"], train=inverted)
    monkeypatch.setattr(ood_detection.data, "load", lambda name, **_: loaded[name])
    config = ood_detection.Config(**SMALL, num_ood=50, workdir=tmp_path / "run")
    ood_detection.main(config)
    found = rows(tmp_path / "run")
    assert {r.get("score") for r in found} == {*ood_detection.SCORES, None}
    for row in found:
        assert 0 <= row["value"] <= 1
    assert "AUROC   FPR at 95% TPR" in capsys.readouterr().out
    assert (tmp_path / "run" / "figures" / "ood_scores.png").exists()


def test_scores_of_separable_points_have_auroc_one():
    known, unknown = np.linspace(1, 2, 20), np.linspace(-1, 0, 30)
    perfect, none = (
        {r["metric"]: r["value"] for r in ood_detection.to_rows(0, {"neco": pair})}
        for pair in ((known, unknown), (unknown, known))
    )
    assert perfect == {"auroc": 1.0, "fpr_at_95_tpr": 0.0}
    assert none == {"auroc": 0.0, "fpr_at_95_tpr": 1.0}


def test_the_mlp_and_deep_rfm_are_measured_on_the_same_images(tmp_path, capsys):
    config = mlp_and_deep_rfm.Config(
        dataset="digits",
        num_train=96,
        num_test=40,
        seeds=(0,),
        mlp_depth=2,
        mlp_width=24,
        mlp_epochs=2,
        rfm_depth=2,
        rfm_width=40,
        workdir=tmp_path / "run",
    )
    mlp_and_deep_rfm.main(config)
    both = [rows(tmp_path / "run" / name) for name in ("mlp", "deep_rfm")]
    out = capsys.readouterr().out
    assert "trained MLP  training accuracy" in out
    assert "Deep RFM     training accuracy" in out
    paths = [tmp_path / "run" / name / "config.json" for name in ("mlp", "deep_rfm")]
    configs = [json.loads(path.read_text()) for path in paths]
    assert configs[0]["data_sha256"] == configs[1]["data_sha256"]
    assert all(any(r["metric"] == "nc1" for r in found) for found in both)
    assert (tmp_path / "run" / "figures" / "mlp_and_deep_rfm.png").exists()
    table = (tmp_path / "run" / "figures" / "mlp_and_deep_rfm.csv").read_text().splitlines()
    # Two metrics at three stages of the two layers of each.
    assert len(table) == 1 + 2 * 3 * (2 + 2)


@pytest.mark.parametrize("network", ["vgg11", "resnet18"])
def test_convolutional_networks_are_trained_and_measured(tmp_path, network, monkeypatch):
    monkeypatch.setattr(vggs, "CHANNELS", {"vgg11": ((3,), (3,), (3, 3), (3, 3))})
    monkeypatch.setattr(resnets, "STAGES", ((3, 1), (3, 1), (3, 1), (3, 2)))
    changes = {
        "network": network,
        "epochs": 1,
        "num_train": 40,
        "num_measured": 20,
        "workdir": tmp_path / "run",
    }
    train_network.main(train_network.Config(**SMALL | changes))
    found = rows(tmp_path / "run")
    layers = {r["layer"] for r in found if r["metric"] == "nfa_correlation"}
    # 6 convolutions and the dense layer on them, or 18 convolutions; then two hidden layers and the head.
    assert layers == set(range(1, 1 + {"vgg11": 10, "resnet18": 21}[network]))
    assert {r["stage"] for r in found if r["layer"] == 1} == {"input", "linear", "nonlinear", "weights"}


def test_without_held_out_images_all_are_trained_on_and_nothing_is_tested(tmp_path):
    images = pooled(train_network.data.load("digits"))
    assert len(images.train.labels) == 1797
    options = {name: value for name, value in SMALL.items() if name not in ("num_train", "num_test")}
    config = train_network.Config(**options, held_out=False, workdir=tmp_path / "run")
    train_network.main(config)
    assert not any(r["metric"].startswith("test_") for r in rows(tmp_path / "run"))
    loaded = read_records(tmp_path / "run")
    assert (loaded.config["num_train"], loaded.config["num_test"]) == (1797, 0)
    with pytest.raises(ValueError, match=r"--no-held-out leaves no held-out images: got --num-test=5"):
        train_network.main(dataclasses.replace(config, num_test=5))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"ood_dataset": "digits"},
            ValueError,
            "--ood-dataset must differ from --dataset: got digits for both",
        ),
        ({"num_ood": 0}, ValueError, "--num-ood must be at least 1: got 0"),
        (
            {},
            DataError,
            r"must have at least 1000 images of shape \(8, 8, 1\): got .* of shape \(28, 28, 1\)",
        ),
    ],
)
def test_foreign_images_that_cannot_be_scored_are_refused(tmp_path, changes, error, message):
    with pytest.raises(error, match=message):
        ood_detection.main(ood_detection.Config(**SMALL | changes, workdir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fractions", [(), (0.5, 0.5), (1.5,)])
def test_fractions_that_are_none_are_refused(tmp_path, fractions):
    config = random_labels.Config(**SMALL, fractions=fractions, workdir=tmp_path / "run")
    with pytest.raises(ValueError, match="--fractions must be distinct numbers from 0 to 1"):
        random_labels.main(config)
