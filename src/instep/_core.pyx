# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False, freethreading_compatible=True
"""The binding: checks every buffer, releases the GIL, makes one call.  It knows no rule by name."""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.unicode cimport PyUnicode_AsUTF8
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uintptr_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy, strcmp

import numbers
import os
import weakref

import numpy as np

cnp.import_array()

cdef extern from "instep.h":
    enum:
        INSTEP_ABI_VERSION
        INSTEP_OK
        INSTEP_FLOAT32
        INSTEP_FLOAT64
        INSTEP_MAX_OPTIONS
        INSTEP_MAX_STATES
        INSTEP_UNKNOWN_ISA
        INSTEP_UNAVAILABLE_ISA

    ctypedef struct instep_optimizer:
        int64_t step_count
        double option[INSTEP_MAX_OPTIONS]

    ctypedef struct instep_array:
        size_t size
        uint32_t dtype
        void *param
        const void *grad
        void *state[INSTEP_MAX_STATES]
        int64_t step_count

    const char *instep_message(int status)
    const char *instep_rule_name(size_t rule)
    const char *instep_option_name(const instep_optimizer *optimizer, size_t option)
    int instep_option_is_flag(const instep_optimizer *optimizer, size_t option)
    int instep_init(instep_optimizer *optimizer, const char *rule, int abi_version)
    int instep_check(const instep_optimizer *optimizer, int dtype, const char **option)
    size_t instep_state_count(const instep_optimizer *optimizer)
    const char *instep_state_name(const instep_optimizer *optimizer, size_t state)
    double instep_state_start(const instep_optimizer *optimizer, size_t state)
    int instep_step(instep_optimizer *optimizer, instep_array *arrays, size_t count) nogil
    int instep_step_one(instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t index) nogil
    const char *instep_isa_name(size_t isa)
    int instep_isa_available(size_t isa)
    const char *instep_active_isa()
    int instep_set_isa(const char *name)
    int instep_set_threads(int threads)
    int instep_get_threads()

cdef extern from "step.h":
    int instep_plan(const instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t *total)
    void instep_run(
        instep_optimizer *optimizer, instep_array *arrays, size_t count, size_t total, int64_t step_count
    ) nogil

cdef extern from "float_mode.h":
    ctypedef struct float_mode:
        pass
    float_mode float_mode_enter()
    void float_mode_leave(float_mode callers)

cdef extern from "fork_lock.h":
    ctypedef struct instep_lock:
        pass
    bint instep_lock_try(instep_lock *lock) nogil
    bint instep_lock_is_held(instep_lock *lock) nogil
    void instep_lock_wait(instep_lock *lock) nogil
    void instep_lock_release(instep_lock *lock) nogil

cdef extern from "numpy/arrayobject.h":
    ctypedef struct PyArrayObject:
        pass
    bint PyArray_CheckExact(object)
    bint is_writeable "PyArray_ISWRITEABLE"(PyArrayObject *)

cdef extern from "Python.h":
    PyObject *PyList_GET_ITEM(object, Py_ssize_t)

cdef enum:
    DEEPEST_NESTING = 64

cdef object LARGEST_COUNT = 2**63 - 1


# ---- options ----------------------------------------------------------------------------------------------------

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


# ---- arrays -----------------------------------------------------------------------------------------------------

cdef object MEMMAP = np.memmap


cdef inline bint _is_mapped(object array):
    return not PyArray_CheckExact(array) and type(array) is MEMMAP


cdef inline bint _is_plain(object array):
    return PyArray_CheckExact(array) or type(array) is MEMMAP


cdef inline bint _same_shape(cnp.ndarray a, cnp.ndarray b):
    cdef int k
    if cnp.PyArray_NDIM(a) != cnp.PyArray_NDIM(b):
        return False
    for k in range(cnp.PyArray_NDIM(a)):
        if cnp.PyArray_DIMS(a)[k] != cnp.PyArray_DIMS(b)[k]:
            return False
    return True


cdef inline bint _same_layout(cnp.ndarray a, cnp.ndarray b):
    """One walk through the memory of both meets the same elements in the same order."""
    return (cnp.PyArray_IS_C_CONTIGUOUS(a) and cnp.PyArray_IS_C_CONTIGUOUS(b)) or (
        cnp.PyArray_IS_F_CONTIGUOUS(a) and cnp.PyArray_IS_F_CONTIGUOUS(b)
    )


cdef cnp.ndarray _array(str what, object value):
    if not _is_plain(value):
        hint = ""
        if isinstance(value, np.ndarray) or hasattr(value, "__dlpack__") or PyObject_CheckBuffer(value):
            hint = "; pass a plain array over the same memory, such as np.asarray, np.from_dlpack or .numpy() gives"
        raise TypeError(f"{what} must be a numpy.ndarray, not {_type_name(value)}{hint}")
    return value


cdef int _check_written(str what, cnp.ndarray array) except -1:
    """A parameter or a state: what is right by itself."""
    if cnp.PyArray_TYPE(array) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        raise TypeError(f"{what} must be float32 or float64, not {(<object>array).dtype}")
    if not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(f"{what} must be in the machine's byte order: {(<object>array).dtype} is swapped")
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{what} is read-only and cannot be updated in place")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_IS_F_CONTIGUOUS(array)):
        raise ValueError(
            f"{what} is not contiguous (shape {(<object>array).shape}, strides {(<object>array).strides}): "
            "step on its base array, or on a contiguous copy that you write back"
        )
    if _is_mapped(array):
        _check_mapped(what, array)
    return 0


cdef int _check_mapped(str what, cnp.ndarray array) except -1:
    """A page of a map past the end of its file is a SIGBUS, not an exception: look before the first touch."""
    if array.filename is None:
        return 0
    root = array
    while isinstance(root.base, MEMMAP):
        root = root.base
    try:
        size = os.path.getsize(root.filename)
    except OSError:  # renamed or removed: the map has what it had
        return 0
    if size < root.offset + root.nbytes:
        raise ValueError(f"{what} maps past the end of {os.fspath(root.filename)!r}, which has been truncated")
    return 0


cdef int _check_partner(str what, cnp.ndarray array, cnp.ndarray param) except -1:
    """What goes with a parameter has its shape and dtype."""
    if not _same_shape(array, param):
        raise ValueError(f"{what} has shape {(<object>array).shape}, expected {(<object>param).shape}")
    if cnp.PyArray_TYPE(array) != cnp.PyArray_TYPE(param) or not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(f"{what} has dtype {(<object>array).dtype}, expected {(<object>param).dtype}")
    return 0


cdef int _check_state(str what, cnp.ndarray array, cnp.ndarray param) except -1:
    _check_written(what, array)
    _check_partner(what, array, param)
    if not _same_layout(array, param):
        raise ValueError(f"{what} must have the memory layout of its parameter (strides {(<object>param).strides})")
    return 0


cdef object _grad_in_layout(str what, object grad, cnp.ndarray param):
    """The gradient if it can be walked with the parameter, a copy of it in that layout otherwise."""
    array = _array(what, grad)
    _check_partner(what, array, param)
    if _is_mapped(array):
        _check_mapped(what, array)
    if _same_layout(array, param):
        return array
    return np.array(array, order="C" if cnp.PyArray_IS_C_CONTIGUOUS(param) else "F", copy=True, subok=False)


cdef inline uintptr_t _start(cnp.ndarray array):
    return <uintptr_t>cnp.PyArray_DATA(array)


cdef inline uintptr_t _end(cnp.ndarray array):
    return _start(array) + cnp.PyArray_NBYTES(array)


cdef inline int _numpy_type(uint32_t dtype):
    return cnp.NPY_FLOAT32 if dtype == INSTEP_FLOAT32 else cnp.NPY_FLOAT64


cdef inline int _kernel_dtype(cnp.ndarray array):
    return INSTEP_FLOAT32 if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32 else INSTEP_FLOAT64


# ---- one array, the caller owns the state -----------------------------------------------------------------------

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


# ---- many arrays ------------------------------------------------------------------------------------------------

cdef enum:
    LEAF
    SEQUENCE
    MAPPING


@cython.final
cdef class Nest:
    """The shape of a nesting of list, tuple and dict: a leaf, or children with their keys."""

    cdef int kind
    cdef object container
    cdef tuple keys
    cdef tuple children
    cdef Py_ssize_t leaf  # its own number, or that of the first one below
    cdef bint is_flat  # every child is a leaf

    @staticmethod
    def of(value, list leaves, list paths):
        """The shape of `value`; its leaves and their paths are appended to the lists."""
        return Nest.descend(value, leaves, paths, ())

    @staticmethod
    cdef Nest descend(object value, list leaves, list paths, tuple path):
        cdef Nest nest = Nest()
        cdef Nest child
        nest.leaf = len(leaves)
        if len(path) > DEEPEST_NESTING:
            raise ValueError(f"params are nested deeper than {DEEPEST_NESTING} levels")
        if isinstance(value, dict):
            nest.kind = MAPPING
            nest.keys = tuple(value)
            items = tuple(value.values())
        elif isinstance(value, (list, tuple)):
            nest.kind = SEQUENCE
            nest.keys = tuple(range(len(value)))
            items = tuple(value)
        else:
            nest.kind = LEAF
            leaves.append(value)
            paths.append(path)
            return nest
        nest.container = type(value)
        nest.children = tuple([
            Nest.descend(item, leaves, paths, path + (key,)) for key, item in zip(nest.keys, items, strict=True)
        ])
        nest.is_flat = all([child.kind == LEAF for child in nest.children])
        return nest

    def build(self, list leaves):
        """A nesting of this shape with other leaves."""
        cdef Nest child
        if self.kind == LEAF:
            return leaves[self.leaf]
        built = [child.build(leaves) for child in self.children]
        if self.kind == MAPPING:
            return dict(zip(self.keys, built, strict=True))
        if issubclass(self.container, list):
            return built
        return self.container(*built) if hasattr(self.container, "_fields") else tuple(built)


cdef str _spell(str root, tuple path):
    return root + "".join([f"[{key!r}]" for key in path])


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


# ---- instruction sets and threads -------------------------------------------------------------------------------

def isas():
    """The instruction sets compiled in, lowest first, and whether this processor runs them."""
    cdef size_t k = 0
    found = {}
    while instep_isa_name(k) is not NULL:
        found[instep_isa_name(k).decode()] = bool(instep_isa_available(k))
        k += 1
    return found


def active_isa():
    """The instruction set whose loops run."""
    return instep_active_isa().decode()


def set_isa(name):
    """Run the loops of this instruction set; None chooses the highest that this processor runs."""
    if name is None:
        instep_set_isa(NULL)
        return
    cdef bytes encoded = name.encode()
    cdef int status = instep_set_isa(encoded)
    if status != INSTEP_OK:
        available = ", ".join([isa for isa, runs in isas().items() if runs])
        raise ValueError(f"instruction set {name!r}: {instep_message(status).decode()}; choose one of {available}")


def get_num_threads():
    """How many threads a large step may use, the caller's included.

    Returns
    -------
    int
        What was set last by `set_num_threads` or ``INSTEP_NUM_THREADS``; by default the number of processors that
        affinity and control groups leave to this process.
    """
    return instep_get_threads()


def set_num_threads(threads):
    """Set how many threads a large step may use, for the whole process.

    The bits of a step do not depend on it.  A small step uses the caller's thread whatever the number, and on Windows
    every step does.

    Parameters
    ----------
    threads : int or None
        From 1 to 256, the caller's thread included; None asks for the default.

    Raises
    ------
    TypeError, ValueError
        `threads` is not such a number.
    """
    if threads is None:
        instep_set_threads(0)
        return
    if isinstance(threads, bool) or not isinstance(threads, numbers.Integral):
        raise TypeError(f"threads must be an integer or None, not {threads!r}")
    if not 1 <= threads <= 256:
        raise ValueError(f"threads={threads} must be from 1 to 256")
    cdef int status = instep_set_threads(threads)
    if status != INSTEP_OK:
        raise ValueError(f"threads={threads}: {instep_message(status).decode()}")


# ---- arithmetic in Python ---------------------------------------------------------------------------------------

@cython.final
cdef class FloatMode:
    """IEEE's default floating-point mode inside, in the thread that enters it; the caller's as it was outside."""

    cdef float_mode callers

    def __enter__(self):
        self.callers = float_mode_enter()

    def __exit__(self, *exception):
        float_mode_leave(self.callers)


# ---- for other compiled modules ---------------------------------------------------------------------------------

cdef extern from "capsules.h":
    object instep_capsule()
    object instep_cython_functions()

C_API = instep_capsule()
__pyx_capi__ = instep_cython_functions()
