"""The language of the four packages, as far as a machine can hold it."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGES = ("connectors", "mappers", "analytics", "schedules")
FILES = [file for package in PACKAGES for file in sorted((REPOSITORY / package).rglob("*.py"))]
# A docstring begins with a verb ("Return …") or says what a class is; a question word turns the sentence round.
QUESTION_WORDS = {"What", "Whether", "Who", "How", "Why"}
LEAST_SHARE_OF_COMMENTS = 0.04  # well-kept projects of this kind have 5 to 9 %


def docstrings(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def test_no_docstring_begins_with_a_question_word() -> None:
    openings = [(file.relative_to(REPOSITORY).as_posix(), text[:60]) for file in FILES for text in docstrings(file)]
    assert [each for each in openings if each[1].split(" ")[0].strip("`,.:") in QUESTION_WORDS] == []


def comments(file: Path) -> int:
    """Return the number of comments, without those that are for a tool."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text("utf-8")).readline)
    return sum(token.type == tokenize.COMMENT and not token.string.startswith(("# noqa", "# type")) for token in tokens)


def test_comments_say_why() -> None:
    lines = sum(len(file.read_text("utf-8").splitlines()) for file in FILES)
    share = sum(map(comments, FILES)) / lines
    assert share >= LEAST_SHARE_OF_COMMENTS, f"{share:.1%} of the lines are comments"
