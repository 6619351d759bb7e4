"""The documentation as a site: it builds without a warning, and what it says of the code is so."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from smoothdescent import __version__
from smoothdescent.config.schema import Study
from smoothdescent.verdict.statements import STATEMENTS

REPOSITORY = Path(__file__).parents[1]
DOCS = REPOSITORY / "docs"
FORMULAS = (DOCS / "concepts.md").read_text(encoding="utf-8").count("```math")
FORMS = sorted((REPOSITORY / ".github/ISSUE_TEMPLATE").iterdir())
LINKS = re.findall(r"\[`(\w+)`\]\((\S+)\)", (DOCS / "paper-to-code.md").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("name", "file"), sorted(set(LINKS)))
def test_the_paper_leads_to_code_that_exists(name, file):
    tree = ast.parse((DOCS / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if hasattr(node, "name")}


def test_the_paper_leads_to_every_statement():
    page = (DOCS / "paper-to-code.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d+) \| (.*?) \|", page, re.M))
    assert rows == {str(number): found.text for number, found in STATEMENTS.items()}


def test_every_key_of_the_configuration_is_described():
    study = Study.model_json_schema()
    described = {}  # of blocks, by what the blocks that hold them say of them
    for block in (study, *study["$defs"].values()):
        for field in block["properties"].values():
            for name in re.findall(r"#/\$defs/(\w+)'}", str(field)):
                described[name] = field.get("description", "")
    for name, block in {"Study": study, **study["$defs"]}.items():
        for key, field in block["properties"].items():
            alone = "description" in field or "const" in field or "$defs" in str(field)
            assert alone or f"`{key}`" in described[name], f"{name}.{key}"


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == __version__
    [paper] = citation["references"]
    assert len(paper["authors"]) == 4


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.name)
def test_issue_forms_have_what_github_asks_for(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert form.keys() >= {"name", "description", "body"}
    assert len({field["id"] for field in form["body"]}) == len(form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site, whose hook reads the package of this checkout."""
    folder = tmp_path_factory.mktemp("site")
    config = DOCS / "site/mkdocs.yml"
    command = ["-m", "mkdocs", "build", "--strict", "-f", str(config), "-d", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src")}
    built = subprocess.run(
        [sys.executable, *command], env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr
    return folder


@pytest.mark.slow
def test_formulas_and_keys_are_in_the_site(site):
    concepts = (site / "concepts.html").read_text(encoding="utf-8")
    assert (
        concepts.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"')
        == FORMULAS
    )
    assert "$" not in re.sub(r"<script.*?</script>", "", concepts, flags=re.S)
    configuration = (site / "configuration.html").read_text(encoding="utf-8")
    assert "warmup_epochs" in configuration and "learning_rate" in configuration
    assert '<a href="api/sharpness.html#smoothdescent.sharpness.measures.jacobian_norm"' in re.sub(
        r' class="[^"]*"| title="[^"]*"', "", (site / "paper-to-code.html").read_text()
    )


@pytest.mark.slow
def test_the_site_loads_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(
            r'<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="(https?:[^"]*)', text
        )
        assert not loaded, page
