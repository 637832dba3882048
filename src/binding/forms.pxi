# How arrays are stored: in the type of the arithmetic, or in fewer bits.

cdef int BFLOAT16_TYPE = -1  # the number that NumPy gave it, once one has been met


cdef inline bint _is_bfloat16(cnp.ndarray array):
    """Of the dtype that ml_dtypes defines, as JAX and others use it."""
    global BFLOAT16_TYPE
    cdef int number = cnp.PyArray_TYPE(array)
    if number == BFLOAT16_TYPE:
        return True
    if number < NPY_USERDEF or (<object>array).dtype.name != "bfloat16":
        return False
    BFLOAT16_TYPE = number
    return True


cdef int _format_beside(cnp.ndarray array, int dtype) except -1:
    """The format of an array that meets the arithmetic of `dtype`; NO_FORMAT if it is none."""
    cdef int number = cnp.PyArray_TYPE(array)
    if not cnp.PyArray_ISNOTSWAPPED(array):
        return NO_FORMAT
    if number == _numpy_type(dtype):
        return INSTEP_AS_COMPUTED
    if number == cnp.NPY_FLOAT32:
        return INSTEP_FLOAT
    if number == cnp.NPY_FLOAT16:
        return INSTEP_FLOAT16
    return INSTEP_BFLOAT16 if _is_bfloat16(array) else NO_FORMAT


cdef int _param_format(cnp.ndarray array) except -1:
    """The format of a parameter: 16 bits meet the arithmetic of float32."""
    if cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT64:
        return _format_beside(array, INSTEP_FLOAT64)
    return _format_beside(array, INSTEP_FLOAT32)


def import_bfloat16():
    """Let NumPy know the dtype."""
    try:
        import ml_dtypes  # noqa: F401
    except ImportError:
        raise ImportError("NumPy has no bfloat16 of its own: pip install ml_dtypes") from None


cdef bint _is_none_or_among(value, tuple names) except -1:
    """What is no string may compare in a way of its own, as an array does."""
    return value is None or (isinstance(value, str) and value in names)


@cython.final
cdef class Storage:
    """What an optimizer keeps of its arrays, and in which form, beside what its options say."""

    cdef readonly object state_dtype
    cdef readonly object master

    def __cinit__(self, state_dtype=None, master=None):
        seldom()
        if not _is_none_or_among(state_dtype, ("bfloat16", "8bit")):
            raise ValueError(f"state_dtype={state_dtype!r:.80} must be None, 'bfloat16' or '8bit'")
        if not _is_none_or_among(master, ("split", "float32")):
            raise ValueError(f"master={master!r:.80} must be None, 'split' or 'float32'")
        if state_dtype == "bfloat16":
            import_bfloat16()
        self.state_dtype = state_dtype
        self.master = master

    def values(self):
        """Both by name."""
        return {"state_dtype": self.state_dtype, "master": self.master}

    def check(self, list leaves, list paths, /):
        """Refuse parameters that cannot be kept so."""
        seldom()
        cdef Py_ssize_t k
        for k in range(len(leaves)):
            if self.state_dtype is not None and cnp.PyArray_TYPE(leaves[k]) == cnp.NPY_FLOAT64:
                raise ValueError(
                    f"state_dtype={self.state_dtype!r} goes with the arithmetic of float32, and "
                    f"{_spell('params', paths[k])} is float64"
                )
            if self.master == "split" and _param_format(leaves[k]) == INSTEP_FLOAT16:
                raise ValueError(
                    f"master='split' keeps the other half of a bfloat16, and {_spell('params', paths[k])} is float16: "
                    "use master='float32'"
                )

    def names(self, Options options, /):
        """Every state array by name: those of the rule, the average, the masters, the last steps of the rows."""
        seldom()
        found = list(options.states)
        if self.master is not None:
            found.append("param_low" if self.master == "split" else "param_master")
        if options.sets("exact_rows"):
            found.append("row_steps")
        return found

    cdef int check_options(self, Options options) except -1:
        """Refuse options that do not go with the form of the states."""
        if self.state_dtype is not None and options.sets("exact_rows"):
            raise ValueError(
                f"exact_rows=True goes with averages that are not rounded at random in every step, and not with "
                f"state_dtype={self.state_dtype!r}"
            )
        return 0

    cdef int format_of(self, Options options, str name) except -1:
        """The format of a state array."""
        seldom()
        if name == "param_avg" or name == "param_low" or name == "param_master" or self.state_dtype is None:
            return INSTEP_AS_COMPUTED
        if self.state_dtype == "bfloat16":
            return INSTEP_BFLOAT16
        return INSTEP_BYTE if name in options.never_negative else INSTEP_SIGNED_BYTE

    cdef tuple form(self, Options options, str name, cnp.ndarray param):
        """The dtype of a state array, and its shape, which is that of the parameter or a flat one."""
        seldom()
        cdef Py_ssize_t size = cnp.PyArray_SIZE(param)
        cdef int format
        if name == "param_low" or name == "param_master":
            if _param_format(param) == INSTEP_AS_COMPUTED:  # which is its own master
                return np.dtype(np.float32 if name == "param_master" else np.uint16), (0,)
            return np.dtype(np.float32 if name == "param_master" else np.uint16), (<object>param).shape
        if name == "row_steps":
            has_rows = cnp.PyArray_NDIM(param) > 1 and cnp.PyArray_IS_C_CONTIGUOUS(param)
            return np.dtype(np.int64), (len(param) if has_rows else 0,)
        format = self.format_of(options, name)
        if format == INSTEP_BYTE or format == INSTEP_SIGNED_BYTE:
            return (
                np.dtype(np.uint8 if format == INSTEP_BYTE else np.int8),
                (size + (size + BYTES_WITH_ONE_EXPONENT - 1) // BYTES_WITH_ONE_EXPONENT,),
            )
        if format == INSTEP_BFLOAT16:
            return np.dtype("bfloat16"), (<object>param).shape
        return (
            np.dtype(np.float64 if cnp.PyArray_TYPE(param) == cnp.NPY_FLOAT64 else np.float32),
            (<object>param).shape,
        )

    def start(self, Options options, str name, param, /):
        """A state array as it starts."""
        seldom()
        from . import storage

        dtype, shape = self.form(options, name, param)
        if name == "param_low" or name == "row_steps":
            return storage.zeros_like(param, dtype, shape)
        if name == "param_master" or name == "param_avg":
            return storage.numbers_like(param, dtype, shape)
        value = options.states[name]
        if dtype in (np.uint8, np.int8):
            return storage.bytes_of(value, np.size(param), dtype)
        return np.full_like(param, value, dtype=dtype, subok=False)
