"""Who may import whom, and what a file may hold, read from the syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "app",
    "benchmarks",
    "kernels",
    "longtake",
    "models",
    "streaming",
    "training",
    "weights",
)
# Layer -> the layers it may import; `longtake` is the public API itself.
MAY_IMPORT = {
    "streaming": {"streaming"},
    "kernels": {"kernels"},
    "weights": {"weights"},
    "models": {"streaming", "kernels", "models"},
    "training": {"streaming", "kernels", "models", "training"},
    "app": {"streaming", "kernels", "models", "weights", "app"},
    "benchmarks": set(PACKAGES),
    "longtake": set(PACKAGES),
    "launch.py": set(PACKAGES),
}
# What the engine knows nothing of: models, pictures, files of media, the web.
FOREIGN_TO_THE_ENGINE = {"torch", "numpy", "av", "fastapi", "gradio", "uvicorn", "websockets"}
# Calls that a module-level constant may be made with: they build a value and touch nothing else.
PLAIN_CALLS = {
    *("dict", "enumerate", "float", "frozenset", "getattr", "int", "len", "list", "map", "max"),
    *("min", "range", "set", "sorted", "str", "sum", "tuple", "zip"),
    *("field", "fields", "re.compile", "logging.getLogger", "math.sqrt"),
    "tl.constexpr",
}
PLAIN_METHODS = {"format", "items", "join", "keys", "split", "values"}


def files_of(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def each(paths: list[Path]) -> pytest.MarkDecorator:
    names = [path.relative_to(ROOT).as_posix() for path in paths]
    return pytest.mark.parametrize("path", paths, ids=names)


PACKAGE_FILES = [*files_of(*PACKAGES), ROOT / "launch.py"]
ALL_FILES = [*PACKAGE_FILES, *files_of("tests", "examples", "docs")]


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), str(path))


def imported_modules(tree: ast.AST) -> list[str]:
    """Dotted names of everything imported, in functions and for type checking too."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{'.' * node.level}{node.module or ''}.{each.name}" for each in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found += [each.value for each in node.args if isinstance(each, ast.Constant)]
    return found


def layer_of(module: str) -> str | None:
    """The layer a dotted name belongs to, if it is ours."""
    first, _, rest = module.partition(".")
    if first != "longtake":
        return None
    second = rest.partition(".")[0]
    return second if second in PACKAGES else "longtake"


@each(PACKAGE_FILES)
def test_a_layer_imports_only_the_layers_below_it(path):
    layer = path.relative_to(ROOT).parts[0]
    imported = {layer_of(module) for module in imported_modules(tree_of(path))} - {None}
    assert imported <= MAY_IMPORT[layer]


@each(ALL_FILES)
def test_every_import_of_ours_is_absolute_and_starts_with_longtake(path):
    for module in imported_modules(tree_of(path)):
        assert not module.startswith("."), f"{module} is relative"
        assert module.partition(".")[0] not in {*PACKAGES} - {"longtake"}


@each(files_of("streaming"))
def test_the_engine_knows_no_model_no_pictures_and_no_web(path):
    roots = {module.partition(".")[0] for module in imported_modules(tree_of(path))}
    assert not roots & FOREIGN_TO_THE_ENGINE


@each(PACKAGE_FILES)
def test_no_module_does_work_when_it_is_imported(path):
    for statement in tree_of(path).body:
        if not is_definition(statement):
            pytest.fail(f"line {statement.lineno}: {ast.unparse(statement)[:80]}")


def is_definition(statement: ast.stmt) -> bool:
    match statement:
        case (
            ast.Import()
            | ast.ImportFrom()
            | ast.FunctionDef()
            | ast.AsyncFunctionDef()
            | ast.ClassDef()
            | ast.Expr(ast.Constant(str()))
        ):
            return True
        case ast.If(test=test, orelse=[]):
            return ast.unparse(test) in {"TYPE_CHECKING", "__name__ == '__main__'"}
        case ast.Assign(targets=targets, value=value):
            return all(map(names_constants, targets)) and is_plain(value)
        case ast.AnnAssign(target=target, value=value):
            return names_constants(target) and (value is None or is_plain(value))
    return False


def names_constants(target: ast.expr) -> bool:
    """Whether it is NAMES, or an Alias of a type, or a __dunder__."""
    if isinstance(target, ast.Tuple):
        return all(map(names_constants, target.elts))
    if not isinstance(target, ast.Name):
        return False
    name = target.id
    return name.isupper() or name.strip("_")[0].isupper() or name.startswith("__")


def is_plain(value: ast.expr) -> bool:
    """Whether its calls only build values."""
    calls = [node.func for node in ast.walk(value) if isinstance(node, ast.Call)]
    return all(is_plain_call(ast.unparse(function)) for function in calls)


def is_plain_call(function: str) -> bool:
    """Whether it is a class, one of a few builtins, or a method of a literal value."""
    name = function.rpartition(".")[2]
    return function in PLAIN_CALLS or name in PLAIN_METHODS or name.strip("_")[:1].isupper()


@each(ALL_FILES)
def test_no_file_is_a_heap_of_leftovers(path):
    assert path.name != "utils.py"


@each(PACKAGE_FILES)
def test_every_file_says_what_it_is_for(path):
    assert ast.get_docstring(tree_of(path)), "no docstring"


def test_the_rules_cover_every_package():
    with_code = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert with_code == set(PACKAGES)
    assert set(MAY_IMPORT) == {*PACKAGES, "launch.py"}


@pytest.mark.parametrize(
    "source",
    [
        "print('hello')",
        "import os\nos.environ['A'] = 'b'",
        "MODEL = load_model()",
        "TENSOR = torch.zeros(3)",
        "TEXT = Path('a').read_text()",
        "for index in range(3): pass",
        "state = []",
        "if TYPE_CHECKING:\n    pass\nelse:\n    pass",
        "with open('a'): pass",
    ],
)
def test_work_at_import_is_recognised(source):
    assert not all(map(is_definition, ast.parse(source).body))


@pytest.mark.parametrize(
    ("source", "modules"),
    [
        ("def f():\n    import longtake.app.cli", ["longtake.app.cli"]),
        ("from longtake import app", ["longtake.app"]),
        ("from . import engine", ["..engine"]),
        ("import_module('longtake.app')", ["longtake.app"]),
    ],
)
def test_imports_are_found_wherever_they_stand(source, modules):
    assert imported_modules(ast.parse(source)) == modules
