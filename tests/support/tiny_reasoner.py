"""A tiny Qwen3 that has learnt to reason in one line and to answer with an item: seconds to train, one thread."""

from pathlib import Path

import torch

from gream_ext.base_model.model_format import ModelFormat, write_format
from gream_ext.corpus.prompt_settings import PromptSettings
from gream_ext.corpus.prompts import direct_messages, history_text, reason_messages
from gream_ext.items.index import ItemIndex
from gream_ext.workspace import Workspace
from tests.support.synthetic import make_workspace
from tests.support.tiny_models import tiny_chat_model

RESPONSE = "<think>\nso\n</think>\n<answer>{}</answer>"
"""What it learns to write; which item, it does not."""

CONTEXT = 2560
"""Tokens that the model can read and write."""


def make_reasoner_workspace(folder: str | Path, slot: str = "always", steps: int = 60) -> Workspace:
    """Interactions, items, item index and the model ``sft``. ``slot`` as in `synthetic_index`."""
    workspace = make_workspace(folder, users=20, items=40, slot=slot)
    index = ItemIndex.load(workspace.item_index)
    model, tokenizer = tiny_chat_model(index, max_position_embeddings=CONTEXT)
    # A model whose weights have opinions of their own is slow to teach.
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.div_(4.0)
    _train(model, tokenizer, index, steps)
    model.save_pretrained(workspace.model("sft"))
    tokenizer.save_pretrained(workspace.model("sft"))
    write_format(workspace.model("sft"), ModelFormat(PromptSettings(system_prompt="short")))
    return workspace


def _train(model, tokenizer, index, steps):
    chance = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    end = tokenizer.eos_token_id
    for _ in range(steps):
        items = [index.item_ids[int(row)] for row in torch.randint(len(index), (4,), generator=chance)]
        history, target = history_text(index, items[:3], 20), index.text(items[3])
        loss = torch.zeros(())
        for messages, response in (
            (reason_messages(history, system_prompt="short"), RESPONSE.format(target)),
            (direct_messages(history), target),
        ):
            prompt = tokenizer.apply_chat_template(
                list(messages), tokenize=True, add_generation_prompt=True, return_dict=False
            )
            written = [*tokenizer.encode(response, add_special_tokens=False), end]
            ids = torch.tensor([[*prompt, *written]])
            labels = ids.clone()
            labels[:, : len(prompt)] = -100
            loss = loss + model(input_ids=ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
