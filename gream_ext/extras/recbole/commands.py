"""What ``baselines recbole`` does."""

from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.extras.recbole.job import make_job
from gream_ext.extras.recbole.run import measure
from gream_ext.extras.recbole.stages import RecBoleSettings
from gream_ext.workspace import Workspace


def run(workspace: Workspace, settings: RecBoleSettings) -> None:
    python = Path(settings.python).absolute()  # not resolved: the link is what makes it that environment's
    if not python.exists():
        raise GreamError(f"--python {settings.python} is not there: scripts/setup_recbole_env.sh makes it")
    jobs = [
        make_job(
            model,
            settings.overrides,
            settings.trials,
            window=settings.window,
            recommendations=settings.recommendations,
            seed=settings.seed,
            gpu=settings.gpu,
        )
        for model in settings.models
    ]
    measure(workspace, python, jobs, settings.split, settings.cutoffs)
