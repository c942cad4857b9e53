"""Queries of the documentation: fences of the languages promql, logql, traceql and profile in README.md and docs/.

A blank line parts the queries of a fence; lines that begin with `#` are for the reader. In CI each is parsed and held to the names that exist, as those of the
dashboards are; on a running stack each must return data. A fence with the word `none` after its language is one that returns nothing on a healthy
stack, such as a search for what is broken: it must be answered, with or without data. So must those of docs/systems/, which have data while their
system runs. An ellipsis in a query stands for what the reader fills in; it is
parsed and not run.
"""

import re
import time
import urllib.error
from collections.abc import Iterator

from . import live
from .queries import ROOT, Query, filled

FENCE = re.compile(r"^( *)```(promql|logql|traceql|profile)( none)?\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
#: What Grafana fills in; on a page the range is written out.
VARIABLES = {"__rate_interval": "1m", "__auto": "1m", "__range": "15m"}


def pages() -> list:
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def fences() -> Iterator[tuple[Query, bool]]:
    """Each query, and whether it must return data."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        for fence in FENCE.finditer(text):
            line = text.count("\n", 0, fence.start()) + 1
            must_return = not fence[3] and "systems" not in path.parts
            for text_of_one in fence[4].split("\n\n"):
                lines = [part for part in text_of_one.splitlines() if not part.lstrip().startswith("#")]
                query = filled("\n".join(lines).strip(), VARIABLES)
                if query:
                    yield Query(f"{path.relative_to(ROOT)}:{line}", fence[2], query), must_return


def broken_links() -> Iterator[str]:
    """Links from one page to a file of the repository, or to a heading, that is not there."""
    everywhere = [*pages(), *sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
    for path in dict.fromkeys(everywhere):
        text = re.sub(r"```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)|(?:src|srcset|href)=\"([^\"]+)\"", text):
            file, _, heading = next(part for part in target if part).partition("#")
            if re.match(r"[a-z]+:", file):
                continue
            other = (path.parent / file).resolve() if file else path
            if not other.exists():
                yield f"{path.relative_to(ROOT)}: link to {file}, which does not exist"
            elif heading and heading not in headings(other):
                yield f"{path.relative_to(ROOT)}: {file or 'this page'} has no heading #{heading}"


def unknown_targets() -> Iterator[str]:
    """Targets of make that a page names, in code, and the Makefile does not have."""
    rules = re.findall(r"^([\w%-]+(?: [\w%-]+)*):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    targets = [re.compile(name.replace("%", "[\\w<>.…-]+") + "$") for rule in rules for name in rule.split()]
    for path in [*pages(), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]:
        text = path.read_text(encoding="utf-8")
        code = [*re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL), *re.findall(r"`([^`\n]+)`", text)]
        for name in re.findall(r"(?:^|[\s;&|`])make +(?:[A-Z_]+=\S+ +)*([a-z][\w<>.…-]*)", "\n".join(code)):
            if not any(target.match(name.rstrip(".")) for target in targets):
                yield f"{path.relative_to(ROOT)}: there is no target {name}"


def unknown_variables() -> Iterator[str]:
    """Variables of ours that a page names and no program, nor .env, reads."""
    sources = [path for folder in ("src", "telemetry", "lens", "ctl", "shop") for path in (ROOT / folder).rglob("*.rs")]
    sources += [*ROOT.glob("docker-compose.yml"), *ROOT.glob("systems/*/compose.yml"), *ROOT.glob(".env*"), ROOT / "Makefile"]
    known = "\n".join(path.read_text(encoding="utf-8") for path in sources)
    for path in pages():
        for name in sorted(set(re.findall(r"\b(?:SIGNALBOX|TELEMETRY|LENS|INCIDENTS)_[A-Z0-9_]+[A-Z0-9]\b", path.read_text(encoding="utf-8")))):
            if not re.search(rf"\b{name}(?![A-Z0-9])", known):
                yield f"{path.relative_to(ROOT)}: nobody reads {name}"


def headings(path) -> set[str]:
    """As the forge makes anchors of them: small letters, hyphens for spaces, no punctuation."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def unanswered(bases: dict[str, str]) -> Iterator[str]:
    """Those that a running stack does not answer, or answers with nothing. A scrape or an export may be due: each is asked for a while."""
    asked = 0
    for query, must_return in fences():
        if "…" in query.text:
            continue
        asked += 1
        deadline = time.monotonic() + 30
        while True:
            wrong = ask(query, bases, must_return)
            if not wrong or time.monotonic() > deadline:
                break
            time.sleep(3)
        if wrong:
            yield f"{query.where}: {wrong}\n    {query.text}"
    if asked == 0:
        yield "no page has a query"


def ask(query: Query, bases: dict[str, str], must_return: bool) -> str | None:
    try:
        answered = live.answered(query, bases)
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()[:300]}"
    return "no data" if must_return and not answered else None
