"""What MkDocs makes of sources that are not pages: README, docstrings, the schema, and formulas.

The sources stay readable on GitHub: formulas are its ```math blocks and $`...`$, and a link to a
function is one to its file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from latex2mathml.converter import convert
from markdown import Markdown
from markdown.extensions import Extension
from markdown.inlinepatterns import InlineProcessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "src/smoothdescent"
# In JSON schemas, and as pydantic writes limits of an annotated type.
LIMITS = {"minimum": "≥", "ge": "≥", "exclusiveMinimum": ">", "gt": ">"}
LIMITS |= {"maximum": "≤", "le": "≤", "exclusiveMaximum": "<", "lt": "<"}
TYPES = {"integer": "whole number", "number": "number", "string": "text", "boolean": "true, false"}
TYPES["null"] = "null"
SOURCE_LINK = re.compile(r"\[`([\w.]+)`\]\(\.\./src/([\w/]+)\.py\)")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Let Markdown read GitHub's two notations of formulas."""
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences["custom_fences"] = [{"name": "math", "class": "math", "format": _block}]
    config.markdown_extensions.append(_InlineFormulas())
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the start page, and a page of the API for each folder of the package."""
    start = (REPOSITORY / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    pages = {"index.md": start, "api/shared.md": "# Shared by all stages\n"}
    for path in sorted(PACKAGE.iterdir()):
        if (path / "__init__.py").exists():
            top = "    options: {heading_level: 1}\n"
            pages[f"api/{path.name}.md"] = f"::: smoothdescent.{path.name}\n{top}"
        elif path.suffix == ".py" and "__" not in path.stem:
            pages["api/shared.md"] += f"\n::: smoothdescent.{path.stem}\n"
    for name, content in pages.items():
        files.append(File.generated(config, name, content=content))
    css = Path(__file__).with_name("site.css")
    files.append(File.generated(config, css.name, abs_src_path=str(css)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Lead links to functions to their API, and list the keys of the configuration."""
    if page.file.src_uri == "configuration.md":
        from smoothdescent.config.schema import Study

        study = Study.model_json_schema()
        markdown += "\n" + "\n".join(_sections(study, study))
    return SOURCE_LINK.sub(
        lambda link: f"[`{link[1]}`][{link[2].replace('/', '.')}.{link[1]}]", markdown
    )


def _block(source: str, *_: Any, **__: Any) -> str:
    return f'<div class="formula">{convert(source, display="block")}</div>'


class _InlineFormulas(Extension):
    def extendMarkdown(self, md: Markdown) -> None:
        md.inlinePatterns.register(_Inline(r"\$`([^`]+)`\$", md), "formula", 195)  # before code


class _Inline(InlineProcessor):
    def handleMatch(self, m: re.Match[str], data: str) -> tuple[str | Element, int, int]:
        return self.md.htmlStash.store(convert(m[1])), m.start(0), m.end(0)


def _sections(
    study: dict[str, Any], block: dict[str, Any], path: str = "", note: str = ""
) -> Iterator[str]:
    """Yield the lines of a block's table, and then those of the blocks in it.

    Args:
        study: the JSON schema of the study, to whose `$defs` blocks refer.
        block: the block's own.
        path: the keys that lead to it.
        note: what the block that it is in says of it.
    """
    fields = sorted(block["properties"].items(), key=lambda item: "const" not in item[1])
    kinds = "".join(f" ({key}: {field['const']})" for key, field in fields if "const" in field)
    title = path.removeprefix("experiments.NAME.")
    level = "##" if title == path else "###"
    yield f"\n{level} {title or 'The study'}{kinds}\n\n{block['description']} {note}\n"
    yield "| key | value | default | meaning |\n| --- | --- | --- | --- |"
    inner = []
    for key, field in fields:
        named = "patternProperties" in field
        below = f"{path}.{key}".removeprefix(".") + (".NAME" if named else "")
        blocks = [*_blocks(field, study["$defs"])]
        meaning = field.get("description", "").replace("*", r"\*")
        note = f"{meaning[:1].upper()}{meaning[1:]}." if meaning else ""
        inner += [(found, below, note) for found in blocks]
        value = ("blocks with names" if named else "a block") if blocks else _value(field)
        default = json.dumps(field["default"]).strip('"') if "default" in field else ""
        cells = (f"`{key}`", value, default and f"`{default}`", "see below" if blocks else meaning)
        yield f"| {' | '.join(cells)} |"
    for arguments in inner:
        yield from _sections(study, *arguments)


def _blocks(field: dict[str, Any], defs: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the schemas of the blocks that a value may be, or that it holds by name."""
    if "$ref" in field:
        yield defs[field["$ref"].rpartition("/")[2]]
    choices = (field.get("anyOf", ()), field.get("oneOf", ()))
    for choice in (*choices[0], *choices[1], *field.get("patternProperties", {}).values()):
        yield from _blocks(choice, defs)


def _value(field: dict[str, Any]) -> str:
    """Say of which type a value is, and within which limits."""
    if "anyOf" in field:
        return "; or ".join(map(_value, field["anyOf"]))
    if found := field.get("enum", [field["const"]] if "const" in field else ()):
        return ", ".join(f"`{value}`" for value in found)
    if items := field.get("prefixItems"):
        return f"list of {len(items)}: {_value(items[0])}"
    if "items" in field:
        return f"list of: {_value(field['items'])}"
    limits = [
        f"{sign}\N{NO-BREAK SPACE}{field[key]:g}" for key, sign in LIMITS.items() if key in field
    ]
    return f"{TYPES[field['type']]} {', '.join(limits)}".strip()
