"""Parts as Ray actors."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from splitop._src.errors import SplitError
from splitop._src.parties.link import LostError, UnreachableError
from splitop._src.parties.messages import Reply, Settings, failed, place
from splitop._src.parties.once import RestartedError
from splitop._src.parties.party import Party

_FOREVER = -1


class PartActor:
    """A part's server in an actor.

    Ray makes a new one if the process dies. Nothing is built before `start` is called, so that
    whatever fails then is answered as the failure of a call.
    """

    def __init__(self, party: Party, settings: Settings):
        self._arguments = party, settings
        self._server: Any = None

    def call(self, method: str, returns: int, *args: Any) -> Any:
        """Calls a method of the server, which returns so many values."""
        if method == "place":
            return Reply(place())
        if self._server is None:
            try:
                if method != "start":
                    raise RestartedError("the process is a new one")
                self._server = self._make_server(*self._arguments)
            except Exception as error:
                return failed(error) if returns == 1 else (failed(error), *[None] * (returns - 1))
        return getattr(self._server, method)(*args)

    def _make_server(self, party: Party, settings: Settings) -> Any:
        # They need TensorFlow, which takes seconds to import; the trainer does not.
        if party.name == settings.first:
            from splitop._src.parties.first_server import FirstServer

            return FirstServer(party, settings)
        from splitop._src.parties.second_server import SecondServer

        return SecondServer(party, settings)


class RayLink:
    """Calls parts that are Ray actors: see `splitop._src.parties.link.Link`."""

    def __init__(
        self, parties: Sequence[Party], settings: Settings, actor: type[PartActor] = PartActor
    ):
        """Makes the actors, and does not wait for them.

        Args:
            parties: All parties.
            settings: Those of the training.
            actor: The class of the actors.

        Raises:
            ImportError: Ray is not installed.
            SplitError: This process has no connection to a Ray cluster.
        """
        self._ray = _import_ray()
        self._job: str | None = None
        self._check_connected()
        self._job = self._ray.get_runtime_context().get_job_id()
        remote = self._ray.remote(actor)
        self._actors = {
            party.name: remote.options(
                num_cpus=party.num_cpus,
                num_gpus=party.num_gpus,
                resources=dict(party.resources),
                max_restarts=_FOREVER,
                # A part answers a call that comes again as it has before: see `Once`.
                max_task_retries=1,
            ).remote(party, settings)
            for party in parties
        }

    def call(self, party: str, method: str, *args: Any, returns: int = 1) -> list[Any]:
        self._check_connected()
        found = self._actors[party].call.options(num_returns=returns).remote(method, returns, *args)
        return found if returns > 1 else [found]

    def get(self, value: Any, timeout: float) -> Any:
        try:
            return self._ray.get(value, timeout=timeout)
        except self._ray.exceptions.GetTimeoutError as error:
            raise TimeoutError(str(error)) from error
        except self._ray.exceptions.ActorUnavailableError as error:
            raise UnreachableError(str(error).strip()) from error
        except self._ray.exceptions.RayError as error:
            raise LostError(f"{type(error).__name__}: {str(error).strip()}") from error

    def close(self) -> None:
        actors, self._actors = self._actors, {}
        if self._ray.is_initialized():  # Or they have ended with the connection.
            for actor in actors.values():
                # Not there if the connection is another one.
                with contextlib.suppress(self._ray.exceptions.RayError):
                    self._ray.kill(actor)

    def _check_connected(self) -> None:
        connected = self._ray.is_initialized()
        if connected and self._job in (None, self._ray.get_runtime_context().get_job_id()):
            return
        raise SplitError(
            "a Trainer needs a Ray cluster: call ray.init() before, with the cluster's address if "
            "there is one, and ray.shutdown() after. Received: "
            f"{'another' if connected else 'no'} connection."
        )


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ImportError(
            'splitop.ray needs Ray: pip install "ray>=2.55". Received: no module ray.'
        ) from error
    return ray
