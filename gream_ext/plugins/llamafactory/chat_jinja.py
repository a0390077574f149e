"""One of LLaMA-Factory's templates as a chat template of transformers, so that the format travels with the tokenizer.

LLaMA-Factory writes such templates too, without what its templates put before an answer and not for every template.
"""

import json
import re
from collections.abc import Sequence
from typing import Any

from gream_ext.plugins.llamafactory import internals

WITHIN_USER = internals.find("templates", "llamafactory.data.template", "Llama2Template")
"""The kind of template that puts the system prompt into the first turn of the user."""


def jinja_of(template: Any, tokenizer: Any) -> str:
    """A chat template that writes what LLaMA-Factory's ``template`` does, what precedes the answer included."""

    def words(slots: Sequence[Any], **variables: str) -> str:
        parts = []
        for slot in slots:
            if isinstance(slot, str):
                for part in re.split(r"(\{\{\w+\}\})", slot):
                    name = part.strip("{}")
                    parts.append(variables.get(name, "''") if part.startswith("{{") else _quoted(part))
            elif isinstance(slot, dict):
                parts.append(_quoted(slot["token"]))
            else:
                token = tokenizer.bos_token if "bos_token" in slot else tokenizer.eos_token
                parts.append(_quoted(token or ""))
        return " ~ ".join(part for part in parts if part != "''") or "''"

    within_user = isinstance(template, WITHIN_USER)
    system = words(template.format_system.slots, content="system.text")
    answer = template.format_assistant.slots
    lead = answer[0].partition("{{content}}")[0] if answer and isinstance(answer[0], str) else ""
    return (
        "{% set system = namespace(text=" + _quoted(template.default_system) + ") %}"
        "{% if messages[0]['role'] == 'system' %}{% set system.text = messages[0]['content'] %}"
        "{% set messages = messages[1:] %}{% endif %}"
        "{{ " + words(template.format_prefix.slots) + " }}"
        + ("" if within_user else "{% if system.text %}{{ " + system + " }}{% endif %}")
        + "{% for message in messages %}{% set content = message['content'] %}"
        + ("{% if loop.first and system.text %}{% set content = " + system + " ~ content %}{% endif %}"
           if within_user else "")
        + "{% if message['role'] == 'user' %}{{ " + words(template.format_user.slots, content="content") + " }}"
        "{% elif message['role'] == 'assistant' %}{{ " + words(answer, content="content") + " }}{% endif %}{% endfor %}"
        + ("{% if add_generation_prompt %}{{ " + _quoted(lead) + " }}{% endif %}" if lead else "")
    )  # fmt: skip


def _quoted(text: str) -> str:
    """A string of Jinja; without quotation marks that JSON would escape in another way."""
    return "'" + json.dumps(text, ensure_ascii=False)[1:-1].replace('\\"', '"').replace("'", "\\'") + "'"
