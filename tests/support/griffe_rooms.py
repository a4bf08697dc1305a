"""An extension of griffe, which reads the sources for the reference pages of the site."""

import re
from typing import Any

import griffe

HEADING = re.compile(r"^(\s*)Example:$", re.MULTILINE)


class PublicNames(griffe.Extension):
    """Shows examples as code, and functions that have the name of their module.

    griffe calls the section of examples "Examples:"; under our "Example:" the prompts would be
    running text. In `metro_fast.ops` the name `corrupt_spans` is a function for Python and a module
    for griffe, which prefers what it finds on disk.
    """

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Rename the heading as the object is read; the source is not touched."""
        if obj.docstring is not None:
            obj.docstring.value = HEADING.sub(r"\1Examples:", obj.docstring.value)

    def on_package(self, *, pkg: griffe.Module, **kwargs: Any) -> None:
        """Let every room export the functions that its `__all__` names."""
        rooms = [pkg, *(m for m in pkg.modules.values() if not m.is_alias and m.exports)]
        for room in rooms:
            for member in room.members.values():
                # While the modules still have their places: the next loop takes some away.
                if member.is_alias and member.name in room.imports:
                    target = room.imports[member.name]
                    if target.startswith(f"{pkg.path}.") and not member.resolved:
                        member.resolve_target()
        for room in rooms:
            for name in map(str, room.exports or ()):
                module = room.members.get(name)
                if module is not None and not module.is_alias and module.is_module:
                    room.members[name] = griffe.Alias(name, module.members[name], parent=room)
