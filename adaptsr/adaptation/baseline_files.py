"""Discover baseline files and read their literals without torch; import them only to train.

A file of `baselines/` holds literals (VARIANTS, ROWS, PROTOCOL, TITLE, ...), readable without running it, and two
functions, `plan` and `attach`. `baselines/README.md` is the recipe.
"""

from __future__ import annotations

import ast
import fnmatch
import importlib.util
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pydantic

from adaptsr.config import schema
from adaptsr.errors import UserError, listing, suggestion
from adaptsr.project import CHECKOUT

if TYPE_CHECKING:
    from adaptsr.backbones.sites import Site

FOLDER = CHECKOUT / "baselines"


@dataclass(frozen=True)
class BaselineFile:
    """The literals of one file of `baselines/`."""

    name: str
    path: Path
    summary: str
    """First line of the docstring: what the method is, and its source."""
    title: str
    """Row title; `{option}` stands for the variant's value."""
    trains: str
    """What trains, in a few words."""
    options: Mapping[str, Any]
    """Every option with its default; a variant lists only what differs."""
    variants: Mapping[str, Mapping[str, Any]]
    rows: Sequence[str]
    protocol: int
    extensions: Mapping[str, str] = field(default_factory=dict)
    """`{"conv": "..."}`: why the method is an extension of ours on a backbone whose sites are all of this kind."""
    starts_at_backbone: bool = True
    """Whether the attached model equals the backbone before the first step."""
    recipe: Mapping[str, Any] = field(default_factory=dict)
    """Keys of `training` that a profile leaves to the method; `"{option}"` stands for the variant's value."""
    trains_all: bool = False
    """Whether a run takes about the time and disk of training the whole backbone; used by the estimate."""


RANKS = ("rank", "r_min", "r_max")
LITERALS: Mapping[str, tuple[str, type, Any]] = {
    "TITLE": ("title", str, ""),
    "TRAINS": ("trains", str, ""),
    "OPTIONS": ("options", dict, {}),
    "VARIANTS": ("variants", dict, None),
    "ROWS": ("rows", list, None),
    "PROTOCOL": ("protocol", int, None),
    "EXTENSIONS": ("extensions", dict, {}),
    "STARTS_AT_BACKBONE": ("starts_at_backbone", bool, True),
    "RECIPE": ("recipe", dict, {}),
    "TRAINS_ALL": ("trains_all", bool, False),
}


def discover(folders: Sequence[Path] = (FOLDER,)) -> dict[str, BaselineFile]:
    """Return the baseline files of some folders by name, in alphabetical order within each folder.

    Raises `UserError` for a missing folder, an invalid file, or a name that two files share.
    """
    found: dict[str, BaselineFile] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; expected a folder of baseline files")
        for path in sorted(folder.glob("*.py")):
            if path.name.startswith("_"):
                continue
            if path.stem in found:
                raise UserError(
                    f"{path}: the baseline {path.stem!r} exists already: {found[path.stem].path}; rename one of the two"
                )
            found[path.stem] = read_literals(path.absolute())
    return found


def read_literals(path: Path) -> BaselineFile:
    """Read a baseline file's literals without running it. Raises `UserError` naming the file and what is wrong."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8-sig"), filename=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot read this baseline file: {error}") from None
    except SyntaxError as error:
        line = f"line {error.lineno}: " if error.lineno else ""
        raise UserError(f"{path}: {line}not valid Python: {error.msg}") from None
    except (ValueError, RecursionError, MemoryError) as error:  # a null byte, brackets in brackets
        raise UserError(f"{path}: not valid Python: {error}") from None
    if not schema.NAME.fullmatch(path.stem) or path.stem in (schema.UNADAPTED, schema.EXTERNAL):
        raise UserError(
            f"{path}: invalid baseline name {path.stem!r}: use lower-case letters, digits and '_'; "
            f"{schema.UNADAPTED!r} and {schema.EXTERNAL!r} are reserved"
        )
    summary = (ast.get_docstring(tree) or "").strip().split("\n")[0]
    if not summary:
        raise UserError(f"{path}: missing docstring at the top; say what the method is and which paper it comes from")
    values = {key: default for key, _, default in LITERALS.values()}
    for name, value in _assigned_literals(tree, path).items():
        key, kind, _ = LITERALS[name]
        if not isinstance(value, kind):
            raise UserError(f"{path}: {name}: expected {kind.__name__}, found {value!r}")
        _check_names(value, f"{path}: {name}")
        values[key] = value
    for name, (key, _, _) in LITERALS.items():
        if values[key] is None:
            raise UserError(f"{path}: {name} is missing; a baseline file needs VARIANTS, ROWS and PROTOCOL")
    functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for function in ("plan", "attach"):
        if function not in functions:
            raise UserError(f"{path}: the function {function} is missing; baselines/README.md shows what it takes")
    file = BaselineFile(name=path.stem, path=path, summary=summary, **values)
    for name, options in file.variants.items():
        _check_variant(file, name, options, f"{path}: VARIANTS")
        _check_recipe(Variant(file, name, {**file.options, **options}), f"{path}: RECIPE")
    for row in file.rows:
        if not isinstance(row, str) or row not in file.variants:
            raise UserError(f"{path}: ROWS: {row!r} is not in VARIANTS{suggestion(str(row), file.variants)}")
    return file


def _assigned_literals(tree: ast.Module, path: Path) -> dict[str, Any]:
    found = {}
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if (
                isinstance(target, ast.Name)
                and target.id in LITERALS
                and isinstance(node, ast.Assign | ast.AnnAssign)
                and node.value
            ):
                if target.id in found:
                    raise UserError(f"{path}: line {node.lineno}: {target.id} is set twice; keep one of the two")
                _refuse_repeated_keys(node.value, path, target.id)
                try:
                    found[target.id] = ast.literal_eval(node.value)
                except (ValueError, TypeError, RecursionError, MemoryError):
                    raise UserError(
                        f"{path}: line {node.lineno}: {target.id} must be a literal, because it is read without running the file"
                    ) from None
    return found


def _check_names(value: object, where: str) -> None:
    """Refuse keys that are not text, in the value itself or deeper inside."""
    for key, inner in value.items() if isinstance(value, dict) else ():
        if not isinstance(key, str):
            raise UserError(f"{where}: {key!r}: expected a name in quotes")
        _check_names(inner, where)


def _refuse_repeated_keys(value: ast.expr, path: Path, literal: str) -> None:
    """Python keeps the last of two equal keys, without a word."""
    for node in ast.walk(value):
        lines: dict[object, int] = {}
        for key in node.keys if isinstance(node, ast.Dict) else []:
            if isinstance(key, ast.Constant):
                if key.value in lines:
                    said = f"the key {key.value!r} is already in line {lines[key.value]}; keep one of the two"
                    raise UserError(f"{path}: line {key.lineno}: {literal}: {said}")
                lines[key.value] = key.lineno


def _check_variant(file: BaselineFile, name: object, options: object, where: str) -> None:
    if not isinstance(name, str) or not schema.NAME.fullmatch(name):
        raise UserError(
            f"{where}: invalid name {name!r}: use 1 to 100 of a-z 0-9 _ - . and start with a letter or digit"
        )
    if not isinstance(options, Mapping):
        raise UserError(f"{where}.{name}: expected a mapping of options, found {options!r}")
    known = {*file.options, "title"}
    for key, value in options.items():
        if key not in known:
            raise UserError(
                f"{where}.{name}: unknown option {key!r}{suggestion(key, known)}; {file.name} takes {listing(known)}"
            )
        if key in RANKS and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise UserError(f"{where}.{name}.{key}: expected a rank, a whole number of at least 0, found {value!r}")


def _check_recipe(variant: Variant, where: str) -> None:
    unknown = sorted(map(str, set(variant.baseline.recipe) - set(schema.Recipe.model_fields)))
    if unknown:
        own = " (a profile states it; give a factor in `groups`)" if unknown[0] == "lr" else ""
        raise UserError(f"{where}: unknown key {unknown[0]!r}{own}; allowed are {listing(schema.Recipe.model_fields)}")
    try:
        schema.Recipe.model_validate(variant.recipe)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {key}: {first['msg']}, found {first['input']!r} for {variant.row}") from None


def _filled(value: Any, options: Mapping[str, Any]) -> Any:
    """Replace `"{option}"` by the value of the option, at any depth."""
    if isinstance(value, dict):
        return {key: _filled(item, options) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_filled(item, options) for item in value]
    if isinstance(value, str) and value.startswith("{") and value[1:-1] in options:
        return options[value[1:-1]]
    return value


def import_baseline(path: Path) -> ModuleType:
    """Import a baseline file by its path, once. Raises `UserError` if a package it imports is missing."""
    name = f"adaptsr_baseline_{path.stem}"
    known = sys.modules.get(name)
    if known is not None and known.__file__ == str(path):
        return known
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        del sys.modules[name]
        raise UserError(f"{path}: {error}; install what this baseline needs (its docstring says what)") from None
    return module


@dataclass(frozen=True)
class Variant:
    """A baseline with its options fixed: a table row."""

    baseline: BaselineFile
    name: str
    options: Mapping[str, Any]
    budget: Variant | None = None
    """The variant that the option `budget` names; `plan` receives the number of parameters it trains."""

    @property
    def row(self) -> str:
        return f"{self.baseline.name}/{self.name}"

    @property
    def title(self) -> str:
        """The option `title`, else the file's TITLE filled with the options, else the names of baseline and variant."""
        own = self.options.get("title")
        if own:
            return str(own)
        if "{" not in self.baseline.title:
            return f"{self.baseline.title} ({self.name})" if self.baseline.title else self.row
        try:
            return self.baseline.title.format(**self.options)
        except (KeyError, IndexError, ValueError, AttributeError, TypeError):
            return self.row

    @property
    def recipe(self) -> dict[str, Any]:
        """The file's RECIPE, filled with the options."""
        return {key: _filled(value, self.options) for key, value in self.baseline.recipe.items()}

    def extension(self, sites: Sequence[Site]) -> str | None:
        """Return why this row is an extension of ours on a backbone with these sites, or None."""
        kinds = {site.kind for site in sites if not site.upsampling}
        return self.baseline.extensions.get(next(iter(kinds))) if len(kinds) == 1 else None


def select_variants(
    files: Mapping[str, BaselineFile], changes: Mapping[str, schema.Baseline], name: str, where: str
) -> list[Variant]:
    """Return the variants of a baseline that a profile runs, in order of definition.

    Without `rows`, a profile runs the variants it defines itself, or else the file's ROWS. Raises `UserError` if a
    pattern matches no variant.
    """
    file, own = files[name], changes.get(name)
    defined = defined_variants(file, own)
    if own is None or own.rows is None:
        patterns = list(own.variants) if own and own.variants else list(file.rows)
    else:
        patterns = own.rows
    wanted: list[str] = []
    for pattern in patterns:
        matched = fnmatch.filter(defined, pattern)
        if not matched:
            raise _no_variant(name, pattern, defined, where)
        wanted += [variant for variant in matched if variant not in wanted]
    return [resolve_variant(files, changes, f"{name}/{variant}", where) for variant in wanted]


def resolve_variant(
    files: Mapping[str, BaselineFile],
    changes: Mapping[str, schema.Baseline],
    row: str,
    where: str,
    named_by: tuple[str, ...] = (),
) -> Variant:
    """Return the variant `<baseline>/<variant>` with every option resolved; a profile's definition overrides the file's.

    `changes` are the profile's, by baseline; `where` names the profile in messages; `named_by` are the rows whose
    budgets lead here. Raises `UserError` for an unknown name or option and for a circular budget.
    """
    name, _, chosen = row.partition("/")
    if name not in files:
        raise UserError(f"{where}: no baseline {name!r}{suggestion(name, files)}; there are {listing(files)}")
    file = files[name]
    defined = defined_variants(file, changes.get(name))
    if chosen not in defined:
        raise _no_variant(name, chosen, defined, where)
    _check_variant(file, chosen, defined[chosen], f"{where}: baselines.{name}")
    options = {**file.options, **defined[chosen]}
    _check_recipe(Variant(file, chosen, options), f"{where}: baselines.{name}.variants: RECIPE")
    budget = options.get("budget")
    if not isinstance(budget, str):
        return Variant(file, chosen, options)
    if "/" not in budget or budget == row:
        raise UserError(
            f"{where}: {row}: budget: expected `<baseline>/<variant>`, a number of parameters or `ranks: N`, found {budget!r}"
        )
    if budget in named_by:
        circle = " -> ".join((*named_by, row, budget))
        raise UserError(f"{where}: {row}: budget: {circle} is a circle; give one of them a number of parameters")
    return Variant(file, chosen, options, resolve_variant(files, changes, budget, where, (*named_by, row)))


def _no_variant(name: str, wrong: str, defined: Mapping[str, object], where: str) -> UserError:
    return UserError(
        f"{where}: baselines.{name}: no variant {wrong!r}{suggestion(wrong, defined)}; there are {', '.join(defined)}"
    )


def defined_variants(file: BaselineFile, changes: schema.Baseline | None) -> dict[str, Mapping[str, Any]]:
    """Return the variants of a file, with those that a profile adds or redefines."""
    own = changes.variants if changes else {}
    return {**file.variants, **{name: one.options or file.variants.get(name, {}) for name, one in own.items()}}
