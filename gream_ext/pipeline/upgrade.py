"""Command ``upgrade``: models that LLaMA-Factory or Verl trained without ``gream`` learn how they are asked.

Nothing is trained. A model's folder gets its ``gream_model.json`` from the corpus that it was trained on, and the chat
template of its training where the base model's own differs.
"""

from dataclasses import dataclass

from gream_ext.base_model.chat_format import can_compare, compare, set_chat_template
from gream_ext.base_model.model_format import DEFAULT_TEMPLATE, FILE, ModelFormat, read_format, write_format
from gream_ext.corpus.prompt_settings import read_prompt_settings
from gream_ext.stage import Stage, option
from gream_ext.workspace import Workspace


@dataclass(frozen=True)
class UpgradeSettings:
    template: str | None = option(
        None, help="LLaMA-Factory's template that trained the models; by default that of the base model."
    )


def run(workspace: Workspace, settings: UpgradeSettings) -> None:
    """Write what is missing, and say it."""
    base, template = workspace.model("base_model"), settings.template
    if template is None and (base / FILE).exists():
        template = read_format(base).template
    how = ModelFormat(read_prompt_settings(workspace), template or DEFAULT_TEMPLATE)
    folders = [base, workspace.model("sft"), workspace.model("srpo")]
    missing = [folder for folder in folders if (folder / "config.json").exists() and not (folder / FILE).exists()]
    for folder in missing:
        if folder != base and can_compare() and base.exists():
            found = compare(base, template or DEFAULT_TEMPLATE)
            if found.chat_template is not None:
                set_chat_template(folder, found.chat_template)
                print(f"upgrade: {folder.name}: {found.told}")
        write_format(folder, how if folder != base else ModelFormat(template=how.template))
        print(f"upgrade: wrote {folder / FILE}")
    if not missing:
        print(f"upgrade: {workspace.root} needs nothing")


STAGE = Stage(name="upgrade", settings=UpgradeSettings, run=run)
