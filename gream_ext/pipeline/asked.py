"""What a trained model's folder says of how it is asked, from the corpus and the recipe that train it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from gream_ext.base_model.chat_format import compare, set_chat_template
from gream_ext.base_model.model_format import DEFAULT_TEMPLATE, ModelFormat, write_format
from gream_ext.corpus.prompt_settings import read_prompt_settings
from gream_ext.pipeline.record import versions
from gream_ext.workspace import Workspace


def how_to_ask(workspace: Workspace, keys: Mapping[str, Any]) -> Callable[[Path], None]:
    """Compare the prompts that will be trained with those that inference writes, and say what describes the model.

    Returns:
        what is to be called with the trained model's folder: it writes ``gream_model.json``, and the chat template
        where the base model's own differs from what was trained.

    Raises:
        GreamError: the template does not fit the base model, or the corpus does not say how it asks.
    """
    template = keys.get("template") or DEFAULT_TEMPLATE
    how = ModelFormat(read_prompt_settings(workspace), template, versions())
    about = {name: keys[name] for name in ("default_system", "enable_thinking", "preserve_thinking") if name in keys}
    found = compare(workspace.model("base_model"), template, about)
    if found.told:
        print(f"sft: the base model: {found.told}")

    def describe(folder: Path) -> None:
        if found.chat_template is not None:
            set_chat_template(folder, found.chat_template)
        write_format(folder, how)

    return describe
