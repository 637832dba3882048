cdef class Locked:
    """What is used by one call at a time, but for a signal handler in the middle of a call of its own thread.

    The lock is the interpreter's: a thread that waits sleeps, and a signal is answered meanwhile.  In the child of a
    fork it is free, whoever held it in the parent, unless that is who forked.
    """

    cdef PyThread_type_lock lock
    cdef unsigned generation  # of the process that the lock is of
    cdef unsigned long owner
    cdef int depth

    def __cinit__(self, *args, **kwargs):
        self.make_lock()

    def __dealloc__(self):
        if self.lock is not NULL:
            PyThread_free_lock(self.lock)

    cdef int make_lock(self) except -1:
        self.lock = PyThread_allocate_lock()
        if self.lock is NULL:
            raise MemoryError
        self.generation = instep_pool_generation()
        return 0

    cdef int lock_now(self) except -1:
        """Until as many calls of `release`: a signal handler may save what its own thread is about to step."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        while True:
            if self.generation != instep_pool_generation():
                self.make_lock()  # and leave the old one, which a thread that is not here may hold
                if self.owner == thread:
                    PyThread_acquire_lock(self.lock, NOWAIT_LOCK)
                else:
                    self.owner = 0
            if self.owner == thread:
                self.depth += 1
                return 0
            if PyThread_acquire_lock(self.lock, NOWAIT_LOCK) or self.wait():
                self.owner = thread
                self.depth = 1
                return 0

    cdef bint wait(self) except -1:
        """True with the lock, False after a signal."""
        cdef int status
        with nogil:
            status = PyThread_acquire_lock_timed(self.lock, -1, 1)
        if status == PY_LOCK_ACQUIRED:
            return True
        PyErr_CheckSignals()
        return False

    cdef void release(self) noexcept:
        self.depth -= 1
        if self.depth == 0:
            self.owner = 0
            PyThread_release_lock(self.lock)
