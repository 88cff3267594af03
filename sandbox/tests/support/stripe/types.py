"""Types of stripe-python for each endpoint, and checks of JSON against them.

The SDK's services are parsed as source code: each method has its route, the type of its
parameters and the class of its response, but only for type checkers.
"""

import ast
import builtins
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import stripe
from stripe._object_classes import OBJECT_CLASSES
from typing_extensions import get_type_hints, is_typeddict

from sandbox.tests.support.stripe import optional_fields

ROOT = Path(str(stripe.__file__)).parent
PACKAGES = (ROOT, ROOT / "billing_portal", ROOT / "radar", ROOT / "test_helpers")
OPTIONS = frozenset(stripe.RequestOptions.__annotations__)

DELETED = frozenset({"deleted", "id", "object"})


@dataclass(frozen=True)
class Operation:
    """Endpoint of the SDK; `{}` stands for an id in the path."""

    method: str
    segments: tuple[str, ...]
    params: Any
    returns: Any

    def matches(self, method: str, segments: tuple[str, ...]) -> bool:
        return (self.method, len(self.segments)) == (method, len(segments)) and all(
            expected in ("{}", segment)
            for expected, segment in zip(self.segments, segments, strict=True)
        )


@cache
def operations() -> tuple[Operation, ...]:
    """Return all endpoints, those without ids in the path first."""
    endpoints = [
        operation
        for package in PACKAGES
        for path in sorted(package.glob("_*_service.py"))
        for operation in _operations_in(path)
    ]
    return tuple(
        sorted(endpoints, key=lambda operation: operation.segments.count("{}"))
    )


@cache
def operation(method: str, path: str) -> Operation | None:
    """Return the SDK's endpoint for a request, or None."""
    segments = tuple(path.strip("/").split("/"))
    matching = (
        candidate for candidate in operations() if candidate.matches(method, segments)
    )
    return next(matching, None)


def unknown_parameters(params: Any, form: Mapping[str, Any]) -> list[str]:
    """Return the fields of a decoded form that the SDK's parameter type lacks."""
    if params is None:
        return list(form)
    return list(_typed_dict_problems(params, form, ""))


def response_problems(returns: Any, value: Any) -> list[str]:
    """Return the differences between JSON and the annotations of a class."""
    return mismatches(returns, value, value.get("object", "response"))


def event_problems(event: Mapping[str, Any]) -> list[str]:
    """Return the differences between an event's object and its class."""
    record, type = event["data"]["object"], event["type"]
    cls = resources().get(record["object"])
    if cls is None:
        return [f"{type}: the SDK has no {record['object']}"]
    unknown = set(event["data"].get("previous_attributes", {})) - set(resolved(cls))
    return [
        *mismatches(cls, record, type),
        *(f"{type}: previous {name} is no attribute" for name in sorted(unknown)),
    ]


@cache
def resources() -> dict[str, type]:
    """Return the SDK's classes by the value of `object`."""
    return {
        name: getattr(import_module(module), cls)
        for name, (module, cls) in OBJECT_CLASSES.items()
    }


def declared(params: Any) -> dict[str, Any]:
    """Return the parameters of a type by name, without the SDK's request options."""
    module = vars(sys.modules[params.__module__])
    hints = get_type_hints(params, globalns=module, localns=_names(module))
    return {name: hint for name, hint in hints.items() if name not in OPTIONS}


def _operations_in(path: Path) -> Iterator[Operation]:
    tree = ast.parse(path.read_text())
    imported = {
        alias.name: str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        route = isinstance(node, ast.FunctionDef) and _route_of(node)
        if route and isinstance(node, ast.FunctionDef):
            yield Operation(
                *route, _params_of(node, imported), _response_class(node, imported)
            )


def _route_of(function: ast.FunctionDef) -> tuple[str, tuple[str, ...]] | None:
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "_request"
        ):
            method, path = ast.literal_eval(node.args[0]), _text(node.args[1])
            parts = re.sub(r"\{\w+\}", "{}", path).strip("/").split("/")
            return method.upper(), tuple(parts)
    return None


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    return str(ast.literal_eval(node))


def _params_of(function: ast.FunctionDef, imported: Mapping[str, str]) -> Any:
    for argument in function.args.args:
        if argument.arg == "params" and argument.annotation is not None:
            name = re.findall(r"\w+Params", ast.unparse(argument.annotation))[0]
            return getattr(import_module(imported[name]), name)
    return None


def _response_class(function: ast.FunctionDef, imported: Mapping[str, str]) -> Any:
    names = {
        name: getattr(import_module(module), name)
        for name, module in imported.items()
        if function.returns is not None
        and re.search(rf"\b{name}\b", ast.unparse(function.returns))
    }
    text = ast.literal_eval(function.returns) if function.returns else "None"
    return eval(text, dict(names))


def _typed_dict_problems(
    params: Any, form: Mapping[str, Any], path: str
) -> Iterator[str]:
    hints = declared(params)
    for name, value in form.items():
        here = f"{path}[{name}]" if path else name
        if name not in hints:
            yield f"{here}: unknown"
        else:
            yield from _parameter_problems(hints[name], value, here)


def _parameter_problems(hint: Any, value: Any, path: str) -> list[str]:
    candidates = [
        list(_option_problems(option, value, path)) for option in _closed(hint)
    ]
    return [] if [] in candidates else min(candidates, key=len)


def _closed(hint: Any) -> list[Any]:
    """Return the options, without the `str` that the SDK adds for future literals."""
    all_options = list(options(hint))
    words = {
        word
        for option in all_options
        if get_origin(option) is typing.Literal
        for word in get_args(option)
    }
    return [option for option in all_options if option is not str or not words - {""}]


def options(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself."""
    if get_origin(hint) in (Union, types.UnionType):
        for member in get_args(hint):
            yield from options(member)
    else:
        yield hint


def _option_problems(hint: Any, value: Any, path: str) -> Iterator[str]:
    origin = get_origin(hint)
    if origin is typing.Literal:
        if value not in map(str, get_args(hint)):
            yield f"{path}: {value!r} is not one of {get_args(hint)}"
    elif is_typeddict(hint):
        if isinstance(value, Mapping):
            yield from _typed_dict_problems(hint, value, path)
        else:
            yield f"{path}: not a hash"
    elif origin is list:
        yield from _array_problems(get_args(hint)[0], value, path)
    elif hint in (int, float, bool, str, Decimal) and not isinstance(value, str):
        yield f"{path}: not a scalar"


def _array_problems(item: Any, value: Any, path: str) -> Iterator[str]:
    if not isinstance(value, Mapping) or not all(key.isdigit() for key in value):
        yield f"{path}: not an array"
        return
    for key, item_value in value.items():
        yield from _parameter_problems(item, item_value, f"{path}[{key}]")


def problems(cls: type, value: Any, path: str) -> list[str]:
    """Return the differences between JSON and the annotations of a class."""
    if not isinstance(value, dict):
        return [f"{path}: {type(value).__name__} instead of an object"]
    if value.get("deleted") and set(value) <= DELETED:
        return []
    hints, differences = resolved(cls), []
    for name, annotation in hints.items():
        here = f"{path}.{name}"
        if name not in value:
            absent = optional_fields.may_be_absent(cls, name)
            differences += [] if absent else [f"{here}: absent"]
        elif value[name] is None:
            null = optional_fields.may_be_null(cls, name, annotation)
            differences += [] if null else [f"{here}: null"]
        else:
            differences += mismatches(annotation, value[name], here)
    unknown = set(value) - set(hints)
    return [*differences, *(f"{path}.{name}: not declared" for name in unknown)]


class Names(dict[str, Any]):
    """Namespace with the classes that the SDK imports for type checkers only."""

    def __missing__(self, name: str) -> Any:
        return getattr(stripe, name, Any)


def _names(module: Mapping[str, Any]) -> Names:
    return Names({**vars(builtins), **vars(typing), **module})


@cache
def resolved(cls: type) -> dict[str, Any]:
    """Return the annotations of a class with forward references resolved."""
    module = vars(sys.modules[cls.__module__])
    hints = typing.get_type_hints(cls, globalns=module, localns=_names(module))
    return {
        name: hint
        for name, hint in hints.items()
        if name in cls.__annotations__ and get_origin(hint) is not typing.ClassVar
    }


def mismatches(annotation: Any, value: Any, path: str) -> list[str]:
    """Return why a value does not have the annotated type."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        # Not of an object: that it is no id, or not null.
        scalars = (str, type(None)) if isinstance(value, dict) else ()
        options = [
            mismatches(option, value, path)
            for option in get_args(annotation)
            if option not in scalars
        ]
        return [] if [] in options else min(options, key=len)
    if origin is list:
        item = get_args(annotation)[0]
        if not isinstance(value, list):
            return [f"{path}: not a list"]
        return [
            problem
            for number, element in enumerate(value)
            for problem in mismatches(item, element, f"{path}[{number}]")
        ]
    if origin is typing.Literal:
        return [] if value in get_args(annotation) else [f"{path}: {value!r}"]
    if origin is stripe.ListObject:
        return _list_problems(get_args(annotation)[0], value, path)
    return _plain_mismatches(origin or annotation, value, path)


def _list_problems(item: Any, value: Any, path: str) -> list[str]:
    if not isinstance(value, dict) or value.get("object") != "list":
        return [f"{path}: not a list object"]
    differences = [
        f"{path}.{name}: absent"
        for name in ("data", "has_more", "url")
        if name not in value
    ]
    for number, record in enumerate(value.get("data", [])):
        differences += mismatches(item, record, f"{path}.data[{number}]")
    return differences


def _plain_mismatches(expected: Any, value: Any, path: str) -> list[str]:
    if expected is Any or expected is dict or isinstance(expected, typing.TypeVar):
        return []
    if expected is Decimal:
        expected = str
    if expected in (str, int, bool, type(None), float):
        exact = type(value) is expected
        return [] if exact else [f"{path}: {value!r} is not {expected.__name__}"]
    if isinstance(expected, type) and issubclass(expected, stripe.StripeObject):
        if "__annotations__" not in vars(expected):
            return [] if isinstance(value, dict) else [f"{path}: not an object"]
        return problems(expected, value, path)
    return [f"{path}: cannot check {expected!r}"]
