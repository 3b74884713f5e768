"""The arrows between packages point one way (docs/design.md), and the light parts stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = {"vqi": ROOT / "components" / "vqi", "vqi_pipelines": ROOT / "pipelines" / "vqi_pipelines"}

BELOW_STEPS = {
    "vqi.platform",
    "vqi.storage",
    "vqi.tracking",
    "vqi.pages",
    "vqi.dataset",
    "vqi.detectors",
    "vqi.batches",
    "vqi.training",
    "vqi.evaluation",
    "vqi.deployment",
    "vqi.registry",
    "vqi.category",
    "vqi.placement",
}

# What each package may import besides itself.
ALLOWED = {
    "vqi.platform": set(),
    "vqi.pages": {"vqi.platform"},
    "vqi.storage": {"vqi.platform"},
    "vqi.tracking": {"vqi.platform"},
    "vqi.dataset": {"vqi.platform", "vqi.storage", "vqi.pages"},
    "vqi.detectors": {"vqi.platform", "vqi.storage"},
    "vqi.batches": {"vqi.platform", "vqi.dataset", "vqi.detectors"},
    "vqi.evaluation": {"vqi.platform", "vqi.pages", "vqi.storage", "vqi.dataset", "vqi.detectors"},
    "vqi.training": {"vqi.platform", "vqi.storage", "vqi.dataset", "vqi.detectors", "vqi.evaluation"},
    "vqi.deployment": {"vqi.platform", "vqi.storage", "vqi.dataset", "vqi.detectors", "vqi.evaluation"},
    "vqi.registry": {
        "vqi.platform",
        "vqi.storage",
        "vqi.tracking",
        "vqi.dataset",
        "vqi.evaluation",
        "vqi.deployment",
    },
    "vqi.placement": {"vqi.platform"},
    # The sections of the configuration stand in the rooms that use them.
    "vqi.category": {
        "vqi.platform",
        "vqi.tracking",
        "vqi.dataset",
        "vqi.detectors",
        "vqi.training",
        "vqi.evaluation",
        "vqi.deployment",
        "vqi.registry",
        "vqi.placement",
    },
    "vqi.tools": BELOW_STEPS,
    "vqi.steps": BELOW_STEPS,
    "vqi_pipelines": {
        "vqi.platform",
        "vqi.storage",
        "vqi.tracking",
        "vqi.dataset",
        "vqi.steps",
        "vqi.tools",
        "vqi.category",
        "vqi.deployment",
        "vqi.evaluation",
        "vqi.registry",
        "vqi.placement",
    },
}


def modules() -> list[tuple[str, Path]]:
    named_paths = []
    for package, folder in SOURCES.items():
        for path in sorted(folder.rglob("*.py")):
            named_paths.append((".".join([package, *path.relative_to(folder).with_suffix("").parts]), path))
    return named_paths


def room(module: str) -> str:
    return module.split(".")[0] if module.startswith("vqi_pipelines") else ".".join(module.split(".")[:2])


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_every_room_is_governed() -> None:
    assert {room(name) for name, path in modules() if room(name) != "vqi.__init__"} == set(ALLOWED)


@pytest.mark.parametrize(("module", "path"), modules(), ids=[name for name, _ in modules()])
def test_imports_point_one_way(module: str, path: Path) -> None:
    if module == "vqi.__init__":
        return
    here = room(module)
    for name in imports(path):
        if name.split(".")[0] in SOURCES:
            assert room(name) in ALLOWED[here] | {here}, f"{module} imports {name}"
        if name.split(".")[0] == "kfp":
            face = module.endswith(".component") or module == "vqi.steps.__main__"
            assert here == "vqi_pipelines" or face, f"{module} imports kfp"
        if name.split(".")[0] in ("torch", "torchvision"):
            assert here not in ("vqi_pipelines", "vqi.dataset", "vqi.evaluation", "vqi.category", "vqi.placement"), (
                f"{module} imports {name}"
            )


def test_no_step_imports_another() -> None:
    folders = {path.name for path in (SOURCES["vqi"] / "steps").iterdir() if (path / "component.py").is_file()}
    assert {"train", "evaluate"} <= folders
    for module, path in modules():
        if module.startswith("vqi.steps.") and (own := module.split(".")[2]) in folders:
            others = {name.split(".")[2] for name in imports(path) if name.startswith("vqi.steps.")} - {own}
            assert not others & folders, f"{module} imports the steps {sorted(others & folders)}"


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "import vqi_pipelines.command, vqi_pipelines.local_run, vqi_pipelines.train_category",
        "import vqi.steps.ingest.step, vqi.steps.check_dataset.step",
        "import vqi.deployment.predictor",
    ],
)
def test_what_must_be_light_needs_no_torch(statement: str) -> None:
    blocked = "import sys\nfor name in ('torch', 'torchvision', 'sklearn', 'mlflow'):\n    sys.modules[name] = None\n"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", blocked + statement], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_no_two_test_modules_share_a_name() -> None:
    """pytest imports test modules by their names alone: of two with one name it collects the first."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
