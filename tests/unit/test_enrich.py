"""Enrichment, against a fake of an outside endpoint."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gream_ext.errors import GreamError
from gream_ext.extras.ask.enrich import Item, description_fault, enrichment_request, item_template, read_items
from gream_ext.extras.ask.ledger import read_ledger
from gream_ext.extras.ask.stages import ENRICH, EnrichSettings
from gream_ext.items.text import enriched_descriptions
from gream_ext.workspace import Workspace
from tests.support.fake_endpoint import Call, FakeEndpoint, Reply, interrupted
from tests.support.synthetic import make_workspace

FILLER = " ".join(f"word{'abcdefghijklmnopqrstuvwxyz'[n % 26] * (1 + n // 26)}" for n in range(40))


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path, users=12, items=24)


def title_in(call: Call) -> str:
    return call.text.split('description of "')[1].split('"')[0]


def describe(call: Call) -> Reply:
    return Reply(f"{title_in(call)} is\n {FILLER}.")


def settings(fake: FakeEndpoint, **chosen: object) -> EnrichSettings:
    return EnrichSettings(base_url=fake.url, model="fake-model", **chosen)  # type: ignore[arg-type]


def test_every_item_gets_its_description(workspace: Workspace) -> None:
    assert enriched_descriptions(workspace) == {}
    with FakeEndpoint(describe) as fake:
        ENRICH.run(workspace, settings(fake))
        items = read_items(workspace, None)
        expected = {item.item_id: f"{item.title} is {FILLER}." for item in items}
        assert enriched_descriptions(workspace) == expected
        assert list(enriched_descriptions(workspace)) == [item.item_id for item in items], "in the order of the items"
        before = workspace.enriched.read_bytes()
        ENRICH.run(workspace, settings(fake))
        assert len(fake.calls) == len(items), "a second run pays for nothing"
        assert workspace.enriched.read_bytes() == before


def test_the_limit_and_the_dry_run(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    with FakeEndpoint(describe) as fake:
        ENRICH.run(workspace, settings(fake, limit=5, dry_run=True))
        assert "5 requests to send, 0 answered already" in capsys.readouterr().out
        assert not fake.calls
        assert not workspace.enriched.exists()
        ENRICH.run(workspace, settings(fake, limit=3))
        assert len(enriched_descriptions(workspace)) == len(fake.calls) == 3


def test_items_without_a_description_are_an_error_unless_tolerated(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    victim = read_items(workspace, None)[2].title

    def script(call: Call) -> Reply:
        return Reply("I'm sorry, " + FILLER) if title_in(call) == victim else describe(call)

    with FakeEndpoint(script) as fake:
        with pytest.raises(GreamError, match=r"1 of \d+ items have no answer \(i2: answer rejected 2 times"):
            ENRICH.run(workspace, settings(fake, rejections=2, tolerate=0.0))
        assert "i2" not in enriched_descriptions(workspace), "what was answered is kept all the same"
        paid = len(fake.calls)
        ENRICH.run(workspace, settings(fake, rejections=2, tolerate=0.2))
        assert "1 items keep their composite text" in capsys.readouterr().err
        assert len(fake.calls) == paid + 2, "only the missing one is asked again"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "0 words, fewer than 5"),
        ("Velta " * 40, "the same words over and over"),
        ("Velta " + FILLER * 9, "more than 300"),
        (f"I cannot help with that. {FILLER}", "refusal: "),
        (f"<think> Velta {FILLER}", "thinking that did not end"),
        (f"Velta <|a_1|> {FILLER}", "special tokens in it"),
        ("Velta " + " ".join(f"{n}%$" for n in range(50)), "no prose"),
        (FILLER, "no word of the title in it"),
        (f"<think>about it</think>\nVelta {FILLER}", None),
        (f"velta: {FILLER}", None),
    ],
)
def test_what_is_no_description(answer: str, reason: str | None) -> None:
    found = description_fault(answer, "Velta (1995)", 5, 300)
    assert found == reason or (reason is not None and reason in (found or ""))


def test_a_title_without_words_asks_for_none() -> None:
    assert description_fault(FILLER, "8 ½", 5, 300) is None


def test_the_request_holds_the_items_text_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text("[system]\nWrite.\n[user]\n$title: $text ($min_words–$max_words, $$)\n")
    item = Item("i1", "A $title", "costs $5 {and} %s")
    request = enrichment_request(item, item_template(str(tmp_path / "my.txt")))
    assert request.messages == [
        {"role": "system", "content": "Write."},
        {"role": "user", "content": "A $title: costs $5 {and} %s (30–300, $)"},
    ]
    assert enrichment_request(item, item_template(), max_characters=8).messages[1]["content"].count("costs $5\n") == 1


@pytest.mark.parametrize(
    "text",
    [
        "no parts",
        "[user]\n$text",
        "[system]\nx\n[user]\nno slot",
        "[system]\n$text\n[user]\n$price",
        "[system]\n$text\n[user]\n5 $",
    ],
)
def test_a_bad_template_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "my.txt").write_text(text)
    with pytest.raises(GreamError, match=r"my\.txt"):
        item_template(str(tmp_path / "my.txt"))


def test_a_damaged_file_is_named(workspace: Workspace) -> None:
    workspace.enriched.write_text(json.dumps({"item_id": "i0", "description": "x"}) + "\n{\n")
    with pytest.raises(GreamError, match=r"enriched\.jsonl, line 2 is damaged"):
        enriched_descriptions(workspace)


TROUBLE = {
    "fails": Reply(status=500, raw=b"out of memory"),
    "stalls": Reply("far too late", stall=30.0),
    "answers rubbish": Reply(raw=b"<html>login</html>"),
    "answers nonsense": Reply("la la la"),
    "hangs up": Reply(hang_up=True),
    "says 429": Reply(status=429, headers={"Retry-After": "0.1"}),
}


@pytest.mark.parametrize("trouble", TROUBLE)
def test_an_endpoint_in_trouble_is_asked_again(workspace: Workspace, trouble: str) -> None:
    """Every fourth call goes wrong: every item has its description in the end, and no more was asked than needed."""

    def script(call: Call) -> Reply:
        return TROUBLE[trouble] if call.number % 4 == 1 else describe(call)

    with FakeEndpoint(script) as fake:
        seconds = 2.0 if trouble == "stalls" else 60.0
        ENRICH.run(workspace, settings(fake, timeout=seconds, concurrency=4, limit=9, attempts=8, rejections=5))
        assert len(enriched_descriptions(workspace)) == 9
        wrong = len([call for call in fake.calls if call.number % 4 == 1])
        assert len(fake.calls) == 9 + wrong or trouble == "stalls"  # by whose clock others may be late too
    paid = read_ledger(workspace.enriched.with_suffix(".ledger.jsonl"))
    assert len(paid) == 9 + (wrong if trouble == "answers nonsense" else 0), "the ledger has what was paid for"


def test_kill_9_costs_nothing_but_what_was_under_way(workspace: Workspace) -> None:
    """The command itself, killed without warning, then run again."""
    ledger = workspace.enriched.with_suffix(".ledger.jsonl")
    with FakeEndpoint(describe, hold_at=4) as fake:
        command = [sys.executable, "-m", "gream_ext.cli", "enrich", "--workspace", str(workspace.root)]
        command += ["--base-url", fake.url, "--model", "fake-model", "--concurrency", "2"]
        assert interrupted(command, fake, ledger) == (-signal.SIGKILL, 4)
        items = len(read_items(workspace, None))
        assert not workspace.enriched.exists()
        again = subprocess.run(command, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr[-500:]
        assert len(enriched_descriptions(workspace)) == items
        assert f"{items - 4} answers paid for now" in again.stdout
        assert len(fake.calls) <= items + 2, "twice only what was under way when it was killed"
