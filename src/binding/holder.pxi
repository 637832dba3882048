@cython.final
cdef class Option:
    """An option as an attribute of the optimizers of a rule: what is assigned counts from the next step on."""

    cdef readonly str name
    cdef readonly object default
    cdef readonly bint is_structural
    cdef bint is_flag
    cdef Py_ssize_t place

    def __cinit__(self, str rule, str name, default):
        cdef Options options = Options(rule)
        self.name = name
        self.default = default
        self.place = options.place(name)
        self.is_flag = options.is_flag(self.place)
        self.is_structural = instep_option_is_structural(&options.optimizer, self.place)

    def __get__(self, optimizer, owner):
        if optimizer is None:
            return self
        cdef double value = (<Holder?>optimizer).made().optimizer.option[self.place]
        return value != 0 if self.is_flag else value

    def __set__(self, optimizer, value):
        (<Holder?>optimizer).assign(self, value)

    def __repr__(self):
        return f"<option {self.name}, by default {self.default!r}>"


cdef enum:
    AMBIGUOUS = -1


cdef class Holder(Locked):
    """Parameters, states, options and counts: checked when they are given, changed between two steps."""

    cdef instep_optimizer optimizer
    cdef str rule_name
    cdef unsigned long long changes  # of options or states, so far
    cdef Nest nest
    cdef list leaves
    cdef list paths
    cdef list anchors
    cdef tuple dtypes  # each once
    cdef int narrowest  # what is good for float32 is good for float64
    cdef dict places
    cdef dict states
    cdef instep_array *arrays
    cdef int *layouts  # the flag of the order in memory, in which an array is walked with its states and gradient
    cdef Py_ssize_t count

    # What is written: each parameter, followed by its states.
    cdef Watched *watched
    cdef Py_ssize_t each

    # The same, sorted by address, for the overlap check of gradients.
    cdef uintptr_t *written_start
    cdef uintptr_t *written_end
    cdef Py_ssize_t written_count

    # Gradients: known to be apart from that, owned while a step is under way, bound for good.
    cdef uintptr_t *known_grad
    cdef PyObject **held
    cdef list bound

    # The step as it was planned: good until states, counts or the choice of arrays change.
    cdef bint planned

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
            _check_written("params", paths[k], _array("params", paths[k], leaf))
        self.dtypes = tuple({leaf.dtype for leaf in leaves})
        self.narrowest = INSTEP_FLOAT32 if np.dtype(np.float32) in self.dtypes else INSTEP_FLOAT64
        options = options.replace({}, self.dtypes)

        self.arrays = <instep_array *>calloc(len(leaves), sizeof(instep_array))
        self.layouts = <int *>calloc(len(leaves), sizeof(int))
        self.known_grad = <uintptr_t *>calloc(len(leaves), sizeof(uintptr_t))
        self.held = <PyObject **>calloc(len(leaves), sizeof(PyObject *))
        if self.arrays is NULL or self.layouts is NULL or self.known_grad is NULL or self.held is NULL:
            raise MemoryError
        self.nest = nest
        self.leaves = leaves
        self.paths = paths
        self.places = {path: k for k, path in enumerate(paths)}
        for k, path in enumerate(paths):
            if len(path) == 1:
                self.places[path[0]] = AMBIGUOUS if path[0] in self.places else k
        self.count = len(leaves)
        for k in range(self.count):
            self.arrays[k].size = cnp.PyArray_SIZE(<cnp.ndarray>leaves[k])
            self.arrays[k].dtype = _kernel_dtype(<cnp.ndarray>leaves[k])
            self.arrays[k].param = cnp.PyArray_DATA(<cnp.ndarray>leaves[k])
            self.layouts[k] = (
                cnp.NPY_ARRAY_C_CONTIGUOUS
                if cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>leaves[k])
                else cnp.NPY_ARRAY_F_CONTIGUOUS
            )
        self.rule_name = options.rule
        self.optimizer = options.optimizer
        self._adopt(options, self._make_states(options, options, {}))

    def __dealloc__(self):
        free(self.arrays)
        free(self.layouts)
        free(self.known_grad)
        free(self.held)
        free(self.watched)
        free(self.written_start)
        free(self.written_end)

    # -- options

    cdef Holder made(self):
        if self.states is None:
            raise TypeError("the optimizer has not been made: __init__ did not run or raised an exception")
        return self

    cdef int acquire(self) except -1:
        self.made()
        self.lock_now()
        return 0

    @property
    def _options(self):
        """The options as they are now."""
        return Options.of(self.rule_name, &self.made().optimizer)

    def __setattr__(self, name, value):
        """Assign an option; a name that there is not is answered with the one that is meant."""
        try:
            PyObject_GenericSetAttr(self, name, value)
        except AttributeError:
            if hasattr(type(self), name):
                raise
            from instep.dialects import unknown_option

            raise AttributeError(unknown_option(type(self), name)) from None

    @cython.final
    cdef int assign(self, Option option, object value) except -1:
        cdef instep_optimizer changed
        if option.is_structural:
            self._set_options({option.name: value})
            return 0
        self.acquire()
        try:
            changed = self.optimizer
            _put(&changed, option.place, option.name, value)
            _check_options(&changed, self.narrowest)
            self.optimizer.option[option.place] = changed.option[option.place]
            self.changes += 1
        finally:
            self.release()
        return 0

    def _set_options(self, dict changes):
        """Change options between steps, and with them the state that they need."""
        cdef Options before, options
        cdef dict states
        cdef unsigned long long since
        self.acquire()
        try:
            while True:
                since, before, states = self.changes, self._options, self.states
                options = before.replace(changes, self.dtypes)
                if not self._keeps_states(options, before):
                    if self._adopt(options, self._make_states(options, before, states), since=since):
                        return
                elif self.changes == since:
                    self.use(options)
                    return
                # A signal handler has assigned or loaded meanwhile: what was made is of before that.
        finally:
            self.release()

    cdef void use(self, Options options) noexcept:
        self.planned = False
        self.changes += 1
        memcpy(self.optimizer.option, options.optimizer.option, sizeof(self.optimizer.option))

    # -- states

    @cython.final
    cdef Watched watch(self, Py_ssize_t k, cnp.ndarray array, const void *data, int flags, list anchors):
        """The k-th parameter or what goes with it, which must stay as it is while the anchors live."""
        cdef Watched watched
        expected = _DTYPES[self.arrays[k].dtype]
        dtype = (<object>array).dtype
        if dtype != expected:  # several objects may be the same dtype
            dtype = expected
        anchors.append(dtype)
        anchors.append(weakref.ref(array))  # with one, NumPy does not resize it, which may move it away
        watched.array = <PyArrayObject *>array
        watched.data = data
        watched.size = self.arrays[k].size
        watched.dtype = <void *>dtype
        watched.flags = self.layouts[k] | flags
        return watched

    @cython.final
    cdef inline int check_written(self, Py_ssize_t k) except -1:
        """The k-th parameter and its states are what they were, and none of them frozen."""
        cdef const Watched *watched = self.watched + k * self.each
        if _differences(watched, self.each):
            _check_watched("params", self.paths[k], watched, watched.flags)
            self.check_states(k, -1)
        return 0

    @cython.final
    cdef int check_states(self, Py_ssize_t k, int flags) except -1:
        cdef const Watched *watched = self.watched + k * self.each
        for name in self.states:
            watched += 1
            _check_watched(f"state[{name!r}]", self.paths[k], watched, watched.flags & flags)
        return 0

    @property
    def _states(self):
        """The state arrays by name, flat, as they are now."""
        return self.made().states

    def _keeps_states(self, Options options, Options before):
        """Whether the state arrays of the options before are right for these options as they are."""
        starts, old_starts = options.states, before.states
        return tuple(starts) == tuple(old_starts) and (self.optimizer.step_count != 0 or starts == old_starts)

    def _make_states(self, Options options, Options before, dict old):
        """State arrays for these options, by name: those of `old` go on, but for a start that has not been left."""
        cdef list arrays
        cdef dict states = {}
        old_starts = before.states
        for name, start in options.states.items():
            if name in old and (self.optimizer.step_count != 0 or start == old_starts[name]):
                states[name] = old[name]
                continue
            states[name] = arrays = []
            for param in self.leaves:
                arrays.append(np.full_like(param, start, subok=False))
        return states

    def _snapshot(self):
        """Options, copies of the state arrays by name, step count and the count of each array: between two steps."""
        cdef Py_ssize_t k
        cdef list copies
        cdef list counts = []
        cdef dict states = {}
        self.acquire()
        try:
            if _differences(self.watched, self.count * self.each):
                for k in range(self.count):
                    self.check_states(k, ~cnp.NPY_ARRAY_WRITEABLE)
            for name, arrays in self.states.items():
                states[name] = copies = []
                for array in arrays:
                    copies.append(array.copy("K"))
            for k in range(self.count):
                counts.append(self.arrays[k].step_count)
            return self._options, states, self.optimizer.step_count, counts
        finally:
            self.release()

    def _adopt(self, Options options, dict states, step_count=None, counts=None, since=None):
        """Step with these options, state arrays and counts from now on, if all of them are right.

        Without counts, they go on as they are.  Nothing is done, which is False, if `since` is given and no longer the
        number of changes.
        """
        cdef Py_ssize_t k, s, each
        cdef int64_t total = 0
        cdef list names
        cdef list every = []
        cdef list roots = []
        cdef list written = []
        cdef list anchors = []
        cdef Py_ssize_t one, other
        cdef Watched *watched
        cdef uintptr_t *start
        cdef uintptr_t *end
        options = options.replace({}, self.dtypes)
        names = list(options.states)
        if counts is not None:
            counts = list(counts)
            if len(counts) != self.count:
                raise ValueError(f"there are {len(counts)} step counts for {self.count} arrays")
            for count in [step_count, *counts]:
                if type(count) is not int or not 0 <= count <= LARGEST_COUNT:
                    raise ValueError(f"a step count must be an integer from 0 to {LARGEST_COUNT}, not {count!r}")
            if max(counts) > step_count:
                raise ValueError(f"an array cannot have taken {max(counts)} of {step_count} steps")
            total = step_count
        if list(states) != names:
            raise ValueError(f"the state arrays must be {', '.join(names)}, not {', '.join(map(str, states))}")
        states = dict(zip(names, map(list, states.values()), strict=True))
        for name in names:
            if len(states[name]) != self.count:
                raise ValueError(f"state[{name!r}] has {len(states[name])} arrays for {self.count} parameters")
        every.extend(self.leaves)
        roots.append("params")
        each = 1 + len(names)
        for name in names:
            root = f"state[{name!r}]"
            roots.append(root)
            for k in range(self.count):
                array = _array(root, self.paths[k], states[name][k])
                _check_state(root, self.paths[k], array, self.leaves[k])
                every.append(array)
        for k in range(len(every)):
            if every[k].size:
                written.append((_start(every[k]), _end(every[k]), k))
        written.sort()
        for k in range(1, len(written)):
            if written[k][0] < written[k - 1][1]:
                one, other = written[k][2], written[k - 1][2]
                raise ValueError(
                    f"{_spell(roots[one // self.count], self.paths[one % self.count])} overlaps "
                    f"{_spell(roots[other // self.count], self.paths[other % self.count])} in memory"
                )

        self.lock_now()  # for what is bound, and for what follows, whole or not at all
        watched = <Watched *>calloc(len(every), sizeof(Watched))
        start = <uintptr_t *>calloc(len(written) + 1, sizeof(uintptr_t))
        end = <uintptr_t *>calloc(len(written) + 1, sizeof(uintptr_t))
        try:
            if watched is NULL or start is NULL or end is NULL:
                raise MemoryError
            for k in range(len(written)):
                start[k] = written[k][0]
                end[k] = written[k][1]
            if self.bound is not None:
                for k in range(self.count):
                    if self.bound[k] is not None and _overlapped(self.bound[k], start, end, len(written)):
                        raise ValueError(
                            f"{_spell('grads', self.paths[k])}, which is bound, overlaps a parameter or state in memory"
                        )
            for k in range(self.count):
                watched[each * k] = self.watch(
                    k, self.leaves[k], self.arrays[k].param, cnp.NPY_ARRAY_WRITEABLE, anchors
                )
                for s in range(1, each):
                    array = every[s * self.count + k]
                    watched[each * k + s] = self.watch(
                        k, array, cnp.PyArray_DATA(<cnp.ndarray>array), cnp.NPY_ARRAY_WRITEABLE, anchors
                    )
            if since is not None and self.changes != since:
                return False
            self.use(options)
            if counts is not None:
                self.optimizer.step_count = total
                for k in range(self.count):
                    self.arrays[k].step_count = counts[k]
            states, self.states = self.states, states
            anchors, self.anchors = self.anchors, anchors
            for k in range(self.count):
                self.known_grad[k] = 0
                for s in range(INSTEP_MAX_STATES):
                    self.arrays[k].state[s] = <void *>watched[each * k + 1 + s].data if 1 + s < each else NULL
            watched, self.watched = self.watched, watched
            self.each = each
            start, self.written_start = self.written_start, start
            end, self.written_end = self.written_end, end
            self.written_count = len(written)
            return True
        finally:
            self.release()
            free(watched)
            free(start)
            free(end)

    @property
    def step_count(self):
        """How many steps have been taken, as a 64-bit integer.

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
    def _leaves(self):
        """The parameter arrays, flat."""
        return self.made().leaves

    @property
    def _paths(self):
        """Where each array is in the nesting of the params: tuples of indices and keys."""
        return self.paths

    @property
    def state(self):
        """The state arrays by name, each in the nesting of the params.  They are no copies."""
        return {name: self.nest.build(arrays) for name, arrays in self._states.items()}
