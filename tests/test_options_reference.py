"""docs/options.md is what the scripts say."""

import importlib.util
from pathlib import Path

import click

ROOT = Path(__file__).resolve().parents[1]


def reference():
    spec = importlib.util.spec_from_file_location("make_options", ROOT / "docs/make_options.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_up_to_date():
    written = (ROOT / "docs/options.md").read_text(encoding="utf-8")
    assert reference().describe_scripts(ROOT) == written, "run python docs/make_options.py"


def test_rows(tmp_path, monkeypatch):
    (tmp_path / "tiny_script_of_a_test.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)

    @click.command()
    @click.option("--kind", "--art", type=click.Choice(["a", "b"]), default="a", help="x | y")
    @click.option("--need", required=True)
    @click.option("--secret", hidden=True)
    @click.argument("files", nargs=-1)
    def main(**_):
        """First line
        goes on.

        Second paragraph."""

    import tiny_script_of_a_test  # noqa: PLC0415

    tiny_script_of_a_test.main = main
    lines = reference().describe_scripts(tmp_path).splitlines()
    assert "First line goes on." in lines
    assert "| `--kind` `--art` | a | x \\| y Values: a, b. |" in lines
    assert "| `--need` | required |  |" in lines
    assert "| `[FILES]...` | | |" in lines
    assert not any("secret" in line or "Second" in line for line in lines)
