"""Imports: instant, and in one direction."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import fercore

ROOT = Path(fercore.__file__).parent
SOURCES = sorted(ROOT.rglob("*.py"))


# -- fercore itself -----------------------------------------------------------------------------


def test_import_fercore_brings_in_nothing_but_the_standard_library():
    code = "import sys; import fercore; print(*{m.partition('.')[0] for m in sys.modules})"
    command = [
        sys.executable,
        "-S",
        "-c",
        f"import sys; sys.path[:0] = {[str(ROOT.parent)]}; {code}",
    ]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert "fercore" in loaded
    foreign = set(loaded) - set(sys.stdlib_module_names) - {"fercore", "__main__"}
    assert not foreign


def test_modules_load_on_first_use():
    code = (
        "import sys, fercore; assert 'fercore.errors' not in sys.modules;"
        "fercore.errors.FercoreError; assert 'fercore.errors' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT.parent)


def test_dir_lists_the_modules():
    listed = dir(fercore)
    for name in ("models", "freeze", "data", "training", "autograd", "__version__"):
        assert name in listed
    modules = {p.stem for p in ROOT.glob("*.py")} - {"__init__", "__main__"}
    assert modules <= set(listed)
    assert listed == sorted(listed)


def test_an_unknown_attribute():
    with pytest.raises(AttributeError, match="module 'fercore' has no attribute 'modles'"):
        fercore.modles  # noqa: B018


# -- who imports whom ---------------------------------------------------------------------------


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import that can run; those for type checkers alone do not."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child
        yield from statements(child)


def imports(path: Path) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found = set()
    for statement in statements(ast.parse(path.read_text())):
        if isinstance(statement, ast.Import):
            found.update(alias.name for alias in statement.names)
            continue
        assert statement.level == 0, f"{path}: a relative import"
        for alias in statement.names:
            whole = f"{statement.module}.{alias.name}"
            found.add(whole if whole in MODULES else str(statement.module))
    return found


GRAPH = {name: imports(path) for name, path in MODULES.items()}


def closure(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """For each name, all that it leads to, directly or not."""
    reached = {}
    for start in graph:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] & graph.keys() - found
            found |= new
            waiting += new
        reached[start] = found
    return reached


def room(module: str) -> str:
    """``nn`` of ``fercore.nn``, ``backends`` of ``fercore.backends.cpu``."""
    return module.partition(".")[2].partition(".")[0]


REACHED = closure(GRAPH)
ROOMS: dict[str, set[str]] = {room(module): set() for module in MODULES}
for importer, imported in GRAPH.items():
    inside = {room(name) for name in imported if name in MODULES}
    ROOMS[room(importer)] |= inside - {room(importer)}

FLOORS = (
    ("cli",),
    ("commands",),
    ("protocol",),
    ("training",),
    ("step", "nn", "optim", "freeze", "masks"),
    ("functions",),
    ("autograd",),
    ("backends",),
)
"""From the roof down: a module imports from its own floor and those below, never from above."""

ENGINE = {name for floor in FLOORS[3:] for name in floor} | {
    "models",
    "checkpoint",
    "evaluation",
    "features",
}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module):
    floors = {name: height for height, floor in enumerate(FLOORS) for name in floor}
    if room(module) in floors:
        above = {
            name
            for name in REACHED[module]
            if floors.get(room(name), len(FLOORS)) < floors[room(module)]
        }
        assert not above, f"{module} imports from above: {above}"


def test_no_room_imports_itself_by_a_detour():
    assert not [name for name, reached in closure(ROOMS).items() if name in reached]


WITHOUT_ENGINE = (
    *("answers", "answer_table", "comparison", "data", "measures", "metrics"),
    *("drift", "page", "report", "statistics"),
    *("evidence", "findings", "questions", "versus", "words"),
)


@pytest.mark.parametrize("module", [m for m in MODULES if room(m) in WITHOUT_ENGINE])
def test_data_metrics_and_reports_never_import_the_engine(module):
    assert not {name for name in REACHED[module] if room(name) in ENGINE}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_imports_tests_or_benchmarks(module):
    assert not {name.partition(".")[0] for name in GRAPH[module]} & {"tests", "bench"}


DEPENDENCIES = {"numpy", "PIL", "safetensors", "msgspec", "rich", "tomli_w", "jinja2"}
OPTIONAL = {
    "fercore.export": {"onnx"},
    "fercore.faces": {"cv2"},
    "fercore.pytorch": {"torch"},
    "fercore.tensorboard": {"tensorboardX"},
}
"""What a module imports inside functions, if it is installed."""
OURS = {"fercore", "cuda_kernels", "_fercore_cpu"}


@pytest.mark.parametrize("module", MODULES)
def test_only_declared_dependencies_are_imported(module):
    foreign = {name.partition(".")[0] for name in GRAPH[module]} - sys.stdlib_module_names
    assert foreign - OURS <= DEPENDENCIES | OPTIONAL.get(module, set())


@pytest.mark.parametrize("module", OPTIONAL)
def test_what_is_optional_is_imported_late(module):
    code = f"import sys, {module}; print(*{{m.partition('.')[0] for m in sys.modules}})"
    command = [sys.executable, "-c", code]
    loaded = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT.parent)
    assert not OPTIONAL[module] & set(loaded.stdout.split())


def test_a_training_step_needs_numpy_alone():
    """So that it can be measured on a machine where nothing else can be installed."""
    step = {"fercore.models", "fercore.optim", "fercore.step", "fercore.functions"}
    step |= {"fercore.timing", "fercore.costs", "fercore.backends.sketch"}  # as benchmarks do
    reached = step.union(*(REACHED[module] for module in step))
    found = {name.partition(".")[0] for module in reached for name in GRAPH.get(module, ())}
    assert found & DEPENDENCIES == {"numpy"}


def test_only_backends_know_the_compiled_module_and_the_kernels():
    for module, found in GRAPH.items():
        if {name.partition(".")[0] for name in found} & (OURS - {"fercore"}):
            assert module.startswith("fercore.backends."), module


def test_the_walk_sees_imports():
    """A check that finds nothing must be able to find something."""
    assert "fercore.autograd" in GRAPH["fercore.functions.conv2d"]
    assert "fercore.backends.interface" in REACHED["fercore.training"]
    assert "fercore.nn" not in GRAPH["fercore.freeze"]  # imported for types alone
    assert "numpy" in GRAPH["fercore.freeze"]  # imported inside functions
