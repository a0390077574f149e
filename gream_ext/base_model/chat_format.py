"""A model's chat template against LLaMA-Factory's: which template trains it, and what it is asked with.

LLaMA-Factory is asked in a process of its own; where it is not installed nothing is compared.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gream_ext.errors import GreamError

PROGRAM = "gream_ext.plugins.llamafactory.template"


@dataclass(frozen=True)
class ChatFormat:
    """The template that trains a model, and what its tokenizer needs to ask with the same tokens."""

    template: str
    chat_template: str | None
    """Jinja to take the place of the tokenizer's own; None: its own writes the same tokens."""
    eos_token: str
    new_tokens: list[str]
    """Special tokens that the tokenizer lacks."""
    asked: list[int | None]
    """Tokens of the prompts of direct mode and of reasoning mode with both system prompts; None: refused."""
    trained: list[int]

    @property
    def told(self) -> str | None:
        """Why the chat template was replaced, for people."""
        if self.chat_template is None:
            return None
        if not any(self.asked):
            return f"it has no chat template: it is asked as LLaMA-Factory's {self.template} trains"
        pairs = zip(("direct", "reason"), self.asked, self.trained, strict=False)
        said = [
            f"the {mode} prompt with {own} tokens instead of {new}" if own else f"no {mode} prompt"
            for mode, own, new in pairs
            if own != new
        ]
        said = said or ["the prompts with other tokens"]
        return f"its chat template writes {' and '.join(said)}: it is asked as LLaMA-Factory's {self.template} trains"


def compare(
    folder: Path, template: str | None, keys: dict[str, Any] | None = None, add: bool = False, name: str | None = None
) -> ChatFormat:
    """Render both modes' prompts by LLaMA-Factory's ``template`` and by the tokenizer of ``folder``.

    Without ``template`` the one is found that writes what the tokenizer's own chat template does. ``keys`` are those of
    the recipe, all of them LLaMA-Factory's; ``add`` allows tokens that the tokenizer lacks; ``name`` is what the model
    is called in messages.

    Raises:
        GreamError: no template fits, or a key is unknown; the message has the cure.
    """
    name = name or folder.name
    if not can_compare():
        raise GreamError("LLaMA-Factory is not installed here: pip install 'gream-ext[sft]'")
    with tempfile.TemporaryDirectory() as place:
        request, reply = Path(place, "request.json"), Path(place, "reply.json")
        asked = {"folder": str(folder.resolve()), "template": template, "keys": keys or {}, "add": add}
        request.write_text(json.dumps(asked, default=str), encoding="utf-8")
        words = [sys.executable, "-m", PROGRAM, str(request), str(reply)]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if not reply.exists():
            last = (done.stdout.strip().splitlines() or ["it said nothing"])[-1]
            raise GreamError(f"LLaMA-Factory's templates cannot be compared with those of {name}: {last}")
        found = json.loads(reply.read_text(encoding="utf-8"))
    if "unknown" in found:
        raise GreamError(found["unknown"])
    if "refused" not in found:
        return ChatFormat(**found)
    if template is not None:
        cure = found["instead"] and f"set template to {found['instead']}, which the model's own chat template is like"
        other = f"make the base model again with --template {template}, which adds it, or choose another template"
        why = found["refused"][template]
        raise GreamError(f"template {template} does not fit {name}: {why}: {cure or other}")
    tried = "; ".join(f"{one}: {why}" for one, why in found["refused"].items())
    hint = tried or f"the nearest: {', '.join(found['nearest'])}"
    raise GreamError(
        f"no template of LLaMA-Factory trains what the chat template of {name} asks ({hint}): choose one by "
        "--template, and the model is asked as that one trains"
    )


def can_compare() -> bool:
    """Whether LLaMA-Factory is installed."""
    return find_spec("llamafactory") is not None


def set_chat_template(folder: Path, jinja: str) -> None:
    """Let the tokenizer saved in ``folder`` write prompts by ``jinja``."""
    (folder / "chat_template.jinja").write_text(jinja, encoding="utf-8")
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    if settings.pop("chat_template", None) is not None:  # as transformers 4 wrote it
        path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
