"""demo.py: which steps run, which are skipped, and that each command line is a real one."""

import dataclasses
import importlib
import shlex

import click
import pytest
from click.testing import CliRunner

import demo
from dnnlib import files

OPTIONS = demo.DemoOptions(size=32, kimg=1, identities=20, samples=3, device="cpu")


class Runner:
    """Remembers commands, makes a snapshot where training is asked for."""

    def __init__(self, folder):
        self.folder, self.commands, self.fails_at = folder, [], None

    def __call__(self, words):
        if words[0] == self.fails_at:
            raise ValueError(f"{words[0]} ended with exit code 1; see above")
        self.commands.append(words)
        if words[0] == "train_db_stylegan2.py":
            run = self.folder / "training/00000-x"
            run.mkdir(parents=True, exist_ok=True)
            kimg = int(next(word for word in words if "--kimg" in word).split("=")[1])
            (run / f"network-snapshot-{kimg:06d}.pkl").touch()
        return demo.Cost(1.5, None)


@pytest.fixture
def runner(tmp_path):
    return Runner(tmp_path)


def run(runner, **changes):
    runner.commands.clear()
    options = dataclasses.replace(OPTIONS, outdir=runner.folder, **changes)
    click.echo(demo.Demo(options, run_step=runner).run(None))
    return [words[0] for words in runner.commands]


def test_every_step_once(runner, capsys):
    assert len(run(runner)) == len(demo.STEPS)
    assert run(runner) == []
    output = capsys.readouterr().out
    assert "done before" in output
    assert "report/report.html" in output
    assert "network-snapshot-000001.pkl" in output
    page = (runner.folder / "pipeline.html").read_text()
    assert page.count("python train_interpreter.py") == 2
    assert "12. Evaluate how good" in page


def test_more_training_repeats_what_comes_after(runner):
    scripts = run(runner)
    again = run(runner, kimg=2)
    assert again == scripts[scripts.index("train_db_stylegan2.py") :]


def test_another_config_repeats_what_depends_on_it(runner, monkeypatch):
    scripts = run(runner)
    read = files.read_json

    def changed(path):
        return read(path) | ({"batch": 7} if path.name == "demo.json" else {})

    monkeypatch.setattr(files, "read_json", changed)
    assert run(runner) == scripts[scripts.index("train_db_stylegan2.py") :]
    assert run(runner) == []


def test_a_failed_step_is_the_next_to_run(runner):
    runner.fails_at = "train_interpreter.py"
    with pytest.raises(ValueError, match="exit code 1"):
        run(runner)
    runner.fails_at = None
    assert run(runner)[0] == "train_interpreter.py"


def test_results_of_other_commands_are_removed_but_not_unfinished_ones(runner):
    run(runner)
    made = runner.folder / "identities/manifest.jsonl"
    made.parent.mkdir()
    made.touch()
    runner.fails_at = "generate_recognition_data.py"
    state = files.read_json(runner.folder / demo.STATE_FILE)
    title = next(title for title in state if title.startswith("Generate new identities"))
    del state[title]["seconds"]  # as if it had been killed
    files.write_json(runner.folder / demo.STATE_FILE, state)
    with pytest.raises(ValueError, match="exit code 1"):
        run(runner)
    assert made.exists()
    with pytest.raises(ValueError, match="exit code 1"):
        run(runner, kimg=2)
    assert not made.exists()


def test_without_a_snapshot(runner, tmp_path):
    steps = [demo.Step(title="x", command="generate.py --network={net}")]
    options = dataclasses.replace(OPTIONS, outdir=tmp_path)
    with pytest.raises(FileNotFoundError, match="no snapshot"):
        demo.Demo(options, steps, runner).run(None)


def options_of(command):
    return {name for parameter in command.params for name in parameter.opts}


@pytest.mark.parametrize("step", demo.STEPS, ids=lambda s: s.title)
def test_commands_name_real_options_and_files(step):
    script, *words = demo.Demo(OPTIONS).words(step)
    command = importlib.import_module(script.removesuffix(".py")).main
    if isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    for word in words:
        name, _, value = word.partition("=")
        assert name in options_of(command), word
        if value.endswith(".json") and value.startswith("EXPERIMENTS/"):
            assert demo.Path(value).is_file()


def test_list():
    result = CliRunner().invoke(demo.main, ["--list", "--size=64"])
    assert result.exit_code == 0
    lines = [line for line in result.output.splitlines() if line.startswith("python ")]
    assert len(lines) == len(demo.STEPS)
    assert "--resolution=64" in lines[0]
    assert all(shlex.split(line) for line in lines)


def test_a_real_command_is_timed(tmp_path):
    script = tmp_path / "x.py"
    script.write_text("import sys; sys.exit(int(sys.argv[1]))")
    cost = demo.run_command([str(script), "0"])
    assert cost.seconds > 0
    assert cost.memory_gb is None or cost.memory_gb > 0.001
    with pytest.raises(ValueError, match="x.py ended with exit code 3"):
        demo.run_command([str(script), "3"])
