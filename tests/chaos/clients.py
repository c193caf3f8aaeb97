"""Senders. Each writes down every answer, and has it on disk, before it goes on; after an error it repeats the same request by
the retry policy that the contract publishes."""

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import grpc
from journal import Journal
from messages import patient_id, start
from profiles import Job
from support.contract import directory, directory_service_pb2_grpc, notify, types
from world import World, patient

CLIENTS = 8
# The published policy: so long for a call, four tries, the first pause, the longest one; then the application tries anew.
_LIMIT, _TRIES, _PAUSE, _LONGEST = 10.0, 4, 0.2, 5.0
_AGAIN = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED)
# Nobody waits longer for an answer; the run then says that a client was refused.
_GIVE_UP = 180.0


class Clients:
    """All senders of a run. They send no more than was permitted."""

    def __init__(self, world: World, journal: Journal, jobs: list[Job], seed: int) -> None:
        self._world, self._journal = world, journal
        self._permits = threading.Semaphore(0)
        self._withheld = len(jobs)
        self.given = 0
        self._work: SimpleQueue[Job] = SimpleQueue()
        for job in jobs:
            self._work.put(job)
        self._twins = ThreadPoolExecutor(CLIENTS)
        self._threads = [
            threading.Thread(target=self._run, args=(number, random.Random(f"{seed} client {number}")), daemon=True)
            for number in range(CLIENTS)
        ]
        self.error: BaseException | None = None
        for thread in self._threads:
            thread.start()

    def permit(self, count: int) -> None:
        if count:
            self._withheld -= count
            self.given += count
            self._permits.release(count)

    def backlog(self) -> int:
        """How much was permitted and is not begun."""
        if self.error is not None:
            raise self.error
        return self._work.qsize() - self._withheld

    def drop_rest(self) -> None:
        """Nothing more will be permitted."""
        while self._withheld:
            self._work.get_nowait()
            self._withheld -= 1

    def join(self, limit: float) -> None:
        self._permits.release(CLIENTS)
        end = time.monotonic() + limit
        for thread in self._threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))
            assert not thread.is_alive(), f"a client did not end within {limit:g} s"
        self._twins.shutdown()
        if self.error is not None:
            raise self.error

    def _run(self, number: int, chance: random.Random) -> None:
        try:
            stubs = self._world.stubs()
            while True:
                self._permits.acquire()
                try:
                    job = self._work.get_nowait()
                except Empty:
                    return
                self._do(f"client-{number}", stubs, job, chance)
        except BaseException as error:  # noqa: BLE001 - shown by whoever joins.
            self.error = error

    def _do(self, name: str, stubs: list[Any], job: Job, chance: random.Random) -> None:
        request = self.request(job)
        # Chosen before any thread draws, so that one seed stays one plan.
        seeds = [chance.random() for _ in range(3)]
        twin = None
        if job.twin:
            twin = self._twins.submit(self.send, f"{name} twin", stubs, job, request, random.Random(seeds[0]), "twin")
        self.send(name, stubs, job, request, random.Random(seeds[1]), "first")
        if twin is not None:
            twin.result()
        if job.repeat:
            self.send(name, stubs, job, request, random.Random(seeds[2]), "repeat")
        if job.reuse:
            request.notification.appointment_confirmed.start_time.seconds = start(job.minute + 1)
            self.send(name, stubs, job, request, random.Random(seeds[2]), "reuse")

    def request(self, job: Job) -> Any:
        """A job as a request."""
        due = job.due or self._world.burst_time
        visit = notify.AppointmentDetails(start_time={"seconds": start(job.minute)}, provider_name="Dr. Ray")
        return notify.SendNotificationRequest(
            practice_id=self._world.practice.id,
            request_id=job.request_id,
            notification=notify.NotificationInput(
                patient_id=patient_id(job.patient),
                appointment_confirmed=visit,
                channels=[types.Channel.Value(f"CHANNEL_{channel}") for channel in job.channels],
                reference=job.request_id,
                **({"schedule_time": {"seconds": due}} if due else {}),
            ),
        )

    def send(self, name: str, stubs: list[Any], job: Job, request: Any, chance: random.Random, what: str) -> str:
        """Sends until somebody answers, and writes the answer down. The notification's id; empty when it was refused."""
        end = time.monotonic() + _GIVE_UP
        errors: list[str] = []
        entry = {"client": name, "what": what, "request_id": job.request_id, "patient": job.patient, "minute": job.minute}
        while True:
            began = time.monotonic()
            try:
                answer = chance.choice(stubs).SendNotification(request, timeout=_LIMIT, metadata=self._world.metadata)
            except grpc.RpcError as error:
                code = error.code()
                errors.append(code.name)
                if code not in _AGAIN or time.monotonic() > end:
                    self._journal.write(True, **entry, refused=code.name, detail=error.details(), errors=errors)
                    return ""
                pause = min(_LONGEST, _PAUSE * 2 ** ((len(errors) - 1) % _TRIES))
                # How long a client waits is part of the plan; nothing is synchronised by it.
                time.sleep(pause * chance.uniform(0.8, 1.2))
                continue
            self._journal.write(
                True,
                **entry,
                ok=answer.notification.notification_id,
                replayed=answer.replayed,
                deliveries={it.delivery_id: types.Channel.Name(it.channel)[8:] for it in answer.notification.deliveries},
                channels=job.channels,
                errors=errors,
                seconds=round(time.monotonic() - began, 4),
            )
            return str(answer.notification.notification_id)


def job(kind: str, number: int, to: int, minute: int, due: int = 0) -> Job:
    """A single text."""
    return Job(number, f"{kind}-{number}-{minute}", to, minute, ("SMS",), False, False, False, due)


class Directory:
    """Writes patients, on any replica, until it is done."""

    def __init__(self, world: World, seed: str) -> None:
        self._world, self._chance = world, random.Random(seed)
        self._stubs = [directory_service_pb2_grpc.DirectoryServiceStub(channel) for channel in world.channels()]

    def put(self, number: int, inactive: bool = False) -> None:
        while not self.try_put(self._chance.randrange(len(self._stubs)), number, inactive, 10):
            # The contract's back-off, shortened.
            time.sleep(self._chance.uniform(0.05, 0.3))

    def try_put(self, replica: int, number: int, inactive: bool, limit: float) -> bool:
        """Whether the server said that it is stored."""
        it = patient(number)
        it.inactive = inactive
        request = directory.BatchPutPatientsRequest(practice_id=self._world.practice.id, patients=[it])
        try:
            self._stubs[replica].BatchPutPatients(request, timeout=limit, metadata=self._world.metadata)
        except grpc.RpcError:
            return False
        return True
