"""On real interactions: no review of a validation or test interaction reaches an item's text.

The data has no reviews, so each of its interactions gets one made of words that no other has.
"""

import gzip
import json
import os
import re
from pathlib import Path

import polars as pl
import pytest

from gream_ext.data.stages import STAGE, PrepareSettings
from gream_ext.workspace import INTERACTIONS, REVIEWS, Workspace, read_table

SHARED = Path(os.environ.get("GREAM_SHARED_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.mark.integration
@pytest.mark.parametrize("name", ["beauty", "instruments"])
def test_no_held_out_review_stands_in_a_text(tmp_path: Path, name: str) -> None:
    if not (SHARED / name).is_dir():
        pytest.skip("no Amazon data here: set GREAM_SHARED_DATA")
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "interactions.csv.gz").symlink_to(SHARED / name / "interactions.csv.gz")
    frame = pl.read_csv(SHARED / name / "interactions.csv.gz", schema_overrides=[pl.String, pl.String, pl.Int32])
    with gzip.open(folder / "reviews.jsonl.gz", "wt", compresslevel=1) as file:
        for row, (user, item, position) in enumerate(frame.iter_rows()):
            # The last two of a user would win by helpfulness.
            told = {"user_id": user, "item_id": item, "text": f"review{row} " * 9, "rating": 5, "helpful": position}
            file.write(json.dumps(told) + "\n")
    workspace = Workspace(tmp_path / "run")
    STAGE.run(workspace, PrepareSettings(path=str(folder)))

    interactions = read_table(workspace.interactions, INTERACTIONS, "prepare")
    trained = interactions.filter(split="train").select("user_id", "item_id")
    texts = pl.read_parquet(workspace.items)["text"]
    rows = sorted({int(row) for row in re.findall(r"review(\d+)", "\n".join(texts))})
    shown = frame[rows].select("user_id", "item_id")
    assert len(shown) == len(read_table(workspace.reviews, REVIEWS, "prepare")) > 30_000
    assert shown.join(trained, on=["user_id", "item_id"], how="anti").is_empty()
