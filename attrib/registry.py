"""METHODS, METRICS and CONTROLS: names to classes; third parties join by entry point."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from attrib.errors import RegistryError, did_you_mean

T = TypeVar("T")


class Registry(Generic[T]):
    """Names to classes or factories; duplicates are refused, unknown names get suggestions.

    On first look-up the modules ``homes`` are imported, which register our own, and then the entries of installed
    packages under the entry-point group ``group``, so that importing attrib stays light. A package that fails to load,
    or brings a name that is taken, is left out with a warning.
    """

    def __init__(self, kind: str, group: str, *homes: str) -> None:
        self.kind = kind
        self.group = group
        self.homes = homes
        self._items: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str) -> Callable[[T], T]:
        """Decorator: register what follows under ``name`` and set its ``name`` attribute."""

        def decorate(item: T) -> T:
            if name in self._items:
                raise RegistryError(
                    f"{self.kind} name must be new; {name!r} is already {self._items[name]!r}. Choose another name."
                )
            self._items[name] = item
            item.name = name  # type: ignore[attr-defined]
            return item

        return decorate

    def remove(self, name: str) -> None:
        """Forget ``name``; for tests and interactive redefinition."""
        self[name]
        del self._items[name]

    def _load(self) -> None:
        if not self._loaded:
            for home in self.homes:
                import_module(home)
            self._loaded = True  # first, so that a plug-in may look names up while it loads
            for point in entry_points(group=self.group):
                self._join(point)

    def _join(self, point: EntryPoint) -> None:
        """Register what an installed package offers; one that is broken, or whose name is taken, is left out aloud."""
        package = f"package {point.dist.name!r}" if point.dist else f"entry point {point.value!r}"
        try:
            found: Any = point.load()
        except Exception as exc:  # whatever a package does when it is imported must not take the others along
            problem = f"could not be loaded ({type(exc).__name__}: {exc})"
        else:
            held: Any = self._items.setdefault(point.name, found)
            if held is found:
                held.name = point.name
                return
            problem = f"has a name that is taken, by {held!r}"
        warnings.warn(f"{self.kind} {point.name!r} of {package} {problem}; it is left out.", stacklevel=4)

    def __getitem__(self, name: str) -> T:
        self._load()
        if name not in self._items:
            raise RegistryError(
                f"no {self.kind} named {name!r}.{did_you_mean(name, self._items)} Known: {', '.join(self)}."
            )
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        self._load()
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(sorted(self._items))

    def __len__(self) -> int:
        self._load()
        return len(self._items)

    def __repr__(self) -> str:
        return f"<{self.kind} registry: {', '.join(self)}>"


METHODS: Registry[Any] = Registry("method", "attrib.methods", "attrib.methods", "attrib.interop.presets")
METRICS: Registry[Any] = Registry("metric", "attrib.metrics", "attrib.metrics")
CONTROLS: Registry[Any] = Registry("control", "attrib.controls", "attrib.benchmark.controls")
