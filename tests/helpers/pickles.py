"""What tests of foreign pickles share."""

from torch_utils.safe_pickle import load_pickle

P4 = b"\x80\x04"  # the start of protocol 4


class Call:
    """Pickles as a call of any function with any arguments."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def loader(folder):
    """Return a function that writes bytes to `folder`/network.pkl and loads that as a pickle."""

    def load(data):
        path = folder / "network.pkl"
        path.write_bytes(data)
        return load_pickle(path)

    return load
