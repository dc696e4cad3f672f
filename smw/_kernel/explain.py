"""Shows what stands around a decorated function, in order and as bound now; changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from smw._kernel.chain import stack_of
from smw.errors import DecorationError

__all__ = ["Explanation", "Layer", "explain"]


@dataclass(frozen=True, slots=True)
class Layer:
    """One decorator of the stack.

    Args:
        decorator: As written, with its options.
        active: Whether it has work to do under the current runtime.
        answers_hits: Whether the compiled entry may answer from it without running the chain.
    """

    decorator: str
    active: bool
    answers_hits: bool


@dataclass(frozen=True, slots=True, repr=False)
class Explanation:
    """The effective stack of a function; prints as text.

    Args:
        function: ``module:qualname``.
        kind: Function, coroutine function, generator or async generator.
        layers: Outermost first.
    """

    function: str
    kind: str
    layers: tuple[Layer, ...]

    def __repr__(self) -> str:
        """Render the stack, outermost first."""
        lines = [f"{self.function} ({self.kind})"]
        for number, layer in enumerate(self.layers, 1):
            state = "" if layer.active else "   idle: nothing to do under the current settings"
            if layer.answers_hits:
                state = "   answers hits at once, before the chain runs"
            lines.append(f"  {number}. {layer.decorator}{state}")
        lines.append("  then the function itself")
        return "\n".join(lines)


def explain(fn: Any, /) -> Explanation:
    """Return what happens around a call of `fn`, under the current runtime.

    Args:
        fn: A function or method decorated by smw.

    Raises:
        DecorationError: `fn` carries no smw decorator.
    """
    stack = stack_of(fn)
    if stack is None:
        name = getattr(fn, "__qualname__", type(fn).__qualname__)
        raise DecorationError("SMW-K121", f"{name} carries no smw decorator", fix="explain a decorated function")
    if stack.bound is None:
        stack.bind()
    bound = stack.bound or ()
    first = next((step for step in bound if step is not None), None)
    layers = tuple(
        Layer(advice.describe(), step is not None, step is not None and step is first and step.gear is not None)
        for advice, step in zip(stack.advices, bound, strict=True)
    )
    return Explanation(stack.target.name, stack.target.kind.value, layers)
