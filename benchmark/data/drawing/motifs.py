"""Tissue architecture: a motif paints its compartments on a canvas and says where it wants which nuclei."""

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from benchmark.data.drawing import texture
from benchmark.data.drawing.canvas import EPITHELIUM, GLASS, STROMA, Canvas


def build(canvas: Canvas, motif: str) -> None:
    """Paint `motif` on a canvas that holds stroma and seat its nuclei."""
    {
        "stroma": lambda c: None,
        "crypts": lambda c: _glands(c, radius=(55, 95), wall=(34, 48), goblet=0.6, layers=1),
        "ducts": lambda c: _glands(c, radius=(38, 85), wall=(20, 30), goblet=0.0, layers=1),
        "tubules": lambda c: _glands(c, radius=(36, 52), wall=(24, 34), goblet=0.0, layers=1, packed=True),
        "cribriform": lambda c: _glands(c, radius=(60, 115), wall=(44, 80), goblet=0.1, layers=3),
        "nests": lambda c: _sheet(c, share=c.rng.uniform(0.35, 0.85)),
        "solid": lambda c: _sheet(c, share=1.0),
        "clear": lambda c: _sheet(c, share=c.rng.uniform(0.7, 1.0), clear=0.85),
        "plates": lambda c: _sheet(c, share=1.0, sinusoids=True),
        "epidermis": lambda c: _sheet(c, share=c.rng.uniform(0.4, 0.8)),
        "alveoli": lambda c: _foam(c, spacing=c.rng.uniform(70, 130), wall=c.rng.uniform(5, 11), nuclei=1 / 60),
        "adipose": lambda c: _foam(c, spacing=c.rng.uniform(80, 140), wall=c.rng.uniform(1.2, 2.2), nuclei=1 / 350),
    }[motif](canvas)


def populate_stroma(canvas: Canvas) -> None:
    """Seat connective nuclei along the fibres and inflammatory cells, scattered and in clusters."""
    rng, look, side = canvas.rng, canvas.look, canvas.side
    free = np.flatnonzero(canvas.region == STROMA)
    share = free.size / side**2
    for _ in range(rng.poisson(look.profile.stroma * look.density * share * (side / 256) ** 2)):
        y, x = divmod(int(rng.choice(free)), side)
        canvas.seat("Connective", y, x, canvas.fibres.angle(y, x) + rng.normal(0, 0.2))
    wanted = look.infiltrate * rng.gamma(0.9, 1.1) * (0.15 + 0.85 * share)
    if rng.random() < 0.09:  # a lymphoid aggregate
        wanted += rng.uniform(50, 150) * share
    number = rng.poisson(wanted * (side / 256) ** 2)
    spot = None
    for k in range(number):
        if k % 16 == 0:
            spot = rng.uniform(0, side, 2)
            spread = rng.uniform(14, 60)
        y, x = rng.normal(spot, spread) if rng.random() < 0.75 else rng.uniform(0, side, 2)
        if 0 <= y < side and 0 <= x < side and (canvas.region[int(y), int(x)] == STROMA or rng.random() < 0.08):
            canvas.seat("Inflammatory", y, x)


def _tumour(canvas: Canvas) -> str:
    """Class of the next nucleus of an epithelial compartment."""
    if canvas.rng.random() < (0.1 if canvas.look.malignant else 0.05):
        return "Dead"
    return "Neoplastic" if canvas.look.malignant else "Epithelial"


def _cells(canvas: Canvas, spacing: float, jitter: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Voronoi cells of a jittered grid: seeds (N, 2), owner of pixels, px to the border, its direction."""
    rng, side = canvas.rng, canvas.side
    line = np.arange(-spacing, side + 1.5 * spacing, spacing)
    seeds = np.stack(np.meshgrid(line, line * 1.0, indexing="ij"), -1)
    seeds[1::2, :, 1] += spacing / 2
    seeds = seeds.reshape(-1, 2) + rng.normal(0, jitter * spacing, (seeds.size // 2, 2)) + rng.uniform(-9, 9, 2)
    half = np.arange(0, side + 1, 2, dtype=np.float32)
    where = np.stack(np.meshgrid(half, half, indexing="ij"), -1)
    n = len(half)
    where[..., 0] += 2.5 * texture.window(rng, 8.0, n, n)
    where[..., 1] += 2.5 * texture.window(rng, 8.0, n, n)
    distance, owner = cKDTree(seeds).query(where.reshape(-1, 2), k=2)
    first, second = seeds[owner[:, 0]], seeds[owner[:, 1]]
    gap = np.linalg.norm(second - first, axis=1)
    border = ((distance[:, 1] ** 2 - distance[:, 0] ** 2) / (2 * gap)).astype(np.float32).reshape(n, n)
    along = np.arctan2(first[:, 1] - second[:, 1], second[:, 0] - first[:, 0]).reshape(n, n)
    border = ndimage.zoom(border, 2, order=1)[:side, :side]
    near = np.arange(side) // 2
    return seeds, owner[:, 0].reshape(n, n)[np.ix_(near, near)], border, along[np.ix_(near, near)]


def _sheet(canvas: Canvas, share: float, clear: float = 0.0, sinusoids: bool = False) -> None:
    """Cells side by side over `share` of the patch: nests and sheets of tumour, epidermis, liver plates."""
    rng, side, look = canvas.rng, canvas.side, canvas.look
    spacing = look.profile.cell * np.exp(look.size / 2) / np.sqrt(look.density) * rng.uniform(0.88, 1.15)
    seeds, owner, border, _ = _cells(canvas, spacing, rng.uniform(0.14, 0.24))
    level = texture.window(rng, 32.0, side, side) + 0.2 * texture.window(rng, 8.0, side, side)
    cut = np.quantile(level, 1 - share) if share < 1 else level.min() - 9
    inside = np.clip((level - cut) * 9, 0, 1)
    tint = rng.normal(0, 1, (2, len(seeds))).astype(np.float32)
    grain = texture.window(rng, 1.0, side, side) + texture.window(rng, 2.0, side, side)
    h0, e0 = look.cytoplasm
    body = 1 - clear * np.clip(border / 5, 0, 1)
    membrane = np.exp(-((border / 1.6) ** 2)) * (rng.uniform(0.2, 0.6) if clear else rng.uniform(-0.45, 0.45))
    mottle = texture.window(rng, 4.0, side, side) + texture.window(rng, 8.0, side, side)
    h = h0 * (1 + 0.25 * tint[0][owner] + 0.15 * mottle) * body + 0.03 * grain
    e = e0 * ((1 + 0.16 * tint[1][owner] + 0.08 * mottle) * body + membrane) + 0.1 * grain
    if sinusoids:
        gaps = np.abs(texture.window(rng, 16.0, side, side) + 0.25 * texture.window(rng, 8.0, side, side))
        width = rng.uniform(0.1, 0.3) + 0.22 * texture.window(rng, 32.0, side, side)
        gaps = np.clip((width - gaps) * 7 + 0.2 * grain, 0, 1) * rng.uniform(0.7, 1.0)
        h, e = h * (1 - gaps), e * (1 - gaps * 0.9)
        canvas.region[gaps > 0.6] = GLASS
        _seat_along(canvas, gaps > 0.5, rng.poisson(9 * (side / 256) ** 2), ("Connective", "Inflammatory"), (0.7, 0.3))
    canvas.paint(inside, np.clip(h, 0, None), np.clip(e, 0, None))
    canvas.region[(inside > 0.5) & (canvas.region == STROMA)] = EPITHELIUM
    for y, x in seeds:
        row, col = (int(np.clip(v, 0, side - 1)) for v in (y, x))
        if inside[row, col] > 0.5 and -12 < y < side + 12 and -12 < x < side + 12 and rng.random() < 0.93:
            shift = rng.normal(0, 0.1 * spacing, 2)
            canvas.seat(_tumour(canvas), y + shift[0], x + shift[1])


def _seat_along(canvas: Canvas, where: np.ndarray, number: int, names: tuple, shares: tuple, along=None) -> None:
    places = np.flatnonzero(where)
    for _ in range(number if places.size else 0):
        y, x = divmod(int(canvas.rng.choice(places)), canvas.side)
        name = names[int(canvas.rng.random() > shares[0])]
        canvas.seat(name, y, x, None if along is None else float(along[y, x]))


def _foam(canvas: Canvas, spacing: float, wall: float, nuclei: float) -> None:
    """Empty bubbles between walls: alveoli of the lung, fat cells."""
    rng, side = canvas.rng, canvas.side
    _, _, border, along = _cells(canvas, spacing, 0.2)
    border = border + 0.12 * spacing * texture.window(rng, 32.0, side, side) * (wall > 3)
    island = texture.window(rng, 32.0, side, side) + 0.2 * texture.window(rng, 16.0, side, side)
    empty = np.clip((border - wall) / 1.5, 0, 1) * np.clip((1.3 - island) * 6, 0, 1)
    soft = 0.1 * (texture.window(rng, 2.0, side, side) + texture.window(rng, 4.0, side, side))
    canvas.paint(np.clip(1.5 - island, 0, 0.85), 0.15 + 0.2 * soft, 0.95 + soft)
    canvas.paint(empty, 0.0, 0.02)
    canvas.region[empty > 0.5] = GLASS
    walls = (border > 0.3 * wall) & (border < wall) & (island < 1.3)
    number = rng.poisson(nuclei * np.count_nonzero(border < wall) * canvas.look.density)
    lining = "Neoplastic" if canvas.look.malignant else "Epithelial"
    names, shares = ((lining, "Connective"), (0.6, 0.4)) if wall > 3 else (("Connective", "Connective"), (1, 0))
    _seat_along(canvas, walls, number, names, shares, along)
    if wall > 3:
        _seat_along(canvas, empty > 0.9, rng.poisson(2), ("Inflammatory", "Inflammatory"), (1, 0))


def _glands(canvas: Canvas, radius, wall, goblet: float, layers: int, packed: bool = False) -> None:
    """Closed epithelium about lumina: crypts, ducts, tubules and, with several layers, glandular tumours."""
    rng, side = canvas.rng, canvas.side
    centres: list[tuple[float, float, float]] = []
    wall_px, goblets = rng.uniform(*wall), goblet * rng.uniform(0, 2)
    for _ in range(60 if packed else 16):
        size = rng.uniform(*radius)
        y, x = rng.uniform(-0.4 * size, side + 0.4 * size, 2)
        fill = 0.93 if packed else 1.02
        if all(np.hypot(y - v, x - u) > fill * (size + s) for v, u, s in centres):
            centres.append((y, x, size))
            _gland(canvas, y, x, size, min(wall_px, 0.85 * size), goblets, layers)
        if len(centres) >= (30 if packed else 5):
            break


def _gland(canvas: Canvas, cy: float, cx: float, size: float, wall: float, goblets: float, layers: int) -> None:
    rng, side = canvas.rng, canvas.side
    orders = np.arange(1, 6)
    angles = np.arange(360) * np.pi / 180
    phases, weights = rng.uniform(0, 2 * np.pi, 5), rng.normal(0, 0.09, 5) / np.sqrt(orders)
    table = 1 + (weights[:, None] * np.cos(orders[:, None] * angles + phases[:, None])).sum(0)
    reach = int(size * 1.35) + 4
    top, left = max(0, int(cy) - reach), max(0, int(cx) - reach)
    bottom, right = min(side, int(cy) + reach), min(side, int(cx) + reach)
    if bottom - top < 8 or right - left < 8:
        return
    here = (slice(top, bottom), slice(left, right))
    dy = (np.arange(top, bottom, dtype=np.float32) - np.float32(cy))[:, None]
    dx = (np.arange(left, right, dtype=np.float32) - np.float32(cx))[None, :]
    turn = (np.arctan2(dy, dx) * (180 / np.pi)).astype(np.int32) % 360
    depth = (table * size).astype(np.float32)[turn] - np.sqrt(dy * dy + dx * dx)
    height, width = depth.shape
    depth = depth + 1.5 * texture.window(rng, 8.0, height, width)
    inner = depth - wall * (1 + 0.12 * texture.window(rng, 16.0, height, width))
    h0, e0 = canvas.look.cytoplasm
    grain = texture.window(rng, 2.0, height, width) + texture.window(rng, 1.0, height, width)
    apical = np.clip(depth / wall, 0, 1)
    lateral = 0.14 * np.cos(turn * (np.pi / 180) * max(6, round(size / 2.2)) + texture.window(rng, 16.0, height, width))
    inside = np.clip(depth / 1.5, 0, 1)
    h, e = canvas.h[here], canvas.e[here]
    mottle = 0.12 * texture.window(rng, 4.0, height, width)
    h += inside * (h0 * (1.5 - 0.7 * apical + mottle) + 0.03 * grain - h)
    e += inside * (e0 * (0.75 + 0.3 * apical + lateral + mottle) + 0.09 * grain - e)
    e += 0.5 * np.exp(-(((depth + 1.0) / 1.6) ** 2))
    lumen = np.clip(inner / 1.5, 0, 1)
    secretion = rng.choice([0.0, 0.0, 0.25]) * np.clip(0.5 + texture.window(rng, 8.0, height, width), 0, 1.5)
    e += lumen * (0.03 + 1.2 * secretion - e)
    h += lumen * (0.1 * secretion - h)
    e += 0.25 * e0 * np.exp(-((inner / 1.5) ** 2))
    np.clip(h, 0, None, out=h)
    np.clip(e, 0, None, out=e)
    region = canvas.region[here]
    region[depth > 0] = EPITHELIUM
    region[inner > 2] = GLASS
    ratio_of_cell = 15.0 if layers > 1 else 17.0
    cells = int(2 * np.pi * size / (ratio_of_cell * np.exp(canvas.look.size / 2) / canvas.look.density))
    for layer in range(layers):
        level = wall * (0.32 if layers == 1 else (layer + 0.6) / (layers + 0.4))
        share = max(0.0, 1 - level / size)
        for k in range(max(3, int(cells * share))):
            a = 2 * np.pi * (k + rng.normal(0, 0.16)) / max(3, int(cells * share)) + layer
            r = table[int(np.degrees(a)) % 360] * size - level + rng.normal(0, 0.09 * wall)
            y, x = cy + r * np.sin(a), cx + r * np.cos(a)
            if not (-14 < y < side + 14 and -14 < x < side + 14):
                continue
            if rng.random() < goblets and layers == 1:
                _vacuole(canvas, cy + (r - 0.3 * wall) * np.sin(a), cx + (r - 0.3 * wall) * np.cos(a), 0.28 * wall)
            columnar = wall > 32
            canvas.seat(_tumour(canvas), y, x, a + rng.normal(0, 0.2) if columnar else a + rng.normal(np.pi / 2, 0.7))


def _vacuole(canvas: Canvas, y: float, x: float, radius: float) -> None:
    """A drop of mucin: nearly clear, bluish, with a faint rim."""
    rng, side = canvas.rng, canvas.side
    radius = radius * rng.uniform(0.75, 1.25)
    reach = int(radius) + 4
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    bottom, right = min(side, int(y) + reach), min(side, int(x) + reach)
    if bottom <= top or right <= left:
        return
    here = (slice(top, bottom), slice(left, right))
    dy = (np.arange(top, bottom) - y)[:, None]
    dx = (np.arange(left, right) - x)[None, :]
    depth = (radius - np.sqrt(dy * dy + dx * dx)).astype(np.float32)
    clear = np.clip(depth / 1.5, 0, 1) * rng.uniform(0.65, 0.95)
    canvas.h[here] += clear * (0.06 - canvas.h[here])
    canvas.e[here] += clear * (0.1 - canvas.e[here])
