"""Identifiers that somebody else made."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.data.files import json_lines
from gream_ext.data.records import identity
from gream_ext.errors import GreamError

_CODE = re.compile(r"(?:.*\D)?(\d+)\D*", re.S)


def read_codes(path: Path, field: str | None, item_ids: Sequence[str]) -> np.ndarray:
    """Codes of ``item_ids``, int32 [items, levels], from JSON lines such as ``{"item_id": "1", "ids": ["<a_7>", …]}``.

    A code is a whole number or a text that ends in one. ``field`` may be left out where there is one list only.
    Raises `GreamError` for an item that is missing and for rows of different lengths.
    """
    if not path.is_file():
        raise GreamError(f"--from-file {path} does not exist")
    wanted = set(item_ids)
    found: dict[str, list[int]] = {}
    levels: int | None = None
    for where, fields in json_lines(path):
        item_id = identity(fields.get("item_id"), "item_id", where)
        if item_id in found:
            raise GreamError(f"{where}: item {item_id!r} stands in the file twice: delete one")
        field = field or _only_list(fields, where)
        codes = _codes(fields.get(field), field, where)
        levels = levels or len(codes)
        if len(codes) != levels:
            raise GreamError(f"{where}: {field} has {len(codes)} codes, those before have {levels}")
        if item_id in wanted:
            found[item_id] = codes
    missing = [item_id for item_id in item_ids if item_id not in found]
    if missing:
        raise GreamError(f"{path} lacks {len(missing)} of {len(item_ids)} items, the first {missing[0]!r}")
    return np.array([found[item_id] for item_id in item_ids], dtype=np.int32)


def _only_list(fields: dict[str, Any], where: str) -> str:
    lists = [name for name, value in fields.items() if isinstance(value, list)]
    if len(lists) != 1:
        raise GreamError(f"{where}: {len(lists)} lists ({', '.join(lists)}): name the one to take with --from-field")
    return lists[0]


def _codes(values: Any, field: str, where: str) -> list[int]:
    if not isinstance(values, list) or not values:
        raise GreamError(f"{where}: no list of codes in {field!r}")
    codes = []
    for value in values:
        match = _CODE.fullmatch(value) if isinstance(value, str) else None
        number = int(match[1]) if match else value
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 2**31:
            raise GreamError(f"{where}: {value!r} in {field!r} is not a code")
        codes.append(number)
    return codes
