"""Importing an application by its path; a sentence for all that can be wrong with it."""

from __future__ import annotations

import importlib
import os
import sys
from functools import reduce
from typing import Any

from pillars.app import App
from pillars.ground.errors import PillarsError, did_you_mean
from pillars.ground.loop import describe


class AppLoadError(PillarsError):
    """The application cannot be loaded."""


def load_app(path: str) -> App:
    """Import an app by `module:attribute`, with the working directory on the path.

    Raises:
        AppLoadError: what is wrong with the path, in one sentence.
    """
    module_name, colon, attribute = path.partition(":")
    if not (module_name and colon and attribute):
        raise AppLoadError(f"{path!r} is not an app: write module:attribute, as in main:app")
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above
    module = _import(module_name)
    try:
        app = reduce(getattr, attribute.split("."), module)
    except AttributeError:
        names = [name for name, value in vars(module).items() if isinstance(value, App)]
        near = did_you_mean(attribute, names or vars(module), cutoff=0.0 if names else 0.6)
        raise AppLoadError(f"{module_name} has no {attribute!r}{near}") from None
    if not isinstance(app, App):
        raise AppLoadError(f"{path} is of type {type(app).__name__}, not a pillars.App")
    try:
        app.check()
    except PillarsError as error:
        raise AppLoadError(str(error)) from error
    return app


def _import(name: str) -> Any:  # noqa: ANN401 - a module of the user's
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            raise AppLoadError(
                f"there is no module {error.name!r} in {os.getcwd()} or among the "  # noqa: PTH109 - text
                "installed packages",
            ) from None
        raise AppLoadError(f"{name} cannot be imported: {describe(error)}") from error
    except PillarsError as error:
        raise AppLoadError(f"{name} cannot be imported: {error}") from error
    except Exception as error:
        raise AppLoadError(
            f"{name} cannot be imported: {type(error).__name__}: {describe(error)}",
        ) from error
