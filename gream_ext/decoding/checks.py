"""What is refused wherever tokens are decoded, each in one sentence."""

from collections.abc import Sequence

from gream_ext.errors import GreamError, ModelFault

NOTHING_ALLOWED = "the sub-catalogue of this request holds no item: allow at least one"


def check_prompts(prompts: Sequence[Sequence[int]]) -> None:
    """`GreamError` when one of the prompts (token ids) is empty."""
    for number, prompt in enumerate(prompts):
        if not len(prompt):
            raise GreamError(f"prompt {number} is empty: give at least one token")


def check_ranges(temperature: float, top_p: float, max_new_tokens: int) -> None:
    """`GreamError` for an option of sampling that is out of its range."""
    if not (temperature >= 0 and 0 < top_p <= 1 and max_new_tokens >= 1):
        raise GreamError(
            "sampling needs temperature ≥ 0, 0 < top_p ≤ 1 and max_new_tokens ≥ 1, "
            f"not {temperature}, {top_p} and {max_new_tokens}"
        )


def check_numbers(sound: bool) -> None:
    """`ModelFault` unless what a model computed is ``sound``."""
    if not sound:
        raise ModelFault("the model's logits are no numbers: its training diverged or its weights are damaged")
