"""CITATION.cff, the workflow and the hook say what the project says, and call what it calls."""

import tomllib

import yaml

from benchmark.runtime.paths import ROOT


def read(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_the_citation_is_valid_and_names_no_person():
    citation = read("CITATION.cff")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()  # what schema 1.2.0 requires
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software"
    assert (str(citation["version"]), citation["license"]) == (project["version"], project["license"])
    assert [set(author) for author in citation["authors"]] == [{"name"}], "an entity"
    places = {"doi", "identifiers", "url", "repository", "repository-code", "date-released"}
    assert not places & citation.keys(), "nothing is published"
    title = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    assert citation["title"] == title


def test_the_workflow_runs_what_ci_runs():
    workflow = read(".github/workflows/ci.yml")
    assert {"push", "pull_request"} <= workflow[True].keys()  # YAML 1.1 reads the key `on` as true
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert (ROOT / ".ci/run").stat().st_mode & 0o111, "is executable"


def test_the_hook_is_make_lint():
    (repo,) = read(".pre-commit-config.yaml")["repos"]
    (hook,) = repo["hooks"]
    assert repo["repo"] == "local" and hook["entry"] == "make lint" and not hook["pass_filenames"]
