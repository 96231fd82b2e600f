"""What ends an inspection."""

from __future__ import annotations

from splitop._src.verify.report import ERROR, Finding


class CannotRun(Exception):
    """Something is so wrong that there is nothing to compare.

    Attributes:
        finding: What.
    """

    ag_pass_through = True

    def __init__(self, pitfall: str, where: str, message: str, advice: str) -> None:
        super().__init__(message)
        self.finding = Finding(ERROR, pitfall, where, message, advice)
