"""What an LLM wrote of the items: ``enriched.jsonl``, one description a line."""

import json

from gream_ext.errors import GreamError
from gream_ext.workspace import Workspace


def enriched_descriptions(workspace: Workspace) -> dict[str, str]:
    """Item id to description, as far as the workspace has them; empty before `gream enrich` was run."""
    path = workspace.enriched
    descriptions: dict[str, str] = {}
    for number, line in enumerate(path.read_bytes().splitlines() if path.exists() else (), start=1):
        try:
            row = json.loads(line)
            descriptions[row["item_id"]] = row["description"]
        except (ValueError, KeyError, TypeError):
            raise GreamError(f"{path}, line {number} is damaged: run `gream enrich` again") from None
    return descriptions
