# What a parameter group of torch's means as the options of a rule.

# What may change without another object standing in the group.
cdef object MUTABLE = object()
cdef tuple IMMUTABLE = (float, int, bool, type(None), str)


cdef inline bint is_immutable(object value):
    return type(value) in IMMUTABLE or (
        type(value) is tuple and all([type(item) in IMMUTABLE for item in <tuple>value])
    )


@cython.final
cdef class Language:
    """How the groups and states of a class of torch's are to be read.

    Parameters
    ----------
    rule : str
        The rule that its optimizers step by.
    options : dict
        All options of the rule, as they are where its groups do not say.
    names : dict
        The key of an option in its groups, or the key of a tuple and the place in it.
    fixed : dict
        What must stand under other keys of its groups.
    states : dict
        The key of a state array in its states, in its order.
    counter : type
        Of what stands under "step" in its states: ``torch.Tensor``, ``int``, or None where there is no such key.
    reads_tensors : bool
        Whether a tensor in a group means the number in it, and no more.
    """

    cdef instep_optimizer optimizer
    cdef list keys
    cdef list fixed  # by key; of one that is an option's, MUTABLE
    cdef dict states
    cdef Py_ssize_t option_key[INSTEP_MAX_OPTIONS]  # -1 where its groups do not say
    cdef Py_ssize_t item[INSTEP_MAX_OPTIONS]  # -1 where it is no tuple
    cdef Py_ssize_t needs[INSTEP_MAX_OPTIONS]  # an option without which it does nothing, or -1
    cdef bint starts_at[INSTEP_MAX_OPTIONS]  # it says what states start at, and torch reads its own default of it
    cdef Py_ssize_t options
    cdef object counter
    cdef bint reads_tensors

    cdef dict start(self, Group group, object param):
        """A state before the first step."""
        cdef dict state = {}
        cdef Py_ssize_t s
        if self.counter is int:
            state["step"] = 0
        elif self.counter is not None:
            dtype = torch.float64 if torch.get_default_dtype() is torch.float64 else torch.float32
            state["step"] = torch.zeros((), dtype=dtype, device="cpu")
        for key in self.states.values():
            if key in group.state_keys:
                s = group.state_keys.index(key)
                state[key] = torch.full_like(
                    param, instep_state_start(&group.optimizer, s), memory_format=torch.preserve_format
                )
        return state

    def __init__(
        self, str rule, dict options, dict names, dict fixed, dict states, counter, bint reads_tensors, dict needs
    ):
        cdef Py_ssize_t k
        if instep_init(&self.optimizer, rule.encode(), INSTEP_ABI_VERSION) != INSTEP_OK:
            raise ValueError(f"there is no rule {rule!r}")
        self.keys = [*dict.fromkeys([name if isinstance(name, str) else name[0] for name in names.values()]), *fixed]
        self.fixed = [fixed.get(key, MUTABLE) for key in self.keys]
        self.states = states
        self.counter = counter
        self.reads_tensors = reads_tensors
        places = {}
        while instep_option_name(&self.optimizer, self.options) is not NULL:
            places[instep_option_name(&self.optimizer, self.options).decode()] = self.options
            self.options += 1
        for ours, k in places.items():
            self.optimizer.option[k] = options[ours]
            self.option_key[k] = self.item[k] = -1
            if ours in names:
                name = names[ours]
                key, item = (name, -1) if isinstance(name, str) else name
                self.option_key[k] = self.keys.index(key)
                self.item[k] = item
            self.needs[k] = places.get(needs.get(ours), -1)
            self.starts_at[k] = ours.startswith("initial_")


@cython.final
cdef class Group:
    """A parameter group as it was read last."""

    cdef Language language
    cdef list seen  # what stood under the keys
    cdef instep_optimizer optimizer
    cdef str refusal  # why no array of it can be stepped here
    cdef list refusals  # why none of a dtype can
    cdef Py_ssize_t states
    cdef list state_keys

    def __cinit__(self, Language language):
        self.language = language
        self.seen = [MUTABLE] * len(language.keys)

    cdef int read(self, dict group, object defaults) except -1:
        """Read it if anything in it has changed."""
        cdef Py_ssize_t j
        cdef PyObject *value
        for j in range(PyList_GET_SIZE(self.seen)):
            value = PyDict_GetItemWithError(<PyObject *>group, <PyObject *>PyList_GET_ITEM(self.language.keys, j))
            if value != <PyObject *>PyList_GET_ITEM(self.seen, j):
                return self.read_anew(group, defaults)
        return 0

    cdef int read_anew(self, dict group, object defaults) except -1:
        cdef Language language = self.language
        cdef Py_ssize_t j, k
        self.refusal = None
        self.optimizer = language.optimizer
        values = [group.get(key, MUTABLE) for key in language.keys]
        self.seen = [value if is_immutable(value) else MUTABLE for value in values]
        for j, expected in enumerate(language.fixed):
            if values[j] is MUTABLE:
                self.refusal = f"the group has no {language.keys[j]}"
                return 0
            if expected is not MUTABLE and (type(values[j]) not in IMMUTABLE or values[j] != expected):
                self.refusal = f"{language.keys[j]}={values[j]!r} is torch's alone"
                return 0
        for k in range(language.options):
            j = language.option_key[k]
            if j < 0:
                continue
            value = defaults.get(language.keys[j], values[j]) if language.starts_at[k] else values[j]
            if language.item[k] >= 0:
                value = value[language.item[k]]
            if isinstance(value, TENSOR) and language.reads_tensors and value.numel() == 1 and not value.requires_grad:
                value = value.item()
            if not isinstance(value, (float, int)):
                self.refusal = f"{language.keys[j]} is a {type(value).__name__}"
                return 0
            flag = instep_option_range(&self.optimizer, k) == INSTEP_FLAG
            self.optimizer.option[k] = bool(value) if flag else value
        for k in range(language.options):
            if language.needs[k] >= 0 and self.optimizer.option[language.needs[k]] == 0:
                self.optimizer.option[k] = language.optimizer.option[k]
        self.check()
        return 0

    cdef int check(self) except -1:
        cdef const char *name = NULL
        cdef int dtype, status
        cdef size_t s
        self.refusals = [None, None]
        for dtype in (INSTEP_FLOAT32, INSTEP_FLOAT64):
            status = instep_check(&self.optimizer, dtype, &name)
            if status != INSTEP_OK:
                words = instep_message(status).decode()
                self.refusals[dtype] = words if name is NULL else f"{self.spelled(name)} {words}"
        self.states = instep_state_count(&self.optimizer)
        self.state_keys = []
        for s in range(self.states):
            state = instep_state_name(&self.optimizer, s).decode()
            if state not in self.language.states:
                self.refusal = f"these options need the state {state}, which torch does not keep"
                return 0
            self.state_keys.append(self.language.states[state])
        return 0

    cdef str spelled(self, const char *name):
        """An option of ours as torch's group has it."""
        cdef Language language = self.language
        cdef Py_ssize_t k = 0
        while instep_option_name(&self.optimizer, k) != name:
            k += 1
        key = name.decode() if language.option_key[k] < 0 else language.keys[language.option_key[k]]
        return f"{key}={self.optimizer.option[k]!r}"
