"""Jobs that a killed Snakemake has left are listed, with what can be done about them."""

import pytest

from smoothdescent import orphans
from smoothdescent.cli import main


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """Puts a script in the place of squeue."""

    def replace(script):
        program = tmp_path / "squeue"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return replace


def fault(capsys):
    with pytest.raises(SystemExit) as done:
        main(["orphans"])
    assert done.value.code == 2
    return capsys.readouterr().err


@pytest.mark.slurm
def test_jobs_of_a_folder(cluster, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", cluster.environment()["PATH"])
    here, link = tmp_path / "he|re", tmp_path / "link"
    here.mkdir()
    link.symlink_to(here)
    main(["orphans", "--folder", str(here)])
    assert capsys.readouterr().out == f"no SLURM jobs of {here}\n"
    options = ("--gpus=1", "--comment=rule_train_convnet_wildcards_w1_s0", "--no-requeue")
    jobs = [cluster.submit("sleep 600", *options, cwd=here) for _ in range(3)]
    cluster.submit("sleep 600")  # in another folder
    ended = cluster.submit("true", cwd=here)
    for job in jobs[:2]:
        cluster.wait_for(job, "RUNNING")
    cluster.wait_for(ended, "COMPLETED")
    monkeypatch.chdir(link)
    with pytest.raises(SystemExit) as done:
        main(["orphans"])
    assert done.value.code == 1
    first, *lines = capsys.readouterr().out.splitlines()
    assert first == f"3 SLURM jobs of {here}:"
    listed = sorted(line.split() for line in lines if line.startswith("  ") and "rule" in line)
    assert [row[0] for row in listed] == jobs
    assert [row[1] for row in listed] == ["RUNNING", "RUNNING", "PENDING"]
    assert all(row[-1] == "rule_train_convnet_wildcards_w1_s0" for row in listed)
    [command] = [line.split() for line in lines if line.startswith("  scancel")]
    assert sorted(command[1:]) == jobs
    cluster.client(*command)
    for job in jobs:
        cluster.wait_for(job, "CANCELLED")
    main(["orphans"])
    assert "no SLURM jobs" in capsys.readouterr().out


def test_no_slurm(monkeypatch, capsys):
    monkeypatch.setenv("PATH", "/nowhere")
    assert "squeue is not on the PATH" in fault(capsys)


def test_slurm_refuses(squeue, capsys):
    squeue("echo 'slurm_load_jobs error: Unable to contact\n  controller' >&2; exit 1")
    expected = "error: squeue failed: slurm_load_jobs error: Unable to contact controller\n"
    assert fault(capsys).endswith(expected)


def test_slurm_does_not_answer(squeue, monkeypatch, capsys):
    squeue("exec sleep 60")
    monkeypatch.setattr(orphans, "SECONDS", 0.2)
    assert "squeue has not answered for 0.2 s" in fault(capsys)
