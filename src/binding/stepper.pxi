cdef class Stepper(Holder):
    """Gradients, checked as they come, and the native call that steps their parameters."""

    cdef Watched *bound_watched
    cdef Py_ssize_t bound_count
    cdef list bound_anchors
    cdef bint bound_in_place
    cdef Py_ssize_t copied  # the last one that had to be
    cdef size_t blocks  # of the step as it was planned
    cdef bint others_ran  # code of the caller's or of another thread, while gradients were checked
    cdef list kept  # the parameters while their averages are in their place
    cdef bint is_to_put_back  # what is kept: the context has been left, or not been entered
    cdef Py_ssize_t place_of_zero_grads, place_of_statistics, place_of_clip_norm

    def __init__(self, Options options, params, Storage storage, dict groups, state=None, step_count=0):
        seldom()
        self.place_of_zero_grads = options.place("zero_grads")
        self.place_of_statistics = options.place("statistics")
        self.place_of_clip_norm = options.place("clip_norm")
        super().__init__(options, params, storage, groups, state, step_count)

    def __dealloc__(self):
        free(self.bound_watched)

    @cython.final
    cdef inline int acquire_to_step(self) except -1:
        self.acquire()
        if self.is_nested():
            self.release()
            raise RuntimeError("a step cannot begin in the middle of a call of its optimizer, in a signal handler say")
        return 0

    def step(self, grads=_ABSENT):
        """Advance the state and move every parameter, in place.

        Parameters
        ----------
        grads : nesting of numpy.ndarray, Rows or None
            In the nesting of the params, each gradient of the shape of its parameter and of its dtype or one of fewer
            bits (float32, float16, bfloat16), which is read exactly but for subnormal numbers of float32 and bfloat16,
            which count as 0; lists and tuples may stand for each other, and a
            subclass of dict is asked for its items, as it is in the params.  Read only, unless `zero_grads` is set.  A
            gradient that is not laid out in memory as its parameter is copied first.  `Rows` are of some rows alone.
            None leaves an array, its state and its count alone.  May be left out after `bind` and after `accumulate`.

        Raises
        ------
        TypeError
            A gradient is not an array or has another dtype; the nesting is another; nothing is given or bound.
        ValueError
            A gradient has another shape, or shares memory with a parameter or state and need not be copied; all of
            them are None; a parameter or state has been made read-only, or been given another dtype, layout or
            memory in place.  In both cases nothing has been written.
        """
        self.acquire_to_step()
        try:
            self.check_not_averaged()
            if self.pending is not None:
                self.show_pending(grads)
            elif grads is _ABSENT:
                self.show_bound()
            else:
                self.bound_in_place = False
                self.collect(self.nest, grads, ())
            self.check_again(0, self.count)
            self.plan()
            self.run()
            self.pending = None
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
            There is no array at `key`, or two: where ``("a", "b")`` is a key, and the keys ``"a"`` and ``"b"`` lead to
            another array.
        TypeError, ValueError
            As for `step`.  Nothing has been written.
        """
        cdef int status
        cdef int64_t step_count
        cdef Py_ssize_t k
        self.acquire_to_step()
        try:
            k = self.place(key)
            self.check_not_averaged()
            if self.pending is not None:
                self.refuse_beside_pending()
            self.bound_in_place = False
            self.planned = False  # for a step of all of them
            if grad is None:
                raise TypeError(f"{_spell('grad', self.paths[k])} must be a numpy.ndarray or Rows, not None")
            self.set_grad("grad", k, grad)
            self.check_again(k, k + 1)
            self.make_norms()
            status = instep_plan(self.optimizers, self.groups, &self.arrays[k], 1, &self.blocks)
            if status != INSTEP_OK:
                raise ValueError(instep_message(status).decode())
            if self.sets(self.place_of_zero_grads):
                self.check_zeroed(k, k + 1)
            step_count = max(self.optimizers.step_count, self.arrays[k].step_count + 1)
            with nogil:
                instep_run(self.optimizers, self.groups, &self.arrays[k], 1, self.blocks, step_count)
        finally:
            self.let_go()
            self.release()

    @cython.final
    cdef Py_ssize_t place(self, object key) except -1:
        """The number of the array at this key."""
        cdef Py_ssize_t k = self.places.get(key, AMBIGUOUS)
        if k == AMBIGUOUS:
            raise self.no_place(key)
        return k

    @cython.final
    cdef object no_place(self, object key):
        seldom()
        cdef list keys = []
        if key in self.places:
            hint = ""
            if self.places[(key,)] != AMBIGUOUS:
                hint = f"; {(key,)!r:.200} is the latter alone"
            return KeyError(
                f"{key!r:.200} is both {_spell('params', tuple(key))} and {_spell('params', (key,))}: "
                f"rename one of the keys{hint}"
            )
        for path in self.paths:
            keys.append(path[0] if len(path) == 1 and self.places[path[0]] != AMBIGUOUS else path)
        return KeyError(f"params has no array at {key!r:.200}; there are {some(keys)}")

    def bind(self, grads):
        """Remember gradient arrays that the trainer fills anew before every step, so that `step()` needs none.

        Parameters
        ----------
        grads : nesting of numpy.ndarray or None
            As for `step`, and laid out in memory as their parameters, for no copy is made.  They are checked here,
            and kept alive.  While they are bound NumPy does not resize them in place; one that was given another
            dtype, layout or memory in place is checked anew by the next step.  ``bind(None)`` forgets them.

        Raises
        ------
        TypeError, ValueError
            As for `step`; also for a gradient of another memory layout.  What was bound before stays bound.
        """
        seldom()
        cdef Py_ssize_t k
        cdef list bound = []
        self.acquire_to_step()
        try:
            self.bound_in_place = False
            if grads is None:
                self.bound = self.bound_anchors = None
                return
            self.copied = -1
            self.collect(self.nest, grads, ())
            self.check_again(0, self.count)
            for k in range(self.count):
                if self.arrays[k].rows is not NULL:
                    raise TypeError(f"{_spell('grads', self.paths[k])} is of rows, which cannot be bound")
            self.plan()
            if self.copied >= 0:
                self.refuse_copied(self.copied)
            for k in range(self.count):
                bound.append(None if self.held[k] is NULL else <object>self.held[k])
            self.watch_bound(bound)
            self.let_go()
            self.bound_in_place = True
        finally:
            self.let_go()
            self.release()

    @cython.final
    cdef int watch_bound(self, list bound) except -1:
        """Keep these gradients, which have been shown."""
        seldom()
        cdef list anchors = []
        cdef Py_ssize_t k, count = 0
        cdef Watched *watched = <Watched *>calloc(self.count, sizeof(Watched))
        if watched is NULL:
            raise MemoryError
        try:
            for k in range(self.count):
                if bound[k] is not None:
                    watched[count] = self.watch(bound[k], 0, anchors)
                    count += 1
            watched, self.bound_watched = self.bound_watched, watched
            self.bound_count = count
            self.bound, self.bound_anchors = bound, anchors
        finally:
            free(watched)
        return 0

    @cython.final
    cdef int show_bound(self) except -1:
        cdef Py_ssize_t k
        cdef int format = INSTEP_AS_COMPUTED
        if self.bound is None:
            raise TypeError("step() without gradients needs bind(grads) first")
        if self.bound_in_place and not (
            _differences(self.bound_watched, self.bound_count)
            or _differences(self.watched, self.count * self.each)
        ):
            return 0
        self.bound_in_place = False
        for k in range(self.count):
            grad = self.bound[k]
            if grad is None:
                self.show(k, NULL, format)
                continue
            array = self.checked("grads", k, grad, &format)
            if array is not grad:
                self.refuse_copied(k)
            self.show(k, cnp.PyArray_DATA(<cnp.ndarray>array), format)
        self.check_again(0, self.count)
        self.watch_bound(self.bound)
        self.bound_in_place = True
        return 0

    @cython.final
    cdef int refuse_copied(self, Py_ssize_t k) except -1:
        raise ValueError(
            f"{_spell('grads', self.paths[k])} is not laid out in memory as its parameter: it would be copied once, "
            "when it is bound, and not at each step; bind a contiguous array"
        )

    @cython.final
    cdef inline void show(self, Py_ssize_t k, const void *grad, int format) noexcept:
        cdef instep_array *array = &self.arrays[k]
        if (array.grad is NULL) != (grad is NULL) or array.formats.grad != format or array.rows is not NULL:
            self.planned = False
        array.grad = grad
        array.formats.grad = format
        array.rows = NULL

    @cython.final
    cdef void run(self) noexcept:
        """A short step keeps the GIL: to give it away and get it back may take longer, above all among many threads."""
        cdef int64_t step_count = self.optimizers.step_count + 1
        if self.blocks < BLOCKS_WITH_GIL:
            instep_run(self.optimizers, self.groups, self.arrays, self.count, self.blocks, step_count)
        else:
            with nogil:
                instep_run(self.optimizers, self.groups, self.arrays, self.count, self.blocks, step_count)

    @cython.final
    cdef int plan(self) except -1:
        """Check what a step meets beside gradients, if it is not what the last step met."""
        cdef Py_ssize_t k = 0
        cdef int status
        if not self.planned or self.optimizers.step_count == INT64_MAX:
            while k < self.count and self.arrays[k].grad is NULL:
                k += 1
            if k == self.count:
                raise ValueError("every gradient is None: there is nothing to step")
            self.make_norms()
            status = instep_plan(self.optimizers, self.groups, self.arrays, self.count, &self.blocks)
            if status != INSTEP_OK:
                raise ValueError(instep_message(status).decode())
        if self.sets(self.place_of_zero_grads):
            self.check_zeroed(0, self.count)
        self.planned = True
        return 0

    @cython.final
    cdef inline bint sets(self, Py_ssize_t place) noexcept:
        """Whether this option is set for any array."""
        cdef Py_ssize_t g
        for g in range(self.groups):
            if self.optimizers[g].option[place] != 0:
                return True
        return False

    @cython.final
    cdef inline bint zeroes(self, Py_ssize_t k) noexcept:
        """Whether this gradient is to be set to 0."""
        return self.optimizers[self.arrays[k].group].option[self.place_of_zero_grads] != 0

    @cython.final
    cdef int make_norms(self) except -1:
        """Room for what a step measures, if it does."""
        cdef Py_ssize_t k
        cdef bint wanted = self.sets(self.place_of_statistics) or self.sets(self.place_of_clip_norm)
        if wanted and self.measured is NULL:
            self.measured = <instep_norms *>calloc(self.count, sizeof(instep_norms))
            if self.measured is NULL:
                raise MemoryError
        for k in range(self.count):
            self.arrays[k].norms = &self.measured[k] if wanted else NULL
        return 0

    @cython.final
    cdef int check_zeroed(self, Py_ssize_t begin, Py_ssize_t end) except -1:
        """Gradients that a step writes can be written, and are apart from all others."""
        cdef Py_ssize_t k, other
        cdef Py_ssize_t furthest = 0, furthest_zeroed = 0
        cdef uintptr_t start, end_of_grad
        cdef uintptr_t ends[2]  # of those so far: of the ones that are zeroed, and of all
        cdef bint is_zeroed
        cdef list found = []
        cdef cnp.ndarray array
        for k in range(begin, end):
            if self.arrays[k].grad is NULL:
                continue
            array = self.grad_of(k)
            if self.zeroes(k) and not cnp.PyArray_ISWRITEABLE(array):
                raise ValueError(
                    f"{_spell('grads', self.paths[k])} is read-only and cannot be set to 0: see zero_grads"
                )
            if array.size:
                found.append((_start(array), _end(array), k))
        found.sort()
        ends[False] = ends[True] = 0
        for start, end_of_grad, k in found:
            is_zeroed = self.zeroes(k)
            other = furthest if is_zeroed else furthest_zeroed
            if start < ends[is_zeroed]:
                raise ValueError(
                    f"{_spell('grads', self.paths[k])} overlaps {_spell('grads', self.paths[other])} in memory, and "
                    f"{'both' if is_zeroed and self.zeroes(other) else 'one of them'} would be set to 0: "
                    "see zero_grads"
                )
            if end_of_grad > ends[True]:
                ends[True], furthest = end_of_grad, k
            if is_zeroed and end_of_grad > ends[False]:
                ends[False], furthest_zeroed = end_of_grad, k
        return 0

    @cython.final
    cdef cnp.ndarray grad_of(self, Py_ssize_t k):
        """What this step reads: the array, or the values of the rows."""
        held = <object>self.held[k] if self.held[k] is not NULL else self.bound[k]
        return (<Rows>held)._values if type(held) is Rows else held

    @cython.final
    cdef int check_again(self, Py_ssize_t begin, Py_ssize_t end) except -1:
        """What has been checked is still so: a dict that is asked for its items may do anything meanwhile."""
        cdef Py_ssize_t k
        cdef cnp.ndarray array
        cdef const instep_array *checked
        cdef size_t size
        cdef bint is_laid_out
        if not self.others_ran:
            return 0
        self.others_ran = False
        for k in range(begin, end):
            checked = &self.arrays[k]
            if checked.grad is NULL:
                continue
            self.check_written(k)
            array = self.grad_of(k)
            if checked.rows is NULL:
                size = checked.size
                # no elements have any shape and layout: rows of an empty parameter are none, and stand for all of it
                is_laid_out = size == 0 or (
                    _same_shape(array, self.leaves[k]) and _same_layout(array, <cnp.ndarray>self.leaves[k])
                )
            else:
                size = checked.row_count * checked.row_size
                is_laid_out = cnp.PyArray_IS_C_CONTIGUOUS(array)
            if (
                cnp.PyArray_DATA(array) != checked.grad
                or <size_t>cnp.PyArray_SIZE(array) != size
                or _format_beside(array, checked.dtype) != checked.formats.grad
                or not is_laid_out
            ):
                raise ValueError(f"{_spell('grads', self.paths[k])} was changed in place while grads was looked at")
        return 0

    # -- what steps measured

    @property
    def grad_norm(self):
        """The norm of all gradients of the last step that measured it, times `grad_scale`, before it was clipped.

        It is measured with `clip_norm`, `clip_global_norm`, `skip_nonfinite`, `grow_every` and `statistics`, also where
        the step is then skipped; NaN before the first such step.  Of `Rows` an index that stands several times counts
        once, with the sum of its values.  In `step_one` it is that of the one gradient.
        """
        return last_grad_norm(self.shown())

    @property
    def skipped_steps(self):
        """How many steps were skipped, with `skip_nonfinite`, because their gradients were not finite."""
        return last_skipped_count(self.shown())

    @property
    def norms(self):
        """The norms of ``grad``, ``update`` and ``param`` in the last step that measured any, in the params' nesting.

        They are measured with `statistics`: that of the gradient times `grad_scale`, before it was clipped; that of
        what the step added to the parameter; and that of the parameter after it.  Both of the latter are of what was
        computed, before it was rounded to fewer bits.  Of `Rows`, all three are of the rows that were touched.

        0 before such a step, and where it measured nothing: all three of an array whose gradient was None, ``update``
        and ``param`` where the step was skipped.  `step_one` measures one array, and leaves those of the others.
        """
        seldom()
        cdef Py_ssize_t k
        cdef list grad = []
        cdef list update = []
        cdef list param = []
        self.acquire()
        try:
            if not self.sets(self.place_of_statistics):
                raise ValueError("nothing is measured: set statistics=True")
            self.make_norms()
            for k in range(self.count):
                grad.append(self.measured[k].grad)
                update.append(self.measured[k].update)
                param.append(self.measured[k].param)
        finally:
            self.release()
        return {
            "grad": self.nest.build(grad), "update": self.nest.build(update), "param": self.nest.build(param),
        }

    # -- gradients that are summed first

    def accumulate(self, grads):
        """Add gradients to a sum, which the next `step()` uses.

        Until then a step that is given gradients is refused, and so is `step_one`.

        The sum is kept in the type of the arithmetic, float64 for parameters of float64 and float32 for all others, and
        formed as a step computes: of one gradient it gives the step that this gradient would.  With
        ``grad_scale = 1 / k`` the step after k calls is one of their mean; with `grow_every`, divide the loss by k
        instead.  The sum is not saved with the state, and forgotten when one is loaded.

        Parameters
        ----------
        grads : nesting of numpy.ndarray, Rows or None
            As for `step`.  None adds nothing; what is never given is left alone by the step, and where nothing at all
            was given there is no sum.  ``accumulate(None)`` forgets it.

        Raises
        ------
        TypeError, ValueError
            As for `step`; also for rows of an array whose sum is of all of it, or the other way round.  Nothing has
            been added.
        """
        seldom()
        cdef Py_ssize_t k
        cdef list pending, added
        cdef object sums, pairs
        self.acquire_to_step()
        try:
            if grads is None:
                self.pending = None
                return
            self.bound_in_place = False
            self.collect(self.nest, grads, ())
            self.check_again(0, self.count)
            pending = [None] * self.count if self.pending is None else self.pending
            for k in range(self.count):
                if self.held[k] is not NULL and pending[k] is not None:
                    if (type(pending[k]) is Rows) != (type(<object>self.held[k]) is Rows):
                        raise ValueError(
                            f"{_spell('grads', self.paths[k])} cannot be added: one is of rows, the other of the array"
                        )
            from . import storage

            added = []
            for k in range(self.count):
                if self.held[k] is not NULL:
                    added.append((k, <object>self.held[k], self.arithmetic_of(k)))
            if added:
                sums, pairs = run_in_step_arithmetic(storage.to_add, (pending, added), {})
                run_in_step_arithmetic(_add_pairs, (pairs,), {})
                self.pending = sums
        finally:
            self.let_go()
            self.release()

    # -- averages in the parameters' place

    @cython.final
    cdef int begin_average(self) except -1:
        """Write the averages into the parameters, and keep those."""
        seldom()
        cdef Py_ssize_t k
        cdef list kept = []
        self.acquire_to_step()
        try:
            if self.kept is not None and not self.is_to_put_back:
                raise RuntimeError("the parameters are their averages already")
            self.check_not_averaged()
            if "param_avg" not in self.states:
                raise ValueError("there is no average of the parameters: it is made with average_decay > 0")
            for k in range(self.count):
                self.check_written(k)
                kept.append(self.leaves[k].copy("K"))
            self.kept, self.is_to_put_back = kept, True
            try:
                run_in_default_arithmetic(_assign, (self.leaves, self.states["param_avg"]), {})
            except BaseException:
                self.put_back()
                raise
            self.is_to_put_back = False
            return 0
        finally:
            self.release()

    @cython.final
    cdef int put_back(self) except -1:
        """All of them or none; where one cannot be written now, the next step does it."""
        seldom()
        cdef Py_ssize_t k
        cdef cnp.ndarray kept
        for k in range(self.count):
            self.check_written(k)
        for k in range(self.count):  # without Python code, in which a signal handler might raise
            kept = self.kept[k]
            memcpy(cnp.PyArray_DATA(<cnp.ndarray>self.leaves[k]), cnp.PyArray_DATA(kept), cnp.PyArray_NBYTES(kept))
        self.kept = None
        return 0

    @cython.final
    cdef int check_not_averaged(self) except -1:
        if self.kept is not None and self.is_to_put_back:
            self.put_back()
        if self.kept is not None:
            raise RuntimeError("the parameters are their averages now: leave the context of averaged() before a step")
        return 0

    @cython.final
    cdef object arithmetic_of(self, Py_ssize_t k):
        return np.float64 if self.arrays[k].dtype == INSTEP_FLOAT64 else np.float32

    @cython.final
    cdef int show_pending(self, object grads) except -1:
        seldom()
        cdef Py_ssize_t k
        cdef list pending = self.pending
        if grads is not _ABSENT:
            self.refuse_beside_pending()
        self.bound_in_place = False
        for k in range(self.count):
            if type(pending[k]) is Rows:  # its own, and so they may be put in order and set to 0
                pending[k] = _fit_rows(<Rows>pending[k], "grads", self.paths[k], self.leaves[k], self.arrays[k].dtype)
            self.set_grad("grads", k, pending[k])
        return 0

    @cython.final
    cdef int refuse_beside_pending(self) except -1:
        raise TypeError("gradients were accumulated: step() takes them, and no others; accumulate(None) forgets them")

    @cython.final
    cdef int collect(self, Nest nest, object grads, tuple path) except -1:
        cdef Py_ssize_t k
        cdef list items
        if nest.kind == LEAF:
            return self.set_grad("grads", nest.leaf, grads)
        if nest.kind == MAPPING:
            self.others_ran |= type(grads) is not dict or not nest.has_plain_keys
            if not isinstance(grads, dict):
                raise TypeError(f"{_spell('grads', path)} must be a dict like the params, not {_type_name(grads)}")
            if len(grads) != len(nest.keys):
                raise _other_keys(path, grads, nest.keys)
            for k in range(len(nest.keys)):
                child = _item(grads, nest.keys[k])
                if child is _ABSENT:
                    raise _other_keys(path, grads, nest.keys)
                self.collect_child(nest, k, child, path)
            return 0
        self.others_ran |= type(grads) is not list and type(grads) is not tuple
        if not isinstance(grads, (list, tuple)):
            raise TypeError(f"{_spell('grads', path)} must be a list or tuple like the params, not {_type_name(grads)}")
        items = list(grads)  # it may change while its items are looked at
        if len(items) != len(nest.keys):
            raise ValueError(f"{_spell('grads', path)} has {len(items)} items, expected {len(nest.keys)}")
        if nest.is_flat:
            for k in range(len(items)):
                self.set_grad("grads", nest.leaf + k, items[k])
        else:
            for k in range(len(items)):
                self.collect_child(nest, k, items[k], path)
        return 0

    @cython.final
    cdef int collect_child(self, Nest nest, Py_ssize_t k, object grads, tuple path) except -1:
        cdef Nest child = <Nest>nest.children[k]
        if child.kind == LEAF:
            return self.set_grad("grads", child.leaf, grads)
        return self.collect(child, grads, path + (nest.keys[k],))

    @cython.final
    cdef inline int set_grad(self, str root, Py_ssize_t k, object grad) except -1:
        cdef int format = INSTEP_AS_COMPUTED
        if grad is None:
            self.show(k, NULL, format)
            return 0
        if type(grad) is Rows:
            grad = self.checked_rows(root, k, <Rows>grad)
        else:
            grad = self.checked(root, k, grad, &format)
            self.show(k, cnp.PyArray_DATA(<cnp.ndarray>grad), format)
        Py_INCREF(grad)
        Py_XDECREF(self.held[k])
        self.held[k] = <PyObject *>grad
        return 0

    @cython.final
    cdef int check_apart(self, str root, Py_ssize_t k, cnp.ndarray array) except -1:
        if _overlapped(array, self.written_start, self.written_end, self.written_count):
            raise ValueError(f"{_spell(root, self.paths[k])} overlaps a parameter or state in memory")
        return 0

    @cython.final
    cdef inline cnp.ndarray checked(self, str root, Py_ssize_t k, object grad, int *format):
        """The gradient of the k-th array, or a copy in the layout of its parameter."""
        cdef cnp.ndarray param = <cnp.ndarray>self.leaves[k]
        cdef cnp.ndarray array
        self.check_written(k)
        if (
            PyArray_CheckExact(grad)
            and cnp.PyArray_TYPE(<cnp.ndarray>grad) == _numpy_type(self.arrays[k].dtype)
            and cnp.PyArray_ISNOTSWAPPED(<cnp.ndarray>grad)
            and _same_shape(<cnp.ndarray>grad, param)
            and _same_layout(<cnp.ndarray>grad, param)
        ):
            array = <cnp.ndarray>grad
            format[0] = INSTEP_AS_COMPUTED
        else:
            array = _array(root, self.paths[k], grad)
            format[0] = _check_grad(root, self.paths[k], array, param, self.arrays[k].dtype)
            array = _grad_in_layout(root, self.paths[k], array, param)
            self.others_ran |= array is not grad or _is_mapped(array)
            if array is not grad:
                self.copied = k
                if self.zeroes(k):
                    raise ValueError(
                        f"{_spell(root, self.paths[k])} is not laid out in memory as its parameter and cannot be set "
                        "to 0: see zero_grads"
                    )
        if _start(array) != self.known_grad[k].start or format[0] != self.known_grad[k].format:
            self.check_apart(root, k, array)
            self.known_grad[k].start = _start(array)
            self.known_grad[k].format = format[0]
        return array

    @cython.final
    cdef Rows checked_rows(self, str root, Py_ssize_t k, Rows given):
        """The rows of the k-th array in ascending order, shown to the step."""
        cdef instep_array *array = &self.arrays[k]
        cdef cnp.ndarray param = <cnp.ndarray>self.leaves[k]
        cdef Rows rows
        self.check_written(k)
        if array.formats.state[0] == INSTEP_BYTE or array.formats.state[0] == INSTEP_SIGNED_BYTE:
            raise ValueError(
                f"{_spell(root, self.paths[k])} is of rows, and state_dtype='8bit' has one scale for 256 elements"
            )
        self.others_ran = True  # for an array may be of a file, whose size is asked for
        rows = _fit_rows(given, root, self.paths[k], param, array.dtype)
        if "row_steps" in self.states and len(self.states["row_steps"][k]) != len(param):
            raise ValueError(
                f"{_spell('params', self.paths[k])} is not what it was when it was checked: its shape is "
                f"{(<object>param).shape} now, and exact_rows counts the steps of "
                f"{len(self.states['row_steps'][k])} rows"
            )
        self.check_apart(root, k, rows._values)
        if self.zeroes(k) and rows._values is not given._values:
            raise ValueError(
                f"{_spell(root, self.paths[k])} is of rows that are copied, and cannot be set to 0: see zero_grads"
            )
        self.planned = False
        self.known_grad[k].start = 0
        array.grad = cnp.PyArray_DATA(rows._values)
        array.formats.grad = _format_beside(rows._values, array.dtype)
        array.rows = NULL
        if array.size:
            array.rows = <const int64_t *>cnp.PyArray_DATA(rows._indices)
            array.row_count = len(rows._indices)
            array.row_size = array.size // <size_t>cnp.PyArray_DIMS(param)[0]
        return rows

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


def _add_pairs(list pairs, /):
    """Whole or not at all: a signal's handler runs between lines of Python, of which there are none here."""
    seldom()
    cdef object total, numbers
    for total, numbers in pairs:
        np.add(total, numbers, total)


def _assign(list arrays, list values, /):
    seldom()
    for array, value in zip(arrays, values, strict=True):
        array[...] = value


cdef inline object _item(object grads, object key):
    """What the dict has at the key, or `_ABSENT`; that of a subclass as it gives it to everyone."""
    if type(grads) is dict:
        return item_or(grads, key, _ABSENT)
    return grads[key] if key in grads else _ABSENT


cdef object _other_keys(tuple path, object grads, tuple keys):
    seldom()
    cdef list found = []
    cdef list missing = []
    cdef list unknown = []
    cdef set expected = set(keys)
    for key in keys:
        if key not in grads:
            missing.append(key)
    for key in list(grads):  # which may change meanwhile
        if key not in expected:
            unknown.append(key)
    if missing:
        found.append(f"missing {some(missing)}")
    if unknown:
        found.append(f"unknown {some(unknown)}")
    if not found:
        return ValueError(f"{_spell('grads', path)} changed while it was looked at")
    return ValueError(f"{_spell('grads', path)} has other keys than the params: {'; '.join(found)}")


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


@cython.final
cdef class Averaged:
    """The context of `Optimizer.averaged`.

    In C, for a signal handler may raise between any two calls of Python code: after the averages have been written and
    before the `try` that would put the parameters back.
    """

    cdef Stepper optimizer
    cdef bint is_inside

    def __init__(self, Stepper optimizer not None, /):
        self.optimizer = optimizer

    def __enter__(self):
        params = self.optimizer.params
        self.optimizer.begin_average()
        self.is_inside = True
        return params

    def __exit__(self, *error):
        self.leave()

    def __del__(self):
        """Where Python code entered it, as that of an ExitStack does, and a handler has raised right after that."""
        if self.is_inside:
            self.leave()

    cdef int leave(self) except -1:
        self.optimizer.acquire_to_step()
        try:
            self.is_inside = False
            self.optimizer.is_to_put_back = True
            self.optimizer.put_back()
            return 0
        finally:
            self.optimizer.release()
