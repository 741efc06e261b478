"""Figures of merit, beside their definitions and scikit-learn's."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import fconv as fc
from fconv import metrics

KEY = fc.random.key(3)
SCORES = fc.random.normal(KEY, (40, 5), np.float64)
LABELS = fc.random.permutation(KEY, 40) % 4  # no sample of class 4


def test_beside_scikit_learn():
    sk = pytest.importorskip("sklearn.metrics")
    guess = SCORES.argmax(axis=1)
    np.testing.assert_array_equal(
        metrics.confusion_matrix(SCORES, LABELS), sk.confusion_matrix(LABELS, guess, labels=range(5))
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for ours, theirs in (
            (metrics.precision, sk.precision_score), (metrics.recall, sk.recall_score),
            (metrics.f1_score, sk.f1_score), (metrics.mean_iou, sk.jaccard_score),
        ):  # fmt: skip
            assert ours(SCORES, LABELS) == pytest.approx(theirs(LABELS, guess, average="macro"))
        for k in (1, 2, 4, 5):
            expected = sk.top_k_accuracy_score(LABELS, SCORES, k=k, labels=range(5))
            assert metrics.top_k_accuracy(SCORES, LABELS, k) == pytest.approx(expected)


def test_segmentation_adds_over_batches_and_leaves_negative_labels_out():
    scores = fc.random.normal(KEY, (4, 3, 6, 5))
    labels = fc.random.permutation(KEY, 120).reshape(4, 6, 5) % 4 - 1
    parts = [metrics.confusion_matrix(scores[i : i + 2], labels[i : i + 2]) for i in (0, 2)]
    whole = metrics.confusion_matrix(scores, labels)
    np.testing.assert_array_equal(sum(parts), whole)
    assert whole.sum() == (labels >= 0).sum()
    guess = scores.argmax(axis=1)
    ious = [
        ((guess == c) & (labels == c)).sum() / (((guess == c) | (labels == c)) & (labels >= 0)).sum()
        for c in range(3)
    ]
    assert metrics.mean_iou(whole) == metrics.mean_iou(scores, labels) == pytest.approx(np.mean(ious))


def test_edges():
    none = np.zeros((0, 3)), np.zeros(0, np.int64)
    for figure in (metrics.accuracy, metrics.precision, metrics.recall, metrics.f1_score, metrics.mean_iou):
        assert np.isnan(figure(*none))
    assert np.isnan(metrics.RunningMean().value)
    equal = np.zeros((2, 3))
    assert metrics.accuracy(equal, np.array([0, 2])) == 0.5
    assert metrics.top_k_accuracy(equal, np.array([1, 2]), 2) == 0.5


def test_a_running_mean_is_a_mean_and_a_tree(tmp_path):
    mean = metrics.RunningMean()
    for value, count in ((1.0, 2), (np.float32(4), 1)):
        mean = mean.add(value, count)
    assert mean.value == 2
    fc.save(tmp_path / "mean.npz", mean)
    assert fc.load(tmp_path / "mean.npz") == mean


@pytest.mark.parametrize(("make", "kind", "message"), [
    (lambda: metrics.top_k_accuracy(SCORES, LABELS, 6), ValueError, "top_k_accuracy: expected k up to the number of classes, 5, got 6"),
    (lambda: metrics.top_k_accuracy(SCORES, LABELS, 0), ValueError, "top_k_accuracy: k must be at least 1, got 0"),
    (lambda: metrics.top_k_accuracy(SCORES, LABELS * 1.0), TypeError, "top_k_accuracy: expected integer class labels"),
    (lambda: metrics.confusion_matrix(LABELS, LABELS), ValueError, "confusion_matrix: class numbers do not tell"),
    (lambda: metrics.confusion_matrix(LABELS, LABELS, 2), ValueError, "confusion_matrix: expected class numbers below 2 in target, got 3"),
    (lambda: metrics.confusion_matrix(SCORES, LABELS, 4), ValueError, "confusion_matrix: expected scores of 4 classes, got shape (40, 5)"),
    (lambda: metrics.confusion_matrix(SCORES[0], LABELS), ValueError, "confusion_matrix: expected scores (N, C, ...) or class numbers"),
    (lambda: metrics.mean_iou(SCORES), ValueError, "expected a confusion matrix (C, C) where there is no target, got shape (40, 5)"),
])  # fmt: skip
def test_errors(make, kind, message):
    with pytest.raises(kind) as caught:
        make()
    assert message in str(caught.value)
