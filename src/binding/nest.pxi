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
