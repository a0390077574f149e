"""The batch client, against a fake of an outside endpoint that fails, stalls, answers rubbish and says 429."""

import json
import signal
import sys
import threading
from pathlib import Path

import pytest

from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.errors import GreamError
from gream_ext.extras.ask.batch import ask, estimate
from gream_ext.extras.ask.endpoint import Request, check_endpoint, request_hash
from gream_ext.extras.ask.ledger import open_ledger, read_ledger
from tests.support.fake_endpoint import Call, FakeEndpoint, Reply, interrupted


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def requests(number: int) -> list[Request]:
    return [Request(f"item-{n}", [{"role": "user", "content": f"describe {n}"}]) for n in range(number)]


def endpoint(fake: FakeEndpoint, **settings: object) -> AskSettings:
    chosen = {"timeout": 5.0, **settings}
    return AskSettings(fake.url, "fake-model", **chosen)  # type: ignore[arg-type]


def echo(call: Call) -> Reply:
    return Reply(f"answer to {call.text}")


def test_every_request_is_answered_once_and_in_order(tmp_path: Path) -> None:
    with FakeEndpoint(echo) as fake:
        outcome = ask(endpoint(fake), requests(30), tmp_path / "ledger.jsonl")
    assert list(outcome.answers.items()) == [(f"item-{n}", f"answer to describe {n}") for n in range(30)]
    assert not outcome.failures
    assert (outcome.asked, outcome.prompt_tokens, outcome.answer_tokens) == (30, 300, 150)
    assert len(fake.calls) == 30


def test_a_second_run_asks_nothing(tmp_path: Path) -> None:
    with FakeEndpoint(echo) as fake:
        first = ask(endpoint(fake), requests(5), tmp_path / "ledger.jsonl")
        second = ask(endpoint(fake), requests(5), tmp_path / "ledger.jsonl")
        assert second.answers == first.answers
        assert (second.asked, len(fake.calls)) == (0, 5)
        ask(endpoint(fake, temperature=0.1), requests(5), tmp_path / "ledger.jsonl")
        assert len(fake.calls) == 10, "other settings are another question"


def test_equal_requests_are_sent_once(tmp_path: Path) -> None:
    twins = [Request("a", [{"role": "user", "content": "same"}]), Request("b", [{"role": "user", "content": "same"}])]
    with FakeEndpoint(echo) as fake:
        outcome = ask(endpoint(fake), twins, tmp_path / "ledger.jsonl")
        assert len(fake.calls) == 1
    assert outcome.answers == {"a": "answer to same", "b": "answer to same"}


def test_no_more_requests_at_once_than_allowed(tmp_path: Path) -> None:
    three = threading.Barrier(3)  # each waits for two others

    def script(call: Call) -> Reply:
        three.wait(60)
        return Reply("fine")

    with FakeEndpoint(script) as fake:
        ask(endpoint(fake, concurrency=3, timeout=60.0), requests(12), tmp_path / "ledger.jsonl")
    assert fake.most_at_once == 3


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=500),
        Reply(status=503, raw=b"overloaded"),
        Reply(status=408),
        Reply(raw=b"<html>not json"),
        Reply(raw=b'{"choices": []}'),
        Reply(raw=b"[1, 2]"),
        Reply(raw=b'{"choices": [{"message": {"content": null}}]}'),
        Reply(raw=b"\xff\xfe\x00"),
        Reply(hang_up=True),
    ],
)
def test_an_endpoint_that_fails_twice_is_asked_a_third_time(bad: Reply, tmp_path: Path) -> None:
    with FakeEndpoint(lambda call: bad if call.number < 2 else Reply("at last")) as fake:
        outcome = ask(endpoint(fake), requests(1), tmp_path / "ledger.jsonl")
    assert outcome.answers == {"item-0": "at last"}
    assert len(fake.calls) == 3


def test_a_stalling_endpoint_is_left_after_the_time_limit(tmp_path: Path) -> None:
    with FakeEndpoint(lambda call: Reply("late", stall=30.0) if call.number == 0 else Reply("in time")) as fake:
        outcome = ask(endpoint(fake, timeout=0.2), requests(1), tmp_path / "ledger.jsonl")
    assert outcome.answers == {"item-0": "in time"}


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        return Reply(status=429, headers={"Retry-After": "0.4"}) if call.number == 0 else Reply("fine")

    with FakeEndpoint(script) as fake:
        ask(endpoint(fake, concurrency=1), requests(3), tmp_path / "ledger.jsonl")
        assert fake.calls[1].at - fake.calls[0].at >= 0.4


def test_a_rejected_answer_is_asked_for_again_then_reported(tmp_path: Path) -> None:
    def no_rubbish(request: Request, text: str) -> str | None:
        return "rubbish" if "rubbish" in text else None

    with FakeEndpoint(lambda call: Reply("rubbish" if call.number == 0 else "fine")) as fake:
        healed = ask(endpoint(fake, extra={"seed": 7}), requests(1), tmp_path / "healed.jsonl", no_rubbish)
        assert healed.answers == {"item-0": "fine"}
        assert [call.body["seed"] for call in fake.calls] == [7, 8], "the same seed would give the same answer"
        again = ask(endpoint(fake, extra={"seed": 7}), requests(1), tmp_path / "healed.jsonl")
        assert again.answers == {"item-0": "fine"}, "of several that are good enough the newest"
    with FakeEndpoint(lambda call: Reply("rubbish")) as fake:
        outcome = ask(endpoint(fake, rejections=2), requests(1), tmp_path / "lost.jsonl", no_rubbish)
        assert outcome.failures == {"item-0": "answer rejected 2 times: rubbish"}
        assert len(fake.calls) == 2
    assert [line["rejected"] for line in read_ledger(tmp_path / "lost.jsonl")] == ["rubbish", "rubbish"]
    with FakeEndpoint(echo) as fake:
        # Under a rule that accepts them, what was paid for is used. Same model and settings, so the same hash.
        again = ask(endpoint(fake, rejections=2), requests(1), tmp_path / "lost.jsonl")
        assert again.answers == {"item-0": "rubbish"}
        assert not fake.calls


def test_a_cut_answer_is_not_accepted(tmp_path: Path) -> None:
    with FakeEndpoint(lambda call: Reply("half a sen", finish_reason="length" if call.number == 0 else "stop")) as fake:
        outcome = ask(endpoint(fake, max_tokens=3), requests(1), tmp_path / "ledger.jsonl")
        assert outcome.answers == {"item-0": "half a sen"}
        assert len(fake.calls) == 2
    assert read_ledger(tmp_path / "ledger.jsonl")[0]["rejected"] == "cut at max_tokens=3"
    with FakeEndpoint(lambda call: Reply("half", finish_reason="length")) as fake:
        for calls in (1, 2):
            outcome = ask(endpoint(fake, max_tokens=3, rejections=1), requests(1), tmp_path / "cut.jsonl")
            assert not outcome.answers and len(fake.calls) == calls, "what was cut then is no answer now"


def test_a_client_error_is_reported_and_harms_no_other_request(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        return Reply(status=400, raw=b"too long") if call.text == "describe 1" else Reply("fine")

    with FakeEndpoint(script) as fake:
        outcome = ask(endpoint(fake), requests(3), tmp_path / "ledger.jsonl")
        assert outcome.failures == {"item-1": "HTTP 400: too long"}
        assert sorted(outcome.answers) == ["item-0", "item-2"]
        assert len(fake.calls) == 3, "it is not sent again"


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_ends_the_batch_at_once(status: int, tmp_path: Path) -> None:
    with FakeEndpoint(lambda call: Reply(status=status)) as fake:
        with pytest.raises(GreamError, match=f"HTTP {status}.*base_url, model and api_key_env"):
            ask(endpoint(fake, concurrency=2), requests(50), tmp_path / "ledger.jsonl")
        assert len(fake.calls) <= 4


def test_an_endpoint_that_only_fails_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gream_ext.extras.ask.client.GIVE_UP_AFTER", 4)
    with FakeEndpoint(lambda call: Reply(status=500)) as fake:
        with pytest.raises(GreamError, match="4 requests failed one after another"):
            ask(endpoint(fake, attempts=2), requests(500), tmp_path / "ledger.jsonl")
        assert len(fake.calls) < 40


def test_failures_between_which_others_succeed_end_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gream_ext.extras.ask.client.GIVE_UP_AFTER", 2)

    def script(call: Call) -> Reply:
        return Reply(status=400) if int(call.text.split()[-1]) % 2 else echo(call)

    with FakeEndpoint(script) as fake:
        outcome = ask(endpoint(fake, concurrency=1), requests(12), tmp_path / "ledger.jsonl")
    assert len(outcome.answers) == len(outcome.failures) == 6


@pytest.mark.parametrize("bad", [Reply(status=500), Reply(raw=b"<html>login</html>")])
def test_a_request_is_sent_as_often_as_allowed(bad: Reply, tmp_path: Path) -> None:
    with FakeEndpoint(lambda call: bad) as fake:
        outcome = ask(endpoint(fake, attempts=3), requests(1), tmp_path / "ledger.jsonl")
        assert len(fake.calls) == 3 and "HTTP" in outcome.failures["item-0"] and not outcome.asked


def test_every_answer_is_on_the_disk_before_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bytes] = []
    monkeypatch.setattr("os.fsync", lambda file: synced.append((tmp_path / "ledger.jsonl").read_bytes()))
    with open_ledger(tmp_path / "ledger.jsonl") as ledger:
        for number in range(3):
            ledger.append({"hash": "h", "key": "k", "text": f"{number}"})
    assert [content.count(b"\n") for content in synced] == [1, 2, 3]


def test_nobody_listens(tmp_path: Path) -> None:
    with FakeEndpoint(echo) as fake:
        gone = endpoint(fake, attempts=2)
    outcome = ask(gone, requests(1), tmp_path / "ledger.jsonl")
    assert outcome.failures["item-0"].startswith("Connect")


def test_the_key_comes_from_the_environment_and_goes_nowhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("A_KEY", "sk-very-secret")
    with FakeEndpoint(
        lambda call: Reply(status=400, raw=b"bad key sk-very-secret") if call.number else echo(call)
    ) as fake:
        chosen = endpoint(fake, api_key_env="A_KEY", concurrency=1)
        outcome = ask(chosen, requests(2), tmp_path / "ledger.jsonl")
        assert fake.calls[0].headers["Authorization"] == "Bearer sk-very-secret"
    said = capfd.readouterr()
    everything = f"{said.out}{said.err}{outcome}{chosen}" + (tmp_path / "ledger.jsonl").read_text()
    assert "very-secret" not in everything
    assert outcome.failures["item-1"] == "HTTP 400: bad key ***"
    monkeypatch.delenv("A_KEY")
    with pytest.raises(GreamError, match="A_KEY is not set"):
        ask(chosen, requests(1), tmp_path / "ledger.jsonl")


def test_nothing_meant_for_openai_goes_to_another_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """openai's client reads these variables by itself."""
    for name in ("API_KEY", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "sk-private")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with FakeEndpoint(echo) as fake:
        assert ask(endpoint(fake), requests(1), tmp_path / "ledger.jsonl").answers
    assert "sk-private" not in str(fake.calls[0].headers) and "Authorization" not in fake.calls[0].headers


def test_without_openai_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "gream_ext.extras.ask.client", raising=False)
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(GreamError, match=r"asking an LLM needs openai: pip install 'gream-ext\[enrich\]'"):
        ask(AskSettings("http://127.0.0.1:9/v1", "m"), requests(1), tmp_path / "ledger.jsonl")


def test_the_body_holds_the_settings_and_nothing_else(tmp_path: Path) -> None:
    with FakeEndpoint(echo) as fake:
        chosen = endpoint(fake, max_tokens=9, temperature=0.1, extra={"top_p": 0.5, "seed": 3, "top_k": 4})
        ask(chosen, requests(1), tmp_path / "ledger.jsonl")
    settings = {"max_tokens": 9, "temperature": 0.1, "top_p": 0.5, "seed": 3, "top_k": 4}
    assert fake.calls[0].body == {"model": "fake-model", "messages": requests(1)[0].messages, **settings}


@pytest.mark.parametrize(
    "url", ["ftp://host/v1", "no address", "http://", "http://user:word@host/v1", "http://host:x/"]
)
def test_a_bad_address_is_refused(url: str) -> None:
    with pytest.raises(GreamError, match="base_url") as caught:
        check_endpoint(AskSettings(url, "model"))
    assert "word" not in str(caught.value).replace("password", "")


def test_an_estimate_asks_nothing(tmp_path: Path) -> None:
    with FakeEndpoint(echo) as fake:
        before = estimate(endpoint(fake, max_tokens=50), requests(4), tmp_path / "ledger.jsonl")
        assert not (tmp_path / "ledger.jsonl").exists()
        ask(endpoint(fake, max_tokens=50), requests(3), tmp_path / "ledger.jsonl")
        after = estimate(endpoint(fake, max_tokens=50), requests(4), tmp_path / "ledger.jsonl")
        assert len(fake.calls) == 3
    assert (before.requests, before.answered, before.prompt_tokens, before.answer_tokens_at_most) == (4, 0, 10, 200)
    assert (after.requests, after.answered, after.answer_tokens_at_most) == (1, 3, 50)


def test_a_torn_last_line_is_dropped_and_a_damaged_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with FakeEndpoint(echo) as fake:
        ask(endpoint(fake), requests(3), path)
        whole = path.read_bytes()
        path.write_bytes(whole[:-9])
        outcome = ask(endpoint(fake), requests(3), path)
        assert (len(outcome.answers), outcome.asked) == (3, 1)
        assert len(read_ledger(path)) == 3
        path.write_bytes(b"no line\n" + whole)
        with pytest.raises(GreamError, match="line 1 is damaged"):
            ask(endpoint(fake), requests(3), path)


def test_one_process_holds_the_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with open_ledger(path), pytest.raises(GreamError, match="in use by another process"), open_ledger(path):
        pass


def test_the_hash_of_a_request_stays_what_it_is() -> None:
    """Ledgers outlive versions: a change here would pay for everything again."""
    messages = [{"role": "user", "content": "hello"}]
    assert request_hash("m", messages, {"max_tokens": 5}) == "b4e109a493cb2c12fdf8fa5ce55f218c"
    two = {"max_tokens": 5, "seed": 1}
    assert request_hash("m", messages, two) == request_hash("m", messages, dict(reversed(two.items())))
    assert request_hash("n", messages, two) != request_hash("m", messages, two)
    assert request_hash("m", messages, {"max_tokens": 6}) != request_hash("m", messages, {"max_tokens": 5})


CHILD = """
import sys
from pathlib import Path
from gream_ext.corpus.ask_settings import AskSettings
from gream_ext.extras.ask.batch import ask
from gream_ext.extras.ask.endpoint import Request
requests = [Request(f"item-{n}", [{"role": "user", "content": f"describe {n}"}]) for n in range(20)]
ask(AskSettings(sys.argv[1], "fake-model", concurrency=2), requests, Path(sys.argv[2]))
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_batch_goes_on_and_pays_for_nothing_twice(end: signal.Signals, tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    with FakeEndpoint(lambda call: Reply(f"answer to {call.text}", stall=0.1), hold_at=4) as fake:
        code, done = interrupted([sys.executable, "-c", CHILD, fake.url, str(path)], fake, path, end)
        assert code != 0 and 4 <= done < 20
        if end == signal.SIGINT:
            assert done == len(fake.calls), "the requests under way were waited for"
        outcome = ask(endpoint(fake), requests(20), path)
        assert len(outcome.answers) == 20
        assert outcome.asked == 20 - done
    assert len({json.loads(line)["hash"] for line in path.read_text().splitlines()}) == 20
