"""The options of every stage that may ask an LLM."""

from dataclasses import dataclass, fields
from typing import Any

from gream_ext.stage import option


@dataclass(frozen=True)
class AskSettings:
    """Where an LLM is asked, and how; needs no key of ours but the name of its variable."""

    base_url: str = option("", help="address of an OpenAI-compatible endpoint, e.g. http://127.0.0.1:8000/v1")
    model: str = option("", help="name of the model at that endpoint")
    api_key_env: str | None = option(None, help="environment variable that holds the endpoint's key")
    concurrency: int = option(8, least=1, help="requests under way at once")
    max_tokens: int = option(1024, least=1, help="longest answer of the LLM, in tokens")
    temperature: float = option(0.7, least=0, help="sampling temperature of the LLM")
    timeout: float = option(120.0, above=0, help="seconds for one request")
    attempts: int = option(6, least=1, help="how often a request is sent while the endpoint fails, stalls or says 429")
    rejections: int = option(3, least=1, help="rejected answers that one question may cost")
    extra: dict[str, Any] = option(
        {}, help="further fields of a request: 'chat_template_kwargs={enable_thinking: false}'"
    )
    tolerate: float = option(0.05, least=0, most=1, help="share of the questions that may stay without an answer")
    dry_run: bool = option(False, help="only say how many requests and tokens an LLM would take")


ENDPOINT_KEYS = tuple(field.name for field in fields(AskSettings) if field.name not in ("tolerate", "dry_run"))
