"""Modules: parameters, state_dict names, dropout and batch_first around ``lstmrep.ops``."""

from lstmrep.nn.lstm import LSTM

__all__ = ["LSTM"]
