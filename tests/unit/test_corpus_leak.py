"""Nothing of a validation or test interaction enters training text.

The strongest form of the claim: replace every validation and test interaction by another, and every training
file stays the same to the byte.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from gream_ext.corpus.stages import ALIGN, REASON, RL, AlignSettings, ReasonSettings, RlSettings
from gream_ext.corpus.tasks import TASKS
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import INTERACTIONS, ITEMS, Workspace, read_table, write_table
from tests.support.synthetic import make_workspace

SHARED = Path(os.environ.get("GREAM_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data"))
SEQUENTIAL = {task.name for task in TASKS.values() if task.family == "sequential"} | {
    "preference_summary",
    "intent_to_item",
}


def write_embeddings(workspace: Workspace) -> None:
    count = len(read_table(workspace.items, ITEMS, "prepare"))
    np.save(workspace.embeddings, np.random.default_rng(0).standard_normal((count, 8), dtype=np.float32))


def synthetic(folder: Path) -> Workspace:
    workspace = make_workspace(folder, users=40, items=60)
    write_embeddings(workspace)
    return workspace


def beauty(folder: Path) -> Workspace:
    """The real interactions, with identifiers that say nothing."""
    if not (SHARED / "beauty").exists():
        pytest.skip("no shared data")
    workspace = Workspace(folder)
    frame = pl.read_csv(SHARED / "beauty" / "interactions.csv.gz", schema_overrides=[pl.String, pl.String, pl.Int32])
    last = pl.len().over("user_id") - 1 - pl.col("position").rank("ordinal").over("user_id").cast(pl.Int32) + 1
    split = pl.when(last == 0).then(pl.lit("test")).when(last == 1).then(pl.lit("valid")).otherwise(pl.lit("train"))
    interactions = frame.with_columns(split=split, timestamp=pl.lit(None, dtype=pl.Int64))
    write_table(interactions, workspace.interactions, INTERACTIONS)
    items = pl.read_ndjson(SHARED / "beauty" / "items.jsonl.gz").with_columns(pl.col("item_id").cast(pl.String))
    items = items.filter(pl.col("item_id").is_in(frame["item_id"].unique().to_list())).select(
        "item_id",
        "title",
        brand=pl.lit(""),
        categories=pl.col("categories").list.first(),
        description=pl.lit(""),
        attributes=pl.lit([], dtype=pl.List(pl.String)),
        text=pl.col("title"),
    )
    write_table(items, workspace.items, ITEMS)
    codes = np.array([(row // 1024, row // 32 % 32, row % 32) for row in range(len(items))], dtype=np.int32)
    ItemIndex(tuple(items["item_id"]), codes, (32, 32, 32)).save(workspace.item_index)
    write_embeddings(workspace)
    return workspace


def write_training_data(workspace: Workspace) -> dict[str, str]:
    """Hashes of all that is trained on."""
    ALIGN.run(workspace, AlignSettings(epochs=2, max_rows=400))
    REASON.run(workspace, ReasonSettings(rows=300, epochs=2))
    RL.run(workspace, RlSettings(prompts=300, valid_users=5))
    files = (workspace.align, workspace.reason, workspace.corpus / "rejected.jsonl", workspace.rl_train)
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def replace_held_out(workspace: Workspace, item: str) -> None:
    """Every validation and test interaction becomes one with ``item``."""
    frame = read_table(workspace.interactions, INTERACTIONS, "prepare")
    held_out = pl.col("split") != "train"
    changed = pl.when(held_out).then(pl.lit(item)).otherwise(pl.col("item_id"))
    write_table(frame.with_columns(item_id=changed), workspace.interactions, INTERACTIONS)


@pytest.mark.parametrize(
    "make", [synthetic, pytest.param(beauty, marks=pytest.mark.integration)], ids=["synthetic", "beauty"]
)
def test_training_files_do_not_depend_on_held_out_interactions(
    make: Callable[[Path], Workspace], tmp_path: Path
) -> None:
    workspace = make(tmp_path)
    before = write_training_data(workspace)
    valid_before = workspace.rl_valid.read_bytes()
    replace_held_out(workspace, read_table(workspace.items, ITEMS, "prepare")["item_id"][0])
    assert write_training_data(workspace) == before
    # The test can fail: what validation prompts are made of did change.
    assert workspace.rl_valid.read_bytes() != valid_before


def test_an_item_that_only_held_out_interactions_have_is_in_no_history(tmp_path: Path) -> None:
    workspace = synthetic(tmp_path)
    frame = read_table(workspace.interactions, INTERACTIONS, "prepare")
    sentinel = read_table(workspace.items, ITEMS, "prepare")["item_id"][7]
    kept = frame.filter((pl.col("split") != "train") | (pl.col("item_id") != sentinel))
    write_table(kept, workspace.interactions, INTERACTIONS)
    replace_held_out(workspace, sentinel)
    write_training_data(workspace)
    identifier = ItemIndex.load(workspace.item_index).text(sentinel)
    rows = [json.loads(line) for line in workspace.align.read_text().splitlines()]
    with_it = {row["task"] for row in rows if identifier in json.dumps(row["messages"])}
    assert with_it and not with_it & SEQUENTIAL
    assert identifier not in workspace.reason.read_text()
    train = pl.read_parquet(workspace.rl_train)
    assert identifier not in json.dumps(train.select("prompt", "reward_model").to_dicts())
    valid = pl.read_parquet(workspace.rl_valid)
    assert all(row["ground_truth"] == identifier for row in valid["reward_model"].to_list())
    assert set(valid["extra_info"].struct.field("split")) == {"valid"}
    assert not any(identifier in message["content"] for prompt in valid["prompt"].to_list() for message in prompt)
