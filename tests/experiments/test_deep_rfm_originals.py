"""The experiment on original files, from their bytes to the records."""

import json

import pytest

from experiments import deep_rfm
from tests.experiments.original_files import write_idx, write_svhn


@pytest.mark.parametrize(
    ("name", "write"),
    [pytest.param("svhn", write_svhn, marks=pytest.mark.slow), ("fashion_mnist", write_idx)],
)
def test_original_files_run_end_to_end(tmp_path, monkeypatch, name, write):
    monkeypatch.setenv("DNC_JAX_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "data" / name
    folder.mkdir(parents=True)
    write(folder)
    out = deep_rfm.main(
        deep_rfm.Config(
            dataset=name,
            data_dir=tmp_path / "data",
            num_train=16,
            num_test=8,
            depth=1,
            width=16,
            seeds=(0,),
            devices=1,
            workdir=tmp_path / "run",
        )
    )
    environment = json.loads((out / "environment.json").read_text())
    assert name in environment["data_source"] or str(folder) in environment["data_source"]
    assert (out / "metrics.jsonl").read_text().count("\n") == 3 * 10 + 7
