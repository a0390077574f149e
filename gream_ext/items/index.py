"""The item index: item ↔ codes ↔ token strings ↔ token ids."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.identifiers import Identifier, tokens, vocabulary
from gream_ext.workspace import ITEM_INDEX, read_metadata, read_table, write_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_CODE = -1
"""Stands in `ItemIndex.codes` where an identifier has no conflict slot."""


@dataclass(frozen=True, eq=False)
class ItemIndex:
    """Which identifier each item has. No two items share one, and none is a prefix of another.

    ``codes`` is int32 [items, length], the last column the conflict slot where there is one,
    padded with `NO_CODE`. ``sizes`` is the number of codes each level may take, which for the
    slot leaves room for items added later.
    """

    item_ids: tuple[str, ...]
    codes: np.ndarray
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.codes.shape != (len(self.item_ids), len(self.sizes)):
            raise GreamError(
                f"item index: {len(self.item_ids)} items and {len(self.sizes)} levels, but codes of shape {self.codes.shape}"
            )
        if len(self.item_ids) != len(self.position):
            raise GreamError("item index: an item_id stands in it twice")
        outside = np.argwhere((self.codes >= np.array(self.sizes)) | (self.codes < NO_CODE))
        if len(outside):
            row, level = outside[0]
            raise GreamError(
                f"item index: item {self.item_ids[row]!r} has code {self.codes[row, level]} at level {level}, "
                f"outside 0…{self.sizes[level] - 1}"
            )
        if (self.codes[:, :-1] == NO_CODE).any():
            raise GreamError("item index: only the last level may be left out")
        seen: dict[Identifier, int] = {}
        for row, identifier in enumerate(self.identifiers):
            for known in (identifier, identifier[:-1]):
                if known in seen:
                    other = self.item_ids[seen[known]]
                    raise GreamError(
                        f"item index: the identifiers of items {other!r} and {self.item_ids[row]!r} are equal or one "
                        "is the prefix of the other: build it with a conflict slot"
                    )
            seen[identifier] = row
        # A short identifier after a long one that it is the prefix of.
        prefixes = {identifier[:-1]: row for identifier, row in seen.items() if len(identifier) == len(self.sizes)}
        for identifier, row in seen.items():
            if len(identifier) < len(self.sizes) and identifier in prefixes:
                raise GreamError(
                    f"item index: the identifier of item {self.item_ids[row]!r} is the prefix of that of "
                    f"{self.item_ids[prefixes[identifier]]!r}"
                )

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def length(self) -> int:
        """H of eqs 13–14: the levels of the longest identifier, conflict slot included."""
        return len(self.sizes)

    @cached_property
    def position(self) -> Mapping[str, int]:
        """Row of each item_id."""
        return {item: row for row, item in enumerate(self.item_ids)}

    @cached_property
    def identifiers(self) -> tuple[Identifier, ...]:
        """Identifier of each row, as token strings."""
        return tuple(tokens(code for code in row if code != NO_CODE) for row in self.codes.tolist())

    @cached_property
    def _items(self) -> Mapping[Identifier, str]:
        return dict(zip(self.identifiers, self.item_ids, strict=True))

    def identifier(self, item_id: str) -> Identifier:
        """The identifier of an item; `GreamError` when there is no such item."""
        try:
            return self.identifiers[self.position[item_id]]
        except KeyError:
            raise GreamError(f"item {item_id!r} is not in the item index") from None

    def text(self, item_id: str) -> str:
        """The identifier of an item as it stands in a prompt."""
        return "".join(self.identifier(item_id))

    def item(self, identifier: Sequence[str]) -> str | None:
        """The item that an identifier names, or None."""
        return self._items.get(tuple(identifier))

    @property
    def vocabulary(self) -> list[str]:
        """Every identifier token a tokenizer must know, level by level."""
        return vocabulary(self.sizes)

    def token_ids(self, tokenizer: "PreTrainedTokenizerBase") -> np.ndarray:
        """Token ids, int64 [items, length], padded with `NO_CODE`.

        `GreamError` when the tokenizer lacks a token or splits it.
        """
        known = tokenizer.get_added_vocab()
        missing = [token for token in self.vocabulary if token not in known]
        if missing:
            raise GreamError(
                f"the tokenizer lacks {len(missing)} identifier tokens, the first {missing[0]}: make the model "
                "with `gream base-model` from this item index"
            )
        starts = np.cumsum([0, *self.sizes[:-1]])
        ids = np.array([known[token] for token in self.vocabulary], dtype=np.int64)
        return np.where(self.codes == NO_CODE, NO_CODE, ids[np.maximum(self.codes, 0) + starts])

    def save(self, path: Path, metadata: Mapping[str, Any] | None = None) -> None:
        """Write one Parquet file, whole; ``metadata`` (JSON values) travels in it."""
        import polars as pl

        codes = [[code for code in row if code != NO_CODE] for row in self.codes.tolist()]
        frame = pl.DataFrame({"item_id": list(self.item_ids), "codes": codes}, schema_overrides={"codes": pl.List(pl.Int32)})
        write_table(frame, path, ITEM_INDEX, {**(metadata or {}), "sizes": list(self.sizes)})

    @classmethod
    def load(cls, path: Path) -> "ItemIndex":
        """Read and check an index; `GreamError` names what is wrong with the file."""
        try:
            sizes = tuple(int(size) for size in read_metadata(path, ITEM_INDEX, "index build")["sizes"])
            frame = read_table(path, ITEM_INDEX, "index build")
            codes = np.full((len(frame), len(sizes)), NO_CODE, dtype=np.int32)
            for row, values in enumerate(frame["codes"].to_list()):
                if not len(sizes) - 1 <= len(values) <= len(sizes):
                    raise GreamError(f"item {frame['item_id'][row]!r} has {len(values)} codes, not {len(sizes)}")
                codes[row, : len(values)] = values
            return cls(tuple(frame["item_id"].to_list()), codes, sizes)
        except GreamError as error:
            raise GreamError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
        except (KeyError, TypeError, ValueError) as error:
            raise GreamError(f"{path} is damaged ({error!r}): run `gream index build` again") from None
