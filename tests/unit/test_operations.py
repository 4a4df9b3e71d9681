"""Operations are pure, as it is written in the code: none changes what it has not made itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import aiotaskstore

FILES = sorted(Path(aiotaskstore.__file__).parent.rglob("*.py"))
CHANGING = {"append", "extend", "add", "update", "remove", "discard", "clear", "pop", "popitem", "setdefault", "sort"}
STARTING = {"read", "write", "run_on"}


def operations(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    """Every function that returns steps."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.returns is not None and ast.unparse(node.returns)[:6] == "Steps[":
            yield node


def own_names(function: ast.FunctionDef) -> set[str]:
    """The names that a function assigns: what they name it has made itself."""
    assigned = {
        node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    augmented = {
        node.target.id
        for node in ast.walk(function)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name)
    }
    given = {argument.arg for argument in [*function.args.args, *function.args.kwonlyargs]}
    return assigned - (augmented & given)


def root(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def changes(function: ast.FunctionDef) -> Iterator[str]:
    """What a function changes that it has not made."""
    own = own_names(function)
    for node in ast.walk(function):
        if isinstance(node, ast.Global | ast.Nonlocal):
            yield ast.unparse(node)
        elif isinstance(node, ast.Attribute | ast.Subscript) and not isinstance(node.ctx, ast.Load):
            if root(node) not in own:
                yield ast.unparse(node)
        elif (isinstance(node, ast.AugAssign) and root(node.target) not in own) or (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in CHANGING
            and root(node.func) not in {*own, ""}
        ):
            yield ast.unparse(node)


@pytest.mark.parametrize("file", [pytest.param(file, id=f"{file.parent.name}.{file.stem}") for file in FILES])
def test_an_operation_changes_nothing_that_it_has_not_made(file: Path):
    for function in operations(ast.parse(file.read_text("utf-8"))):
        assert list(changes(function)) == [], f"{file.name}: {function.name}"


@pytest.mark.parametrize("file", [pytest.param(file, id=f"{file.parent.name}.{file.stem}") for file in FILES])
def test_what_an_operation_needs_is_computed_before_it_is_started(file: Path):
    for call in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr in STARTING:
            for operation in (argument for argument in call.args if isinstance(argument, ast.Lambda)):
                inner = [node for node in ast.walk(operation.body) if isinstance(node, ast.Call)]
                assert len(inner) == 1, f"{file.name}: {ast.unparse(operation)}"
