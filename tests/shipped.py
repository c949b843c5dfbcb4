"""The plugins that ship, by kind: written down once, for the tests that hold a listing against it."""

SHIPPED = {
    "pretext task": {
        "rotation",
        "jigsaw",
        "relative-patch",
        "colourisation",
        "reconstruction",
        "simclr",
        "supervised",
        "shuffled-labels",
    },
    "init": {
        "random",
        "pretext",
        "permuted",
        "partial",
        "kaiming",
        "xavier",
        "orthogonal",
        "zero-init-residual",
        "lsuv",
        "data-dependent",
        "checkpoint",
        "imagenet",
    },
    "freeze policy": {"none", "below", "head-only", "only", "batchnorm-only", "gradual", "probe-then-tune"},
    "dataset": {"digits", "cifar10", "cifar100", "fashion-mnist", "image-folder"},
}
