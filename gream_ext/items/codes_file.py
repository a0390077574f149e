"""Codes that somebody else made, in a file."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gream_ext.data.json_files import json_lines, json_rows, read_json
from gream_ext.data.records import identity
from gream_ext.errors import GreamError

_CODE = re.compile(r"[^\d.-]*(\d+)[^\d.-]*")
"""One whole number, no more: ``<a_7>``, ``<|b_7|>``, ``7``, but not ``-7``, ``1.5`` or ``1_7``."""


def read_codes(path: Path, field: str | None, item_ids: Sequence[str]) -> np.ndarray:
    """Codes of ``item_ids``, int32 [items, levels].

    The file has JSON lines such as ``{"item_id": "1", "ids": ["<a_7>", …]}``, or, as LC-Rec's and MiniOneRec's
    ``NAME.index.json``, one object ``{"1": ["<a_7>", …], …}``. A code is a whole number or a text with one in it.
    ``field`` may be left out where there is one list only. Raises `GreamError` for an item that is missing, for rows
    of different lengths and for what is no code.
    """
    if not path.is_file():
        raise GreamError(f"--from-file {path} does not exist")
    found: dict[str, list[int]] = {}
    for where, fields in _of_index(path) if ".json" in path.suffixes else json_lines(path):
        item_id = identity(fields.get("item_id"), "item_id", where)
        if item_id in found:
            raise GreamError(f"{where}: item {item_id!r} stands in the file twice: delete one")
        field = field or _only_list(fields, where)
        codes = _codes(fields.get(field), field, where)
        if len(codes) != len(levels := next(iter(found.values()), codes)):
            raise GreamError(f"{where}: {field} has {len(codes)} codes, those before have {len(levels)}")
        found[item_id] = codes
    if missing := [item_id for item_id in item_ids if item_id not in found]:
        raise GreamError(f"{path} lacks {len(missing)} of {len(item_ids)} items, the first {missing[0]!r}")
    return np.array([found[item_id] for item_id in item_ids], dtype=np.int32)


def _of_index(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of one object from item ids to lists of codes, or of whatever else a .json file has rows in."""
    content = read_json(path)
    if isinstance(content, dict) and all(isinstance(codes, list) for codes in content.values()):
        return ((f"{path}, {item_id!r}", {"item_id": item_id, "codes": codes}) for item_id, codes in content.items())
    return json_rows(path)


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
            raise GreamError(f"{where}: {value!r} in {field!r} is not a code (one whole number, such as <a_7>)")
        codes.append(number)
    return codes
