def rules():
    """The rules compiled in: their options with default values, by name."""
    cdef size_t rule = 0
    found = {}
    while instep_rule_name(rule) is not NULL:
        name = instep_rule_name(rule).decode()
        found[name] = Options(name).values()
        rule += 1
    return found


cdef double _number(str name, object value) except? -1:
    if type(value) is float:
        return <double>value
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, not {_type_name(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name}={value!r} must be finite") from None


cdef double _flag(str name, object value) except? -1:
    if value is False:
        return 0
    if value is True or isinstance(value, np.bool_):
        return 1 if value else 0
    raise TypeError(f"{name} must be True or False, not {value!r}")


cdef str _type_name(object value):
    return f"a value of type {type(value).__name__}"


@cython.final
cdef class Options:
    """A rule and its options: a value that is checked as it is made."""

    cdef instep_optimizer optimizer
    cdef readonly str rule

    def __cinit__(self, str rule):
        if "\0" in rule or instep_init(&self.optimizer, rule.encode(), INSTEP_ABI_VERSION) != INSTEP_OK:
            raise ValueError(f"there is no rule named {rule!r}; there are {', '.join(rules())}")
        self.rule = rule

    cdef Py_ssize_t place(self, str name) except -1:
        cdef size_t k = 0
        while instep_option_name(&self.optimizer, k) is not NULL:
            if instep_option_name(&self.optimizer, k).decode() == name:
                return k
            k += 1
        raise TypeError(f"{self.rule} has no option {name!r}; it has {', '.join(self.values())}")

    def values(self):
        """The options by name."""
        cdef size_t k = 0
        found = {}
        while instep_option_name(&self.optimizer, k) is not NULL:
            value = self.optimizer.option[k]
            found[instep_option_name(&self.optimizer, k).decode()] = (
                value != 0 if instep_option_is_flag(&self.optimizer, k) else value
            )
            k += 1
        return found

    def replace(self, dict changes, tuple dtypes):
        """A copy with these options changed, checked for arrays of these dtypes."""
        cdef Options changed = Options(self.rule)
        cdef Py_ssize_t k
        changed.optimizer = self.optimizer
        for name, value in changes.items():
            k = self.place(name)
            changed.optimizer.option[k] = (
                _flag(name, value) if instep_option_is_flag(&self.optimizer, k) else _number(name, value)
            )
        for dtype in dtypes:
            _check_options(&changed.optimizer, _dtype_number(np.dtype(dtype)))
        return changed

    @property
    def states(self):
        """What each state array starts at, by name."""
        return {
            instep_state_name(&self.optimizer, k).decode(): instep_state_start(&self.optimizer, k)
            for k in range(instep_state_count(&self.optimizer))
        }


cdef int _check_options(const instep_optimizer *optimizer, int dtype) except -1:
    cdef const char *name = NULL
    cdef int status = instep_check(optimizer, dtype, &name)
    cdef size_t k = 0
    if status == INSTEP_OK:
        return 0
    if name is NULL:
        raise ValueError(instep_message(status).decode())
    while instep_option_name(optimizer, k) != name:
        k += 1
    value = optimizer.option[k]
    if instep_option_is_flag(optimizer, k):
        value = value != 0
    raise ValueError(f"{name.decode()}={value!r} {instep_message(status).decode()}")


cdef int _dtype_number(object dtype) except -1:
    if dtype == np.float32:
        return INSTEP_FLOAT32
    if dtype == np.float64:
        return INSTEP_FLOAT64
    raise TypeError(f"dtype must be float32 or float64, not {dtype}")
