"""Whoever runs the study, how often at a time and in which order: the same bytes."""

import os
import time

import pytest
from training.tiny import contents
from workflow.study import Study, processes, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """A study of two runs that one Snakemake has made with one core, one job a run."""
    study = Study(tmp_path_factory.mktemp("alone"), "convnet-cifar100")
    study.set(widths=[1], seeds=[0, 1], epochs=2, data={"dataset": "procedural10"})
    study.run("--cores", "1")
    return study


def products(study):
    """Return the bytes of all products by path: all files but logs and benchmarks."""
    found = contents(study.folder / "results")
    return {name: content for name, content in found.items() if "/benchmarks/" not in name}


def assert_same_bytes(study, other):
    made, expected = products(study), products(other)
    assert made.keys() == expected.keys()
    assert [name for name in expected if made[name] != expected[name]] == []


def test_another_order_folder_and_packing_on_two_cores(alone, tmp_path):
    study = alone.copy_to(tmp_path / "elsewhere")
    study.config["scales"]["demo"]["defaults"]["seeds_per_job"] = 2
    study.write()
    study.run("measure", "--cores", "2")
    study.run("--cores", "2", "--prioritize", "results/demo/verdict.md")
    assert_same_bytes(study, alone)


def test_two_snakemakes_at_a_time(alone, tmp_path):
    """With its lock, one of them may be refused; without, leases let one of them work at a time."""
    study = alone.copy_to(tmp_path / "both")
    both = [study.start("--nolock") for _ in range(2)]
    printed = [process.communicate()[0] for process in both]
    assert not any("Traceback" in text for text in printed), printed
    study.run("--nolock")
    assert_same_bytes(study, alone)
    for log in (study.results / "runs").glob("*/*.log"):
        written = [line.split()[1] for line in log.read_text().splitlines() if "written" in line]
        assert len(written) == len(set(written)) == 3, written


def test_two_scales_at_a_time(alone, tmp_path):
    """In one folder, each with its lock."""
    study = alone.copy_to(tmp_path / "scales")
    study.config["scales"]["other"] = study.config["scales"]["demo"]
    study.write()
    both = [study.start("--config", f"scale={scale}") for scale in ("demo", "other")]
    printed = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    made = products(study)
    assert [name for name, content in products(alone).items() if made[name] != content] == []
    runs = [name for name in made if name.startswith("other/") and "/runs/" in name]
    assert len(runs) == 18
    assert [name for name in runs if made[name] != made["demo" + name.removeprefix("other")]] == []


def test_a_job_of_an_earlier_configuration_is_awaited(alone, tmp_path):
    """Snakemake is killed and its job is not; then the study is begun with other settings."""
    study = alone.copy_to(tmp_path / "earlier")
    study.config["autosave_minutes"] = 0.5 / 60
    study.set(seeds=[0], epochs=1_000_000, batch_size=10)
    killed = study.start("train")
    run = study.results / "runs/w1_s0"
    wait_until((run / "state.safetensors").exists, killed)
    [earlier] = processes("train", killed)
    try:
        killed.kill()
        killed.wait()
        study.set(seeds=[0, 1], epochs=2, batch_size=20)
        study.run("--unlock")
        process = study.start()
        log = run.with_suffix(".log")
        wait_until(lambda: "waiting for its end" in log.read_text(), process)
    finally:
        earlier.terminate()
    printed = process.communicate()[0]
    killed.communicate()  # the job's shell has kept its output open
    assert process.returncode == 0, printed
    assert "was trained with other settings; it is kept as" in log.read_text()
    made = products(study)
    assert [name for name, content in products(alone).items() if made[name] != content] == []


def test_dates_of_other_clocks(alone, tmp_path):
    """Jobs may look again; nothing is computed again, and nothing changes."""
    study = alone.copy_with_results(tmp_path / "copy")
    now = time.time()
    for number, path in enumerate(sorted((study.folder / "results").rglob("*.*"))):
        jump = (-1e8, 0, 1e5)[number % 3]
        os.utime(path, (now + jump, now + jump))
    before = {path: path.stat().st_ino for path in (study.results / "runs").glob("*/*/*")}
    study.run()
    assert before == {path: path.stat().st_ino for path in before}
    assert_same_bytes(study, alone)
