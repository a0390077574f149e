"""Direct mode in SGLang: its own beam search, whose candidates are those of the trie.

SGLang ranks the likeliest tokens of the vocabulary (`_rows_topk_logprobs`) and then selects beams among them
(`_select_group`). We put off the first until the second says whose beams they are; a request that is none of ours gets
what it would have got.
"""

import logging
from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

import torch
from sglang.srt.managers.schedule_batch import FINISH_ABORT
from sglang.srt.plugins.hook_registry import HookRegistry, HookType
from torch import Tensor

from gream_ext.inference.engines.sglang_request import IMPOSSIBLE, BeamRequest
from gream_ext.plugins.sglang.catalogue import Catalogue, sentence
from gream_ext.plugins.sglang.frontier import Frontier

logger = logging.getLogger(__name__)

COORDINATOR = "sglang.srt.beam_search.coordinator"
FRONTIER = "gream_frontier"
"""Attribute of SGLang's ``BeamGroup`` under which our requests keep their beams."""


class Rows(NamedTuple):
    """The logits of one group, [beams, vocabulary] in the pieces that SGLang has them in, not ranked yet."""

    rank: Callable[..., tuple[Tensor, Tensor]]
    pieces: Sequence[Tensor]
    number: int


class Beams:
    """The hooks. Nothing that goes wrong in them leaves them: the request is refused, the server goes on."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue

    def admit(self, original: Callable[..., str | None], coordinator: Any, req: Any, recv_req: Any) -> str | None:
        """Around ``validate_and_init``: a frontier for a request of ours, or the reason why it is refused."""
        try:
            asked = BeamRequest.read(req.sampling_params.custom_params or {})
            if asked is None:
                return original(coordinator, req, recv_req)
            self.catalogue.admit(asked.catalogue, asked.part)
            trie = self.catalogue.trie.to(coordinator.req_to_token_pool.device)
            frontier = Frontier(trie, asked.part, asked.normalisation)
        except Exception as error:
            return sentence(error)
        levels = self.catalogue.trie.levels
        if req.sampling_params.max_new_tokens != levels or not req.sampling_params.ignore_eos:
            return f"gream_ext: direct mode needs max_new_tokens {levels} and ignore_eos"
        refusal = original(coordinator, req, recv_req)
        if refusal is not None:
            return refusal
        if req.beam_group.max_new_tokens != levels:
            coordinator.retire_group(req)
            req.beam_group = None
            return f"gream_ext: the prompt leaves no room for the {levels} tokens of an identifier"
        setattr(req.beam_group, FRONTIER, frontier)
        return None

    def rank(
        self, original: Callable[..., tuple[Tensor, Tensor]], pieces: Sequence[Tensor], num_candidates: int
    ) -> tuple[Rows, None]:
        """Around ``_rows_topk_logprobs``, whose only reader is ``_select_group``."""
        return Rows(original, pieces, num_candidates), None

    def select(
        self, original: Callable[..., Any], coordinator: Any, group: Any, rows: Rows, nothing: None, tick: int
    ) -> Any:
        """Around ``_select_group``: the candidates of the trie for a group of ours."""
        frontier: Frontier | None = getattr(group, FRONTIER, None)
        if frontier is None:
            return original(coordinator, group, *rows.rank(rows.pieces, rows.number), tick)
        try:
            candidates = frontier.candidates(torch.cat([piece for piece in rows.pieces if len(piece)]), rows.number)
        except Exception as error:
            candidates = _give_up(group, rows, error)
        tokens, parents = original(coordinator, group, *candidates, tick)
        if parents is not None:
            try:
                frontier.follow(tokens, parents)
            except Exception as error:
                _give_up(group, rows, error)
        return tokens, parents


def _give_up(group: Any, rows: Rows, error: Exception) -> tuple[Tensor, Tensor]:
    """End a group with an error; until SGLang has seen that, beams of which nothing is returned."""
    logger.error("gream_ext: a request of direct mode failed", exc_info=error)
    group.leader.to_finish = FINISH_ABORT(sentence(error), HTTPStatus.INTERNAL_SERVER_ERROR, "InternalServerError")
    beams = sum(len(piece) for piece in rows.pieces)
    device = rows.pieces[0].device
    return (
        torch.full((beams, rows.number), IMPOSSIBLE, device=device),
        torch.zeros((beams, rows.number), dtype=torch.int64, device=device),
    )


def hook(catalogue: Catalogue) -> None:
    """Register the hooks; SGLang applies them once all plug-ins have been called."""
    beams = Beams(catalogue)
    for name, around in {
        "BeamCoordinator.validate_and_init": beams.admit,
        "_rows_topk_logprobs": beams.rank,
        "BeamCoordinator._select_group": beams.select,
    }.items():
        HookRegistry.register(f"{COORDINATOR}.{name}", around, HookType.AROUND)
