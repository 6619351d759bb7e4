"""The source files whose code determines a network's results."""

import importlib
import sys
from pathlib import Path

import pytest

from smoothdescent.errors import UserError
from smoothdescent.networks.registry import network_sources
from smoothdescent.source_code import code_digest

LAYER = "def layer(n):\n    return n\n"
FILES = {
    "sources_net.py": """
import sources_helper, torch
from sources_package import part
def net(width):
    from sources_late import late
    import never_installed_anywhere
def other(width): pass
""",
    "sources_helper.py": "from sources_deep import *\n",
    "sources_deep.py": "import sources_net\nVALUE = 1\n",
    "sources_late.py": "late = 2\n",
    "sources_apart.py": "unused = 3\n",
    "sources_package/__init__.py": "",
    "sources_package/part.py": "from .inner.leaf import LEAF\nfrom . import sibling\n",
    "sources_package/sibling.py": "",
    "sources_package/apart.py": "",
    "sources_package/inner/__init__.py": "from ..common import COMMON\n",
    "sources_package/inner/leaf.py": "LEAF = 1\n",
    "sources_package/common.py": "COMMON = 1\n",
    "sources_package/nets.py": "from .inner import leaf\ndef net(width): pass\n",
    "sources_again.py": "from sources_net import net\n",
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path.resolve()
    for name in [name for name in sys.modules if name.startswith("sources_")]:
        del sys.modules[name]


PACKAGE = {
    *("sources_package/__init__.py", "sources_package/inner/__init__.py"),
    *("sources_package/inner/leaf.py", "sources_package/common.py"),
}
NET = {
    *("sources_net.py", "sources_helper.py", "sources_deep.py", "sources_late.py"),
    *("sources_package/part.py", "sources_package/sibling.py"),
}


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("sources_net:net", NET | PACKAGE),
        ("sources_again:net", {"sources_again.py"} | NET | PACKAGE),
        ("sources_package.nets:net", {"sources_package/nets.py"} | PACKAGE),
    ],
)
def test_all_that_a_network_imports_from_its_folder(folder, network, expected):
    found = {str(path.relative_to(folder)) for path in network_sources(network)}
    assert found == expected
    assert "never_installed_anywhere" not in sys.modules and "sources_late" not in sys.modules


def test_a_helper_of_a_helper_is_part_of_the_code(folder):
    before = code_digest(*network_sources("sources_net:net"))
    (folder / "sources_apart.py").write_text("unused = 4\n")
    assert code_digest(*network_sources("sources_net:net")) == before
    (folder / "sources_deep.py").write_text("import sources_net\nVALUE = 2\n")
    assert code_digest(*network_sources("sources_net:net")) != before


def test_installed_and_shipped_networks_are_their_own_file_alone():
    assert [path.name for path in network_sources("convnet")] == ["convnet.py"]
    [path] = network_sources("torchvision.models:resnet18")
    assert path.name == "resnet.py" and "torchvision" in Path(path).parts


def test_a_factory_without_source(folder):
    with pytest.raises(UserError, match="is a partial without source"):
        (folder / "sources_partial.py").write_text(
            "import functools\nfrom sources_net import net\npartial = functools.partial(net)\n"
        )
        network_sources("sources_partial:partial")
