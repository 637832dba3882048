cdef class Stepper(Holder):
    """Gradients, checked as they come, and the native call that steps their parameters."""

    cdef Watched *bound_watched
    cdef Py_ssize_t bound_count
    cdef list bound_anchors
    cdef bint bound_in_place
    cdef Py_ssize_t copied  # the last one that had to be
    cdef size_t lines  # of the step as it was planned

    def __dealloc__(self):
        free(self.bound_watched)

    cdef int acquire_to_step(self) except -1:
        self.acquire()
        if self.depth > 1:
            self.release()
            raise RuntimeError("a step cannot begin in the middle of a call of its optimizer, in a signal handler say")
        return 0

    def step(self, grads=_ABSENT):
        """Advance the state and move every parameter, in place.

        Parameters
        ----------
        grads : nesting of numpy.ndarray or None
            In the nesting of the params, each gradient of the shape and dtype of its parameter; lists and tuples may
            stand for each other, and a subclass of dict is asked for its items, as it is in the params.  Read only.
            A gradient that is not laid out in memory as its parameter is copied first.  None leaves an array, its
            state and its count alone.  May be left out after `bind`.

        Raises
        ------
        TypeError
            A gradient is not an array or has another dtype; the nesting is another; nothing is given or bound.
        ValueError
            A gradient has another shape, or shares memory with a parameter or state and need not be copied; all of
            them are None; a parameter or state has been made read-only, or been given another dtype, layout or
            memory in place.  In both cases nothing has been written.
        """
        self.acquire_to_step()
        try:
            if grads is _ABSENT:
                self.show_bound()
            else:
                self.bound_in_place = False
                self.collect(self.nest, grads, ())
            self.plan()
            self.run()
        finally:
            self.let_go()
            self.release()

    def step_one(self, key, grad):
        """Update one array as soon as its gradient exists, while both are still in cache.

        Parameters
        ----------
        key
            Where the array is in the params: an index or a dict key, or for deeper nestings the tuple of them.
        grad : numpy.ndarray
            As for `step`.

        Raises
        ------
        KeyError
            There is no array at `key`, or two: where ``("a", "b")`` is a key, and the keys ``"a"`` and ``"b"`` lead to
            another array.
        TypeError, ValueError
            As for `step`.  Nothing has been written.
        """
        cdef int status
        cdef Py_ssize_t k
        k = self.place(key)
        self.acquire_to_step()
        try:
            self.bound_in_place = False
            grad = self.checked("grad", k, _array("grad", self.paths[k], grad))
            self.planned = False  # for a step of all of them
            self.arrays[k].grad = cnp.PyArray_DATA(<cnp.ndarray>grad)
            with nogil:
                status = instep_step_one(&self.optimizer, self.arrays, self.count, k)
        finally:
            self.release()
        if status != INSTEP_OK:
            raise ValueError(instep_message(status).decode())

    @cython.final
    cdef Py_ssize_t place(self, object key) except -1:
        """The number of the array at this key."""
        cdef Py_ssize_t k
        cdef list keys = []
        if key in self.places:
            k = self.places[key]
            if k != AMBIGUOUS:
                return k
            raise KeyError(
                f"{key!r} is both {_spell('params', tuple(key))} and {_spell('params', (key,))}: "
                f"rename one of the keys; {(key,)!r} is the latter alone"
            )
        for path in self.paths:
            keys.append(path[0] if len(path) == 1 and self.places[path[0]] != AMBIGUOUS else path)
        raise KeyError(f"params has no array at {key!r}; there are {some(keys)}")

    def bind(self, grads):
        """Remember gradient arrays that the trainer fills anew before every step, so that `step()` needs none.

        Parameters
        ----------
        grads : nesting of numpy.ndarray or None
            As for `step`, and laid out in memory as their parameters, for no copy is made.  They are checked here,
            and kept alive.  While they are bound NumPy does not resize them in place; one that was given another
            dtype, layout or memory in place is checked anew by the next step.  ``bind(None)`` forgets them.

        Raises
        ------
        TypeError, ValueError
            As for `step`; also for a gradient of another memory layout.  What was bound before stays bound.
        """
        cdef Py_ssize_t k
        cdef list bound = []
        self.acquire_to_step()
        try:
            self.bound_in_place = False
            if grads is None:
                self.bound = self.bound_anchors = None
                return
            self.copied = -1
            self.collect(self.nest, grads, ())
            self.plan()
            if self.copied >= 0:
                self.refuse_copied(self.copied)
            for k in range(self.count):
                bound.append(None if self.held[k] is NULL else <object>self.held[k])
            self.watch_bound(bound)
            self.let_go()
            self.bound_in_place = True
        finally:
            self.let_go()
            self.release()

    @cython.final
    cdef int watch_bound(self, list bound) except -1:
        """Keep these gradients, which have been shown."""
        cdef list anchors = []
        cdef Py_ssize_t k, count = 0
        cdef Watched *watched = <Watched *>calloc(self.count, sizeof(Watched))
        if watched is NULL:
            raise MemoryError
        try:
            for k in range(self.count):
                if bound[k] is not None:
                    watched[count] = self.watch(k, bound[k], self.arrays[k].grad, 0, anchors)
                    count += 1
            watched, self.bound_watched = self.bound_watched, watched
            self.bound_count = count
            self.bound, self.bound_anchors = bound, anchors
        finally:
            free(watched)
        return 0

    @cython.final
    cdef int show_bound(self) except -1:
        cdef Py_ssize_t k
        if self.bound is None:
            raise TypeError("step() without gradients needs bind(grads) first")
        if self.bound_in_place and not (
            _differences(self.bound_watched, self.bound_count)
            or _differences(self.watched, self.count * self.each)
        ):
            return 0
        self.bound_in_place = False
        for k in range(self.count):
            grad = self.bound[k]
            if grad is None:
                self.show(k, NULL)
                continue
            array = self.checked("grads", k, grad)
            if array is not grad:
                self.refuse_copied(k)
            self.show(k, cnp.PyArray_DATA(<cnp.ndarray>array))
        self.watch_bound(self.bound)
        self.bound_in_place = True
        return 0

    @cython.final
    cdef int refuse_copied(self, Py_ssize_t k) except -1:
        raise ValueError(
            f"{_spell('grads', self.paths[k])} is not laid out in memory as its parameter: it would be copied once, "
            "when it is bound, and not at each step; bind a contiguous array"
        )

    @cython.final
    cdef inline void show(self, Py_ssize_t k, const void *grad) noexcept:
        if (self.arrays[k].grad is NULL) != (grad is NULL):
            self.planned = False
        self.arrays[k].grad = grad

    @cython.final
    cdef void run(self) noexcept:
        """A short step keeps the GIL: to give it away and get it back may take longer, above all among many threads."""
        if self.lines < LINES_WITH_GIL:
            instep_run(&self.optimizer, self.arrays, self.count, self.lines, self.optimizer.step_count + 1)
        else:
            with nogil:
                instep_run(&self.optimizer, self.arrays, self.count, self.lines, self.optimizer.step_count + 1)

    @cython.final
    cdef int plan(self) except -1:
        """Check what a step meets beside gradients, if it is not what the last step met."""
        cdef Py_ssize_t k = 0
        cdef int status
        if self.planned and self.optimizer.step_count < INT64_MAX:
            return 0
        while k < self.count and self.arrays[k].grad is NULL:
            k += 1
        if k == self.count:
            raise ValueError("every gradient is None: there is nothing to step")
        status = instep_plan(&self.optimizer, self.arrays, self.count, &self.lines)
        if status != INSTEP_OK:
            raise ValueError(instep_message(status).decode())
        self.planned = True
        return 0

    @cython.final
    cdef int collect(self, Nest nest, object grads, tuple path) except -1:
        cdef Py_ssize_t k
        cdef list items
        if nest.kind == LEAF:
            return self.set_grad(nest.leaf, grads)
        if nest.kind == MAPPING:
            if not isinstance(grads, dict):
                raise TypeError(f"{_spell('grads', path)} must be a dict like the params, not {_type_name(grads)}")
            if len(grads) != len(nest.keys):
                raise _other_keys(path, grads, nest.keys)
            for k in range(len(nest.keys)):
                child = _item(grads, nest.keys[k])
                if child is _ABSENT:
                    raise _other_keys(path, grads, nest.keys)
                self.collect_child(nest, k, child, path)
            return 0
        if not isinstance(grads, (list, tuple)):
            raise TypeError(f"{_spell('grads', path)} must be a list or tuple like the params, not {_type_name(grads)}")
        items = list(grads)  # it may change while its items are looked at
        if len(items) != len(nest.keys):
            raise ValueError(f"{_spell('grads', path)} has {len(items)} items, expected {len(nest.keys)}")
        if nest.is_flat:
            for k in range(len(items)):
                self.set_grad(nest.leaf + k, items[k])
        else:
            for k in range(len(items)):
                self.collect_child(nest, k, items[k], path)
        return 0

    @cython.final
    cdef int collect_child(self, Nest nest, Py_ssize_t k, object grads, tuple path) except -1:
        cdef Nest child = <Nest>nest.children[k]
        if child.kind == LEAF:
            return self.set_grad(child.leaf, grads)
        return self.collect(child, grads, path + (nest.keys[k],))

    @cython.final
    cdef inline int set_grad(self, Py_ssize_t k, object grad) except -1:
        if grad is None:
            self.show(k, NULL)
            return 0
        array = self.checked("grads", k, grad)
        self.show(k, cnp.PyArray_DATA(<cnp.ndarray>array))
        Py_INCREF(array)
        Py_XDECREF(self.held[k])
        self.held[k] = <PyObject *>array
        return 0

    @cython.final
    cdef inline cnp.ndarray checked(self, str root, Py_ssize_t k, object grad):
        """The gradient of the k-th array, or a copy in the layout of its parameter."""
        cdef cnp.ndarray param = <cnp.ndarray>self.leaves[k]
        cdef cnp.ndarray array
        self.check_written(k)
        if (
            PyArray_CheckExact(grad)
            and cnp.PyArray_TYPE(<cnp.ndarray>grad) == cnp.PyArray_TYPE(param)
            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>grad)
            and _same_shape(<cnp.ndarray>grad, param)
            and _same_layout(<cnp.ndarray>grad, param)
        ):
            array = <cnp.ndarray>grad
        else:
            array = _grad_in_layout(root, self.paths[k], grad, param)
            if array is not grad:
                self.copied = k
        if _start(array) != self.known_grad[k]:
            if _overlapped(array, self.written_start, self.written_end, self.written_count):
                raise ValueError(f"{_spell(root, self.paths[k])} overlaps a parameter or state in memory")
            self.known_grad[k] = _start(array)
        return array

    @cython.final
    cdef void let_go(self) noexcept:
        cdef Py_ssize_t k
        cdef PyObject *array
        if self.bound_in_place:
            return
        for k in range(self.count):
            array = self.held[k]
            self.held[k] = NULL
            Py_XDECREF(array)


cdef inline object _item(object grads, object key):
    """What the dict has at the key, or `_ABSENT`; that of a subclass as it gives it to everyone."""
    if type(grads) is dict:
        return (<dict>grads).get(key, _ABSENT)
    return grads[key] if key in grads else _ABSENT


cdef object _other_keys(tuple path, object grads, tuple keys):
    cdef list found = []
    cdef list missing = []
    cdef list unknown = []
    cdef set expected = set(keys)
    for key in keys:
        if key not in grads:
            missing.append(key)
    for key in grads:
        if key not in expected:
            unknown.append(key)
    if missing:
        found.append(f"missing {some(missing)}")
    if unknown:
        found.append(f"unknown {some(unknown)}")
    if not found:
        return ValueError(f"{_spell('grads', path)} changed while it was looked at")
    return ValueError(f"{_spell('grads', path)} has other keys than the params: {'; '.join(found)}")


cdef inline bint _overlapped(cnp.ndarray array, const uintptr_t *start, const uintptr_t *end, Py_ssize_t count):
    """Does the array share memory with one of these intervals, which are sorted and apart from each other?"""
    cdef Py_ssize_t low = 0, high = count, middle
    while low < high:
        middle = (low + high) >> 1
        if end[middle] <= _start(array):
            low = middle + 1
        else:
            high = middle
    return low < count and start[low] < _end(array)
