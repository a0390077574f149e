"""Attention to a part of the keys, in such a form that two parts can be put together.

Softmax over two sets of keys is the mean of both results, weighted by their sums of exponentials: each part therefore
gives its output and the logsumexp of its scores.
"""

import torch
from torch import Tensor

Part = tuple[Tensor, Tensor]
"""Output [batch, heads, queries, width], and logsumexp float32 [batch, heads, queries, 1]."""


def plain(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Part:
    """The reference, for every device.

    ``query`` [batch, heads, queries, width], ``key`` and ``value`` [batch, heads, keys, width]. ``bias`` [batch, 1, 1,
    keys] is added to the scores: minus infinity where a key does not count; None: all do.
    """
    scores = (query @ key.transpose(2, 3)).float() * scaling
    if bias is not None:
        scores = scores + bias
    top = scores.amax(-1, keepdim=True)
    weights = (scores - top).exp_()
    total = weights.sum(-1, keepdim=True)
    return (weights.to(value.dtype) @ value).float() / total, top + total.log()


def fused(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Part:
    """The same by torch's own kernels, which never write the scores down; `plain` where there is none.

    They are the kernels below `torch.nn.functional.scaled_dot_product_attention`, which keeps the logsumexp to itself.
    `gream_ext.decoding.language_model.probe` tries them out before they are used.
    """
    if query.device.type == "cuda":
        return on_gpu(query, key, value, bias, scaling)
    if query.device.type != "cpu":
        return plain(query, key, value, bias, scaling)
    output, total = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, attn_mask=_spread(bias, query), scale=scaling
    )
    return output, total[..., None]


def on_gpu(query: Tensor, key: Tensor, value: Tensor, bias: Tensor | None, scaling: float) -> Part:
    """FlashAttention where every key counts, the memory-efficient kernel otherwise."""
    if bias is None and query.dtype in (torch.float16, torch.bfloat16):
        output, total, *_ = torch.ops.aten._scaled_dot_product_flash_attention(query, key, value, scale=scaling)
    elif bias is None or key.shape[2] % 8 == 0:
        # Of a mask whose rows are no multiple of 16 bytes the kernel wants a copy: buckets of `graphs` are.
        output, total, *_ = torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, _spread(bias, query), True, scale=scaling
        )
    else:
        return plain(query, key, value, bias, scaling)
    return output, total[..., : query.shape[2], None]


def _spread(bias: Tensor | None, query: Tensor) -> Tensor | None:
    return None if bias is None else bias.expand(-1, query.shape[1], query.shape[2], -1)


def merged(one: Part, other: Part) -> Tensor:
    """Attention to the keys of both parts, float32 [batch, heads, queries, width]."""
    share = (one[1] - other[1]).sigmoid()
    return one[0] * share + other[0] * (1 - share)
