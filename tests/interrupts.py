"""A signal whose handler raises, at each place in turn where Python runs handlers: bytecode by bytecode."""

import dis
from functools import cache
from itertools import pairwise

# Handlers run after one of these.
CHECKING = ("RESUME", "CALL", "CALL_FUNCTION_EX", "CALL_KW", "JUMP_BACKWARD")


@cache
def checked(code):
    """The offsets before which handlers run."""
    places = [place for place in dis.get_instructions(code) if place.opname not in ("CACHE", "PRECALL")]
    return {after.offset for before, after in pairwise(places) if before.opname in CHECKING}


def interrupt_at(k, *files, error=KeyboardInterrupt):
    """A trace function that raises `error` at the k-th of these places in code of these files, or in any."""
    seen = 0

    def trace(frame, event, argument):
        nonlocal seen
        if files and frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in checked(frame.f_code):
            seen += 1
            if seen > k:
                raise error
        return trace

    return trace
