@cython.final
cdef class Rows:
    """Rows(indices, values)\n--\n
    A gradient of some rows of a parameter, as embeddings give: all others are left alone, and not looked at.

    Parameters
    ----------
    indices : numpy.ndarray
        Which rows, along the first axis of the parameter: integers from 0 on, of one dimension, in any order.  Where
        one stands several times, its values are added up, in the order in which they come.
    values : numpy.ndarray
        Their gradients: of the shape ``(len(indices), *param.shape[1:])``, and of a dtype that a gradient may have.

    Notes
    -----
    Sums are formed in the type of the arithmetic, the same for any number of threads: see `instep.storage.summed`.

    A row that is not named waits: its averages do not decay, its momentum does not move it, and weight decay does not
    shrink it.  That is what TensorFlow 1 and ``torch.optim.SparseAdam`` do.  With `exact_rows` its averages catch up
    when it is named again.  Without it, the corrections of the bias go by the step count of the array: a row that was
    named rarely is corrected as if it had been named in every step.

    Examples
    --------
    >>> import numpy as np, instep
    >>> table = np.zeros((5, 2))
    >>> opt = instep.SGD(table, lr=1.0)
    >>> opt.step(instep.Rows(np.array([3, 0, 3]), np.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])))
    >>> table[[0, 3]]
    array([[ 0., -2.],
           [-2., -1.]])
    """

    cdef cnp.ndarray _indices
    cdef cnp.ndarray _values

    def __init__(self, indices, values):
        if self._indices is not None:
            raise TypeError("Rows are made once; make others")
        self._indices = _array("indices", (), indices)
        self._values = _array("values", (), values)
        if not cnp.PyArray_ISINTEGER(self._indices):
            raise TypeError(f"indices must be integers, not {(<object>self._indices).dtype}")
        if cnp.PyArray_NDIM(self._indices) != 1:
            raise ValueError(f"indices must have one dimension, not the shape {(<object>self._indices).shape}")
        if cnp.PyArray_NDIM(self._values) == 0 or len(self._values) != len(self._indices):
            raise ValueError(
                f"values must have a row for each of the {len(self._indices)} indices, not the shape "
                f"{(<object>self._values).shape}"
            )

    @property
    def indices(self):
        """The indices that were given."""
        return self._indices

    @property
    def values(self):
        """The gradients that were given, a row for each of the indices."""
        return self._values

    def __repr__(self):
        return f"Rows({len(self._indices)} of the shape {(<object>self._values).shape[1:]})"

    def __reduce__(self):
        return Rows, (self._indices, self._values)


cdef Rows _fit_rows(Rows given, str root, tuple path, cnp.ndarray param, int dtype):
    """The given rows in ascending order, each once, for this parameter."""
    seldom()
    cdef cnp.ndarray indices, values
    cdef Rows found
    cdef const int64_t *index
    cdef Py_ssize_t k, count
    cdef int64_t least = INT64_MAX, most = -1
    cdef bint ascends = True
    for array in (given._indices, given._values):
        if _is_mapped(array):
            _check_mapped(root, path, array)
    if not cnp.PyArray_ISINTEGER(given._indices) or cnp.PyArray_NDIM(given._indices) != 1:
        raise TypeError(
            f"{_spell(root, path)} has indices of dtype {(<object>given._indices).dtype} and shape "
            f"{(<object>given._indices).shape} now, expected integers of one dimension"
        )
    indices = np.array(given._indices, np.int64)  # of its own: what is checked is what is stepped
    count = len(indices)
    if cnp.PyArray_NDIM(param) < 2 or not cnp.PyArray_IS_C_CONTIGUOUS(param):
        raise ValueError(
            f"{_spell(root, path)} is of rows, and its parameter must have two dimensions or more, in C order"
        )
    if (<object>given._values).shape[1:] != (<object>param).shape[1:]:
        raise ValueError(
            f"{_spell(root, path)} has rows of the shape {(<object>given._values).shape[1:]}, expected "
            f"{(<object>param).shape[1:]}"
        )
    if len(given._values) != count:
        raise ValueError(f"{_spell(root, path)} has {len(given._values)} rows now, and {count} indices")
    if _format_beside(given._values, dtype) == NO_FORMAT:
        raise TypeError(
            f"{_spell(root, path)} has values of dtype {(<object>given._values).dtype}, expected "
            f"{'float64' if dtype == INSTEP_FLOAT64 else 'float32'} or a float of fewer bits"
        )
    values = np.ascontiguousarray(given._values)
    found = Rows.__new__(Rows)
    found._indices, found._values = indices, values
    index = <const int64_t *>cnp.PyArray_DATA(indices)
    for k in range(count):
        least, most = min(least, index[k]), max(most, index[k])
        ascends = ascends and (k == 0 or index[k - 1] < index[k])
    if count and (least < 0 or most >= len(param)):
        raise _bad_indices(given._indices, root, path, len(param))
    if not ascends:
        _sum_rows(found, dtype, most)
    return found


cdef object _bad_indices(cnp.ndarray indices, str root, tuple path, Py_ssize_t rows):
    """As they were given: those of uint64 may be more than an int64 holds."""
    found = f"{_spell(root, path)} has indices from {indices.min()} to {indices.max()}"
    if rows == 0:
        return IndexError(f"{found}, and its parameter has no row")
    return IndexError(f"{found}, expected them from 0 to {rows - 1}")


cdef int _sum_rows(Rows rows, int dtype, int64_t last) except -1:
    """Put them in ascending order, each once: first come, first added."""
    cdef instep_row_order order
    cdef cnp.ndarray values
    cdef const int64_t *indices = <const int64_t *>cnp.PyArray_DATA(rows._indices)
    cdef const void *source = cnp.PyArray_DATA(rows._values)
    cdef int64_t *index
    cdef void *to
    cdef size_t k, row_size
    cdef int format = _format_beside(rows._values, dtype)
    order.count = len(rows._indices)
    row_size = cnp.PyArray_SIZE(rows._values) // order.count
    order.given = <instep_placed *>malloc(2 * order.count * sizeof(instep_placed))
    if order.given is NULL:
        raise MemoryError
    try:
        order.room = order.given + order.count
        for k in range(order.count):
            order.given[k].row = indices[k]
            order.given[k].place = k
        instep_order_rows(&order, last)
        held = (<object>rows._values).dtype
        if order.row_count != order.count:  # sums are those of the arithmetic
            held = np.float64 if dtype == INSTEP_FLOAT64 else np.float32
        values = np.empty((order.row_count, *(<object>rows._values).shape[1:]), held)
        rows._indices = np.empty(order.row_count, np.int64)
        index = <int64_t *>cnp.PyArray_DATA(rows._indices)
        for k in range(order.row_count):
            index[k] = order.rows[k].row
        to = cnp.PyArray_DATA(values)
        if <size_t>cnp.PyArray_NBYTES(rows._values) < BYTES_WITH_GIL:
            instep_sum_rows(&order, to, source, dtype, format, row_size)
        else:
            with nogil:
                instep_sum_rows(&order, to, source, dtype, format, row_size)
        rows._values = values
    finally:
        free(order.given)
    return 0
