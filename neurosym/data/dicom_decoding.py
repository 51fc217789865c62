"""Stored pixels of compressed DICOM films, decoded in a process of their own.

Decoders are compiled libraries, and one damaged film must not take an import of thousands with it: GDCM, which alone decodes
lossless JPEG, ends its process on some damaged streams, and CharLS all but hangs on truncated ones. The process is started at
the first such film and kept; it imports pydicom and numpy alone. Where it dies or takes longer than `LONGEST`, the film is an
error and the next one gets a new process.

    to it     the path, one a line, as JSON
    from it   one line of JSON, {"shape", "dtype"} or {"error"}, then the bytes of the array
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np

LONGEST = 60.0
"""Seconds that one film may take."""
# pyjpegls comes last: on a truncated stream it may take half a minute until it says so
_PREFERRED = ("pylibjpeg", "gdcm", "pillow", "pydicom", "pyjpegls")
_lock = threading.Lock()
_running: tuple[int, subprocess.Popen[bytes]] | None = None


class DecodingError(Exception):
    """A film's pixels cannot be decoded."""


def decode_apart(path: Path) -> np.ndarray:
    """What pydicom's `pixel_array` gives of a file, from the other process.

    Raises:
        DecodingError: the stream is damaged, or its decoder died of it or did not come to an end.
    """
    with _lock:
        process = _process()
        assert process.stdin is not None
        assert process.stdout is not None
        timer = threading.Timer(LONGEST, process.kill)
        timer.start()
        try:
            process.stdin.write(json.dumps(str(Path(path).resolve())).encode() + b"\n")
            process.stdin.flush()
            answer: dict[str, Any] = json.loads(process.stdout.readline())
            if "error" in answer:
                raise DecodingError(answer["error"])
            array = np.empty(answer["shape"], dtype=answer["dtype"])
            content = process.stdout.read(array.nbytes)
            if len(content) < array.nbytes:
                raise ValueError("cut")
        except DecodingError:
            raise
        except BaseException as error:
            # an answer that nobody has read would be taken for that of the next film
            code = _end(process)
            if isinstance(error, (OSError, ValueError)):
                raise DecodingError(f"the decoder died of it, exit code {code}") from error
            raise
        finally:
            timer.cancel()
    return np.frombuffer(content, dtype=array.dtype).reshape(array.shape)


def _end(process: subprocess.Popen[bytes]) -> int:
    """End the process; its exit code."""
    global _running
    _running = None
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(0.5)  # if it is about to die by itself, its own code says more
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            if pipe is not None:
                pipe.close()
    return process.wait()


def _process() -> subprocess.Popen[bytes]:
    """The process, a new one if there is none or it belongs to the process that this one was forked from."""
    global _running
    if _running is None or _running[0] != os.getpid() or _running[1].poll() is not None:
        # -P: modules of this folder must not be found in the place of the standard library's
        command = [sys.executable, "-P", __file__]
        pipe = subprocess.PIPE
        _running = os.getpid(), subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # noqa: S603
    return _running[1]


def _serve() -> None:
    """Decode each path of standard input."""
    import logging
    import warnings

    from pydicom.pixels.decoders.base import Decoder, get_decoder
    from pydicom.pixels.utils import pixel_array

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    # compiled libraries may print; only answers may reach the pipe
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)

    def decoded(path: str) -> np.ndarray:
        from pydicom.filereader import read_file_meta_info

        decoder: Decoder = get_decoder(read_file_meta_info(path).TransferSyntaxUID)
        plugin = next((p for p in _PREFERRED if p in decoder.available_plugins), "")
        return np.ascontiguousarray(pixel_array(path, decoding_plugin=plugin))

    for line in sys.stdin.buffer:
        try:
            array = decoded(json.loads(line))
            out.write(json.dumps({"shape": array.shape, "dtype": array.dtype.str}).encode() + b"\n")
            out.write(array.tobytes())
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # whatever a damaged stream causes; what Rust panics with is no Exception
            text = (str(error).strip().splitlines() or [""])[-1]
            out.write(json.dumps({"error": f"{type(error).__name__}: {text:.160}"}).encode() + b"\n")
        out.flush()


if __name__ == "__main__":
    _serve()
