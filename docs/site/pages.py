"""What the site says of commands, recipes and files, taken from the code when it is built (a hook of MkDocs)."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

from gream_ext import workspace
from gream_ext.pipeline.settings import default_of, is_required, kinds
from gream_ext.pipeline.table import TABLE
from gream_ext.workspace import Schema

ROOT = Path(__file__).resolve().parents[2]
OUTSIDE = re.compile(
    r"\[([^\]]+)\]\((?:\.\./)+((?:examples|recipes|tests|scripts|docker|gream_ext)[^)#]*)(?:#[^)]*)?\)"
)


def on_files(files: Files, config: Any) -> Files:
    """Add the pages that are made."""
    made = {
        "commands": commands(),
        "recipes": recipes(),
        "files": schemas(),
        "contributing": copied("CONTRIBUTING.md"),
        "changes": copied("CHANGELOG.md"),
    }
    for name, text in made.items():
        files.append(File.generated(config, f"reference/{name}.md", content=text))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to files of the repository that are no pages become their names."""
    return OUTSIDE.sub(
        lambda found: f"{found[1]} (`{found[2]}`)" if found[1] != found[2] else f"`{found[2]}`", markdown
    )


def commands() -> str:
    lines = [
        "# Commands and settings",
        "",
        "Look up every setting: each is an option of `gream COMMAND` and a key in a pipeline file (with `_`).",
        "",
    ]
    for name, entry in TABLE.items():
        fields = kinds(entry.load().settings)
        lines += [f"## gream {name}", "", entry.summary[0].upper() + entry.summary[1:] + ".", ""]
        lines += ["| option | default | |", "|---|---|---|"] if fields else []
        for option, (field, kind) in fields.items():
            said = _cell(field.metadata.get("help", "")) + _choices(kind)
            lines.append(f"| `--{option.replace('_', '-')}` | {_default(field)} | {said} |")
        lines.append("")
    return "\n".join(lines)


def _default(field: Any) -> str:
    value = None if is_required(field) else default_of(field)
    return "**required**" if is_required(field) else "" if value in (None, (), [], {}, "") else f"`{value}`"


def _choices(kind: Any) -> str:
    return f" ({', '.join(f'`{choice}`' for choice in kind.choices)})" if kind.choices else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")


def recipes() -> str:
    lines = ["# Recipes", "", "Look up what a recipe sets, and how it is launched.", ""]
    for title, folder in (("For LLaMA-Factory", ROOT / "recipes"), ("For Verl", ROOT / "recipes" / "gream")):
        lines += [f"## {title}", ""]
        for path in sorted(folder.glob("*.yaml")):
            lines += [f"### {path.stem}", "", *_head(path), "", "```yaml", *_body(path), "```", ""]
    return "\n".join(lines)


def _head(path: Path) -> list[str]:
    """The comment on top of a file."""
    lines = path.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    said = [line.lstrip("# ").strip() for line in lines[:end] if "@package" not in line]
    return [
        f"    {line}" if line.startswith(("python -m", "llamafactory-cli", "gream ", "make ")) else line
        for line in said
    ]


def _body(path: Path) -> Iterator[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    yield from lines[next(number for number, line in enumerate(lines) if not line.startswith("#")) :]


def schemas() -> str:
    lines = [
        "# Files of a workspace",
        "",
        "Look up the columns of each table. Tables are Parquet; the metadata key `gream` has kind and version.",
        "",
    ]
    for schema in vars(workspace).values():
        if isinstance(schema, Schema):
            lines += [f"## {schema.kind} (version {schema.version})", "", "| column | type |", "|---|---|"]
            lines += [f"| `{name}` | {kind} |" for name, kind in schema.columns.items()] + [""]
    return "\n".join(lines)


def copied(name: str) -> str:
    text = (ROOT / name).read_text(encoding="utf-8")
    return re.sub(r"\]\(docs/", "](../", text)
