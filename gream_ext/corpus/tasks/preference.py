"""Preference tasks: a user's taste in words, and from a wish in words to an item (section 4.1)."""

from collections.abc import Callable, Sequence
from random import Random

from gream_ext.corpus.catalogue import Catalogue, Item
from gream_ext.corpus.profile import listed, profile, wish
from gream_ext.corpus.prompts import wordings
from gream_ext.corpus.tasks.base import Exchange, Source, Task, joined
from gream_ext.words import split_words


def _summary(source: Source, unit: int, chance: Random) -> Exchange:
    """A history of any length of the user and what it says, told by an LLM or by the template teacher."""
    user = source.long_users[unit]
    if user in source.told.summaries:
        summary = chance.choice(source.told.summaries[user])
        shown = min(summary.shown, source.window)
        items = source.histories[user][summary.place - shown : summary.place]
        return {"history": joined(source.catalogue.get(items))}, summary.text
    place = chance.randint(1, len(source.histories[user]))
    history = source.before(user, place, chance)
    told = profile(history)
    answer = chance.choice(wordings("preference_summary_answer"))
    return {"history": joined(history)}, answer.format(often=listed(told.often), lately=listed(told.lately))


def _query(source: Source, unit: int, chance: Random) -> Exchange:
    item = source.items_with("title")[unit]
    if item.item_id in source.told.queries:
        return {"query": chance.choice(source.told.queries[item.item_id])}, item.identifier
    return {"query": query_of(item, source.catalogue, chance)}, item.identifier


def query_of(item: Item, catalogue: Catalogue, chance: Random) -> str:
    """A search query for an item: some of its traits and the rarest words of its title, a new draw each time."""
    title = split_words(item.title.lower())
    chosen = sorted(set(title), key=lambda word: (catalogue.title_words[word], word))[: chance.randint(1, 2)]
    traits = chance.sample(item.traits, min(len(item.traits), chance.randint(1, 2)))
    return ", ".join([*traits, " ".join(word for word in title if word in chosen)])


def _intent(source: Source, unit: int, chance: Random) -> Exchange:
    """A history and the wish that the true next item answers: the last step of the reasoning, alone."""
    history, target = source.target(unit, chance)
    return {
        "history": joined(history),
        "intent": intent_text(history, target, lambda task: wordings(task)[0]),
    }, target.identifier


def intent_text(history: Sequence[Item], target: Item, wording: Callable[[str], str]) -> str:
    """Step 3 of the template teacher: the traits of the target that the history supports, or a change.

    ``wording`` gives the template of ``intent`` or ``intent_change``.
    """
    wished = wish(history, target)
    if wished:
        return wording("intent").format(wish=listed(wished))
    return wording("intent_change").format(often=listed(profile(history).often[:1]))


PREFERENCE = (
    Task("preference_summary", "preference", 1.0, lambda source: len(source.long_users), _summary),
    Task("query_to_item", "preference", 1.0, lambda source: len(source.items_with("title")), _query),
    Task("intent_to_item", "preference", 0.25, lambda source: source.target_count, _intent),
)
