"""Who imports whom, read from the source: the rules of architecture.md as one function."""

import ast

# A package imports only from rows above its own; those of one row never import each other.
ROWS = (
    ("dnnlib",),
    ("torch_utils",),
    ("data",),
    ("training", "interpreter", "segmentation", "recognition", "refinement", "metrics"),
)
PACKAGES = tuple(name for row in ROWS for name in row)
NEVER_IMPORTED = ("tests", "benchmarks")
DYNAMIC = ("import_module", "__import__")


def imported_modules(source, package=""):
    """Yield (line, dotted module) of every import of a file; `package` is its dotted folder."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) + 1 - node.level]
            module = node.module.split(".") if node.module else []
            start = (base if node.level else []) + module
            if start:
                yield node.lineno, ".".join(start)
            else:  # `from .. import name` at the top: the names are modules
                yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            argument = node.args[0]
            if name in DYNAMIC and isinstance(argument, ast.Constant):
                yield node.lineno, str(argument.value)


def find_breaches(path, source, scripts):
    """Return a line for each import of a file that the rules forbid.

    path: relative to the repository's root, with "/"; scripts: names of the scripts' modules.
    """
    parts = path.removesuffix(".py").split("/")
    owner = parts[0] if len(parts) > 1 else "scripts"
    breaches = []
    for line, module in imported_modules(source, ".".join(parts[:-1])):
        target = module.split(".")[0]
        reason = _reason(owner, target, scripts)
        if reason:
            breaches.append(f"{path}:{line} imports {module}: {reason}")
    return breaches


def _reason(owner, target, scripts):
    if target in NEVER_IMPORTED and owner not in (target, "tests"):
        return f"nothing imports {target}"
    if target in scripts and owner not in NEVER_IMPORTED:
        return "scripts are imported by tests only"
    if owner not in PACKAGES or target not in PACKAGES or owner == target:
        return None
    own, other = _row(owner), _row(target)
    if own == other:
        return f"{owner} and {target} are siblings"
    return None if other < own else f"{target} lies to the right of {owner}"


def _row(package):
    return next(number for number, row in enumerate(ROWS) if package in row)
