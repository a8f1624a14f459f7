"""Makes docstrings, comments and the meanings of hyperparameters readable for griffe, which reads the API."""

import ast
import re
import textwrap
from typing import Any

import griffe

SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes|Source|Differs)(?=:)", re.MULTILINE)
DECLARING = ("traced", "static", "choice", "setting", "recorded", "by_config")
COMMENT = re.compile(r"\s#\s(.+)$")


class Sections(griffe.Extension):
    """Puts a blank line above each section, as griffe wants it, and above what is said of the source."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        if obj.docstring is not None:
            obj.docstring.value = SECTION.sub(r"\n\1", obj.docstring.value)


class Comments(griffe.Extension):
    """Takes a hyperparameter's meaning, or the comment beside a field, with shape and unit, as docstring."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **kwargs: Any) -> None:
        if attr.docstring is not None or not attr.source:
            return
        if text := meaning_of(attr.source) or beside(attr.source):
            text = text.replace("][", "]\\[")  # which Markdown would take for a link
            attr.docstring = griffe.Docstring(text, parent=attr)


def meaning_of(source: str) -> str:
    """Returns the meaning in a declaration such as `beta = traced(2.0, POSITIVE, "Scale.")`, or ''."""
    match ast.parse(textwrap.dedent(source)).body:
        case [ast.AnnAssign(value=ast.Call(func=ast.Name(name)) as call)] if name in DECLARING:
            given = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "meaning")]
            texts = (argument.value for argument in given if isinstance(argument, ast.Constant))
            return next((text for text in texts if isinstance(text, str)), "")
    return ""


def beside(source: str) -> str:
    comment = COMMENT.search(source.splitlines()[-1])
    return comment[1] if comment and "noqa" not in comment[1] else ""
