"""The prompts of both modes, as chat messages, and where their wording is read from.

Wording lives in ``templates/``: a YAML list of texts with ``{slots}`` a task, the first of which is canonical:
training sees all of them, inference and RL ask with the first. `Words` say what people do with the items.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from random import Random
from typing import TYPE_CHECKING, Literal

import yaml

from gream_ext.corpus.words import PRODUCT, Words
from gream_ext.errors import GreamError

if TYPE_CHECKING:
    from gream_ext.items.index import ItemIndex

Message = dict[str, str]
SystemPrompt = Literal["full", "short"]

WINDOW = 20
"""Items of a history that a prompt shows: the last ones."""

SEPARATOR = ", "
"""Stands between two identifiers, in prompts and in responses that list several."""


def history_text(index: "ItemIndex", item_ids: Sequence[str], window: int = WINDOW) -> str:
    """The last ``window`` items as they stand in a prompt, oldest first: identifiers joined by ``, ``.

    `GreamError` for an unknown item.
    """
    return SEPARATOR.join(index.text(item) for item in item_ids[-window:])


def direct_messages(history_text: str, words: Words = PRODUCT) -> list[Message]:
    """The prompt of direct mode: one user message, answered by the bare identifier.

    >>> direct_messages("<|a_1|><|b_2|>")[0]["content"][:43]
    'The user has interacted with items <|a_1|><'
    """
    return [{"role": "user", "content": wordings("direct", words)[0].format(history=history_text)}]


def reason_messages(history_text: str, system_prompt: SystemPrompt = "full", words: Words = PRODUCT) -> list[Message]:
    """The prompt of reasoning mode: a system message, the appendix's or a short one, and a user message.

    A model is asked with the system prompt and the words that it was trained with.

    >>> [message["role"] for message in reason_messages("<|a_1|><|b_2|>", system_prompt="short")]
    ['system', 'user']
    """
    return [
        {"role": "system", "content": system_text(system_prompt, words)},
        {"role": "user", "content": wordings("reason", words)[0].format(history=history_text)},
    ]


def system_text(system_prompt: SystemPrompt, words: Words = PRODUCT) -> str:
    """The system message of reasoning mode."""
    return words.put_into(template_text(f"system_{system_prompt}.txt"))


@cache
def wordings(task: str, words: Words = PRODUCT) -> tuple[str, ...]:
    """All templates of a task, the canonical one first."""
    return tuple(words.put_into(text) for text in yaml.safe_load(template_text(f"{task}.yaml")))


def drawn_wording(task: str, canonical_share: float, rng: Random, words: Words = PRODUCT) -> str:
    """The first template with probability ``canonical_share``, else one of the others."""
    known = wordings(task, words)
    if len(known) == 1 or rng.random() < canonical_share:
        return known[0]
    return known[rng.randrange(1, len(known))]


def fixed_texts(words: Words = PRODUCT) -> Iterator[str]:
    """What stands around the slots in all prompts and answers."""
    for file in sorted(files("gream_ext.corpus").joinpath("templates").iterdir(), key=lambda file: file.name):
        text = file.read_text(encoding="utf-8")
        for one in yaml.safe_load(text) if file.name.endswith(".yaml") else [text.strip()]:
            yield from (part for part in re.split(r"\{\w+\}", words.put_into(one)) if part)


@cache
def template_text(name: str, package: str = "gream_ext.corpus") -> str:
    """The text of a file in the ``templates/`` of a room."""
    try:
        return files(package).joinpath("templates", name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise GreamError(f"there is no template file {name}: reinstall gream-ext") from None
