"""Is a model asked with the tokens that LLaMA-Factory trains? The prompts of both modes, rendered both ways.

Run as a program, ``python -m gream_ext.plugins.llamafactory.template REQUEST REPLY`` (two JSON files), because the
rooms that ask import no framework; `gream_ext.base_model.chat_format` writes the one and reads the other.
"""

import copy
import dataclasses
import difflib
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from gream_ext.base_model.model_format import DEFAULT_TEMPLATE
from gream_ext.corpus.prompts import Message, direct_messages, reason_messages
from gream_ext.errors import GreamError, did_you_mean
from gream_ext.plugins.llamafactory import internals
from gream_ext.plugins.llamafactory.chat_jinja import jinja_of

TEMPLATES: dict[str, Any] = internals.find("templates", "llamafactory.data.template", "TEMPLATES")
MARKER = re.compile(r"<\|[\w\-]+\|>|<[a-z]+_of_turn>")
"""What a template writes to mark turns; a base model without a chat template gets these as tokens."""


class Unfit(GreamError):
    """Why a template does not do for these prompts, as the end of a sentence."""


@dataclass(frozen=True)
class Probe:
    """A conversation as the corpus has it. Responses begin and end with a token of their own."""

    messages: tuple[Message, ...]
    response: str

    @property
    def system(self) -> str | None:
        return self.messages[0]["content"] if len(self.messages) > 1 else None

    @property
    def user(self) -> str:
        return self.messages[-1]["content"]


def probes(tokenizer: Any) -> list[Probe]:
    """One of direct mode, and of reasoning mode one with each system prompt."""
    levels = [sorted(token for token in tokenizer.get_vocab() if re.fullmatch(rf"<\|{level}_\d+\|>", token))[:1]
              for level in "abcde"]  # fmt: skip
    item = "".join(token for found in levels for token in found)
    history = ", ".join([item] * 3)
    reasoned = f"<think>\nStep 1: so\n</think>\nThe product is <answer>{item}</answer>"
    reasons = [reason_messages(history, system_prompt=kind) for kind in ("full", "short")]
    return [Probe(tuple(direct_messages(history)), item), *(Probe(tuple(asked), reasoned) for asked in reasons)]


def trained(template: Any, tokenizer: Any, probe: Probe) -> tuple[list[int], list[int], list[int]]:
    """As LLaMA-Factory trains them: the prompt, what it puts before the content of the response, and the rest.

    What stands before the content, a blank often, belongs to the prompt when the model is asked.
    """
    turns = [{"role": "user", "content": probe.user}, {"role": "assistant", "content": probe.response}]
    prompt, response = template.encode_oneturn(tokenizer, turns, probe.system)
    content = tokenizer.encode(probe.response, add_special_tokens=False)
    first = next((at for at in range(8) if response[at : at + len(content)] == content), None)
    if first is None:
        raise Unfit("it changes what the model is to answer")
    lead = tokenizer.decode([*prompt[-8:], *response[:first]])
    if "</think>" in lead:
        raise Unfit("it trains an empty <think> block before direct answers")
    rest = [*response[first + len(content) :], *([tokenizer.eos_token_id] if template.efficient_eos else [])]
    ends = {tokenizer.eos_token_id, *map(tokenizer.convert_tokens_to_ids, template.stop_words)}
    if not ends & set(rest):
        raise Unfit("it ends no answer with an end token")
    return prompt, response[:first], [*content, *rest]


def asked(tokenizer: Any, probe: Probe, jinja: str | None = None, folded: bool = False) -> list[int] | None:
    """The prompt as inference and Verl render it, by ``jinja`` or the tokenizer's own; None where that fails.

    ``folded`` puts the system prompt into the user's turn.
    """
    messages = list(probe.messages)
    if folded and probe.system is not None:
        messages = [{"role": "user", "content": f"{probe.system}\n\n{probe.user}"}]
    try:
        rendered = tokenizer.apply_chat_template(
            messages, chat_template=jinja, tokenize=True, add_generation_prompt=True, return_dict=False
        )
    except Exception:  # whatever a foreign template raises
        return None
    return list(rendered)


def fit(tokenizer: Any, name: str, keys: dict[str, Any], add: bool) -> dict[str, Any]:
    """How a model is asked that is trained with the template ``name``; changes ``tokenizer`` as the training would.

    ``add`` lets tokens that the template needs be new ones, whose rows the caller makes. `Unfit` says why not.
    """
    if name not in TEMPLATES:
        raise Unfit(f"LLaMA-Factory {internals.version()} has no such template")
    template = copy.deepcopy(TEMPLATES[name])
    for key in ("default_system", "enable_thinking", "preserve_thinking"):
        if keys.get(key) is not None:
            setattr(template, key, keys[key])
    known = tokenizer.get_vocab()
    if add and not tokenizer.chat_template:
        slots = (template.format_prefix, template.format_system, template.format_user, template.format_assistant)
        text = " ".join(slot for one in slots for slot in one.slots if isinstance(slot, str))
        tokenizer.add_tokens(MARKER.findall(text), special_tokens=True)
    template.fix_special_tokens(tokenizer)
    found = probes(tokenizer)
    rows = [trained(template, tokenizer, probe) for probe in found]
    new = {token: word for word, token in tokenizer.get_vocab().items() if word not in known}
    needed = new.keys() & {token for row in rows for part in row for token in part}
    if needed and not add:
        raise Unfit(f"the model has no token {new[min(needed)]}")
    own = [asked(tokenizer, probe) for probe in found] if tokenizer.chat_template else [None] * len(found)
    wanted = [[*prompt, *lead] for prompt, lead, _ in rows]
    written = None
    if own != wanted:
        written = jinja_of(template, tokenizer)
        if [asked(tokenizer, probe, written) for probe in found] != wanted:
            raise Unfit("its tokens cannot be written by a chat template")
    return {
        "template": name, "chat_template": written, "eos_token": tokenizer.eos_token,
        "new_tokens": [new[token] for token in sorted(new)],
        "asked": [None if prompt is None else len(prompt) for prompt in own], "trained": list(map(len, wanted)),
    }  # fmt: skip


def likely(tokenizer: Any) -> Iterator[str]:
    """Templates that write what the tokenizer's own does, the best first.

    Where that takes no system message, the system prompt in the user's turn counts; where it adds a block of its own (a
    date, a default system prompt), all but that block.
    """
    found = probes(tokenizer)
    own = [asked(tokenizer, probe) for probe in found]
    folded = [asked(tokenizer, probe, folded=True) for probe in found]
    ranked: list[tuple[int, bool, bool, int, str]] = []
    for number, (name, template) in enumerate(TEMPLATES.items()):
        try:
            wanted = [trained(template, tokenizer, probe)[0] for probe in found]
        except Exception:  # whatever that template makes of tokens that this tokenizer lacks
            continue
        if own == wanted:
            rank = 0
        elif own[0] == wanted[0] and None in own and folded == wanted:
            rank = 1
        elif all(one is not None and within(some, one) for some, one in zip(wanted, own, strict=True)):
            rank = 2
        else:
            continue
        ranked.append((rank, name != DEFAULT_TEMPLATE, type(template.mm_plugin).__name__ != "BasePlugin", number, name))
    yield from (entry[-1] for entry in sorted(ranked))


def within(some: Sequence[int], more: Sequence[int]) -> bool:
    """Whether ``more`` is ``some`` with one block put into it.

    >>> within([1, 2, 3], [1, 9, 9, 2, 3]), within([1, 2, 3], [1, 9, 2, 8, 3])
    (True, False)
    """
    first = next((at for at, pair in enumerate(zip(some, more, strict=False)) if pair[0] != pair[1]), len(some))
    left = len(some) - first
    return len(more) >= len(some) and (not left or list(some[first:]) == list(more[-left:]))


def nearest(tokenizer: Any) -> list[str]:
    """Three templates whose direct prompt is most like the tokenizer's own."""
    probe = probes(tokenizer)[0]
    own = asked(tokenizer, probe) or []
    scores: list[tuple[float, int, str]] = []
    for name, template in TEMPLATES.items():
        try:
            wanted = trained(dataclasses.replace(template, default_system=""), tokenizer, probe)[0]
        except Exception:
            continue
        scores.append((-difflib.SequenceMatcher(None, own, wanted, autojunk=False).ratio(), len(scores), name))
    return [name for *_, name in sorted(scores)[:3]]


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """The reply to a request: ``folder`` of a tokenizer, ``template`` or None, ``keys`` of the recipe, ``add``."""
    internals.check("templates")
    folder, keys, add = request["folder"], request.get("keys", {}), request.get("add", False)
    kinds = internals.find("curriculum", "llamafactory.hparams.parser", "_TRAIN_ARGS")
    known = [one.name for kind in kinds for one in dataclasses.fields(kind)]
    for key in (key.partition(".")[0] for key in keys):
        if key not in known:
            return {"unknown": f"LLaMA-Factory {internals.version()} has no key {key}: {did_you_mean(key, known)}"}

    def opened() -> Any:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    tokenizer = opened()
    if (name := request.get("template")) is None and not tokenizer.chat_template:
        name, add = DEFAULT_TEMPLATE, True
    candidates = [name] if name else list(likely(tokenizer))
    reasons: dict[str, str] = {}
    for candidate in candidates:
        try:
            return fit(opened(), candidate, keys, add and name is not None)
        except Unfit as error:
            reasons[candidate] = str(error)
    others = likely(tokenizer) if tokenizer.chat_template and name else iter(())
    return {
        "refused": reasons, "nearest": nearest(tokenizer) if not candidates else [],
        "instead": next((one for one in others if one != name), None),
    }  # fmt: skip


if __name__ == "__main__":
    request_path, reply_path = map(Path, sys.argv[1:])
    reply_path.write_text(json.dumps(answer(json.loads(request_path.read_text(encoding="utf-8")))), encoding="utf-8")
