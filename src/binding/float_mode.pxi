@cython.final
cdef class FloatMode:
    """IEEE's default floating-point mode inside, in the thread that enters it; the caller's as it was outside."""

    cdef float_mode callers

    def __enter__(self):
        self.callers = float_mode_enter()

    def __exit__(self, *exception):
        float_mode_leave(self.callers)
