"""The command line: every stage has help, and a fault is one sentence with status 2."""

import re
import shlex
import subprocess
import sys

import pytest

from smoothdescent.cli import COMMANDS, main, parse
from smoothdescent.files import read_table


def examples(command, capsys):
    """Return the words of each example in a command's help, without the program's name."""
    with pytest.raises(SystemExit):
        main([command, "--help"])
    printed = capsys.readouterr().out.replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in re.findall(r"^    smoothdescent .*", printed, re.M)]


@pytest.mark.parametrize("command", COMMANDS)
def test_help(command, capsys):
    with pytest.raises(SystemExit) as done:
        main([command, "--help"])
    assert done.value.code == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"usage: smoothdescent {command}")
    assert len(printed.split("\n\n")[1].split()) > 5, "the command says what it does"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(command, capsys):
    found = examples(command, capsys)
    assert found
    for words in found:
        # What the shell would put in is a command itself.
        inner = [
            match for word in words for match in re.findall(r"\$\(smoothdescent (.*?)\)", word)
        ]
        for arguments in (words, *map(shlex.split, inner)):
            _, parsed = parse(arguments)
            assert parsed.command == arguments[0]
        assert words[0] == command


def test_examples_run_as_they_stand(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    main(examples("prepare-data", capsys)[0])
    main(examples("make-labels", capsys)[0])
    labels = read_table("labels.parquet").to_pandas()
    assert labels["is_noisy"].sum() == round(0.2 * (4000 - 100))


def test_a_fault_is_one_sentence(capsys):
    with pytest.raises(SystemExit) as done:
        main(["config", "nowhere.yaml"])
    assert done.value.code == 2
    error = capsys.readouterr().err
    assert error == "smoothdescent: error: nowhere.yaml does not exist; expected a YAML file\n"


def test_a_missing_module_of_the_program_is_a_programming_error(monkeypatch):
    monkeypatch.setitem(sys.modules, "smoothdescent.orphans", None)  # an import of it fails
    with pytest.raises(ModuleNotFoundError):
        main(["orphans"])


@pytest.mark.parametrize("arguments", [[], ["--scale"], ["no-such-stage"]])
def test_no_command(arguments, capsys):
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 2
    assert "usage: smoothdescent" in capsys.readouterr().err


LIGHT = """
import sys
import smoothdescent.{module}
assert "torch" not in sys.modules, sorted(m for m in sys.modules if m.startswith("smooth"))
"""


@pytest.mark.parametrize(
    "module",
    [
        "cli",
        "config.command",
        "tables.command",
        "figures.command",
        "verdict.command",
        "compare.command",
        "crate.command",
        "plan.partial",
        "data.labels",
        "lease",
        "orphans",
    ],
)
def test_stages_that_start_without_torch(module):
    subprocess.run([sys.executable, "-c", LIGHT.format(module=module)], check=True)


def test_config_command(capsys, request):
    config = str(request.config.rootpath / "config.yaml")
    main(["config", config, "--scale", "paper"])
    assert "scale: paper" in capsys.readouterr().out
    name = "convnet-cifar10-noise20"
    main(["config", config, "--experiment", name])
    assert name in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["config", config, "--experiment", "other"])
    assert f"expected one of {name}" in capsys.readouterr().err
