"""The README stays true: its snippet runs, its commands are understood, its files exist."""

import re
import shlex
from pathlib import Path

import pytest

import dnc_jax
from experiments import (
    celeba,
    claims,
    conv_rfm,
    deep_rfm,
    etf_head,
    lazy_baselines,
    mlp_and_deep_rfm,
    ood_detection,
    random_labels,
    report,
    rfm,
    tabular,
    train_network,
)
from experiments.support import command

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_snippet_shows_collapse_in_a_few_lines(capsys):
    (snippet,) = blocks("python")
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 12
    exec(compile(snippet, "README.md", "exec"), {})
    lines = [
        [float(number) for number in re.findall(r"'([^']+)'", line)]
        for line in capsys.readouterr().out.splitlines()
    ]
    assert len(lines) == 6
    assert lines[-1][-1] < lines[0][0] / 5


EXPERIMENTS = {
    module.__name__.rpartition(".")[2]: module
    for module in (
        *(deep_rfm, train_network, random_labels, etf_head, ood_detection, mlp_and_deep_rfm),
        *(rfm, tabular, lazy_baselines, celeba, conv_rfm, claims, report),
    )
}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_command_is_understood(name):
    experiment, module = EXPERIMENTS[name], f"experiments.{name}"
    presets = getattr(experiment, "PRESETS", {})
    commands = [line for block in blocks("bash") for line in block.splitlines() if module in line]
    assert commands
    for line in commands:
        arguments = shlex.split(line.split(module)[1])
        assert isinstance(command.parse(experiment.Config, presets, arguments), experiment.Config)


def test_every_linked_file_and_named_function_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for name in (
        "nc1",
        "nc1_trace_ratio",
        "nc2",
        "nc2_gram_mse",
        "nc4",
        "agop",
        "kernel_agop",
        "fit_rfm",
        "fit_conv_rfm",
    ):
        assert f"`{name}" in README
        assert hasattr(dnc_jax, name)
