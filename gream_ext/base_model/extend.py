"""Markers and identifier tokens in a model: tokens that decode as text, each with an initialised row."""

from collections.abc import Sequence

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from gream_ext.base_model.embeddings import (
    Initialisation,
    code_texts,
    fill,
    initial_rows,
    input_rows,
    make_room,
    output_rows,
)
from gream_ext.base_model.tokenizer import add_ordinary_tokens
from gream_ext.errors import GreamError
from gream_ext.items.index import ItemIndex

MARKERS = ("<think>", "</think>", "<answer>", "</answer>")


def extend(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    index: ItemIndex,
    texts: Sequence[str],
    how: Initialisation,
    seed: int = 0,
    equal_length: bool = False,
) -> dict[str, int]:
    """Add what the tokenizer lacks of markers and identifier tokens, and initialise their rows; changes both.

    ``texts`` are the items' words in the order of the index. Where input and output embeddings are not tied
    both get rows, each from its own old ones. Rows of tokens that the model knew before stay as they are.
    ``equal_length`` gives all new rows the median length of the old ones.

    Returns:
        counts for the record: tokens, rows, rows_before, new.

    Raises:
        GreamError: a token would be split, or is special in this tokenizer and so lost in decoding.
    """
    tokens = [*MARKERS, *index.vocabulary]
    known = tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    add_ordinary_tokens(tokenizer, tokens)
    ids = dict(zip(tokens, check_tokens(tokenizer, tokens), strict=True))
    rows_before = input_rows(model).shape[0]
    make_room(model, max(ids.values()))
    about = None
    if how == "semantic":
        words = tokenizer(list(texts), add_special_tokens=False)["input_ids"]
        about = ([[word for word in text if word < rows_before] for text in words], code_texts(index, texts))
    # Spare rows of a padded vocabulary were never trained: they tell nothing of how a row should look.
    old = sorted(token for token in known.values() if token < rows_before)
    for weight in (input_rows(model), output_rows(model)) if new else ():
        if weight is None:
            continue
        rows = initial_rows(weight.detach().float().cpu().numpy(), old, new, how, about, seed, equal_length)
        fill(weight, [ids[token] for token in new], rows)
    return {"tokens": len(tokenizer), "rows": input_rows(model).shape[0], "rows_before": rows_before, "new": len(new)}


def add_special_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str], seed: int
) -> None:
    """Add the markers of a chat template, which vanish from decoded text, with rows near the middle of the others."""
    rows_before = input_rows(model).shape[0]
    known = tokenizer.get_vocab()
    new = [token for token in dict.fromkeys(tokens) if token not in known]
    if not new:
        return
    tokenizer.add_tokens(new, special_tokens=True)
    ids = [tokenizer.get_vocab()[token] for token in new]
    make_room(model, max(ids))
    old = sorted(token for token in known.values() if token < rows_before)
    for weight in (input_rows(model), output_rows(model)):
        if weight is not None:
            fill(weight, ids, initial_rows(weight.detach().float().cpu().numpy(), old, new, "mean", None, seed))


def check_tokens(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> list[int]:
    """The id of each token; `GreamError` for one that is split, or special."""
    encoded = tokenizer(list(tokens), add_special_tokens=False)["input_ids"]
    special = set(tokenizer.all_special_ids)
    for token, ids in zip(tokens, encoded, strict=True):
        if len(ids) != 1:
            raise GreamError(f"the base model's tokenizer splits {token} into {len(ids)} tokens")
        if ids[0] in special:
            raise GreamError(f"{token} is a special token of the base model: it would vanish from decoded responses")
    return [ids[0] for ids in encoded]
