cdef class Locked:
    """What is used by one call at a time, but for a signal handler in the middle of a call of its own thread."""

    cdef instep_lock lock
    cdef unsigned long owner
    cdef int depth

    cdef void lock_now(self) noexcept:
        """Until as many calls of `release`: a signal handler may save what its own thread is about to step."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        if self.owner == thread and instep_lock_is_held(&self.lock):
            self.depth += 1
            return
        if not instep_lock_try(&self.lock):
            with nogil:
                instep_lock_wait(&self.lock)
        self.owner = thread
        self.depth = 1

    cdef void release(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            self.owner = 0
            instep_lock_release(&self.lock)
