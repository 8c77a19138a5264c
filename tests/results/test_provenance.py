"""The commit of a run: that of this code, never that of a repository which it merely lies in."""

import shutil
import subprocess

import pytest

from benchmark.results import provenance


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A repository with a commit, and this project's folder inside it, not added."""
    if not shutil.which("git"):
        pytest.skip("git is not installed")
    own = tmp_path / "code" / "benchmark" / "results" / "provenance.py"
    own.parent.mkdir(parents=True)
    own.write_text("a = 1\n")
    (tmp_path / "other.txt").write_text("another project")
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "code")

    def git(*words):
        identity = ["-c", "user.name=Jürgen", "-c", "user.email=j@example.org"]
        subprocess.run(["git", "-C", tmp_path, *identity, *words], check=True, capture_output=True)

    git("init")
    git("add", "other.txt")
    git("commit", "-m", "another")
    return own, git


def test_a_folder_inside_another_repository_has_no_commit(tree):
    assert provenance.commit() == {"commit": None, "dirty": None}


def test_commit_and_uncommitted_changes(tree):
    file, git = tree
    git("add", "code")
    git("commit", "-m", "code")
    clean = provenance.commit()
    assert len(clean["commit"]) == 40 and clean["dirty"] is None
    file.write_bytes("name = 'Jürgen'\n".encode("latin-1"))
    assert len(provenance.commit()["dirty"]) == 12 and provenance.commit()["commit"] == clean["commit"]


def test_the_content_of_a_new_file_counts(tree):
    """A method of one's own is a file that git does not know yet."""
    file, git = tree
    git("add", "code")
    git("commit", "-m", "code")
    mine = file.parents[1] / "methods" / "mine.py"
    mine.parent.mkdir()
    marks = []
    for content in ("a = 1\n", "a = 2\n", "a = 1\n"):
        mine.write_text(content)
        marks.append(provenance.commit()["dirty"])
    assert marks[0] == marks[2] != marks[1]


def test_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    assert provenance.commit() == {"commit": None, "dirty": None}
