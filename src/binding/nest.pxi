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
    cdef bint has_plain_keys  # to compare them runs nobody's code

    @staticmethod
    def of(value, list leaves, list paths, /):
        """The shape of `value`; its leaves and their paths are appended to the lists."""
        return Nest.descend(value, leaves, paths, ())

    @staticmethod
    cdef Nest descend(object value, list leaves, list paths, tuple path):
        seldom()
        cdef Nest nest = Nest()
        cdef Nest child
        cdef Py_ssize_t k
        nest.leaf = len(leaves)
        if len(path) > DEEPEST_NESTING:
            raise ValueError(f"params are nested deeper than {DEEPEST_NESTING} levels")
        if isinstance(value, dict):
            nest.kind = MAPPING
            if type(value) is dict:
                value = dict.copy(value)  # it may change while its items are looked at
            nest.keys = tuple(value)
            items = tuple(map(value.__getitem__, nest.keys))
        elif isinstance(value, (list, tuple)):
            nest.kind = SEQUENCE
            items = tuple(value)
            nest.keys = tuple(range(len(items)))
        else:
            nest.kind = LEAF
            leaves.append(value)
            paths.append(path)
            return nest
        nest.container = type(value)
        children = []
        nest.is_flat = nest.has_plain_keys = True
        for k in range(len(items)):
            child = Nest.descend(items[k], leaves, paths, path + (nest.keys[k],))
            nest.is_flat = nest.is_flat and child.kind == LEAF
            nest.has_plain_keys = nest.has_plain_keys and type(nest.keys[k]) in (str, int)
            children.append(child)
        nest.children = tuple(children)
        return nest

    def build(self, list leaves, /):
        """A nesting of this shape with other leaves."""
        seldom()
        cdef Nest child
        if self.kind == LEAF:
            return leaves[self.leaf]
        built = []
        for child in self.children:
            built.append(child.build(leaves))
        if self.kind == MAPPING:
            return dict(zip(self.keys, built, strict=True))
        if issubclass(self.container, list):
            return built
        return self.container(*built) if hasattr(self.container, "_fields") else tuple(built)


# What follows is for messages.  Cython 3.3 drops a reference twice where a list comprehension gets no memory for the
# next item that it has made, so that the binding makes its lists in loops.

cdef str _spell(str root, tuple path):
    seldom()
    for key in path:
        root += f"[{key!r:.200}]"
    return root


def some(list keys, /):
    """The first of them, and how many more there are."""
    seldom()
    cdef list shown = []
    for key in keys[:5]:
        shown.append(f"{key!r:.80}")
    return ", ".join(shown) + (f" and {len(keys) - 5} more" if len(keys) > 5 else "")
