# Which tensors share memory.  torch steps them one after the other; a step here takes them as if they were apart.

cdef struct Interval:
    uintptr_t start
    uintptr_t end
    Py_ssize_t owner
    bint is_written


cdef int by_start(const void *a, const void *b) noexcept nogil:
    cdef uintptr_t first = (<const Interval *>a).start, second = (<const Interval *>b).start
    return (first > second) - (first < second)


cdef class Intervals:
    """Intervals of memory and whose they are; one that is empty shares nothing."""

    cdef Interval *of
    cdef Py_ssize_t count
    cdef Py_ssize_t room

    def __dealloc__(self):
        PyMem_Free(self.of)

    cdef int clear(self, Py_ssize_t room) except -1:
        if room > self.room:
            PyMem_Free(self.of)
            self.room = 0
            self.of = <Interval *>PyMem_Calloc(room, sizeof(Interval))
            if self.of is NULL:
                raise MemoryError
            self.room = room
        self.count = 0
        return 0

    cdef inline void add(self, const void *start, size_t length, Py_ssize_t owner, bint is_written) noexcept:
        cdef Interval *one = &self.of[self.count]
        one.start = <uintptr_t>start
        one.end = one.start + length
        one.owner = owner
        one.is_written = is_written
        self.count += length != 0

    cdef bint sort(self) noexcept:
        """Sort them; whether they are apart from each other."""
        cdef Py_ssize_t k
        qsort(self.of, self.count, sizeof(Interval), by_start)
        for k in range(1, self.count):
            if self.of[k].start < self.of[k - 1].end:
                return False
        return True

    cdef inline bint meets(self, const void *start, size_t length) noexcept:
        """Does this memory share with one of them, which are sorted and apart?"""
        cdef Py_ssize_t low = 0, high = self.count, middle
        while low < high:
            middle = (low + high) >> 1
            if self.of[middle].end <= <uintptr_t>start:
                low = middle + 1
            else:
                high = middle
        return low < self.count and self.of[low].start < <uintptr_t>start + length

    cdef set owners_that_share(self):
        """Whose order matters: all in a stretch of shared memory, if one of them writes there."""
        cdef set found = set()
        cdef Py_ssize_t k, first = 0
        cdef uintptr_t end
        cdef bint is_written
        self.sort()
        while first < self.count:
            end, is_written, k = self.of[first].end, self.of[first].is_written, first + 1
            while k < self.count and self.of[k].start < end:
                end = max(end, self.of[k].end)
                is_written = is_written or self.of[k].is_written
                k += 1
            if is_written and k > first + 1:
                found.update([self.of[j].owner for j in range(first, k)])
            first = k
        return found
