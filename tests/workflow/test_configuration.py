"""The configuration as Snakemake hands it on: the command line, and what stops before anything."""

import pytest
import yaml


def in_force(study, *arguments):
    """Return the resolved experiment that `dump_config` prints."""
    printed = study.run("dump_config", *arguments)
    text = printed[printed.index("scale: demo") :].partition("\n\n")[0]
    return yaml.safe_load(text)["experiments"][study.name]


def test_nested_values_of_the_command_line_are_read_as_what_they_are(new_study):
    values = "{epochs: 7, final_snapshots: {count: 2}, stop_below: {loss: 0.25, for_epochs: 2}}"
    patch = f"scales={{demo: {{experiments: {{{new_study.name}: {values}}}}}}}"
    experiment = in_force(new_study, "--config", patch)
    assert experiment["epochs"] == 7
    assert experiment["final_snapshots"] == {"count": 2, "every": 1}
    assert experiment["stop_below"] == {"loss": 0.25, "for_epochs": 2}
    assert experiment["widths"] == [1, 2]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("epochs=10", "unknown key here; it belongs into a block of `experiments`"),
        ("memory=1KB", "expected at least 16MiB"),
        ("experiments={NAME: {network: my:nets}}", "there is no module 'my'"),
        ("experiments={NAME: {data: {dataset: cifar11}}}", "is 'cifar11', expected one of"),
    ],
)
def test_a_mistake_stops_before_anything_starts(new_study, given, words):
    given = given.replace("NAME", new_study.name)
    printed = new_study.run("--config", given, succeeds=False)
    assert words in printed
    assert "Traceback" not in printed
    assert not (new_study.folder / "results").exists()


def test_an_unknown_name_is_answered_with_those_that_exist(new_study):
    printed = new_study.run("-n", "figure9", succeeds=False)
    assert "There is no target 'figure9'; expected a file, or one of figure1, " in printed
    assert f"{new_study.name}, all, train" in printed and "Traceback" not in printed
