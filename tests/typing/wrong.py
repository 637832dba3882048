"""What type checkers must report: the lines that end in a mark, and no others."""

import numpy as np

import instep
from instep import SGD, Adam, AdamW, Optimizer, RMSprop

param = np.ones(3)

RMSprop(param, lr="fast")  # wrong
RMSprop(param, centered=0.5)  # wrong
RMSprop(param, nesterov=None)  # wrong
RMSprop(param, learning_rate=0.1)  # wrong
RMSprop(param, betas=(0.9, 0.999))  # wrong
RMSprop(param, 0.1)  # wrong
RMSprop(lr=0.1)  # wrong
SGD(param, rho=0.9)  # wrong
Adam(param, momentum=0.9)  # wrong
AdamW(param, weight_decay="0.01")  # wrong
AdamW(param, decoupled_weight_decay=0.5)  # wrong

adam = Adam(param)
adam.lr = "fast"  # wrong
adam.amsgrad = 0.5  # wrong
adam.bias_corection = True  # wrong
beta = adam.beta  # wrong
momentum = adam.momentum  # wrong
adam.step_count = 3  # wrong
adam.step_one(np.ones(3))  # wrong
adam.save(3)  # wrong
adam.load_state_dict([])  # wrong
Adam.preset(3, param)  # wrong


class Fast(RMSprop):
    """Gives what it inherits a default of another type."""

    __slots__ = ()

    lr: float = "fast"  # wrong


class Mine(RMSprop):
    """Inherits the options of a rule."""

    __slots__ = ()

    lr: float = 0.1


Mine(param, lerning_rate=0.1)  # wrong
mine: SGD = Mine(param)  # wrong


def train(optimizer: Optimizer) -> None:
    """Not every optimizer has it."""
    optimizer.rho = 0.9  # wrong


train(param)  # wrong

instep.adam(param, param, param, param, lr="fast")  # wrong
instep.adam(param, param, param, param, momentum=0.9)  # wrong
instep.adam(param)  # wrong
instep.adamw(param, param, param, param, amsgrad=1.5)  # wrong
instep.sgd(param, param, step_count=1.5)  # wrong
instep.set_num_threads("2")  # wrong
