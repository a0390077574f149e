"""Settings out of plain values."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gream_ext.errors import GreamError
from gream_ext.pipeline.settings import Kind, build, convert, kind_of, kinds, plain
from gream_ext.pipeline.table import TABLE
from gream_ext.stage import Bounds, option


@pytest.mark.parametrize(
    ("hint", "value", "result"),
    [
        (int, 3, 3),
        (int, "3", 3),
        (int, 3.0, 3),
        (int, "1e3", 1000),
        (int, str(2**62 + 1), 2**62 + 1),
        (float, "1e-4", 1e-4),  # YAML 1.1 reads 1e-4 as a string
        (float, 2, 2.0),
        (str, 5, "5"),
        (str, "none", "none"),
        (str | None, "none", None),
        (int | None, None, None),
        (bool, False, False),
        (list[str], ["a", 1], ["a", "1"]),
        (tuple[int, ...], [1, 2], (1, 2)),
        (dict[str, Any], {"a": [1]}, {"a": [1]}),
        (dict[str, Any], {"lr": "1e-4", "b": {"c": ["2.5E+3", "1e"]}}, {"lr": 1e-4, "b": {"c": [2500.0, "1e"]}}),
        (Path, "a/b", Path("a/b")),
        (Literal["x", "y"], "y", "y"),
    ],
)
def test_converts(hint: Any, value: Any, result: Any) -> None:
    converted = convert(kind_of(hint), value)
    assert converted == result and type(converted) is type(result)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (int, 3.5), (int, "x"), (int, True), (int, None), (int, [1]), (int, "nan"), (int, "inf"), (float, "x"),
        (int, 10**400), (int, "9" * 400), (int, 2**63), (float, "nan"), (float, float("inf")), (float, 10**400),
        (dict[str, Any], {"next": float("nan")}), (dict[str, Any], {"a": ["1e999"]}), (str, "a\0b"), (Path, "a\0b"),
        (float, True), (bool, 1), (bool, "yes"), (str, None), (str, True), (str, ["a"]), (list[int], 3),
        (list[int], ["x"]), (tuple[str, ...], "abc"), (dict[str, Any], [1]), (dict[str, Any], {1: 2}),
        (Literal["x", "y"], "z"),
    ],
)  # fmt: skip
def test_refuses(hint: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=r"must (be|hold|not hold)"):
        convert(kind_of(hint), value)


def test_a_type_that_settings_cannot_have_is_a_mistake_of_the_stage() -> None:
    with pytest.raises(TypeError):
        kind_of(int | str)


NUMBERS = {
    f"{stage} {name}": kind
    for stage, entry in TABLE.items()
    for name, (_, kind) in kinds(entry.load().settings).items()
    if kind.base in (int, float) and not kind.choices
}


@pytest.mark.parametrize("number", NUMBERS)
def test_no_stage_takes_a_number_below_what_it_can_mean(number: str) -> None:
    kind: Kind = NUMBERS[number]
    least, above = kind.bounds.least, kind.bounds.above
    wrong = above if least is None else least - 1
    assert wrong is not None, "it has no bound"
    with pytest.raises(ValueError, match=r"must be (at least|above) "):
        convert(kind, [wrong] if kind.many else wrong)


@pytest.mark.parametrize(
    ("bounds", "inside", "outside", "said"),
    [
        (Bounds(), (-1e300, 1e300), (), ""),
        (Bounds(least=1), (1, 2), (0, 0.999), "at least 1"),
        (Bounds(least=0, most=65_535), (0, 65_535), (-1, 65_536), "at least 0 and at most 65,535"),
        (Bounds(above=0, most=1), (1e-9, 1), (0, 1.5), "above 0 and at most 1"),
    ],
)
def test_bounds(bounds: Bounds, inside: tuple[float, ...], outside: tuple[float, ...], said: str) -> None:
    assert all(number in bounds for number in inside) and not any(number in bounds for number in outside)
    assert str(bounds) == said


@dataclass(frozen=True)
class Some:
    source: str = option(help="where from")
    size: int = option(5, help="how large", choices=(5, 6))
    seed: int | None = option(None, help="")
    seeds: tuple[int, ...] = option((), help="")
    share: float | None = option(None, above=0, most=1, help="")

    def __post_init__(self) -> None:
        if self.source == "nowhere":
            raise GreamError("file: step 2 needs a source")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, r"file: step 2: 'source' must be given \(where from\)"),
        ({"source": "a", "sise": 5}, "file: step 2: unknown setting 'sise'; did you mean 'size'"),
        ({"source": "a", "zzz": 5}, "there are: source, size, seed"),
        ({"source": "a", "size": 7}, "'size' must be one of 5, 6, not 7"),
        ({"source": "a", "seed": -1}, "'seed' must be at least 0, not -1"),
        ({"source": "a", "seeds": [0, -1]}, r"'seeds' must be at least 0, not -1"),
        ({"source": "a", "share": "1e1"}, "'share' must be above 0 and at most 1, not '1e1'"),
        ({"source": "nowhere"}, "^file: step 2 needs a source"),
    ],
)
def test_build_names_the_place_and_the_key(values: dict[str, Any], said: str) -> None:
    with pytest.raises(GreamError, match=said):
        build(Some, values, "file: step 2")


@dataclass(frozen=True)
class Many:
    number: float = option(0.0, help="")
    name: str | None = option(None, help="")
    flags: tuple[bool, ...] = option((), help="")
    keys: dict[str, Any] = option({}, help="")


@given(
    st.builds(
        Many,
        st.floats(allow_nan=False, allow_infinity=False),
        st.none() | st.text().filter(lambda text: text not in ("none", "null") and "\0" not in text),
        st.lists(st.booleans()).map(tuple),
        st.dictionaries(st.text(), st.none() | st.integers() | st.lists(st.text("abc 1."))),
    )
)
def test_settings_survive_the_way_through_plain_values(settings: Many) -> None:
    assert build(Many, plain(settings), "here") == settings
