cdef class Locked:
    """What is used by one call at a time, but for a signal handler in the middle of a call of its own thread.

    The lock is the interpreter's: a thread that waits sleeps, and a signal is answered meanwhile.  In the child of a
    fork it is free, whoever held it in the parent, unless that is who forked.
    """

    cdef gate_pointer gate

    def __cinit__(self, *args, **kwargs):
        gate_replace(&self.gate, NULL, self.new_gate(0, 0))

    def __dealloc__(self):
        gate_free(gate_load(&self.gate))

    @cython.final
    cdef gate *new_gate(self, unsigned long owner, int depth) except NULL:
        cdef gate *made = gate_new(instep_pool_generation(), owner, depth)
        if made is NULL:
            raise MemoryError
        return made

    @cython.final
    cdef inline gate *own_gate(self) except NULL:
        """That of this process.  The parent's is left to itself, for a thread that is not here may hold it."""
        cdef gate *found = gate_load(&self.gate)
        cdef gate *made
        cdef unsigned long thread
        while found.generation != instep_pool_generation():
            thread = PyThread_get_thread_ident()
            if gate_owner(found) == thread and instep_pool_survived():
                made = self.new_gate(thread, found.depth)
            else:
                made = self.new_gate(0, 0)
            if not gate_replace(&self.gate, found, made):
                gate_free(made)
            found = gate_load(&self.gate)
        return found

    @cython.final
    cdef inline bint is_of_the_parent(self) noexcept:
        """Whether the process is a forked child, and nobody has held the lock in it."""
        return gate_load(&self.gate).generation != instep_pool_generation()

    @cython.final
    cdef inline int lock(self) except -1:
        """Until as many calls of `unlock`: a signal handler may save what its own thread is about to step."""
        cdef unsigned long thread = PyThread_get_thread_ident()
        cdef gate *found
        while True:
            found = self.own_gate()
            if gate_owner(found) == thread:
                found.depth += 1
                return 0
            if PyThread_acquire_lock(found.lock, NOWAIT_LOCK) or self.wait(found):
                gate_set_owner(found, thread)
                found.depth = 1
                return 0

    @cython.final
    cdef bint wait(self, gate *found) except -1:
        """True with the lock, False after a signal."""
        cdef int status
        with nogil:
            status = PyThread_acquire_lock_timed(found.lock, -1, 1)
        if status == PY_LOCK_ACQUIRED:
            return True
        PyErr_CheckSignals()
        return False

    @cython.final
    cdef inline void unlock(self) noexcept:
        cdef gate *held = gate_load(&self.gate)
        held.depth -= 1
        if held.depth == 0:
            gate_set_owner(held, 0)
            PyThread_release_lock(held.lock)

    @cython.final
    cdef inline bint is_nested(self) noexcept:
        """Whether the thread that holds the lock is in the middle of another call."""
        return gate_load(&self.gate).depth > 1
