"""A page made from made-up tables, and how it is opened."""

import pytest
from figures.synthetic import write_experiment

from smoothdescent.cli import main

NAMES = ("convnet-cifar10-noise20", "convnet-cifar100")


@pytest.fixture
def open_page(browser):
    """Return a function that opens a file, at some address in it and some width of the window."""
    contexts = []

    def open_page(file, address="", width=1200):
        context = browser.new_context(viewport={"width": width, "height": 800}, offline=True)
        contexts.append(context)
        page = context.new_page()
        page.faults = []
        page.on("pageerror", lambda error: page.faults.append(str(error)))
        page.on("request", lambda r: page.faults.append(r.url) if "http" in r.url[:5] else None)
        page.set_default_timeout(240_000)
        page.goto(f"{file.as_uri()}{address}")
        page.wait_for_selector("body[data-ready=yes]", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """The page of two experiments with made-up tables, and their verdict."""
    folder = tmp_path_factory.mktemp("explore")
    tables = [str(write_experiment(folder, name)) for name in NAMES]
    verdict = [f"--output-{kind}={folder}/verdict.{kind}" for kind in ("parquet", "md", "html")]
    main(["verdict", "--tables", *tables, *verdict])
    output = folder / "explore.html"
    written = ["--verdict", f"{folder}/verdict.parquet", "--output", str(output)]
    main(["explore", "--tables", *tables, *written])
    return output
