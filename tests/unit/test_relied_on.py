"""The checker of the frameworks' internals: what is there passes, what is not is one sentence with the version."""

import types
from typing import Any

import pytest

from gream_ext.errors import GreamError
from gream_ext.plugins import relied_on
from gream_ext.plugins.relied_on import ReliedOn

TABLE = ReliedOn(
    framework="Json",
    distribution="jason",
    supported=("1.0", "1.1"),
    names={
        "reader": {"json": {"loads": ("s",), "JSONDecoder.decode": ("self", "s"), "decoder": ()}},
        "writer": {"json": {"dumps": ("value",), "gone.by": ()}, "json.lost": {"any": ()}},
    },
)


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relied_on, "installed", lambda distribution: {"jason": "1.1"}[distribution])


def test_what_is_there_is_found() -> None:
    import json

    TABLE.check("reader")
    assert TABLE.find("reader", "json", "JSONDecoder.decode") is json.JSONDecoder.decode
    assert TABLE.version() == "1.1" and TABLE.unsupported() == ""


@pytest.mark.parametrize(
    ("module", "name", "said"),
    [
        ("json", "gone.by", "Json 1.1 has no json.gone.by (module 'json' has no attribute 'gone'), which the writer"),
        (
            "json.lost",
            "any",
            "Json 1.1 has no json.lost.any (No module named 'json.lost'), which the writer of gream_ext",
        ),
        ("json", "dumps", "json.dumps of Json 1.1 takes (obj, skipkeys, "),
    ],
)
def test_what_is_not_is_one_sentence(module: str, name: str, said: str) -> None:
    with pytest.raises(GreamError) as raised:
        TABLE.find("writer", module, name)
    assert str(raised.value).startswith(said) and str(raised.value).endswith(": install jason==1.1")
    with pytest.raises(GreamError):
        TABLE.check("writer")


def test_a_name_that_is_not_listed_is_not_looked_up() -> None:
    with pytest.raises(KeyError, match=r"json\.dump is not listed for reader"):
        TABLE.find("reader", "json", "dump")


@pytest.mark.parametrize(
    ("changed", "right"),
    [
        (lambda s: 0, True),
        (lambda s, more=1, *rest, **others: 0, True),
        (lambda text: 0, False),
        (lambda more, s: 0, False),
        (lambda s, more: 0, False),
        (lambda s, *, more: 0, False),
        (lambda: 0, False),
    ],
)
def test_parameters_come_first_in_order_and_others_need_not_be_given(changed: Any, right: bool) -> None:
    module = types.ModuleType("json")  # as Python has it while it is being imported
    module.loads = changed  # type: ignore[attr-defined]
    if right:
        assert TABLE.find("reader", module, "loads") is changed
    else:
        with pytest.raises(GreamError, match=r"json.loads of Json 1.1 takes \(.*\), not \(s\), which the reader"):
            TABLE.find("reader", module, "loads")


def test_another_version_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relied_on, "installed", lambda distribution: "2.0")
    assert TABLE.unsupported() == "Json 2.0 is not a version that gream_ext supports: install jason==1.1"


def test_a_distribution_without_metadata_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert relied_on.installed("no-such-distribution-of-anybody") == "unknown"
    assert relied_on.installed("pytest") == pytest.__version__
