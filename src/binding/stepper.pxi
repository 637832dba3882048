
cdef object _ABSENT = object()


cdef list _anchors(list arrays):
    """NumPy does not resize in place, which may move the memory away, what has a weak reference."""
    return [weakref.ref(array) for array in arrays if array is not None]


cdef class Stepper:
    """Parameters, states and options, checked when they are given, and the native call that steps them."""

    cdef Options options
    cdef instep_optimizer optimizer
    cdef Nest nest
    cdef list leaves
    cdef list paths
    cdef list anchors
    cdef tuple dtypes  # each once
    cdef dict places
    cdef dict states
    cdef instep_array *arrays
    cdef readonly Py_ssize_t count
    cdef instep_lock lock
    cdef unsigned long owner
    cdef int depth

    # What is written, sorted by address, for the overlap check of gradients.
    cdef uintptr_t *written_start
    cdef uintptr_t *written_end
    cdef Py_ssize_t written_count
    cdef uintptr_t *known_grad

    # The gradients: owned while a step is under way, or for good by bind.
    cdef PyObject **held
    cdef list bound
    cdef list bound_anchors
    cdef bint bound_in_place
    cdef Py_ssize_t copied  # the last one that had to be

    # The step as it was planned: good until options, counts or the choice of arrays change.
    cdef bint planned
    cdef size_t lines

    def __cinit__(self, *args, **kwargs):
        self.count = 0

    def __init__(self, Options options, params):
        cdef list leaves = []
        cdef list paths = []
        cdef Nest nest = Nest.of(params, leaves, paths)
        cdef Py_ssize_t k
        if self.arrays is not NULL:
            raise TypeError("an optimizer is made once; make another one")
        if not leaves:
            raise ValueError("params holds no array")
        for k, leaf in enumerate(leaves):
            what = _spell("params", paths[k])
            _check_written(what, _array(what, leaf))
        self.dtypes = tuple({leaf.dtype for leaf in leaves})
        options = options.replace({}, self.dtypes)

        self.arrays = <instep_array *>calloc(len(leaves), sizeof(instep_array))
        self.known_grad = <uintptr_t *>calloc(len(leaves), sizeof(uintptr_t))
        self.held = <PyObject **>calloc(len(leaves), sizeof(PyObject *))
        if self.arrays is NULL or self.known_grad is NULL or self.held is NULL:
            raise MemoryError
        self.nest = nest
        self.leaves = leaves
        self.paths = paths
        self.places = {path: k for k, path in enumerate(paths)}
        for k, path in enumerate(paths):
            if len(path) == 1:
                self.places.setdefault(path[0], k)
        self.count = len(leaves)
        for k in range(self.count):
            self.arrays[k].size = cnp.PyArray_SIZE(<cnp.ndarray>leaves[k])
            self.arrays[k].dtype = _kernel_dtype(<cnp.ndarray>leaves[k])
            self.arrays[k].param = cnp.PyArray_DATA(<cnp.ndarray>leaves[k])
        self.optimizer = options.optimizer
        self._adopt(options, self._make_states(options, options, {}))

    def __dealloc__(self):
        free(self.arrays)
        free(self.known_grad)
        free(self.held)
        free(self.written_start)
        free(self.written_end)

    # -- options and states

    cdef int acquire(self) except -1:
        if self.states is None:
            raise TypeError("the optimizer has not been made: __init__ did not run or raised an exception")
        self.lock_now()
        return 0

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

    cdef int acquire_to_step(self) except -1:
        self.acquire()
        if self.depth > 1:
            self.release()
            raise RuntimeError("a step cannot begin in the middle of a call of its optimizer, in a signal handler say")
        return 0

    cdef void use(self, Options options) noexcept:
        self.planned = False
        self.options = options
        memcpy(self.optimizer.option, options.optimizer.option, sizeof(self.optimizer.option))

    @property
    def _options(self):
        """The options as they are now."""
        self.acquire()
        options = self.options
        self.release()
        return options

    @property
    def _states(self):
        """The state arrays by name, flat, as they are now."""
        self.acquire()
        states = self.states
        self.release()
        return states

    def _get_option(self, str name):
        cdef Options options = self._options
        cdef Py_ssize_t k = options.place(name)
        value = options.optimizer.option[k]
        return value != 0 if instep_option_is_flag(&options.optimizer, k) else value

    def _set_options(self, dict changes):
        """Change options between steps, and with them the state that they need."""
        cdef Options before, options
        cdef dict states
        self.acquire()
        try:
            while True:
                before, states = self.options, self.states
                options = before.replace(changes, self.dtypes)
                if not self._keeps_states(options, before):
                    if self._adopt(options, self._make_states(options, before, states), since=before):
                        return
                elif self.options is before:
                    self.use(options)
                    return
                # A signal handler has assigned or loaded meanwhile: what was made is of before that.
        finally:
            self.release()

    def _keeps_states(self, Options options, Options before):
        """Whether the state arrays of the options before are right for these options as they are."""
        starts, old_starts = options.states, before.states
        return tuple(starts) == tuple(old_starts) and (self.optimizer.step_count != 0 or starts == old_starts)

    def _make_states(self, Options options, Options before, dict old):
        """State arrays for these options, by name: those of `old` go on, but for a start that has not been left."""
        old_starts = before.states
        return {
            name: old[name]
            if name in old and (self.optimizer.step_count != 0 or start == old_starts[name])
            else [np.full_like(param, start, subok=False) for param in self.leaves]
            for name, start in options.states.items()
        }

    def _snapshot(self):
        """Options, copies of the state arrays by name, step count and the count of each array: between two steps."""
        self.acquire()
        try:
            return (
                self.options,
                {name: [array.copy("K") for array in arrays] for name, arrays in self.states.items()},
                self.optimizer.step_count,
                [self.arrays[k].step_count for k in range(self.count)],
            )
        finally:
            self.release()

    def _adopt(self, Options options, dict states, step_count=None, counts=None, since=None):
        """Step with these options, state arrays and counts from now on, if all of them are right.

        Without counts, they go on as they are.  Nothing is done if `since` is given and no longer the options, which is
        False.
        """
        cdef Py_ssize_t k, s
        cdef int64_t total = 0
        cdef list names
        cdef list every = []
        cdef list anchors
        options = options.replace({}, self.dtypes)
        names = list(options.states)
        if counts is not None:
            if len(counts) != self.count:
                raise ValueError(f"there are {len(counts)} step counts for {self.count} arrays")
            for count in [step_count, *counts]:
                if type(count) is not int or not 0 <= count < LARGEST_COUNT:
                    raise ValueError(f"a step count must be an integer from 0 to {LARGEST_COUNT - 1}, not {count!r}")
            if max(counts) > step_count:
                raise ValueError(f"an array cannot have taken {max(counts)} of {step_count} steps")
            total = step_count
        if list(states) != names:
            raise ValueError(f"the state arrays must be {', '.join(names)}, not {', '.join(map(str, states))}")
        for name in names:
            if len(states[name]) != self.count:
                raise ValueError(f"state[{name!r}] has {len(states[name])} arrays for {self.count} parameters")
        for k in range(self.count):
            every.append((self.leaves[k], _spell("params", self.paths[k])))
            for name in names:
                what = _spell(f"state[{name!r}]", self.paths[k])
                array = _array(what, states[name][k])
                _check_state(what, array, self.leaves[k])
                every.append((array, what))
        written = sorted([(_start(array), _end(array), what) for array, what in every if array.size])
        for k in range(1, len(written)):
            if written[k][0] < written[k - 1][1]:
                raise ValueError(f"{written[k][2]} overlaps {written[k - 1][2]} in memory")

        anchors = _anchors([array for array, _ in every])
        cdef uintptr_t *start = <uintptr_t *>calloc(len(written) + 1, sizeof(uintptr_t))
        cdef uintptr_t *end = <uintptr_t *>calloc(len(written) + 1, sizeof(uintptr_t))
        if start is NULL or end is NULL:
            free(start)
            free(end)
            raise MemoryError
        for k in range(len(written)):
            start[k] = written[k][0]
            end[k] = written[k][1]

        if self.bound is not None:
            for k in range(self.count):
                if self.bound[k] is not None and _overlapped(self.bound[k], start, end, len(written)):
                    free(start)
                    free(end)
                    raise ValueError(
                        f"{_spell('grads', self.paths[k])}, which is bound, overlaps a parameter or state in memory"
                    )

        self.lock_now()
        if since is not None and self.options is not since:
            self.release()
            free(start)
            free(end)
            return False
        self.use(options)
        if counts is not None:
            self.optimizer.step_count = total
        self.states = states
        self.anchors = anchors
        for k in range(self.count):
            self.known_grad[k] = 0
            if counts is not None:
                self.arrays[k].step_count = counts[k]
            for s in range(INSTEP_MAX_STATES):
                self.arrays[k].state[s] = (
                    cnp.PyArray_DATA(<cnp.ndarray>(states[names[s]][k])) if s < len(names) else NULL
                )
        start, self.written_start = self.written_start, start
        end, self.written_end = self.written_end, end
        self.written_count = len(written)
        self.release()
        free(start)
        free(end)
        return True

    @property
    def step_count(self):
        """How many steps have been taken: a 64-bit integer.

        `step` adds one.  `step_one` makes it the count of the array stepped most often, so that a sweep over all
        arrays is one step.  Bias correction goes by each array's own count, which a gradient of None leaves alone.
        """
        return self.optimizer.step_count

    @property
    def params(self):
        """The parameter arrays, in their nesting."""
        self._states  # an optimizer that was not made has none
        return self.nest.build(self.leaves)

    @property
    def _paths(self):
        """Where each array is in the nesting of the params: tuples of indices and keys."""
        return self.paths

    @property
    def state(self):
        """The state arrays by name, each in the nesting of the params: the arrays themselves, not copies."""
        return {name: self.nest.build(arrays) for name, arrays in self._states.items()}

    # -- steps

    def step(self, grads=_ABSENT):
        """Advance the state and move every parameter, in place.

        Parameters
        ----------
        grads : nesting of numpy.ndarray or None
            In the nesting of the params, each gradient of the shape and dtype of its parameter; lists and tuples may
            stand for each other.  Read only.  A gradient that is not laid out in memory as its parameter is copied
            first.  None leaves an array, its state and its count alone.  May be left out after `bind`.

        Raises
        ------
        TypeError
            A gradient is not an array or has another dtype; the nesting is another; nothing is given or bound.
        ValueError
            A gradient has another shape, or shares memory with a parameter or state and need not be copied; all of
            them are None; a parameter is no longer what it was when the optimizer was made.

        Whatever is raised, nothing has been written.
        """
        self.acquire_to_step()
        try:
            if grads is _ABSENT:
                self.show_bound()
            else:
                self.bound_in_place = False
                self.collect(self.nest, grads, ())
            self.plan()
            with nogil:
                instep_run(&self.optimizer, self.arrays, self.count, self.lines, self.optimizer.step_count + 1)
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
            There is no array at `key`.
        TypeError, ValueError
            As for `step`.  Nothing has been written.
        """
        cdef int status
        cdef Py_ssize_t k
        if key not in self.places:
            raise KeyError(f"params has no array at {key!r}; there are {', '.join(map(repr, self.places))}")
        k = self.places[key]
        self.acquire_to_step()
        try:
            self.bound_in_place = False
            grad = self.checked("grad", k, _array(_spell("grad", self.paths[k]), grad))
            self.planned = False  # for a step of all of them
            self.arrays[k].grad = cnp.PyArray_DATA(<cnp.ndarray>grad)
            with nogil:
                status = instep_step_one(&self.optimizer, self.arrays, self.count, k)
        finally:
            self.release()
        if status != INSTEP_OK:
            raise ValueError(instep_message(status).decode())

    def bind(self, grads):
        """Remember gradient arrays that the trainer fills anew before every step, so that `step()` needs none.

        Parameters
        ----------
        grads : nesting of numpy.ndarray or None
            As for `step`, and laid out in memory as their parameters, for no copy is made.  They are checked here,
            once, and kept alive.  While they are bound NumPy does not resize them in place; do not give them another
            dtype in place either.  `bind(None)` forgets them.

        Raises
        ------
        TypeError, ValueError
            As for `step`; also for a gradient of another memory layout.  What was bound before stays bound.
        """
        cdef Py_ssize_t k
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
                raise ValueError(
                    f"{_spell('grads', self.paths[self.copied])} is not laid out in memory as its parameter: it would "
                    "be copied once, here, and not at each step; bind a contiguous array"
                )
            self.bound = [None if self.held[k] is NULL else <object>self.held[k] for k in range(self.count)]
            self.bound_anchors = _anchors(self.bound)
        finally:
            self.let_go()
            self.release()

    cdef int show_bound(self) except -1:
        cdef Py_ssize_t k
        if self.bound is None:
            raise TypeError("step() without gradients needs bind(grads) first")
        if not self.bound_in_place:
            for k in range(self.count):
                grad = self.bound[k]
                self.show(k, NULL if grad is None else cnp.PyArray_DATA(<cnp.ndarray>grad))
            self.bound_in_place = True
        for k in range(self.count):
            if not self.is_writeable(k) and self.arrays[k].grad is not NULL:
                self.check_param(k)
        return 0

    @cython.final
    cdef inline bint is_writeable(self, Py_ssize_t k) noexcept:
        return is_writeable(<PyArrayObject *>PyList_GET_ITEM(self.leaves, k))

    @cython.final
    cdef inline int check_param(self, Py_ssize_t k) except -1:
        """An array may have been frozen.  It cannot have been resized, for it has a weak reference."""
        if self.is_writeable(k):
            return 0
        raise ValueError(f"{_spell('params', self.paths[k])} has become read-only and cannot be updated in place")

    @cython.final
    cdef inline void show(self, Py_ssize_t k, const void *grad) noexcept:
        if (self.arrays[k].grad is NULL) != (grad is NULL):
            self.planned = False
        self.arrays[k].grad = grad

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
            if len(<dict>grads) != len(nest.keys):
                raise _other_keys(path, grads, nest.keys)
            for k in range(len(nest.keys)):
                child = (<dict>grads).get(nest.keys[k], _ABSENT)
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
        self.check_param(k)
        if (
            cnp.PyArray_DATA(param) != self.arrays[k].param
            or cnp.PyArray_TYPE(param) != _numpy_type(self.arrays[k].dtype)
            or not cnp.PyArray_ISNOTSWAPPED(param)
        ):
            raise ValueError(f"{_spell('params', self.paths[k])} is not what it was when the optimizer was made")
        if (
            PyArray_CheckExact(grad)
            and cnp.PyArray_TYPE(<cnp.ndarray>grad) == cnp.PyArray_TYPE(param)
            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>grad)
            and _same_shape(<cnp.ndarray>grad, param)
            and _same_layout(<cnp.ndarray>grad, param)
        ):
            array = <cnp.ndarray>grad
        else:
            array = _grad_in_layout(_spell(root, self.paths[k]), grad, param)
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


cdef object _other_keys(tuple path, object grads, tuple keys):
    missing = ", ".join([repr(key) for key in keys if key not in grads]) or "none"
    unknown = ", ".join([repr(key) for key in grads if key not in keys]) or "none"
    return ValueError(f"{_spell('grads', path)} has other keys than the params: missing {missing}; unknown {unknown}")


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
