"""Where a recommender comes from: a workspace, or a folder that `export` wrote for another machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gream_ext.base_model.model_format import ModelFormat, read_format
from gream_ext.data.histories import training_histories
from gream_ext.errors import GreamError
from gream_ext.inference.export_format import TRIE, read_manifest
from gream_ext.inference.sharing import find_export
from gream_ext.inference.titles import Titles
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import INTERACTIONS, Workspace, read_table

MODELS = ("srpo", "sft")
"""The models that can recommend."""
MADE_BY = {"base_model": "base-model", "sft": "sft", "srpo": "rl"}
"""The commands that make the models."""


@dataclass(frozen=True)
class Source:
    """Everything a recommender is made of, without the model's weights in memory."""

    name: str
    model: Path
    index: ItemIndex
    titles: Titles
    how: ModelFormat
    """How the model is asked, and what made it."""
    repeats: bool
    """Whether users of its data come back to the same item; where they do not, what was seen is not recommended."""
    trie: Path | None = None
    histories: Callable[[], Mapping[str, tuple[str, ...]]] = dict
    """Every known user's items, oldest first: all of them, for what comes next is asked now."""
    training: Callable[[], Mapping[str, tuple[str, ...]]] = dict
    """What of them the model was trained on: all that a prior may count."""

    def __post_init__(self) -> None:
        missing = [item for item in self.index.item_ids if item not in self.titles]
        if missing:
            raise GreamError(f"item {missing[0]!r} of the item index stands not among the items: build the index again")
        if len(self.titles) > len(self.index):  # prepared, and not in the index yet
            object.__setattr__(self, "titles", self.titles.subset(self.index.item_ids))


def workspace_source(workspace: Workspace, model: str | None = None) -> Source:
    """The named model of a workspace, or the one that was trained last."""
    model = model or latest_model(workspace)
    folder = workspace.model(model)
    if not (folder / "config.json").exists():
        if model not in MADE_BY:
            raise GreamError(f"--model {model}: {folder} is no model folder; give sft or srpo")
        raise GreamError(f"{folder} is no model folder: run `gream {MADE_BY[model]}` first")
    return Source(
        name=model,
        model=folder,
        index=ItemIndex.load(workspace.item_index),
        titles=Titles.load(workspace.items),
        how=read_format(folder),
        repeats=has_repeats(workspace),
        histories=lambda: all_histories(workspace),
        training=lambda: training_histories(workspace),
    )


def latest_model(workspace: Workspace) -> str:
    """The name of the model that was trained last; `GreamError` when there is none."""
    made = {name: path.stat().st_mtime for name in MODELS if (path := workspace.model(name) / "config.json").exists()}
    if not made:
        raise GreamError(f"{workspace.root} has no trained model: run `gream sft` first")
    return max(made, key=lambda name: made[name])


def export_source(folder: Path, name: str | None = None) -> Source:
    """What `export` wrote, after checking that it is whole and nothing else; ``name`` is what people call it."""
    about, how = read_manifest(folder)
    return Source(
        name=f"{about['model']} of {name or folder.resolve().name}",
        model=folder / "model",
        index=ItemIndex.load(folder / "item_index.parquet"),
        titles=Titles.load(folder / "items.parquet"),
        how=how,
        repeats=about.get("repeats") is True,
        trie=folder / TRIE,
    )


def find_source(workspace: Workspace, model: str | None, export: str | None) -> Source:
    """The export where one is named, a folder or a name on the Hugging Face hub, the workspace otherwise."""
    if not export:
        return workspace_source(workspace, model)
    folder = find_export(export)
    return export_source(folder, None if folder == Path(export).expanduser() else export)


def all_histories(workspace: Workspace) -> dict[str, tuple[str, ...]]:
    """Item ids of each user, oldest first, the last interactions included."""
    frame = read_table(workspace.interactions, INTERACTIONS, "prepare").sort("position", maintain_order=True)
    grouped = frame.group_by("user_id", maintain_order=True).agg("item_id")
    return {user: tuple(items) for user, items in zip(grouped["user_id"], grouped["item_id"].to_list(), strict=True)}


def has_repeats(workspace: Workspace) -> bool:
    """Whether a user of the interactions has the same item twice."""
    frame = read_table(workspace.interactions, INTERACTIONS, "prepare")
    return frame.select("user_id", "item_id").is_duplicated().any()


def known_items(titles: Titles, item_ids: Sequence[str]) -> tuple[str, ...]:
    """The items as they are; `GreamError` names the first unknown one and what it may have been meant to be."""
    for item in item_ids:
        if item not in titles:
            near = ", ".join(f"{one} ({titles.title(one)})" for one in titles.search(item, 3))
            hint = f"; by that title there are {near}" if near else ""
            raise GreamError(
                f"item {item!r} is not in the catalogue{hint}: `gream recommend --search WORDS` finds items by title"
            )
    return tuple(item_ids)
