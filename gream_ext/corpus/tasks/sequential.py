"""Sequential tasks: what comes next, in identifiers or titles (section 4.1)."""

from random import Random

from gream_ext.corpus.tasks.base import Exchange, Source, Task, joined


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


SEQUENTIAL = (
    Task("next", "sequential", 1.0, _targets, _next),
    Task("continuation", "sequential", 1.0, lambda source: len(source.windows), _continuation),
    Task("next_from_titles", "sequential", 0.25, _targets, _next_from_titles),
    Task("next_title", "sequential", 0.25, _targets, _next_title),
)
