"""What ``recommend`` and ``export`` do."""

import secrets

from gream_ext.inference import recommend as command
from gream_ext.inference.card import Said
from gream_ext.inference.device import check_device
from gream_ext.inference.export import export
from gream_ext.inference.model import load
from gream_ext.inference.questions import Question
from gream_ext.inference.recommend import listed, of_categories, user_history
from gream_ext.inference.sharing import push_export
from gream_ext.inference.source import Source, find_source
from gream_ext.inference.stages import ExportSettings, RecommendSettings, output_folder
from gream_ext.workspace import Workspace


def run_recommend(workspace: Workspace, settings: RecommendSettings) -> None:
    if settings.server is None:
        check_device(settings.device)
    source = find_source(workspace, settings.model, settings.export)
    if settings.search is not None:
        command.show_found(source.titles, settings.search, settings.n)
        return
    question = make_question(source, settings)
    weight = settings.prior_weight if settings.prior else None
    how = settings.engine, settings.server, settings.normalisation, weight
    recommender = load(source, settings.device, settings.max_tokens, *how)
    command.show_history(source.titles, question.history)
    if settings.explain:
        command.explain(recommender, question)
        print("Direct mode, without reasoning:")
    [found] = recommender.direct([question])
    command.show(found)
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
    return Question(history, settings.n, frozenset(history) if leave_out else frozenset(), among, seed)


def run_export(workspace: Workspace, settings: ExportSettings) -> None:
    folder = output_folder(workspace, settings)
    said = Said(settings.license, settings.dataset, settings.push)
    export(workspace, settings.model, folder, settings.output is not None, said)
    if settings.push is not None:
        print(f"export: {push_export(folder, settings.push, settings.private)}")
