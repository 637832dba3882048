# A step: collect the objects, look at their memory, step it.

cdef object MODES = torch._C._len_torch_dispatch_stack
cdef object NUM_THREADS = torch.get_num_threads
cdef dict PROFILER = torch.autograd.profiler.__dict__
cdef dict FORWARD_AD = torch.autograd.forward_ad.__dict__
cdef object HOOKS_BEFORE = _global_optimizer_pre_hooks
cdef object HOOKS_AFTER = _global_optimizer_post_hooks
cdef object WITHOUT_CLASSES = torch._C.DisableTorchFunctionSubclass


cdef instep_team *torchs_team() except? NULL:
    """What runs torch's own operations on several threads, if it is OpenMP: found where its library looks for it."""
    cdef uintptr_t place
    if "parallel backend: OpenMP" not in torch.__config__.parallel_info():
        return NULL
    try:
        place = ctypes.cast(ctypes.CDLL(torch._C.__file__).GOMP_parallel, ctypes.c_void_p).value
    except (AttributeError, OSError):
        return NULL
    return <instep_team *>place


cdef instep_team *TEAM = torchs_team()
cdef str STEP = "step"

cdef enum:
    BYTES_WITH_GIL = 1 << 16  # of parameters: some 10 microseconds
    GRAIN_OF_TORCH = 32768  # elements: torch shares operations over more of them among its threads
    COUNT = INSTEP_MAX_STATES  # the place of the count among the objects of a state

cdef double SECONDS_TO_WAIT = 5e-5  # for a step of another thread
cdef unsigned int forks_so_far = 0


def count_a_fork():
    global forks_so_far
    forks_so_far += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=count_a_fork)

cdef double LARGEST_COUNT = 2.0**53  # up to which every whole number is a double

# A parameter that has a gradient, and what goes with it.  The references are owned.
cdef struct Slot:
    PyObject *key  # what stands in the group
    PyObject *param  # what is written
    PyObject *grad
    PyObject *entries  # its state, or that to be
    PyObject *state[INSTEP_MAX_STATES + 1]
    Py_ssize_t group
    Py_ssize_t index
    Py_ssize_t place  # among all parameters
    PyObject *wrappers  # a list of what stands around what is written, or NULL
    bint is_fresh
    bint is_refused
    bint count_is_double
    char *count  # NULL where it is no tensor
    double counted

cdef str IS_NEGATED = "it is a view that negates what it is of"
cdef str IS_INFERENCE = "the parameter or its state is an inference tensor"

# What was found of a parameter when it was looked at last.
cdef struct Known:
    instep_array array
    char *count
    bint is_written  # its memory is among that which is known to be apart
    bint is_doubtful  # it was refused


@cython.final
cdef class Gathering:
    """The arrays of one step, in the order of their groups."""

    cdef Slot *slots
    cdef instep_array *arrays
    cdef Py_ssize_t count
    cdef Py_ssize_t room
    cdef list refused  # (group, index in it or None, reason)
    cdef bint is_bare  # there is a state yet to be made

    def __cinit__(self, list groups):
        self.refused = []
        for group in groups:
            self.room += len(<list>(<dict>group)["params"])
        self.slots = <Slot *>PyMem_Calloc(self.room + 1, sizeof(Slot))
        self.arrays = <instep_array *>PyMem_Calloc(self.room + 1, sizeof(instep_array))
        if self.slots is NULL or self.arrays is NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef Py_ssize_t k, s
        for k in range(self.count):
            Py_XDECREF(self.slots[k].key)
            Py_XDECREF(self.slots[k].param)
            Py_XDECREF(self.slots[k].wrappers)
            Py_XDECREF(self.slots[k].grad)
            Py_XDECREF(self.slots[k].entries)
            for s in range(COUNT + 1):
                Py_XDECREF(self.slots[k].state[s])
        PyMem_Free(self.slots)
        PyMem_Free(self.arrays)

    cdef inline Slot *add(
        self, PyObject *param, PyObject *grad, Py_ssize_t group, Py_ssize_t index, Py_ssize_t place
    ) except NULL:
        cdef Slot *slot = &self.slots[self.count]
        if self.count == self.room:
            raise RuntimeError("the parameter groups have changed in the middle of a step")
        slot.key = owned(param)
        slot.param = owned(param)
        slot.grad = owned(grad)
        slot.group = group
        slot.index = index
        slot.place = place
        self.count += 1
        return slot

    cdef int refuse(self, Slot *slot, str reason) except -1:
        slot.is_refused = True
        self.refused.append((slot.group, slot.index, reason))
        return 0


cdef list groups_of(object optimizer):
    """Its groups as a list of dicts that have a list of parameters each, whatever like that they are."""
    cdef list groups = as_list(optimizer.param_groups)
    for group in groups:
        if type(group) is not dict or type(group["params"]) is not list:
            return [{**group, "params": as_list(group["params"])} for group in groups]
    return groups


cdef inline list as_list(object found):
    return found if type(found) is list else list(found)


cdef inline str why_not_at_all(object optimizer):
    if MODES() != 0:
        return "a TorchDispatchMode is to see the operations"
    if FORWARD_AD["_current_level"] >= 0:
        return "forward-mode differentiation is to see the operations"
    if not isinstance(optimizer.state, dict):
        return f"its state is a {type(optimizer.state).__name__}"
    if getattr(optimizer, "found_inf", None) is not None or getattr(optimizer, "grad_scale", None) is not None:
        return "the gradients are to be unscaled by the step"
    return None


cdef inline PyObject *owned(PyObject *found) noexcept:
    if found is not NULL:
        Py_INCREF(<object>found)
    return found


@cython.final
cdef class Gatherer:
    """Steps the optimizer that it was made for.

    Parameters
    ----------
    language : Language
        How its groups and states are to be read.
    by_torch : callable
        Called with the optimizer and a dict of the indices of the parameters that torch is to step, by that of their
        group; None instead of a group's indices is all of them.
    why_never : str or None
        Why torch is to step all of them, whatever they are.
    """

    cdef Language language
    cdef object by_torch
    cdef str why_never
    cdef list groups
    cdef readonly list refused  # by the last step: (group, index in it or None, name or None, reason)

    cdef Known *known
    cdef Py_ssize_t known_room
    cdef Intervals written  # by the last step, sorted: known to be apart from each other and from the gradients
    cdef Py_ssize_t written_count  # of how many parameters
    cdef unsigned long stepping  # the thread that does, or 0
    cdef unsigned int forks  # that there had been when it began

    def __init__(self, Language language, by_torch, str why_never):
        self.language = language
        self.by_torch = by_torch
        self.why_never = why_never
        self.groups = []
        self.refused = []
        self.written = Intervals()

    def __dealloc__(self):
        PyMem_Free(self.known)

    def is_watched(self, optimizer):
        """Somebody wants to know of its steps: hooks, a profiler or a mode."""
        return (
            PyDict_GET_SIZE(<PyObject *>HOOKS_BEFORE) != 0
            or PyDict_GET_SIZE(<PyObject *>HOOKS_AFTER) != 0
            or PyDict_GET_SIZE(<PyObject *>optimizer._optimizer_step_pre_hooks) != 0
            or PyDict_GET_SIZE(<PyObject *>optimizer._optimizer_step_post_hooks) != 0
            or PROFILER["_is_profiler_enabled"] is not False
            or MODES() != 0
        )

    cdef bint is_stepping(self) noexcept:
        """Whether a thread of this process does."""
        return self.stepping != 0 and self.forks == forks_so_far

    def step(self, optimizer):
        """One thread at a time, or the count that one has read would be another's too."""
        cdef unsigned long caller = PyThread_get_thread_ident()
        if self.is_stepping() and self.stepping == caller:
            self.take_step(optimizer)  # in the middle of a step, as torch's own is called
            return
        while self.is_stepping():
            sleep(SECONDS_TO_WAIT)
        self.stepping, self.forks = caller, forks_so_far
        try:
            self.take_step(optimizer)
        finally:
            self.stepping = 0

    cdef int take_step(self, object optimizer) except -1:
        """Step what can be stepped here.  torch steps the rest, and does so first, for it may raise an exception."""
        cdef Gathering found
        cdef set done = None
        cdef dict made = None
        self.refused = []
        whole = self.why_never or why_not_at_all(optimizer)
        if whole is not None:
            self.leave_to_torch(optimizer, [(group, None, whole) for group in range(len(optimizer.param_groups))])
            return 0
        while True:
            found = self.gather(optimizer, done, made)
            if found.refused:
                self.leave_to_torch(optimizer, found.refused)
                done = set() if done is None else done
                done.update([(group, index) for group, index, _ in found.refused])
            elif found.is_bare:
                made = self.make_states(found)
            else:
                if found.count != 0:
                    self.run(optimizer, found)
                return 0

    cdef int leave_to_torch(self, object optimizer, list refused) except -1:
        cdef dict indices = {}
        for group, index, reason in refused:
            self.refused.append((group, index, name_of(optimizer.param_groups[group], index), reason))
            if index is None:
                indices[group] = None
            elif indices.setdefault(group, []) is not None:
                indices[group].append(index)
        for chosen in indices.values():
            if chosen is not None:
                chosen.sort()  # for torch steps them one after the other
        self.by_torch(optimizer, indices)
        return 0

    # -- collect

    cdef Gathering gather(self, object optimizer, set done, dict made):
        cdef list groups = groups_of(optimizer)
        cdef object states = optimizer.state
        cdef object defaults = optimizer.defaults
        cdef Gathering found = Gathering(groups)
        cdef dict group
        cdef list params
        cdef Group read
        cdef Slot *slot
        cdef PyObject *param
        cdef Py_ssize_t next_state = 0, place = 0, g, k
        while len(self.groups) < len(groups):
            self.groups.append(Group(self.language))
        self.know(found.room)
        for g in range(PyList_GET_SIZE(groups)):
            group = groups[g]
            params = group["params"]
            if done is not None and (g, None) in done:
                place += PyList_GET_SIZE(params)
                continue
            read = <Group>self.groups[g]
            read.read(group, defaults)
            if read.refusal is not None:
                found.refused.append((g, None, read.refusal))
            for k in range(PyList_GET_SIZE(params)):
                place += 1
                if done is not None and (g, k) in done:
                    continue
                param = <PyObject *>PyList_GET_ITEM(params, k)
                grad = gradient_of(param)
                if grad is None:
                    is_next(states, &next_state, param)
                    continue
                slot = found.add(param, <PyObject *>grad, g, k, place - 1)
                if read.refusal is not None:
                    slot.is_refused = True
                else:
                    self.find_state(found, slot, read, states, &next_state, made)
                    if not slot.is_refused and not is_exact(slot.param):
                        self.unwrap(found, slot, read)
                    if not slot.is_refused and any_is_negated(slot):
                        found.refuse(slot, IS_NEGATED)
                    elif not slot.is_refused and any_is_inference(slot):
                        found.refuse(slot, IS_INFERENCE)
        if found.count != 0:
            self.look(found)
        return found

    cdef int find_state(
        self, Gathering found, Slot *slot, Group read, object states, Py_ssize_t *next_state, dict made
    ) except -1:
        cdef PyObject *entries = is_next(states, next_state, slot.key)
        cdef PyObject *entry
        cdef Py_ssize_t s
        if entries is NULL:  # they stand in another order
            entries = PyDict_GetItemWithError(<PyObject *>states, slot.key)
        if entries is not NULL and type(<object>entries) is not dict:
            return found.refuse(slot, f"its state is a {type(<object>entries).__name__}")
        slot.is_fresh = entries is NULL or PyDict_GET_SIZE(entries) == 0
        if self.language.counter is None:  # what it is torch tells by what there is
            slot.is_fresh = False
            for s in range(read.states):
                entry = NULL if entries is NULL else PyDict_GetItemWithError(entries, <PyObject *>read.state_keys[s])
                slot.is_fresh = slot.is_fresh or entry is NULL or entry is <PyObject *>None
        if slot.is_fresh:
            fresh = None if made is None else made.get((slot.group, slot.index))
            if fresh is None:
                found.is_bare = True
                return 0
            entries = <PyObject *>fresh
        slot.entries = owned(entries)
        for s in range(read.states):
            slot.state[s] = owned(PyDict_GetItemWithError(entries, <PyObject *>read.state_keys[s]))
            if slot.state[s] is NULL:
                return found.refuse(slot, f"its state has no {read.state_keys[s]}")
        if self.language.counter is not None:
            slot.state[COUNT] = owned(PyDict_GetItemWithError(entries, <PyObject *>STEP))
            if slot.state[COUNT] is NULL or type(<object>slot.state[COUNT]) is not self.language.counter:
                return found.refuse(slot, f"its state has no step that is a {self.language.counter.__name__}")
        return 0

    cdef int unwrap(self, Gathering found, Slot *slot, Group read) except -1:
        """Of tensors that are distributed alike, take the part of this process: no element needs another's."""
        cdef list wrapped, whats
        cdef Py_ssize_t s
        if type(<object>slot.param) is not dtensor_type():
            return 0
        wrapped, whats = [<object>slot.param, <object>slot.grad], ["the parameter", "its gradient"]
        for s in range(read.states):
            if slot.state[s] is not NULL:
                wrapped.append(<object>slot.state[s])
                whats.append(f"its {read.state_keys[s]}")
        spec = wrapped[0]._spec
        if any([placement.is_partial() for placement in spec.placements]):
            return found.refuse(slot, "the parameter is a sum of what several processes have")
        for what, one in zip(whats, wrapped):
            other = getattr(one, "_spec", None)
            if other is None or other.placements != spec.placements or other.mesh != spec.mesh:
                return found.refuse(slot, f"{what} is not distributed as the parameter is")
        replace(&slot.param, wrapped[0]._local_tensor)
        replace(&slot.grad, wrapped[1]._local_tensor)
        for s in range(len(wrapped) - 2):
            replace(&slot.state[s], wrapped[2 + s]._local_tensor)
        del wrapped[1]
        slot.wrappers = owned(<PyObject *>wrapped)
        return 0

    cdef dict make_states(self, Gathering found):
        """The states of parameters that have none yet, as torch makes them."""
        cdef dict made = {}
        cdef Slot *slot
        cdef Group read
        cdef Py_ssize_t k
        for k in range(found.count):
            slot = &found.slots[k]
            if slot.is_fresh:
                read = <Group>self.groups[slot.group]
                made[slot.group, slot.index] = self.language.start(read, <object>slot.key)
        return made

    # -- look: no Python runs in between, nor another thread

    cdef int look(self, Gathering found) except -1:
        cdef Slot *slot
        cdef Py_ssize_t k
        for k in range(found.count):
            slot = &found.slots[k]
            if slot.is_refused:
                continue
            reason = self.look_at_slot(slot, &found.arrays[k])
            if reason is None:
                self.compare(slot, &found.arrays[k])
            else:
                found.refuse(slot, reason)
            self.known[slot.place].is_doubtful = reason is not None
        if found.refused or not self.are_apart(found):
            self.look_for_sharing(found)
        return 0

    cdef str look_at_slot(self, Slot *slot, instep_array *array):
        """Fill the array, or say why it cannot be."""
        cdef Group read = <Group>self.groups[slot.group]
        cdef View param, other
        cdef Py_ssize_t s
        if not is_exact(slot.param):
            return f"the parameter is a {type(<object>slot.param).__name__}"
        if not is_exact(slot.grad):
            return f"the gradient is a {type(<object>slot.grad).__name__}"
        if self.known[slot.place].is_doubtful:  # torch takes most of a millisecond to say that something has no memory
            reason = why_not("the parameter", <object>slot.param) or why_not("the gradient", <object>slot.grad)
            if reason is not None:
                return reason
        if not look_at(slot.param, &param):
            return why_not("the parameter", <object>slot.param) or "the parameter has no memory"
        if read.refusals[param.dtype] is not None:
            return read.refusals[param.dtype]
        if not is_dense(&param):
            return "the parameter is not dense"
        if not look_at(slot.grad, &other):
            return why_not("the gradient", <object>slot.grad) or "the gradient has no memory"
        if not alike(&param, &other):
            return "the gradient has other strides or another dtype than the parameter"
        array.size = param.size
        array.dtype = param.dtype
        array.param = param.data
        array.grad = other.data if param.size != 0 else <void *>slot  # any address is a gradient of nothing
        array.step_count = 0
        if slot.entries is not NULL:
            for s in range(read.states):
                if not is_exact(slot.state[s]) or not look_at(slot.state[s], &other):
                    return f"its {read.state_keys[s]} is not a dense tensor of this processor"
                if not alike(&param, &other):
                    return f"its {read.state_keys[s]} has other strides or another dtype than the parameter"
                array.state[s] = other.data
            return self.look_at_count(slot, array)
        return None

    cdef str look_at_count(self, Slot *slot, instep_array *array):
        cdef View count
        if self.language.counter is None:
            array.step_count = not slot.is_fresh
            return None
        if self.language.counter is int:
            slot.counted = <double><object>slot.state[COUNT] + 1
        else:
            if not look_at(slot.state[COUNT], &count) or count.size != 1:
                return "its step is not a number of this processor"
            slot.count = count.data
            slot.count_is_double = count.dtype == INSTEP_FLOAT64
            if slot.count_is_double:
                slot.counted = (<double *>count.data)[0] + 1
            else:
                slot.counted = <float>((<float *>count.data)[0] + 1)
        if not 1 <= slot.counted <= LARGEST_COUNT or slot.counted != <double><int64_t>slot.counted:
            return f"its step is {<object>slot.state[COUNT]!r}"
        array.step_count = <int64_t>slot.counted - 1
        return None

    cdef int know(self, Py_ssize_t room) except -1:
        if room > self.known_room:
            PyMem_Free(self.known)
            self.known_room = self.written_count = 0
            self.known = <Known *>PyMem_Calloc(room, sizeof(Known))
            if self.known is NULL:
                raise MemoryError
            self.known_room = room
        return 0

    cdef void compare(self, const Slot *slot, const instep_array *array) noexcept:
        """Is what is written where it was?"""
        cdef Known *known = &self.known[slot.place]
        cdef bint moved = known.array.param != array.param or known.count != slot.count
        cdef Py_ssize_t s
        moved |= known.array.size != array.size or known.array.dtype != array.dtype
        for s in range(INSTEP_MAX_STATES):
            moved |= known.array.state[s] != array.state[s]
        if moved:
            known.array = array[0]
            known.count = slot.count
            known.is_written = False

    cdef bint are_apart(self, Gathering found) except -1:
        """What is written is apart from all else; remembered as long as it does not move."""
        cdef bint is_remembered = found.count == self.written_count
        cdef Py_ssize_t k
        cdef instep_array *array
        cdef Known *known
        for k in range(found.count):
            is_remembered &= self.known[found.slots[k].place].is_written
        if not is_remembered:
            self.written_count = 0
            self.written.clear(found.count * (2 + INSTEP_MAX_STATES))
            for k in range(found.count):
                add_written(self.written, found, k)
            if not self.written.sort():
                return False
            for k in range(self.known_room):
                self.known[k].is_written = False
            for k in range(found.count):
                self.known[found.slots[k].place].is_written = True
                self.known[found.slots[k].place].array.grad = NULL
            self.written_count = found.count
        for k in range(found.count):
            array = &found.arrays[k]
            known = &self.known[found.slots[k].place]
            if known.array.grad != array.grad:
                if self.written.meets(array.grad, array.size * width(array.dtype)):
                    return False
                known.array.grad = array.grad
        return True

    cdef int look_for_sharing(self, Gathering found) except -1:
        """Refuse what shares memory that is written: torch steps it in order."""
        cdef Intervals intervals = Intervals()
        cdef Slot *slot
        cdef Py_ssize_t k, s
        if len(found.refused) == found.count:
            return 0
        intervals.clear(found.count * (3 + INSTEP_MAX_STATES))
        for k in range(found.count):
            slot = &found.slots[k]
            if slot.is_refused:
                add_strided(intervals, <object>slot.param, k, True)
                add_strided(intervals, <object>slot.grad, k, False)
                for s in range(INSTEP_MAX_STATES):
                    if slot.state[s] is not NULL:
                        add_strided(intervals, <object>slot.state[s], k, True)
            else:
                add_written(intervals, found, k)
                intervals.add(found.arrays[k].grad, found.arrays[k].size * width(found.arrays[k].dtype), k, False)
        for k in sorted(intervals.owners_that_share()):
            if not found.slots[k].is_refused:
                found.refuse(&found.slots[k], "it shares memory with another parameter, state or gradient")
        return 0

    # -- step

    cdef int run(self, object optimizer, Gathering found) except -1:
        cdef list refused
        cdef Py_ssize_t begin = 0, end, k
        cdef int status
        for k in range(found.count):
            count_writes(&found.slots[k])
        while begin < found.count:
            end = begin + 1
            while end < found.count and found.slots[end].group == found.slots[begin].group:
                end += 1
            status = self.run_group(<Group>self.groups[found.slots[begin].group], &found.arrays[begin], end - begin)
            if status == INSTEP_OK:
                for k in range(begin, end):
                    self.keep(optimizer, &found.slots[k])
            else:
                words = instep_message(status).decode()
                refused = [(found.slots[k].group, found.slots[k].index, words) for k in range(begin, end)]
                self.leave_to_torch(optimizer, refused)
            begin = end
        return 0

    cdef int run_group(self, Group read, instep_array *arrays, Py_ssize_t count) except -1:
        cdef instep_optimizer optimizer = read.optimizer
        cdef size_t bytes = 0, largest = 0
        cdef Py_ssize_t k
        cdef int status
        for k in range(count):
            bytes += arrays[k].size * width(arrays[k].dtype)
            largest = max(largest, arrays[k].size)
        if bytes < BYTES_WITH_GIL:
            return instep_step(&optimizer, arrays, count)
        # torch's threads where its own step would have made them: with those in the parent it hangs in a forked child
        instep_lend_team(TEAM if largest > GRAIN_OF_TORCH else NULL, NUM_THREADS())
        with nogil:
            status = instep_step(&optimizer, arrays, count)
        instep_lend_team(NULL, 0)
        return status

    cdef int keep(self, object optimizer, Slot *slot) except -1:
        """Count the step, and put a new state where torch looks for it."""
        if slot.count is not NULL:
            if slot.count_is_double:
                (<double *>slot.count)[0] = slot.counted
            else:
                (<float *>slot.count)[0] = <float>slot.counted
        elif self.language.counter is int:
            (<dict>slot.entries)[STEP] = <int64_t>slot.counted
        if slot.is_fresh and slot.entries is not NULL:
            optimizer.state[<object>slot.key].update(<dict>slot.entries)
        return 0


cdef object dtensor_type():
    """torch's class of distributed tensors, if there can be one."""
    return getattr(sys.modules.get("torch.distributed.tensor"), "DTensor", None)


cdef inline void replace(PyObject **place, object value) noexcept:
    cdef PyObject *before = place[0]
    place[0] = owned(<PyObject *>value)
    Py_XDECREF(before)


cdef int add_written(Intervals intervals, Gathering found, Py_ssize_t k) except -1:
    cdef instep_array *array = &found.arrays[k]
    cdef Slot *slot = &found.slots[k]
    cdef size_t length = array.size * width(array.dtype)
    cdef Py_ssize_t s
    intervals.add(array.param, length, k, True)
    for s in range(INSTEP_MAX_STATES):
        if array.state[s] is not NULL:
            intervals.add(array.state[s], length, k, True)
    if slot.count is not NULL:
        intervals.add(slot.count, 8 if slot.count_is_double else 4, k, True)
    return 0


cdef int add_strided(Intervals intervals, object tensor, Py_ssize_t k, bint is_written) except -1:
    """From its first element to its last, of any type and class that has memory of this processor."""
    cdef Py_ssize_t last = 0
    if not isinstance(tensor, TENSOR):
        return 0
    with WITHOUT_CLASSES():
        if tensor.layout is not STRIDED or not tensor.is_cpu or tensor.numel() == 0:
            return 0
        try:
            start = tensor.data_ptr()
        except RuntimeError:  # of a class or a wrapper that has none
            return 0
        for length, stride in zip(tensor.shape, tensor.stride()):
            last += (length - 1) * stride
        if start != 0:
            intervals.add(<void *><uintptr_t>start, (last + 1) * tensor.element_size(), k, is_written)
    return 0


cdef object name_of(object group, object index):
    """That of the parameter at this place of the group, or None where it has none."""
    names = group.get("param_names")
    return None if names is None or index is None or index >= len(names) else names[index]


cdef int count_writes(const Slot *slot) except -1:
    cdef Py_ssize_t s
    count_write(slot.param)
    for s in range(INSTEP_MAX_STATES):
        if slot.state[s] is not NULL:
            count_write(slot.state[s])
    if slot.wrappers is not NULL:
        for wrapper in <list>slot.wrappers:
            count_write(<PyObject *>wrapper)
    return 0


cdef inline bint any_is_negated(const Slot *slot) except -1:
    """Is any tensor of its one that negates?  Asked at every step: an assignment to `data` may have made it one."""
    cdef Py_ssize_t s
    if is_exact(slot.param) and is_negated(slot.param):
        return True
    if is_exact(slot.grad) and is_negated(slot.grad):
        return True
    for s in range(INSTEP_MAX_STATES):
        if slot.state[s] is not NULL and is_exact(slot.state[s]) and is_negated(slot.state[s]):
            return True
    return False


cdef inline bint any_is_inference(const Slot *slot) except -1:
    """Is anything that is written a tensor which torch writes under `torch.inference_mode()` only?"""
    cdef Py_ssize_t s
    if is_exact(slot.param) and is_inference(slot.param):
        return True
    for s in range(COUNT + 1):
        if slot.state[s] is not NULL and is_exact(slot.state[s]) and is_inference(slot.state[s]):
            return True
    return False


cdef inline PyObject *is_next(object states, Py_ssize_t *place, PyObject *param) noexcept:
    """The state of a parameter if it stands next: the order of both is the same where nobody has changed it."""
    cdef Py_ssize_t after = place[0]
    cdef PyObject *key = NULL
    cdef PyObject *value = NULL
    if PyDict_Next(states, &after, &key, &value) and key == param:
        place[0] = after
        return value
    return NULL
