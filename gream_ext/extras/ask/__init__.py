"""Many requests to an LLM behind an OpenAI-compatible endpoint: concurrent, retried, resumable.

    endpoint = Endpoint("http://127.0.0.1:8000/v1", "qwen3-4b", api_key_env="MY_KEY")
    outcome = ask(endpoint, [Request("item-7", messages)], Path("ledger.jsonl"), validate=good_enough)

Every answer is written to the ledger the moment it comes back, so that a batch which is interrupted goes on
where it stopped. The API key is read from an environment variable and stands in no file, log or message.
"""

from gream_ext.extras.ask.batch import Estimate, ask, estimate
from gream_ext.extras.ask.endpoint import Endpoint, Request
from gream_ext.extras.ask.outcome import Outcome, Validate

__all__ = ["Endpoint", "Estimate", "Outcome", "Request", "Validate", "ask", "estimate"]
