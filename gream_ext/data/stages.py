"""Stage ``prepare``: from a source to histories and items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gream_ext.data.sources import READERS, reader
from gream_ext.stage import Later, Stage, option
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class PrepareSettings:
    path: str = option(help="Folder of the source, or one file of it: the recbole wheel, a file of Amazon reviews.")
    source: str = option("table", help="What kind of data --path holds.", choices=tuple(READERS))
    k: int = option(5, least=0, help="Users and items keep at least this many interactions (k-core); 0 or 1 keeps all.")
    user_minimum: int | None = option(None, least=0, help="The minimum for users, where it is another than --k.")
    repeats: Literal["keep", "first", "last"] = option(
        "keep", help="Of a user's interactions with one item: all, the first or the last."
    )
    split: Literal["leave-one-out", "time"] = option(
        "leave-one-out", help="Held out are each user's last two interactions, or all after one point in time."
    )
    held_out: float = option(0.2, above=0, most=0.9, help="With --split time: this share, the later half as the test.")
    ties: Literal["file", "shuffle"] = option("file", help="Interactions at one time: as in the file, or at random.")
    seed: int = option(0, help="Draws the order of --ties shuffle.")
    ignored_fields: list[str] = option(
        ["asin", "url", "image", "images", "imUrl"], help="Fields of the items that are not text about them."
    )
    text_characters: int = option(2000, least=1, help="Longest text of an item, in characters, without its reviews.")
    reviews: int = option(4, least=0, help="Reviews in an item's text, where the source has any; 0 takes none.")
    review_tokens: int = option(256, least=0, help="Tokens that the reviews of an item may take together.")
    review_words: int = option(8, least=0, help="A review of fewer words is passed over.")
    tokenizer: str | None = option(None, help="Folder of the tokenizer that counts these tokens; none: an estimate.")


def _writes(workspace: Workspace, settings: PrepareSettings) -> Sequence[Path]:
    with_reviews = settings.reviews > 0 and reader(settings.source).has_reviews(Path(settings.path))
    reviews = [workspace.reviews] if with_reviews else []
    return [workspace.interactions, workspace.items, workspace.statistics, *reviews]


STAGE = Stage(
    name="prepare",
    settings=PrepareSettings,
    run=Later("gream_ext.data.prepare:prepare"),
    reads=lambda workspace, settings: reader(settings.source).files(Path(settings.path)),
    writes=_writes,
)
