"""The README stays true: its snippet runs, its commands are understood, its files exist."""

import re
import shlex
from pathlib import Path

import dnc_jax
from experiments import deep_rfm
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


def test_every_command_is_understood():
    commands = [
        line for block in blocks("bash") for line in block.splitlines() if "experiments.deep_rfm" in line
    ]
    assert commands
    for line in commands:
        arguments = shlex.split(line.split("experiments.deep_rfm")[1])
        assert isinstance(command.parse(deep_rfm.Config, deep_rfm.PRESETS, arguments), deep_rfm.Config)


def test_every_linked_file_and_named_function_exists():
    for link in re.findall(r"\]\(([^)#]+)\)", README):
        assert (ROOT / link).exists(), link
    for name in ("nc1", "nc1_trace_ratio", "nc2", "nc2_gram_mse", "nc4", "agop", "kernel_agop", "fit_rfm"):
        assert f"`{name}" in README
        assert hasattr(dnc_jax, name)
