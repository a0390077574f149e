"""What engines and their options are called on the command line; imports nothing, so that a stage may name them."""

from typing import Literal

from gream_ext.errors import GreamError

EngineName = Literal["transformers", "sglang"]
Normalisation = Literal["catalogue", "vocabulary"]
"""As in `gream_ext.decoding.ranking`."""

ENGINE_HELP = "transformers: in this process; sglang: SGLang's offline engine, or the server that --server names"
SERVER_HELP = "address of a running SGLang server with our plug-in (docs/sglang.md), such as http://127.0.0.1:30000"
NORMALISATION_HELP = "of scores: over the tokens that continue a real item, or over the vocabulary (eq. 1)"

PriorName = Literal["co-occurrence"]
PRIOR_HELP = "direct mode: guide the beam by counts of training pairs, too; its figures stand apart from the model's"
WEIGHT_HELP = "how much the prior counts beside the model; choose it on validation users"
WEIGHT = 1.0


def check_engine(engine: str, server: str | None) -> None:
    """`GreamError` when a server is named for an engine that has none."""
    if server is not None and engine != "sglang":
        raise GreamError(f"--server names an SGLang server, but the engine is {engine}: add --engine sglang")


class Unavailable(GreamError):
    """The engine cannot be reached: no mistake of whoever asked, and asking again later may help."""
