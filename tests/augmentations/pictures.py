"""Images to augment, and statistics of many augmented ones."""

import torch

SHAPE = (3, 8, 6)


def picture(shape=SHAPE, seed=0):
    """A random image [channels, height, width] in [0, 1]."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def numbers(augmentation, count, seed=1):
    """Uniform numbers [count, U] for so many images."""
    source = torch.Generator().manual_seed(seed)
    return torch.rand(count, augmentation.uniforms_per_image, generator=source)


def augmented(augmentation, image, count):
    """So many versions [count, ...] of an image."""
    return augmentation.apply(image.expand(count, *image.shape), numbers(augmentation, count))


def versions(transform, image, count):
    """So many versions [count, ...] of an image by a transform of torchvision, one at a time."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        return torch.stack([transform(image) for _ in range(count)])


def statistics(images):
    """Statistics [n, k] of each image: its pixels, their squares, products of distant pixels."""
    pixels = images.flatten(1).double()
    return torch.cat([pixels, pixels.square(), pixels * pixels.roll(7, 1)], 1)


def assert_same_distribution(ours, theirs):
    """The means of all statistics agree within five standard errors."""
    ours, theirs = statistics(ours), statistics(theirs)
    spread = (ours.var(0) / len(ours) + theirs.var(0) / len(theirs)).sqrt()
    difference = (ours.mean(0) - theirs.mean(0)).abs()
    assert (difference <= 5 * spread + 1e-6).all(), float((difference / spread).nan_to_num().max())
