"""The house in order: rooms, imports, sizes, packaging, catalogues of findings, documentation; and nothing leaks."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path, PurePath
from string import Formatter

import pytest
import setuptools

from xds.findings import Catalogue

ROOT = Path(__file__).parents[1]
ROOMS = ("volet", "fhir", "conformance", "repository", "registry", "dmp", "journal", "cda", "security", "xds")
ANNEXES = ("tests", "benchmarks", "samples", "docs")
LONGEST_FUNCTION, LONGEST_FILE = 60, 500
CODE = re.compile(r"\bV-[A-Z0-9]+(?:-[A-Z0-9]+)+\b")


@functools.cache
def setup() -> ConfigParser:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", "utf-8")
    return config


def setup_list(section: str, option: str) -> list[str]:
    """The values of a setting of setup.cfg that has one a line."""
    return setup()[section][option].split()


@functools.cache
def tracked() -> tuple[PurePath, ...]:
    """Files of the project, relative to its root: what git tracks, as far as it is still there."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True, text=True).stdout
    return tuple(PurePath(name) for name in names.split("\0") if name and (ROOT / name).is_file())


@functools.cache
def text(name: PurePath) -> str:
    """Text of a file; "" when it is not text."""
    try:
        return (ROOT / name).read_text("utf-8")
    except UnicodeDecodeError:
        return ""


def in_rooms(suffix: str = "") -> list[PurePath]:
    return [name for name in tracked() if name.parts[0] in ROOMS and name.name.endswith(suffix)]


# --- rooms and imports ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("room", ROOMS + ANNEXES)
def test_a_readme_of_about_four_lines(room: str) -> None:
    lines = [line for line in (ROOT / room / "README.md").read_text("utf-8").splitlines() if line.strip()]
    assert 3 <= len(lines) <= 8


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--config", str(ROOT / "setup.cfg"),
               "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


def test_imports_only_point_down() -> None:
    result = lint_imports(ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


# What must be seen when it is done, so that the contracts cannot turn green by seeing nothing.
FORBIDDEN = {
    "xds": "import registry", "security": "import cda", "journal": "import flask", "registry": "import dmp.rights",
    "dmp": "from registry import tables", "repository": "import fhir.mhd", "fhir": "import sqlalchemy",
    "conformance": "import fhir.mhd",
}


def make_house(folder: Path, imports: dict[str, str]) -> None:
    for room in ROOMS:
        (folder / room).mkdir()
        (folder / room / "__init__.py").touch()
        (folder / room / "module.py").write_text(imports.get(room, ""))
    for name in ("dmp/rights.py", "registry/tables.py", "fhir/mhd.py"):
        (folder / name).touch()


def test_an_import_that_points_elsewhere_is_seen(tmp_path: Path) -> None:
    make_house(tmp_path, FORBIDDEN)
    seen = lint_imports(tmp_path).stdout
    assert [room for room in FORBIDDEN if f"{room}.module -> " not in seen] == []


def test_the_bench_may_use_the_fhir_library(tmp_path: Path) -> None:
    make_house(tmp_path, {"conformance": "from fhir.resources.R4B.bundle import Bundle", "fhir": "import registry"})
    result = lint_imports(tmp_path)
    assert result.returncode == 0, result.stdout


def test_fhir_merges_with_the_library() -> None:
    from fhir.resources.R4B import bundle

    import fhir

    assert str(ROOT / "fhir") in fhir.__path__
    assert ROOT / "fhir" not in Path(bundle.__file__).parents
    assert not (ROOT / "fhir" / "resources").exists()
    assert text(PurePath("fhir/__init__.py")).count("\n") == 1


def imported(tree: ast.AST) -> Iterator[str]:
    """Names of the modules that a module imports from outside its own folder."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_only_the_r4_models_of_the_fhir_library_are_used() -> None:
    wrong = [f"{name}: {module}" for name in in_rooms(".py") for module in imported(ast.parse(text(name)))
             if module.startswith("fhir.resources") and not module.startswith("fhir.resources.R4B")]
    assert wrong == []


def test_every_library_that_is_imported_is_declared() -> None:
    extras = setup()["options.extras_require"]
    requirements = setup()["options"]["install_requires"] + "".join(extras[extra] for extra in extras)
    declared = {normal(re.split(r"[<>=!~;\[ ]", line.strip())[0]) for line in requirements.splitlines() if line.strip()}
    providers = importlib.metadata.packages_distributions()
    needed = {module.split(".")[0]: name for name in in_rooms(".py") for module in imported(ast.parse(text(name)))}
    others = {module: name for module, name in needed.items() if module not in (*ROOMS, *sys.stdlib_module_names)}
    assert {module: str(name) for module, name in others.items()
            if declared.isdisjoint(map(normal, providers.get(module, [])))} == {}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


# --- sizes ---------------------------------------------------------------------------------------------------------


def functions(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Name, line and length without docstring of every function."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            yield node.name, node.lineno, (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_long() -> None:
    found = [f"{name}:{line} {function} has {length} lines" for name in in_rooms(".py")
             for function, line, length in functions(ast.parse(text(name))) if length > LONGEST_FUNCTION]
    assert found == []


def test_no_file_is_long() -> None:
    lengths = {str(name): text(name).count("\n") for name in in_rooms(".py")}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


# --- packaging -----------------------------------------------------------------------------------------------------


def packages() -> list[str]:
    include = setup_list("options.packages.find", "include")
    return setuptools.find_packages(str(ROOT), include=include, exclude=["tests*"])


def test_every_room_is_found() -> None:
    assert set(ROOMS) <= set(packages())
    assert not set(ANNEXES) & set(packages())


def test_every_folder_with_code_is_a_package() -> None:
    assert {".".join(name.parent.parts) for name in in_rooms(".py")} - set(packages()) == set()


def test_every_kind_of_data_file_is_packaged() -> None:
    patterns = setup_list("options.package_data", "*")
    assert [name for name in in_rooms() if name.suffix != ".py" and f"**/*{name.suffix}" not in patterns] == []


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_rooms(tmp_path: Path) -> None:
    for name in (*in_rooms(), *map(PurePath, ("setup.cfg", "pyproject.toml", "LICENSE"))):
        (tmp_path / "source" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "source" / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run(command, cwd=tmp_path / "source", capture_output=True, check=True)
    (wheel,) = tmp_path.glob("*.whl")
    held = set(zipfile.ZipFile(wheel).namelist())
    assert {name.as_posix() for name in in_rooms()} - held == set()
    assert {name.split("/")[0] for name in held if ".dist-info" not in name} == set(ROOMS)


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-dev.lock"])
def test_a_lock_has_pins_and_hashes_only(lock: str) -> None:
    first, *lines = (ROOT / lock).read_text("utf-8").splitlines()
    assert "make lock" in first
    pin, digest = r"[a-z0-9-]+==[^ ]+( ; .+)? \\", r"    --hash=sha256:[0-9a-f]{64}( \\)?"
    assert [line for line in lines if not re.fullmatch(f"{pin}|{digest}", line)] == []


def test_the_locks_hold_every_declared_dependency() -> None:
    pins = {line.split("==")[0] for line in text(PurePath("requirements-dev.lock")).splitlines() if "==" in line}
    runtime = {line.split("==")[0] for line in text(PurePath("requirements.lock")).splitlines() if "==" in line}
    names = [re.split(r"[<>=!~;\[ ]", line)[0] for line in setup_list("options", "install_requires")]
    assert {normal(name) for name in names} <= runtime <= pins


# --- catalogues of findings ----------------------------------------------------------------------------------------


def catalogues() -> dict[str, Catalogue]:
    return {room: Catalogue(room) for room in ROOMS if (ROOT / room / "findings.toml").is_file()}


def test_catalogue_codes_are_unique_over_all_rooms() -> None:
    codes = [code for catalogue in catalogues().values() for code in catalogue]
    assert codes
    assert sorted(codes) == sorted(set(codes))


def test_catalogue_codes_have_the_form_of_theirs() -> None:
    codes = [code for catalogue in catalogues().values() for code in catalogue]
    assert [code for code in codes if not (CODE.fullmatch(code) or code.startswith("DMP"))] == []


def test_catalogue_texts_are_there_in_both_languages() -> None:
    rules = [rule for catalogue in catalogues().values() for rule in catalogue.values()]
    assert [rule.code for rule in rules if not (rule.fr and rule.en and rule.clause)] == []
    assert [rule.code for rule in rules if bool(rule.hint_fr) != bool(rule.hint_en)] == []


def test_catalogue_texts_name_the_same_values_in_both_languages() -> None:
    rules = [rule for catalogue in catalogues().values() for rule in catalogue.values()]
    assert [rule.code for rule in rules if braces(rule.fr) != braces(rule.en)] == []
    assert [rule.code for rule in rules if braces(rule.hint_fr) != braces(rule.hint_en)] == []


def braces(template: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(template) if name is not None}


def test_catalogue_holds_every_code_that_the_rooms_name() -> None:
    known = {code for catalogue in catalogues().values() for code in catalogue}
    named = {code: str(name) for name in in_rooms() if name.suffix != ".md" for code in CODE.findall(text(name))}
    assert {code: name for code, name in named.items() if code not in known} == {}


def test_catalogue_holds_no_rule_that_nothing_names() -> None:
    others = [name for name in in_rooms() if name.name != "findings.toml"]
    named = {code for name in others for code in re.findall(r"\b(?:V-|DMP)[A-Z0-9a-z-]+", text(name))}
    assert [code for catalogue in catalogues().values() for code in catalogue if code not in named] == []


# --- documentation -------------------------------------------------------------------------------------------------


def documents() -> list[PurePath]:
    return [name for name in tracked() if name.suffix == ".md"]


def test_docs_link_to_what_exists() -> None:
    links = [(name, link) for name in documents() for link in re.findall(r"\]\(([^)\s]+)\)", text(name))]
    local = [(name, link.split("#")[0]) for name, link in links if not re.match(r"[a-z]+:|#", link)]
    assert [f"{name}: {link}" for name, link in local if not (ROOT / name.parent / link).exists()] == []


def snippets(name: PurePath) -> list[str]:
    """What a document sets as code: what stands in backticks, and each line of a fenced block."""
    fence = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
    blocks = [line.strip() for block in fence.findall(text(name)) for line in block.splitlines()[1:-1]]
    return blocks + re.findall(r"`([^`\n]+)`", fence.sub("", text(name)))


def commands(program: str) -> list[tuple[PurePath, str]]:
    """Document and first argument of every command line of a program, settings before it let through."""
    line = re.compile(rf"(?:\$ )?(?:[A-Z_]+=\S+ )*{program} ([a-z][a-z-]*)")
    return [(name, found[1]) for name in documents() for snippet in snippets(name) if (found := line.match(snippet))]


def test_docs_name_files_that_exist() -> None:
    """A path that starts at a folder of the house; a changelog may speak of the past."""
    path = re.compile(rf"(?:{'|'.join(ROOMS + ANNEXES)})/[\w./-]+\.[a-z]+")
    named = [(name, snippet) for name in documents() if name.name != "CHANGELOG.md"
             for snippet in snippets(name) if path.fullmatch(snippet)]
    assert [f"{name}: {snippet}" for name, snippet in named if not (ROOT / snippet).exists()] == []


def test_docs_name_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", text(PurePath("Makefile")), re.MULTILINE))
    assert {"run", "test"} <= {target for _, target in commands("make")}
    assert [f"{name}: make {target}" for name, target in commands("make") if target not in targets] == []


def test_docs_name_commands_that_exist() -> None:
    command = [sys.executable, "-c", "from volet.cli import main; main()", "--help"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    known = set(re.findall(r"[a-z-]+", result.stdout))
    assert [f"{name}: volet {word}" for name, word in commands("volet") if word not in known] == []


def test_docs_name_codes_that_exist() -> None:
    known = {code for catalogue in catalogues().values() for code in catalogue}
    named = [(name, code) for name in documents() for code in CODE.findall(text(name))]
    assert [f"{name}: {code}" for name, code in named if code not in known] == []


# --- what must not be here -----------------------------------------------------------------------------------------

# Written so that this file does not hold them itself.
LEAKS = re.compile(
    r"/wor[k]/(?:main|shared|steering|\.library)|(?<![\w.~*])/roo[t]/|/op[t]/wheels|/tm[p]/bash_jobs"
    r"|pyp[i]\.org|pythonhoste[d]\.org|registry\.npmj[s]|crate[s]\.io|repo1?\.mave[n]|proxy\.golan[g]|deb\.debia[n]"
)


def test_nothing_of_a_machine_or_a_registry_is_in_the_tree() -> None:
    assert [f"{name}: {found[0]}" for name in tracked() if (found := LEAKS.search(text(name)))] == []


@pytest.mark.parametrize("leak", ["https://pyp" "i.org/simple", "see /wor" "k/main/x", "'/roo" "t/.cache'"])
def test_a_leak_is_seen(leak: str) -> None:
    assert LEAKS.search(leak)


def test_no_test_folder_is_named_like_a_module_of_the_tests_beside_it() -> None:
    """Test modules of one name in two folders are told apart by importlib mode alone; a package would undo that."""
    assert [name for name in tracked() if name.parts[0] == "tests" and name.name == "__init__.py"] == []
