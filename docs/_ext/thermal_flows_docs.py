"""What the pages need: directives that keep them in step with the code, and tidying of docstrings for Sphinx."""

import contextlib
import importlib
import io
import os
import re
import sys
from typing import Any, ClassVar
from unittest import mock

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.statemachine import StringList
from sphinx.application import Sphinx


class DocumentFields(Directive):
    """``document-fields``: the fields of a pydantic document, from their descriptions."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write a definition list, one entry a field."""
        module, _, name = self.arguments[0].rpartition(".")
        model = getattr(importlib.import_module(module), name)
        lines = StringList()
        for field, info in model.model_fields.items():
            lines.append(f"``{field}``", self.arguments[0])
            lines.append(f"    {_as_rst(info.description or _fallback(info.annotation))}", self.arguments[0])
        holder = nodes.container()
        self.state.nested_parse(lines, self.content_offset, holder)
        return holder.children


def _as_rst(text: str) -> str:
    """Plain text, in which names stand between single backticks, as reStructuredText."""
    pieces = text.split("`")
    pieces[::2] = [re.sub(r"[*|_]", r"\\\g<0>", piece) for piece in pieces[::2]]
    return "``".join(pieces)


def _fallback(annotation: Any) -> str:
    kept = getattr(annotation, "__args__", (annotation,))
    literals = [repr(value) for value in kept if isinstance(value, str)]
    if literals:
        return f"Always {' or '.join(literals)}."
    names = [getattr(kind, "__name__", str(kind)) for kind in kept if kind is not type(None)]
    return "A whole number." if names == ["int"] else f"See {' or '.join(names)}."


class HelpText(Directive):
    """``help-text``: what a command of ``thermal-flows`` prints for ``--help``."""

    optional_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar = {"width": directives.positive_int}

    def run(self) -> list[nodes.Node]:
        """Run the parser in this process and keep what it prints."""
        from thermal_flows.cli import main

        words = self.arguments[0].split() if self.arguments else []
        output = io.StringIO()
        width = str(self.options.get("width", 100))
        with (
            mock.patch.dict(os.environ, {"COLUMNS": width, "NO_COLOR": "1"}),
            contextlib.redirect_stdout(output),
            contextlib.suppress(SystemExit),
        ):
            main([*words, "--help"])
        text = f"$ thermal-flows {' '.join([*words, '--help'])}\n{output.getvalue()}"
        return [nodes.literal_block(text, text, language="text")]


def skip_repeated(app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any) -> bool | None:
    """Leave out what matplotlib adds to its subclasses, and, of a module below a room, what the room itself lists."""
    del skip, options
    if (getattr(obj, "__module__", None) or "").startswith("matplotlib"):
        return True
    parts = (app.env.temp_data.get("autodoc:module") or "").split(".")
    if what == "module" and len(parts) > 2 and name in getattr(sys.modules[".".join(parts[:2])], "__all__", ()):
        return True
    return None


def split_attributes(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Give every name of an entry ``a, b : type`` of the section Attributes an entry of its own."""
    del app, what, name, obj, options
    found = [k for k in range(len(lines) - 1) if lines[k] == "Attributes" and set(lines[k + 1]) == {"-"}]
    if not found:
        return
    start = found[0] + 2
    headings = [k - 1 for k in range(start, len(lines)) if len(lines[k]) > 2 and set(lines[k]) == {"-"}]
    end = headings[0] if headings else len(lines)
    entries: list[list[str]] = []
    for line in lines[start:end]:
        if entries and (not line or line.startswith(" ")):
            entries[-1].append(line)
        else:
            entries.append([line])
    lines[start:end] = [
        line
        for first, *rest in entries
        for one in first.partition(" : ")[0].split(", ")
        for line in (one + "".join(first.partition(" : ")[1:]), *rest)
    ]


_single: dict[str, list[str]] = {}


def keep_single(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Remember docstrings of attributes: napoleon would take what stands before a colon for a type."""
    del app, obj, options
    if what in ("attribute", "data", "property") and not any(len(line) > 2 and set(line) == {"-"} for line in lines):
        _single[name] = list(lines)


def restore_single(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Undo what napoleon did to them."""
    del app, what, obj, options
    lines[:] = _single.pop(name, lines)


def escape_bars(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Write absolute values such as |T + R - 1|, which reStructuredText would take for substitutions, as they are."""
    del app, what, name, obj, options
    example = False
    for number, line in enumerate(lines):
        example = bool(line.strip()) and (example or line.lstrip().startswith(">>>"))
        if not example:
            pieces = re.split(r"(``.*?``)", line)
            pieces[::2] = [piece.replace("|", r"\|") for piece in pieces[::2]]
            lines[number] = "".join(pieces)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register directives and hooks."""
    app.add_directive("document-fields", DocumentFields)
    app.add_directive("help-text", HelpText)
    app.connect("autodoc-skip-member", skip_repeated)
    # napoleon's own hook has priority 500
    for hook, priority in ((split_attributes, 400), (keep_single, 410), (restore_single, 600), (escape_bars, 610)):
        app.connect("autodoc-process-docstring", hook, priority=priority)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
