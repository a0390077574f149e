"""What ``curriculum plan`` does."""

from dataclasses import replace

from gream_ext.curriculum import FILLED, Curriculum
from gream_ext.plugins.llamafactory import export, plan
from gream_ext.plugins.llamafactory.recipe import read_order
from gream_ext.plugins.llamafactory.shares import drawn
from gream_ext.plugins.llamafactory.stages import CHOSEN, PlanSettings
from gream_ext.plugins.recipes import find_recipe
from gream_ext.workspace import Workspace, write_json


def run(workspace: Workspace, settings: PlanSettings) -> None:
    """Print the drawing, and write what is asked for.

    Raises:
        GreamError: for a recipe or a corpus that cannot be trained in this order.
    """
    recipe = find_recipe(settings.recipe)
    order = read_order(recipe, settings.overrides, settings.processes)
    if settings.batch_rows is None:
        print(f"{recipe.stem}: {order.told}", end="\n\n")
    asked = replace(
        order.settings, **{name: value for name in CHOSEN if (value := getattr(settings, name)) is not None}
    )
    share = order.keys.gream_general_share
    if settings.align_rows is None or settings.reason_rows is None:
        files = export.corpus_files(workspace, order.datasets, share)
        kinds, epochs = export.corpus_tags(files)
    else:
        kinds, epochs = plan.without_files(settings.align_rows, settings.reason_rows, share, asked.epochs)
    curriculum = Curriculum(*drawn(kinds, epochs, order.keys, asked.epochs, asked.seed), asked)
    for epoch, batches in enumerate(curriculum.epoch_plans, start=1):
        print(plan.draw(batches, epoch, asked, settings.width), end="\n\n")
    filled = int((curriculum.plan.phase == FILLED).sum())
    print(f"{len(curriculum.plan):,} batches in all" + (f", {filled} of them to even out the epochs" if filled else ""))
    if settings.json:
        write_json(settings.json, plan.as_json(curriculum))
        print(f"wrote {settings.json}")
    if settings.export:
        export.export(files, curriculum, settings.export)
        print(f"wrote {settings.export}: train it with dataset: ordered, disable_shuffling: true, num_train_epochs: 1")
