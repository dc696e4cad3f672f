"""Functions whose results servers do not keep, each for a reason of its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, PrivateAttr

if TYPE_CHECKING:
    from tests.unit.cache.answers import Answer as Known


class Entity:
    """As a mapper of tables makes them: all hangs together."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.state: list[Any] = [self]
        for _ in range(300):
            self.state = [self.state]


class Row(tuple[int, ...]):
    """A tuple that is none."""

    __slots__ = ()


@dataclass
class Answer:
    """What could be kept."""

    number: int


class Private(BaseModel):
    """A model with more than fields."""

    number: int
    _note: int = PrivateAttr(3)


class Extra(BaseModel):
    """A model that takes what it does not know."""

    model_config = ConfigDict(extra="allow")
    number: int


class Derived(BaseModel):
    """A model that remembers what it has worked out."""

    number: int

    @cached_property
    def double(self) -> int:
        """Work it out."""
        return 2 * self.number


def entity(number: int) -> Entity:
    return Entity(number)


def entities(number: int) -> list[Entity]:
    return [Entity(number), Entity(number)]


def row(number: int) -> list[Row]:
    return [Row((number,))]


def cyclic(number: int) -> list[Any]:
    made: list[Any] = [number]
    made.append(made)
    return made


def long(_number: int) -> list[tuple[()]]:
    return [()] * 500_001


def unnamed(number: int) -> object:
    return Answer(number)


def unresolved(number: int) -> Known:
    return Answer(number)


def asked(number: Known | int) -> Answer:
    assert isinstance(number, int)
    return Answer(number)


def private(number: int) -> Private:
    return Private(number=number)


def extra(number: int) -> Extra:
    return Extra.model_validate({"number": number, "other": 1})


def derived(number: int) -> Derived:
    made = Derived(number=number)
    assert made.double == 2 * number
    return made


def added(number: int) -> Answer:
    made = Answer(number)
    made.__dict__["other"] = 1
    return made
