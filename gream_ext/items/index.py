"""The item index: item ↔ codes ↔ token strings ↔ token ids."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.identifiers import LEVEL_LETTERS, Identifier, tokens, vocabulary
from gream_ext.workspace import ITEM_INDEX, read_metadata, read_table, whole, write_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_CODE = -1
"""Stands in `ItemIndex.codes` where an identifier has no conflict slot."""
UNSEALED = "0" * 64
_SEAL = re.compile(rb'\\?"seal\\?": ?\\?"([0-9a-f]{64})\\?"')
"""The hash of the file in its own metadata, so that whatever happens to the file is noticed."""


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
        if not 1 <= len(self.sizes) <= len(LEVEL_LETTERS):
            raise GreamError(f"item index: {len(self.sizes)} levels, not 1 to {len(LEVEL_LETTERS)}")
        if self.codes.shape != (len(self.item_ids), len(self.sizes)):
            raise GreamError(
                f"item index: {len(self.item_ids)} items and {len(self.sizes)} levels, "
                f"but codes of shape {self.codes.shape}"
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
        if (self.codes[:, : max(1, self.length - 1)] == NO_CODE).any():
            raise GreamError("item index: only the last level may be left out")
        order = np.lexsort(self.codes.T[::-1])  # a short identifier stands right before those it is the prefix of
        ordered = self.codes[order]
        slot = ordered[1:, -1], ordered[:-1, -1]
        clash = (ordered[1:, :-1] == ordered[:-1, :-1]).all(axis=1) & ((slot[0] == slot[1]) | (slot[1] == NO_CODE))
        if clash.any():
            first, second = (self.item_ids[row] for row in sorted(order[clash.argmax() :][:2]))
            raise GreamError(
                f"item index: the identifiers of items {first!r} and {second!r} are equal or one is the prefix of the "
                "other: build it with a conflict slot"
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

        rows, levels = np.nonzero(self.codes != NO_CODE)
        flat = pl.DataFrame({"row": rows, "codes": self.codes[rows, levels]})
        codes = flat.group_by("row", maintain_order=True).agg("codes")["codes"]
        frame = pl.DataFrame({"item_id": list(self.item_ids), "codes": codes})
        with whole(path) as draft:
            write_table(frame, draft, ITEM_INDEX, {**(metadata or {}), "sizes": list(self.sizes), "seal": UNSEALED})
            draft.write_bytes(_seal(draft.read_bytes())[1])

    @classmethod
    def load(cls, path: Path) -> "ItemIndex":
        """Read and check an index; `GreamError` names what is wrong with the file."""
        if path.is_file():
            sealed, right = _seal(path.read_bytes())
            if sealed != right:
                raise GreamError(
                    f"{path} is damaged: its {len(sealed):,} bytes do not have the hash that was written into it. "
                    "Get it again, or run `gream index build` again"
                )
        try:
            sizes = tuple(int(size) for size in read_metadata(path, ITEM_INDEX, "index build")["sizes"])
            frame = read_table(path, ITEM_INDEX, "index build")
            if frame["item_id"].null_count():
                raise GreamError("an item_id in it is empty")
            lengths = frame["codes"].list.len().fill_null(0).to_numpy()
            wrong = (lengths > len(sizes)) | (lengths < max(1, len(sizes) - 1))
            if wrong.any():
                row = int(wrong.argmax())
                raise GreamError(f"item {frame['item_id'][row]!r} has {lengths[row]} codes, not {len(sizes)}")
            flat = frame["codes"].explode()
            if flat.null_count() or (flat < 0).any():
                raise GreamError("a code in it is empty or below 0")
            codes = np.full((len(frame), len(sizes)), NO_CODE, dtype=np.int32)
            codes[np.arange(len(sizes)) < lengths[:, None]] = flat.to_numpy()
            return cls(tuple(frame["item_id"].to_list()), codes, sizes)
        except GreamError as error:
            raise GreamError(f"{path}: {error}" if str(path) not in str(error) else str(error)) from None
        except BaseException as error:  # polars panics at a file that it cannot make sense of
            if not isinstance(error, KeyError | TypeError | ValueError) and type(error).__name__ != "PanicException":
                raise
            raise GreamError(f"{path} is damaged ({error!r}): run `gream index build` again") from None


def _seal(content: bytes) -> tuple[bytes, bytes]:
    """A file as it is, and with the right seal: the SHA-256 of itself with `UNSEALED` there. One without has none."""
    spans = [found.span(1) for found in _SEAL.finditer(content)]
    if len(spans) != 1:
        return content, content
    start, end = spans[0]
    digest = hashlib.sha256(content[:start] + UNSEALED.encode() + content[end:]).hexdigest()
    return content, content[:start] + digest.encode() + content[end:]
