cdef object LAST_STEP = LARGEST_COUNT + 1


@cython.final
cdef class Function:
    """A rule as a function of arrays, called as its NumPy twin is."""

    cdef object twin
    cdef instep_optimizer defaults
    cdef tuple names  # of the arguments: param, grad, the states, step_count, the options
    cdef dict places
    cdef list values  # of those that are not given
    cdef Py_ssize_t positional
    cdef Py_ssize_t states
    cdef Py_ssize_t option[INSTEP_MAX_OPTIONS]  # of each option, in the order of the rule

    def __cinit__(self, str rule, twin, /):
        seldom()
        cdef Options options = Options(rule)
        cdef Py_ssize_t k
        code, defaults = twin.__code__, twin.__kwdefaults__
        self.twin = twin
        self.names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        self.places = {name: k for k, name in enumerate(self.names)}
        self.positional = code.co_argcount
        self.states = self.places["step_count"] - 2
        if set(self.names[3 + self.states:]) != set(options.of_formula):
            raise TypeError(f"{rule} has the options {', '.join(options.of_formula)}, and its twin others")
        options = options.replace({name: defaults[name] for name in options.of_formula}, ())
        self.defaults = options.optimizer
        self.values = [_ABSENT, _ABSENT] + [None] * self.states + [1] + [_ABSENT] * (len(self.names) - 3 - self.states)
        for k in range(len(self.names) - 3 - self.states):
            self.option[k] = options.place(self.names[3 + self.states + k])

    def __call__(self, args, kwargs, /):
        """Check everything, then step the array that is the first argument."""
        cdef instep_optimizer optimizer
        cdef instep_array array
        cdef int status
        grad = self.prepare(self.bind(args, kwargs), &optimizer, &array)  # which keeps a copy alive
        if array.size < ELEMENTS_WITH_GIL:
            status = instep_step(&optimizer, &array, 1)
        else:
            with nogil:
                status = instep_step(&optimizer, &array, 1)
        if status != INSTEP_OK:
            raise ValueError(instep_message(status).decode())

    def arguments(self, args, kwargs, /):
        """What the twin is to be called with: the same arrays, Python's own numbers; checked as for a step."""
        seldom()
        cdef instep_optimizer optimizer
        cdef instep_array array
        cdef list values = self.bind(args, kwargs)
        cdef Py_ssize_t options = 3 + self.states
        self.prepare(values, &optimizer, &array)
        found = dict(zip(self.names[: options - 1], values))
        found[self.names[options - 1]] = array.step_count + 1
        for k in range(len(self.names) - options):
            value = optimizer.option[self.option[k]]
            is_flag = instep_option_range(&optimizer, self.option[k]) == INSTEP_FLAG
            found[self.names[options + k]] = value != 0 if is_flag else value
        return found

    cdef list bind(self, args, kwargs):
        """The arguments in the order of the names, with what stands for those that are not given."""
        cdef list values = list(self.values)
        cdef Py_ssize_t given = len(args)
        cdef bint fits = given <= self.positional
        if fits:
            values[:given] = args
            for name, value in kwargs.items():
                place = self.places.get(name, -1)
                if place < given:
                    fits = False
                    break
                values[place] = value
        if not fits or values[0] is _ABSENT or values[1] is _ABSENT:
            self.refuse(args, kwargs)
        return values

    cdef int refuse(self, tuple args, dict kwargs) except -1:
        """Say which of the arguments does not fit the signature."""
        seldom()
        import inspect

        from instep.dialects import unknown_argument

        for name in kwargs:
            if name not in self.places:
                raise TypeError(unknown_argument(self.twin.__name__, name, self.names))
        try:
            inspect.signature(self.twin).bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.twin.__name__}(): {error}") from None
        return 0

    cdef object prepare(self, list values, instep_optimizer *optimizer, instep_array *array):
        """Check everything and fill in what a step needs; the gradient, or the copy of it that has been made."""
        cdef cnp.ndarray p, g, s
        cdef uintptr_t start[1 + INSTEP_MAX_STATES]
        cdef uintptr_t end[1 + INSTEP_MAX_STATES]
        cdef Py_ssize_t k, other, used = 0
        cdef const char *expected

        memset(array, 0, sizeof(array[0]))
        optimizer[0] = self.defaults
        for k in range(3 + self.states, len(values)):
            if values[k] is not _ABSENT:
                _put(optimizer, self.option[k - 3 - self.states], self.names[k], values[k])
        p = _array("param", (), values[0])
        _check_numbers("param", (), p)
        array.dtype = _kernel_dtype(p)
        _check_options(optimizer, array.dtype)
        array.step_count = <int64_t>whole_number("step_count", values[2 + self.states], 1, LAST_STEP) - 1
        g = _array("grad", (), values[1])
        _check_partner("grad", (), g, p)
        g = _grad_in_layout("grad", (), g, p)

        start[0] = _start(p)
        end[0] = _end(p)
        for k in range(2, 2 + self.states):
            expected = instep_state_name(optimizer, used)
            if expected is NULL or strcmp(expected, PyUnicode_AsUTF8(self.names[k])) != 0:
                if values[k] is not None:
                    raise TypeError(f"{self.names[k]} is not used with these options; leave it None")
                continue
            if values[k] is None:
                raise TypeError(f"{self.names[k]} is needed with these options")
            s = _array(self.names[k], (), values[k])
            if not (_same_shape(s, p) and cnp.PyArray_TYPE(s) == cnp.PyArray_TYPE(p) and _same_layout(s, p)):
                _check_state(self.names[k], (), s, p, ((<object>p).dtype, (<object>p).shape))
            _check_written(self.names[k], (), s)
            array.state[used] = cnp.PyArray_DATA(s)
            used += 1
            start[used] = _start(s)
            end[used] = _end(s)
        for k in range(used + 1):
            if _start(g) < end[k] and start[k] < _end(g):
                raise ValueError(f"grad overlaps {_written_name(optimizer, k)} in memory")
            for other in range(k):
                if start[k] < end[other] and start[other] < end[k]:
                    raise ValueError(
                        f"{_written_name(optimizer, k)} overlaps {_written_name(optimizer, other)} in memory"
                    )

        array.size = cnp.PyArray_SIZE(p)
        array.param = cnp.PyArray_DATA(p)
        array.grad = cnp.PyArray_DATA(g)
        return g


cdef str _written_name(const instep_optimizer *optimizer, Py_ssize_t k):
    return instep_state_name(optimizer, k - 1).decode() if k else "param"
