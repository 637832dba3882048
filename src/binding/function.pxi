@cython.final
cdef class Function:
    """A rule as a function of arrays; names bind the caller's argument order to the rule's, once."""

    cdef instep_optimizer defaults
    cdef readonly tuple states
    cdef readonly tuple options
    cdef Py_ssize_t place[INSTEP_MAX_OPTIONS]
    cdef bint is_flag[INSTEP_MAX_OPTIONS]

    def __cinit__(self, str rule, tuple states, tuple options):
        cdef Options defaults = Options(rule)
        if set(options) != set(defaults.values()):
            raise TypeError(f"{rule} has the options {', '.join(defaults.values())}, not {', '.join(options)}")
        self.defaults = defaults.optimizer
        self.states = states
        self.options = options
        for k, name in enumerate(options):
            self.place[k] = defaults.place(name)
            self.is_flag[k] = instep_option_is_flag(&self.defaults, self.place[k])

    def step(self, param, grad, tuple states, step_count, tuple options):
        """Check everything, then step `param`.  `states` and `options` are in the order of the names."""
        cdef instep_optimizer optimizer = self.defaults
        cdef instep_array array
        cdef cnp.ndarray p, g, s
        cdef uintptr_t start[1 + INSTEP_MAX_STATES]
        cdef uintptr_t end[1 + INSTEP_MAX_STATES]
        cdef Py_ssize_t k, other, used = 0
        cdef const char *expected
        cdef int status

        for k in range(len(self.options)):
            optimizer.option[self.place[k]] = (
                _flag(self.options[k], options[k]) if self.is_flag[k] else _number(self.options[k], options[k])
            )
        p = _array("param", param)
        _check_written("param", p)
        array.dtype = _kernel_dtype(p)
        _check_options(&optimizer, array.dtype)
        if type(step_count) is not int or not 1 <= step_count <= LARGEST_COUNT:
            raise ValueError(f"step_count must be an integer of at least 1, not {step_count!r}")
        g = _grad_in_layout("grad", grad, p)

        start[0] = _start(p)
        end[0] = _end(p)
        for k in range(len(self.states)):
            expected = instep_state_name(&optimizer, used)
            if expected is NULL or strcmp(expected, PyUnicode_AsUTF8(self.states[k])) != 0:
                if states[k] is not None:
                    raise TypeError(f"{self.states[k]} is not used with these options; leave it None")
                continue
            if states[k] is None:
                raise TypeError(f"{self.states[k]} is needed with these options")
            s = _array(self.states[k], states[k])
            _check_state(self.states[k], s, p)
            array.state[used] = cnp.PyArray_DATA(s)
            used += 1
            start[used] = _start(s)
            end[used] = _end(s)
        for k in range(used + 1):
            if _start(g) < end[k] and start[k] < _end(g):
                raise ValueError(f"grad overlaps {_written_name(&optimizer, k)} in memory")
            for other in range(k):
                if start[k] < end[other] and start[other] < end[k]:
                    raise ValueError(
                        f"{_written_name(&optimizer, k)} overlaps {_written_name(&optimizer, other)} in memory"
                    )

        array.size = cnp.PyArray_SIZE(p)
        array.param = cnp.PyArray_DATA(p)
        array.grad = cnp.PyArray_DATA(g)
        array.step_count = <int64_t>step_count - 1
        with nogil:
            status = instep_step(&optimizer, &array, 1)
        if status != INSTEP_OK:
            raise ValueError(instep_message(status).decode())


cdef str _written_name(const instep_optimizer *optimizer, Py_ssize_t k):
    return instep_state_name(optimizer, k - 1).decode() if k else "param"
