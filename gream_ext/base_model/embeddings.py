"""Rows for new tokens: how many the model needs, and what stands in them at first."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

import numpy as np
import torch
from transformers import PreTrainedModel

from gream_ext.items.index import ItemIndex

Initialisation = Literal["random", "mean", "semantic"]


def input_rows(model: PreTrainedModel) -> torch.Tensor:
    """The input embeddings, [rows, width]."""
    return cast(torch.Tensor, model.get_input_embeddings().weight)


def output_rows(model: PreTrainedModel) -> torch.Tensor | None:
    """The output embeddings, [rows, width], or None where they are the input embeddings."""
    output = model.get_output_embeddings()
    if output is None or output.weight is model.get_input_embeddings().weight:
        return None
    return cast(torch.Tensor, output.weight)


def make_room(model: PreTrainedModel, highest: int) -> None:
    """Give the model an embedding row for token id ``highest``; spare rows of a padded vocabulary are used first.

    The number of rows need not be the number of tokens: Qwen3-4B has 267 more.
    """
    rows = input_rows(model).shape[0]
    if highest >= rows:
        model.resize_token_embeddings(highest + 1, mean_resizing=False)


def code_texts(index: ItemIndex, texts: Sequence[str]) -> dict[str, list[int]]:
    """For each identifier token the rows of ``texts`` of the items that carry it; texts in the index's order."""
    found: dict[str, list[int]] = {token: [] for token in index.vocabulary}
    for row, identifier in enumerate(index.identifiers):
        if texts[row]:
            for token in identifier:
                found[token].append(row)
    return found


def semantic_rows(
    weight: np.ndarray,
    token_ids: Sequence[Sequence[int]],
    carriers: Mapping[str, Sequence[int]],
    generator: np.random.Generator,
    across: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    """A row for each token of ``carriers``: what the text of its items says beside that of the level's other codes.

    ``weight`` float [rows, width] holds the embeddings before, ``token_ids`` the ids of each item's
    text. A code's direction is the mean of its items' mean token embeddings, less the mean of its
    level; all are scaled to the same length, the typical distance of an embedding from the
    vocabulary's middle, and stand around that middle. Without the subtraction all new rows would
    point nearly the same way. A code without items gets a random direction.

    With ``across`` [width], the middle of all old rows, directions are taken at right angles to it and the rows
    stand around it: all are then equally long as they are. How far a row lies along the middle says how likely
    its token is everywhere, which is nothing that an item's text should decide.
    """
    used = sorted({token for ids in token_ids for token in ids})
    middle = weight[used].mean(axis=0)
    length = float(np.median(np.linalg.norm(weight[used] - middle, axis=1)))
    text_means = np.stack([weight[list(ids)].mean(axis=0) if len(ids) else middle for ids in token_ids])
    means = {token: text_means[list(rows)].mean(axis=0) for token, rows in carriers.items() if rows}
    levels: dict[str, list[np.ndarray]] = {}
    for token, mean in means.items():
        levels.setdefault(token[:3], []).append(mean)
    level_means = {level: np.mean(rows, axis=0) for level, rows in levels.items()}
    center = middle if across is None else across
    result = {}
    for token in carriers:
        direction = means[token] - level_means[token[:3]] if token in means else np.zeros(len(middle))
        direction = _across(direction, across)
        if np.linalg.norm(direction) < 1e-6 * max(length, 1e-6):
            direction = _across(generator.standard_normal(len(middle)), across)
        result[token] = (center + length * direction / np.linalg.norm(direction)).astype(np.float32)
    return result


def _across(direction: np.ndarray, axis: np.ndarray | None) -> np.ndarray:
    """``direction`` without its part along ``axis``, where there is one."""
    if axis is None or not (length := float(axis @ axis)):
        return direction
    return np.asarray(direction - axis * (direction @ axis) / length)


def spread_rows(old: np.ndarray, count: int, spread: float, generator: np.random.Generator) -> np.ndarray:
    """``count`` rows around the middle of ``old`` [rows, width]: ``spread`` 1 as wide as they, 0 the middle itself."""
    middle, width = old.mean(axis=0), old.std(axis=0)
    rows = middle + spread * width * generator.standard_normal((count, old.shape[1]))
    return np.asarray(rows, dtype=np.float32)


def initial_rows(
    weight: np.ndarray,
    old: Sequence[int],
    tokens: Sequence[str],
    how: Initialisation,
    texts: tuple[Sequence[Sequence[int]], Mapping[str, Sequence[int]]] | None,
    seed: int,
    equal_length: bool = False,
) -> np.ndarray:
    """float32 [tokens, width]: the first values of the new tokens' rows; the same for the same seed.

    ``weight`` float [rows, width] is the embedding matrix, ``old`` the rows of the tokens known before.

    ``random``: as the old rows are spread. ``mean``: the old rows' middle with a little noise, so that no two
    are equal. ``semantic``: `semantic_rows` for the identifier tokens, which need ``texts`` (the token ids of
    each item's text and which items carry a token); the others as in ``mean``.

    With ``equal_length`` every new row is then scaled to the median length of the old ones, whatever ``how``;
    those of ``semantic`` are made ``across`` the old rows' middle before.
    """
    generator = np.random.default_rng(seed)
    rows = spread_rows(weight[list(old)], len(tokens), 1.0 if how == "random" else 0.05, generator)
    if how == "semantic" and texts is not None:
        # Around the origin, equal lengths would stretch most the rows that point away from the middle.
        across = weight[list(old)].mean(axis=0) if equal_length else None
        semantic = semantic_rows(weight, *texts, generator, across)
        for place, token in enumerate(tokens):
            if token in semantic:
                rows[place] = semantic[token]
    if equal_length:
        length = np.median(np.linalg.norm(weight[list(old)], axis=1))
        rows *= length / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return rows


def fill(weight: torch.Tensor, ids: Iterable[int], rows: np.ndarray) -> None:
    """Write ``rows`` [ids, width] into the rows ``ids`` of a parameter."""
    with torch.no_grad():
        weight[list(ids)] = torch.from_numpy(rows).to(weight.dtype)
