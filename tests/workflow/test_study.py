"""The whole study, small, through Snakemake: files, reruns, single figures, faults."""

import json
import shutil

import pandas as pd
import pytest
import yaml
from training.tiny import contents
from workflow.study import NAME, RULE, SIZES, assert_same_tables, wait_until

from smoothdescent.devices import choose_device, describe
from smoothdescent.files import read_metadata, read_table
from smoothdescent.progress import logged_times

pytestmark = pytest.mark.slow

FIGURES = ("figure1", "figure2", "figure3", "figure5")


def modification_times(folder):
    files = (p for p in folder.rglob("*") if p.is_file() and p.suffix != ".log")
    return {p: p.stat().st_mtime_ns for p in files}


def test_every_figure_is_drawn_and_named(finished_study):
    folder = finished_study.folder / "results/demo/figures"
    for name in FIGURES:
        for suffix in ("pdf", "png", "parquet"):
            assert (folder / f"{name}.{suffix}").stat().st_size > 1000
        assert f"results/demo/figures/{name}.pdf" in finished_study.printed
    verdict = read_table(finished_study.folder / "results/demo/verdict.parquet").to_pandas()
    assert set(verdict["result"]) == {"undecided"}, "nothing interpolates in four epochs"
    assert "results/demo/verdict.md" in finished_study.printed


def test_nothing_is_left_to_do(finished_study):
    assert finished_study.jobs() == {}


def test_products_logs_and_benchmarks(finished_study):
    for width in SIZES["widths"]:
        for seed in SIZES["seeds"]:
            name = f"w{width}_s{seed}"
            run = finished_study.results / "runs" / name
            assert sorted(str(p.relative_to(run)) for p in run.rglob("*.*")) == sorted(
                [f"snapshots/e{epoch}.safetensors" for epoch in (0, 1, 4)]
                + [f"sharpness/e{epoch}.parquet" for epoch in (0, 1, 4)]
                + ["history.parquet", "run.json", "state.safetensors"]
            )
            log = finished_study.results / "logs/train" / f"{name}.log"
            assert "images/s" in log.read_text()
            for stage in ("train", "measure"):
                clock, processor = logged_times(finished_study.results / f"logs/{stage}/{name}.log")
                assert clock > 0 and processor > 0
            benchmark = finished_study.results / "benchmarks/train" / f"{name}.tsv"
            assert "max_rss" in benchmark.read_text()


def test_snakemake_knows_all_products(finished_study, tmp_path):
    study = finished_study.copy_with_results(tmp_path / "copy")
    summary = {line.split("\t")[0] for line in study.run("--summary").splitlines()}
    results = study.folder / "results"
    # What is the program's own: states, settings of a run, logs; benchmarks are Snakemake's.
    own = {".log", ".json", ".tsv"}
    files = {p for p in results.rglob("*") if p.is_file() and p.suffix not in own}
    made = {str(p.relative_to(study.folder)) for p in files if p.stem != "state"}
    assert made <= summary
    study.run("--delete-all-output")
    left = {p for p in results.rglob("*") if p.is_file() and p.suffix not in own}
    assert {p.name for p in left} == {"state.safetensors"}


def test_each_product_is_a_target(finished_study, tmp_path):
    study = finished_study.copy_with_results(tmp_path / "copy")
    runs = "results/demo/convnet-cifar10-noise20/runs/w1_s1"
    targets = [f"{runs}/snapshots/e1.safetensors", f"{runs}/sharpness/e4.parquet"]
    for target in targets:
        assert study.jobs(target) == {}
        (study.folder / target).unlink()
    assert study.jobs(targets[0]) == {"train": 1}
    assert study.jobs("train")["train"] == 2, "the rule and the target of this name"
    assert study.jobs("measure")["measure"] == 2


def test_checkpoint_tables_have_the_specified_columns(finished_study):
    for epoch, volumes in ((0, 1), (1, 1), (4, 7)):
        path = finished_study.results / f"runs/w2_s1/sharpness/e{epoch}.parquet"
        table = read_table(path).to_pandas()
        assert table.columns.tolist() == [
            *("experiment", "width", "seed", "epoch", "sample_id", "is_noisy", "volume"),
            *("accuracy", "crossentropy", "jacobian_norm", "hessian_sumsq", "path_length"),
        ]
        assert len(table) == 8 * volumes
        assert not table.isna().any().any()
        assert set(table["volume"]) == set(range(volumes))
        first = table.iloc[0]
        assert (first["experiment"], first["width"], first["seed"]) == (NAME, 2, 1)
        assert first["epoch"] == epoch
        metadata = read_metadata(path)
        for key in ("config_hash", "snapshot_sha256", "library_versions", "device", "precision"):
            assert metadata[key]
        assert '"widths":[1,2]' in metadata["experiment_config"]


def test_tables_agree_with_the_runs(finished_study):
    history = read_table(finished_study.results / "history.parquet").to_pandas()
    sharpness = read_table(finished_study.results / "sharpness.parquet").to_pandas()
    for name in ("history", "sharpness"):
        metadata = read_metadata(finished_study.results / f"{name}.parquet")
        assert json.loads(metadata["training_devices"]) == [describe(choose_device("auto"))]
        assert json.loads(metadata["training_precisions"]) == ["float32"]
    assert len(history) == 4 * 5
    labels = read_table(finished_study.results / "labels.parquet").to_pandas()
    assert labels["is_noisy"].sum() == 20 and len(labels) == 100
    checkpoint = read_table(finished_study.results / "runs/w2_s0/sharpness/e4.parquet").to_pandas()
    row = sharpness.query("width == 2 and seed == 0 and epoch == 4 and subset == 'all'")
    at_points = checkpoint[checkpoint["volume"] == 0]
    volume_zero = row[row["volume"] == 0].iloc[0]
    for measure in ("accuracy", "crossentropy", "jacobian_norm"):
        assert volume_zero[measure] == pytest.approx(at_points[measure].mean())
    hessian = at_points["hessian_sumsq"].pow(0.5).mean() / (4**2 * 0.1**2)
    assert volume_zero["hessian_norm"] == pytest.approx(hessian)


def test_one_figure_by_name_from_existing_tables(finished_study):
    figures = finished_study.folder / "results/demo/figures"
    before = modification_times(finished_study.folder / "results")
    for path in figures.glob("figure3.*"):
        path.unlink()
    assert finished_study.jobs("figure3") == {"draw_figure": 1, "figure3": 1}
    printed = finished_study.run("figure3")
    assert "figures/figure3.pdf" in printed and "figures/figure2.pdf" not in printed
    after = modification_times(finished_study.folder / "results")
    changed = {p.name for p in after if after[p] != before.get(p)}
    assert changed - {"figure3.tsv"} == {
        f"figure3.{suffix}" for suffix in ("pdf", "png", "md", "parquet")
    }


def test_jobs_run_again_compute_nothing(finished_study, tmp_path):
    study = finished_study.copy_with_results(tmp_path / "copy")
    before = contents(study.results / "runs")
    again = ("--forcerun", f"train_{RULE}", f"measure_{RULE}")
    assert study.jobs(*again)["train"] == 4
    study.run(*again, "measure")
    log = study.results / "logs/train/w1_s1.log"
    assert "w1_s1 is finished" in log.read_text()
    assert logged_times(log) is None
    assert contents(study.results / "runs") == before


def test_other_seeds_per_job_compute_nothing(finished_study, tmp_path):
    study = finished_study.copy_with_results(tmp_path / "copy")
    study.set(seeds_per_job=2)
    before = contents(study.results / "runs")
    # One seed may have been measured before the other was trained: a job of both then looks again.
    study.run()
    assert contents(study.results / "runs") == before
    assert study.jobs() == {}
    (study.results / "runs/w1_s0/snapshots/e4.safetensors").unlink()
    before = contents(study.results / "runs")
    assert study.jobs()[f"train_{RULE}_s0_1"] == 1
    study.run()
    after = contents(study.results / "runs")
    assert after.keys() - before.keys() == {"w1_s0/snapshots/e4.safetensors"}
    assert all(after[name] == before[name] for name in before)


def test_tables_alone_are_enough_for_a_figure(finished_study, tmp_path):
    """As when they were copied from a cluster, without the runs."""
    study = finished_study.copy_to(tmp_path / "copy")
    study.results.mkdir(parents=True)
    for table in ("history", "sharpness"):
        shutil.copy(finished_study.results / f"{table}.parquet", study.results)
    assert study.jobs("figure3") == {"draw_figure": 1, "figure3": 1}
    study.run("figure3")


def test_dump_config(finished_study):
    printed = finished_study.run("dump_config")
    assert "scale: demo" in printed and "training ends" not in printed
    assert "epochs: 4" in printed


def test_more_epochs_continue_and_change_nothing_else(finished_study, tmp_path):
    study = finished_study.copy_with_results(tmp_path / "longer")
    study.set(epochs=5, widths=[2], seeds=[0])
    before = contents(study.results / "runs")
    study.run()
    log = (study.results / "logs/train/w2_s0.log").read_text()
    assert "state.safetensors after epoch 4" in log
    after = contents(study.results / "runs")
    kept = [p for p in before if "/snapshots/" in p or "/sharpness/" in p]
    assert all(after[p] == before[p] for p in kept if "e4.parquet" not in p)
    assert study.jobs() == {}
    whole = study.copy_to(tmp_path / "whole")
    whole.run()
    for table in ("history", "sharpness"):
        continued, expected = (
            read_table(s.results / f"{table}.parquet").to_pandas() for s in (study, whole)
        )
        pd.testing.assert_frame_equal(continued, expected)


def test_fewer_epochs_are_a_shorter_study(finished_study, tmp_path):
    """Nothing is computed again, and the tables end where the trainings do."""
    study = finished_study.copy_with_results(tmp_path / "fewer")
    study.set(epochs=3, widths=[2], seeds=[0])
    before = contents(study.results / "runs")
    study.run(*study.tables)
    after = contents(study.results / "runs")
    assert {p for p in before if before[p] != after[p]} == {"w2_s0/history.parquet"}
    history = read_table(study.results / "history.parquet").to_pandas()
    assert history["epoch"].max() == 3


def test_code_of_the_users_is_what_jobs_depend_on(new_study):
    """Of a network and of a measure: edited, the jobs that use it run again by themselves."""
    network = "from torch import nn\n\ndef net(num_classes):\n    return nn.Sequential({})\n"
    layers = "nn.Flatten(), nn.Linear(768, num_classes)"
    measure = """
from smoothdescent.sharpness import register_measure

@register_measure("scaled")
def scaled(evaluation):
    return {} * evaluation.logits.abs().amax(dim=1)
"""
    nets, measures = (new_study.folder / f"{name}.py" for name in ("nets", "measures"))
    nets.write_text(network.format(layers))
    measures.write_text(measure.format(1))
    chosen = {"measures": ["crossentropy", "measures:scaled"]}
    new_study.set(widths=[1], seeds=[0], epochs=1, snapshots=[], network="nets:net", measure=chosen)
    new_study.run(*new_study.tables)
    assert new_study.jobs(*new_study.tables) == {}

    def mean():
        table = read_table(new_study.results / "sharpness.parquet").to_pandas()
        return table["scaled"].mean()

    one = mean()
    nets.write_text("# Linear.\n" + network.format(layers))
    assert new_study.jobs(*new_study.tables) == {}
    measures.write_text(measure.format(2))
    assert new_study.jobs(*new_study.tables) == {"measure": 1, "gather_tables": 1}
    new_study.run(*new_study.tables)
    assert mean() == pytest.approx(2 * one)
    nets.write_text(network.format(layers + ", nn.Tanh()"))
    jobs = {"train": 1, "measure": 1, "gather_tables": 1}
    assert new_study.jobs(*new_study.tables) == jobs
    # A measuring job that comes first refuses weights of another network.
    table = new_study.results.relative_to(new_study.folder) / "runs/w1_s0/sharpness/e1.parquet"
    rule = f"measure_{RULE}"
    printed = new_study.run("--allowed-rules", rule, "-R", rule, "--", table, succeeds=False)
    assert "its network_code is" in printed
    new_study.run(*new_study.tables)
    assert mean() < 2


def test_a_study_runs_with_the_configuration_that_it_began_with(new_study):
    """While it runs, Snakemake is called with another one, which later jobs must not see."""
    new_study.set(widths=[1, 2], seeds=[0])
    other = new_study.copy_to(new_study.folder / "other")
    config = f"{new_study.results.relative_to(new_study.folder)}/config.yaml"
    other.run(config)
    process = new_study.start("--cores", "1", config)
    wait_until((new_study.results / "runs/w1_s0/history.parquet").exists, process)
    new_study.set(optimizer={"learning_rate": 0.03}, measure={"step_size": 0.2})
    new_study.run("dump_config", "--nolock")
    printed = process.communicate(timeout=500)[0]
    assert process.returncode == 0, printed
    assert_same_tables(new_study, other)
    written, expected = (
        yaml.safe_load((s.results / "config.yaml").read_text()) for s in (new_study, other)
    )
    assert written == expected


def test_an_unknown_key_stops_before_anything_runs(new_study):
    new_study.set(epoch=3)
    printed = new_study.run(succeeds=False)
    assert f"config.yaml: experiments.{NAME}.epoch: unknown key" in printed
    assert not (new_study.folder / "results").exists()


def test_what_changed_keys_run_again(finished_study, tmp_path):
    """Only what depends on a key, decided in one dry run."""
    study = finished_study.copy_with_results(tmp_path / "changed")
    assert study.jobs() == {}
    gather = {"gather_tables": 1, "draw_figure": 4, "decide_verdict": 1, "explore": 1, "all": 1}
    everything = {"train": 4, "measure": 4, **gather}
    study.set(widths=[1])
    assert study.jobs() == gather
    study.set(widths=[1, 2], measure={"hessian": "rms"})
    assert study.jobs() == gather
    study.set(measure={"step_size": 0.2})
    assert study.jobs() == {"measure": 4, **gather}
    study.set(measure={}, snapshots=[0])
    assert study.jobs() == everything, "histories name a snapshot that is not wanted any more"
    study.set(snapshots=[0, 1, 2])
    assert study.jobs() == everything
    final = {"count": 2, "every": 3}
    study.set(snapshots=[0, 1], final_snapshots=final, threshold={"statistic": "min"})
    assert study.jobs() == {"measure": 4, **gather}, "epoch 1 over all volumes"
    study.set(final_snapshots={"count": 1, "every": 1})
    assert study.jobs() == gather
    study.set(threshold={}, optimizer={"learning_rate": 0.001})
    assert study.jobs() == everything
    study.set(optimizer={"learning_rate": 0.03}, noise={"rate": 0.1})
    assert study.jobs()["make_labels"] == 1


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"source": "parquet", "path": "nowhere"}, "nowhere"),
        ({"source": "torchvision", "name": "cifar10", "path": "x", "download": False}, "parquet"),
    ],
)
def test_missing_images_are_told(new_study, dataset, words):
    new_study.config["datasets"]["procedural10"] = dataset
    new_study.write()
    printed = new_study.run(succeeds=False)
    assert "datasets.procedural10: " in printed and words in printed
    assert "Traceback" not in printed and "prepare_data" not in printed
    assert not list((new_study.folder / "results/demo/data").glob("*.safetensors"))
