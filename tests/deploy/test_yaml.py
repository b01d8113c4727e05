"""Every YAML file of deploy/ is plain: yamllint's defaults, and lines as long as ours."""

from pathlib import Path

from tests.deploy.tools import tool

ROOT = Path(__file__).parents[2]
RULES = (
    "{extends: default, rules: {line-length: {max: 120}, document-start: disable, "
    "comments: {min-spaces-from-content: 1}}}"
)


def test_yamllint_takes_every_file() -> None:
    files = list(ROOT.glob("deploy/**/*.y*ml"))
    assert len(files) > 12
    tool("yamllint", "--strict", "-d", RULES, *files)
