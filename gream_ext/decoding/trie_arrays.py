"""The arrays of a trie, from the token ids of its items."""

import numpy as np

from gream_ext.errors import GreamError
from gream_ext.items.index import NO_CODE


def trie_arrays(token_ids: np.ndarray) -> tuple[np.ndarray, ...]:
    """``tokens``, ``children``, ``begin``, ``end`` and ``rows`` of `gream_ext.decoding.trie.ItemTrie`, int64.

    ``token_ids`` int [items, levels], padded at the end with `NO_CODE`. `GreamError` when there is no item, two are
    equal, or one is the prefix of another.
    """
    ids = np.asarray(token_ids, dtype=np.int64)
    items, levels = ids.shape
    if items == 0 or levels == 0 or (ids[:, 0] == NO_CODE).any():
        raise GreamError("item trie: there is no item, or one has no token: build the item index again")
    rows, columns = _sorted(ids)
    # Ranks at which the identifier differs from the one before in one of its first levels, and after which it ends
    # where that one goes on.
    fresh, clash = np.zeros(items, dtype=bool), np.zeros(items - 1, dtype=bool)
    fresh[0] = True
    tokens, begins, ends = [np.array([-1])], [np.array([0])], [np.array([items])]
    for column in columns:
        clash |= ~fresh[1:] & (column[:-1] == NO_CODE)
        fresh[1:] |= column[1:] != column[:-1]
        first = np.flatnonzero(fresh)
        last = np.append(first[1:], items)
        goes_on = column[first] != NO_CODE
        tokens.append(column[first[goes_on]])
        begins.append(first[goes_on])
        ends.append(last[goes_on])
    crowded = np.flatnonzero(clash | ~fresh[1:])
    if len(crowded):
        raise GreamError(
            f"item trie: the identifiers of rows {rows[crowded[0]]} and {rows[crowded[0] + 1]} of the item index "
            "are equal or one is the prefix of the other: build it with a conflict slot"
        )
    offsets = np.cumsum([0, *(len(part) for part in tokens)])
    # Every node ends where its own children, the nodes below it, end in the next level.
    children = [offsets[level + 1] + np.searchsorted(begins[level + 1], begins[level]) for level in range(levels)]
    after = np.full(len(tokens[levels]) + 1, offsets[-1])
    parts = (tokens, [*children, after], begins, ends, [rows])
    return tuple(np.concatenate(some) for some in parts)


def _sorted(ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``ids`` int64 [items, levels] in the order of `numpy.lexsort`: the rows, int64 [items], and [levels, items].

    Rows that fit one number are sorted as such, which is several times faster.
    """
    least = ids.min(axis=0)
    widths = [int(spread).bit_length() for spread in ids.max(axis=0) - least]
    if sum(widths) > 63:
        rows = np.lexsort(ids.T[::-1])
        return rows, np.ascontiguousarray(ids[rows].T)
    shifts = np.cumsum([0, *widths[:0:-1]])[::-1]
    numbers = ((ids - least) << shifts).sum(axis=1)
    rows = np.argsort(numbers, kind="stable")
    columns = np.empty(ids.shape[::-1], dtype=np.int64)
    numbers = numbers[rows]
    for column, low, width, shift in zip(columns, least, widths, shifts, strict=True):
        column[:] = ((numbers >> shift) & ((1 << width) - 1)) + low
    return rows, columns
