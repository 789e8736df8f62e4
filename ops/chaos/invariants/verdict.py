"""What a check comes to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Verdict:
    """An invariant, how many things were held to it, and which of them broke it."""

    name: str
    claim: str
    checked: int = 0
    violations: list[str] = field(default_factory=list)

    def require(self, holds: bool, otherwise: str) -> None:
        """Hold one more thing to it."""
        self.checked += 1
        if not holds:
            self.violations.append(otherwise)
