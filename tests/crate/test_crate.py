"""A finished study, packed: by the rules of RO-Crate and Croissant, whole, and of one origin."""

import io
import json
import logging
import shutil
import subprocess
import sys
import zipfile

import mlcroissant
import pytest
import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests_cache import CachedSession
from rocrate.rocrate import ROCrate
from rocrate.vocabs import RO_CRATE
from rocrate_validator import models, services
from workflow.study import NAME, SIZES

from smoothdescent.cli import main
from smoothdescent.config.load import read_yaml, resolve
from smoothdescent.files import read_metadata, read_table

pytestmark = [
    pytest.mark.slow,
    # Of rdflib and of pandas, as the validators call them.
    pytest.mark.filterwarnings("ignore:ConjunctiveGraph is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning"),
]
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
# What is recommended and not there: authors add themselves; libraries have a name and a version.
# The last is said of two classes, not of an entity.
LEFT_OUT = ("`author`", "an agent", "`publisher`", "have a url", "id SHOULD be an absolute URI")


@pytest.fixture(scope="module")
def study(finished_study):
    """The results folder of a finished study."""
    return finished_study.folder / "results/demo"


@pytest.fixture(scope="module")
def crate(study, tmp_path_factory):
    """Its crate, a folder."""
    output = tmp_path_factory.mktemp("published") / "crate"
    main(["crate", str(study), "--output", str(output)])
    return output


@pytest.fixture
def copy(study, tmp_path):
    """A copy of the study that a test may damage."""
    return shutil.copytree(study, tmp_path / "demo")


def refusal(capsys, *arguments):
    with pytest.raises(SystemExit) as done:
        main(["crate", *map(str, arguments)])
    assert done.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    return line


def files_below(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def issues(tmp_path_factory):
    """Return a function that returns what the validator says, which looks nothing up.

    Its store of pages holds the terms of RO-Crate 1.1; without them it would see an empty crate.
    They are made of the later ones that the library has.
    """
    terms = dict(RO_CRATE["@context"])
    terms["ComputationalWorkflow"] = "https://bioschemas.org/ComputationalWorkflow"
    del terms["sha256"]
    body = io.BytesIO(json.dumps({"@context": terms}).encode())
    headers = {"Content-Type": "application/ld+json"}
    raw = urllib3.HTTPResponse(body, headers, 200, preload_content=False)
    store = tmp_path_factory.mktemp("validator") / "pages"
    with CachedSession(str(store), backend="sqlite", expire_after=-1) as session:
        request = requests.Request("GET", CONTEXT).prepare()
        session.cache.save_response(HTTPAdapter().build_response(request, raw))

    def issues(crate, severity):
        settings = models.ValidationSettings(
            rocrate_uri=str(crate),
            profile_identifier="workflow-run-crate",
            requirement_severity=severity,
            offline=True,
            cache_path=store,
        )
        return [issue.message for issue in services.validate(settings).get_issues()]

    return issues


def test_it_follows_the_profile(crate, issues):
    found = issues(crate, models.Severity.RECOMMENDED)
    assert [m for m in found if not any(word in m for word in LEFT_OUT)] == []


def test_the_validator_finds_what_is_missing(crate, issues, tmp_path):
    broken = shutil.copytree(crate, tmp_path / "broken")
    path = broken / "ro-crate-metadata.json"
    path.write_text(path.read_text().replace('"instrument"', '"tool"'))
    found = issues(broken, models.Severity.REQUIRED)
    assert any("instrument property" in message for message in found)


def test_every_file_is_described(crate):
    described = {e.id for e in ROCrate(crate).data_entities}
    assert described == files_below(crate) - {"ro-crate-metadata.json"}


def test_what_was_made_from_what(crate, study):
    read = ROCrate(crate)
    root = read.root_dataset
    assert root["description"].startswith("At this scale 0 of 15 findings hold")
    action = root["mentions"]
    assert action["instrument"] is read.mainEntity
    assert read.mainEntity.id == "Snakefile"
    assert [entity.id for entity in action["object"]] == ["config.yaml", "#procedural10"]
    results = {entity.id for entity in action["result"]}
    for name in ("verdict.md", "figures/figure1.pdf", f"{NAME}/sharpness.parquet"):
        assert f"results/demo/{name}" in results
        assert (crate / "results/demo" / name).read_bytes() == (study / name).read_bytes()
    assert not any("runs/" in name for name in results), "weights are packed when asked for"
    assert action["startTime"] <= action["endTime"]
    said = read_metadata(study / NAME / "history.parquet")
    versions = {e["name"]: e["softwareVersion"] for e in read.mainEntity["softwareRequirements"]}
    assert json.loads(said["library_versions"]).items() <= versions.items()
    assert (
        read.get("#procedural10")["identifier"]
        == (read_metadata(study / "data/procedural10.safetensors")["sha256"])
    )


def test_its_configuration_makes_the_study_again(crate, study):
    packed = resolve(read_yaml(crate / "config.yaml"))
    said = read_metadata(study / NAME / "history.parquet")
    assert packed.resolved(NAME).identity == said["config_hash"]
    graph = (crate / "rulegraph.dot").read_text()
    assert graph.startswith("digraph") and "decide_verdict" in graph


def test_its_workflow_runs_in_it(crate, tmp_path):
    here = shutil.copytree(crate, tmp_path / "unpacked")
    (here / "results/demo/figures/figure3.pdf").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "--cores", "1", "figure3"],
        cwd=here,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (here / "results/demo/figures/figure3.pdf").exists()


def test_the_tables_are_described_in_croissant(crate, study, caplog):
    with caplog.at_level(logging.WARNING):
        described = mlcroissant.Dataset(jsonld=crate / "croissant.json")
    assert not described.metadata.issues.errors
    assert not any("@context" in message for message in caplog.messages)
    for name in ("labels", "history", "sharpness", "samples"):
        table = read_table(study / NAME / f"{name}.parquet")
        records = list(described.records(record_set=f"{NAME}/{name}"))
        assert len(records) == table.num_rows
        assert len(records[0]) == len(table.column_names)
    [history] = [s for s in described.metadata.record_sets if s.name == f"{NAME}/history"]
    about = {field.name: field.description for field in history.fields}
    assert about["width"] == "base width w"
    assert all(about.values())


def test_a_zip_with_weights(study, crate, issues, tmp_path):
    output = tmp_path / "small.zip"
    main(["crate", str(study), "--output", str(output), "--weights"])
    packed = set(zipfile.ZipFile(output).namelist())
    weights = {
        f"results/demo/{NAME}/runs/w{width}_s{seed}/snapshots/e{epoch}.safetensors"
        for width in SIZES["widths"]
        for seed in SIZES["seeds"]
        for epoch in (0, 1, 4)
    }
    assert packed == files_below(crate) | weights
    assert issues(output, models.Severity.REQUIRED) == []


@pytest.mark.parametrize(
    "product",
    ["verdict.parquet", f"{NAME}/history.parquet", "figures/figure2.png", "explore.html"],
)
def test_an_unfinished_study_is_refused(copy, product, capsys):
    (copy / product).unlink()
    assert product in (error := refusal(capsys, copy))
    assert "`snakemake --config scale=demo` finishes it" in error
    assert not (copy / "crate").exists()


def test_a_damaged_study_is_refused(copy, capsys):
    path = copy / NAME / "sharpness.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert f"{path} is damaged" in refusal(capsys, copy)


def test_a_missing_snapshot_is_refused_with_weights(copy, capsys):
    (copy / NAME / "runs/w1_s0/snapshots/e4.safetensors").unlink()
    assert "runs/w1_s0/snapshots/e4.safetensors" in refusal(capsys, copy, "--weights")
    assert not (copy / "crate").exists()


def test_figures_of_other_tables_are_refused(copy, capsys):
    """The tables and the verdict were made again, and a figure was not drawn again."""
    folder = copy / NAME
    said = read_metadata(folder / "history.parquet")
    settings = {key: json.loads(said[f"{key}_config"]) for key in ("experiment", "dataset")}
    settings["experiment"]["threshold"]["accuracy"] = 0.5
    main([
        "tables", "--settings", json.dumps({"name": NAME, **settings}),
        "--labels", f"{folder}/labels.parquet", "--folder", f"{folder}/runs",
        "--output-samples", f"{folder}/samples.parquet",
        "--output-history", f"{folder}/history.parquet",
        "--output-sharpness", f"{folder}/sharpness.parquet",
        "--output-config", f"{folder}/config.yaml",
    ])  # fmt: skip
    assert "history.parquet: its sha256" in refusal(capsys, copy)
    outputs = [f"--output-{kind}={copy}/verdict.{kind}" for kind in ("parquet", "md", "html")]
    main(["verdict", "--tables", str(folder), *outputs])
    capsys.readouterr()
    assert "figure1.parquet: its sources" in refusal(capsys, copy)


@pytest.mark.parametrize("name", ["taken", "taken.zip"])
def test_nothing_is_overwritten(study, tmp_path, capsys, name):
    (tmp_path / name).write_text("mine")
    assert "which exists" in refusal(capsys, study, "--output", tmp_path / name)
    assert (tmp_path / name).read_text() == "mine"
    assert list(tmp_path.iterdir()) == [tmp_path / name]
