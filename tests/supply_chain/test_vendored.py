"""docs/supply-chain.md names every file of others in the repository, with the hash that it has."""

import hashlib
import re
import subprocess

from helpers import ROOT

ROW = re.compile(r"^\| `([^`]+)` \| (\S+) ([0-9.]+) \| `[^`]+` \| (\S+) \| `([0-9a-f]{64})` \|$", re.MULTILINE)
# Texts of licences and what we say of the files ourselves.
OURS = ("LICENSE", "README")


def rows():
    return ROW.findall((ROOT / "docs" / "supply-chain.md").read_text())


def test_every_file_of_others_is_named_once():
    tracked = subprocess.run(["git", "ls-files", "*/vendor/*"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    theirs = [file for file in tracked if not file.rpartition("/")[2].startswith(OURS)]
    assert theirs and sorted(theirs) == sorted(file for file, *_ in rows())


def test_each_has_the_hash_that_the_page_states():
    for file, *_, stated in rows():
        assert hashlib.sha256((ROOT / file).read_bytes()).hexdigest() == stated, file


def test_each_has_its_licence_beside_it():
    for file, *_ in rows():
        beside = (ROOT / file).parent
        assert list(beside.glob("LICENSE*")), file


def test_the_pages_beside_the_files_name_the_same_versions():
    beside = (ROOT / "lens/assets/README.md").read_text() + (ROOT / "src/routes/console/faro/vendor/README.md").read_text()
    for file, package, version, *_ in rows():
        name = file.rpartition("/")[2]
        assert any(f"`{name}`" in line and package in line and version in line for line in beside.splitlines()), file
