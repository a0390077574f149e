"""The package as a graph, read from its source: which module imports which, and where. Nothing is imported."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import gream_ext

PACKAGE = Path(gream_ext.__file__).parent
ROOT = PACKAGE.parent


@dataclass(frozen=True)
class Import:
    """One import statement."""

    importer: str
    imported: frozenset[str]
    """Modules: of ours by their full name, others as they are written."""
    line: int
    inside: bool
    """Whether it stands inside a function."""
    nested: str
    """The function that it stands in."""


@cache
def modules() -> dict[str, Path]:
    """Every module of the package by its full name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(encoding="utf-8"))


@cache
def imports() -> tuple[Import, ...]:
    """All import statements that run; those under TYPE_CHECKING do not."""
    return tuple(one for module in modules() for one in _imports(module, tree(module), ""))


def _imports(module: str, node: ast.AST, function: str) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield Import(module, frozenset(_names(child)), child.lineno, bool(function), function)
        name = child.name if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else function
        yield from _imports(module, child, name or ("lambda" if isinstance(child, ast.Lambda) else ""))


def _names(statement: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(statement, ast.Import):
        yield from (alias.name for alias in statement.names)
        return
    assert not statement.level, "imports are absolute"
    for alias in statement.names:
        whole = f"{statement.module}.{alias.name}"
        yield whole if whole in modules() else str(statement.module)


def room(module: str) -> str:
    """The room of a module: a folder or file of gream_ext, within ``plugins`` and ``extras`` the folder below."""
    parts = module.removeprefix("gream_ext").strip(".").split(".")
    if parts[0] in ("plugins", "extras") and len(parts) > 1 and (PACKAGE / parts[0] / parts[1]).is_dir():
        return "/".join(parts[:2])
    return parts[0]


def loaded_by(module: str) -> frozenset[str]:
    """The libraries of others, by their first name, that importing ``module`` loads."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += _at_import(one) if one in modules() else ()
    return frozenset(name.partition(".")[0] for name in seen if name not in modules())


@cache
def _at_import(module: str) -> tuple[str, ...]:
    parts = module.split(".")
    parents = [".".join(parts[:length]) for length in range(1, len(parts))]
    own = (name for one in imports() if one.importer == module and not one.inside for name in one.imported)
    return (*parents, *own)


def circles(inside: bool) -> list[set[str]]:
    """Modules that import each other in a circle; ``inside``: imports inside functions count, too."""
    below: dict[str, set[str]] = {module: set() for module in modules()}
    for one in imports():
        if inside or not one.inside:
            below[one.importer] |= one.imported & below.keys()
    reached = {module: _reached(module, below) for module in below}
    found = {frozenset(one for one in reached[module] if module in reached[one]) for module in below}
    return [set(circle) for circle in found if circle]


def _reached(start: str, below: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    waiting = list(below[start])
    while waiting:
        one = waiting.pop()
        if one not in seen:
            seen.add(one)
            waiting += below[one]
    return seen


def defines(module: str, name: str) -> bool:
    """Whether a function, method, class or value of this (dotted) name is written in that module."""
    if module not in modules():
        return False
    body: list[ast.stmt] = tree(module).body
    for part in name.split("."):
        found = [node for node in body if part in _defined(node)]
        if not found:
            return False
        body = getattr(found[-1], "body", [])
    return True


def _defined(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}
