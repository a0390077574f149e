"""What ``serve`` does."""

from gream_ext.extras.serve.server import serve
from gream_ext.extras.serve.stages import ServeSettings
from gream_ext.inference.device import check_device
from gream_ext.inference.source import find_source
from gream_ext.workspace import Workspace


def run(workspace: Workspace, settings: ServeSettings) -> None:
    if settings.server is None:
        check_device(settings.device)
    source = find_source(workspace, settings.model, settings.export)
    serve(source, settings)
