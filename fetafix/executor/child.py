"""A process that works off tasks: `python -m fetafix.executor.child SOCKET`, SOCKET an inherited descriptor.

Receives `Call`s, answers ("result", value) or ("error", name, message, traceback). Ctrl-C is its parent's affair. When
the parent closes the connection or dies, it leaves the task, cleans up what that had open, and ends.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
import traceback
from typing import Any

from fetafix.channel import Channel

_CLEANUP_SECONDS = 5.0


def serve(channel: Channel) -> None:
    """Answer calls, one after the other, until the connection ends."""
    while True:
        try:
            call = channel.receive()
        except EOFError:
            return
        except Exception as error:  # a function or an argument that this process cannot import or read
            answer: tuple[Any, ...] = _failure(error)
        else:
            answer = _answer(call)
        try:
            channel.send(answer)
        except OSError:
            return
        except Exception as error:  # a result that cannot be pickled
            channel.send(_failure(error))


def _answer(call: Any) -> tuple[Any, ...]:
    try:
        if not os.path.isdir(call.folder):
            raise FileNotFoundError(
                f"the caller's folder {call.folder} is not there on {socket.gethostname()}: processes on other "
                "machines need the same files under the same names, as on a shared file system")
        os.chdir(call.folder)
        return "result", call.function(call.argument)
    except Exception as error:
        return _failure(error)


def _failure(error: Exception) -> tuple[str, str, str, str]:
    return "error", type(error).__name__, str(error), "".join(traceback.format_exception(error))


def _watch(channel: Channel) -> None:
    """End this process when the other end of the connection is closed, in the middle of a task as well."""
    poll = select.poll()
    poll.register(channel.fileno(), 0)  # hang-up is reported without being asked for
    poll.poll()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_CLEANUP_SECONDS)
    os._exit(1)


def _terminate(number: int, frame: Any) -> None:
    raise SystemExit(1)


def main(descriptor: int, search: list[str]) -> None:
    """Serve a descriptor. search: more places to find modules in."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    sys.path += [p for p in search if p not in sys.path]
    channel = Channel(socket.socket(fileno=descriptor))
    threading.Thread(target=_watch, args=(channel,), daemon=True).start()
    serve(channel)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
