"""The command line ``gream``: every stage of the table as a sub-command whose options are the fields of its settings.

Naming the stages imports none of them; a sub-command imports its own module.
"""

import argparse
import contextlib
import dataclasses
import io
import logging
import os
import re
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from gream_ext import __version__
from gream_ext.errors import GreamError, did_you_mean
from gream_ext.pipeline.settings import Kind, build, default_of, is_required, kinds
from gream_ext.pipeline.table import TABLE
from gream_ext.stage import Stage

DEFAULT_WORKSPACE = "runs/default"
DRAFT = re.compile(r"(?<=/)\.[^/]+\.part/")
BEGINNING = ("prepare", "run")
"""Commands that need no workspace yet."""
INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command; returns the exit code (0 done, 1 failed, 2 the user's mistake, 130 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # Progress lines must not wait in a buffer when the output goes to a file.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True, errors="replace")  # titles on a terminal without their letters
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup leaves it
            signal.signal(number, _stop)
    try:
        name, rest = _command(words)
        return _run(name, rest)
    except GreamError as error:
        code = getattr(error, "exit_code", 2)
        # A launcher's failure (1) has lines of its log; a mistake is one line, even if a path in it has two.
        print(f"gream: {' '.join(str(error).splitlines()) if code == 2 else error}", file=sys.stderr)
        return code
    except BrokenPipeError:  # the reader, `head` for one, has seen enough
        _discard_output()
        return 1
    except OSError as error:  # a full disk, a folder in place of a file
        if error.errno and error.filename is None:
            _discard_output()  # if it is what cannot be written, Python would try once more at its end
        print(f"gream: {_described(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as error:
        print(f"\ngream: interrupted{error}", file=sys.stderr)
        return INTERRUPTED


def _discard_output() -> None:
    with contextlib.suppress(OSError):  # no file, in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _described(error: OSError) -> str:
    """``file: what is wrong``; of a draft (`gream_ext.workspace.whole`) the file that it was to become."""
    if not error.errno:
        return " ".join(str(error).split())
    path = DRAFT.sub("", str(error.filename2 or error.filename or "output"))
    return f"{' '.join(path.splitlines())}: {error.strerror}"


def _stop(number: int, frame: Any) -> NoReturn:
    """Told to stop once; told again while it cleans up, which takes seconds, it goes on cleaning up."""
    signal.signal(number, signal.SIG_IGN)
    raise SystemExit(TERMINATED)


def _command(words: list[str]) -> tuple[str, list[str]]:
    """Split the words into the name of a sub-command (one word or two) and its arguments."""
    if words[:1] == ["--version"]:
        print(f"gream-ext {__version__}")
        raise SystemExit(0)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview(), file=sys.stdout if words else sys.stderr)
        raise SystemExit(0 if words else 2)
    for length in (2, 1):
        if " ".join(words[:length]) in TABLE:
            return " ".join(words[:length]), words[length:]
    group = [name for name in TABLE if name.startswith(f"{words[0]} ")]
    if group and words[1:2] in (["-h"], ["--help"]):
        print(overview(words[0]))
        raise SystemExit(0)
    if group:
        raise GreamError(f"`gream {words[0]}` needs one of: {', '.join(name.split()[1] for name in group)}")
    raise GreamError(f"unknown command {words[0]!r}: {did_you_mean(words[0], TABLE)}")


def overview(group: str = "") -> str:
    """The list of sub-commands, of one group or of all."""
    rows = [f"  {name:<19}{entry.summary}" for name, entry in TABLE.items() if name.startswith(group)]
    head = "usage: gream COMMAND [--workspace DIR] [options]      `gream COMMAND --help` shows the options"
    return "\n".join([head, "", *rows])


def _run(name: str, arguments: list[str]) -> int:
    stage = TABLE[name].load()
    parsed = vars(parser(name, stage).parse_args(arguments))
    root = parsed.pop("workspace")
    force = False if "force" in kinds(stage.settings) else parsed.pop("force")
    if "\0" in str(root):
        raise GreamError("--workspace must not hold a zero byte")
    settings = build(stage.settings, parsed, name)

    from gream_ext.pipeline.execute import execute
    from gream_ext.pipeline.record import is_command
    from gream_ext.workspace import Workspace

    workspace = Workspace(root)
    resumes = name == "run" or not is_command(stage, workspace, settings)
    if resumes and name not in BEGINNING and not root.is_dir():
        raise GreamError(f"--workspace {root} does not exist: `gream prepare` or `gream run` begin one")
    try:
        execute(stage, workspace, settings, force)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("; the same command goes on from here" if resumes else "") from None
    return 0


def parser(name: str, stage: Stage) -> argparse.ArgumentParser:
    """The parser of one sub-command, made from the fields of its settings."""
    made = _Parser(
        prog=f"gream {name}",
        description=TABLE[name].summary[0].upper() + TABLE[name].summary[1:] + ".",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    made.add_argument(
        "--workspace", type=Path, default=Path(DEFAULT_WORKSPACE), metavar="DIR",
        help=f"folder with the files of this run (default: {DEFAULT_WORKSPACE})",
    )  # fmt: skip
    if "force" not in kinds(stage.settings):
        made.add_argument("--force", action="store_true", default=False, help="run even if everything is up to date")
    for field, kind in kinds(stage.settings).values():
        _add_option(made, field, kind)
    return made


def _add_option(made: argparse.ArgumentParser, field: dataclasses.Field[Any], kind: Kind) -> None:
    required = is_required(field)
    text = str(field.metadata.get("help", "")).replace("%", "%%") + ("" if required else _default(field, kind))
    if field.metadata.get("positional"):
        made.add_argument(field.name, metavar=field.name.upper(), help=text)
        return
    flag = "--" + field.name.replace("_", "-")
    common: dict[str, Any] = {"dest": field.name, "help": text, "required": required}
    if kind.base is bool and not kind.many:
        made.add_argument(flag, action=argparse.BooleanOptionalAction, **common)
    elif kind.base is dict:
        made.add_argument(flag, action=_Pairs, nargs="*", metavar="KEY=VALUE", **common)
    else:
        shown = "{" + ",".join(map(str, kind.choices)) + "}" if kind.choices else None
        metavar = shown or getattr(kind.base, "__name__", "value").upper()
        made.add_argument(flag, nargs="*" if kind.many else None, metavar=metavar, **common)


def _default(field: dataclasses.Field[Any], kind: Kind) -> str:
    value = default_of(field)
    if value is None or value in ({}, [], (), ""):
        return ""
    shown = " ".join(map(str, value)) if kind.many else str(value).lower() if kind.base is bool else str(value)
    return f" (default: {shown})".replace("%", "%%")


class _Parser(argparse.ArgumentParser):
    """Its errors are one line, like all others."""

    def error(self, message: str) -> NoReturn:
        raise GreamError(f"{self.prog.removeprefix('gream ')}: {message} (`{self.prog} --help` shows the options)")


class _Pairs(argparse.Action):
    """``KEY=VALUE …`` into a mapping; the values are read as YAML."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        import yaml

        pairs = dict(getattr(namespace, self.dest, None) or {})
        for word in values:
            key, equals, value = word.partition("=")
            if not equals or not key:
                parser.error(f"argument {option_string}: {word!r} is not KEY=VALUE")
            try:
                pairs[key] = yaml.safe_load(value)
            except (yaml.YAMLError, ValueError, RecursionError):
                parser.error(f"argument {option_string}: the value of {word!r} is not valid YAML")
        setattr(namespace, self.dest, pairs)


if __name__ == "__main__":
    sys.exit(main())
