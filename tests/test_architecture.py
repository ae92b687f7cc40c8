"""The import table of the house: who may import whom, and which package has which door."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBRARY = ROOT / "latentstore"
MODULES = sorted(path for path in LIBRARY.rglob("*.py") if path.name != "__init__.py")
SEAMS = ("vaes", "sources", "containers", "metrics", "storage", "checks", "engines")

# Downward only: a module may import those of lower floors and its own seam.
FLOORS = [
    {"errors", "version", "file_records", "hashing", "ahead", "host_memory", "thumbnails", "repeats"}
    | {"fast_jpeg", "tiff_kinds", "build_progress", "garbage", "freed_memory", "behind", "printable"},
    {"retries", "named_table", "json_records", "records", "locations", "statistics", "entropy", "augment"}
    | {"decoded_pictures", "scenes", "http_connections"},
    {"system"},
    {"normalisation", "image_decoding", "hub", "storage", "metrics", "containers", "value_counts", "views"},
    {"build_profile"},
    {"fsspec_files"},
    {"http_files", "fsspec_writing"},
    {"remote_files"},
    {"pixels", "quality"},
    {"manifest"},
    {"sources", "vaes"},
    {"plan", "row_filter", "row_numbers", "duplicates"},
    {"journal", "pictures", "safe_compute"},
    {"calibration"},
    {"shards", "card", "shard_totals", "quarantine"},
    {"preview", "shard_work"},
    {"seal", "worker", "batch_size", "status"},
    {"plan_opening"},
    {"engines"},
    {"joining"},
    {"store", "row_memory", "decoded_cache", "epochs", "growth", "scalar_columns"},
    {"split_latents", "loader", "latent_decoding", "remote_store", "stream_order", "append"},
    {"append_sealing", "joining_append"},
    {"stream", "opening", "build"},
    {"remeasure", "load"},
    {"checks", "comparison", "conversion"},
    {"verify"},
    {"publishing"},
]

# Each package has one door; a folder means every module in it.
DOORS = {
    "click": [],
    "rich": [],
    "datasets": ["sources/hub_images"],
    "diffusers": ["vaes"],
    "fsspec": ["fsspec_files.py"],
    "huggingface_hub": ["hub"],
    "pyarrow": ["containers"],
    "webdataset": ["containers"],
    "simplejpeg": ["fast_jpeg.py"],
    "torchmetrics": ["metrics"],
    "ray": ["engines/ray.py"],
    "yaml": ["card/front_matter.py"],
}
HEAVY = {*("torch", "diffusers", "datasets", "fsspec", "torchmetrics", "webdataset", "pyarrow", "huggingface_hub")} | {
    *("PIL", "simplejpeg"),
}


def imports_of(path: Path, *, top_level_only: bool = False) -> set[str]:
    """Dotted names that a module imports when it runs; imports for type checkers are left out."""
    found: set[str] = set()
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
            continue
        if top_level_only and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
        pending.extend(ast.iter_child_nodes(node))
    return found


def place(name: str) -> str:
    """The floor's word for a dotted name inside the library: module or seam."""
    return name.split(".")[1] if "." in name else ""


def relative(path: Path) -> str:
    return path.relative_to(LIBRARY).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_imports_downward_only(path: Path) -> None:
    own = relative(path).split("/")[0].removesuffix(".py")
    floor = next(number for number, names in enumerate(FLOORS) if own in names)
    for name in imports_of(path):
        target = place(name) if name.startswith("latentstore") else ""
        if not target or target == own:
            continue
        target_floor = next(number for number, names in enumerate(FLOORS) if target in names)
        assert target_floor < floor, f"{relative(path)} imports {name}, which is not below it"


@pytest.mark.parametrize("seam", SEAMS)
def test_inside_a_seam_only_the_table_imports_implementations(seam: str) -> None:
    folder = LIBRARY / seam
    shared = {"interface", "table", "__init__"} | SHARED_INSIDE.get(seam, set())
    of_file = {path: path.relative_to(folder).parts[0].removesuffix(".py") for path in folder.rglob("*.py")}
    implementations = set(of_file.values()) - shared
    for path, own in of_file.items():
        if own == "table":
            continue
        for name in imports_of(path):
            parts = name.split(".")
            if parts[:2] == ["latentstore", seam] and len(parts) > 2:
                assert parts[2] not in implementations - {own}, f"{relative(path)} imports {name}"


# What the implementations of a seam share, beside its interface.
SHARED_INSIDE = {
    "containers": {
        "arrow_features",
        "arrow_numbers",
        "columns",
        "damage",
        "json_rows",
        "parquet_limits",
        "parquet_pages",
        "row_gather",
        "row_ranges",
        "thrift",
        "ustar",
    },
    "engines": {"failures"},
    "metrics": {"networks", "weights"},
    "sources": {"inside", "naming", "split_names"},
    "vaes": {"checkpoint", "architectures", "citations"},
}


@pytest.mark.parametrize("package", DOORS)
def test_a_third_party_package_is_imported_behind_its_one_door(package: str) -> None:
    doors = DOORS[package]
    for path in MODULES:
        names = {name.split(".")[0] for name in imports_of(path)}
        if package in names:
            assert any(relative(path) == door or relative(path).startswith(f"{door}/") for door in doors), relative(
                path
            )


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_heavy_packages_are_imported_inside_the_function_that_needs_them(path: Path) -> None:
    names = {name.split(".")[0] for name in imports_of(path, top_level_only=True)}
    assert not names & HEAVY


LOOKS_WHETHER_OTHERS_ARE_SET = {"freed_memory.py"}
"""Settings of the C library, which it would else overrule."""


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_the_library_never_prints_and_never_reads_the_environment(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    calls = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "print" not in calls
    if path.name not in LOOKS_WHETHER_OTHERS_ARE_SET:
        assert "os.environ" not in text
        assert "getenv" not in text


def test_no_file_or_class_has_a_name_that_says_nothing() -> None:
    vague_files = {"utils", "util", "helpers", "helper", "common", "misc", "base", "manager"}
    vague_ends = ("Manager", "Handler", "Helper", "Processor", "Engine", "Wrapper", "Factory")
    for path in [*MODULES, *(ROOT / "cli").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]:
        assert path.stem not in vague_files, path
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                assert not node.name.endswith(vague_ends), f"{path}: {node.name}"


def test_contributing_says_where_each_file_and_folder_of_the_library_belongs() -> None:
    described = set(
        re.findall(r"`(?:latentstore/)?([\w.]+(?:\.py|/))", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    )
    files = {path.name for path in LIBRARY.glob("*.py")} - {"__init__.py"}
    folders = {f"{path.parent.name}/" for path in LIBRARY.glob("*/__init__.py")}
    assert files | folders <= described


def test_importing_the_library_loads_none_of_the_heavy_packages() -> None:
    code = (
        "import sys; from latentstore import *; "
        "print(sorted(set(sys.modules) & {'torch', 'diffusers', 'datasets', 'torchmetrics', 'webdataset', 'pyarrow'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_can_be_imported_first(path: Path) -> None:
    # Only a cycle or a name used before it exists can break this; one interpreter for all would hide it.
    name = "latentstore." + relative(path).removesuffix(".py").replace("/", ".")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", f"import {name}"], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_public_names_are_all_listed_and_those_that_type_checkers_see() -> None:
    import latentstore

    seen = {
        str(alias.asname): (node.module, alias.name)
        for node in ast.walk(ast.parse((LIBRARY / "__init__.py").read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("latentstore.")
        for alias in node.names
    }
    assert sorted(seen) == sorted(latentstore.__all__)
    for name, (module, known_there_as) in seen.items():
        assert getattr(latentstore, name) is getattr(sys.modules[str(module)], known_there_as), name


def test_importing_the_package_imports_nothing_of_it_until_a_name_is_used() -> None:
    code = (
        "import sys, latentstore; begun = sorted(name for name in sys.modules if name.startswith('latentstore.')); "
        "from latentstore import cutmix; print(begun, 'latentstore.augment' in sys.modules, 'latentstore.build' in "
        "sys.modules, 'build' in dir(latentstore))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[] True False True"


@pytest.mark.parametrize("name", ["build", "verify"])
def test_a_function_named_like_its_module_stays_the_function_when_the_module_is_imported_first(name: str) -> None:
    code = (
        f"import latentstore.{name}; import latentstore; from latentstore import {name} as one; "
        f"from latentstore.{name} import {name} as other; print(one is other is latentstore.{name})"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "True"


def test_modules_are_reached_through_the_package_and_what_is_not_there_is_no_attribute() -> None:
    import latentstore

    assert latentstore.errors.RequestError is sys.modules["latentstore.errors"].RequestError
    with pytest.raises(AttributeError, match="module 'latentstore' has no attribute 'load_latent'"):
        latentstore.load_latent  # noqa: B018 (asking is the test)
