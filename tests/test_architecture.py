"""The rules of the house: layers, sizes, what each process loads."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("experiments", "heuristics", "recsys", "analysis", "web", "fixtures")
MODULE_LINES, FUNCTION_LINES, ARGUMENTS = 300, 40, 5
LONG_MODULES: dict[str, str] = {}  # path -> why it is longer
LONG_FUNCTIONS: dict[str, str] = {}  # path:name -> why it is longer


def modules() -> Iterator[Path]:
    for folder in FOLDERS:
        yield from (ROOT / folder).rglob("*.py")


def test_no_module_is_longer_than_300_lines() -> None:
    long = {str(p.relative_to(ROOT)): n for p in modules() if (n := len(p.read_text().splitlines())) > MODULE_LINES}
    assert set(long) == set(LONG_MODULES), long


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    body = function.body
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    start = (body[1].lineno if len(body) > 1 else first.end_lineno or 0) if documented else first.lineno
    return (function.end_lineno or 0) - start + 1


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for path in modules():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}:{node.name}", node


def test_no_function_has_more_than_40_lines_of_code() -> None:
    long = {name: code_lines(node) for name, node in functions() if code_lines(node) > FUNCTION_LINES}
    assert set(long) == set(LONG_FUNCTIONS), long


def test_no_function_takes_more_than_five_arguments_by_position() -> None:
    many = [
        name
        for name, node in functions()
        if len(node.args.args) - (node.args.args[:1] != [] and node.args.args[0].arg in ("self", "cls")) > ARGUMENTS
    ]
    assert not many


def test_init_files_hold_no_code_or_export_lazily() -> None:
    """A lazy one has a docstring, imports, names and ``__getattr__`` (PEP 562), nothing else."""
    allowed = (ast.Import, ast.ImportFrom, ast.If, ast.Assign, ast.Expr, ast.FunctionDef)
    for path in modules():
        body = ast.parse(path.read_text()).body if path.name == "__init__.py" else []
        functions = [node.name for node in body if isinstance(node, ast.FunctionDef)]
        imports = [node.module for node in body if isinstance(node, ast.ImportFrom)]
        assert all(isinstance(node, allowed) for node in body), path
        assert functions in ([], ["__getattr__"]), path
        assert set(imports) <= {"__future__", "importlib", "typing"}, path


def test_no_module_is_called_utils_or_the_like() -> None:
    vague = {"utils", "helpers", "common", "manager", "service", "misc"}
    assert not [p for p in modules() if p.stem in vague]


def loaded(code: str) -> set[str]:
    """Modules a fresh process has loaded after ``code``."""
    script = f"{code}\nimport sys\nprint(' '.join(sys.modules))"
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(result.stdout.split())


HEAVY = {"mlflow", "shap", "sklearn", "statsmodels", "pandas", "scipy.stats", "duckdb", "ibis", "matplotlib", "numba"}


def test_a_web_worker_loads_no_learning_stack() -> None:
    code = "from web.app import create_app\nfrom experiments.serving.recommender import discover\ndiscover()"
    assert not HEAVY & loaded(code)


def test_the_command_line_loads_nothing_but_typer_and_rich() -> None:
    found = loaded("from web.cli import commands\ncommands.install()")
    assert not (HEAVY | {"numpy", "flask", "sqlalchemy", "pydantic"}) & found


def test_the_worker_leaves_learning_to_fresh_processes() -> None:
    assert not {"mlflow", "shap", "sklearn", "statsmodels"} & loaded("import web.worker")


@pytest.mark.parametrize("broken", ["implicit", "sklearn", "mlflow", "shap", "scipy"])
def test_the_baseline_arms_run_when_a_learning_package_is_broken(broken: str) -> None:
    code = f"import sys\nsys.modules['{broken}'] = None\nfrom experiments.serving.recommender import discover\nfound = discover()\nassert {{'front', 'newest', 'status_quo'}} <= set(found), found"
    assert loaded(code)


def test_the_folder_names_are_ours() -> None:
    for folder in FOLDERS:
        module = __import__(folder)
        assert Path(module.__path__[0]).resolve() == (ROOT / folder).resolve()


def test_the_wheel_holds_the_packages_and_not_the_tests(tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], check=True, capture_output=True, cwd=ROOT
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    assert tops == set(FOLDERS)
    assert "fixtures/newspaper/desk.toml" in names
    assert "experiments/metrics.toml" in names
    assert any(name.startswith("web/templates/") for name in names)
    assert any(name.startswith("experiments/migrations/versions/") for name in names)


def test_the_locks_pin_hashes_and_name_no_host() -> None:
    for lock in (ROOT / "requirements.lock", ROOT / "tests" / "requirements.lock"):
        text = lock.read_text()
        assert "http" not in text.replace("httpx", "").replace("httpcore", "").replace("httptools", "").replace("aiohttp", "")
        assert text.count("--hash=sha256:") > text.count("==")


@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "tests" / "benchmarks").glob("*.py") if path.stem != "__init__"))
def test_every_benchmark_can_be_loaded(module: str) -> None:
    importlib.import_module(f"tests.benchmarks.{module}")
