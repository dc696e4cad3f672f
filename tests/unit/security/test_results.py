"""Where sensitive authentication data may hide in a result: each place is looked into, or the result is refused."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections import UserDict, deque
from collections.abc import Callable
from typing import NamedTuple

import pydantic
import pytest
from starlette.responses import FileResponse, JSONResponse, StreamingResponse

from smw.security.compliance.catalogue import Catalogue
from smw.security.compliance.engine import Judge

CARDS = Catalogue.model_validate({"fields": {"cvv": "card_secret", "name": "personal"}})


class Extra(pydantic.BaseModel):
    model_config = {"extra": "allow"}
    name: str


class Private(pydantic.BaseModel):
    name: str = ""
    _hidden: dict = pydantic.PrivateAttr(default_factory=lambda: {"cvv": 1})


class Computed(pydantic.BaseModel):
    name: str = ""

    @pydantic.computed_field
    @property
    def cvv(self) -> str:
        return "1"


class Alias(pydantic.BaseModel):
    code: str = pydantic.Field(default="", serialization_alias="cvv")


class Serialized(pydantic.BaseModel):
    name: str = ""

    @pydantic.model_serializer
    def dump(self) -> dict[str, object]:
        return {"cvv": 1}


@dataclasses.dataclass
class Card:
    name: str


class Slotted:
    __slots__ = ("name",)

    def __init__(self) -> None:
        self.name = "Ada"


class Both(Slotted):
    __slots__ = ("__dict__", "cvv")


class Property:
    @property
    def cvv(self) -> str:
        return "1"


class Listing(list):
    pass


class Pair(NamedTuple):
    cvv: str


class Text(str):
    __slots__ = ("__dict__",)


class Key(enum.Enum):
    CVV = 1
    CODE = "cvv"


def with_attribute(value):
    value.cvv = "1"
    return value


HIDDEN: dict[str, Callable[[], object]] = {
    "model with extra": lambda: Extra(name="Ada", cvv="1"),
    "private attribute of a model": Private,
    "computed field": Computed,
    "alias": Alias,
    "model serialized by code": Serialized,
    "attribute of a dataclass": lambda: with_attribute(Card("Ada")),
    "slots beside a dict": lambda: with_attribute(Both()),
    "property": Property,
    "attribute of a list": lambda: with_attribute(Listing()),
    "attribute of a text": lambda: with_attribute(Text("Ada")),
    "key in bytes": lambda: {b"cvv": 1},
    "key of an enum, by name": lambda: {Key.CVV: 1},
    "key of an enum, by value": lambda: {Key.CODE: 1},
    "key in a tuple": lambda: {("cvv", 1): 1},
    "key in capitals": lambda: {"CVV": 1},
    "key with an invisible character": lambda: {"c\u200bvv": 1},
    "named tuple as a key": lambda: {Pair("1"): 1},
    "JSON": lambda: json.dumps({"name": "Ada", "cvv": "1"}),
    "JSON in bytes": lambda: b'[{"cvv" : 1}]',
    "JSON in a view": lambda: memoryview(b'{"cvv": 1}'),
    "JSON lines": lambda: '{"name": 1}\n{"cvv": 1}\n',
    "JSON with escapes": lambda: '{"\\u0063vv": 1}',
    "JSON in JSON": lambda: json.dumps({"body": json.dumps({"cvv": 1})}),
    "response": lambda: JSONResponse({"cvv": "1"}),
    "exception": lambda: ValueError({"cvv": 1}),
    "deque": lambda: deque([{"cvv": 1}]),
    "mapping of its own kind": lambda: UserDict(cvv=1),
    "values": {1: {"cvv": 1}}.values,
    "many small things before it": lambda: [*range(30_000), {"cvv": 1}],
    "streamed response": lambda: StreamingResponse(iter(["1"])),
    "file": lambda: FileResponse("/etc/hostname"),
    "closure": lambda: lambda: "1",
    "partial": lambda: functools.partial(dict, cvv=1),
    "object without anything to see": object,
}
HARMLESS: dict[str, Callable[[], object]] = {
    "model": lambda: Extra(name="Ada", more=[1]),
    "dataclass": lambda: Card("Ada"),
    "enum member": lambda: [Card("Ada"), Key.CVV],
    "response": lambda: JSONResponse({"name": "Ada"}),
    "text": lambda: 'cvv is not kept: "ask the customer"',
    "range": lambda: range(10**9),
    "many numbers": lambda: list(range(100_000)),
}


def refused(result: object) -> bool:
    judge = Judge(("PCI",), classes=frozenset({"card"}), purpose=None, catalogue=CARDS, durable=lambda: True)
    return bool(judge.after(None, result).failures)


@pytest.mark.parametrize("name", HIDDEN)
def test_a_card_secret_is_found_wherever_it_hides(name):
    """A verification code in any of these places withholds the result."""
    assert refused(HIDDEN[name]())
    assert refused([{"name": HIDDEN[name]()}])


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_results_are_handed_out(name):
    """What can be looked through and holds nothing secret passes."""
    assert not refused(HARMLESS[name]())


def test_a_result_whose_code_fails_is_refused():
    """A result that raises while it is looked at was not seen, so it is not handed out."""

    class Broken(dict):
        def items(self):
            raise RuntimeError

    assert refused(Broken(name="Ada"))
