"""Options of trainings that end in seconds, and how their records are read."""

import json
from pathlib import Path

SMALL = {
    "dataset": "digits",
    "num_train": 96,
    "num_test": 40,
    "depth": 2,
    "width": 24,
    "init_gain": 1.0,
    "learning_rate": 5e-3,
    "epochs": 3,
    "measure_every": 3,
    "batch_size": 48,
    "num_measured": 64,
    "seeds": (0,),
    "precision": "float32",
}


def rows(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
