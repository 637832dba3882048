"""An optimizer whose gradient never changes: its number of steps says every bit of it."""

import numpy as np

import instep

LARGE = 4_000_000  # float32 elements: enough to wake threads for, whatever that takes


class Walker:
    """A large array and a small one, of any size that repeats the same PERIOD elements."""

    PERIOD = 16

    def __init__(self, size=LARGE, optimizer=instep.RMSprop, **options):
        self.grads = [self._repeat(n) for n in (size, 1000)]
        self.params = [np.zeros_like(grad) for grad in self.grads]
        self.optimizer = optimizer(self.params, **options)
        self._alone = optimizer(np.zeros(self.PERIOD, np.float32), **options)

    def _repeat(self, size):
        return np.resize(np.linspace(-1, 1, self.PERIOD, dtype=np.float32), size)

    def step(self):
        self.optimizer.step(self.grads)

    def catch_up(self):
        """Take as many steps with a short array alone: what `is_whole` compares with, and does if need be."""
        grad = self._repeat(self.PERIOD)
        for _ in range(self._alone.step_count, self.optimizer.step_count):
            self._alone.step(grad)

    def is_whole(self, steps=None):
        """Is every array where the count of steps says, which is `steps` if given?"""
        self.catch_up()
        arrays = [self.params, *self.optimizer.state.values()]
        expected = [self._alone.params, *self._alone.state.values()]
        return steps in (None, self.optimizer.step_count) and all(
            array.tobytes() == np.resize(short, array.size).tobytes()
            for whole, short in zip(arrays, expected, strict=True)
            for array in whole
        )
