"""Definitions by alias."""

from __future__ import annotations

from collections.abc import Iterator

from aiotaskstore.alias import fold
from aiotaskstore.definition import AnyDefinition
from aiotaskstore.errors import DuplicateHandlerError


class Registry:
    """The definitions of one store or router, in the order of their declaration."""

    def __init__(self) -> None:
        self._definitions: dict[str, AnyDefinition] = {}
        self._by_fold: dict[str, AnyDefinition] = {}
        self._former: dict[str, AnyDefinition] = {}

    def add(self, definition: AnyDefinition) -> bool:
        """Take a definition in; false if it is here already.

        Raises `DuplicateHandlerError` if another handler has its alias or a former alias of it, or one that only looks
        different.
        """
        self.check(definition)
        if definition.alias in self._definitions:
            return False
        self._definitions[definition.alias] = definition
        for alias in (definition.alias, *definition.defaults.former_aliases):
            self._by_fold[fold(alias)] = definition
        for alias in definition.defaults.former_aliases:
            if alias != definition.alias:
                self._former[alias] = definition
        return True

    def check(self, definition: AnyDefinition) -> None:
        """Raise `DuplicateHandlerError` if a definition could not be taken in."""
        for alias in (definition.alias, *definition.defaults.former_aliases):
            there = self._by_fold.get(fold(alias))
            if there is not None and (there.alias, there.handler) != (definition.alias, definition.handler):
                raise DuplicateHandlerError(alias, there.alias)

    def check_types(self) -> None:
        """Raise `ConfigurationError` for a handler whose annotations name a type that is not there."""
        for definition in self:
            definition.check_types()

    def get(self, alias: str) -> AnyDefinition | None:
        """Find the definition that a stored task of this alias runs: by its alias or a former one."""
        return self._definitions.get(alias) or self._former.get(alias)

    @property
    def aliases(self) -> list[str]:
        """Every alias that stored tasks may carry for us, former ones included."""
        return [*self._definitions, *self._former]

    def __iter__(self) -> Iterator[AnyDefinition]:
        return iter(self._definitions.values())

    def __len__(self) -> int:
        return len(self._definitions)
