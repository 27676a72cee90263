"""What the README says can be typed, can be typed."""

from __future__ import annotations

import re
from pathlib import Path

from xpnet import recipes
from xpnet.train import main

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_examples_in_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network, estimator = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(network, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert "val_metric" in printed[0]
    assert float(re.search(r"'accuracy': ([\d.]+)", printed[1])[1]) > 0.9
    exec(compile(estimator, "README.md", "exec"), {})
    assert all(float(line) > 0.9 for line in capsys.readouterr().out.splitlines())


OF_OTHER_COMMANDS = (
    "--help",
    "--fill-missing",
    "--kills",
    "--inputs",
    "--keep",
    "--to",
    "--trials",
    "--timeout",
    "--jobs",
)


def test_the_options_it_shows_exist(capsys):
    main(["--help"])
    shown = capsys.readouterr().out
    for option in set(re.findall(r"--[a-z][a-z0-9-]+", README)):
        assert option in shown or option in OF_OTHER_COMMANDS, option


def test_the_table_has_every_recipe():
    for name in recipes.names():
        assert f"`{name}`" in README


def test_it_has_no_blanks_to_fill():
    assert not re.findall(r"@[A-Z]+@", README)


def test_the_rooms_it_names_exist():
    rooms = README.split("## What is where")[1].split("##")[0]
    for row in re.findall(r"^\| (`.*?`) \|", rooms, flags=re.MULTILINE):
        names = re.findall(r"`([^`]+)`", row)
        folder = Path(names[0]).parent if "/" in names[0] else Path()
        for name in names:
            root = Path(__file__).parents[1]
            assert (root / name).exists() or (root / folder / name).exists() or (root / "xpnet" / name).exists(), name
