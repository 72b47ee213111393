"""Sample metrics on real digits, in the features of the course's own net."""

import pytest
import torch

from gmcourse import zoo
from gmcourse.data.images import load_images
from gmcourse.metrics.modes import stacked_mnist_modes
from gmcourse.metrics.neighbours import nearest_neighbours
from gmcourse.metrics.precision_recall import improved_precision_recall, prd
from gmcourse.metrics.samples import frechet_distance, inception_score, kernel_distance


@pytest.fixture(scope="module")
def net():
    return zoo.feature_net("mnist")


@pytest.fixture(scope="module")
def halves():
    """The test digits, cut in two at random."""
    images = load_images("mnist", "test")[0]
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images[order[:500]], images[order[500:]]


def test_distances_between_halves_are_small_and_grow_with_added_noise(net, halves):
    first, second = halves
    noise = torch.randn(second.shape, generator=torch.Generator().manual_seed(1))
    levels = [(second + sigma * noise).clamp(-1, 1) for sigma in (0.0, 0.5, 0.75, 1.0)]
    for distance in (frechet_distance, lambda a, b, net: kernel_distance(a, b, net=net, subset_size=50).value):
        found = [distance(first, level, net=net) for level in levels]
        assert all(a < b for a, b in zip(found, found[1:], strict=False)), found
        assert found[0] < 0.25 * found[-1], found


def test_the_kernel_distance_of_halves_is_zero_within_its_error(net, halves):
    found = kernel_distance(*halves, net=net, subset_size=50)
    assert abs(found.value) < 4.5 * found.stderr


def test_missing_digits_cost_recall_and_clothes_among_them_precision(net, halves):
    first, second = halves
    same, same_curve = improved_precision_recall(first, second, net=net), prd(first, second, net=net)
    assert min(same) > 0.8 and min(same_curve.f8, same_curve.f1_8) > 0.95
    some = second[net(second).argmax(1) < 3]
    few, few_curve = improved_precision_recall(first, some, net=net), prd(first, some, net=net)
    assert few.precision > 0.75 and few.recall < 0.45 and few_curve.f1_8 > 0.8 and few_curve.f8 < 0.6
    clothes = load_images("fashion_mnist", "test", limit=250)[0]
    mixed = prd(first, torch.cat([second[:250], clothes]), net=net)
    assert mixed.f1_8 < 0.8 and mixed.f8 > 0.9


def test_the_inception_score_of_real_digits_is_near_ten_and_of_one_digit_one(net, halves):
    score = inception_score(torch.cat(halves), net=net, splits=5)
    assert 9 < score.value <= 10 and score.stderr < 0.2
    assert inception_score(halves[0][:1].expand(100, -1, -1, -1), net=net).value == pytest.approx(1, abs=1e-5)


def test_stacked_digits_are_found_in_all_the_modes_that_were_drawn(net):
    """The net errs on 2 digits in 100, and so little on the number of modes and their entropy."""
    images, labels = load_images("stacked_mnist", "test")
    report, frequencies = stacked_mnist_modes(images, net), labels.bincount(minlength=1000).double() / len(labels)
    assert abs(report.covered - int((frequencies > 0).sum())) < 25
    assert report.kl == pytest.approx(float(torch.xlogy(frequencies, 1000 * frequencies).sum()), abs=0.03)
    one_plane = images[:500].clone()
    one_plane[:, 1:] = images[:1, :1]
    assert stacked_mnist_modes(one_plane, net).covered == 10


def test_the_nearest_training_digits_are_mostly_of_the_same_class(net):
    train, labels = load_images("mnist", "train")
    test, wanted = load_images("mnist", "test", limit=200)
    found = nearest_neighbours(test, train, k=1, net=net)
    assert (labels[found.indices[:, 0]] == wanted).double().mean() > 0.95


@pytest.mark.gpu
def test_samples_and_nets_may_live_on_the_gpu(net, halves):
    first, second = (half[:200] for half in halves)
    on_gpu = zoo.feature_net("mnist").cuda()
    calls = (
        lambda a, b, net: frechet_distance(a, b, net=net),
        lambda a, b, net: improved_precision_recall(a, b, net=net).precision,
        lambda a, b, net: prd(a, b, net=net, clusters=5).f8,
        lambda a, b, net: inception_score(a, net=net).value,
        lambda a, b, net: stacked_mnist_modes(a.expand(-1, 3, -1, -1), net).covered,
        lambda a, b, net: float(nearest_neighbours(a, b, net=net).distances.mean()),
    )
    for call in calls:
        wanted = pytest.approx(call(first, second, net), rel=0.02)
        assert call(first.cuda(), second.cuda(), on_gpu) == wanted and call(first, second, on_gpu) == wanted
