"""What ``recommend`` and ``export`` do: what a user may like next, by title, and why; and a folder for elsewhere."""

import secrets
import sys
from collections.abc import Collection, Sequence

from gream_ext.errors import GreamError
from gream_ext.inference.card import Said
from gream_ext.inference.export import export
from gream_ext.inference.loading import check_device
from gream_ext.inference.model import load, without_markers
from gream_ext.inference.questions import Answer, Item, Question, Recommendation, Recommender, Text
from gream_ext.inference.sharing import push_export
from gream_ext.inference.source import Source, find_source, known_items
from gream_ext.inference.stages import ExportSettings, RecommendSettings, output_folder
from gream_ext.inference.titles import Titles
from gream_ext.workspace import Workspace

SHOWN_HISTORY = 8


def run_recommend(workspace: Workspace, settings: RecommendSettings) -> None:
    if settings.server is None:
        check_device(settings.device)
    source = find_source(workspace, settings.model, settings.export)
    if settings.search is not None:
        show_found(source.titles, settings.search, settings.n)
        return
    question = make_question(source, settings)
    weight = settings.prior_weight if settings.prior else None
    how = settings.engine, settings.server, settings.normalisation, weight
    recommender = load(source, settings.device, settings.max_tokens, *how)
    show_history(source.titles, question.history)
    if settings.explain:
        explain(recommender, question)
    if settings.explain and settings.k is None:
        print("Direct mode, without reasoning:")
    if settings.k is None:
        show(recommender.direct([question])[0])
    if settings.exclude_seen is None and question.exclude:
        print("\nItems of the history are left out: nobody in the data has an item twice (--no-exclude-seen).")


def make_question(source: Source, settings: RecommendSettings) -> Question:
    """Check what was asked; `GreamError` for an unknown user, item or category."""
    user = settings.user
    history = user_history(source, user) if user is not None else listed(source.titles, settings.history or [])
    among = of_categories(source.titles, settings.categories)
    leave_out = not source.repeats if settings.exclude_seen is None else settings.exclude_seen
    seed = settings.seed
    if seed is None and settings.engine != "sglang":
        seed = secrets.randbits(32)
    reasonings = 0 if settings.k is None else settings.reasonings
    return Question(history, settings.k or settings.n, frozenset(history if leave_out else ()), among, seed, reasonings)


def run_export(workspace: Workspace, settings: ExportSettings) -> None:
    folder = output_folder(workspace, settings)
    said = Said(settings.license, settings.dataset, settings.push)
    export(workspace, settings.model, folder, settings.output is not None, said)
    if settings.push is not None:
        print(f"export: {push_export(folder, settings.push, settings.private)}")


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


def of_categories(titles: Titles, names: Collection[str]) -> frozenset[str] | None:
    """The items of these categories; None where none is named, `GreamError` where there are no items."""
    if not names:
        return None
    found = frozenset(titles.in_categories(names))
    if not found:
        some = ", ".join(titles.category_names[:8]) or "none"
        raise GreamError(f"no item is in {', '.join(names)}; the largest categories: {some}")
    return found


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
            print(without_markers(piece.text), end="", flush=True)
        elif isinstance(piece, Item):
            print(f"{bold}{piece.title}{plain}", end="", flush=True)
        elif isinstance(piece, Answer):
            said = (
                f"Recommended: {bold}{piece.item.title}{plain}" if piece.item else f"No recommendation: {piece.status}"
            )
            seed = f", seed {question.seed}" if question.seed is not None else ""
            print(f"\n\n{said} ({piece.tokens} tokens{seed})\n", flush=True)
            if question.reasonings:
                many = "this reasoning" if question.reasonings == 1 else f"{question.reasonings} reasonings"
                print(f"After {many}:" if piece.ranked else f"After {many} nothing: none came to an answer")
                show(piece.ranked)


def show(found: Sequence[Recommendation]) -> None:
    if not found:
        return
    width = max(len(one.title) for one in found)
    item_width = max(len(one.item_id) for one in found)
    for rank, one in enumerate(found, start=1):
        print(f"{rank:>3}  {one.item_id:<{item_width}}  {one.title:<{width}}  {one.score:8.3f}")


def categories_text(titles: Titles, item: str) -> str:
    own = titles.categories.get(item, ())
    return f"  ({', '.join(own)})" if own else ""
