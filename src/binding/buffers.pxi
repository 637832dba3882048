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
        raise TypeError(f"{_spell(root, path)} must be a numpy.ndarray, not {_type_name(value)}{hint}")
    return value


cdef int _check_written(str root, tuple path, cnp.ndarray array) except -1:
    """A parameter or a state: what is right by itself."""
    if cnp.PyArray_TYPE(array) not in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        raise TypeError(f"{_spell(root, path)} must be float32 or float64, not {(<object>array).dtype}")
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


cdef int _check_mapped(str root, tuple path, cnp.ndarray array) except -1:
    """A page of a map past the end of its file is a SIGBUS, not an exception: look before the first touch."""
    if array.filename is None:
        return 0
    owner = array
    while isinstance(owner.base, MEMMAP):
        owner = owner.base
    try:
        size = os.path.getsize(owner.filename)
    except OSError:  # renamed or removed: the map has what it had
        return 0
    if size < owner.offset + owner.nbytes:
        raise ValueError(
            f"{_spell(root, path)} maps past the end of {os.fspath(owner.filename)!r}, which has been truncated"
        )
    return 0


cdef int _check_partner(str root, tuple path, cnp.ndarray array, cnp.ndarray param, bint is_grad) except -1:
    """What goes with a parameter has its shape and dtype."""
    if not _same_shape(array, param):
        raise ValueError(f"{_spell(root, path)} has shape {(<object>array).shape}, expected {(<object>param).shape}")
    if cnp.PyArray_TYPE(array) != cnp.PyArray_TYPE(param) or not cnp.PyArray_ISNOTSWAPPED(array):
        raise TypeError(
            f"{_spell(root, path)} has dtype {(<object>array).dtype}, expected {(<object>param).dtype}: "
            + (_how_to_convert(root, path, array, param) if is_grad else "make it with the dtype of its parameter")
        )
    return 0


cdef str _how_to_convert(str root, tuple path, cnp.ndarray grad, cnp.ndarray param):
    expected = (<object>param).dtype
    hint = f"pass {_spell(root, path)}.astype(np.{expected})"
    if cnp.PyArray_ISNOTSWAPPED(grad) and cnp.PyArray_TYPE(grad) in (cnp.NPY_FLOAT32, cnp.NPY_FLOAT64):
        hint += f", or make the parameter {(<object>grad).dtype}"
    return hint


cdef int _check_state(str root, tuple path, cnp.ndarray array, cnp.ndarray param) except -1:
    _check_written(root, path, array)
    _check_partner(root, path, array, param, False)
    if not _same_layout(array, param):
        raise ValueError(
            f"{_spell(root, path)} must have the memory layout of its parameter (strides {(<object>param).strides})"
        )
    return 0


cdef object _grad_in_layout(str root, tuple path, object grad, cnp.ndarray param):
    """The gradient if it can be walked with the parameter, a copy of it in that layout otherwise."""
    array = _array(root, path, grad)
    _check_partner(root, path, array, param, True)
    if _is_mapped(array):
        _check_mapped(root, path, array)
    if _same_layout(array, param):
        return array
    return np.array(array, order="C" if cnp.PyArray_IS_C_CONTIGUOUS(param) else "F", copy=True, subok=False)


cdef struct Known:
    # What an array must be, beside its address: NumPy lets anyone change it in place.
    size_t size
    void *dtype
    int flags


# Of the dtypes as `instep_dtype` counts them; others may mean the same.
cdef void *_DTYPES[2]
_DTYPES[:] = [<void *>np.dtype(np.float32), <void *>np.dtype(np.float64)]  # which live as long as NumPy


cdef inline uintptr_t _difference(PyObject *array, const void *data, const Known *known) noexcept:
    """0 if the array is what it was; if not, it is to be looked at more closely.

    Without branches, for this comes before every bound step, for each of its arrays.
    """
    cdef PyArrayObject *now = <PyArrayObject *>array
    cdef size_t size = 1
    cdef int k
    for k in range(dimensions_of(now)):
        size *= <size_t>shape_of(now)[k]
    return (
        (<uintptr_t>data_of(now) ^ <uintptr_t>data)
        | (<uintptr_t>dtype_of(now) ^ <uintptr_t>known.dtype)
        | (size ^ known.size)
        | <uintptr_t>(~flags_of(now) & known.flags)
    )


cdef int _check_known(str root, tuple path, cnp.ndarray array, const void *data, const Known *known) except -1:
    what = _spell(root, path)
    if ~cnp.PyArray_FLAGS(array) & known.flags & cnp.NPY_ARRAY_WRITEABLE:
        raise ValueError(f"{what} has become read-only and cannot be updated in place")
    if (<object>array).dtype != <object>known.dtype:
        how = f"its dtype is {(<object>array).dtype!r}"
    elif (<object>array).size != known.size:
        how = f"its shape is {(<object>array).shape}"
    elif cnp.PyArray_DATA(array) != data:
        how = "it is elsewhere in memory"
    elif ~cnp.PyArray_FLAGS(array) & known.flags:
        how = f"its strides are {(<object>array).strides}"
    else:
        return 0
    raise ValueError(f"{what} is not what it was when it was checked: {how} now")


cdef inline uintptr_t _start(cnp.ndarray array):
    return <uintptr_t>cnp.PyArray_DATA(array)


cdef inline uintptr_t _end(cnp.ndarray array):
    return _start(array) + cnp.PyArray_NBYTES(array)


cdef inline int _kernel_dtype(cnp.ndarray array):
    return INSTEP_FLOAT32 if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32 else INSTEP_FLOAT64
