"""Stockfish over UCI: found on the machine, started once per process, asked in parallel, started again if it dies."""

import asyncio
import atexit
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

try:
    import chess.engine
except ImportError as error:
    raise ImportError(
        "the chess tasks need the package chess (GPL-3): uv sync --extra chess, or pip install -e '.[chess]'"
    ) from error

from lmrl.tasks.chess.search import Answer, Question, Search

INSTALL = (
    "install it (`apt install stockfish` or `brew install stockfish`), "
    "or name its file by task.env.engine_path or STOCKFISH_PATH"
)
_FOLDERS = (Path("/usr/games"), Path("/usr/local/bin"), Path("/", "opt", "homebrew", "bin"))
"""Where packages put the engine although the search path may not lead there."""
PATIENCE = 60.0
"""Seconds after which an engine that has not answered counts as dead; its answers take less than one."""
KNOWN_ANSWERS = 100_000
"""How many answers are remembered at most."""


class EngineFailedError(RuntimeError):
    """The engine died twice over one question."""


def find_engine(path: str | None = None) -> str:
    """Return the engine's file: the named one, else `STOCKFISH_PATH`, else where packages put it.

    Raises:
        FileNotFoundError: there is none; the message says how to install it.
    """
    named = path or os.environ.get("STOCKFISH_PATH")
    if named:
        found = shutil.which(named)
        if found is None:
            raise FileNotFoundError(f"there is no chess engine at {named}: {INSTALL}")
        return found
    places = ("stockfish", *(str(folder / "stockfish") for folder in _FOLDERS))
    found = next(filter(None, map(shutil.which, places)), None)
    if found is None:
        raise FileNotFoundError(f"Stockfish is not on this machine: {INSTALL}")
    return found


class Engines:
    """Some engine processes that answer questions in parallel; they start when they are needed.

    Args:
        path: the engine's file.
        processes: how many engines there are at most.
        hash_megabytes: memory of each.
    """

    def __init__(self, path: str, *, processes: int, hash_megabytes: int) -> None:
        self._path, self._hash = path, hash_megabytes
        self._seats = [_Seat() for _ in range(processes)]
        self._known: dict[tuple[str, Search], Answer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._name = ""

    @property
    def name(self) -> str:
        """The engine's own name, with its version; it is started if it never was.

        Raises:
            EngineFailedError: it cannot be started.
        """
        if not self._name:
            self._answers([chess.STARTING_FEN], Search(depth=1))
        return self._name

    @property
    def pids(self) -> list[int]:
        """The processes that were started and not found dead so far."""
        return [seat.transport.get_pid() for seat in self._seats if seat.transport is not None]

    def ask(self, fens: Sequence[str], search: Search) -> list[Answer]:
        """Return an answer for each position, in order; in none of them may the game be over.

        Raises:
            EngineFailedError: the engine died while it searched, and again after a new start.
        """
        if not search.is_repeatable:
            return self._answers(fens, search)
        keys = [(fen.rsplit(" ", 1)[0], search) for fen in fens]  # the number of the move does not matter
        if len(self._known) > KNOWN_ANSWERS:
            self._known.clear()
        unknown = {key: fen for key, fen in zip(keys, fens, strict=True) if key not in self._known}
        self._known.update(zip(unknown, self._answers([*unknown.values()], search), strict=True))
        return [self._known[key] for key in keys]

    def new_game(self) -> None:
        """Clear the memory of searches that remember."""
        for seat in self._seats:
            seat.is_new_game = True

    def close(self) -> None:
        """End all processes and wait until they are gone; the next question starts new ones."""
        if self._loop is None or self._thread is None:
            return
        for seat in self._seats:
            asyncio.run_coroutine_threadsafe(seat.close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._loop = self._thread = None
        self._seats = [_Seat() for _ in self._seats]  # the old ones belong to the loop that has ended

    def _answers(self, fens: Sequence[str], search: Search) -> list[Answer]:
        """Ask the engines in the thread that talks to them, and wait."""
        if not fens:
            return []
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._loop.set_exception_handler(_report)
            # A daemon: the interpreter must not wait for it at its end, before `close` was called.
            self._thread = threading.Thread(target=self._loop.run_forever, name="chess engines", daemon=True)
            self._thread.start()
        asked = asyncio.run_coroutine_threadsafe(self._ask_all(fens, search), self._loop)
        try:
            return asked.result()
        except BaseException:
            asked.cancel()  # an interrupt from the keyboard must not leave the engines at work
            raise

    async def _ask_all(self, fens: Sequence[str], search: Search) -> list[Answer]:
        """Let each engine take the next question as soon as it is free."""
        answers: dict[int, Answer] = {}
        waiting = iter(enumerate(fens))

        async def serve(seat: "_Seat", questions: Iterator[tuple[int, str]]) -> None:
            async with seat.lock:
                for index, fen in questions:
                    answers[index] = await self._answer(seat, fen, search)

        await asyncio.gather(*(serve(seat, waiting) for seat in self._seats[: len(fens)]))
        return [answers[index] for index in range(len(fens))]

    async def _answer(self, seat: "_Seat", fen: str, search: Search) -> Answer:
        """Ask one engine; if it fails, start a new one and ask once more."""
        problems = []
        for _ in range(2):
            try:
                return await self._search(seat, fen, search)
            except (TimeoutError, chess.engine.EngineError, OSError) as error:
                problems.append(f"{type(error).__name__}: {error}")
                await seat.close()
        told = "; then ".join(problems)
        raise EngineFailedError(f"the chess engine {self._path} failed twice at {fen!r} ({told}); is it a UCI engine?")

    async def _search(self, seat: "_Seat", fen: str, search: Search) -> Answer:
        """Ask one engine, starting it first if it does not run, and watch that it lives and answers."""
        protocol = await asyncio.wait_for(seat.start(self._path, self._hash), PATIENCE)
        self._name = protocol.id.get("name", Path(self._path).name)
        patience = PATIENCE + (search.seconds or 0.0)
        clears, seat.is_new_game = seat.is_new_game or search.is_repeatable, False
        asking = protocol.communicate(lambda engine: Question(engine, fen, search, clears=clears))
        return await asyncio.wait_for(asking, patience)


class _Seat:
    """The place of one engine process, which may be empty."""

    def __init__(self) -> None:
        self.transport: asyncio.SubprocessTransport | None = None
        self.protocol: chess.engine.UciProtocol | None = None
        self.lock = asyncio.Lock()
        self.is_new_game = True

    async def start(self, path: str, hash_megabytes: int) -> chess.engine.UciProtocol:
        """Return the engine, started if the place is empty."""
        if self.protocol is None:
            self.transport, self.protocol = await chess.engine.popen_uci(path)
            await self.protocol.configure({"Threads": 1, "Hash": hash_megabytes})
        return self.protocol

    async def close(self) -> None:
        """End the process, gently if it listens, and wait until it is gone."""
        transport, protocol = self.transport, self.protocol
        self.transport = self.protocol = None
        if transport is None or protocol is None:
            return
        try:
            await asyncio.wait_for(protocol.quit(), 2.0)
        except (TimeoutError, chess.engine.EngineError, OSError):
            transport.close()  # kills it, if it still lives
            await asyncio.wait([protocol.returncode], timeout=2.0)
        finally:
            transport.close()


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report errors of the thread, but not an engine's death, which is handled."""
    if not isinstance(context.get("exception"), chess.engine.EngineError):
        loop.default_exception_handler(context)


_POOLS: dict[tuple[int, str, int, int, str], Engines] = {}
"""The engines of this process. The key has the process's id: a fork neither uses nor closes inherited ones."""


def shared_engines(path: str, *, processes: int, hash_megabytes: int, purpose: str = "") -> Engines:
    """Return this process's engines for a purpose, the same ones for all who ask; they end with the process."""
    key = (os.getpid(), path, processes, hash_megabytes, purpose)
    if key not in _POOLS:
        _POOLS[key] = Engines(path, processes=processes, hash_megabytes=hash_megabytes)
    return _POOLS[key]


@atexit.register
def close_engines() -> None:
    """End all engines that this process started."""
    for (process, *_), pool in _POOLS.items():
        if process == os.getpid():
            pool.close()
