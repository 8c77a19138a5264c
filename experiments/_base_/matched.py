# The matched recipe: every method of a `main` experiment trains under one of these, chosen by scale, so that only
# the method differs. Selection is by validation bPQ; validation is never the test set.
kind = "main"
protocol = "cellvit"

# samples: draws per epoch, None for as many as there are training images. patience: validations without improvement
# before training stops, 0 for never. pretrain: updates of the small ViT's pretext, 0 for random weights, None for the
# default. workers: loader processes, None for a choice by device. crop: side in pixels that is supervised.
# crop_at: random or centre. tiling: none, or x20 images enlarged and cut into x40 tiles as in docs/conic.md (conic40
# as published, conic40_corrected). validation: split, or random_tiles as CellVTA's CoNIC recipe (a leak). select: the
# epoch with the best validation bPQ, or the last. selection: that bPQ in protocol cellvit, or raw as published.
recipes = dict(
    # seconds per cell: for tests
    debug=dict(
        epochs=2,
        samples=8,
        batch=4,
        crop=64,
        crop_at="random",
        tiling="none",
        eval_every=1,
        patience=0,
        validation="split",
        select="best",
        selection="protocol",
        optimiser=dict(name="adamw", lr=1e-3, betas=(0.9, 0.95), weight_decay=1e-4),
        schedule=dict(name="cosine", warmup=0.1, gamma=0.95, final=0.01),
        precision="fp32",
        ema=0.0,
        clip=1.0,
        augment="matched",
        sampling=dict(strategy="cell+tissue", gamma=0.85, factors="counted"),
        pretrain=2,
        workers=0,
        eval_batch=4,
    ),
    # a minute or two per cell on a laptop CPU
    small=dict(
        epochs=20,
        samples=96,
        batch=8,
        crop=128,
        crop_at="random",
        tiling="none",
        eval_every=5,
        patience=0,
        validation="split",
        select="best",
        selection="protocol",
        optimiser=dict(name="adamw", lr=3e-3, betas=(0.9, 0.95), weight_decay=1e-4),
        schedule=dict(name="cosine", warmup=0.05, gamma=0.95, final=0.01),
        precision="fp32",
        ema=0.0,
        clip=1.0,
        augment="matched",
        sampling=dict(strategy="cell+tissue", gamma=0.85, factors="counted"),
        pretrain=None,
        workers=0,
        eval_batch=8,
    ),
    # one GPU: the published length, batch, optimiser, schedule and augmentation of CellVTA for all, in bf16
    paper=dict(
        epochs=100,
        samples=None,
        batch=8,
        crop=256,
        crop_at="random",
        tiling="none",
        eval_every=1,
        patience=0,
        validation="split",
        select="best",
        selection="protocol",
        optimiser=dict(name="adamw", lr=3e-4, betas=(0.85, 0.95), weight_decay=1e-4),
        schedule=dict(name="exponential", warmup=0.0, gamma=0.95, final=0.0),
        precision="auto",
        ema=0.0,
        clip=0.0,
        augment="cellvta",
        sampling=dict(strategy="cell+tissue", gamma=0.85, factors="counted"),
        pretrain=None,
        workers=None,
        eval_batch=16,
    ),
)

# dataset -> scale -> what replaces the recipe's values there: at full scale the published ViTs see x40
recipes_on = dict(conic=dict(paper=dict(tiling="conic40_corrected")))
