# What a tensor is, read without its help where torch has what that takes, and from its attributes elsewhere.

# The layouts of DLPack 1.
cdef struct DLTensor:
    void *data
    int32_t device_type
    int32_t device_id
    int32_t ndim
    uint8_t code
    uint8_t bits
    uint16_t lanes
    int64_t *shape
    int64_t *strides
    uint64_t byte_offset

cdef struct ExchangeTable:
    uint32_t major
    uint32_t minor
    ExchangeTable *previous
    void *managed_tensor_allocator
    void *managed_tensor_from_py_object
    void *managed_tensor_to_py_object
    int (*dltensor_from_py_object)(PyObject *tensor, DLTensor *out) noexcept
    void *current_work_stream

cdef enum:
    DL_CPU = 1
    DL_FLOAT = 2
    MOST_DIMS = 16

# A tensor as a step needs it.  Where there is no exchange table, `dims` is what shape and strides point to.
cdef struct View:
    char *data
    uint32_t dtype
    size_t size
    int ndim
    const int64_t *shape
    const int64_t *strides
    int64_t dims[2 * MOST_DIMS]

ctypedef uint8_t (*Question)(const void *tensor) noexcept  # a bool of C++
ctypedef void **(*Counter)(const void *tensor) noexcept  # a pointer by reference
ctypedef void (*Change)(const void *tensor) noexcept

# What torch's own methods and functions call, which take five to ten times as long: Python's arguments, warnings, and
# the GIL, which they let go.
cdef struct Inside:
    Py_ssize_t place  # of C++'s tensor in that of Python
    Question is_neg
    Question is_inference
    Counter version_counter  # NULL in what was made in inference mode, whatever it has become
    Change bump_version  # without a counter it is a C++ exception, which nothing here would catch

cdef ExchangeTable *exchange = NULL
cdef Inside inside

cdef object TENSOR = torch.Tensor
cdef object PARAMETER = torch.nn.Parameter
cdef object STRIDED = torch.strided
cdef dict DTYPES = {torch.float32: INSTEP_FLOAT32, torch.float64: INSTEP_FLOAT64}
cdef object INCREMENT_VERSION = torch.autograd.graph.increment_version


cdef ExchangeTable *exchange_table() except? NULL:
    """DLPack's, if torch has one."""
    cdef ExchangeTable *found = NULL
    capsule = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if type(capsule).__name__ == "PyCapsule":
        found = <ExchangeTable *>PyCapsule_GetPointer(capsule, "dlpack_exchange_api")
        while found is not NULL and found.major != 1:
            found = found.previous
    return found if found is not NULL and found.dltensor_from_py_object is not NULL else NULL


cdef Py_ssize_t place_inside(object tensor) except -1:
    """Where a tensor of Python's has that of C++, which is but the address that `_cdata` tells; 0 if it is unknown."""
    cdef Py_ssize_t place = sizeof(PyObject)
    cdef uintptr_t address = tensor._cdata
    while place + <Py_ssize_t>sizeof(uintptr_t) <= type(tensor).__basicsize__:
        if (<uintptr_t *>(<char *><PyObject *>tensor + place))[0] == address:
            return place
        place += sizeof(uintptr_t)
    return 0


cdef Inside look_inside() except *:
    """What does as torch's methods do, tried on tensors; empty where anything is not as it is known to be."""
    cdef Inside found, nothing
    cdef list addresses = []
    memset(&nothing, 0, sizeof(Inside))
    try:
        library = ctypes.CDLL(torch._C.__file__)
        for name in (
            "_ZN2at6native6is_negERKNS_6TensorE",
            "_ZN2at6native12is_inferenceERKNS_6TensorE",
            "_ZN5torch8autograd4impl15version_counterERKN2at6TensorE",
            "_ZN5torch8autograd4impl12bump_versionERKN2at6TensorE",
        ):
            addresses.append(ctypes.cast(library[name], ctypes.c_void_p).value)
    except (AttributeError, OSError):
        return nothing
    with torch.inference_mode(False):
        plain = torch.zeros(1)
        negated = plain._neg_view()
    with torch.inference_mode():
        made_there = torch.zeros(1)
    found.place = place_inside(plain)
    for other in (negated, made_there, PARAMETER(plain)):
        if found.place == 0 or place_inside(other) != found.place:
            return nothing
    found.is_neg = <Question><uintptr_t>addresses[0]
    found.is_inference = <Question><uintptr_t>addresses[1]
    found.version_counter = <Counter><uintptr_t>addresses[2]
    found.bump_version = <Change><uintptr_t>addresses[3]
    if found.version_counter(<char *><PyObject *>made_there + found.place)[0] is not NULL:
        return nothing
    if found.version_counter(<char *><PyObject *>plain + found.place)[0] is NULL:
        return nothing
    before = plain._version
    found.bump_version(<char *><PyObject *>plain + found.place)
    for one in (plain, negated, made_there):
        if found.is_neg(<char *><PyObject *>one + found.place) != one.is_neg():
            return nothing
        if found.is_inference(<char *><PyObject *>one + found.place) != one.is_inference():
            return nothing
    return found if plain._version == before + 1 else nothing


def read_within(bint table, bint functions):
    """Read tensors by DLPack's exchange table and by torch's functions in C++, where there are such and it is wanted.

    Returns whether the one and the other are used.
    """
    global exchange, inside
    exchange = exchange_table() if table else NULL
    memset(&inside, 0, sizeof(Inside))
    if functions:
        inside = look_inside()
    return exchange is not NULL, inside.place != 0


read_within(True, True)


cdef inline bint is_exact(PyObject *tensor) noexcept:
    """A tensor of torch's own, of which nobody has changed what an operation on it does."""
    return Py_TYPE(tensor) == <PyTypeObject *>TENSOR or Py_TYPE(tensor) == <PyTypeObject *>PARAMETER


# The gradient, as torch's C has it: the way there takes a third of the time.
cdef PyGetSetDef *GRAD = NULL
if type(TENSOR.grad) is GetSetDescriptorType:
    GRAD = (<PyGetSetDescrObject *>TENSOR.grad).d_getset


cdef inline object gradient_of(PyObject *tensor):
    if GRAD is not NULL and is_exact(tensor):
        return GRAD.get(tensor, GRAD.closure)
    return (<object>tensor).grad


cdef inline bint is_negated(PyObject *tensor) except -1:
    """Its memory holds the negative of its values; of an exact tensor."""
    if inside.place != 0:
        return inside.is_neg(<char *>tensor + inside.place) != 0
    return (<object>tensor).is_neg()


cdef inline bint is_inference(PyObject *tensor) except -1:
    """torch writes it under `torch.inference_mode()` only; of an exact tensor."""
    if inside.place != 0:
        return inside.is_inference(<char *>tensor + inside.place) != 0
    return (<object>tensor).is_inference()


cdef inline int count_write(PyObject *tensor) except -1:
    """Tell autograd that it is written, or raise torch's exception."""
    cdef char *within = <char *>tensor + inside.place
    if inside.place != 0 and is_exact(tensor) and inside.version_counter(within)[0] is not NULL:
        inside.bump_version(within)
        return 0
    INCREMENT_VERSION(<object>tensor)
    return 0


cdef inline bint look_at(PyObject *tensor, View *view) except -1:
    """Whether it is dense memory of this processor, of a type that there are kernels for: then `view` says where."""
    cdef DLTensor found
    cdef int k
    if exchange is NULL:
        return look_at_attributes(<object>tensor, view)
    if exchange.dltensor_from_py_object(tensor, &found) != 0:
        PyErr_Clear()
        return False
    if found.device_type != DL_CPU or found.code != DL_FLOAT or found.lanes != 1 or found.ndim > MOST_DIMS:
        return False
    if found.bits == 32:
        view.dtype = INSTEP_FLOAT32
    elif found.bits == 64:
        view.dtype = INSTEP_FLOAT64
    else:
        return False
    view.data = <char *>found.data + found.byte_offset
    view.ndim = found.ndim
    view.shape = found.shape
    view.strides = found.strides
    view.size = 1
    for k in range(found.ndim):
        view.size *= <size_t>found.shape[k]
    return (found.data is not NULL or view.size == 0) and (found.strides is not NULL or found.ndim == 0)


cdef bint look_at_attributes(object tensor, View *view) except -1:
    cdef int k = 0
    if tensor.layout is not STRIDED or not tensor.is_cpu or tensor.ndim > MOST_DIMS:
        return False
    dtype = DTYPES.get(tensor.dtype)
    if dtype is None:
        return False
    view.dtype = dtype
    view.ndim = tensor.ndim
    view.shape = view.dims
    view.strides = &view.dims[MOST_DIMS]
    view.size = 1
    for length, stride in zip(tensor.shape, tensor.stride()):
        view.dims[k] = length
        view.dims[MOST_DIMS + k] = stride
        view.size *= <size_t>view.dims[k]
        k += 1
    try:
        view.data = <char *><uintptr_t>tensor.data_ptr()
    except RuntimeError:  # of a tensor that torch.func has wrapped
        return False
    return view.data is not NULL or view.size == 0


cdef inline size_t width(uint32_t dtype) noexcept:
    return 4 if dtype == INSTEP_FLOAT32 else 8


cdef inline bint is_contiguous(const View *view) noexcept:
    cdef int64_t expected = 1
    cdef int k = view.ndim
    while k > 0:
        k -= 1
        if view.shape[k] != 1:
            if view.strides[k] != expected:
                return False
            expected *= view.shape[k]
    return True


cdef bint is_dense(const View *view) noexcept:
    """Its elements fill its memory, in whatever order: as in a transposed or channels_last tensor."""
    cdef int64_t expected = 1
    cdef bint found = True
    cdef int k
    if view.size == 0 or is_contiguous(view):
        return True
    while found and expected != <int64_t>view.size:
        found = False
        for k in range(view.ndim):
            if view.shape[k] != 1 and view.strides[k] == expected:
                expected *= view.shape[k]
                found = True
                break
    return found


cdef inline bint alike(const View *view, const View *other) noexcept:
    """One walk through the memory of both meets the same elements in the same order, if one of them is dense."""
    cdef int k
    if view.ndim != other.ndim or view.dtype != other.dtype:
        return False
    for k in range(view.ndim):
        if view.shape[k] != other.shape[k]:
            return False
        if view.strides[k] != other.strides[k] and view.shape[k] != 1 and view.size != 0:
            return False
    return True


cdef str why_not(str what, object tensor):
    """Why `look_at` does not take it, or None if that is not to be seen from its attributes."""
    if tensor.layout is not STRIDED:
        return f"{what} is {tensor.layout}"
    if tensor.device.type != "cpu":
        return f"{what} is on {tensor.device}"
    if tensor.dtype not in DTYPES:
        return f"{what} is {tensor.dtype}"
    return None
