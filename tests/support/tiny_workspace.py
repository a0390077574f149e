"""A workspace with a model that knows nothing, as far as recommending needs one."""

import json
from pathlib import Path

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
    record = {"label": "corpus reason", "settings": {"system_prompt": "short", "window": 20}, "seconds": 1.0}
    workspace.path("stages").mkdir()
    workspace.path("stages", "corpus-reason.json").write_text(json.dumps(record))
    return workspace
