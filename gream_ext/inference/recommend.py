"""Command ``recommend``: what a user may like next, by title, and why."""

import secrets
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from gream_ext.errors import GreamError
from gream_ext.inference.engines.names import (
    ENGINE_HELP,
    NORMALISATION_HELP,
    SERVER_HELP,
    EngineName,
    Normalisation,
    check_engine,
)
from gream_ext.inference.questions import Answer, Item, Question, Recommendation, Recommender, Text
from gream_ext.inference.source import Source, find_source, known_items
from gream_ext.inference.titles import Titles
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace

SHOWN_HISTORY = 8


@dataclass(frozen=True)
class RecommendSettings:
    user: str | None = option(None, help="a user of the workspace, with the whole history")
    history: list[str] | None = option(
        None, help="item ids, oldest first, by spaces or commas; none at all: a new user"
    )
    search: str | None = option(None, help="only list the items whose titles hold these words, with their ids")
    n: int = option(10, least=1, most=1000, help="how many items")
    explain: bool = option(False, help="let the model reason first, and show it")
    exclude_seen: bool = option(False, help="do not recommend what stands in the history")
    categories: list[str] = option([], help="only items of these categories")
    model: str | None = option(None, help="sft or srpo; without it the one that was trained last")
    export: str | None = option(None, help="a folder that `gream export` wrote, in place of the workspace")
    seed: int | None = option(None, help="of the reasoning; without it every call differs")
    engine: EngineName = option("transformers", help=ENGINE_HELP)
    server: str | None = option(None, help=SERVER_HELP)
    normalisation: Normalisation = option("catalogue", help=NORMALISATION_HELP)

    def __post_init__(self) -> None:
        asked = (self.user is not None, self.history is not None, self.search is not None)
        if sum(asked) != 1:
            raise GreamError("recommend needs one of --user ID, --history ID ID …, --search WORDS")
        check_engine(self.engine, self.server)
        if self.seed is not None and self.engine == "sglang":
            raise GreamError("--seed: the sglang engine cannot repeat a sample from its seed: leave it out")


def run(workspace: Workspace, settings: RecommendSettings) -> None:
    source = find_source(workspace, settings.model, settings.export)
    if settings.search is not None:
        show_found(source.titles, settings.search, max(settings.n, 10))
        return
    question = make_question(source, settings)
    from gream_ext.inference.model import load

    recommender = load(source, engine=settings.engine, server=settings.server, normalisation=settings.normalisation)
    show_history(source.titles, question.history)
    if settings.explain:
        explain(recommender, question)
    [found] = recommender.direct([question])
    show(found)


def make_question(source: Source, settings: RecommendSettings) -> Question:
    """Check what was asked; `GreamError` for an unknown user, item or category."""
    user = settings.user
    history = user_history(source, user) if user is not None else listed(source.titles, settings.history or [])
    among = None
    if settings.categories:
        among = frozenset(source.titles.in_categories(settings.categories))
        if not among:
            some = ", ".join(source.titles.category_names[:8]) or "none"
            raise GreamError(f"no item is in {', '.join(settings.categories)}; the largest categories: {some}")
    exclude = frozenset(history) if settings.exclude_seen else frozenset()
    seed = settings.seed
    if seed is None and settings.engine != "sglang":
        seed = secrets.randbits(32)
    return Question(history, settings.n, exclude, among, seed)


def user_history(source: Source, user: str) -> tuple[str, ...]:
    """All items of a user, oldest first."""
    histories = source.histories()
    if not histories:
        raise GreamError("an export knows no users: give --history")
    if user not in histories:
        some = ", ".join(list(histories)[:3])
        raise GreamError(f"user {user!r} is not in the interactions; there are {len(histories):,} such as {some}")
    return histories[user]


def listed(titles: Titles, words: Sequence[str]) -> tuple[str, ...]:
    """Item ids out of words, which may hold several between commas; `GreamError` names an unknown one."""
    ids = [part for word in words for part in ([word] if word in titles else word.split(","))]
    return known_items(titles, [part.strip() for part in ids if part.strip()])


def show_found(titles: Titles, words: str, limit: int) -> None:
    found = titles.search(words, limit)
    if not found:
        raise GreamError(f"no title holds {words!r}")
    width = max(map(len, found))
    for item in found:
        print(f"{item:<{width}}  {titles.title(item)}{categories_text(titles, item)}")


def show_history(titles: Titles, history: Sequence[str]) -> None:
    """The latest items, oldest first, each on a line of its own: titles hold commas."""
    if not history:
        print("History: none\n")
        return
    earlier = len(history) - SHOWN_HISTORY
    print("History:" + (f" {earlier} earlier, then" if earlier > 0 else ""))
    for item in history[-SHOWN_HISTORY:]:
        print(f"     {titles.title(item)}")
    print()


def explain(recommender: Recommender, question: Question) -> None:
    """Print the reasoning as it is made; item titles stand out, bold on a terminal and else in quotation marks."""
    bold, plain = ("\x1b[1m", "\x1b[0m") if sys.stdout.isatty() else ("“", "”")
    for piece in recommender.reason(question):
        if isinstance(piece, Text):
            text = piece.text
            for marker in ("<think>\n", "</think>\n", "<think>", "</think>", "<answer>", "</answer>"):
                text = text.replace(marker, "")
            print(text, end="", flush=True)
        elif isinstance(piece, Item):
            print(f"{bold}{piece.title}{plain}", end="", flush=True)
        elif isinstance(piece, Answer):
            said = (
                f"Recommended: {bold}{piece.item.title}{plain}" if piece.item else f"No recommendation: {piece.status}"
            )
            seed = f", seed {question.seed}" if question.seed is not None else ""
            print(f"\n\n{said} ({piece.tokens} tokens{seed})\n", flush=True)


def show(found: Sequence[Recommendation]) -> None:
    if not found:
        return
    width = max(len(one.title) for one in found)
    item_width = max(len(one.item_id) for one in found)
    for place, one in enumerate(found, start=1):
        print(f"{place:>3}  {one.item_id:<{item_width}}  {one.title:<{width}}  {one.score:8.3f}")


def categories_text(titles: Titles, item: str) -> str:
    own = titles.categories.get(item, ())
    return f"  ({', '.join(own)})" if own else ""


STAGE = Stage(name="recommend", settings=RecommendSettings, run=run)
