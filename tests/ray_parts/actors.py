"""Ray actors that kill themselves."""

from __future__ import annotations

import json
import os
import pathlib
import signal
from typing import Any

from splitop._src.parties.ray_link import PartActor


class KillableActor(PartActor):
    """Does what the file beside its directory says: {"method": ..., "after": bool}."""

    def call(self, method: str, *args: Any) -> Any:
        order = pathlib.Path(self._arguments[0].directory).with_suffix(".kill")
        told = json.loads(order.read_text()) if order.exists() else {}
        if told.get("method") != method:
            return super().call(method, *args)
        order.unlink()
        if told["after"]:
            super().call(method, *args)
        os.kill(os.getpid(), signal.SIGKILL)
        return None
