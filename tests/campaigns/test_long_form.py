"""The command of the long form."""

from collections import Counter

from click.testing import CliRunner

from dnnlib.files import read_json
from tests.campaigns import __main__ as long_form


def fail(*_, **__):
    raise AssertionError("exit code 1")


def succeed(*_, **__):
    return {"label": {"attacks": 2, "ended": Counter({"killed": 2}), "found": []}}


def test_a_campaign_that_fails_itself_is_a_finding_beside_the_others(tmp_path, monkeypatch):
    monkeypatch.setitem(long_form.CAMPAIGNS, "kills", fail)
    monkeypatch.setitem(long_form.CAMPAIGNS, "faults", succeed)
    words = ["kills", "faults", "--minutes=1", f"--json={tmp_path / 'counts.json'}"]
    result = CliRunner().invoke(long_form.main, words)
    assert result.exit_code == 1, result.output
    rows = read_json(tmp_path / "counts.json")["campaigns"]
    assert "AssertionError: exit code 1" in rows["kills"]["itself"]["found"][0]
    assert rows["faults"]["label"]["attacks"] == 2
