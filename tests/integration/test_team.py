"""docs/team.md, typed as it is, with folders as remotes: a run is shared, taken over and cleaned up."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT, run

pytestmark = pytest.mark.slow  # runs stages

PAGE = (ROOT / "docs/team.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- run: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
HERE = 'make() { command make -o .venv/installed "$@"; }\n'  # without an environment of its own


def test_the_page_on_teams_does_what_it_says(copy_of_reproduced: Path, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("yours", "colleague", "elsewhere")}
    copy_of_reproduced.rename(folders["yours"])
    for name in ("colleague", "elsewhere"):
        folders[name].mkdir()
    assert run(tmp_path, "git", "init", "--quiet", "--bare", "--initial-branch", "main", "git").returncode == 0
    assert run(folders["yours"], "git", "remote", "set-url", "origin", str(tmp_path / "git")).returncode == 0
    said = []
    for name, commands in BLOCK.findall(PAGE):
        done = run(folders[name], "sh", "-ec", HERE + commands.replace("/srv/motionbench", str(tmp_path)))
        assert done.returncode == 0, commands + done.stdout + done.stderr
        said.append(done.stdout)
    taken_over = said[2]
    assert "compare: logged\n" in taken_over
    assert "in use: version 1 of motionbench" in taken_over
    assert "sine.gif" in taken_over
    champion = (folders["elsewhere"] / "champion.keras").read_bytes()
    assert champion == (folders["elsewhere"] / "again.keras").read_bytes()
    assert champion in [path.read_bytes() for path in (folders["yours"] / "models").glob("*/*.keras")]
    assert "margin: 0.03" in (folders["colleague"] / "params.yaml").read_text(encoding="utf-8")
    assert "Running stage" not in run(folders["colleague"], "dvc", "repro").stdout, "all is there"
