cdef object REAL = numbers.Real
cdef object BOOL = np.bool_


def rules():
    """The rules compiled in: their options with default values, by name."""
    cdef size_t rule = 0
    found = {}
    while instep_rule_name(rule) is not NULL:
        name = instep_rule_name(rule).decode()
        found[name] = Options(name).values()
        rule += 1
    return found


cpdef double real_number(str name, value) except? -1:
    """A float of a number, or of an array without dimensions, such as optax's schedules return."""
    return <double>value if type(value) is float else _other_number(name, value)


cdef double _other_number(str name, value) except? -1:
    seldom()
    if not isinstance(value, REAL) and getattr(value, "ndim", None) == 0:
        value = value.item()
    if isinstance(value, (bool, BOOL)) or not isinstance(value, REAL):
        raise TypeError(f"{name} must be a real number, not {_type_name(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{name} must be finite, and not larger than every float") from None


cpdef object whole_number(str name, value, least, most):
    """An int of a whole number, NumPy's too, within these bounds."""
    if type(value) is not int:
        try:
            if isinstance(value, (bool, np.bool_)):
                raise TypeError
            value = operator.index(value)
        except TypeError:
            raise TypeError(f"{name} must be an integer, not {value!r:.60}") from None
    if not least <= value <= most:
        raise ValueError(f"{name}={value} must be an integer from {least} to {most}")
    return value


cdef double _flag(str name, object value) except? -1:
    if value is False:
        return 0
    if value is True or isinstance(value, np.bool_):
        return 1 if value else 0
    raise TypeError(f"{name} must be True or False, not {value!r}")


cdef int _put(instep_optimizer *optimizer, Py_ssize_t place, str name, object value) except -1:
    """Set an option to a value of the right type, which is yet to be checked."""
    cdef int span = instep_option_range(optimizer, place)
    if span == INSTEP_FLAG:
        optimizer.option[place] = _flag(name, value)
    elif span == INSTEP_COUNT:
        optimizer.option[place] = <double>whole_number(name, value, 0, MOST_COUNTED)
    elif callable(value) and not isinstance(value, REAL):
        raise TypeError(
            f"{name} must be a real number, not {_type_name(value)}: call it before each step, as in "
            f"opt.{name} = schedule(opt.step_count)"
        )
    else:
        optimizer.option[place] = real_number(name, value)
    return 0


cdef object _shown(const instep_optimizer *optimizer, Py_ssize_t place):
    """An option's value as Python has it."""
    cdef double value = optimizer.option[place]
    cdef int span = instep_option_range(optimizer, place)
    if span == INSTEP_FLAG:
        return value != 0
    return int(value) if span == INSTEP_COUNT and isfinite(value) else value


cdef str _type_name(object value):
    return f"a value of type {type(value).__name__}"


# In the order of instep_range.
cdef tuple _RANGES = ("any number", "any size", "positive", "decay", "fraction", "growth", "flag", "count")


@cython.final
cdef class Options:
    """A rule and its options: a value that is checked as it is made."""

    cdef instep_optimizer optimizer
    cdef readonly str rule

    def __cinit__(self, str rule, /):
        if "\0" in rule or instep_init(&self.optimizer, rule.encode(), INSTEP_ABI_VERSION) != INSTEP_OK:
            raise ValueError(f"there is no rule named {rule!r:.80}; there are {', '.join(rules())}")
        self.rule = rule

    cdef Py_ssize_t place(self, str name) except -1:
        seldom()
        cdef size_t k = 0
        while instep_option_name(&self.optimizer, k) is not NULL:
            if instep_option_name(&self.optimizer, k).decode() == name:
                return k
            k += 1
        raise TypeError(f"{self.rule} has no option {name!r:.80}; it has {', '.join(self.values())}")

    cdef bint sets(self, str name) except -1:
        """Whether the option is not 0."""
        return self.optimizer.option[self.place(name)] != 0

    def values(self):
        """The options by name."""
        cdef size_t k = 0
        found = {}
        while instep_option_name(&self.optimizer, k) is not NULL:
            found[instep_option_name(&self.optimizer, k).decode()] = _shown(&self.optimizer, k)
            k += 1
        return found

    cdef list with_trait(self, int trait, bint wanted):
        cdef size_t k = 0
        found = []
        while instep_option_name(&self.optimizer, k) is not NULL:
            if ((instep_option_traits(&self.optimizer, k) & trait) != 0) == wanted:
                found.append(instep_option_name(&self.optimizer, k).decode())
            k += 1
        return found

    @property
    def of_formula(self):
        """The options that the function of one array takes too; the others are of what surrounds the formula."""
        return self.with_trait(INSTEP_IS_AROUND, False)

    def formula(self):
        """The options of the formula by name: what its twin and its function take."""
        seldom()
        values = self.values()
        return {name: values[name] for name in self.of_formula}

    @property
    def of_step(self):
        """The options that are of the step as a whole, and so the same in all groups."""
        return self.with_trait(INSTEP_IS_OF_STEP, True)

    def replace(self, dict changes, tuple dtypes, /):
        """A copy with these options changed, checked for arrays of these dtypes."""
        seldom()
        cdef Options changed = Options(self.rule)
        changed.optimizer = self.optimizer
        for name, value in changes.items():
            _put(&changed.optimizer, self.place(name), name, value)
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

    @property
    def ranges(self):
        """What each option may be, by name."""
        cdef size_t k = 0
        found = {}
        while instep_option_name(&self.optimizer, k) is not NULL:
            found[instep_option_name(&self.optimizer, k).decode()] = _RANGES[
                instep_option_range(&self.optimizer, k)
            ]
            k += 1
        return found

    @property
    def never_negative(self):
        """Which of the state arrays no step leaves a negative number in."""
        return frozenset([
            instep_state_name(&self.optimizer, k).decode()
            for k in range(instep_state_count(&self.optimizer))
            if instep_state_range(&self.optimizer, k) != INSTEP_ANY_NUMBER
        ])


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
    value = _shown(optimizer, k)
    dtype_name = "float32" if dtype == INSTEP_FLOAT32 else "float64"
    message = instep_message(status).decode().replace("the arrays' type", dtype_name)
    raise ValueError(f"{name.decode()}={value!r} {message}")


cdef int _dtype_number(object dtype) except -1:
    if dtype == np.float32:
        return INSTEP_FLOAT32
    if dtype == np.float64:
        return INSTEP_FLOAT64
    raise TypeError(f"dtype must be float32 or float64, not {dtype}")
