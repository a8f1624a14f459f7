"""Makes the docstrings and comments readable for griffe, which reads the API."""

import re
from typing import Any

import griffe

SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes|Source|Differs)(?=:)", re.MULTILINE)
COMMENT = re.compile(r"\s#\s(.+)$")


class Sections(griffe.Extension):
    """Puts a blank line above each section, as griffe wants it, and above what is said of the source."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub(r"\n\1", obj.docstring.value)


class Comments(griffe.Extension):
    """Takes the comment beside a field or a constant, which has its shape and unit, for its docstring."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        comment = COMMENT.search(attr.source.splitlines()[-1]) if attr.source else None
        if attr.docstring is None and comment and "noqa" not in comment[1]:
            text = comment[1].replace("][", "]\\[")  # which Markdown would take for a link
            attr.docstring = griffe.Docstring(text, parent=attr)
