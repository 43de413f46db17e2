"""Formulas of quality, masks, identities and privacy, with their sources: no files, no options."""


class NotMeasuredError(ValueError):
    """The data do not allow a measure, such as two images of an identity where there is one.

    Raised on purpose by what measures. A report skips the measure and says why; any other error
    is wrong input or a bug.
    """
