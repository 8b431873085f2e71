"""Every error can be named, read and pickled."""

from __future__ import annotations

import inspect
import pickle
from typing import cast

import pytest

from jobstate import errors
from jobstate.errors import JobstateError

ARGUMENTS = {"legal": ("retry",), "wait_until": 5, "version": 3}


def _all() -> list[type[JobstateError]]:
    return [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, JobstateError)]


def _example(cls: type[JobstateError]) -> JobstateError:
    parameters = inspect.signature(cls.__init__).parameters.values()
    named = [one.name for one in parameters if one.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD and one.name != "self"]
    return cls(*(ARGUMENTS.get(name, name.upper()) for name in named))


@pytest.mark.parametrize("cls", _all())
def test_every_error_pickles_with_its_attributes_and_words(cls: type[JobstateError]) -> None:
    error = _example(cls)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is cls
    assert (vars(again), again.args, str(again)) == (vars(error), error.args, str(error))


@pytest.mark.parametrize("cls", [cls for cls in _all() if "__init__" in vars(cls)])
def test_every_error_says_its_attributes_in_words(cls: type[JobstateError]) -> None:
    error = _example(cls)
    for name, value in vars(error).items():
        if name == "outcomes":  # counted, not listed
            continue
        words = ", ".join(map(str, cast("tuple[object, ...]", value))) if isinstance(value, tuple) else str(value)
        assert words in str(error), name


def test_the_tree_in_the_docstring_has_every_error() -> None:
    assert errors.__doc__ is not None
    drawn = [line.split("──")[1].split()[0] for line in errors.__doc__.splitlines() if "──" in line]
    assert sorted(drawn) == sorted(cls.__name__ for cls in _all() if cls is not JobstateError)
