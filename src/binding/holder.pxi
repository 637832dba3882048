@cython.final
cdef class Option:
    """An option as an attribute of the optimizers of a rule: what is assigned counts from the next step on."""

    cdef readonly str name
    cdef readonly object default
    cdef readonly bint is_structural
    cdef readonly bint is_around
    cdef Py_ssize_t place

    def __cinit__(self, str rule, str name, default, /):
        cdef Options options = Options(rule)
        self.name = name
        self.default = default
        self.place = options.place(name)
        self.is_structural = instep_option_traits(&options.optimizer, self.place) & INSTEP_IS_STRUCTURAL != 0
        self.is_around = instep_option_traits(&options.optimizer, self.place) & INSTEP_IS_AROUND != 0

    def __get__(self, optimizer, owner):
        if optimizer is None:
            return self
        (<Holder?>optimizer).check_made()
        with cython.critical_section(optimizer):
            return _shown((<Holder>optimizer).optimizers, self.place)

    def __set__(self, optimizer, value):
        (<Holder?>optimizer).assign(self, value)

    def __repr__(self):
        return f"<option {self.name}, by default {self.default!r}>"


cdef enum:
    AMBIGUOUS = -1
    NOT_MADE = -1


cdef struct Known:
    # A gradient that is apart from all that is written: its size is that of its parameter.
    uintptr_t start
    int format


cdef class Holder(Locked):
    """Parameters, states, options and counts: checked when they are given, changed between two steps."""

    # Read while others step and assign: options, groups and states in a critical section of the optimizer, which
    # without the GIL is a lock that is held for a moment; what the last step counted and measured in a copy.
    cdef instep_optimizer *optimizers  # the options of all, then those of each group
    cdef Py_ssize_t groups
    cdef dict patterns  # the groups: what each changes, by its pattern
    cdef last_step last
    cdef str rule_name
    cdef readonly Storage _storage
    cdef unsigned long long changes  # of options or states, so far
    cdef Nest nest
    cdef list leaves
    cdef list paths
    cdef list anchors
    cdef tuple dtypes  # of the arithmetic, each once
    cdef int narrowest  # what is good for float32 is good for float64
    cdef dict places
    cdef dict states
    cdef instep_array *arrays
    cdef instep_norms *measured
    cdef Py_ssize_t count

    # What is written: each parameter, followed by its states.
    cdef Watched *watched
    cdef Py_ssize_t each

    # The same, sorted by address, for the overlap check of gradients.
    cdef uintptr_t *written_start
    cdef uintptr_t *written_end
    cdef Py_ssize_t written_count

    # Gradients: known to be apart from that, owned while a step is under way, bound for good.
    cdef Known *known_grad
    cdef PyObject **held
    cdef list bound
    cdef list pending  # the sum of those accumulated so far

    # The step as it was planned: good until states, counts or the choice of arrays change.
    cdef bint planned

    def __cinit__(self, *args, **kwargs):
        last_step_store(&self.last, NOT_MADE, 0, NAN)

    def __init__(self, Options options, params, Storage storage, dict groups, state=None, step_count=0):
        seldom()
        cdef list leaves = []
        cdef list paths = []
        cdef Nest nest = Nest.of(params, leaves, paths)
        cdef Py_ssize_t k
        if not leaves:
            raise ValueError("params holds no array")
        for k in range(len(leaves)):
            _check_param("params", paths[k], _array("params", paths[k], leaves[k]))
        _check_maps_apart("params", paths, leaves)
        self.lock()
        try:
            if self.arrays is not NULL:
                raise TypeError("an optimizer is made once; make another one")
            self.make(options, nest, leaves, paths, storage, groups, state, step_count)
        finally:
            self.release()

    @cython.final
    cdef int make(
        self, Options options, Nest nest, list leaves, list paths, Storage storage, dict groups, state, step_count
    ) except -1:
        seldom()
        cdef list dtypes = []
        cdef cnp.ndarray leaf
        cdef Py_ssize_t k
        for leaf in leaves:
            dtypes.append(np.float64 if cnp.PyArray_TYPE(leaf) == cnp.NPY_FLOAT64 else np.float32)
        storage.check(leaves, paths)
        self.dtypes = tuple({np.dtype(dtype) for dtype in dtypes})
        self.narrowest = INSTEP_FLOAT32 if np.float32 in dtypes else INSTEP_FLOAT64
        options = options.replace({}, self.dtypes)

        self.arrays = <instep_array *>calloc(len(leaves), sizeof(instep_array))
        self.known_grad = <Known *>calloc(len(leaves), sizeof(Known))
        self.held = <PyObject **>calloc(len(leaves), sizeof(PyObject *))
        self.optimizers = <instep_optimizer *>calloc(1, sizeof(instep_optimizer))
        if (
            self.arrays is NULL
            or self.known_grad is NULL
            or self.held is NULL
            or self.optimizers is NULL
        ):
            raise MemoryError
        self.nest = nest
        self.leaves = leaves
        self.paths = paths
        self.places = {path: k for k, path in enumerate(paths)}
        for k, path in enumerate(paths):
            if len(path) == 1:
                self.places[path[0]] = AMBIGUOUS if path[0] in self.places else k
        self.count = len(leaves)
        self._storage = storage
        for k in range(self.count):
            leaf = leaves[k]
            self.arrays[k].size = cnp.PyArray_SIZE(leaf)
            self.arrays[k].dtype = _dtype_number(dtypes[k])
        for stream, k in enumerate(_in_order(paths)):
            self.arrays[k].stream = stream
        self.rule_name = options.rule
        self.optimizers[0] = options.optimizer
        self.optimizers[0].grad_norm = NAN
        self.groups = 1
        self.patterns = {}
        states = self._first_states(options, groups) if state is None else self.states_given(options, state)
        counts = [step_count] * self.count
        self._adopt(options, states, step_count, counts, groups=groups, are_given=state is not None)
        return 0

    def __dealloc__(self):
        free(self.optimizers)
        free(self.arrays)
        free(self.measured)
        free(self.known_grad)
        free(self.held)
        free(self.watched)
        free(self.written_start)
        free(self.written_end)

    # -- options

    @cython.final
    cdef inline int check_made(self) except -1:
        if last_step_count(&self.last) == NOT_MADE:
            raise TypeError("the optimizer has not been made: __init__ did not run or raised an exception")
        return 0

    @cython.final
    cdef inline int acquire(self) except -1:
        self.check_made()
        return self.lock()

    @cython.final
    cdef inline void release(self) noexcept:
        if last_step_count(&self.last) != NOT_MADE:
            self.show_last()
        self.unlock()

    @cython.final
    cdef inline void show_last(self) noexcept:
        cdef const instep_optimizer *of_all = self.optimizers
        last_step_store(&self.last, of_all.step_count, of_all.skipped_count, of_all.grad_norm)

    @cython.final
    cdef inline last_step *shown(self) except NULL:
        """What the last step counted and measured."""
        self.check_made()
        if self.is_of_the_parent():  # where a step that another thread had in flight is whole, and not shown
            self.acquire()
            self.release()
        return &self.last

    @property
    def _options(self):
        """The options as they are now."""
        self.check_made()
        cdef Options options = Options(self.rule_name)
        with cython.critical_section(self):
            memcpy(options.optimizer.option, self.optimizers.option, sizeof(options.optimizer.option))
        return options

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
        self.acquire()
        try:
            if option.is_structural or self.groups > 1:
                self._set_options({option.name: value})
                return 0
            changed = self.optimizers[0]
            _put(&changed, option.place, option.name, value)
            _check_options(&changed, self.narrowest)
            with cython.critical_section(self):
                self.optimizers[0].option[option.place] = changed.option[option.place]
            self.planned = self.planned and not option.is_around
            self.changes += 1
        finally:
            self.release()
        return 0

    def _set_options(self, dict changes, pattern=None, /):
        """Change options between steps, those of all or of one group, and with them the state that they need."""
        seldom()
        cdef Options before, options
        cdef dict states, groups
        cdef list every, every_before
        cdef unsigned long long since
        self.acquire()
        try:
            while True:
                since, before, states = self.changes, self._options, self.states
                groups = dict(self.patterns)
                if pattern is None:
                    options = before.replace(changes, self.dtypes)
                else:
                    options = before
                    groups[pattern] = groups[pattern] | changes
                every = self.options_of_groups(options, groups)
                every_before = self.options_of_groups(before, dict(self.patterns))
                if before.sets("exact_rows") and not options.sets("exact_rows"):
                    self.catch_up()
                if not self.keeps_every_state(every, every_before):
                    states = self.states_of_groups(every, every_before, states, groups)
                    if self._adopt(options, states, since=since, groups=groups):
                        return
                elif self.changes == since:
                    self.use(every, groups)
                    return
                # A signal handler has assigned or loaded meanwhile: what was made is of before that.
        finally:
            self.release()

    @cython.final
    cdef list options_of_groups(self, Options options, dict groups):
        """The options of all, then those of each group, if they go together; what groups change is put into form."""
        seldom()
        cdef list every = [options]
        cdef Options own
        self._storage.check_options(options)
        for pattern, changes in list(groups.items()):
            for name in changes:
                if name in options.of_step:
                    raise ValueError(f"groups[{pattern!r}]: {name} is of the step, and so the same for all arrays")
            try:
                own = options.replace(changes, self.dtypes)
            except (TypeError, ValueError) as error:
                raise type(error)(f"groups[{pattern!r}]: {error}") from None
            if list(own.states) != list(options.states):
                raise ValueError(
                    f"groups[{pattern!r}]: all arrays have the same states, {', '.join(options.states) or 'none'} "
                    f"here, and these options need {', '.join(own.states) or 'none'}"
                )
            every.append(own)
            groups[pattern] = {name: own.values()[name] for name in changes}
        return every

    cdef int make_room(self, Py_ssize_t groups) except -1:
        """For the options of so many groups; those that there are stay."""
        cdef instep_optimizer *room
        if groups <= self.groups:
            return 0
        room = <instep_optimizer *>calloc(groups, sizeof(instep_optimizer))
        if room is NULL:
            raise MemoryError
        memcpy(room, self.optimizers, self.groups * sizeof(instep_optimizer))
        with cython.critical_section(self):
            room, self.optimizers = self.optimizers, room
        free(room)
        return 0

    cdef void use(self, list every, dict groups) noexcept:
        """There is room for them."""
        seldom()
        cdef Py_ssize_t g
        cdef Options options
        self.planned = False
        self.changes += 1
        with cython.critical_section(self):
            self.patterns = groups
            self.groups = len(every)
            for g in range(self.groups):
                options = <Options>every[g]
                self.optimizers[g].abi_version = options.optimizer.abi_version
                self.optimizers[g].rule = options.optimizer.rule
                self.optimizers[g].step_count = self.optimizers[0].step_count
                memcpy(self.optimizers[g].option, options.optimizer.option, sizeof(options.optimizer.option))

    @property
    def _patterns(self):
        """The groups: what each changes, by its pattern."""
        self.check_made()
        with cython.critical_section(self):
            patterns = self.patterns
        return {pattern: dict(changes) for pattern, changes in patterns.items()}

    # -- states

    @cython.final
    cdef Watched watch(self, cnp.ndarray array, int flags, list anchors):
        """What is stepped, and must stay as it is while the anchors live."""
        seldom()
        cdef Watched watched
        dtype = (<object>array).dtype
        anchors.append(dtype)
        anchors.append(weakref.ref(array))  # with one, NumPy does not resize it, which may move it away
        watched.array = <PyArrayObject *>array
        watched.data = cnp.PyArray_DATA(array)
        watched.size = cnp.PyArray_SIZE(array)
        watched.dimensions = cnp.PyArray_NDIM(array)
        watched.folded = _folded(cnp.PyArray_DIMS(array), watched.dimensions)
        watched.dtype = <void *>dtype
        watched.flags = flags | (
            cnp.NPY_ARRAY_C_CONTIGUOUS if cnp.PyArray_IS_C_CONTIGUOUS(array) else cnp.NPY_ARRAY_F_CONTIGUOUS
        )
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
        seldom()
        cdef const Watched *watched = self.watched + k * self.each
        for name in self.states:
            watched += 1
            _check_watched(f"state[{name!r}]", self.paths[k], watched, watched.flags & flags)
        return 0

    @property
    def _states(self):
        """The state arrays by name, flat, as they are now."""
        self.check_made()
        with cython.critical_section(self):
            return self.states

    def _keeps_states(self, Options options, Options before):
        """Whether the state arrays of the options before are right for these options as they are."""
        seldom()
        starts, old_starts = options.states, before.states
        same = self._storage.names(options) == self._storage.names(before)
        return same and (self.optimizers.step_count != 0 or starts == old_starts)

    def _make_states(self, Options options, Options before, dict old):
        """State arrays for these options, by name: those of `old` go on, but for a start that has not been left."""
        seldom()
        cdef list arrays
        cdef dict states = {}
        cdef Py_ssize_t k
        starts, old_starts = options.states, before.states
        for name in self._storage.names(options):
            if name in old and (self.optimizers.step_count != 0 or starts.get(name) == old_starts.get(name)):
                states[name] = old[name]
                continue
            states[name] = arrays = []
            for k in range(self.count):
                param = self.in_full(k, old) if name == "param_avg" else self.leaves[k]
                arrays.append(self._storage.start(options, name, param))
                if name == "row_steps":
                    arrays[k] += self.arrays[k].step_count  # what came before is not caught up with
        return states

    @cython.final
    cdef int catch_up(self) except -1:
        """Let every row take the steps that it missed, with the options of now, for nobody will know of them."""
        cdef Py_ssize_t k
        for k in range(self.count):
            self.check_states(k, -1)
        for k in range(self.count):
            with nogil:
                instep_catch_up(&self.optimizers[self.arrays[k].group], &self.arrays[k])
        return 0

    @cython.final
    cdef object in_full(self, Py_ssize_t k, dict old):
        """The k-th parameter with the bits that these states have of it beside its own."""
        if _param_format(<cnp.ndarray>self.leaves[k]) != INSTEP_AS_COMPUTED:
            if "param_master" in old:
                return old["param_master"][k]
            if "param_low" in old:
                from . import storage

                return storage.in_full(self.leaves[k], old["param_low"][k])
        return self.leaves[k]

    def _first_states(self, Options options, dict groups, /):
        """State arrays as they start with these options and groups."""
        cdef list every = self.options_of_groups(options, groups)
        return self.states_of_groups(every, every, {}, groups)

    @cython.final
    cdef dict states_given(self, Options options, state):
        """The arrays of a dict as `state` returns it, flat and in the order of the params."""
        seldom()
        cdef list leaves, paths
        cdef dict found, states = {}
        cdef set expected = set(self.paths)
        cdef list names = self._storage.names(options)
        if not isinstance(state, dict):
            raise TypeError(f"state must be a dict of the state arrays by name, not {_type_name(state)}")
        if state.keys() != set(names):
            raise ValueError(f"state must hold {some(names) or 'nothing'}, and holds {some(list(state)) or 'nothing'}")
        for name in names:
            leaves, paths = [], []
            Nest.of(state[name], leaves, paths)
            found = dict(zip(paths, leaves, strict=True))
            for path in [*self.paths, *paths]:
                if path not in found:
                    raise ValueError(f"there is no {_spell(f'state[{name!r}]', path)}, a state of its parameter")
                if path not in expected:
                    raise ValueError(f"{_spell(f'state[{name!r}]', path)} is the state of no parameter")
            states[name] = [found[path] for path in self.paths]
        return states

    @cython.final
    cdef bint keeps_every_state(self, list every, list before) except -1:
        cdef Py_ssize_t g
        for g in range(len(every)):
            if not self._keeps_states(every[g], before[g]):
                return False
        return True

    @cython.final
    cdef dict states_of_groups(self, list every, list before, dict old, dict groups):
        """What `_make_states` makes for the options that each array has."""
        seldom()
        cdef dict own, states = self._make_states(every[0], before[0], old)
        cdef list member = self._member(groups)
        cdef Py_ssize_t g, k
        for g in range(1, len(every)):
            if not old and every[g].states == every[0].states:
                continue
            own = self._make_states(every[g], before[g], old)
            for name in states:
                states[name] = list(states[name])
                for k in range(self.count):
                    if member[k] == g:
                        states[name][k] = own[name][k]
        return states

    def _snapshot(self):
        """Options, copies of the state arrays by name, step count and the count of each array, groups, and what
        `_history` has: between two steps.
        """
        seldom()
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
            return self._options, states, self.optimizers.step_count, counts, self._patterns, self._history
        finally:
            self.release()

    @property
    def _history(self):
        """How many steps were skipped, and how many were taken since one was."""
        self.acquire()
        try:
            return self.optimizers.skipped_count, self.optimizers.finite_count
        finally:
            self.release()

    def _member(self, dict groups, /):
        """The group of each array: 0 of none, k of the k-th pattern.  The optimizers know how to match them."""
        return [0] * self.count

    def _adopt(
        self,
        Options options,
        dict states,
        step_count=None,
        counts=None,
        since=None,
        groups=None,
        history=(0, 0),
        bint are_given=False,
    ):
        """Step with these options, groups, state arrays and counts from now on, if all of them are right.

        Without groups or counts, they go on as they are.  The numbers of states that the caller has made are looked at.
        Nothing is done, which is False, if `since` is given and no longer the number of changes.
        """
        seldom()
        cdef Py_ssize_t k, s, each
        cdef int64_t total = 0, skipped = 0, finite = 0
        cdef list names, every_options, member
        cdef list every = []
        cdef list roots = []
        cdef list written = []
        cdef list anchors = []
        cdef Py_ssize_t one, other
        cdef Watched *watched
        cdef uintptr_t *start
        cdef uintptr_t *end
        if are_given:
            from instep.checkpoint.state_dict import check_master, check_numbers
        options = options.replace({}, self.dtypes)
        groups = dict(self._patterns if groups is None else groups)
        every_options = self.options_of_groups(options, groups)
        member = self._member(groups)
        names = self._storage.names(options)
        if counts is not None:
            counts = list(counts)
            if len(counts) != self.count:
                raise ValueError(f"there are {len(counts)} step counts for {self.count} arrays")
            for count in [step_count, *history, *counts]:
                if type(count) is not int or not 0 <= count <= LARGEST_COUNT:
                    raise ValueError(f"a step count must be an integer from 0 to {LARGEST_COUNT}, not {count!r}")
            if max(counts) > step_count:
                raise ValueError(f"an array cannot have taken {max(counts)} of {step_count} steps")
            total, skipped, finite = step_count, history[0], history[1]
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
                form = self._storage.form(options, name, self.leaves[k])
                _check_state(root, self.paths[k], array, self.leaves[k], form)
                if are_given:
                    check_numbers(_spell(root, self.paths[k]), options, name, array, step_count)
                    if name == "param_master" and form[1] == (<object>self.leaves[k]).shape:
                        check_master(_spell(root, self.paths[k]), array, self.leaves[k])
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

        self.lock()  # for what is bound, and for what follows, whole or not at all
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
                watched[each * k] = self.watch(self.leaves[k], cnp.NPY_ARRAY_WRITEABLE, anchors)
                if self.watched is not NULL:  # a parameter is still to be what it was at first
                    watched[each * k] = self.watched[self.each * k]
                    anchors.append(<object>watched[each * k].dtype)
                for s in range(1, each):
                    watched[each * k + s] = self.watch(every[s * self.count + k], cnp.NPY_ARRAY_WRITEABLE, anchors)
            if since is not None and self.changes != since:
                return False
            self.make_room(len(every_options))
            if counts is not None:
                self.optimizers[0].step_count = total
                self.optimizers[0].skipped_count = skipped
                self.optimizers[0].finite_count = finite
                self.pending = None
                for k in range(self.count):
                    self.arrays[k].step_count = counts[k]
            self.use(every_options, groups)
            with cython.critical_section(self):
                states, self.states = self.states, states
            anchors, self.anchors = self.anchors, anchors
            watched, self.watched = self.watched, watched
            self.each = each
            for k in range(self.count):
                self.known_grad[k].start = 0
                self.arrays[k].group = member[k]
                self.place_arrays(k, options, names)
            start, self.written_start = self.written_start, start
            end, self.written_end = self.written_end, end
            self.written_count = len(written)
            self.show_last()
            return True
        finally:
            self.release()
            free(watched)
            free(start)
            free(end)

    @cython.final
    cdef int place_arrays(self, Py_ssize_t k, Options options, list names) except -1:
        """Where the k-th parameter and its states are, and in which formats."""
        seldom()
        cdef instep_array *array = &self.arrays[k]
        cdef const Watched *watched = self.watched + k * self.each
        cdef int s = 0
        cdef void *data
        memset(array.state, 0, sizeof(array.state))
        memset(array.formats.state, 0, sizeof(array.formats.state))
        array.param = <void *>watched.data
        array.low = array.copy = NULL
        array.row_steps = NULL
        array.formats.copy = 0
        array.formats.param = _param_format(<cnp.ndarray>self.leaves[k])
        for name in names:
            watched += 1
            data = <void *>watched.data
            if name == "param_low":
                if array.formats.param != INSTEP_AS_COMPUTED:
                    array.low = data
                    array.formats.param = INSTEP_SPLIT
            elif name == "param_master":
                if array.formats.param != INSTEP_AS_COMPUTED:
                    array.copy = array.param
                    array.formats.copy = array.formats.param
                    array.param = data
                    array.formats.param = INSTEP_AS_COMPUTED
            elif name == "row_steps":
                if array.size and watched.size:
                    array.row_steps = <int64_t *>data
                    array.row_size = array.size // watched.size
            else:
                array.state[s] = data
                array.formats.state[s] = self._storage.format_of(options, name)
                s += 1
        return 0

    @property
    def step_count(self):
        """How many steps have been taken, as a 64-bit integer.

        `step` adds one.  `step_one` makes it the count of the array stepped most often, so that a sweep over all
        arrays is one step.  Bias correction goes by each array's own count, which a gradient of None leaves alone.
        """
        return last_step_count(self.shown())

    @property
    def params(self):
        """The parameter arrays, in their nesting."""
        self.check_made()
        return self.nest.build(self.leaves)

    @property
    def _leaves(self):
        """The parameter arrays, flat."""
        self.check_made()
        return self.leaves

    @property
    def _paths(self):
        """Where each array is in the nesting of the params: tuples of indices and keys."""
        return self.paths

    @property
    def state(self):
        """The state arrays by name, each in the nesting of the params.  They are no copies."""
        seldom()
        return {name: self.nest.build(arrays) for name, arrays in self._states.items()}


cdef list _in_order(list paths):
    """The numbers of the arrays in the order of their keys, which is the same for dicts of the same items.

    Where a key could not be saved, in the order of the params: such keys may have no order.
    """
    cdef list found = []
    cdef list keys
    for k, path in enumerate(paths):
        keys = []
        for key in path:
            if type(key) is int:
                keys.append((0, key))
            elif isinstance(key, str):
                keys.append((1, str.__str__(key)))
            else:
                return list(range(len(paths)))
        found.append((keys, k))
    found.sort()
    return [k for _, k in found]
