"""The alignment tasks of section 4.1 in their three families.

A task is a population of units and a rule that turns one into a prompt and a response.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal

from gream_ext.corpus.catalogue import Catalogue, Item
from gream_ext.corpus.profile import likely_wishes, listed, profile
from gream_ext.corpus.prompts import wordings
from gream_ext.corpus.source import Source, joined, shortened
from gream_ext.words import split_words

Exchange = tuple[Mapping[str, str], str]
"""The slots of a prompt template and the response."""


@dataclass(frozen=True)
class Task:
    """One alignment task. ``write(source, unit, rng)`` turns unit ``0 <= unit < population(source)`` into a row."""

    name: str
    family: Literal["sequential", "semantic", "preference"]
    share: float
    """Rows an epoch by default, as a multiple of the population."""
    population: Callable[[Source], int]
    write: Callable[[Source, int, Random], Exchange]


# Sequential: what comes next, in identifiers or titles.


def _next(source: Source, unit: int, rng: Random) -> Exchange:
    history, target = source.target(unit, rng)
    return {"history": joined(history)}, target.identifier


def _next_from_titles(source: Source, unit: int, rng: Random) -> Exchange:
    history, target = source.target(unit, rng)
    return {"titles": "; ".join(item.title or item.identifier for item in history)}, target.identifier


def _next_title(source: Source, unit: int, rng: Random) -> Exchange:
    history, target = source.target(unit, rng)
    return {"history": joined(history)}, target.title or target.identifier


def _continuation(source: Source, unit: int, rng: Random) -> Exchange:
    """A window cut early or at a random place: what came before, then all that followed, one after another."""
    items = source.stretch(unit, rng)
    cut = 1 if rng.random() < source.early_share else rng.randint(1, len(items) - 1)
    return {"history": joined(items[:cut])}, joined(items[cut:])


def _targets(source: Source) -> int:
    return len(source.targets)


# Semantic reconstruction: from an item's words to its identifier and back.


def _semantic(name: str, field: str, slot: str) -> Task:
    """A task over the items that have ``field``. With ``slot`` "item" the identifier is asked for its words, with
    another slot the words for their identifier.
    """

    def write(source: Source, unit: int, rng: Random) -> Exchange:
        item = source.catalogue.having(field)[unit]
        value = getattr(item, field)
        words = ", ".join(value) if field == "traits" else shortened(value, source.text_words)
        return ({slot: item.identifier}, words) if slot == "item" else ({slot: words}, item.identifier)

    return Task(name, "semantic", 1.0, lambda source: len(source.catalogue.having(field)), write)


# Preference: a user's taste in words, and from a wish in words to an item.


def _summary(source: Source, unit: int, rng: Random) -> Exchange:
    """A history of any length of the user and what it says, in an LLM's words or in the template teacher's."""
    user = source.long_users[unit]
    if user in source.preferences.summaries:
        summary = rng.choice(source.preferences.summaries[user])
        shown = min(summary.shown, source.window)
        items = source.histories[user][summary.position - shown : summary.position]
        return {"history": joined(source.catalogue.get(items))}, summary.text
    history = source.before(user, rng.randint(1, len(source.histories[user])), rng)
    known = profile(history)
    answer = rng.choice(wordings("preference_summary_answer"))
    return {"history": joined(history)}, answer.format(often=listed(known.often), lately=listed(known.lately))


def _query(source: Source, unit: int, rng: Random) -> Exchange:
    item = source.catalogue.having("title")[unit]
    queries = source.preferences.queries.get(item.item_id)
    return {"query": rng.choice(queries) if queries else query_of(item, source.catalogue, rng)}, item.identifier


def query_of(item: Item, catalogue: Catalogue, rng: Random) -> str:
    """A search query for an item: some of its traits and the rarest words of its title, a new draw each time."""
    words = split_words(item.title.lower())
    rarest = sorted(dict.fromkeys(words), key=lambda word: (catalogue.title_words[word], word))[: rng.randint(1, 2)]
    traits = rng.sample(item.traits, min(len(item.traits), rng.randint(1, 2)))
    return ", ".join([*traits, " ".join(word for word in words if word in rarest)])


def _intent(source: Source, unit: int, rng: Random) -> Exchange:
    """A history and the wish that the true next item answers: the last step of the reasoning, alone."""
    history, target = source.target(unit, rng)
    intent = intent_text(history, target, lambda task: wordings(task)[0])
    return {"history": joined(history), "intent": intent}, target.identifier


def intent_text(history: Sequence[Item], target: Item, wording: Callable[[str], str], wishes: int = 1) -> str:
    """Step 3 of the template teacher: the traits of the target that the history supports, or a change.

    With ``wishes`` above 1 as many likely ones are named, the true one among them. ``wording`` gives the template of
    ``intent`` or ``intent_change``.
    """
    if likely := likely_wishes(history, target, wishes):
        return wording("intent").format(wish="; or: ".join(map(listed, likely)))
    return wording("intent_change").format(often=listed(profile(history).often[:1]))


_ALL = (
    Task("next", "sequential", 1.0, _targets, _next),
    Task("continuation", "sequential", 1.0, lambda source: len(source.windows), _continuation),
    Task("next_from_titles", "sequential", 0.25, _targets, _next_from_titles),
    Task("next_title", "sequential", 0.25, _targets, _next_title),
    _semantic("title_to_item", "title", "title"),
    _semantic("text_to_item", "text", "text"),
    _semantic("description_to_item", "description", "description"),
    _semantic("item_to_title", "title", "item"),
    _semantic("item_to_text", "text", "item"),
    _semantic("item_to_categories", "traits", "item"),
    Task("preference_summary", "preference", 1.0, lambda source: len(source.long_users), _summary),
    Task("query_to_item", "preference", 1.0, lambda source: len(source.catalogue.having("title")), _query),
    Task("intent_to_item", "preference", 0.25, _targets, _intent),
)
TASKS = {task.name: task for task in _ALL}
