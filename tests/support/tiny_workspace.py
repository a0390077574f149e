"""A workspace with a model that knows nothing, as far as recommending needs one."""

from pathlib import Path

from gream_ext.base_model.model_format import ModelFormat, write_format
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace
from tests.support.tiny_models import tiny_chat_model


def make_model_workspace(folder: str | Path, model: str = "sft", users: int = 20, items: int = 40) -> Workspace:
    """Interactions, items, item index, and under ``model`` a random Qwen3 with its tokenizer."""
    workspace = make_workspace(folder, users=users, items=items)
    made, tokenizer = tiny_chat_model(ItemIndex.load(workspace.item_index), max_position_embeddings=2048)
    made.save_pretrained(workspace.model(model))
    tokenizer.save_pretrained(workspace.model(model))
    write_format(workspace.model(model), ModelFormat(PromptSettings(system_prompt="short")))
    return workspace
