"""Settings of a stage out of plain values: what a YAML file or a command line gives, checked against the dataclass.

The type of a field says what it accepts: ``str``, ``int``, ``float``, ``bool``, ``X | None``, ``Literal[...]``,
``tuple[X, ...]`` or ``list[X]``, ``dict[str, X]``, ``Path`` and ``Any``.
"""

import dataclasses
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gream_ext.errors import GreamError, did_you_mean
from gream_ext.stage import Bounds

WORDS: dict[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    Path: "a path",
    Any: "any value",
}
INT64 = range(-(2**63), 2**63)
EXPONENT = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A field's type, taken apart."""

    base: Any
    """str, int, float, bool, Path, dict, or Any."""
    many: type | None = None
    """tuple or list where the field holds several values."""
    optional: bool = False
    choices: tuple[Any, ...] | None = None
    bounds: Bounds = dataclasses.field(default_factory=Bounds)

    def __str__(self) -> str:
        return f"a list, each {WORDS[self.base]}" if self.many else WORDS[self.base]


def kind_of(hint: Any) -> Kind:
    """Take a type annotation apart.

    Raises:
        TypeError: for a type that settings cannot have; a mistake in the stage, not of its user.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        inner = [argument for argument in arguments if argument is not types.NoneType]
        if len(inner) == 1 and len(arguments) == 2:
            return dataclasses.replace(kind_of(inner[0]), optional=True)
    elif origin is typing.Literal:
        return Kind(type(arguments[0]), choices=arguments)
    elif origin in (tuple, list, Sequence):
        element = kind_of(arguments[0])
        return dataclasses.replace(element, many=list if origin is list else tuple)
    elif origin in (dict, Mapping) or hint in (dict, Mapping):
        return Kind(dict)
    elif hint in (str, int, float, bool, Path, Any):
        return Kind(hint)
    raise TypeError(f"a setting cannot be of type {hint}")


def kinds(settings: type) -> dict[str, tuple[dataclasses.Field[Any], Kind]]:
    """The fields of a settings class with their kinds, in order."""
    hints = typing.get_type_hints(settings)
    found = {}
    for field in dataclasses.fields(settings):
        kind = kind_of(hints[field.name])
        chosen = field.metadata.get("choices") or kind.choices
        # Of every stage alike: numpy takes no seed below 0.
        bounds = Bounds(least=0) if field.name in ("seed", "seeds") else field.metadata.get("bounds", kind.bounds)
        found[field.name] = (field, dataclasses.replace(kind, choices=chosen, bounds=bounds))
    return found


def is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def default_of(field: dataclasses.Field[Any]) -> Any:
    """The default of a field that is not required."""
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def convert(kind: Kind, value: Any) -> Any:
    """``value`` as a field of this kind.

    Raises:
        ValueError: saying in a few words what was expected.
    """
    if kind.optional and (value is None or value in ("none", "null")):
        return None
    if kind.many:
        if not isinstance(value, list | tuple):
            raise ValueError(f"must be {kind}, not {value!r}")
        return kind.many(_convert_one(kind, element) for element in value)
    return _convert_one(kind, value)


def _convert_one(kind: Kind, value: Any) -> Any:
    result = _typed(kind, value)
    if kind.choices and result not in kind.choices:
        raise ValueError(f"must be one of {', '.join(map(str, kind.choices))}, not {value!r}")
    if kind.base in (int, float) and result not in kind.bounds:
        raise ValueError(f"must be {kind.bounds}, not {value!r}")
    return result


def _typed(kind: Kind, value: Any) -> Any:
    if kind.base is Any:
        return value
    if kind.base is dict:
        if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
            return _numbers(value)
    elif kind.base is bool:
        if isinstance(value, bool):
            return value
    elif kind.base in (int, float):
        # Words of a command line are strings, and so is 1e-4 in YAML 1.1; a whole number may be written 1e5 or 3.0.
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            try:
                number = float(value)
            except (ValueError, OverflowError):
                number = math.nan
            if math.isfinite(number) and kind.base is float:
                return number
            if number.is_integer():
                whole = int(value) if not isinstance(value, str) or value.lstrip("+-").isdigit() else int(number)
                if whole in INT64:
                    return whole
    elif kind.base in (str, Path):
        if "\0" in str(value):
            raise ValueError("must not hold a zero byte")
        if isinstance(value, str | Path):
            return kind.base(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return kind.base(str(value))
    raise ValueError(f"must be {WORDS[kind.base]}, not {value!r}")


def _numbers(value: Any) -> Any:
    """The values of a mapping with 1e-4 as a number, which YAML 1.1 takes for a string; nan and inf are refused."""
    if isinstance(value, Mapping):
        return {key: _numbers(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_numbers(inner) for inner in value]
    number = float(value) if isinstance(value, str) and EXPONENT.fullmatch(value) else value
    if isinstance(number, float) and not math.isfinite(number):
        raise ValueError(f"must hold numbers that are finite, not {value!r}")
    return number


def build(settings: type, values: Mapping[str, Any], where: str) -> Any:
    """An instance of ``settings`` from ``values``.

    Raises:
        GreamError: ``where`` and the key, for an unknown or missing key, a value of a wrong type, out of bounds or
            not among the choices.
    """
    fields = kinds(settings)
    for key in values:
        if key not in fields:
            raise GreamError(f"{where}: unknown setting {key!r}; {did_you_mean(key, fields)}")
    for name, (field, _) in fields.items():
        if is_required(field) and name not in values:
            raise GreamError(f"{where}: {name!r} must be given ({field.metadata.get('help', '')})")
    converted = {}
    for key, value in values.items():
        try:
            converted[key] = convert(fields[key][1], value)
        except ValueError as error:
            raise GreamError(f"{where}: {key!r} {error}") from None
    try:
        return settings(**converted)
    except GreamError as error:
        raise GreamError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def plain(settings: Any) -> dict[str, Any]:
    """Settings as JSON values, in the order of the fields."""
    return {key: _plain(value) for key, value in dataclasses.asdict(settings).items()}


def changed(settings: Any, recorded: Any) -> list[str]:
    """The settings that results depend on and that differ from ``recorded`` ones, which `plain` wrote.

    What is not recorded, because an earlier version had no such setting, counts as its default.
    """
    old, new = dict(recorded) if isinstance(recorded, Mapping) else {}, plain(settings)
    for field in dataclasses.fields(settings):
        if field.metadata.get("machine"):
            old[field.name] = new[field.name]
        elif not is_required(field):
            old.setdefault(field.name, _plain(default_of(field)))
    return [key for key in {**new, **old} if old.get(key) != new.get(key)]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
