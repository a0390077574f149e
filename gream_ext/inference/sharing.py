"""Exports on the Hugging Face hub: push the files of a manifest, fetch exactly those of one commit.

Who may do so is huggingface_hub's business (``hf auth login`` or ``HF_TOKEN``); no token passes through here.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gream_ext.errors import GreamError
from gream_ext.hub import CARD, NAME, hub_errors, why
from gream_ext.inference.export_format import MANIFEST, read_about, read_manifest

EXPORT_HELP = "what `gream export` wrote, in place of the workspace: a folder, or owner/name on the Hugging Face hub"
KEPT = (".gitattributes", CARD, "LICENSE")
"""What a repository may hold that is no export yet."""
LOG_IN = "check the name; for a private repository, or to upload, `hf auth login`"


def find_export(name: str) -> Path:
    """The folder of an export: ``name`` as a path unless it `means_hub`, else of ``owner/name[@revision]`` there.

    First ``gream.json`` is fetched, then the files that it names, of the same commit; what is in the cache needs no
    network. `GreamError` where there is no such export. Reading the folder checks every hash.
    """
    repository, _, revision = name.partition("@")
    if not means_hub(name):
        return Path(name).expanduser()
    from huggingface_hub import hf_hub_download, snapshot_download

    with _one_sentence(f"{name} is no folder here, and the Hugging Face hub gives no such export"):
        manifest = Path(hf_hub_download(repository, MANIFEST, revision=revision or None))
        files = read_about(manifest)["files"]
        commit = manifest.parent.name  # the layout of the cache
        return Path(snapshot_download(repository, revision=commit, allow_patterns=[MANIFEST, *files]))


def is_hub_name(name: str) -> bool:
    """Whether ``name`` can be of the hub: ``owner/name`` or ``owner/name@revision``."""
    return not name.startswith(".") and NAME.fullmatch(name.partition("@")[0]) is not None


def means_hub(name: str) -> bool:
    """Whether ``name`` is looked for on the hub: it can be of it, and is no path here.

    Nor a path misspelt: where there is a folder ``owner`` here, only ``owner/name@revision`` is of the hub.
    """
    path = Path(name)
    return is_hub_name(name) and not path.exists() and ("@" in name or not path.parent.exists())


def push_export(folder: Path, name: str, private: bool = True) -> str:
    """Upload a whole export in one commit and return its address; a new repository is private unless said otherwise.

    Of a repository that holds an export already, the files in ``model/`` that this one has not are removed.

    Raises:
        GreamError: the folder is no whole export, the repository holds something else, or the hub refuses.
    """
    about, _ = read_manifest(folder)
    from huggingface_hub import HfApi

    hub = HfApi()
    with _one_sentence(f"--push {name}: the Hugging Face hub does not take it"):
        hub.create_repo(name, private=private, exist_ok=True)
        held = set(hub.list_repo_files(name)) - set(KEPT)
        if held and MANIFEST not in held:
            raise GreamError(f"--push {name}: that repository holds {min(held)} and no export: name a new one")
        done = hub.upload_folder(
            repo_id=name,
            folder_path=folder,
            allow_patterns=[MANIFEST, CARD, *about["files"]],
            delete_patterns=["model/*"],
            commit_message=f"gream export: {about['model']}, {about.get('items')} items",
        )
    return str(done.commit_url)


@contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    try:
        yield
    except hub_errors() as error:
        raise GreamError(f"{what} ({why(error)}): {LOG_IN}") from None
