cdef enum:
    BLOCKS_WITH_GIL = 64  # of a step that keeps it: some 10 microseconds
    ELEMENTS_WITH_GIL = 16384  # of a function's array
    BYTES_WITH_GIL = 65536  # of a copy
    FOLD = 1000003  # odd, so that no bit of a shape is lost


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


cdef cnp.ndarray _array(str root, tuple path, object value):
    if not _is_plain(value):
        hint = ""
        if isinstance(value, np.ndarray) or hasattr(value, "__dlpack__") or PyObject_CheckBuffer(value):
            hint = "; pass a plain array over the same memory, such as np.asarray, np.from_dlpack or .numpy() gives"
        elif root == "params" and isinstance(value, numbers.Real) and path and isinstance(path[len(path) - 1], str):
            hint = (
                "; options of some arrays are given beside the params, as in "
                f"groups={{'*/bias': {{{path[len(path) - 1]!r:.80}: {value!r:.80}}}}}"
            )
        raise TypeError(f"{_spell(root, path)} must be a numpy.ndarray, not {_type_name(value)}{hint}")
    return value


cdef int _check_written(str root, tuple path, cnp.ndarray array) except -1:
    """What is written, and is right by itself but for its dtype."""
    if not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(
            f"{_spell(root, path)} must be in the machine's byte order: {(<object>array).dtype} is swapped"
        )
    if not cnp.PyArray_ISWRITEABLE(array):
        raise ValueError(f"{_spell(root, path)} is read-only and cannot be updated in place")
    if not (cnp.PyArray_IS_C_CONTIGUOUS(array) or cnp.PyArray_IS_F_CONTIGUOUS(array)):
        raise ValueError(
            f"{_spell(root, path)} is not contiguous "
            f"(shape {(<object>array).shape}, strides {(<object>array).strides}): step on its base array, "
            "or on a contiguous copy that you write back"
        )
    if _is_mapped(array):
        _check_mapped(root, path, array)
    return 0


cdef int _check_numbers(str root, tuple path, cnp.ndarray array) except -1:
    """A parameter or a state of a function: float32 or float64."""
    if cnp.PyArray_TYPE(array) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        raise TypeError(f"{_spell(root, path)} must be float32 or float64, not {(<object>array).dtype}")
    return _check_written(root, path, array)


cdef int _check_param(str root, tuple path, cnp.ndarray array) except -1:
    """A parameter of an optimizer."""
    seldom()
    if cnp.PyArray_ISNOTSWAPPED(array) and _param_format(array) == NO_FORMAT:
        hint = ""
        if (<object>array).dtype == "V2":  # what numpy.savez makes of it
            hint = f"; if NumPy saved it as a bfloat16, pass {_spell(root, path)}.view(ml_dtypes.bfloat16)"
        raise TypeError(
            f"{_spell(root, path)} must be float32, float64, float16 or bfloat16, not {(<object>array).dtype}{hint}"
        )
    return _check_written(root, path, array)


cdef int _check_mapped(str root, tuple path, cnp.ndarray array) except -1:
    """A page of a map past the end of its file is a SIGBUS, not an exception: look before the first touch."""
    seldom()
    if array.filename is None:
        return 0
    owner = array
    while isinstance(owner.base, MEMMAP):
        owner = owner.base
    try:
        size = os.path.getsize(owner.filename)
    except OSError as error:
        if error.errno is None:  # from a signal handler, such as a TimeoutError
            raise
        return 0  # renamed or removed: the map has what it had
    if size < owner.offset + owner.nbytes:
        raise ValueError(
            f"{_spell(root, path)} maps past the end of {os.fspath(owner.filename)!r}, which has been truncated"
        )
    return 0


cdef int _check_maps_apart(str root, list paths, list arrays) except -1:
    """Two maps of one file have memory in common that their addresses do not show.

    One that is private, of the mode "c", has it until it is written.  Two of them never see each other.
    """
    cdef list places = []
    cdef Py_ssize_t k
    cdef bint is_private
    for k in range(len(arrays)):
        if not _is_mapped(arrays[k]) or arrays[k].filename is None or not arrays[k].size:
            continue
        owner = arrays[k]
        while isinstance(owner.base, MEMMAP):
            owner = owner.base
        try:
            file = os.stat(owner.filename)
        except OSError as error:
            if error.errno is None:
                raise
            continue  # renamed or removed
        start = owner.offset + (_start(arrays[k]) - _start(owner))
        places.append(((file.st_dev, file.st_ino), start, start + arrays[k].nbytes, k))
    places.sort()
    file = None
    for place in places:
        if place[0] != file:
            file = place[0]
            furthest = {False: (0, 0), True: (0, 0)}  # the end of what is shared and private so far, and whose it is
        k = place[3]
        is_private = arrays[k].mode == "c"
        for others_are_private in (False, True):
            end, other = furthest[others_are_private]
            if place[1] < end and not (is_private and others_are_private):
                raise ValueError(
                    f"{_spell(root, paths[k])} overlaps {_spell(root, paths[other])} in "
                    f"{os.fspath(arrays[k].filename)!r}, which both of them map"
                )
        furthest[is_private] = max(furthest[is_private], (place[2], k))
    return 0


cdef int _check_partner(str root, tuple path, cnp.ndarray array, cnp.ndarray param) except -1:
    """A gradient of a function has the shape and dtype of its parameter."""
    if not _same_shape(array, param):
        raise ValueError(f"{_spell(root, path)} has shape {(<object>array).shape}, expected {(<object>param).shape}")
    if cnp.PyArray_TYPE(array) != cnp.PyArray_TYPE(param) or not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(
            f"{_spell(root, path)} has dtype {(<object>array).dtype}, expected {(<object>param).dtype}: "
            + _how_to_convert(root, path, array, str((<object>param).dtype))
        )
    return 0


cdef str _how_to_convert(str root, tuple path, cnp.ndarray grad, str expected):
    seldom()
    if cnp.PyArray_ISCOMPLEX(grad):
        return f"pass its real part, {_spell(root, path)}.real.astype(np.{expected}), if the rest is to be dropped"
    hint = f"pass {_spell(root, path)}.astype(np.{expected})"
    if cnp.PyArray_ISNOTSWAPPED(grad) and cnp.PyArray_TYPE(grad) in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        hint += f", or make the parameter {(<object>grad).dtype}"
    return hint


cdef int _check_state(str root, tuple path, cnp.ndarray array, cnp.ndarray param, tuple form) except -1:
    """A state array is as its form says: of its dtype, and flat or laid out as its parameter."""
    if (<object>array).shape != form[1]:
        raise ValueError(f"{_spell(root, path)} has shape {(<object>array).shape}, expected {form[1]}")
    if (<object>array).dtype != form[0]:
        raise TypeError(
            f"{_spell(root, path)} has dtype {(<object>array).dtype}, expected {form[0]}: make it with that dtype"
        )
    _check_written(root, path, array)
    if form[1] == (<object>param).shape and not _same_layout(array, param):
        raise ValueError(
            f"{_spell(root, path)} must have the memory layout of its parameter (strides {(<object>param).strides})"
        )
    return 0


cdef int _check_grad(str root, tuple path, cnp.ndarray array, cnp.ndarray param, int dtype) except -1:
    """The format of a gradient, which has the shape of its parameter and no more bits than its arithmetic."""
    cdef int format
    if not _same_shape(array, param):
        raise ValueError(f"{_spell(root, path)} has shape {(<object>array).shape}, expected {(<object>param).shape}")
    format = _format_beside(array, dtype)
    if format == NO_FORMAT:
        expected = "float64" if dtype == INSTEP_FLOAT64 else "float32"
        raise TypeError(
            f"{_spell(root, path)} has dtype {(<object>array).dtype}, expected {expected} or a float of fewer bits: "
            f"{_how_to_convert(root, path, array, expected)}"
        )
    return format


cdef object _grad_in_layout(str root, tuple path, object grad, cnp.ndarray param):
    """The gradient if it can be walked with the parameter, a copy of it in that layout otherwise."""
    array = _array(root, path, grad)
    if _is_mapped(array):
        _check_mapped(root, path, array)
    if _same_layout(array, param):
        return array
    return _copied(array, not cnp.PyArray_IS_C_CONTIGUOUS(param))


cdef cnp.ndarray _copied(cnp.ndarray array, bint in_fortran_order):
    cdef int k, last = cnp.PyArray_NDIM(array) - 1
    cdef cnp.npy_intp shape[INSTEP_MAX_DIMS]
    cdef cnp.npy_intp strides[INSTEP_MAX_DIMS]
    cdef cnp.ndarray copy = cnp.PyArray_EMPTY(
        last + 1, cnp.PyArray_DIMS(array), cnp.PyArray_TYPE(array), in_fortran_order
    )
    cdef void *to = cnp.PyArray_DATA(copy)
    cdef const void *source = cnp.PyArray_DATA(array)
    cdef size_t width = cnp.PyArray_ITEMSIZE(array)
    for k in range(last + 1):
        shape[k] = cnp.PyArray_DIMS(array)[last - k if in_fortran_order else k]
        strides[k] = cnp.PyArray_STRIDES(array)[last - k if in_fortran_order else k]
    if <size_t>cnp.PyArray_NBYTES(copy) < BYTES_WITH_GIL:
        instep_copy(to, source, width, last + 1, shape, strides)
    else:
        with nogil:
            instep_copy(to, source, width, last + 1, shape, strides)
    return copy


cdef struct Watched:
    # An array as it was checked, for NumPy lets anyone change it in place.
    PyArrayObject *array
    const void *data
    size_t size
    size_t folded  # its shape, by `_folded`
    int dimensions
    void *dtype
    int flags  # that it must have


cdef inline size_t _folded(const cnp.npy_intp *shape, int dimensions) noexcept nogil:
    """A number that tells shapes of as many dimensions and elements apart: for sure where there are two, or one."""
    cdef size_t folded = 0
    cdef int d
    if dimensions == 1 or dimensions == 2:
        return shape[0]
    for d in range(dimensions):
        folded = (folded + <size_t>shape[d]) * FOLD
    return folded


cdef inline uintptr_t _differences(const Watched *watched, Py_ssize_t count) noexcept:
    """0 if all the arrays are what they were; if not, they are to be looked at more closely.

    With few branches, for this comes before every bound step.
    """
    cdef uintptr_t found = 0
    cdef size_t size
    cdef PyArrayObject *now
    cdef const cnp.npy_intp *shape
    cdef int dimensions, d
    cdef Py_ssize_t k
    for k in range(count):
        now = watched[k].array
        shape = shape_of(now)
        dimensions = dimensions_of(now)
        if dimensions == 1:
            size = shape[0]
        elif dimensions == 2:
            size = <size_t>shape[0] * <size_t>shape[1]
        else:
            size = 1
            for d in range(dimensions):
                size *= <size_t>shape[d]
        found |= (
            (<uintptr_t>data_of(now) ^ <uintptr_t>watched[k].data)
            | (<uintptr_t>dtype_of(now) ^ <uintptr_t>watched[k].dtype)
            | (size ^ watched[k].size)
            | (_folded(shape, dimensions) ^ watched[k].folded)
            | <uintptr_t>(dimensions ^ watched[k].dimensions)
            | <uintptr_t>(~flags_of(now) & watched[k].flags)
        )
    return found


cdef int _check_watched(str root, tuple path, const Watched *watched, int flags) except -1:
    """Refuse an array that is not what it was, or has not these of the flags that it must have."""
    seldom()
    array = <object>watched.array
    if ~flags_of(watched.array) & flags & cnp.NPY_ARRAY_WRITEABLE:
        raise ValueError(f"{_spell(root, path)} has become read-only and cannot be updated in place")
    if array.dtype != <object>watched.dtype:
        how = f"its dtype is {array.dtype!r}"
    elif (
        array.size != watched.size
        or dimensions_of(watched.array) != watched.dimensions
        or _folded(shape_of(watched.array), watched.dimensions) != watched.folded
    ):
        how = f"its shape is {array.shape}"
    elif data_of(watched.array) != watched.data:
        how = "it is elsewhere in memory"
    elif ~flags_of(watched.array) & flags:
        how = f"its strides are {array.strides}"
    else:
        return 0
    raise ValueError(f"{_spell(root, path)} is not what it was when it was checked: {how} now")


cdef inline uintptr_t _start(cnp.ndarray array):
    return <uintptr_t>cnp.PyArray_DATA(array)


cdef inline uintptr_t _end(cnp.ndarray array):
    return _start(array) + cnp.PyArray_NBYTES(array)


cdef inline int _numpy_type(uint32_t dtype):
    return cnp.NPY_FLOAT32 if dtype == INSTEP_FLOAT32 else cnp.NPY_FLOAT64


cdef inline int _kernel_dtype(cnp.ndarray array):
    return INSTEP_FLOAT32 if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32 else INSTEP_FLOAT64
