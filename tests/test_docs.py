"""The manual names real files, real headings, and real commands with real options."""

import importlib
import json
import re
import shlex
from pathlib import Path

import click
import pytest

from data.class_list import load_class_list
from interpreter.experiment import load_experiment

ROOT = Path(__file__).resolve().parents[1]
PLACES = (".", "docs", "DATASETS", "EXPERIMENTS", "EXPERIMENTS/*", "benchmarks")
PAGES = sorted({path for place in PLACES for path in ROOT.glob(f"{place}/*.md")})
SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
RESULTS = {"demo", "runs"}  # as in .gitignore
CONFIGS = sorted(p for p in ROOT.glob("EXPERIMENTS/*/*.json") if p.parent.name not in RESULTS)
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def slugs(text):
    """Return the anchors that GitHub gives a page's headings."""
    found = []
    for heading in re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        found.append(plain if plain not in found else f"{plain}-{found.count(plain)}")
    return found


def code_lines(text):
    """Return the lines of code blocks, continued ones joined, and pieces of code in the text."""
    blocks = FENCE.findall(text)
    plain = FENCE.sub("", text)
    indented = re.findall(r"(?:^ {4}.*\n?)+", plain, re.MULTILINE)
    lines = "\n".join([*blocks, *indented]).replace("\\\n", " ").splitlines()
    return [line.strip() for line in lines] + INLINE.findall(plain)


def script_calls(text):
    """Return (script, words behind it) of each command that runs one of our scripts."""
    calls = []
    for line in code_lines(text):
        if not re.search(r"(^|\s)(python|torchrun|srun)\s", line):
            continue
        words = [word.strip("[]") for word in shlex.split(line, comments=True)]
        for place, word in enumerate(words):
            if re.fullmatch(r"[a-z0-9_]+\.py", word) and (ROOT / word).parent == ROOT:
                calls.append((word, words[place + 1 :]))
                break
    return calls


def command_of(script, words):
    """Return the click command of a script, and the words that belong to it."""
    command = importlib.import_module(script.removesuffix(".py")).main
    if isinstance(command, click.Group) and words:
        return command.commands[words[0]], words[1:]
    return command, words


def spellings(command):
    return {
        name
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    } | {"--help", "-h", *getattr(command, "switched_off", {})}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links(page):
    text = page.read_text(encoding="utf-8")
    for target in LINK.findall(FENCE.sub("", text)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in slugs(file.read_text(encoding="utf-8")), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands(page):
    for script, words in script_calls(page.read_text(encoding="utf-8")):
        assert (ROOT / script).is_file(), script
        command, rest = command_of(script, words)
        known = spellings(command)
        normalize = command.context_settings.get("token_normalize_func", str)
        for word in rest:
            if word in ("|", ">", "&&", ";", "&"):
                break
            name, _, value = word.partition("=")
            if word.startswith("-") and not re.match(r"-?\d", name.lstrip("-")):
                assert {name, normalize(name)} & known, f"{script}: {word}"
            file = value or word
            if re.fullmatch(r"EXPERIMENTS/[\w/.]+\.json", file) and "my_" not in file:
                assert (ROOT / file).is_file(), word


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules(page):
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"python -m ([a-z_]+(?:\.[a-z_]+)+)", text):
        if name.partition(".")[0] != "torch":
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").is_file() or (path / "__main__.py").is_file(), name
    for name in re.findall(r"python (benchmarks/\w+\.py)", text):
        assert (ROOT / name).is_file(), name


def test_every_page_is_linked():
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md",))
    text += "".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs").glob("*.md"))
    for page in (ROOT / "docs").glob("[!R]*.md"):
        assert f"({page.name}" in text or f"(docs/{page.name}" in text, page.name


@pytest.mark.parametrize("path", CONFIGS, ids=name_of)
def test_experiments(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, list):
        assert len(load_class_list(path)) == len(content)
        return
    if "exp_dir" in content:
        load_experiment(path)
        return
    if "places" in content:  # of a benchmark
        return
    named = {script for page in PAGES for script in users_of(path, page)}
    fitting = [s for s in sorted(named) or SCRIPTS if content.keys() <= config_keys(s)]
    assert len(fitting) >= max(1, len(named))


def config_keys(script):
    """Return the keys that a script's --config may have, in both spellings."""
    names = spellings(command_of(script, [])[0])
    keys = {name.lstrip("-").replace("_", "-") for name in names if "--config" in names}
    return keys | {key.replace("-", "_") for key in keys}


def users_of(path, page):
    """Return the scripts that a page calls with this --config."""
    for script, words in script_calls(page.read_text(encoding="utf-8")):
        if any(word.partition("=")[2] == name_of(path) for word in words if "--config" in word):
            yield script
