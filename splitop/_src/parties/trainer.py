"""`splitop.ray.Trainer`: parts in processes of their own, trained step by step."""

from __future__ import annotations

import logging
import uuid
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from splitop._src.errors import AlignmentError, PartLostError, SplitError
from splitop._src.parties.compression import check_compression
from splitop._src.parties.keys import as_keys
from splitop._src.parties.link import Link
from splitop._src.parties.messages import Settings, Size
from splitop._src.parties.party import Party, check_parties
from splitop._src.parties.ray_link import RayLink
from splitop._src.parties.resume import step_to_resume
from splitop._src.parties.waiting import LostInPhase, Traffic, Waiting, Work
from splitop._src.seconds import check_seconds
from splitop._src.whole import check_whole

_LOG = logging.getLogger("splitop")


class Trainer:
    """Trains a first part with one second part or several, each of them a Ray actor.

        ray.init()
        with splitop.ray.Trainer(
            first=splitop.ray.Party("shop", "my_parts:head", "/data/shop"),
            seconds=[splitop.ray.Party("bank", "my_parts:encoder", "/data/bank")],
        ) as trainer:
            batches = splitop.ray.Batches(keys, 128, seed=1)
            losses = trainer.train(batches, until=10 * batches.per_epoch)

    Each part has its own model, optimizer, data and checkpoints, and is built where it runs, by its
    owner's code. IV goes to the first part and dL/dIV comes back, as arrays through Ray's object
    store; Ray sends those below 100 kB by way of the trainer's process. The trainer does not look
    at them. It knows the keys of the samples, the losses and what it asks for by `predict`.

    All parts are saved after every `save_every` steps, and after the last one. When a part's
    process dies, Ray starts a new one, all parts go back to the last step that all of them have
    saved, and the steps after it are made again. What a part had applied of them is undone by that:
    each step counts once. After an error, the next call of `train` begins in the same way.

    With staleness=0 a training gives what one process gives, bit for bit, and goes on from a save
    to the same bits. One replica a part. One trainer at a time for the same directories.
    """

    def __init__(
        self,
        first: Party,
        seconds: Sequence[Party],
        *,
        timeout: float = 60.0,
        start_timeout: float = 300.0,
        save_every: int = 100,
        keep: int = 3,
        staleness: int = 0,
        compression: str | None = None,
        restarts: int = 3,
        link: Callable[[Sequence[Party], Settings], Link] = RayLink,
    ):
        """Asks Ray for the actors; they are built in the first call of `train` or `predict`.

        Args:
            first: The party that holds the first part, and the labels.
            seconds: Those that hold the second parts, in the order in which the first part's model
                takes their ivs.
            timeout: For how many seconds to wait for any one answer of a part.
            start_timeout: For how many seconds to wait until a part's process is there and has
                built or restored its part.
            save_every: After how many steps all parts are saved.
            keep: How many checkpoints of each part stay; 2 at least.
            staleness: How many steps the weights that have computed an IV may be behind: the
                forward passes of so many more batches run while the first part works. A second
                part's gradient is then that of its current weights, of a seed from older ones, and
                its forward pass is computed twice. 0: none, as in one process.
            compression: Of IV and dL/dIV: None, "float16", "bfloat16", or "int8" with error
                feedback, which begins anew when training goes on from a save.
            restarts: How often parts may be lost in a row, without a step that is new.
            link: How parts are called; of the tests.

        Raises:
            ImportError: Ray is not installed.
            SplitError: An argument is of another kind, or ray.init has not been called.
        """
        parties = check_parties(first, seconds)
        save_every, keep, staleness, restarts = (
            check_whole(name, value, least)
            for name, value, least in (
                ("save_every", save_every, 1),
                ("keep", keep, 2),
                ("staleness", staleness, 0),
                ("restarts", restarts, 0),
            )
        )
        for name, seconds_given in (("timeout", timeout), ("start_timeout", start_timeout)):
            check_seconds(name, seconds_given)
        check_compression(compression)
        self._first, *self._seconds = (party.name for party in parties)
        settings = Settings(self._first, tuple(self._seconds), staleness, compression, keep)
        self._save_every, self._staleness, self._restarts = save_every, staleness, restarts
        self._link = link(parties, settings)
        self._waiting = Waiting(self._link, timeout, start_timeout)
        self._run: str | None = None
        self._is_closed = False
        self._step = 0
        self._saved: int | None = None  # The last step that all parts have saved.
        self._traffic = {name: Traffic() for name in self._seconds}

    @property
    def step(self) -> int:
        """How many steps have been made, as far as this trainer knows."""
        return self._step

    @property
    def traffic(self) -> Mapping[str, Traffic]:
        """For each second part, the bytes of IV and dL/dIV in the steps of this trainer."""
        return dict(self._traffic)

    def train(
        self,
        batches: Callable[[int], Any],
        until: int,
        on_step: Callable[[int, float], None] | None = None,
    ) -> dict[int, float]:
        """Trains until so many steps have been made in all, from the last save on.

        Args:
            batches: From the number of a batch, from 0, to the keys of its samples: the same ones
                whenever it is asked. A `splitop.ray.Batches`, for one.
            until: How many steps the training has then.
            on_step: Called with the step, from 1, and its loss; again if a step is made again.

        Returns:
            The losses of the steps that were made, by step.

        Raises:
            AlignmentError: A party does not have a sample of a batch.
            PartTimeoutError: A part has not answered in time.
            PartLostError: Parts have been lost more often than they may.
            PartError: A part has failed.
            CheckpointError: A part has lost checkpoints, or can't write any.
            SplitError: Any other error of splitop that a part has raised.
        """
        until = check_whole("until", until, 0)
        losses: dict[int, float] = {}
        furthest, lost = -1, 0
        while True:
            try:
                self._begin()
                furthest = max(furthest, self._step)
                while self._step < until:
                    end = min(until, (self._step // self._save_every + 1) * self._save_every)
                    self._train(batches, end, losses, on_step)
                return losses
            except LostInPhase as error:
                self._run = None
                lost = lost + 1 if self._step <= furthest else 1
                furthest = max(furthest, self._step)
                if lost > self._restarts:
                    raise PartLostError(
                        f'the part "{error.party}" must not be lost more than {self._restarts} '
                        f"times in a row: it was in the phase {error.phase} of step {error.step}. "
                        f"The log of its machine may say why. Received: {error.text}."
                    ) from error
                _LOG.warning(
                    "lost: %s. All parts go back to the last step that all have saved.", error
                )
            except BaseException:
                self._run = None
                raise

    def predict(self, keys: Any) -> Any:
        """What the first part's model gives for some samples, without training.

        Args:
            keys: Of the samples.

        Returns:
            The model's output, as arrays.

        Raises:
            PartLostError: A part has been lost. The next call begins from the last save.
            SplitError: As in `train`.
        """
        keys = as_keys(keys)
        try:
            self._begin()
            encoded = [
                (name, *self._link.call(name, "encode", self._run, keys, returns=2))
                for name in self._seconds
            ]
            ivs = [iv for _, _, iv in encoded]
            (reply,) = self._link.call(self._first, "predict", self._run, keys, *ivs)
            for name, answer, _ in encoded:
                self._waiting.value(answer, name, "predict", self._step)
            return self._waiting.value(reply, self._first, "predict", self._step)
        except AlignmentError:
            raise  # A sample is not there: the parts are as they were.
        except LostInPhase as error:
            self._run = None
            raise PartLostError(
                f'the part "{error.party}" must be there for a prediction: call again to go on '
                f"from the last save. Received: {error.text}."
            ) from error
        except BaseException:
            self._run = None
            raise

    def close(self) -> None:
        """Ends the parts' processes. What was not saved is lost."""
        self._run, self._is_closed = None, True
        self._link.close()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _begin(self) -> None:
        """Has all parts start, and go back to the last step that all have saved."""
        if self._is_closed:
            raise SplitError("a Trainer must not have been closed. Received: a call after close().")
        if self._run is not None:
            return
        # The first part may still wait for an old IV, of a second part that is silent.
        names = [*self._seconds, self._first]
        run = uuid.uuid4().hex
        started = self._waiting.start(names, self._step)
        steps = {name: each["steps"] for name, each in started.items()}
        step = step_to_resume(steps, self._saved)
        if ahead := [name for name, each in steps.items() if each and each[-1] > step]:
            _LOG.warning("going on from step %d; later saves only of %s", step, ", ".join(ahead))
        owners = {name: each["owner"] for name, each in started.items()}
        self._waiting.values("restore", names, step, run, step, owners)
        self._run, self._step, self._saved = run, step, step

    def _train(
        self,
        batches: Callable[[int], Any],
        end: int,
        losses: dict[int, float],
        on_step: Callable[[int, float], None] | None,
    ) -> None:
        """Trains up to a step and saves all parts.

        No forward pass of a later step has run then: what it moves is not in the save.
        """
        forwards: deque[Work] = deque()
        under_way: deque[Work] = deque()
        for step in range(self._step + 1, end + 1):
            while len(forwards) <= self._staleness and step + len(forwards) <= end:
                forwards.append(self._forward(step + len(forwards), batches))
            under_way.append(self._update(forwards.popleft()))
            while len(under_way) > (self._staleness if step < end else 0):
                work = under_way.popleft()
                losses[work.step] = self._finish(work)
                self._step = work.step
                if on_step is not None:
                    on_step(work.step, losses[work.step])
        names = [self._first, *self._seconds]
        self._waiting.values("save", names, end, self._run, end)
        self._saved = end

    def _forward(self, step: int, batches: Callable[[int], Any]) -> Work:
        work = Work(step, as_keys(batches(step - 1)))
        for name in self._seconds:
            reply, iv = self._link.call(name, "forward", self._run, step, work.keys, returns=2)
            work.forwards[name], work.ivs[name] = reply, iv
        return work

    def _update(self, work: Work) -> Work:
        """Has the first part and then the second parts make their steps."""
        ivs = [work.ivs.pop(name) for name in self._seconds]
        work.first, *seeds = self._link.call(
            self._first, "step", self._run, work.step, work.keys, *ivs, returns=1 + len(ivs)
        )
        for name, seed in zip(self._seconds, seeds, strict=True):
            (work.updates[name],) = self._link.call(name, "update", self._run, work.step, seed)
        return work

    def _finish(self, work: Work) -> float:
        """Waits for all of a step; returns the loss."""
        wait = self._waiting.value
        ivs: dict[str, Size] = {
            name: wait(reply, name, "forward", work.step) for name, reply in work.forwards.items()
        }
        first = wait(work.first, self._first, "step", work.step)
        for name, reply in work.updates.items():
            wait(reply, name, "update", work.step)
        for (name, iv), seed in zip(ivs.items(), first["sizes"], strict=True):
            self._traffic[name] = self._traffic[name].plus(iv, seed)
        return float(first["loss"])
