"""What is no nucleus and looks a little like one: red cells, debris, smudges, ink, pigment, folds, edges."""

import numpy as np

from benchmark.data.drawing import texture
from benchmark.data.drawing.canvas import GLASS, Canvas


def under(canvas: Canvas) -> None:
    """Distractors that lie below the nuclei: tissue edge, red cells in vessels, blurred haematoxylin."""
    rng, side, mess = canvas.rng, canvas.side, canvas.look.mess
    if rng.random() < 0.08:
        _edge(canvas)
    if rng.random() < 0.3:
        _vessel(canvas)
    for _ in range(rng.poisson(5.0 * mess * (side / 256) ** 2)):
        h, e = rng.uniform(0.15, 1.05), rng.uniform(-0.1, 0.3)
        _spot(canvas, rng.uniform(4, 16), h, e, soft=rng.uniform(2.5, 7))
    if rng.random() < 0.35:  # basophilic mucin or cytoplasm in broad fields
        weight = np.clip(texture.window(rng, 16.0, side, side) - 0.9, 0, 0.8) * rng.uniform(0.2, 0.7)
        canvas.h += weight * (canvas.region != GLASS)


def over(canvas: Canvas) -> None:
    """Distractors that lie above everything: debris, ink, pigment, folds."""
    rng, side, mess = canvas.rng, canvas.side, canvas.look.mess
    for _ in range(rng.poisson(1.6 * mess * (side / 256) ** 2)):
        _spot(
            canvas,
            rng.uniform(1.0, 3.2),
            h=rng.uniform(0.4, 1.5),
            e=rng.uniform(0, 0.8),
            soft=rng.uniform(0.5, 1.2),
            free=True,
        )
    if rng.random() < 0.06:
        amount = np.clip(texture.window(rng, 32.0, side, side) - rng.uniform(0.8, 1.8), 0, 0.6) * rng.uniform(0.5, 2.5)
        colour = np.float32([(1, 0.9, 0.7), (0.9, 0.5, 0.25), (0.8, 0.35, 0.7)][int(rng.integers(3))])
        canvas.dye = amount[..., None] * colour
    if rng.random() < 0.05:
        band = np.exp(-(((canvas.fibres.across - canvas.fibres.across.mean()) / rng.uniform(5, 16)) ** 2))
        gain = 1 + 0.7 * band
        canvas.h *= gain
        canvas.e *= gain


def _edge(canvas: Canvas) -> None:
    rng, side = canvas.rng, canvas.side
    y, x = texture.grid(side)
    a = rng.uniform(0, 2 * np.pi)
    far = (y - side / 2) * np.sin(a) + (x - side / 2) * np.cos(a) - rng.uniform(0, 0.35) * side
    far = far + 9 * texture.window(rng, 32.0, side, side) + 3 * texture.window(rng, 8.0, side, side)
    canvas.paint(np.clip(far / 2, 0, 1), 0.0, 0.01)
    canvas.region[far > 0] = GLASS
    canvas.seats = [s for s in canvas.seats if not _beyond(canvas, far, s[1], s[2])]


def _beyond(canvas: Canvas, far: np.ndarray, y: float, x: float) -> bool:
    row, col = (int(np.clip(v, 0, canvas.side - 1)) for v in (y, x))
    return bool(far[row, col] > -4)


def _vessel(canvas: Canvas) -> None:
    """A few red cells close together: saturated eosin, paler in the middle, sharp borders."""
    rng, side = canvas.rng, canvas.side
    centre = rng.uniform(0, side, 2)
    for _ in range(rng.integers(2, 16)):
        y, x = rng.normal(centre, 22)
        _disc(canvas, y, x, rng.uniform(6.5, 11), rng.uniform(1.3, 2.4))


def _disc(canvas: Canvas, y: float, x: float, radius: float, e: float) -> None:
    here, distance = _window(canvas, y, x, radius + 3)
    if distance is None:
        return
    weight = np.clip((radius - distance) / 1.5 + 0.5, 0, 1)
    pallor = 1 - 0.3 * np.exp(-((distance / (0.5 * radius)) ** 2))
    canvas.e[here] += weight * (e * pallor - canvas.e[here])
    canvas.h[here] *= 1 - 0.85 * weight


def _spot(canvas: Canvas, radius: float, h: float, e: float, soft: float, free: bool = False) -> None:
    """An irregular blot added to the stains; with `free`, only where no nucleus lies."""
    rng, side = canvas.rng, canvas.side
    y, x = rng.uniform(0, side, 2)
    here, distance = _window(canvas, y, x, 1.6 * radius + 2 * soft)
    if distance is None:
        return
    bumps = 1 + 0.3 * texture.window(rng, 4.0, *distance.shape)
    weight = 1 / (1 + np.exp((distance - radius * bumps) * (2 / soft)))
    if free:
        weight = weight * (canvas.instances[here] == 0)
    canvas.h[here] += h * weight
    canvas.e[here] = np.clip(canvas.e[here] + e * weight, 0, None)


def _window(canvas: Canvas, y: float, x: float, reach: float):
    side, reach = canvas.side, int(reach) + 1
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    bottom, right = min(side, int(y) + reach + 1), min(side, int(x) + reach + 1)
    if bottom <= top or right <= left:
        return None, None
    dy = (np.arange(top, bottom, dtype=np.float32) - np.float32(y))[:, None]
    dx = (np.arange(left, right, dtype=np.float32) - np.float32(x))[None, :]
    return (slice(top, bottom), slice(left, right)), np.sqrt(dy * dy + dx * dx)
