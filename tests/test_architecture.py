"""The layout is a law: who may import whom, how long a file may be, what the library may not touch."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = sorted((ROOT / "dnc_jax").rglob("*.py"))
EXPERIMENTS = sorted((ROOT / "experiments").rglob("*.py"))
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MAX_FILE_LINES = 300
MAX_BODY_LINES = 40

# module -> modules of dnc_jax that it may import; a package stands for all of its files.
ARROWS = {
    "types": set(),
    "errors": set(),
    "checks": {"types"},
    "linalg": {"checks", "types"},
    "patches": {"types"},
    "solvers": {"linalg", "types"},
    "chunking": {"types"},
    "kernels": {"patches", "checks", "linalg", "chunking", "types"},
    "sharing": {"linalg"},
    "matrix_free": {"checks", "kernels", "linalg", "sharing", "types"},
    "diagnostics": {"matrix_free", "solvers", "checks", "errors"},
    "machine": {"diagnostics", "matrix_free", "sharing", "kernels", "linalg", "solvers", "types"},
    "mixed_solver": {"linalg", "solvers"},
    "agop_cost": {"chunking", "class_free"},
    "cost": {"agop_cost", "chunking", "matrix_free", "mixed_solver", "solvers"},
    "closed_form": {"machine", "kernels", "linalg", "chunking", "types"},
    "class_free": {"machine", "kernels", "linalg"},
    "moments": {"linalg", "chunking", "types"},
    "jacobians": {"linalg", "types"},
    "agop": {
        "agop_cost",
        "class_free",
        "closed_form",
        "machine",
        "kernels",
        "jacobians",
        "moments",
        "linalg",
        "chunking",
        "types",
    },
    "agop_streamed": {"agop", "agop_estimates", "machine", "sharing", "linalg"},
    "mixed_agop": {"agop", "agop_cost", "machine", "kernels", "linalg"},
    "agop_layers": {"linalg", "chunking", "types"},
    "agop_estimates": {"jacobians", "moments", "linalg", "chunking", "types"},
    "similarity": {"checks", "linalg", "types"},
    "ansatz": {"checks", "similarity", "linalg", "types"},
    "ansatz_factors": {"ansatz", "checks", "linalg", "types"},
    "features": {"linalg", "types"},
    "rfm_steps": {"diagnostics", "machine", "agop", "kernels", "linalg", "solvers", "types"},
    "rfm": {"diagnostics", "rfm_steps", "machine", "kernels", "solvers", "errors", "types"},
    "agop_patches": {"checks", "kernels", "machine", "linalg", "chunking", "types"},
    "conv_rfm": {
        *("diagnostics", "rfm_steps", "agop_patches", "machine"),
        *("kernels", "linalg", "solvers", "errors", "types"),
    },
    "rfm_selection": {"rfm", "checks", "linalg", "errors", "types"},
    "deep_rfm_core": {
        *("agop_streamed", "matrix_free", "mixed_agop", "rfm", "diagnostics", "machine", "agop", "kernels"),
        *("chunking", "linalg", "solvers", "types"),
    },
    "deep_rfm_sharded": {"deep_rfm_core", "kernels", "matrix_free", "types"},
    "deep_rfm": {
        "diagnostics",
        "deep_rfm_core",
        "deep_rfm_sharded",
        "agop_streamed",
        "matrix_free",
        "mixed_solver",
        "rfm",
        "machine",
        "agop",
        "kernels",
        "features",
        "linalg",
        "solvers",
        "errors",
        "types",
    },
    "estimators": {
        *("rfm", "rfm_steps", "rfm_selection", "deep_rfm", "machine"),
        *("kernels", "features", "linalg", "types"),
    },
    "networks": {"collapse", "patches", "checks", "linalg", "types"},
    "training": {"chunking", "linalg", "errors", "types"},
    "collapse": {"checks", "chunking", "linalg", "errors", "types"},
}
ONLY_IN_EXPERIMENTS = {"tyro", "rich", "matplotlib", "pathlib", "time", "argparse", "sys", "os", "datetime"}
FORBIDDEN_NAMES = {"utils.py", "common.py", "helpers.py", "misc.py"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def room(path: Path) -> str:
    return path.relative_to(ROOT / "dnc_jax").parts[0].removesuffix(".py")


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", [p for p in LIBRARY if room(p) != "__init__"], ids=named)
def test_imports_run_along_the_arrows(path):
    allowed = ARROWS[room(path)] | {room(path)}
    targets = {name.split(".")[1] for name in imports(path) if name.startswith("dnc_jax.")}
    assert targets <= allowed, f"{named(path)} imports {sorted(targets - allowed)}"


@pytest.mark.parametrize("path", LIBRARY, ids=named)
def test_library_is_pure(path):
    roots = {name.split(".")[0] for name in imports(path)}
    assert not roots & (ONLY_IN_EXPERIMENTS | {"experiments"}), f"{named(path)} imports {roots}"
    assert "flax" not in roots or room(path) == "networks"
    assert "optax" not in roots or room(path) == "training"
    assert "sklearn" not in roots or room(path) == "estimators"


def test_the_library_is_imported_without_the_estimators():
    assert not any(
        name.startswith("dnc_jax.estimators") for name in imports(ROOT / "dnc_jax" / "__init__.py")
    )


@pytest.mark.parametrize("path", LIBRARY + EXPERIMENTS + BENCHMARKS, ids=named)
def test_only_public_jax(path):
    assert not any(name.startswith("jax._src") for name in imports(path))
    assert "_src" not in path.read_text()


@pytest.mark.parametrize("path", LIBRARY + EXPERIMENTS + BENCHMARKS + TESTS, ids=named)
def test_files_and_functions_are_short(path):
    assert path.name not in FORBIDDEN_NAMES
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES, named(path)
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0
            assert length <= MAX_BODY_LINES, f"{named(path)}:{node.name} has {length} lines"


@pytest.mark.parametrize("path", [p for p in EXPERIMENTS if "support" in p.parts], ids=named)
def test_support_does_not_import_experiments(path):
    above = {
        n for n in imports(path) if n.startswith("experiments.") and not n.startswith("experiments.support")
    }
    assert not above, f"{named(path)} imports {above}"


def test_nothing_unpickles():
    for path in LIBRARY + EXPERIMENTS + BENCHMARKS:
        assert "pickle" not in {name.split(".")[0] for name in imports(path)}, named(path)
        assert "allow_pickle=True" not in path.read_text(), named(path)


def test_every_public_name_is_exported_once():
    import dnc_jax

    assert sorted(set(dnc_jax.__all__)) == sorted(dnc_jax.__all__)
    for name in dnc_jax.__all__:
        assert getattr(dnc_jax, name).__doc__, name
