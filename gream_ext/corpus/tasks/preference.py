"""Preference tasks: a user's taste in words, and from a wish in words to an item (section 4.1)."""

from collections.abc import Callable, Sequence
from random import Random

from gream_ext.corpus.catalogue import Catalogue, Item
from gream_ext.corpus.profile import likely_wishes, listed, profile
from gream_ext.corpus.prompts import wordings
from gream_ext.corpus.tasks.base import Exchange, Source, Task, joined
from gream_ext.words import split_words


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


PREFERENCE = (
    Task("preference_summary", "preference", 1.0, lambda source: len(source.long_users), _summary),
    Task("query_to_item", "preference", 1.0, lambda source: len(source.catalogue.having("title")), _query),
    Task("intent_to_item", "preference", 0.25, lambda source: len(source.targets), _intent),
)
