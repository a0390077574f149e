"""The files of a run: where they are, what is in them, and how they are written.

A workspace is one folder. Every stage reads files in it and writes files in it; this module
is the only place that knows their names and their columns.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gream_ext import __version__
from gream_ext.drafts import whole as whole
from gream_ext.errors import GreamError

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class Schema:
    """The columns of one kind of Parquet file; ``kind`` and ``version`` stand in its metadata."""

    kind: str
    version: int
    columns: Mapping[str, str]
    """Column name to polars type: String, Int32, Int64, Float32, Bool, List(String), List(Int32) …"""


INTERACTIONS = Schema(
    "interactions",
    1,
    {
        "user_id": "String",
        "item_id": "String",
        "position": "Int32",  # place in the user's history, from 0, oldest first
        "timestamp": "Int64",  # seconds, null where the source has none
        "split": "String",  # train, valid (the last but one), test (the last); split by time: context (gream_ext.data)
    },
)
ITEMS = Schema(
    "items",
    1,
    {
        "item_id": "String",
        "title": "String",
        "brand": "String",
        "categories": "List(String)",
        "description": "String",
        "attributes": "List(String)",  # "name: value"
        "text": "String",  # the composite text
    },
)
REVIEWS = Schema(
    "reviews",
    1,
    {
        "item_id": "String",
        "user_id": "String",
        "rating": "Float32",  # stars; 0 where the source has none
        "helpful": "Int32",  # votes for, less votes against where they are counted
        "text": "String",  # as far as it stands in the composite text
    },
)
ITEM_INDEX = Schema("item_index", 1, {"item_id": "String", "codes": "List(Int32)"})


class _File:
    """A file of a run by its parts below the workspace's folder."""

    def __init__(self, *parts: str):
        self.parts = parts

    def __get__(self, workspace: "Workspace", owner: type) -> Path:
        return workspace.root.joinpath(*self.parts)


class Workspace:
    """Paths of one run. Makes no folder until something is written."""

    interactions = _File("interactions.parquet")
    items = _File("items.parquet")
    reviews = _File("reviews.parquet")  # those that stand in the composite texts, where the source has reviews
    statistics = _File("statistics.json")
    enriched = _File("enriched.jsonl")  # the ledger of the enrichment: one JSON line an item
    embeddings = _File("embeddings.npy")  # float32 [items, width], rows in the order of `items`
    item_index = _File("item_index.parquet")
    codebooks = _File("codebooks.safetensors")
    corpus = _File("corpus")  # the folder that LLaMA-Factory gets as ``dataset_dir``
    align = _File("corpus", "align.jsonl")
    reason = _File("corpus", "reason.jsonl")
    rl_train = _File("rl", "train.parquet")
    rl_valid = _File("rl", "valid.parquet")

    def __init__(self, root: str | Path):
        self.root = Path(root)

    def __repr__(self) -> str:
        return f"Workspace({str(self.root)!r})"

    def path(self, *parts: str) -> Path:
        return self.root.joinpath(*parts)

    def model(self, name: str) -> Path:
        """The folder of a model: ``base_model``, ``sft``, ``srpo``."""
        return self.path(name)

    def evaluation(self, model: str, mode: str, split: str) -> Path:
        """The stem of an evaluation's files: ``.parquet`` per user, ``.json`` summary."""
        return self.path("evaluation", model, f"{mode}-{split}")

    def log(self, name: str) -> Path:
        return self.path("logs", f"{name}.log")


def write_json(path: Path, value: Any) -> None:
    with whole(path) as draft:
        draft.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path, made_by: str) -> dict[str, Any]:
    """The object of a JSON file; ``made_by`` is the command that makes it, for the error message."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GreamError(f"{path} is missing: run `gream {made_by}` first") from None
    except (ValueError, RecursionError) as error:
        raise GreamError(f"{path} is damaged ({error}): run `gream {made_by}` again") from None
    if not isinstance(value, dict):
        raise GreamError(f"{path} is damaged (it holds no JSON object): run `gream {made_by}` again")
    return value


def read_lines(path: Path, made_by: str, of: Callable[[Any], Any]) -> Iterator[Any]:
    """What ``of`` makes of each line of a file of JSON lines; `GreamError` for a line that it fails at."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                made = of(json.loads(line))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise GreamError(f"{path}, line {number} is damaged ({error}): run `gream {made_by}` again") from None
            yield made


def write_table(frame: "pl.DataFrame", path: Path, schema: Schema, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a table whole, with its kind, version and ``metadata`` (JSON values) in the file."""
    import polars as pl

    table = frame.select(pl.col(name).cast(_polars_type(kind)) for name, kind in schema.columns.items())
    about = {"kind": schema.kind, "version": schema.version, "gream_ext": __version__, **(metadata or {})}
    with whole(path) as draft:
        table.write_parquet(draft, metadata={"gream": json.dumps(about)})


def read_metadata(path: Path, schema: Schema, made_by: str) -> dict[str, Any]:
    """What stands in a table's metadata, after checking that it is of this kind and version."""
    import polars as pl

    if not path.exists():
        raise GreamError(f"{path} is missing: run `gream {made_by}` first")
    try:
        about = json.loads(pl.read_parquet_metadata(path).get("gream", "{}"))
    except Exception as error:
        raise GreamError(f"{path} is not a readable Parquet file ({error}): run `gream {made_by}` again") from None
    if not isinstance(about, dict) or about.get("kind") != schema.kind:
        raise GreamError(f"{path} is not a file of kind {schema.kind!r}: run `gream {made_by}`")
    if about.get("version") != schema.version:
        raise GreamError(
            f"{path} has version {about.get('version')}, this gream_ext {__version__} reads "
            f"version {schema.version}: run `gream {made_by}` again"
        )
    return dict(about)


def read_table(path: Path, schema: Schema, made_by: str) -> "pl.DataFrame":
    """Read a table and check kind, version and columns."""
    import polars as pl

    read_metadata(path, schema, made_by)
    try:
        frame = pl.read_parquet(path)
    except Exception as error:
        raise GreamError(f"{path} is damaged ({error}): run `gream {made_by}` again") from None
    for name, kind in schema.columns.items():
        if name not in frame.columns or frame.schema[name] != _polars_type(kind):
            raise GreamError(f"{path} has no column {name!r} of type {kind}: run `gream {made_by}` again")
    return frame


def _polars_type(kind: str) -> Any:
    import polars as pl

    if kind.startswith("List("):
        return pl.List(_polars_type(kind[5:-1]))
    return getattr(pl, {"Bool": "Boolean"}.get(kind, kind))
