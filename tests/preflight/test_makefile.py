"""The Makefile means the same to GNU Make 3.81, which is macOS' own, as to today's."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAKEFILE = (ROOT / "Makefile").read_text().replace("\\\n", " ")
LINES = [line for line in MAKEFILE.splitlines() if not line.lstrip().startswith("#")]
# What is read by make itself; a recipe's lines are the shell's, but for its functions.
STATEMENTS = [line for line in LINES if not line.startswith("\t")]
TARGETS = sorted(set(re.findall(r"^([a-z0-9][a-z0-9-]*):", "\n".join(STATEMENTS), re.M)))
# A path to a make of that version, for a test of the real thing.
OLD_MAKE = os.environ.get("MAKE_3_81")


@pytest.mark.parametrize(
    ("newer", "since"),
    [
        (r"\$\((file|guile) ", "4.0"),
        (r"\$\((let|intcmp) ", "4.4"),
        (r"\.SHELLSTATUS|\.EXTRA_PREREQS|\.WAIT\b", "4.2"),
    ],
)
def test_no_function_or_variable_is_newer(newer, since):
    assert [line for line in LINES if re.search(newer, line)] == [], f"GNU Make {since}"


@pytest.mark.parametrize(
    ("newer", "since"),
    [
        (r"^\s*[\w.-]+\s*(!=|::=|:::=)", "4.0"),
        (r"^\.ONESHELL|^\.RECIPEPREFIX|^\s*(undefine|private)\b", "3.82"),
        (r"^\s*define\s+\S+\s*[:+?]?=", "3.82"),
        (r"&:", "4.3"),
        (r"^\.NOTPARALLEL:\s*\S", "4.4"),
    ],
)
def test_no_statement_is_newer(newer, since):
    assert [line for line in STATEMENTS if re.search(newer, line)] == [], f"GNU Make {since}"


def test_no_target_is_matched_by_two_patterns():
    """3.81 takes the first that fits, later versions the one with the shortest stem."""
    patterns = re.findall(r"^([a-z-]*)%:", "\n".join(STATEMENTS), re.M)
    assert "logs-" in patterns
    assert [(one, other) for one in patterns for other in patterns if one != other and one.startswith(other)] == []


def test_every_target_is_listed_by_help_and_none_is_too_long_for_its_column():
    said = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    rows = [line for line in said.splitlines() if line.startswith("  ")]
    # What only another target needs is nobody's to call.
    needed = {name for needs in re.findall(r"^[a-z0-9%-]+:(?!=)([^#\n]*)", "\n".join(STATEMENTS), re.M) for name in needs.split()}
    assert {row.split()[0] for row in rows} >= set(TARGETS) - needed
    begin = {len(row) - len(re.sub(r"^  \S+ +", "", row)) for row in rows}
    assert len(begin) == 1, "the texts do not stand in one column"


@pytest.mark.skipif(OLD_MAKE is None, reason="MAKE_3_81 names no program")
@pytest.mark.parametrize("target", [*TARGETS, "logs-loki", "stop-loki", "start-loki", "restart-loki"])
@pytest.mark.parametrize("variables", [[], ["PROFILE=tenants faro", "ARGS=--rate 5", "RATE=3", "FROM=x.yml"]])
def test_an_old_make_expands_every_target_as_this_one_does(target, variables):
    def expanded(program):
        # Without what make says of itself and of the makes below it.
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
        done = subprocess.run(
            [program, "-n", target, *variables], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        # The versions differ in the blanks between words and at the begin of a continued line, which the shell does not see.
        text = re.sub(r"\\\n", " ", done.stdout).replace(program, "make")
        return [" ".join(line.split()) for line in text.splitlines()]

    assert expanded(OLD_MAKE) == expanded("make")
