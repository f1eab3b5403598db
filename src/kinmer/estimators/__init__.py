"""The scikit-learn face: an encoder as a transformer, the nearest kin as a classifier.

They take sequences as they are: text, in a list, an array or a column. Needs scikit-learn
(``pip install 'kinmer[sklearn]'``); raises UsageError without it.
"""

from importlib.util import find_spec

from kinmer.errors import UsageError

if find_spec("sklearn") is None:
    raise UsageError(
        "scikit-learn is not installed",
        "KinmerEncoder and KinmerClassifier need it",
        "pip install 'kinmer[sklearn]'",
    )

from kinmer.estimators.classifier import KinmerClassifier
from kinmer.estimators.transformer import KinmerEncoder, RowError, SettingError

__all__ = ["KinmerClassifier", "KinmerEncoder", "RowError", "SettingError"]
